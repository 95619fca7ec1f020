"""The regulariser of a conditional GAN: its minimum is the posterior, and the reward finds it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.networks.critic import Critic, initialise_critic, judge
from jaxmap.training.gan_losses import (
    critic_terms,
    gaussian_reward,
    generator_terms,
    largest_reward,
    steepest_slope,
    tuned_reward,
)


def test_terms_are_their_formulas():
    rng = np.random.default_rng(0)
    truth, samples = rng.normal(size=(4, 5)), rng.normal(size=(3, 4, 5))
    terms = generator_terms(lambda image: jnp.sum(image), jnp.asarray(truth), jnp.asarray(samples))
    mean = samples.mean(axis=0)
    spread = math.sqrt(math.pi / (2 * 3 * 2)) * sum(np.abs(s - mean).mean() for s in samples)
    np.testing.assert_allclose(terms.spread, spread)
    np.testing.assert_allclose(terms.absolute, np.abs(truth - mean).mean())
    np.testing.assert_allclose(terms.value, samples.sum(axis=(1, 2)).mean())


@pytest.mark.parametrize("number", [2, 8])
def test_spread_estimates_the_standard_deviation(number):
    """Of Gaussian samples without bias, to 4 standard errors; a plain rms of residuals is not."""
    samples = 0.7 * jax.random.normal(jax.random.key(number), (number, 200, 200))
    judge = jnp.mean
    spread = float(generator_terms(judge, jnp.zeros((200, 200)), samples).spread)
    error = 0.7 * math.sqrt(math.pi / 2 - 1) / math.sqrt(number * 200**2 / 2)
    assert abs(spread - 0.7) < 4 * error
    rms = float(jnp.sqrt(jnp.mean((samples - samples.mean(axis=0, keepdims=True)) ** 2)))
    assert abs(rms - 0.7) > 4 * error


def expected_loss(mean, std, number, reward):
    """Of samples N(mean, std^2) where the posterior is N(0.3, 0.5^2): a folded normal."""
    offset, variance = 0.3 - mean, 0.5**2 + std**2 / number
    folded = math.sqrt(2 * variance / math.pi) * math.exp(-(offset**2) / (2 * variance))
    folded += offset * math.erf(offset / math.sqrt(2 * variance))
    return folded - reward * gaussian_reward(number) * std


@pytest.mark.parametrize("number", [2, 5])
def test_the_minimum_is_the_posterior(number):
    """For the Gaussian reward and no other: without one the samples collapse."""
    means, stds = np.linspace(0, 0.6, 61), np.linspace(0, 2, 201)

    def minimum(reward):
        table = [[expected_loss(m, s, number, reward) for s in stds] for m in means]
        row, column = np.unravel_index(np.argmin(table), (len(means), len(stds)))
        return means[row], stds[column]

    np.testing.assert_allclose(minimum(1.0), (0.3, 0.5), atol=1e-9)
    np.testing.assert_allclose(minimum(0.0), (0.3, 0.0), atol=1e-9)
    assert minimum(0.5)[1] < 0.3 and minimum(1.2)[1] > 0.6
    # Above the largest reward there is no minimum: wider is always better.
    for factor, grows in ((0.98, True), (1.02, False)):
        reward = factor * largest_reward(number)
        far, farther = (expected_loss(0.3, std, number, reward) for std in (1e3, 1e4))
        assert (farther > far) == grows


def test_the_reward_follows_the_errors():
    """Exact samples leave it alone; the update of too narrow and too wide ones is known."""
    number, rate = 8, 0.05
    exact = 2 * number / (number + 1)

    def tuned(ratio, reward=1.0):
        values = (jnp.asarray(value) for value in (reward, ratio, 1.0))
        return float(tuned_reward(*values, number, rate, largest_reward(2)))

    np.testing.assert_allclose(tuned(exact), 1.0)
    np.testing.assert_allclose(tuned(1.0), 1 + rate * 10 * math.log10(exact))
    np.testing.assert_allclose(tuned(2 * exact), 1 - rate * 10 * math.log10(2))
    assert tuned(1e30, 0.1) == 0 and tuned(1e-30, 1.7) == pytest.approx(math.sqrt(3))
    assert tuned(math.nan) == 1.0


def test_errors_of_exact_samples_have_the_ratio():
    """E_1 / E_P is 2P / (P + 1) where truth and samples are alike, to 4 standard errors."""
    number, fields = 8, 40_000
    keys = jax.random.split(jax.random.key(0))
    truth = jax.random.normal(keys[0], (fields,))
    samples = jax.random.normal(keys[1], (number, fields))
    single = (samples[0] - truth) ** 2
    averaged = (samples.mean(axis=0) - truth) ** 2
    expected = 2 * number / (number + 1)
    difference = np.asarray(single - expected * averaged)
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(fields)


@pytest.mark.parametrize("slope", [0.0, 0.4, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic(slope):
    """Of slope times the mean: Lipschitz by the slope in the rms over pixels, whatever their
    number."""
    rng = np.random.default_rng(1)
    for shape in ((6, 6), (13, 7)):
        truth, sample = (jnp.asarray(rng.normal(size=shape)) for _ in range(2))
        terms = critic_terms(lambda x: slope * jnp.mean(x), truth, sample, jnp.asarray(0.3))
        np.testing.assert_allclose(terms.penalty, (slope - 1) ** 2, atol=1e-5)
        np.testing.assert_allclose(terms.distance, slope * jnp.mean(truth - sample), atol=1e-12)
        np.testing.assert_allclose(terms.drift, (slope * jnp.mean(truth)) ** 2)


@pytest.mark.slow
def test_the_steepest_slope_moves_with_the_critic_as_its_norm_does():
    """Its derivative by the parameters is that of the gradient's norm, taken backwards twice."""
    network = Critic((4, 8))
    params = initialise_critic(network, jax.random.key(0), 1)
    image, told = jax.random.normal(jax.random.key(1), (2, 8, 12))

    def of(params):
        return lambda image: judge(network, params, image, told[..., None])

    def norm(params):
        return jnp.sqrt(jnp.sum(jax.grad(of(params))(image) ** 2))

    value, gradient = jax.value_and_grad(lambda params: steepest_slope(of(params), image))(params)
    expected, wanted = jax.value_and_grad(norm)(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(wanted))
    assert largest > 1e-3
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * largest)
