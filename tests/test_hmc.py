"""Hamiltonian Monte Carlo from scores, on densities whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.sampling import hmc
from jaxmap.sampling.path_integral import (
    closed_loop_integral,
    log_density_change,
    simpson_weights,
)

KEY = jax.random.key(5)


def gaussian_score(precision):
    return lambda x, sigma: -precision @ x


def covariance_of(dimension):
    """Correlated, with standard deviations from 0.5 to 2 along its axes."""
    axes, _ = np.linalg.qr(np.random.default_rng(dimension).normal(size=(dimension, dimension)))
    return (axes * np.geomspace(0.25, 4, dimension)) @ axes.T


def change(log_density, start, end, num_intervals=4):
    score = lambda x, sigma: jax.grad(log_density)(x)  # noqa: E731
    sigma = jnp.asarray(1.0)
    return log_density_change(
        score, sigma, start, end, score(start, sigma), score(end, sigma), num_intervals
    )


def test_the_weights_of_the_paper():
    np.testing.assert_allclose(simpson_weights(4), np.array([1, 4, 2, 4, 1]) / 12)
    for number in (0, 3, -2):
        with pytest.raises(ValueError, match=f"num_intervals is {number}.*even"):
            simpson_weights(number)


@pytest.mark.parametrize("power", [2, 4])
def test_simpson_is_exact_up_to_quartic_log_densities(power):
    """To rounding: along a line the score of a quartic is a cubic."""
    matrix = jnp.asarray(covariance_of(6))

    def log_density(x):
        return -jnp.sum((matrix @ x) ** power) + x @ matrix @ jnp.roll(x, 1)

    start, end = jax.random.normal(KEY, (2, 6))
    for num_intervals in (2, 4):
        np.testing.assert_allclose(
            change(log_density, start, end, num_intervals),
            log_density(end) - log_density(start),
            rtol=1e-12,
        )


def test_the_rule_has_four_intervals_unless_told_otherwise():
    """On x^6 along a line, which Simpson's rule gets wrong by an amount that counts them."""
    score, zero, one = lambda x, sigma: 6 * x**5, jnp.asarray(0.0), jnp.asarray(1.0)
    expected = np.sum(np.array([1, 4, 2, 4, 1]) / 12 * 6 * np.linspace(0, 1, 5) ** 5)
    assert abs(expected - 1) > 0.001
    found = log_density_change(score, one, zero, one, score(zero, one), score(one, one))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    corners = jnp.asarray([0.0, 1.0])
    assert abs(float(closed_loop_integral(score, 1.0, corners))) < 1e-6


def test_simpson_is_of_fourth_order():
    def log_density(x):
        return -jnp.sum(jnp.log(jnp.cosh(x))) - jnp.sum(x**6) / 20

    start, end = jnp.asarray([0.3, -1.1]), jnp.asarray([1.2, 0.4])
    exact = log_density(end) - log_density(start)
    numbers = [4, 8, 16]
    errors = [abs(float(change(log_density, start, end, n) - exact)) for n in numbers]
    order = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert order == pytest.approx(4, abs=0.1)


def test_the_way_back_gives_the_negative():
    def log_density(x):
        return jnp.sum(jnp.sin(3 * x)) - jnp.sum(x**4)

    start, end = jax.random.normal(KEY, (2, 5))
    there, back = change(log_density, start, end), change(log_density, end, start)
    np.testing.assert_allclose(there, -back, rtol=1e-13)


def test_a_closed_loop_tells_gradients_from_other_fields():
    """Zero for a gradient; for a rotation twice the area inside, exactly."""
    corners = jnp.asarray([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])

    def bowl(x, sigma):
        return -x / (1 + sigma**2) + jnp.cos(x)

    def swirl(x, sigma):
        return bowl(x, sigma) + 0.1 * jnp.stack([-x[1], x[0]])

    assert abs(float(closed_loop_integral(bowl, 0.5, corners, 32))) < 1e-6
    assert float(closed_loop_integral(swirl, 0.5, corners, 32)) == pytest.approx(0.4, abs=1e-6)


