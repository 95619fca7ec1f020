"""Samplers of the denoiser's posterior against the exact Gaussian posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap import Grid, convergence_power, shear_map
from jaxmap.gaussian_posterior import solve_information
from jaxmap.operators import shear_from_convergence
from jaxmap.posterior import (
    gaussian_mean,
    gibbs_sweep,
    information_of,
    posterior_denoiser,
    sample_diffusion,
)
from jaxmap.prior import GaussianPrior
from jaxmap.sampling import diffusion
from jaxmap.sampling.diffusion import ancestral, integrate, noise_levels
from jaxmap.spectra import mode_variance

GRID = Grid((12, 12), 2.0)
PRIOR = GaussianPrior(mode_variance(convergence_power(), GRID))
MEAN = gaussian_mean(PRIOR, GRID, 1e-10)
NUM = 4000


@pytest.fixture(scope="module")
def data():
    """A masked field of uneven depth."""
    rng = np.random.default_rng(0)
    weight = rng.poisson(6, GRID.shape) * 60 / 0.3**2
    weight[3:8, 2:6] = 0
    truth = PRIOR.sample(jax.random.key(1))
    std = np.where(weight > 0, 1 / np.sqrt(np.maximum(weight, 1)), 0)
    noise = std * (rng.normal(size=GRID.shape) + 1j * rng.normal(size=GRID.shape))
    return shear_map(np.asarray(shear_from_convergence(truth, GRID)) + noise, GRID, weight=weight)


@pytest.fixture(scope="module")
def exact(data):
    """Mean and covariance of the posterior, by solving for every unit vector."""

    def solve(information):
        return solve_information(information, data.weight, GRID, PRIOR, tolerance=1e-12)[0]

    unit = jnp.eye(GRID.num_pixels).reshape(-1, *GRID.shape)
    # The mean of a map is fixed at 0: the covariance acts on fields of zero mean.
    columns = jax.vmap(solve)(unit - unit.mean(axis=(1, 2), keepdims=True))
    covariance = columns.reshape(GRID.num_pixels, -1)
    return solve(information_of(data)), (covariance + covariance.T) / 2


def deviations(samples, exact):
    """Means and variances along principal axes, in standard errors."""
    mean, covariance = exact
    values, axes = np.linalg.eigh(np.asarray(covariance))
    kept = values > 1e-9 * values.max()
    draws = (np.asarray(samples) - np.asarray(mean)).reshape(len(samples), -1) @ axes[:, kept]
    bias = draws.mean(axis=0) / np.sqrt(values[kept] / len(draws))
    spread = (draws.var(axis=0) / values[kept] - 1) / np.sqrt(2 / len(draws))
    return bias, spread


def assert_exact(samples, exact):
    bias, spread = deviations(samples, exact)
    assert np.abs(bias).max() < 5 and np.abs(spread).max() < 5
    assert abs(spread.mean()) < 5 / np.sqrt(spread.size)


def assert_wrong(samples, exact):
    with pytest.raises(AssertionError):
        assert_exact(samples, exact)


@pytest.mark.slow
def test_diffusion_samples_the_gaussian_posterior(data, exact):
    draw = jax.jit(
        jax.vmap(lambda key, data: sample_diffusion(key, MEAN, PRIOR, data, 16), in_axes=(0, None))
    )
    samples = np.asarray(draw(jax.random.split(jax.random.key(2), NUM), data))
    assert_exact(samples, exact)
    mean = np.asarray(exact[0])
    assert_wrong(mean + 1.05 * (samples - mean), exact)


def test_steps_that_ignore_the_gaussian_part_miss(data, exact):
    """Euler's steps (no V) from the same start, as many: the control."""

    def draw(key):
        key_start, key_noise = jax.random.split(key)
        start = PRIOR.sample(key_start) + 2 * jax.random.normal(key_noise, GRID.shape)
        levels = noise_levels(16)
        return integrate(posterior_denoiser(MEAN, data), start, levels, jnp.zeros(GRID.shape))

    assert_wrong(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(3), 500)), exact)


@pytest.mark.slow
def test_gibbs_keeps_and_finds_the_gaussian_posterior(data, exact):
    """From far outside, 40 sweeps; one sweep is not enough (the control)."""
    sweep = jax.jit(
        jax.vmap(
            lambda key, field, data: gibbs_sweep(key, field, MEAN, PRIOR, data, 4),
            in_axes=(0, 0, None),
        )
    )
    chains = jnp.full((NUM // 4, *GRID.shape), 0.0)
    key = jax.random.key(4)
    for number in range(40):
        keys = jax.random.split(jax.random.fold_in(key, number), len(chains))
        chains = sweep(keys, chains, data)
        if number == 0:
            assert_wrong(chains, exact)
    assert_exact(chains, exact)


def test_ancestral_path_samples_a_gaussian_prior():
    """Any number of steps, from a noised draw to a clean one."""
    variance = PRIOR.amplitude**2
    power = jnp.where(variance > 0, variance, 0)

    def draw(key):
        keys = jax.random.split(key, 3)
        start = PRIOR.sample(keys[0]) + 0.1 * jax.random.normal(keys[1], GRID.shape)

        def denoise(field, level):
            window = power / (power + level**2)
            return jnp.fft.ifft2(window * jnp.fft.fft2(field)).real

        return ancestral(keys[2], denoise, start, noise_levels(5, 0.1, 0.01), power)

    samples = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(5), NUM))
    modes = np.mean(np.abs(np.asarray(jnp.fft.fft2(samples, norm="ortho"))) ** 2, axis=0)
    known = np.asarray(power) > 0
    pull = (modes[known] / np.asarray(power)[known] - 1) / np.sqrt(2 / NUM)
    assert np.abs(pull).max() < 5


