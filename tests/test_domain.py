"""Learned estimators say when data are not as in their training: scale, noise, power, residuals."""

from __future__ import annotations

import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.cluster_network import NOISE as DEPTH
from jaxmap.cluster_network import PIXEL_ARCMIN, ClusterNetwork
from jaxmap.cosmology import convergence_power
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain, warn_of_residuals, warn_of_spectrum
from jaxmap.estimators import DeepMass, HongCNN, MaximumPosterior, SampledPosterior
from jaxmap.grid import Grid
from jaxmap.hybrid_prior_files import write_hybrid_prior
from jaxmap.matter_power import PLANCK18
from jaxmap.methods import build_estimator
from jaxmap.networks.hong import HongNetwork, initialise_hong
from jaxmap.networks.score_unet import ScoreUNet, initialise_score
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.redshifts import redshift_distribution
from jaxmap.samplers import Diffusion
from jaxmap.simulation.baryons import TNG_BARYONS, Baryons
from jaxmap.simulation.cluster_fields import ClusterSky, ClusterSurvey, draw_cluster_galaxies
from jaxmap.simulation.expected import light_cone_power
from jaxmap.spectra import PowerSpectrum, mode_variance

SHAPE, PIXEL, NOISE = (24, 24), 1.0, 0.05
KEY = jax.random.key(0)
DOMAIN = Domain(PIXEL, (0.03, 0.1))


@pytest.fixture(scope="module")
def denoiser(spectrum: PowerSpectrum) -> Denoiser:
    """Before training, which is the Wiener filter for its spectrum, exactly the right mean here."""
    network = ResidualUNet(channels=(4,), blocks=1, embedding=4, half=False)
    shapes = jax.eval_shape(lambda key: initialise(network, key, NUM_FEATURES, NUM_CONDITIONS), KEY)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    return Denoiser(zeros, spectrum, network)


def field(
    spectrum: PowerSpectrum, pixel: float = PIXEL, noise: float = NOISE, told: float | None = None
) -> ShearMap:
    """A periodic field of that power and noise; ``told``, the noise that its weights tell of."""
    grid = Grid(SHAPE, pixel)
    truth = GaussianPrior(mode_variance(spectrum, grid)).sample(jax.random.key(1))
    white = noise * np.random.default_rng(2).normal(size=(2, *SHAPE))
    shear = np.asarray(shear_from_convergence(truth, grid)) + white[0] + 1j * white[1]
    return shear_map(shear, grid, noise_std=np.full(SHAPE, noise if told is None else told))


def said(caplog: pytest.LogCaptureFixture, denoiser: Denoiser, data: ShearMap) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        DeepMass(denoiser, DOMAIN, margin=0)(KEY, data)
    mean = caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        SampledPosterior(denoiser, Diffusion(4), 2, DOMAIN, margin=0, chunk=2)(KEY, data)
    return mean + caplog.text


@pytest.mark.slow
def test_data_of_the_training_pass(caplog, denoiser, spectrum):
    assert said(caplog, denoiser, field(spectrum)) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel": 2.0}, ["pixels are 2 arcmin wide", "--pixel-arcmin 1"]),
        ({"noise": 0.3}, ["noise of a pixel is 0.3", "--method wiener"]),
        ({"noise": 0.08, "told": 0.05}, ["larger than the weights say", "--shape-noise"]),
        (
            {"noise": 0.04, "told": 0.08},
            ["smaller than the weights say", "check them"],
        ),
    ],
)
def test_other_surveys_are_told(caplog, denoiser, spectrum, changes, words):
    text = said(caplog, denoiser, field(spectrum, **changes))
    assert all(word in text for word in words), text


@pytest.mark.slow
def test_a_sky_of_more_structure_is_told_by_its_residuals(caplog, denoiser, spectrum):
    """Thirty times the power: the trained prior smooths away what is there."""
    violent = replace(spectrum, c_ell=30 * spectrum.c_ell)
    text = said(caplog, denoiser, field(violent))
    assert "sky is not as the network's training maps" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sigma8", "z", "told"), [(PLANCK18.sigma8, 1.0, False), (0.6, 1.0, True), (None, 0.4, True)]
)
def test_another_cosmology_or_depth_is_told(caplog, sigma8, z, told):
    trained = convergence_power(redshift_distribution(1.0))
    cosmology = replace(PLANCK18, sigma8=sigma8 or PLANCK18.sigma8)
    with caplog.at_level(logging.WARNING):
        warn_of_spectrum(trained, convergence_power(redshift_distribution(z), cosmology))
    assert ("power spectrum for this n(z) and cosmology" in caplog.text) == told


