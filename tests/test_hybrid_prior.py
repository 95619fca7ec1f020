"""Learned priors: exactly Gaussian before training, and a denoiser is a prior."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import simulated_data
from test_score_network import SMALL, fresh, perturbed

from jaxmap.catalog import shear_map
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser, denoise_shear
from jaxmap.denoiser_files import read_denoiser
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import DenoiserPrior, HybridPrior
from jaxmap.networks.score_unet import residual_score
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior, Prior
from jaxmap.sampling.probability_flow import flow_to_zero
from jaxmap.spectra import mode_variance

GRID = Grid((16, 24), 1.0)
LEVELS = (0.005, 0.05, 0.5)
SLOW_LEVELS = [pytest.param(level, marks=pytest.mark.slow) for level in LEVELS[:-1]]
NETWORK = ResidualUNet(channels=(4, 4), embedding=4)
score_of = jax.jit(lambda prior, x, sigma: prior.score(x, sigma))
denoised_by = jax.jit(lambda prior, x, sigma: prior.denoise(x, sigma))
shear_denoised_by = jax.jit(denoise_shear)


def in_precision(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


@pytest.fixture(scope="module")
def hybrid(spectrum):
    return HybridPrior(GaussianPrior(mode_variance(spectrum, GRID)), fresh(), SMALL)


@pytest.fixture(scope="module")
def denoiser(spectrum):
    params = initialise(NETWORK, jax.random.key(0), NUM_FEATURES, NUM_CONDITIONS)
    return Denoiser(params, spectrum, NETWORK, iterations=60)


def noisy_map(prior, sigma, dtype=float):
    """A map with noise, and with a mean, of which no prior here knows anything."""
    white = jax.random.normal(jax.random.key(2), GRID.shape)
    return jnp.asarray(prior.sample(jax.random.key(1)) + sigma * white + 0.1, dtype)


@pytest.mark.parametrize("sigma", [LEVELS[-1], *SLOW_LEVELS])
def test_untrained_priors_are_gaussian(hybrid, denoiser, sigma, dtype):
    gaussian = in_precision(hybrid.gaussian, dtype)
    x = noisy_map(gaussian, sigma, dtype)
    expected = gaussian.score(x, sigma)
    tolerance = 1e-6 if dtype == np.float64 else 1e-4
    priors: list[Prior] = [in_precision(hybrid, dtype)]
    priors.append(DenoiserPrior(in_precision(denoiser, dtype), GRID))
    for prior in priors:
        found = score_of(prior, x, sigma)
        assert found.dtype == dtype
        assert jnp.linalg.norm(found - expected) < tolerance * jnp.linalg.norm(expected)
        np.testing.assert_allclose(
            denoised_by(prior, x, sigma), x + sigma**2 * found, atol=tolerance
        )


def test_hybrid_score_is_the_sum_of_its_parts(hybrid):
    """Eq. 23, with the network told what Gaussian denoising adds."""
    sigma = 0.05
    trained = replace(hybrid, params=perturbed(hybrid.params))
    x = noisy_map(hybrid.gaussian, sigma)
    gaussian = hybrid.gaussian.score(x, sigma)
    increment = hybrid.gaussian.denoise(x, sigma) - x
    residual = jax.jit(residual_score, static_argnums=0)(SMALL, trained.params, x, increment, sigma)
    assert np.abs(residual).max() > 0.1
    np.testing.assert_allclose(
        score_of(trained, x, sigma), gaussian + residual, rtol=1e-10, atol=1e-9
    )


@pytest.mark.parametrize("sigma", [LEVELS[-1], *SLOW_LEVELS])
def test_score_of_a_denoiser(denoiser, sigma):
    r""":math:`(D(t) - x)/\sigma^2` with D of the shear map that x is, at even noise."""
    trained = replace(denoiser, params=perturbed(denoiser.params, 0.05))
    prior = DenoiserPrior(trained, GRID)
    x = noisy_map(GaussianPrior(mode_variance(denoiser.spectrum, GRID)), sigma)
    x = x - jnp.mean(x)
    data = shear_map(shear_from_convergence(x, GRID), GRID, weight=np.full(GRID.shape, sigma**-2))
    result = shear_denoised_by(trained, data)
    assert np.abs((result.mean - result.wiener) / result.scale).max() > 0.01
    expected = (result.mean - jnp.mean(result.mean) - x) / sigma**2
    np.testing.assert_allclose(
        score_of(prior, x, sigma), expected, atol=1e-9 * np.abs(expected).max()
    )


def test_the_mean_is_free(denoiser):
    """As in the Gaussian prior: a constant changes no score and comes through denoising."""
    prior = DenoiserPrior(replace(denoiser, params=perturbed(denoiser.params, 0.05)), GRID)
    x = noisy_map(GaussianPrior(mode_variance(denoiser.spectrum, GRID)), 0.1)
    score, denoised = score_of(prior, x, 0.1), denoised_by(prior, x, 0.1)
    np.testing.assert_allclose(denoised, x + 0.1**2 * score, atol=1e-12)
    np.testing.assert_allclose(score_of(prior, x + 3, 0.1), score, atol=1e-9)
    assert abs(float(jnp.mean(score))) < 1e-10 * float(jnp.abs(score).max())
    np.testing.assert_allclose(denoised_by(prior, x + 3, 0.1), denoised + 3, atol=1e-10)


def test_untrained_denoiser_is_the_exact_wiener_filter(denoiser, spectrum):
    """To 1e-5, with its solver left to converge; a network that does something is not."""
    prior = GaussianPrior(mode_variance(spectrum, GRID))
    data = simulated_data(jax.random.key(2), prior.sample(jax.random.key(1)), GRID)
    exact, _ = solve_conjugate_gradient(data, prior, tolerance=1e-8)

    def error(denoiser):
        mean = shear_denoised_by(denoiser, data).mean
        return float(jnp.linalg.norm(mean - exact) / jnp.linalg.norm(exact))

    assert error(denoiser) < 1e-5
    assert error(replace(denoiser, params=perturbed(denoiser.params, 0.05))) > 1e-3


@pytest.mark.slow
def test_a_batch_of_maps_and_levels(hybrid, denoiser):
    """As samplers of many chains ask for them."""
    levels = jnp.asarray([0.02, 0.2])
    maps = jnp.stack([noisy_map(hybrid.gaussian, 0.02), noisy_map(hybrid.gaussian, 0.2)])
    for prior in (
        replace(hybrid, params=perturbed(hybrid.params)),
        DenoiserPrior(replace(denoiser, params=perturbed(denoiser.params, 0.05)), GRID),
    ):
        together = jax.jit(jax.vmap(prior.score))(maps, levels)
        for row in range(2):
            alone = score_of(prior, maps[row], levels[row])
            scale = float(jnp.abs(alone).max())
            np.testing.assert_allclose(together[row], alone, atol=1e-8 * scale)


@pytest.mark.release
def test_the_flow_to_zero_noise_stays_where_the_shipped_prior_was_trained():
    """Its levels go far below the training's. There the network is as good as random (the control,
    which asks for them, leaves the sky)."""
    denoiser, domain, _ = read_denoiser()
    grid = Grid((32, 32), domain.pixel_arcmin)
    key_sky, key_white = jax.random.split(jax.random.key(0))
    sky = GaussianPrior(mode_variance(denoiser.spectrum, grid)).sample(key_sky)
    start = sky + 0.02 * jax.random.normal(key_white, sky.shape)
    prior = DenoiserPrior(denoiser, grid)
    found, wild = (
        flow_to_zero(start, jnp.asarray(0.02, start.dtype), each.score)
        for each in (prior, replace(prior, least=1e-9))
    )
    assert float(jnp.std(found)) < float(jnp.std(start))
    assert not float(jnp.std(wild)) < 10 * float(jnp.std(start))
    lowest = prior.score(start, 1e-5)
    np.testing.assert_allclose(lowest, prior.score(start, prior.least), rtol=1e-6)
