"""Estimators as the tasks of a survey run them: what they warn of."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain
from jaxmap.estimators import DeepMass, SampledPosterior
from jaxmap.grid import Grid
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.samplers import Diffusion, Gibbs
from jaxmap.survey.cluster import count_warning
from jaxmap.survey.estimates import patch_solver

GRID = Grid((8, 8), 2.0)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data() -> ShearMap:
    """Noise ten times what the weights say."""
    shear = np.random.default_rng(0).normal(scale=0.5, size=(2, *GRID.shape))
    return shear_map(shear[0] + 1j * shear[1], GRID, noise_std=np.full(GRID.shape, 0.05))


@pytest.fixture(scope="module")
def denoiser(spectrum) -> Denoiser:
    """An untrained network, which is the Wiener filter."""
    network = ResidualUNet((4,))
    shapes = jax.eval_shape(lambda key: initialise(network, key, NUM_FEATURES, NUM_CONDITIONS), KEY)
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    return Denoiser(params, spectrum, network)


@pytest.mark.parametrize("method", ["deepmass", pytest.param("gibbs", marks=pytest.mark.slow)])
def test_patches_warn_as_the_estimator_does(denoiser, spectrum, data, caplog, method):
    """Of pixels and noise outside the domain, of residuals, and of chains that have not mixed;
    inside the domain and with the right noise, of nothing."""
    caplog.set_level(logging.WARNING, "jaxmap")

    def estimator(domain: Domain) -> Any:
        if method == "deepmass":
            return DeepMass(denoiser, domain, margin=0)
        return SampledPosterior(spectrum, Gibbs(8, Diffusion(2)), 2, domain, margin=0)

    def said(solve: Any, domain: Domain, shear: ShearMap) -> list[str]:
        caplog.clear()
        solve(estimator(domain), shear)
        return list(caplog.messages)

    def in_patches(one: Any, shear: ShearMap) -> None:
        patch_solver(one, 2, jax.devices()[:1])([KEY], [shear])

    def alone(one: Any, shear: ShearMap) -> None:
        one(KEY, shear)

    outside = Domain(1.0, (0.1, 0.2))
    found = said(in_patches, outside, data)
    assert sorted(found) == sorted(said(alone, outside, data))
    told = ["pixels are 2 arcmin wide", "median noise", "residuals have a chi-squared"]
    told += ["have not mixed"] if method == "gibbs" else []
    assert all(any(each in message for message in found) for each in told), found
    right = shear_map(data.shear, GRID, noise_std=np.full(GRID.shape, 0.5))
    quiet = said(in_patches, Domain(2.0, (0.1, 1.0)), right)
    assert [one for one in quiet if "have not mixed" not in one] == []


def test_warnings_that_differ_in_numbers_alone_are_counted_together():
    counted: dict[str, int] = {}
    for text in ("a residual of 1.2e-04", "other", "a residual of 3e-3", "a residual of 1.2e-04"):
        count_warning(counted, text)
    assert counted == {"a residual of 1.2e-04": 3, "other": 1}
