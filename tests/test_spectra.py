"""Power spectra: the checks, the reader, the variance of modes and the spectrum of maps."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.grid import ARCMIN, Grid
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import (
    PowerSpectrum,
    map_power,
    mode_variance,
    power_spectrum,
    read_power_spectrum,
)

ELL = np.array([10.0, 100.0, 1000.0, 10000.0])
C_ELL = np.array([4e-8, 2e-8, 1e-9, 3e-12])

compiled_map_power = jax.jit(map_power, static_argnames="grid")


def multipoles(grid: Grid) -> np.ndarray:
    """|ell| of every mode, without the code under test; shape ``(ny, nx)``."""
    ell_y, ell_x = (
        2 * np.pi * np.fft.fftfreq(n, grid.pixel_arcmin * ARCMIN)[..., None] for n in grid.shape
    )
    return np.hypot(ell_y, ell_x.T)


def assert_expected(spectrum: PowerSpectrum) -> None:
    np.testing.assert_allclose(spectrum.ell, ELL)
    np.testing.assert_allclose(spectrum.c_ell, C_ELL)


def test_table_is_linear_between_and_goes_on_as_a_power_law() -> None:
    spectrum = power_spectrum([10, 20, 40], [1.0, 3.0, 1.5])
    values = spectrum(jnp.array([[0.0, 10.0, 15.0], [30.0, 40.0, 400.0]]))
    np.testing.assert_allclose(values, [[1.0, 1.0, 2.0], [2.25, 1.5, 0.15]])
    assert len(jax.tree.leaves(spectrum)) == 2
    # Nothing is made up where the end of the table gives no slope, or an upward one.
    for last, beyond in ((0.0, 0.0), (6.0, 6.0)):
        spectrum = power_spectrum([10, 20, 40], [1.0, 3.0, last])
        assert float(spectrum(jnp.asarray(400.0))) == beyond


def test_gradients_survive_zeros_in_the_table() -> None:
    grid = Grid((8, 8), 1.0)

    def total(c_ell: jax.Array) -> jax.Array:
        prior = GaussianPrior(mode_variance(PowerSpectrum(jnp.asarray(ELL, float), c_ell), grid))
        return jnp.sum(prior.sample(jax.random.key(0)) ** 2)

    zeroed = jnp.asarray(C_ELL).at[-2:].set(0.0)
    assert jnp.all(jnp.isfinite(jax.grad(total)(zeroed)))


@pytest.mark.parametrize(
    ("ell", "c_ell", "message"),
    [
        (ELL, -C_ELL, "-4e-08 at ell = 10"),
        (ELL, [1e-8, np.nan, 1e-8, 1e-8], "nan at ell = 100"),
        (ELL, [1e-8, 1e-8, np.inf, 1e-8], "inf at ell = 1000"),
        (ELL, np.log(C_ELL), "logarithm"),
        (ELL[::-1], C_ELL, "ascending"),
        ([10, 10], [1, 1], "ascending"),
        ([-1, 10], [1, 1], "ascending"),
        ([10, np.nan], [1, 1], "finite"),
        ([10, np.inf], [1, 1], "finite"),
        (ELL, 0 * C_ELL, "zero everywhere"),
        (ELL, C_ELL[:3], "equally long"),
        (ELL[None], C_ELL[None], "equally long"),
        ([10], [1], "at least two"),
        ([], [], "at least two"),
        (10, 1, "at least two"),
    ],
)
def test_impossible_spectra(ell: object, c_ell: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        power_spectrum(ell, c_ell)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("", (0, 1)),
        ("ell C_ell", (0, 1)),
        ("L,C_L", (0, 1)),
        ("multipole power", (0, 1)),
        ("cl,ell", (1, 0)),
        ("C(ell) ell", (1, 0)),
        ("bin,l,Cl", (2, 0, 1)),
        ("one two", (0, 1)),
    ],
)
def test_names_in_files(header: str, order: tuple[int, ...], tmp_path: Path) -> None:
    columns = [ELL, C_ELL] if len(order) == 2 else [ELL, C_ELL, np.arange(4.0)]
    rows = np.stack([columns[i] for i in order], axis=1)
    delimiter = "," if "," in header else " "
    np.savetxt(tmp_path / "cl.txt", rows, header=header, delimiter=delimiter)
    assert_expected(read_power_spectrum(tmp_path / "cl.txt"))


def test_numpy_and_fits_files(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    np.save(tmp_path / "rows.npy", np.stack([ELL, C_ELL]))
    np.save(tmp_path / "columns.npy", np.stack([ELL, C_ELL], axis=1))
    np.savez(tmp_path / "table.npz", c_ell=C_ELL, ell=ELL)
    columns = [fits.Column("CL", "D", array=C_ELL), fits.Column("ELL", "D", array=ELL)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "table.fits")
    for name in ("rows.npy", "columns.npy", "table.npz", "table.fits"):
        assert_expected(read_power_spectrum(str(tmp_path / name)))


def test_spectrum_of_kappa_tng(shared: Path) -> None:
    spectrum = read_power_spectrum(shared / "ktng" / "power_spectrum.npy")
    table = np.load(shared / "ktng" / "power_spectrum.npy")
    np.testing.assert_array_equal([spectrum.ell, spectrum.c_ell], table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "two columns, ell and C_ell, from .*holds no rows"),
        ("10 1e-8\n20", "cut short"),
        ("10 1e-8\n20 -1e-8\n", "-1e-08 at ell = 20"),
        ("1e-8 10\n1e-9 20\n", "ascending"),
        ("10 1e-8\n", "at least two"),
        ("10 0\n20 0\n", "zero everywhere"),
    ],
)
def test_messages_name_the_file(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cl.txt").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_power_spectrum(tmp_path / "cl.txt")
    assert str(tmp_path / "cl.txt") in str(error.value)
    with pytest.raises(ValueError, match=r"absent.txt.*does not exist.*ell and C_ell"):
        read_power_spectrum(tmp_path / "absent.txt")


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (12, 33)])
def test_mode_variance(shape: tuple[int, int], dtype: type, spectrum: PowerSpectrum) -> None:
    grid = Grid(shape, 0.7)
    cast = PowerSpectrum(*(jnp.asarray(values, dtype) for values in (spectrum.ell, spectrum.c_ell)))
    variance = mode_variance(cast, grid)
    assert variance.dtype == dtype
    assert variance[0, 0] == jnp.inf
    expected = np.interp(multipoles(grid), spectrum.ell, spectrum.c_ell) / (0.7 * ARCMIN) ** 2
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(variance.ravel()[1:], expected.ravel()[1:], rtol=rtol)


def test_power_of_gaussian_fields(spectrum: PowerSpectrum) -> None:
    grid, num_draws = Grid((32, 48), 1.5), 400
    edges = np.linspace(500, 6500, 7)
    prior = GaussianPrior(mode_variance(spectrum, grid))
    maps = jax.vmap(prior.sample)(jax.random.split(jax.random.key(0), num_draws))
    ell, power, count = jax.vmap(lambda field: compiled_map_power(field, grid, edges))(maps)
    modes = multipoles(grid)
    bands = [modes[(modes >= low) & (modes < high)] for low, high in itertools.pairwise(edges)]
    np.testing.assert_array_equal(count[0], [len(band) for band in bands])
    np.testing.assert_allclose(ell[0], [band.mean() for band in bands], rtol=1e-12)
    # A mode l and its mirror image -l hold the same |f|^2, with standard deviation C: the variance
    # of a band's mean is 2 sum(C^2) / n^2, also when modes are their own mirror image.
    c_ell = [np.asarray(spectrum(band)) for band in bands]
    expected = np.array([np.mean(c) for c in c_ell])
    error = np.array([np.sqrt(2 * np.sum(c**2) / num_draws) / len(c) for c in c_ell])
    mean = np.mean(power, axis=0)
    assert np.all(np.abs(mean - expected) < 3.5 * error)
    np.testing.assert_allclose(np.std(power, axis=0) / np.sqrt(num_draws), error, rtol=0.15)
    # The control that must fail: ten per cent more power.
    assert np.all(np.abs(mean - 1.1 * expected) > 3.5 * error)


@pytest.mark.parametrize("shape", [(16, 16), (15, 12)])
def test_power_adds_up_to_the_mean_square(shape: tuple[int, int]) -> None:
    grid = Grid(shape, 2.0)
    real, imaginary = jax.random.normal(jax.random.key(3), (2, *shape))
    for field in (real, jax.lax.complex(real, imaginary)):
        _, power, count = compiled_map_power(field, grid, jnp.array([0.0, 1000.0, 1e5]))
        assert count.sum() == grid.num_pixels
        assert jnp.sum(power * count) == pytest.approx(
            float(grid.pixel_sr * jnp.sum(jnp.abs(field) ** 2))
        )


def test_a_plane_wave_lies_in_its_band(dtype: type) -> None:
    grid = Grid((16, 24), 1.0)
    wave = jnp.cos(2 * jnp.pi * 3 * jnp.arange(24, dtype=dtype) / 24)
    field = jnp.broadcast_to(wave[None, :], grid.shape)
    ell = 2 * np.pi * 3 / (24 * ARCMIN)
    _, power, count = compiled_map_power(
        field, grid, jnp.array([0.5 * ell, 0.99 * ell, 1.01 * ell, 2 * ell])
    )
    assert power.dtype == dtype
    # Half the modes of cos are at +l, half at -l; those at right angles are in the band as well.
    assert count[1] == np.sum(np.abs(multipoles(grid) / ell - 1) < 0.01)
    total = 0.5 * grid.num_pixels * grid.pixel_sr
    np.testing.assert_allclose(power[1] * count[1], total, rtol=1e-5)
    np.testing.assert_allclose(power[jnp.array([0, 2])], 0, atol=1e-10 * total)


def test_bands_without_modes_are_nan() -> None:
    grid = Grid((8, 8), 1.0)
    highest = multipoles(grid).max()
    edges = [1.0, 2.0, 2 * highest, 3 * highest]
    ell, power, count = compiled_map_power(jnp.ones((8, 8)), grid, jnp.array(edges))
    np.testing.assert_array_equal(count, [0, 63, 0])
    np.testing.assert_array_equal(jnp.isnan(ell), [True, False, True])
    np.testing.assert_array_equal(jnp.isnan(power), [True, False, True])
