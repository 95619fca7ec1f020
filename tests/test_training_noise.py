"""Noise and information drawn for training: the ranges, shares and moments that they claim."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dense

from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.noise import NoiseRanges, draw_precision

GRID = Grid((20, 24), 1.0)
NUM = 1200
RANGES = NoiseRanges(star_pixels=(1.0, 3.0))  # holes to match a small field
PINNED = NoiseRanges(
    galaxies=(30.0, 30.0), shape_noise=(0.3, 0.3), level=(0.05, 0.05), shares=(0.0, 1.0, 1.0)
)


@jax.jit
def drawn(key: jax.Array, ranges: NoiseRanges) -> tuple[jax.Array, ...]:
    keys = jax.random.split(key, NUM)
    return jax.vmap(lambda key: draw_precision(key, GRID, ranges))(keys)


@pytest.fixture(scope="module")
def draws() -> tuple[np.ndarray, ...]:
    precision, kind, level = map(np.asarray, drawn(jax.random.key(0), RANGES))
    np.testing.assert_array_equal(precision[:, 0], precision[:, 1])
    return precision[:, 0], kind, level


def deviation(values: np.ndarray, expected: float) -> float:
    """From an expected mean, in standard errors."""
    return (values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


def test_shares_of_the_kinds(draws):
    """Each within 4 standard errors; a share of 0.1 more is not."""
    _, kind, _ = draws
    for number, share in enumerate(RANGES.shares):
        assert abs(deviation(kind == number, share)) < 4
        assert abs(deviation(kind == number, share + 0.1)) > 4


def test_levels_are_even_in_the_logarithm(draws):
    """Mean and mean square of a uniform variable within 4 standard errors; all in the range."""
    _, _, level = draws
    low, high = np.log(RANGES.level)
    uniform = (np.log(level) - low) / (high - low)
    assert 0 <= uniform.min() < 0.02 and 0.98 < uniform.max() <= 1
    assert abs(deviation(uniform, 1 / 2)) < 4 and abs(deviation(uniform**2, 1 / 3)) < 4
    assert abs(deviation(uniform**2, 1 / 4)) > 4


def test_precision_by_kind(draws):
    """Prior: 1/s^2 everywhere. State: no less, and just that in the mask. Survey: 0 there."""
    precision, kind, level = draws
    least, most = precision.min(axis=(1, 2)), precision.max(axis=(1, 2))
    white = 1 / level**2
    np.testing.assert_allclose(least[kind == 0], white[kind == 0], rtol=1e-12)
    np.testing.assert_allclose(most[kind == 0], white[kind == 0], rtol=1e-12)
    assert np.all(least[kind == 1] >= (1 - 1e-12) * white[kind == 1])
    assert np.all(most[kind == 1] > white[kind == 1])
    masked = np.isclose(least, np.where(kind == 1, white, 0), rtol=1e-12, atol=0)
    for number in (1, 2):
        # Three of four have a cut footprint or stars, and thin surveys have empty pixels too.
        assert 0.5 < masked[kind == number].mean() < 1
    assert np.all(least >= 0) and np.isfinite(most).all()


def test_state_is_survey_plus_white_noise():
    """With depth and level pinned: the mean of precision - 1/s^2 over observed pixels is that of
    N / sigma_e^2, within 4 standard errors; and so is the survey's, which has no white part."""
    precision, kind, level = map(np.asarray, drawn(jax.random.key(1), PINNED))
    np.testing.assert_allclose(level, 0.05, rtol=1e-12)
    white = np.where(kind == 1, 1 / 0.05**2, 0)
    weight = precision[:, 0] - white[:, None, None]
    observed = weight > 1e-9
    # Depth times exp(a (cos + cos)), a = 0.4 u for half of the draws: its mean is I0(a)^2.
    a = 0.4 * (np.arange(400) + 0.5) / 400
    depth = 30 * (0.5 + 0.5 * np.mean(np.i0(a) ** 2))
    for number in (1, 2):
        chosen = (kind == number) & observed.any(axis=(1, 2))
        mean = weight[chosen].sum(axis=(1, 2)) / observed[chosen].sum(axis=(1, 2))
        assert abs(deviation(mean, depth / 0.3**2)) < 4
        assert abs(deviation(mean, depth / 0.29**2)) > 4


@pytest.mark.slow
def test_windows_have_survey_noise_and_nothing_around():
    window = jnp.pad(jnp.ones((12, 14)), ((4, 4), (5, 5)))

    @jax.jit
    @jax.vmap
    def in_window(key: jax.Array) -> tuple[jax.Array, ...]:
        return draw_precision(key, GRID, PINNED, window)

    precision, kind, _ = in_window(jax.random.split(jax.random.key(2), 50))
    assert bool(jnp.all(kind == 2))
    assert bool(jnp.all(jnp.where(window == 0, precision, 0) == 0))
    assert bool(jnp.any(jnp.where(window == 1, precision, 0) > 0))


def test_information_has_the_moments_it_claims():
    r"""Mean :math:`A^\dagger\Lambda A\kappa`, covariance :math:`A^\dagger\Lambda A`.

    Every pixel's mean within 4.5 standard errors, every mode's variance too. The control: a tenth
    more precision than there was.
    """
    grid, num = Grid((6, 7), 1.0), 20_000
    rng = np.random.default_rng(0)
    precision = rng.uniform(1, 5, size=(2, *grid.shape))
    precision[:, 2:4, 1:4] = 0
    kappa = rng.normal(size=grid.shape)

    @jax.jit
    def draw(keys: jax.Array) -> jax.Array:
        shear = shear_from_convergence(jnp.asarray(kappa), grid)
        return jax.vmap(
            lambda key: information_from_shear(key, shear, jnp.asarray(precision), grid)
        )(keys)

    @jax.jit
    def operator() -> jax.Array:
        def apply(flat: jax.Array) -> jax.Array:
            shear = shear_from_convergence(flat.reshape(grid.shape), grid)
            weighted = apply_weight(jnp.asarray(precision), shear)
            return convergence_from_shear(weighted, grid).real.ravel()

        return dense(apply, grid.num_pixels)

    matrix = np.asarray(operator())
    samples = np.asarray(draw(jax.random.split(jax.random.key(3), num)))
    noise = samples - (matrix @ kappa.ravel()).reshape(grid.shape)
    error = np.sqrt(np.diag(matrix) / num).reshape(grid.shape)
    assert np.abs(noise.mean(axis=0) / error).max() < 4.5

    fourier = np.fft.fft2(np.eye(grid.num_pixels).reshape(-1, *grid.shape), norm="ortho")
    fourier = fourier.reshape(grid.num_pixels, -1)
    variance = np.real(np.diag(fourier.conj().T @ matrix @ fourier)).reshape(grid.shape)
    power = np.abs(np.fft.fft2(noise, norm="ortho")) ** 2
    error = power.std(axis=0) / np.sqrt(num)
    seen = variance > 1e-9  # all modes but the mean
    assert seen.sum() == grid.num_pixels - 1 and np.all(power[:, ~seen] < 1e-20)
    assert np.abs((power.mean(axis=0) - variance)[seen] / error[seen]).max() < 4.5
    assert np.abs((power.mean(axis=0) - 1.1 * variance)[seen] / error[seen]).max() > 4.5
