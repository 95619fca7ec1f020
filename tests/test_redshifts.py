"""n(z): the checks, the quadrature, the reader and the default."""

import gzip
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmap.redshifts import (
    RedshiftDistribution,
    cosmos_redshifts,
    read_redshift_distribution,
    redshift_distribution,
    source_quadrature,
)

Z = np.array([0.1, 0.5, 1.0, 1.5, 2.0])
DENSITY = np.array([0.0, 2.0, 3.0, 1.5, 0.5])
EXPECTED = redshift_distribution(Z, DENSITY)


def assert_expected(read: RedshiftDistribution) -> None:
    np.testing.assert_allclose(read.z, EXPECTED.z, rtol=1e-6)
    np.testing.assert_allclose(read.density, EXPECTED.density, rtol=1e-6)


def test_unit_integral() -> None:
    assert jnp.trapezoid(EXPECTED.density, EXPECTED.z) == pytest.approx(1)
    assert len(jax.tree.leaves(EXPECTED)) == 2


def test_cosmos() -> None:
    cosmos = cosmos_redshifts()
    assert cosmos.z.shape == (100,)
    assert jnp.trapezoid(cosmos.density, cosmos.z) == pytest.approx(1)
    assert jnp.trapezoid(cosmos.density * cosmos.z, cosmos.z) == pytest.approx(1.40, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30), st.integers(0, 100))
def test_quadrature_is_exact_for_the_broken_line(steps: list[float], seed: int) -> None:
    z = np.cumsum([0.0, *steps])
    density = np.random.default_rng(seed).uniform(0.1, 1, z.size)
    redshifts = redshift_distribution(z, density)
    nodes, weights = source_quadrature(redshifts)
    # n(z) z is a parabola between the rows: Simpson's rule is exact
    left, right = np.asarray(redshifts.density[:-1]), np.asarray(redshifts.density[1:])
    middle = (left + right) * (z[:-1] + z[1:])
    mean = np.sum(np.diff(z) / 6 * (left * z[:-1] + middle + right * z[1:]))
    assert jnp.sum(weights) == pytest.approx(1, rel=1e-12)
    assert jnp.sum(weights * nodes) == pytest.approx(mean, rel=1e-12)
    assert nodes.size >= 500


def test_single_plane() -> None:
    plane = redshift_distribution(0.8)
    z, weight = source_quadrature(plane)
    assert (z.tolist(), weight.tolist()) == ([0.8], [1.0])
    assert redshift_distribution([0.8], [17.0]).density.tolist() == [1.0]


@pytest.mark.parametrize(
    ("z", "density", "message"),
    [
        ([], [], "empty"),
        ([0.1, 0.2], [1.0], "equally long"),
        ([[0.1, 0.2]], [[1.0, 1.0]], "equally long"),
        ([0.1, 0.2], [1.0, -1.0], "density -1 in row 1"),
        ([0.1, 0.2], [np.nan, 1.0], "density nan in row 0"),
        ([0.1, np.inf], [1.0, 1.0], "redshift inf in row 1"),
        ([-0.1, 0.2], [1.0, 1.0], "redshift -0.1 in row 0"),
        ([0.1, 0.1], [1.0, 1.0], "falls or repeats in row 1"),
        ([0.1, 0.3, 0.2], [1.0, 1.0, 1.0], "falls or repeats in row 2"),
        ([0.1, 0.2], [0.0, 0.0], "zero everywhere"),
        (0.8, 0.0, "zero everywhere"),
        (0.0, 1.0, "at redshift 0"),
    ],
)
def test_impossible_tables(z: object, density: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        redshift_distribution(z, density)  # type: ignore[arg-type]


TEXTS = {
    "bare.txt": ("", " ", ["z", "nz"]),
    "names.txt": ("z n(z)\n", " ", ["z", "nz"]),
    "savetxt.dat": ("# some source\n# z_mid dn/dz\n", "\t", ["z", "nz"]),
    "table.csv": ('"redshift","density"\n', ",", ["z", "nz"]),
    "swapped.csv": ("PZ, Redshift\n", ", ", ["nz", "z"]),
    "third.csv": ("bin,z,pz\n", ",", ["other", "z", "nz"]),
    "unknown.txt": ("a b c\n", "  ", ["z", "nz", "other"]),
    "table.ecsv": ("# %ECSV 1.0\n# ---\n# schema: astropy-2.0\nz nz\n", " ", ["z", "nz"]),
    "bom.csv": ("\ufeffz,nz\n", ",", ["z", "nz"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_files(name: str, tmp_path: Path) -> None:
    header, delimiter, order = TEXTS[name]
    columns = {"z": Z, "nz": DENSITY, "other": np.arange(5.0)}
    rows = [delimiter.join(f"{columns[key][row]:.6g}" for key in order) for row in range(5)]
    (tmp_path / name).write_text(header + "\n".join(rows) + "\n\n", encoding="utf-8")
    assert_expected(read_redshift_distribution(tmp_path / name))


def test_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.stack([Z, DENSITY]))
    np.save(tmp_path / "columns.npy", np.stack([Z, DENSITY], axis=1))
    np.savez(tmp_path / "table.npz", pz=DENSITY, other=1, z=Z)
    for name in ("rows.npy", "columns.npy", "table.npz"):
        assert_expected(read_redshift_distribution(str(tmp_path / name)))


def test_fits_files(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    columns = [
        fits.Column("Z_LOW", "D", array=Z - 0.1),
        fits.Column("N_Z", "E", array=DENSITY),
        fits.Column("Z_MID", "D", array=Z),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2))), table]).writeto(
        tmp_path / "nz.fits"
    )
    packed = gzip.compress((tmp_path / "nz.fits").read_bytes())
    (tmp_path / "nz.fits.gz").write_bytes(packed)
    assert_expected(read_redshift_distribution(tmp_path / "nz.fits"))
    assert_expected(read_redshift_distribution(tmp_path / "nz.fits.gz"))
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match="holds no table"):
        read_redshift_distribution(tmp_path / "image.fits")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(ValueError, match="does not exist"):
            read_redshift_distribution(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "holds no rows"),
        ("comments.txt", b"# z nz\n", "holds no rows"),
        ("names.txt", b"z nz\n", "empty"),
        ("one.txt", b"0.1\n0.2\n", "expected two"),
        ("cut.csv", b"z,nz\n0.1,1\n0.2,", "line 3 .*cut short"),
        ("cut.txt", b"0.1 1\n0.2", "line 2 .*cut short"),
        ("words.txt", b"0.1 1\n0.2 many\n", "line 2 is '0.2 many'"),
        ("swapped.txt", b"1 0.1\n0.5 0.2\n", "falls or repeats"),
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
        read_redshift_distribution(tmp_path / name)
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
        assert read_redshift_distribution(path).z.shape == (600,)
        whole = path.read_bytes()
        for part in (0.1, 0.5, 0.7):
            path.write_bytes(whole[: int(part * len(whole))])
            with pytest.raises(ValueError, match="cannot read"):
                read_redshift_distribution(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([[0.1, "x"], [0.2, None]], object))
    np.save(tmp_path / "cube.npy", np.ones((3, 4)))
    for name in ("pickled.npy", "cube.npy"):
        with pytest.raises(ValueError, match=name):
            read_redshift_distribution(tmp_path / name)