@pytest.mark.slow
def test_same_key_same_sample_in_any_batch(data):
    keys = jax.random.split(jax.random.key(6), 3)
    together = jax.vmap(lambda key: sample_diffusion(key, MEAN, PRIOR, data, 4))(keys)
    alone = sample_diffusion(keys[1], MEAN, PRIOR, data, 4)
    np.testing.assert_allclose(together[1], alone, atol=1e-9)


@pytest.mark.parametrize("levels", [[1.0], [1.0, 0.3, 0.2, 0.01]])
def test_a_gaussian_field_is_exact_with_any_levels(levels):
    """Each mode shrinks by the square root of V / (V + s^2), the last step leads to no noise."""
    power = jnp.asarray(np.random.default_rng(0).uniform(0.01, 1, GRID.shape))
    power = (power + jnp.roll(power[::-1, ::-1], 1, (0, 1))) / 2

    def filtered(field, window):
        return jnp.fft.ifft2(window * jnp.fft.fft2(field)).real

    start = jax.random.normal(jax.random.key(0), GRID.shape)
    found = integrate(
        lambda field, level: filtered(field, power / (power + level**2)),
        start,
        jnp.asarray(levels),
        power,
    )
    expected = filtered(start, jnp.sqrt(power / (power + levels[0] ** 2)))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_steps_of_any_length_are_of_second_order():
    """Levels in uneven steps, and a power that the steps do not know: twice the steps, a quarter of
    the error, but for the first step and the last, which is short."""
    power, start = 0.3, jnp.ones(GRID.shape)

    def error(num_steps):
        # Steps in turn as long and three times as long, in the logarithm.
        lengths = np.resize([1.0, 3.0], num_steps)
        fallen = np.concatenate([[0], np.cumsum(lengths) / lengths.sum()])
        levels = jnp.asarray(2.0 * (1e-4 / 2.0) ** fallen)
        found = integrate(
            lambda x, s: x * power / (power + s**2),
            start,
            levels,
            jnp.zeros(GRID.shape),
        )
        return abs(float(found[0, 0]) / np.sqrt(power / (power + 4)) - 1)

    errors = np.array([error(number) for number in (32, 64, 128)])
    assert np.all(errors[:-1] / errors[1:] > 3) and errors[-1] < 0.01


def test_the_second_difference_lessens_the_error(monkeypatch):
    """Pixels of two values with scatter, whose denoiser is known, against 4000 levels: without it,
    the control, more than twice the error with 18 levels, and more than four times with 36."""
    apart, scatter = 0.1, 0.03

    def denoise(x, s):
        total = scatter**2 + s**2
        centre = apart * jnp.tanh(apart * x / total)
        return (scatter**2 * x + s**2 * centre) / total

    start = 2 * jax.random.normal(jax.random.key(0), GRID.shape)
    power = jnp.full(GRID.shape, apart**2 + scatter**2)

    def samples():
        return [integrate(denoise, start, noise_levels(number), power) for number in (2, 18, 36)]

    def errors(found):
        return np.array([jnp.sqrt(jnp.mean((one - exact) ** 2)) for one in found])

    exact = integrate(denoise, start, noise_levels(4000), power)
    few, *more = samples()
    whole = diffusion._extrapolation

    def without(levels):
        rate, of_slope, of_bend = whole(levels)
        return rate, of_slope, jnp.zeros_like(of_bend)

    monkeypatch.setattr(diffusion, "_extrapolation", without)
    few_without, *more_without = samples()
    assert np.all(errors(more_without) / errors(more) > [2, 4])
    np.testing.assert_array_equal(few, few_without)  # no predecessor to differ from


def test_the_noise_of_an_ancestral_path():
    """A denoiser that leaves all noise in place shows what the steps add: b^2 (1 - b^2 / a^2)
    from level a to b, within 5 standard errors of a variance over pixels."""
    side, levels = 64, np.array([2.0, 0.5, 0.1])
    start, none = jnp.zeros((side, side)), jnp.zeros((side, side))
    found = ancestral(jax.random.key(1), lambda x, s: x, start, jnp.asarray(levels), none)
    ratio = (levels[1:] / levels[:-1]) ** 2
    expected = np.sum(levels[1:] ** 2 * (1 - ratio))
    assert abs(np.var(found) / expected - 1) < 5 * np.sqrt(2) / side
