"""The Gaussian likelihood and the Gaussian prior against dense algebra."""

from dataclasses import FrozenInstanceError

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import dense

from jaxmap.likelihood import (
    ShearLikelihood,
    apply_weight,
    draw_noise,
    noise_std,
    weighted_mean,
)
from jaxmap.operators import reduced_shear, shear_from_convergence


def dense_shear_operator(grid):
    """A as a real matrix: stacked real and imaginary parts of the shear of a real map."""

    def operator(flat):
        shear = shear_from_convergence(flat.reshape(grid.shape), grid).ravel()
        return jnp.concatenate([shear.real, shear.imag])

    return dense(operator, grid.num_pixels)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_log_prob_and_score_match_dense_algebra(masked_case, sigma):
    truth, data, _ = masked_case
    matrix = dense_shear_operator(data.grid)
    weight = (data.weight / (1 + sigma**2 * data.weight)).ravel()
    residual = jnp.concatenate([data.shear.real.ravel(), data.shear.imag.ravel()])
    residual = residual - matrix @ truth.ravel()
    likelihood = ShearLikelihood(data)
    expected = -0.5 * jnp.sum(weight * residual**2)
    assert likelihood.log_prob(truth, sigma) == pytest.approx(float(expected), rel=1e-12)
    score = (matrix.T @ (weight * residual)).reshape(data.grid.shape)
    np.testing.assert_allclose(likelihood.score(truth, sigma), score, rtol=1e-10, atol=1e-9)


def test_annealing_is_the_convolved_likelihood_for_homogeneous_noise(masked_case):
    """For noise s everywhere it is the likelihood of noise s^2 + sigma^2."""
    from dataclasses import replace

    truth, data, _ = masked_case
    std, sigma = 0.03, 0.04
    even = replace(data, weight=jnp.full_like(data.weight, std**-2))
    wider = replace(data, weight=jnp.full_like(data.weight, 1 / (std**2 + sigma**2)))
    annealed = ShearLikelihood(even).log_prob(truth, sigma)
    assert annealed == pytest.approx(float(ShearLikelihood(wider).log_prob(truth)), rel=1e-12)


def test_masked_pixels_drop_out_exactly(masked_case):
    from dataclasses import replace

    truth, data, _ = masked_case
    garbage = jnp.where(data.mask, data.shear, 1e6)
    spoiled = ShearLikelihood(replace(data, shear=garbage))
    assert spoiled.log_prob(truth) == ShearLikelihood(data).log_prob(truth)
    np.testing.assert_array_equal(spoiled.score(truth), ShearLikelihood(data).score(truth))


def test_complex_convergence_gets_a_complex_score(masked_case):
    """The score moves a complex (E + iB) map uphill in both parts."""
    truth, data, _ = masked_case
    likelihood = ShearLikelihood(data)
    field = truth + 0.01j * truth[::-1]
    score = likelihood.score(field)
    for direction in (truth, 1j * truth):
        step = 1e-6
        rise = likelihood.log_prob(field + step * direction) - likelihood.log_prob(
            field - step * direction
        )
        expected = jnp.sum((score.conj() * direction).real)
        assert rise / (2 * step) == pytest.approx(float(expected), rel=1e-5)


def test_reduced_shear_likelihood_differentiates(masked_case):
    truth, data, _ = masked_case
    likelihood = ShearLikelihood(data, forward=reduced_shear)
    score = likelihood.score(truth)
    direction, step = jnp.roll(truth, 3, 0), 1e-6
    rise = likelihood.log_prob(truth + step * direction) - likelihood.log_prob(
        truth - step * direction
    )
    assert rise / (2 * step) == pytest.approx(float(jnp.sum(score * direction)), rel=1e-5)


def test_likelihood_traces_once_and_batches(masked_case):
    """Likelihoods are pytrees: passed to jit as arguments, new data means no new trace."""
    truth, data, _ = masked_case
    traces = []

    @jax.jit
    def score(likelihood, field):
        traces.append(None)
        return likelihood.score(field, 0.1)

    first = score(ShearLikelihood(data), truth)
    score(ShearLikelihood(jax.tree.map(lambda a: 2 * a, data)), truth)
    assert len(traces) == 1
    batch = jax.vmap(lambda field: ShearLikelihood(data).score(field, 0.1))(truth[None])
    np.testing.assert_allclose(batch[0], first, atol=1e-10)


