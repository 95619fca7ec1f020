"""Table files: the same columns through every format, and one clear sentence for a bad file."""

from __future__ import annotations

import builtins
import gzip
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from jaxmap.reading.tablefiles import open_columns

NAMES = ("ra", "dec", "e1", "e2", "weight", "z")


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    n = 300
    return {
        "ra": rng.uniform(359, 361, n) % 360,
        "dec": rng.uniform(-1, 1, n),
        "e1": rng.uniform(-0.5, 0.5, n),
        "e2": rng.uniform(-0.5, 0.5, n),
        "weight": rng.uniform(0, 2, n),
        "z": rng.uniform(0, 3, n),
    }


def load(source: Any, names: Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
    """Columns of a file by lower-case names; all columns by default."""
    table = open_columns(source, lambda found: {"ra", "dec"} <= set(found), **options)
    known = {name.lower(): name for name in table.names}
    values = table.load([known[name] for name in names or known])
    return {name: values[known[name]] for name in names or known}


def assert_same(loaded: dict[str, Any], columns: dict[str, np.ndarray]) -> None:
    assert set(loaded) == set(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(np.asarray(loaded[name]), values, err_msg=name)


def save_h5(path: Path, columns: dict[str, np.ndarray], group: str = "") -> None:
    with h5py.File(path, "a") as file:
        for name, values in columns.items():
            file[f"{group}/{name}"] = values


def save_text(header: str, **options: Any) -> Callable[[Path, dict[str, np.ndarray]], None]:
    def save(path: Path, columns: dict[str, np.ndarray]) -> None:
        rows = np.column_stack(list(columns.values()))
        np.savetxt(path, rows, fmt="%.17g", header=header, **options)

    return save


def save_fits(path: Path, columns: dict[str, np.ndarray]) -> None:
    Table(columns).write(path)


def save_xz(path: Path, columns: dict[str, np.ndarray]) -> None:
    save_fits(path.with_name("plain.fits"), columns)
    path.write_bytes(lzma.compress(path.with_name("plain.fits").read_bytes()))


SEXTRACTOR = "\n".join(f" {i + 1:3d} {n.upper()}   what it is" for i, n in enumerate(NAMES))
SAVERS: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
    "cat.fits": save_fits,
    "cat.fit": lambda path, c: Table(c).write(path, format="fits"),
    "cat.fits.gz": save_fits,
    "cat.fits.xz": save_xz,
    "upper.FITS": lambda path, c: Table(c).write(path, format="fits"),
    "cat.csv": lambda path, c: Table(c).write(path),
    "pandas.csv": lambda path, c: pd.DataFrame(c).to_csv(path, index=False),
    "excel.csv": lambda path, c: pd.DataFrame(c).to_csv(path, index=False, encoding="utf-8-sig"),
    "hash.csv": save_text(",".join(NAMES), delimiter=","),
    "cat.ecsv": lambda path, c: Table(c).write(path),
    "ecsv.txt": lambda path, c: Table(c).write(path, format="ascii.ecsv"),
    "plain.txt": save_text(" ".join(NAMES), comments=""),
    "comment.dat": save_text("made by a pipeline in 2010\n\n" + " ".join(NAMES)),
    "both.txt": lambda path, c: save_text("# Überschrift\n" + "\t".join(NAMES), comments="")(
        path, c
    ),
    "sextractor.asc": save_text(SEXTRACTOR),
    "root.h5": save_h5,
    "group.hdf5": lambda path, c: save_h5(path, c, "deep/inside"),
    "table.h5": lambda path, c: Table(c).write(path, path="catalog", serialize_meta=True),
    "compound.h5": lambda path, c: Table(c).write(path, path="catalog"),
    "cat.parquet": lambda path, c: pd.DataFrame(c).to_parquet(path),
    "astropy.parquet": lambda path, c: Table(c).write(path),
}


@pytest.mark.filterwarnings("ignore:table contains column:UserWarning")
@pytest.mark.parametrize("name", SAVERS)
def test_every_format_gives_the_same(
    name: str, columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    SAVERS[name](tmp_path / name, columns)
    assert_same(load(tmp_path / name), columns)
    assert_same(load(str(tmp_path / name)), columns)


def test_integer_null_of_fits_is_masked(tmp_path: Path) -> None:
    column = fits.Column("weight", "I", null=-99, array=np.array([1, -99, 3], np.int16))
    fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "a.fits")
    assert load(tmp_path / "a.fits")["weight"].mask.tolist() == [False, True, False]


def test_units_of_plain_hdf5(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_h5(tmp_path / "a.h5", columns, "shear")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["shear/ra"].attrs["unit"] = "rad"
        file["shear/dec"].attrs["units"] = b"rad"
    loaded = load(tmp_path / "a.h5")
    assert [loaded[n].unit for n in ("ra", "dec", "z")] == ["rad", "rad", None]


CUT = [
    "cat.fits",
    "cat.fits.gz",
    "cat.fits.xz",
    "root.h5",
    "table.h5",
    "cat.parquet",
    "cat.ecsv",
    "plain.txt",
]


@pytest.mark.filterwarnings("ignore:table contains column:UserWarning")
@pytest.mark.parametrize("name", [*CUT, "cat.csv"])
def test_files_cut_short(name: str, columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Never part of the rows, never another error than ValueError with the file's name."""
    SAVERS[name](tmp_path / name, columns)
    content = (tmp_path / name).read_bytes()
    text = name.endswith(("csv", "txt"))
    # Text that ends with a whole row cannot be known to be short; cut inside a row instead.
    ends = [content.rindex(b"\n", 0, len(content) - 300) + 40] if text else []
    if not text:
        ends = [10, 1000, 2880, 3000, 5760, 8000, 8640, len(content) // 2, len(content) - 20]
        ends = [end for end in ends if end < len(content)]
    for end in ends:
        (tmp_path / name).write_bytes(content[:end])
        with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
            load(tmp_path / name)
        assert len(str(caught.value)) < 500


def test_text_that_ends_within_a_number(
    columns: dict[str, np.ndarray], tmp_path: Path, caplog: Any
) -> None:
    """Nothing in the file tells that digits are missing; a warning is all one can give."""
    SAVERS["cat.csv"](tmp_path / "a.csv", columns)
    content = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content[:-4])
    load(tmp_path / "a.csv")
    assert "is the file complete?" in caplog.text


def test_damaged_inside(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = gzip.compress(b"SIMPLE  = but no more than this")
    (tmp_path / "a.fits.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.fits\.gz"):
        load(tmp_path / "a.fits.gz")
    SAVERS["cat.parquet"](tmp_path / "a.parquet", columns)
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    damaged[20:4000] = bytes(3980)
    (tmp_path / "a.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"cannot read .*a\.parquet.*fetch or write it again"):
        load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.fits", b"", "is empty"),
        ("a.h5", b"", "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.fits", b"ra,dec\n1,2\n", "named as FITS, but its content is text"),
        ("a.csv", b"SIMPLE  =   T", "named as text, but its content is FITS"),
        ("a.h5", b"PAR1....", "named as HDF5, but its content is Parquet"),
        ("a.ecsv", b"ra dec\n1 2\n", "named as ECSV, but its content is text"),
        ("a.txt", b"\x00\x01\x02", "named as text, but its content is unknown binary data"),
        ("a.xyz", b"ra dec\n1 2\n", r"unknown kind of file; expected a name in \.fits"),
        ("a.txt", b"1 2 3 4\n5 6 7 8\n", "no line with column names before the numbers"),
        ("a.txt", b"# just a remark\n1 2 3 4\n5 6 7 8\n", "no line with column names"),
        ("a.txt", b"ra dec e1 e2\n1 2 3\n5 6 7 8\n", r"cannot read .*a\.txt"),
        ("a.csv", b"# ra,dec,e1,e2\n", "holds no rows"),
        ("a.csv", b"\n\n", "holds no rows"),
    ],
)
def test_bad_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check the name"):
        load(tmp_path / "none.fits")
    with pytest.raises(ValueError, match="is a folder"):
        load(tmp_path)


def test_several_fits_tables(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    hdus = [fits.table_to_hdu(Table(c)) for c in ({"x": [1]}, columns, columns)]
    hdus[1].name, hdus[2].name = "FIRST", "SECOND"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    with pytest.raises(ValueError, match=r"several tables.*1, 2 FIRST, 3 SECOND; choose"):
        load(path)
    for hdu in (2, "FIRST", "second"):
        assert_same(load(path, hdu=hdu), columns)
    with pytest.raises(ValueError, match="no table with hdu=7"):
        load(path, hdu=7)
    assert set(load(path, hdu=1)) == {"x"}
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 3)))]).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match="found no table"):
        load(tmp_path / "image.fits")


