"""The embedded default of ``jaxmap demo``: a simulated survey and how well its map recovers it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.diagnostics import std_over_error
from jaxmap.estimators import Estimator
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.metrics import accuracy_observed
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts, redshift_distribution
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.expected import light_cone_power
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.simulation.masks import Stars
from jaxmap.simulation.survey import MockSurvey, observe
from jaxmap.spectra import PowerSpectrum

PIXEL_ARCMIN = 0.29
FIELD = Grid((160, 160), PIXEL_ARCMIN, (150.0, 2.2))
"""The surveyed field, 46 arcmin across, in the pixels of the shipped network."""

MARGIN = 48
"""Pixels around it whose mass shears galaxies inside."""

SURVEY = MockSurvey(
    density_arcmin2=60.0, shape_noise=0.3, stars=Stars(density_arcmin2=0.008, radius_arcmin=(1, 3))
)
"""As deep as COSMOS, seen from space, with some 15 holes around bright stars."""


class Demo(NamedTuple):
    """A map, the truth, the catalogue and binned shear it was made from, and a verdict in words."""

    result: MassMap
    truth: jax.Array
    catalog: ShearCatalog
    shear: ShearMap
    verdict: str


def sky_redshifts() -> RedshiftDistribution:
    """Sources of the simulated survey, those of the shipped network: COSMOS's, stretched."""
    redshifts = cosmos_redshifts()
    return redshift_distribution(1.05 * np.asarray(redshifts.z), redshifts.density)


def sky_power() -> PowerSpectrum:
    """Power spectrum of the simulated convergence."""
    return light_cone_power(PIXEL_ARCMIN, sky_redshifts(), baryons=TNG_BARYONS)


def demo(key: jax.Array, estimator: Estimator) -> Demo:
    """Simulate a survey, map it, and compare with the truth.

    Args:
        key: PRNG key.
        estimator: makes the map.
    """
    key_field, key_survey, key_map = jax.random.split(key, 3)
    sky = FIELD.padded(MARGIN)
    cone = build_light_cone(sky, sky_redshifts(), baryons=TNG_BARYONS)
    convergence = jax.jit(halo_light_cone, static_argnums=2)(key_field, cone, cone.grid)
    catalog = observe(key_survey, convergence, sky, SURVEY, FIELD)
    shear = bin_shear(catalog, FIELD)
    result = estimator(key_map, shear)
    truth = convergence[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return Demo(result, truth, catalog, shear, _verdict(result, truth))


def _verdict(result: MassMap, truth: jax.Array) -> str:
    accuracy = accuracy_observed(result.convergence, truth, result.mask)
    text = (
        f"Against the truth: rms error {float(accuracy.rmse):.4f} (truth rms "
        f"{float(jnp.std(truth)):.4f}), correlation {float(accuracy.r):.3f}."
    )
    if result.samples is None or len(result.samples) < 5:
        return text
    ratio = float(std_over_error(result.samples, truth, result.mask))
    inside, nominal = _coverage(result, truth)
    return (
        f"{text}\nQuoted error over actual error: {ratio:.3f} (calibrated: 1). Coverage: the truth "
        f"lies within the central {nominal:.0%} interval of the samples in {inside:.1%} of the "
        "observed pixels."
    )


def _coverage(result: MassMap, truth: jax.Array) -> tuple[float, float]:
    """How often the truth lies between two ranks of the samples, and how often it should.

    The mean of the field is not measured (mass sheet), so samples and truth lose theirs.
    """
    mask = np.asarray(result.mask)
    samples = np.sort(_centred(np.asarray(result.samples)[:, mask]), axis=0)
    true = _centred(np.asarray(truth)[mask])
    low = max(round(0.16 * (len(samples) + 1)), 1)
    inside = (samples[low - 1] < true) & (true < samples[-low])
    return float(inside.mean()), 1 - 2 * low / (len(samples) + 1)


def _centred(pixels: np.ndarray) -> np.ndarray:
    return pixels - pixels.mean(axis=-1, keepdims=True)
