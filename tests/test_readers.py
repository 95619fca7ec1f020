"""Readers: the same catalogue through every format, and one clear sentence for every bad file."""

from __future__ import annotations

import builtins
import gzip
import logging
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmap.catalog import ShearCatalog
from jaxmap.readers import open_columns, read_shear, to_numbers
from jaxmap.surveys import GENERIC

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


def assert_same(catalog: ShearCatalog, columns: dict[str, np.ndarray]) -> None:
    parts = (catalog.ra_deg, catalog.dec_deg, catalog.ellipticity.real, catalog.ellipticity.imag)
    for name, values in zip(NAMES, (*parts, catalog.weight, catalog.z), strict=True):
        assert values.dtype.isnative and values.dtype == np.float64
        np.testing.assert_array_equal(values, columns[name], err_msg=name)


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
    assert_same(read_shear(tmp_path / name), columns)
    assert_same(read_shear(str(tmp_path / name), survey=GENERIC), columns)


MEMORY: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "dict": dict,
    "lists": lambda c: {name: values.tolist() for name, values in c.items()},
    "Table": Table,
    "QTable": lambda c: QTable(c, units={"ra": u.deg}),
    "DataFrame": pd.DataFrame,
    "nullable": lambda c: pd.DataFrame(c).convert_dtypes(),
    "arrow": lambda c: pd.DataFrame(c).convert_dtypes(dtype_backend="pyarrow"),
    "structured": lambda c: np.array(Table(c)),
    "big-endian": lambda c: {name: values.astype(">f8") for name, values in c.items()},
    "shuffled columns": lambda c: dict(reversed(c.items())),
    "filtered frame": lambda c: pd.concat([pd.DataFrame(c)] * 2).iloc[: len(c["ra"])],
}


@pytest.mark.parametrize("kind", MEMORY)
def test_tables_in_memory(kind: str, columns: dict[str, np.ndarray]) -> None:
    assert_same(read_shear(MEMORY[kind](columns)), columns)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", ">i2", "<i8", "f2"])
def test_byte_order_and_types(dtype: str) -> None:
    values = np.arange(5).astype(dtype)
    numbers = to_numbers(values, "x", "weight", "here")
    assert numbers.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(numbers, np.arange(5.0))


def test_rows_are_kept_as_they_are(columns: dict[str, np.ndarray]) -> None:
    order = np.random.default_rng(0).integers(0, 300, 500)  # unsorted and repeated
    rows = {name: values[order] for name, values in columns.items()}
    assert_same(read_shear(rows), rows)


def test_source_is_not_changed(columns: dict[str, np.ndarray]) -> None:
    before = {name: values.copy() for name, values in columns.items()}
    read_shear(columns, flip_e1=True, flip_e2=True, c1=0.1, m=0.1)
    for name in NAMES:
        np.testing.assert_array_equal(columns[name], before[name])


