"""Mock surveys: the lens they are put behind, their noise, masks and biases."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.grid import Grid
from jaxmap.operators import reduced_shear, shear_from_convergence
from jaxmap.redshifts import smail_redshifts
from jaxmap.simulation.fields import gaussian_field
from jaxmap.simulation.masks import Holes, Stars
from jaxmap.simulation.mock_survey import GivenSurvey, MockSurvey
from jaxmap.simulation.presets import PRESETS
from jaxmap.simulation.response import ShearResponse, lensed_ellipticity
from jaxmap.simulation.shapes import MeasurementError, draw_ellipticities
from jaxmap.simulation.survey import observe, observe_catalog, observe_map

# Far from the equator, where the frames of grid and sky differ.
GRID = Grid((128, 128), 1.0, (30.0, 60.0))
SHARP = MockSurvey(density_arcmin2=10.0, shape_noise=1e-4)
KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 100)


@pytest.fixture
def convergence(spectrum):
    return gaussian_field(jax.random.key(3), spectrum, GRID)


def blob(grid: Grid, amplitude: float, sigma_arcmin: float) -> jax.Array:
    """A round Gaussian lens in the middle."""
    y, x = (grid.pixel_arcmin * (np.arange(n) - (n - 1) / 2) for n in grid.shape)
    return jnp.asarray(amplitude * np.exp(-np.add.outer(y**2, x**2) / (2 * sigma_arcmin**2)))


def test_a_known_lens_shears_tangentially():
    r"""Mean e_t is (mean kappa inside - kappa) / (1 - kappa), in 4 standard errors."""
    grid, sigma, amplitude = Grid((240, 240), 0.25, (30.0, 60.0)), 4.0, 0.3
    survey = MockSurvey(density_arcmin2=60.0, shape_noise=0.2)
    catalog = observe(KEY, blob(grid, amplitude, sigma), grid, survey)
    x, y = Grid((1, 1), 1.0, grid.centre_deg).pixel_position(catalog.ra_deg, catalog.dec_deg)
    e = catalog.ellipticity * grid.frame_rotation(catalog.ra_deg)
    outward, radius = np.exp(-2j * np.arctan2(y, x)), np.hypot(x, y)
    t = radius**2 / (2 * sigma**2)
    kappa = amplitude * np.exp(-t)
    expected = (amplitude * -np.expm1(-t) / t - kappa) / (1 - kappa)
    for low, high in ((2, 4), (4, 6), (6, 9)):
        ring = (radius > low) & (radius < high)
        error = 0.2 / np.sqrt(ring.sum())
        tangential, flipped = np.mean(-(e * outward)[ring]), np.mean(-(e.conj() * outward)[ring])
        assert abs(tangential.real - expected[ring].mean()) < 4 * error
        assert abs(tangential.imag) < 4 * error
        assert abs(flipped.real - expected[ring].mean()) > 8 * error


@pytest.mark.parametrize("reduced", [True, False])
def test_galaxies_carry_the_shear_of_their_pixel(convergence, reduced):
    survey = replace(SHARP, response=ShearResponse(reduced=reduced))
    data = observe_map(KEY, convergence, GRID, survey)
    wanted, other = reduced_shear(convergence, GRID), shear_from_convergence(convergence, GRID)
    if not reduced:
        wanted, other = other, wanted
    # Every galaxy of a pixel has the same shear, so only the tiny shape noise is left.
    assert float(jnp.abs(jnp.where(data.mask, data.shear - wanted, 0)).max()) < 5e-4
    assert float(jnp.abs(jnp.where(data.mask, data.shear - other, 0)).max()) > 5e-3


def test_strong_lensing():
    """Where |g| > 1, ellipticities average to 1 / g*; one formula for both would not."""
    intrinsic = draw_ellipticities(KEY, 40_000, 0.3)
    for g in (0.4 + 0.3j, 1.5 - 0.8j):
        shear = jnp.full(intrinsic.shape, g)
        e = lensed_ellipticity(intrinsic, shear, ShearResponse())
        expected = g if abs(g) < 1 else 1 / np.conj(g)
        error = float(jnp.std(e)) / np.sqrt(e.size)
        assert float(jnp.abs(e).max()) < 1
        assert abs(complex(jnp.mean(e)) - expected) < 4 * error
        assert abs(complex(jnp.mean(e)) - 1 / np.conj(expected)) > 4 * error


def test_biases_are_recovered(convergence):
    """Slope and offset of the measured shear against the true one, in 4 standard errors."""
    response = ShearResponse(multiplicative=(0.05, -0.03), additive=0.004 - 0.006j)
    survey = MockSurvey(density_arcmin2=10.0, shape_noise=0.05, response=response)
    data = observe_map(KEY, convergence, GRID, survey)
    g = reduced_shear(convergence, GRID)
    for part, m, c in ((jnp.real, 0.05, 0.004), (jnp.imag, -0.03, -0.006)):
        x, y, weight = part(g).ravel(), part(data.shear).ravel(), data.weight[0].ravel()
        mean = jnp.average(x, weights=weight)
        slope = jnp.sum(weight * (x - mean) * y) / jnp.sum(weight * (x - mean) ** 2)
        offset = jnp.average(y - slope * x, weights=weight)
        slope_error = jnp.sum(weight * (x - mean) ** 2) ** -0.5
        offset_error = jnp.sum(weight) ** -0.5
        assert abs(slope - 1 - m) < 4 * slope_error < abs(slope - 1)
        assert abs(offset - c) < 4 * offset_error < abs(offset)


@pytest.mark.parametrize("measurement", [None, MeasurementError(0.4, (21.0, 24.0, 26.0))])
def test_binned_noise(measurement):
    """Noise over its quoted std in 4 standard errors; 5 % more noise would show."""
    survey = MockSurvey(density_arcmin2=10.0, shape_noise=0.3, measurement=measurement)
    data = observe_map(KEY, jnp.zeros(GRID.shape), GRID, survey)
    noise = jnp.stack([data.shear.real, data.shear.imag]) * jnp.sqrt(data.weight)
    noise = np.asarray(noise[:, data.counts >= 3])
    error = 1 / np.sqrt(2 * noise.size)
    assert abs(np.std(noise) - 1) < 4 * error < abs(1.05 * np.std(noise) - 1)
    if measurement is None:
        weight = np.asarray(data.weight[0])[data.mask]
        assert weight == pytest.approx(np.asarray(data.counts)[data.mask] / 0.3**2, rel=0.02)


def test_ellipticities_have_the_spread_asked_for():
    """In 4 standard errors, though cut at 0.95; a Gaussian cut there has less."""
    for shape_noise in (0.0, 0.4):
        e = draw_ellipticities(KEY, 200_000, shape_noise)
        assert float(jnp.abs(e).max()) <= 0.95
        for part in (e.real, e.imag):
            error = float(jnp.std(part**2)) / np.sqrt(e.size)
            assert abs(float(jnp.mean(part**2)) - shape_noise**2) <= 4 * error
    gaussian = 0.4 * jax.random.normal(KEY, (2, 200_000))
    kept = gaussian[:, jnp.hypot(*gaussian) < 0.95]
    assert abs(float(jnp.mean(kept**2)) - 0.16) > 20 * error


def test_weights_follow_the_noise():
    measurement = MeasurementError(0.4, (21.0, 24.0, 26.0))
    survey = MockSurvey(density_arcmin2=10.0, shape_noise=0.2, measurement=measurement)
    catalog = observe(KEY, jnp.zeros(GRID.shape), GRID, survey)
    assert 1 / catalog.weight.max() == pytest.approx(0.2**2, rel=0.01)
    assert 1 / catalog.weight.min() == pytest.approx(0.2**2 + 0.4**2, rel=0.05)
    scatter = catalog.weight * np.abs(catalog.ellipticity) ** 2 / 2
    for half in (scatter[catalog.weight > 15], scatter[catalog.weight < 15]):
        assert abs(half.mean() - 1) < 4 * half.std() / np.sqrt(half.size)


def test_mass_outside_the_field_acts_and_pixels_may_differ(convergence):
    """The middle of a map, on pixels twice as large: the mean shear of four, but for the uneven
    numbers of the 40 galaxies in them. That of the mass inside the field alone is another."""
    field = Grid((32, 24), 2.0, GRID.centre_deg)
    data = observe_map(KEY, convergence, GRID, SHARP, field)
    inside = (slice(32, 96), slice(40, 88))
    alone = reduced_shear(convergence[inside], replace(GRID, shape=(64, 48)))
    parts = np.asarray(reduced_shear(convergence, GRID)[inside]).reshape(32, 2, 24, 2)
    mean = parts.mean(axis=(1, 3))
    expected = np.std(parts - mean[:, None, :, None]) / np.sqrt(40)
    error = np.std(np.asarray(data.shear) - mean)
    assert data.grid == field
    # 768 complex pixels give the scatter to 2.6 %; it varies with the slopes inside pixels.
    assert 0.8 < error / expected < 1.2
    coarse = np.asarray(alone).reshape(32, 2, 24, 2).mean(axis=(1, 3))
    assert np.std(np.asarray(data.shear) - coarse) / expected > 1.5


def test_masks_mask():
    mask = np.random.default_rng(0).random(GRID.shape) < 0.7
    survey = MockSurvey(10.0, 0.2, border_arcmin=10.0, mask=mask, stars=Stars(0.01, (1.0, 2.0)))
    catalog = observe(KEY, jnp.zeros(GRID.shape), GRID, survey)
    counts = np.asarray(bin_shear(catalog, GRID).counts)
    inner = np.zeros(GRID.shape, bool)
    inner[10:-10, 10:-10] = True
    assert counts[~(inner & mask)].sum() == 0
    # A pixel holds none by chance with probability exp(-10).
    seen = (counts > 0)[inner & mask].mean()
    assert seen == pytest.approx((1 - survey.stars.masked_fraction), abs=0.04)
    without = observe(KEY, jnp.zeros(GRID.shape), GRID, replace(survey, stars=None, mask=None))
    assert len(without) > 1.3 * len(catalog)


def test_number_and_redshifts():
    """Poisson numbers and n(z)'s mean in 4 standard errors."""
    redshifts = smail_redshifts(2.0, 1.5, 0.6)
    survey = MockSurvey(density_arcmin2=10.0, shape_noise=0.2, redshifts=redshifts)
    catalog = observe(KEY, jnp.zeros(GRID.shape), GRID, survey)
    mean = 10.0 * GRID.num_pixels
    assert abs(len(catalog) - mean) < 4 * np.sqrt(mean)
    expected = np.trapezoid(redshifts.z * redshifts.density, redshifts.z)
    error = catalog.z.std() / np.sqrt(len(catalog))
    assert abs(catalog.z.mean() - expected) < 4 * error
    assert observe(KEY, jnp.zeros(GRID.shape), GRID, SHARP).z is None