def test_several_hdf5_groups(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_h5(path, columns, "shear/bin_0")
    save_h5(path, {"n": np.ones(3)}, "other")
    assert_same(load(path), columns)
    save_h5(path, columns, "shear/bin_1")
    assert_same(load(path, preferred_groups=["shear/bin_1"]), columns)
    with pytest.raises(ValueError, match=r"several groups.*shear/bin_0, shear/bin_1; give group"):
        load(path)
    for group in ("shear/bin_1", "/shear/bin_1/"):
        assert_same(load(path, group=group), columns)
    with pytest.raises(ValueError, match=r"no group 'bin'; the choice is shear/bin_0"):
        load(path, group="bin")


def test_only_needed_columns_are_loaded(
    columns: dict[str, np.ndarray], tmp_path: Path, monkeypatch: Any
) -> None:
    """An extra column that cannot be read does no harm, because nobody reads it."""
    import pyarrow.parquet

    asked = []
    read_table = pyarrow.parquet.read_table
    monkeypatch.setattr(
        pyarrow.parquet,
        "read_table",
        lambda *a, **k: asked.append(k["columns"]) or read_table(*a, **k),
    )
    pd.DataFrame(columns | {"extra": columns["z"]}).to_parquet(tmp_path / "a.parquet")
    assert_same(load(tmp_path / "a.parquet", NAMES), columns)
    assert asked == [list(NAMES)]

    save_h5(tmp_path / "a.h5", columns | {"extra": columns["z"]})
    getitem = h5py.Dataset.__getitem__
    read: list[str] = []
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda d, *a: read.append(d.name) or getitem(d, *a)
    )
    assert_same(load(tmp_path / "a.h5", NAMES), columns)
    assert "/extra" not in read and "/ra" in read


def test_parquet_without_pyarrow(
    columns: dict[str, np.ndarray], tmp_path: Path, monkeypatch: Any
) -> None:
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    plain = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return plain(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r'pip install "jaxmap\[io\]"'):
        load(tmp_path / "a.parquet")
