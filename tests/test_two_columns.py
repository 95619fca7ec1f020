"""Two columns from text, numpy and FITS files: what is taken, and what is refused."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from jaxmap.two_columns import read_two_columns

Z = np.array([0.1, 0.5, 1.0, 1.5, 2.0])
VALUES = np.array([0.0, 2.0, 3.0, 1.5, 0.5])


def read(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    names = {"z", "zmid", "redshift"}, {"nz", "pz", "dndz", "density"}
    return read_two_columns(path, *names, "z and n(z)")


def assert_expected(columns: tuple[np.ndarray, np.ndarray]) -> None:
    for column, expected in zip(columns, (Z, VALUES), strict=True):
        assert column.dtype == np.float64
        assert column.dtype.isnative
        np.testing.assert_allclose(column, expected, rtol=1e-6)


TEXTS = {
    "bare.txt": ("", " ", ["z", "nz"]),
    "names.txt": ("z n(z)\n", " ", ["z", "nz"]),
    "savetxt.dat": ("# some source\n# z_mid dn/dz\n", "\t", ["z", "nz"]),
    "table.csv": ('"redshift","density"\n', ",", ["z", "nz"]),
    "swapped.csv": ("PZ, Redshift\n", ", ", ["nz", "z"]),
    "third.csv": ("bin,z,pz\n", ",", ["other", "z", "nz"]),
    "unknown.txt": ("a b\n", "  ", ["z", "nz"]),
    "unnamed.txt": ("", "  ", ["z", "nz", "other"]),
    "table.ecsv": ("# %ECSV 1.0\n# ---\n# schema: astropy-2.0\nz nz\n", " ", ["z", "nz"]),
    "semicolon.csv": ("z;nz\n", ";", ["z", "nz"]),
    "bom.csv": ("\ufeffz,nz\n", ",", ["z", "nz"]),
    "bom.txt": ("\ufeff", " ", ["z", "nz"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_files(name: str, tmp_path: Path) -> None:
    header, delimiter, order = TEXTS[name]
    columns = {"z": Z, "nz": VALUES, "other": np.arange(5.0)}
    rows = [delimiter.join(f"{columns[key][row]:.6g}" for key in order) for row in range(5)]
    (tmp_path / name).write_text(header + "\n".join(rows) + "\n\n", encoding="utf-8")
    assert_expected(read(tmp_path / name))


def test_unknown_names_are_told_and_no_more_than_two_are_taken(tmp_path: Path, caplog) -> None:
    (tmp_path / "n.txt").write_text("a b\n1 2\n")
    read(tmp_path / "n.txt")
    assert "columns 'a' and 'b' are taken for z and n(z)" in caplog.text
    (tmp_path / "n.txt").write_text("a b c\n1 2 3\n")
    with pytest.raises(ValueError, match="none has a known name; leave two columns, or call them"):
        read(tmp_path / "n.txt")


def test_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.stack([Z, VALUES]))
    np.save(tmp_path / "columns.npy", np.stack([Z, VALUES], axis=1))
    np.savez(tmp_path / "table.npz", pz=VALUES, other=1, z=Z)
    for name in ("rows.npy", "columns.npy", "table.npz"):
        assert_expected(read(str(tmp_path / name)))


def test_fits_files(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    columns = [
        fits.Column("Z_LOW", "D", array=Z - 0.1),
        fits.Column("N_Z", "E", array=VALUES),
        fits.Column("Z_MID", "D", array=Z),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2))), table]).writeto(
        tmp_path / "nz.fits"
    )
    packed = gzip.compress((tmp_path / "nz.fits").read_bytes())
    (tmp_path / "nz.fits.gz").write_bytes(packed)
    assert_expected(read(tmp_path / "nz.fits"))
    assert_expected(read(tmp_path / "nz.fits.gz"))
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match="holds no table"):
        read(tmp_path / "image.fits")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="is a folder; expected one file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "holds no rows"),
        ("comments.txt", b"# z nz\n", "holds no rows"),
        ("one.txt", b"0.1\n0.2\n", "expected two"),
        ("cut.csv", b"z,nz\n0.1,1\n0.2,", "line 3 .*cut short"),
        ("cut.txt", b"0.1 1\n0.2", "line 2 .*cut short"),
        ("words.txt", b"0.1 1\n0.2 many\n", "line 2 is '0.2 many'"),
        ("one_known.csv", b"z_min,z_max,nz\n0,1,2\n", "only 'nz' has a known name"),
        (
            "one_known.txt",
            b"z low high\n0 1 2\n",
            "only 'z' has a known name.* redshift and density",
        ),
        ("twice.csv", b"z,nz,z\n0,1,2\n", "more than one column is called 'z'"),
        ("binary.dat", b"\x80\xff\x00\x01", "cannot read"),
        ("text.npy", b"0.1 1\n", "cannot read"),
        ("empty.npy", b"", "cannot read"),
        ("empty.npz", b"", "cannot read"),
        ("text.fits", b"0.1 1\n", "cannot read"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)


def test_truncated_binary_files(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    z = np.linspace(0.01, 3, 600)
    np.save(tmp_path / "table.npy", np.stack([z, z]))
    np.savez_compressed(tmp_path / "table.npz", z=z, nz=z)
    columns = [fits.Column("z", "D", array=z), fits.Column("nz", "D", array=z)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "table.fits")
    for name in ("table.npy", "table.npz", "table.fits"):
        path = tmp_path / name
        assert read(path)[0].shape == (600,)
        whole = path.read_bytes()
        for part in (0.1, 0.5, 0.7):
            path.write_bytes(whole[: int(part * len(whole))])
            with pytest.raises(ValueError, match="cannot read"):
                read(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([[0.1, "x"], [0.2, None]], object))
    with pytest.raises(ValueError, match=r"pickled\.npy"):
        read(tmp_path / "pickled.npy")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": Z, "nz": VALUES[:3]}, "equally long"),
        ({"z": Z[None], "nz": VALUES[None]}, "equally long"),
        ({"z": Z, "nz": 1j * VALUES}, "complex"),
        ({"z": Z}, "expected two"),
    ],
)
def test_other_than_two_real_vectors(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "table.npz", **arrays)
    with pytest.raises(ValueError, match=f"table.npz.*{message}"):
        read(tmp_path / "table.npz")
    np.save(tmp_path / "cube.npy", np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"cube.npy.*\(3, 4\)"):
        read(tmp_path / "cube.npy")


def test_values_are_not_checked(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("z nz\n3 -1\n2 nan\n")
    first, second = read(tmp_path / "table.txt")
    np.testing.assert_array_equal(first, [3, 2])
    np.testing.assert_array_equal(second, [-1, np.nan])
    (tmp_path / "names.txt").write_text("z nz\n")
    assert [column.shape for column in read(tmp_path / "names.txt")] == [(0,), (0,)]