def test_same_key_same_catalogue(convergence):
    survey = replace(PRESETS["cluster"], density_arcmin2=10.0)
    one, same, other = (
        observe(jax.random.key(seed), convergence, GRID, survey) for seed in (1, 1, 2)
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, one, same))
    assert len(one) != len(other) or not np.array_equal(one.ra_deg, other.ra_deg)


def test_single_precision(convergence):
    single = observe_map(KEY, convergence.astype(jnp.float32), GRID, SHARP)
    double = observe_map(KEY, convergence, GRID, SHARP)
    assert float(jnp.abs(single.shear - double.shear).max()) < 1e-5


def given_catalog(num: int, shape_noise: float) -> ShearCatalog:
    """Galaxies of an older survey, with a shear in them that must not come through."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-70, 70, (2, num))
    ra, dec = Grid((1, 1), 1.0, GRID.centre_deg).wcs().all_pix2world(x, y, 0)
    e = shape_noise * (rng.normal(size=num) + 1j * rng.normal(size=num)) + 0.05
    return shear_catalog(ra, dec, e, rng.uniform(0.5, 2, num), rng.uniform(0, 2, num))


def test_given_galaxies_are_kept(convergence):
    catalog = given_catalog(5_000, 0.2)
    mock = observe_catalog(KEY, jnp.zeros(GRID.shape), GRID, catalog)
    x, y = Grid((1, 1), 1.0, GRID.centre_deg).pixel_position(catalog.ra_deg, catalog.dec_deg)
    inside = (np.abs(x) <= 64) & (np.abs(y) <= 64)
    for name in ("ra_deg", "dec_deg", "weight", "z"):
        assert np.array_equal(getattr(mock, name), getattr(catalog, name)[inside])
    assert np.abs(mock.ellipticity) == pytest.approx(np.abs(catalog.ellipticity)[inside])
    assert abs(mock.ellipticity.mean()) < 4 * 0.3 / np.sqrt(len(mock))
    assert abs(catalog.ellipticity.mean()) > 4 * 0.3 / np.sqrt(len(mock))


def test_given_galaxies_are_sheared(convergence):
    """Regression on the true shear, in 4 standard errors; without lensing it fails."""
    catalog = given_catalog(50_000, 0.05)
    response = ShearResponse(multiplicative=0.1)
    g = np.asarray(reduced_shear(convergence, GRID))
    for kappa, expected in ((convergence, 1.1), (0 * convergence, 0.0)):
        data = bin_shear(observe_catalog(KEY, kappa, GRID, catalog, response), GRID)
        shear, weight = np.asarray(data.shear), np.asarray(data.weight[0])
        power = np.sum(weight * np.abs(g) ** 2)
        slope = np.sum(weight * (g.conj() * shear).real) / power
        assert abs(slope - expected) < 4 / np.sqrt(power) < 0.1


def test_given_galaxies_in_holes_are_left_out():
    """Those outside keep place and weight, whatever the holes; more of them are left without."""
    catalog, field = given_catalog(5_000, 0.2), Grid((60, 80), 1.0, GRID.centre_deg)
    mask = np.ones(field.shape, bool)
    mask[:, :40] = False
    x, y = Grid((1, 1), 1.0, GRID.centre_deg).pixel_position(catalog.ra_deg, catalog.dec_deg)
    seen = (np.abs(y) < 28) & (x >= 0) & (x < 38)
    holes = Holes(border_arcmin=2.0, mask=mask)
    mock = observe(KEY, jnp.zeros(GRID.shape), GRID, GivenSurvey(catalog, holes=holes), field)
    np.testing.assert_array_equal(mock.ra_deg, catalog.ra_deg[seen])
    np.testing.assert_array_equal(mock.weight, catalog.weight[seen])
    whole = observe(KEY, jnp.zeros(GRID.shape), GRID, GivenSurvey(catalog), field)
    assert len(whole) > 2 * len(mock)
    stars = Stars(0.02)
    starry = GivenSurvey(catalog, holes=Holes(stars))
    numbers = [len(observe(key, jnp.zeros(GRID.shape), GRID, starry, field)) for key in KEYS[:20]]
    share = 1 - np.array(numbers) / len(whole)
    error = share.std(ddof=1) / np.sqrt(20)
    assert abs(share.mean() - stars.masked_fraction) < 4 * error < stars.masked_fraction / 2


@pytest.mark.slow
def test_cosmos_positions(shared):
    """The real catalogue behind a simulated sky fills the same pixels with as many galaxies."""
    from jaxmap.reading.readers import read_shear

    catalog = read_shear(shared / "cosmos" / "s10_shear_catalog.fits")
    grid = Grid((360, 360), 0.29, (150.1, 2.2))
    mock = observe_catalog(KEY, blob(grid, 0.1, 10.0), grid, catalog)
    real, made = bin_shear(catalog, grid), bin_shear(mock, grid)
    assert np.array_equal(real.counts, made.counts)
    assert np.asarray(made.weight) == pytest.approx(np.asarray(real.weight), rel=0.02)