@pytest.mark.parametrize(
    "unit", [u.deg, u.rad, u.hourangle, u.arcsec, u.dimensionless_unscaled, None]
)
@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
@pytest.mark.parametrize(
    "form", ["memory", "units.fits", "units.ecsv", "units.h5", "units.parquet"]
)
def test_units_of_positions(
    unit: Any, form: str, columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    table = Table(columns)
    if unit not in (None, u.dimensionless_unscaled):
        for name in ("ra", "dec"):
            table[name] = (columns[name] * u.deg).to(unit)
    elif unit is not None:
        table["ra"].unit = unit
    if form == "units.fits" and unit in (u.hourangle,):
        pytest.skip("FITS knows no hourangle")
    source: Any = table if form == "memory" else tmp_path / form
    if form == "units.h5":
        table.write(source, path="t", serialize_meta=True)
    elif form != "memory":
        table.write(source)
    read = read_shear(source)
    np.testing.assert_allclose(read.ra_deg, columns["ra"], rtol=1e-12)
    np.testing.assert_allclose(read.dec_deg, columns["dec"], rtol=1e-12, atol=1e-14)


def test_units_of_plain_hdf5(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    radians = columns | {name: np.radians(columns[name]) for name in ("ra", "dec")}
    save_h5(tmp_path / "a.h5", radians, "shear")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["shear/ra"].attrs["unit"] = "rad"
        file["shear/dec"].attrs["units"] = b"rad"
    read = read_shear(tmp_path / "a.h5")
    np.testing.assert_allclose(read.ra_deg, columns["ra"], rtol=1e-12)
    np.testing.assert_allclose(read.dec_deg, columns["dec"], rtol=1e-12)


@pytest.mark.parametrize("unit", ["km", "radians", "h"])
def test_wrong_unit(unit: str, columns: dict[str, np.ndarray]) -> None:
    table = Table(columns)
    table["ra"] = MaskedColumn(columns["ra"], unit=u.Unit(unit, parse_strict="silent"))
    with pytest.raises(ValueError, match=rf"'ra' has the unit '{unit}'; expected an angle"):
        read_shear(table)


def with_holes(columns: dict[str, np.ndarray], form: str, path: Path) -> Any:
    """Row 3 has no e2 and row 7 no weight, in each source's own way of saying so."""
    holes = {"e2": 3, "weight": 7}
    table = Table(columns, masked=True)
    frame = pd.DataFrame(columns)
    spoilt = {name: values.copy() for name, values in columns.items()}
    for name, row in holes.items():
        table[name].mask[row] = True
        frame.loc[row, name] = None
        spoilt[name][row] = np.nan
    if form == "nan":
        return spoilt
    if form == "table":
        return table
    if form == "nullable":
        return frame.convert_dtypes()
    if form == "numpy":
        return {name: table[name].data for name in columns}
    if form == "csv-pandas":
        frame.to_csv(path / "a.csv", index=False)
        return path / "a.csv"
    if form == "parquet-pandas":
        frame.convert_dtypes().to_parquet(path / "a.parquet")
        return path / "a.parquet"
    if form == "h5":
        table.write(path / "a.h5", path="t", serialize_meta=True)
        return path / "a.h5"
    table.write(path / f"a.{form}")
    return path / f"a.{form}"


FORMS = ["nan", "table", "nullable", "numpy", "csv-pandas", "parquet-pandas"]


@pytest.mark.parametrize("form", [*FORMS, "fits", "ecsv", "csv", "h5", "parquet"])
def test_masked_and_missing_values(
    form: str, columns: dict[str, np.ndarray], tmp_path: Path, caplog: Any
) -> None:
    source = with_holes(columns, form, tmp_path)
    with pytest.raises(ValueError, match=r"'e2' holds 1 values.*row 3"):
        read_shear(source)
    with caplog.at_level(logging.INFO, "jaxmap"):
        read = read_shear(source, drop_invalid=True)
    assert "dropped 2 of 300 rows" in caplog.text
    assert_same(read, {name: np.delete(values, [3, 7]) for name, values in columns.items()})


def test_integer_null_of_fits(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    weight = np.ones(300, np.int16)
    weight[5] = -99
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(n, "D", array=columns[n]) for n in ("ra", "dec", "e1", "e2")]
        + [fits.Column("weight", "I", null=-99, array=weight)]
    )
    hdu.writeto(tmp_path / "a.fits")
    assert len(read_shear(tmp_path / "a.fits", drop_invalid=True)) == 299


def test_invalid_calibration_rows(columns: dict[str, np.ndarray]) -> None:
    m = np.full(300, 0.1)
    m[11] = np.nan
    table = columns | {"bias": m}
    with pytest.raises(ValueError, match=r"'bias' \(m\) holds 1 values.*row 11"):
        read_shear(table, columns={"m": "bias"})
    read = read_shear(table, columns={"m": "bias"}, drop_invalid=True)
    np.testing.assert_allclose(read.ellipticity.real, np.delete(columns["e1"], 11) / 1.1)
    assert len(read_shear(columns, m=m, drop_invalid=True)) == 299


def test_columns_by_name(columns: dict[str, np.ndarray], caplog: Any) -> None:
    table = dict(zip(("A", "B", "x", "y", "w", "z"), columns.values(), strict=True))
    roles = {"ra": "A", "dec": "b", "e1": "x", "e2": "y"}
    assert_same(read_shear(table, columns=roles), columns)
    read = read_shear(table, columns={**roles, "z": None, "weight": None})
    assert read.z is None and (read.weight == 1).all()
    assert not caplog.records
    read_shear(table | {"m": columns["z"]}, columns=roles)
    assert "columns m look like a calibration" in caplog.text


RA_ALIASES = ["ra", "RA", "RAJ2000", "ALPHA_J2000", "right_ascension"]
DEC_ALIASES = ["dec", "DEC", "DECJ2000", "DELTA_J2000", "declination"]
E_ALIASES = ["e1 e2", "e_1 e_2", "g1 g2", "G_1 G_2", "gamma1 gamma2", "Shear1 Shear2"]


@settings(max_examples=40, deadline=None)
@given(
    ra=st.sampled_from(RA_ALIASES),
    dec=st.sampled_from(DEC_ALIASES),
    pair=st.sampled_from(E_ALIASES),
    weight=st.sampled_from(["w", "weight", "WEIGHTS"]),
    z=st.sampled_from(["z", "Z_B", "zphot", "Redshift"]),
    data=st.data(),
)
def test_usual_names_are_recognised(
    ra: str, dec: str, pair: str, weight: str, z: str, data: Any
) -> None:
    names = [ra, dec, *pair.split(), weight, z]
    values = dict(zip(names, np.random.default_rng(1).uniform(0, 0.5, (6, 9)), strict=True))
    expected = dict(zip(NAMES, values.values(), strict=True))
    order = data.draw(st.permutations(names))
    assert_same(read_shear({name: values[name] for name in order}), expected)


def without(columns: dict[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    return {name: values for name, values in columns.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda c: without(c, "e2"), {}, r"no column for 'e2'.*ra, dec, e1, weight.*columns="),
        (lambda c: c, {"columns": {"e2": "nope"}}, r"no column for 'e2' \(looked for nope"),
        (lambda c: c, {"columns": {"z": "nope"}}, r"no column for 'z' \(looked for nope"),
        (lambda c: c, {"columns": {"e2": None}}, r"no column for 'e2'"),
        (lambda c: c, {"columns": {"shape": "e1"}}, r"roles \['shape'\]; expected some of"),
        (lambda c: c | {"g1": c["e1"]}, {}, r"columns e1, g1 could all be 'e1'; name"),
        (lambda c: c | {"RA": c["ra"]}, {"columns": {"ra": "Ra"}}, r"ra, RA could all be 'ra'"),
        (lambda c: c | {"w": c["e1"]}, {}, r"weight, w could all be 'weight'"),
        (lambda c: without(c, "e2") | {"g2": c["e2"]}, {}, r"'e1' and 'g2' are not a pair"),
        (lambda c: c | {"e1": np.full(300, "a")}, {}, r"'e1' \(e1\) is not numeric.*'a'"),
        (lambda c: c | {"e1": c["e1"].astype(str)}, {}, r"'e1' \(e1\) is not numeric"),
        (lambda c: c | {"e1": c["e1"] + 0j}, {}, r"'e1' \(e1\) is not numeric"),
        (lambda c: pd.DataFrame(c).astype({"ra": str}), {}, r"'ra' \(ra\) is not numeric"),
        (lambda c: pd.DataFrame(c).astype({"ra": "category"}), {}, r"'ra' \(ra\) is not numeric"),
        (lambda c: c | {"e1": np.zeros((300, 2))}, {}, r"'e1' has shape \(300, 2\)"),
        (lambda c: c | {"e1": np.zeros(299)}, {}, r"'e1' has shape \(299,\); expected \(300,\)"),
        (lambda c: {n: v[:0] for n, v in c.items()}, {}, r"0 galaxies"),
        (lambda c: {n: v[:1] for n, v in c.items()}, {}, r"1 galaxies"),
        (lambda c: c | {"e2": c["e1"] * 100}, {}, r"\|e\| exceeds 1"),
        (lambda c: c | {"ra": np.where(c["ra"] < 0.5, np.inf, 1)}, {}, r"'ra' holds"),
        (lambda c: [1, 2], {}, r"cannot read columns from a list"),
    ],
)
def test_bad_tables(
    change: Any, options: dict[str, Any], message: str, columns: dict[str, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=message):
        read_shear(change(columns), **options)


def test_strings_in_a_csv_are_named(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    frame = pd.DataFrame(columns).astype({"e1": object})
    frame.loc[4, "e1"] = "bad"
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"a\.csv: column 'e1' \(e1\) is not numeric"):
        read_shear(tmp_path / "a.csv")


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
            read_shear(tmp_path / name)
        assert len(str(caught.value)) < 500


def test_damaged_inside(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = gzip.compress(b"SIMPLE  = but no more than this")
    (tmp_path / "a.fits.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.fits\.gz"):
        read_shear(tmp_path / "a.fits.gz")
    SAVERS["cat.parquet"](tmp_path / "a.parquet", columns)
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    damaged[20:4000] = bytes(3980)
    (tmp_path / "a.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"cannot read .*a\.parquet.*fetch or write it again"):
        read_shear(tmp_path / "a.parquet")


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
        ("a.csv", b"ra,dec,e1,e2\n", "0 galaxies"),
        ("a.csv", b"# ra,dec,e1,e2\n", "holds no rows"),
        ("a.csv", b"\n\n", "holds no rows"),
    ],
)
def test_bad_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_shear(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check the name"):
        read_shear(tmp_path / "none.fits")
    with pytest.raises(ValueError, match="is a folder"):
        read_shear(tmp_path)


def test_several_fits_tables(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    hdus = [fits.table_to_hdu(Table(c)) for c in ({"x": [1]}, columns, columns)]
    hdus[1].name, hdus[2].name = "FIRST", "SECOND"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    with pytest.raises(ValueError, match=r"several tables.*1, 2 FIRST, 3 SECOND; choose"):
        read_shear(path)
    for hdu in (2, "FIRST", "second"):
        assert_same(read_shear(path, hdu=hdu), columns)
    with pytest.raises(ValueError, match="no table with hdu=7"):
        read_shear(path, hdu=7)
    with pytest.raises(ValueError, match="no column for 'ra'"):
        read_shear(path, hdu=1)
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 3)))]).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match="found no table"):
        read_shear(tmp_path / "image.fits")