def test_prior_score_is_the_gradient_of_its_density(masked_case):
    truth, _, prior = masked_case
    for sigma in (0.0, 0.02):
        gradient = jax.grad(prior.log_prob)(truth, sigma)
        np.testing.assert_allclose(prior.score(truth, sigma), gradient, rtol=1e-8, atol=1e-8)


def test_prior_leaves_the_mean_free(masked_case):
    truth, _, prior = masked_case
    assert abs(float(prior.score(truth, 0.1).mean())) < 1e-12
    shifted = prior.denoise(truth + 5.0, 0.1) - prior.denoise(truth, 0.1)
    np.testing.assert_allclose(shifted, 5.0, atol=1e-10)


def test_prior_draws_have_its_spectrum(masked_case):
    """Mean power per mode within 5 standard errors (4 000 draws); 5 % more power must fail."""
    _, _, prior = masked_case
    num = 4000
    draws = jax.vmap(prior.sample)(jax.random.split(jax.random.key(0), num))
    power = jnp.mean(jnp.abs(jnp.fft.fft2(draws, norm="ortho")) ** 2, axis=0)
    ratio = (power / prior.variance).at[0, 0].set(1.0)
    # A real mode scatters by sqrt(2/num), a complex one by sqrt(1/num); their mean far less.
    assert jnp.abs(ratio - 1).max() < 5 * np.sqrt(2 / num)
    error = np.sqrt(2 / num / ratio.size)
    assert abs(ratio.mean() - 1) < 4 * error < abs(1.05 * ratio.mean() - 1)


def test_each_component_has_its_weight():
    """Found by a mutant that divided the second one (``experiments/mutation.py``)."""
    rng = np.random.default_rng(0)
    weight, parts = rng.uniform(1, 3, (2, 4, 5)), rng.normal(size=(2, 4, 5))
    found = apply_weight(jnp.asarray(weight), jnp.asarray(parts[0] + 1j * parts[1]))
    np.testing.assert_allclose(found.real, weight[0] * parts[0], rtol=1e-6)
    np.testing.assert_allclose(found.imag, weight[1] * parts[1], rtol=1e-6)


def unequal_weights():
    """Of 4 x 5 pixels, other ones for either component, with a masked row."""
    weight = np.random.default_rng(1).uniform(0.5, 30, (2, 4, 5))
    weight[:, 2] = 0
    return weight


def test_noise_is_that_of_the_weights():
    weight = unequal_weights()
    std = noise_std(jnp.asarray(weight))
    np.testing.assert_allclose(std[weight > 0], weight[weight > 0] ** -0.5, rtol=1e-6)
    assert not np.any(np.asarray(std)[:, 2])
    key = jax.random.key(0)
    noise = draw_noise(key, jnp.asarray(weight))
    white = np.asarray(jax.random.normal(key, weight.shape))
    np.testing.assert_allclose(noise.real, white[0] * std[0], rtol=1e-6)
    np.testing.assert_allclose(noise.imag, white[1] * std[1], rtol=1e-6)


def test_weighted_mean_is_that_of_each_component():
    weight, parts = unequal_weights(), np.random.default_rng(2).normal(size=(2, 4, 5))
    weight[1] /= 100
    found = weighted_mean(jnp.asarray(weight), jnp.asarray(parts[0] + 1j * parts[1]))
    expected = np.average(parts.reshape(2, -1), axis=1, weights=weight.reshape(2, -1))
    np.testing.assert_allclose([found.real, found.imag], expected, rtol=1e-6)
    weight[0] = 0
    found = weighted_mean(jnp.asarray(weight), jnp.asarray(parts[0] + 1j * parts[1]))
    np.testing.assert_allclose([found.real, found.imag], [0, expected[1]], rtol=1e-6)


def test_a_likelihood_cannot_be_changed(masked_case):
    """Functions compiled for it would not know."""
    likelihood = ShearLikelihood(masked_case[1])
    with pytest.raises(FrozenInstanceError):
        likelihood.data = masked_case[1]