@jax.jit
def a_trajectory(step_size, num_steps):
    """Along a quartic well, with the change of its energy."""

    def log_density(x):
        return -0.5 * x @ x - 0.1 * jnp.sum(x**4)

    def score(x, sigma):
        return jax.grad(log_density)(x)

    start, momentum = jax.random.normal(KEY, (2, 3))
    state = hmc.init(start, 1.0, score)
    end, last = hmc.leapfrog(state, momentum, score, step_size, num_steps)
    energy_error = 0.5 * (last @ last - momentum @ momentum) - (
        log_density(end.position) - log_density(start)
    )
    back, _ = hmc.leapfrog(end, -last, score, step_size, num_steps)
    return jnp.abs(energy_error), jnp.abs(back.position - start).max()


def test_leapfrog_is_reversible_and_of_second_order():
    errors = []
    for num_steps in (8, 16, 32):
        energy_error, distance = a_trajectory(1.2 / num_steps, num_steps)
        errors.append(float(energy_error))
        assert distance < 1e-13
    orders = -np.diff(np.log2(errors))
    np.testing.assert_allclose(orders, 2, atol=0.15)


def run(score, start, num_steps, step=hmc.step, **settings):
    """Chains after a number of steps, and how each step went."""

    @jax.jit
    def chains(keys, start):
        def chain(key, position):
            def body(state, number):
                return step(jax.random.fold_in(key, number), state, score, **settings)

            return jax.lax.scan(body, hmc.init(position, 1.0, score), jnp.arange(num_steps))

        return jax.vmap(chain)(keys, start)

    state, infos = chains(jax.random.split(KEY, len(start)), start)
    return state.position, infos


def unadjusted(key, state, score, step_size, num_leapfrog):
    """A kernel that forgets to accept or reject."""
    momentum = jax.random.normal(key, state.position.shape)
    state, _ = hmc.leapfrog(state, momentum, score, step_size, num_leapfrog)
    return state, jnp.zeros(())


def deviation(samples, covariance):
    """Largest deviation of mean and covariance from N(0, covariance), in standard errors.

    Of the mean and variance along every axis, and of the mean of all those variances.
    """
    values, axes = np.linalg.eigh(covariance)
    whitened = np.asarray(samples) @ axes / np.sqrt(values)
    n, d = whitened.shape
    means = np.sqrt(n) * np.abs(whitened.mean(axis=0))
    powers = np.sqrt(n / 2) * np.abs((whitened**2).mean(axis=0) - 1)
    overall = np.sqrt(n * d / 2) * np.abs((whitened**2).mean() - 1)
    correlations = np.sqrt(n) * np.abs(np.corrcoef(whitened.T) - np.eye(d))
    return max(means.max(), powers.max(), overall, correlations.max())


@pytest.mark.parametrize("dimension", [2, 64])
def test_correlated_gaussians(dimension):
    """Moments within 5 standard errors; not so if 5 % too wide."""
    covariance = covariance_of(dimension)
    score = gaussian_score(jnp.linalg.inv(jnp.asarray(covariance)))
    start = 3 * jax.random.normal(jax.random.key(1), (4000, dimension))
    samples, infos = run(score, start, 40, step_size=0.4, num_leapfrog=5)
    assert 0.6 < float(infos.acceptance.mean()) < 0.99
    assert deviation(samples, covariance) < 5
    assert deviation(1.05 * samples, covariance) > 5


def test_without_metropolis_long_steps_are_wrong():
    """The control: the same chains, were every trajectory accepted."""
    covariance = covariance_of(64)
    score = gaussian_score(jnp.linalg.inv(jnp.asarray(covariance)))
    start = 3 * jax.random.normal(jax.random.key(1), (4000, 64))
    wrong, _ = run(score, start, 40, step=unadjusted, step_size=0.4, num_leapfrog=5)
    assert deviation(wrong, covariance) > 5


def test_a_mass_that_fits_makes_a_narrow_gaussian_easy():
    """A non-symmetric root of the covariance: standard deviations from 0.01 to 1 in long steps."""
    covariance = np.diag(np.geomspace(1e-4, 1, 8)) @ np.ones((8, 8)) * 1e-4 + np.diag(
        np.geomspace(1e-4, 1, 8)
    )
    covariance = 0.5 * (covariance + covariance.T)
    root = jnp.linalg.cholesky(jnp.asarray(covariance))
    score = gaussian_score(jnp.linalg.inv(jnp.asarray(covariance)))
    samples, infos = run(
        score,
        jnp.zeros((2000, 8)),
        20,
        step_size=0.4,
        num_leapfrog=4,
        precondition=lambda x, sigma: root @ x,
    )
    assert float(infos.acceptance.mean()) > 0.9
    assert deviation(samples, covariance) < 5