@pytest.mark.parametrize("baryons", [Baryons(), TNG_BARYONS, None])
def test_the_own_redshifts_of_a_training_pass(baryons, caplog):
    """Its maps lack the power that baryons and pixels take on small scales, up to a third."""
    redshifts = redshift_distribution(1.0)
    trained, whole = light_cone_power(0.5, redshifts, baryons=baryons), convergence_power(redshifts)
    if baryons is not None:
        assert trained(5000.0) < 0.9 * whole(5000.0)
    with caplog.at_level(logging.WARNING):
        warn_of_spectrum(trained, whole)
    assert caplog.text == ""


def test_residuals_of_few_pixels_tell_nothing(caplog):
    warn_of_residuals(1.9, 20, samples=True)
    warn_of_residuals(0.3, 10_000, samples=False)  # a mean fits part of the noise
    assert caplog.text == ""
    warn_of_residuals(1.9, 10_000, samples=False)
    assert "chi-squared of 1.9" in caplog.text


@pytest.mark.slow
def test_the_most_probable_map_tells_its_residuals(caplog, denoiser, spectrum):
    estimator = MaximumPosterior(denoiser, DOMAIN, margin=0, num_levels=4)
    with caplog.at_level(logging.WARNING):
        estimator(KEY, field(spectrum))
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        estimator(KEY, field(spectrum, noise=0.08, told=0.05))
    assert "larger than the weights say" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "told", "words"),
    [
        (1.0, 1.0, None),
        (2.0, 2.0, "shear noise of a square arcminute is 0.102"),
        (1.3, 1.0, "larger than the weights say"),
    ],
)
def test_networks_for_clusters_tell_depth_and_residuals(caplog, noise, told, words):
    """In units of the noise of a pixel at the depth of the training; no lens."""
    grid, network = Grid((64, 64), PIXEL_ARCMIN), HongNetwork(width=3)
    model = ClusterNetwork(initialise_hong(network, KEY), jnp.asarray(0.01), network, side=101)
    pixel_noise = DEPTH / PIXEL_ARCMIN
    white = noise * pixel_noise * np.random.default_rng(3).normal(size=(2, *grid.shape))
    std = np.full(grid.shape, told * pixel_noise)
    with caplog.at_level(logging.WARNING):
        HongCNN((model,))(KEY, shear_map(white[0] + 1j * white[1], grid, noise_std=std))
    assert caplog.text == "" if words is None else words in caplog.text


def test_the_depth_of_networks_for_clusters_is_that_of_their_training():
    sky = ClusterSky(jnp.zeros((4, 4)), jnp.zeros((4, 4), complex), 10.0)
    survey = ClusterSurvey()
    weight = draw_cluster_galaxies(KEY, sky, survey).weight
    noise = survey.field_arcmin / np.sqrt(weight.sum())
    assert abs(noise / DEPTH - 1) < 0.01


def test_the_published_prior_tells_of_other_power(caplog, tmp_path, spectrum):
    network = ScoreUNet((4,), 1)
    path = tmp_path / "hybrid.npz"
    shapes = jax.eval_shape(lambda key: initialise_score(network, key), KEY)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
    write_hybrid_prior(path, params, network, spectrum, PIXEL, {})
    chosen = {"weights": path, "sampler": "hmc"}
    with caplog.at_level(logging.WARNING):
        estimator = build_estimator("dlposterior", spectrum, **chosen)
    assert caplog.text == "" and estimator.domain.pixel_arcmin == PIXEL
    with caplog.at_level(logging.WARNING):
        build_estimator("dlposterior", replace(spectrum, c_ell=2 * spectrum.c_ell), **chosen)
    assert "is 2.00 to 2.00 times the one that the network was trained on" in caplog.text


@pytest.mark.slow
def test_the_shipped_network_tells_of_another_sky_and_survey(caplog):
    """Fields drawn with the power of a cosmology, and mapped as `jaxmap map` would."""
    power = convergence_power()
    with caplog.at_level(logging.WARNING):
        build_estimator("deepmass", power, margin=0)(KEY, field(power, 0.29, 0.2))
    assert caplog.text == ""
    power = convergence_power(None, replace(PLANCK18, sigma8=0.5))
    with caplog.at_level(logging.WARNING):
        build_estimator("deepmass", power, margin=0)(KEY, field(power, 0.29, 1.0))
    assert "power spectrum for this n(z)" in caplog.text and "noise of a pixel" in caplog.text
