"""DeepMass with the denoiser: any field size and margin, and a word of warning where one is due."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain, warn_of_spectrum, warn_outside
from jaxmap.estimators import Wiener
from jaxmap.estimators.deepmass import DeepMass
from jaxmap.estimators.finite_field import default_margin
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.spectra import PowerSpectrum

NETWORK = ResidualUNet((4,))
GRID = Grid((15, 10), 1.0)
KEY = jax.random.key(0)
PRECISELY = partial(solve_conjugate_gradient, tolerance=1e-12)


@pytest.fixture(scope="module")
def denoiser(spectrum) -> Denoiser:
    """A network of one level with some parameters, none of them zero."""
    shapes = jax.eval_shape(lambda key: initialise(NETWORK, key, NUM_FEATURES, NUM_CONDITIONS), KEY)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=0.1, size=leaf.shape)), shapes)
    return Denoiser(params, spectrum, NETWORK, iterations=100)


@pytest.fixture(scope="module")
def data() -> ShearMap:
    rng = np.random.default_rng(1)
    shear = rng.normal(scale=0.05, size=(2, *GRID.shape))
    std = np.where(rng.random(GRID.shape) < 0.2, 0, 0.05)
    return shear_map(shear[0] + 1j * shear[1], GRID, noise_std=std)


@pytest.mark.parametrize("margin", [None, 0])
def test_untrained_is_wiener_with_the_same_margin(denoiser, data, spectrum, margin):
    untrained = replace(denoiser, params=jax.tree.map(jnp.zeros_like, denoiser.params))
    expected = Wiener(spectrum, num_samples=0, margin=margin, solver=PRECISELY)(KEY, data)
    found = DeepMass(untrained, margin=margin)(KEY, data)
    np.testing.assert_allclose(found.convergence, expected.convergence, atol=1e-9)
    np.testing.assert_allclose(found.b_mode, expected.b_mode, atol=1e-9)
    np.testing.assert_array_equal(found.mask, data.mask)
    learned = DeepMass(denoiser, margin=margin)(jax.random.key(7), data)
    assert learned.convergence.shape == learned.std.shape == data.grid.shape
    assert learned.grid == data.grid and float(learned.std.min()) > 0
    assert float(jnp.abs(learned.convergence - found.convergence).max()) > 1e-3
    # The network has no part in the B modes.
    np.testing.assert_allclose(learned.b_mode, found.b_mode, atol=1e-12)


def test_margin_is_the_default_one(denoiser, data):
    default = DeepMass(denoiser)(KEY, data)
    named = DeepMass(denoiser, margin=default_margin(GRID.shape))(KEY, data)
    np.testing.assert_array_equal(default.convergence, named.convergence)
    with pytest.raises(ValueError, match="margin is -1 pixels; expected 0"):
        DeepMass(denoiser, margin=-1)(KEY, data)


def test_maps_that_overflow_are_refused(denoiser, data):
    with pytest.raises(FloatingPointError, match=r"the map is not finite.*units of the noise"):
        DeepMass(denoiser, margin=0)(KEY, replace(data, shear=1e200 * data.shear))


def said(caplog: pytest.LogCaptureFixture) -> str:
    text = "\n".join(caplog.messages)
    caplog.clear()
    return text


def test_warnings_outside_the_domain(denoiser, data, caplog):
    """The noise of every observed pixel is 0.05, and pixels are 1 arcmin wide."""
    caplog.set_level(logging.WARNING)
    DeepMass(denoiser, Domain(1.0, (0.04, 0.06)), margin=0)(KEY, data)
    assert said(caplog) == ""
    DeepMass(denoiser, Domain(0.9, (0.1, 0.2)), margin=0)(KEY, data)
    text = said(caplog)
    assert "pixels are 1 arcmin wide, the network was trained on 0.9" in text
    assert "median noise of a pixel is 0.05, outside the 0.1 to 0.2" in text
    warn_outside(Domain(1.04, (0.01, 0.04)), data)
    assert said(caplog).count("outside") == 1
    warn_outside(Domain(1.0, (0.1, 0.2)), replace(data, weight=0 * data.weight))
    assert said(caplog) == ""


def test_warning_of_another_spectrum(denoiser, spectrum, caplog):
    caplog.set_level(logging.WARNING)
    for factor, warned in ((1.0, False), (1.15, False), (1.3, True), (0.7, True)):
        warn_of_spectrum(denoiser.spectrum, PowerSpectrum(spectrum.ell, factor * spectrum.c_ell))
        text = said(caplog)
        assert (f"{factor:.2f} to {factor:.2f} times" in text) == warned == bool(text)