def test_several_hdf5_groups(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_h5(path, columns, "shear/bin_0")
    save_h5(path, {"n": np.ones(3)}, "other")
    assert_same(read_shear(path), columns)
    save_h5(path, columns, "shear/bin_1")
    with pytest.raises(ValueError, match=r"several groups.*shear/bin_0, shear/bin_1; give group"):
        read_shear(path)
    for group in ("shear/bin_1", "/shear/bin_1/"):
        assert_same(read_shear(path, group=group), columns)
    with pytest.raises(ValueError, match=r"no group 'bin'; the choice is shear/bin_0"):
        read_shear(path, group="bin")


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
    assert_same(read_shear(tmp_path / "a.parquet"), columns)
    assert asked == [list(NAMES)]

    save_h5(tmp_path / "a.h5", columns | {"extra": columns["z"]})
    getitem = h5py.Dataset.__getitem__
    read: list[str] = []
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda d, *a: read.append(d.name) or getitem(d, *a)
    )
    assert_same(read_shear(tmp_path / "a.h5"), columns)
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
        open_columns(tmp_path / "a.parquet")


def test_cosmos_catalogue() -> None:
    """Schrabback et al. (2010): all 417117 galaxies; KSB shapes beyond 1 are few and are kept."""
    repository = Path(__file__).resolve().parents[1]
    shared = Path(os.environ.get("JAXMAP_SHARED", repository.parent / "shared"))
    path = shared / "data" / "cosmos" / "s10_shear_catalog.fits"
    if not path.exists():
        pytest.skip(f"no {path}")
    catalog = read_shear(path)
    size = np.abs(catalog.ellipticity)
    assert len(catalog) == 417117
    assert 1.3 < size.max() < 1.5 and 0 < np.mean(size > 1) < 0.01
    assert np.ptp(catalog.ra_deg) < 2 and catalog.z is None