@pytest.mark.slow
def test_a_fixed_trajectory_resonates_and_jitter_cures_it():
    """Fourier modes on 16 x 16, one of which turns half way round in every trajectory.

    Its magnitude, not its sign, is what it was at the start: here three times too wide.
    """
    ell = np.hypot(*np.meshgrid(np.fft.fftfreq(16, 1 / 16), np.fft.fftfreq(16, 1 / 16)))
    num_leapfrog, step_size = 6, 0.25
    # The leapfrog's own frequency: 2 arcsin(step / 2 std) / step; half a turn at ell = 4.
    resonant_std = step_size / 2 / np.sin(np.pi / num_leapfrog / 2)
    std = jnp.asarray(resonant_std * (5 / (1 + ell)) ** 0.7)

    def score(x, sigma):
        return -jnp.fft.ifft2(jnp.fft.fft2(x) / std**2).real

    num_chains = 48
    start = 3 * jax.random.normal(jax.random.key(2), (num_chains, 16, 16))

    def power(jitter):
        maps, infos = run(
            score, start, 40, step_size=step_size, num_leapfrog=num_leapfrog, jitter=jitter
        )
        modes = jnp.abs(jnp.fft.fft2(maps, norm="ortho")) ** 2 / std[None] ** 2
        return jnp.mean(modes[:, ell == 4]), jnp.mean(infos.acceptance)

    (fixed, jittered), acceptance = jax.vmap(power)(jnp.asarray([0.0, 0.5]))
    error = np.sqrt(2 / num_chains / 4)
    assert float(acceptance.min()) > 0.5
    assert fixed > 1 + 5 * error
    assert abs(jittered - 1) < 4 * error


def test_the_factor_of_the_step():
    """Uniform from 0.8 to 1.2: where there is no force, a trajectory is as long as its step."""

    def factor(key):
        momentum = jax.random.normal(jax.random.split(key, 3)[0], (4,))
        state = hmc.init(jnp.zeros(4), 1.0, lambda x, sigma: 0 * x)
        after, _ = hmc.step(key, state, lambda x, sigma: 0 * x, 0.1, num_leapfrog=2, jitter=0.2)
        return jnp.linalg.norm(after.position) / jnp.linalg.norm(momentum) / 0.2

    found = np.asarray(jax.vmap(factor)(jax.random.split(KEY, 400)))
    assert 0.8 - 1e-6 < found.min() < 0.81 and 1.19 < found.max() < 1.2 + 1e-6
    assert abs(found.mean() - 1) < 4 * 0.4 / np.sqrt(12 * 400)


def test_a_step_takes_the_evaluations_it_says():
    calls = []

    def score(x, sigma):
        calls.append(1)
        return -x

    state = hmc.init(jnp.zeros(3), 1.0, score)
    calls.clear()
    with jax.disable_jit():
        _, info = hmc.step(KEY, state, score, 0.1)
    assert len(calls) == int(info.evaluations) == 6


def test_a_step_that_diverges_is_refused():
    def score(x, sigma):
        return -(x**3) * 1e3

    state = hmc.init(jnp.full(4, 50.0), 1.0, score)
    after, info = jax.jit(lambda key: hmc.step(key, state, score, 10.0, num_leapfrog=8))(KEY)
    assert not bool(info.accepted) and float(info.acceptance) == 0
    assert float(info.energy_error) == np.inf
    np.testing.assert_array_equal(after.position, state.position)


def test_chains_in_both_precisions_with_their_own_level_and_step(dtype):
    """A chain does not feel those beside it; all is in the precision of the position."""
    positions = jax.random.normal(KEY, (3, 5), dtype)
    sigmas, steps = jnp.asarray([0.1, 1, 2], dtype), jnp.asarray([0.01, 0.1, 0.2], dtype)
    keys = jax.random.split(KEY, 3)

    def score(x, sigma):
        return -x / (1 + sigma**2)

    def one(key, position, sigma, step_size):
        return hmc.step(key, hmc.init(position, sigma, score), score, step_size)

    chains = jax.jit(jax.vmap(one))
    states, info = chains(keys, positions, sigmas, steps)
    assert states.position.dtype == info.energy_error.dtype == dtype
    others, _ = chains(keys, positions.at[:2].add(1), 2 * sigmas.at[2].mul(0.5), steps)
    np.testing.assert_array_equal(others.position[2], states.position[2])
    assert not np.allclose(others.position[:2], states.position[:2])
