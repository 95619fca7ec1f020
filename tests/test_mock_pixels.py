"""Mock shear maps made in pixels: the fast path against the one by galaxies."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.grid import Grid
from jaxmap.operators import reduced_shear
from jaxmap.simulation.fields import gaussian_field
from jaxmap.simulation.masks import Stars
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.pixels import draw_depth, observe_pixels
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.shapes import MeasurementError
from jaxmap.simulation.survey import observe_map

GRID = Grid((128, 128), 1.0, (30.0, 60.0))  # as in the tests of catalogues, to compile once
FIELD = replace(GRID, shape=(64, 48))
SURVEY = MockSurvey(
    density_arcmin2=10.0,
    shape_noise=0.25,
    measurement=MeasurementError(0.3, (21.0, 24.0, 26.0)),
    stars=Stars(0.005, (1.0, 2.0)),
    border_arcmin=5.0,
)
KEYS = jax.random.split(jax.random.key(11), 20)


def mock(key: jax.Array, convergence: jax.Array) -> ShearMap:
    key_depth, key_noise = jax.random.split(key)
    return observe_pixels(key_noise, convergence, GRID, draw_depth(key_depth, SURVEY, GRID))


@pytest.fixture(scope="module")
def convergence(spectrum):
    return gaussian_field(jax.random.key(3), spectrum, GRID)


@pytest.fixture(scope="module")
def batch(convergence):
    """20 mocks of one sky, in single precision."""
    return jax.jit(jax.vmap(mock, in_axes=(0, None)))(KEYS, convergence.astype(jnp.float32))


@pytest.mark.slow
def test_depth_is_that_of_the_catalogue(batch):
    """Mean counts and weights of 20 skies against binned galaxies of 6, in 4 standard errors;
    weights that ignore the measurement error are off."""
    galaxies = [observe_map(key, jnp.zeros(GRID.shape), GRID, SURVEY) for key in KEYS[:6]]
    for values, total in (
        (batch.counts, lambda data: data.counts.sum()),
        (batch.weight[:, 0], lambda data: data.weight[0].sum()),
    ):
        fast = np.asarray(values).sum(axis=(1, 2))
        slow = np.array([float(total(data)) for data in galaxies])
        error = np.hypot(fast.std() / np.sqrt(20), slow.std() / np.sqrt(6))
        assert abs(fast.mean() - slow.mean()) < 4 * error
    counts = np.asarray(batch.counts)
    careless = counts.sum(axis=(1, 2)).mean() / 0.25**2
    assert abs(careless - slow.mean()) > 4 * error
    assert np.array_equal(batch.weight[:, 1] > 0, counts > 0)
    assert counts[:, :5].sum() == counts[:, :, -5:].sum() == 0 < counts[:, 5].sum()


def test_noise_and_signal(batch, convergence):
    """Residuals of 20 maps, and of their mean, over their std in 4 standard errors; with 5 % more
    noise, or a sky 2 % off, they are too large."""
    g = np.asarray(reduced_shear(convergence, GRID))
    shear, weight = np.asarray(batch.shear), np.asarray(batch.weight[:, 0])
    noise = ((shear - g) * np.sqrt(weight))[weight > 0]
    error = 1 / np.sqrt(4 * noise.size)
    spread = np.sqrt(np.mean(np.abs(noise) ** 2) / 2)
    assert abs(spread - 1) < 4 * error < abs(1.05 * spread - 1)
    power = np.sum(weight * np.abs(g) ** 2)
    slope = np.sum(weight * (g.conj() * shear).real) / power
    assert abs(slope - 1) < 4 / np.sqrt(power) < 0.02
    assert np.all(shear[weight == 0] == 0)


def test_batches_are_single_draws(batch, convergence):
    """To the rounding of single precision; every draw has its own depth."""
    for k in (0, 19):
        single = mock(KEYS[k], convergence.astype(jnp.float32))
        assert np.array_equal(single.counts, batch.counts[k])
        assert float(jnp.abs(single.shear - batch.shear[k]).max()) < 1e-5
    assert not np.array_equal(batch.counts[0], batch.counts[1])


def test_response_and_mass_outside_the_field(convergence):
    """Exactly as in the formula, up to tiny noise."""
    data = shear_map(np.zeros(FIELD.shape, complex), FIELD, weight=np.full(FIELD.shape, 1e14))
    response = ShearResponse(multiplicative=(0.1, -0.2), additive=0.01 + 0.02j)
    made = np.asarray(observe_pixels(KEYS[0], convergence, GRID, data, response).shear)
    g = np.asarray(reduced_shear(convergence, GRID))[32:-32, 40:-40]
    assert made.real == pytest.approx(1.1 * g.real + 0.01, abs=1e-6)
    assert made.imag == pytest.approx(0.8 * g.imag + 0.02, abs=1e-6)
    linear = observe_pixels(KEYS[0], convergence, GRID, data, ShearResponse(reduced=False)).shear
    kappa = np.asarray(convergence)[32:-32, 40:-40]
    assert np.abs(np.asarray(linear) / (1 - kappa) - g).max() < 1e-6


def test_what_does_not_fit_is_refused(convergence):
    data = shear_map(np.zeros(FIELD.shape, complex), FIELD, weight=np.ones(FIELD.shape))
    for grid in (replace(FIELD, pixel_arcmin=2.0), replace(FIELD, shape=(65, 48))):
        with pytest.raises(ValueError, match="not those in the middle"):
            observe_pixels(KEYS[0], convergence, GRID, replace(data, grid=grid))
    with pytest.raises(ValueError, match="no shape noise"):
        draw_depth(KEYS[0], MockSurvey(1.0, 0.0), FIELD)
    with pytest.raises(ValueError, match="mask has shape"):
        draw_depth(KEYS[0], replace(SURVEY, mask=np.ones((3, 3))), FIELD)
