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
from jaxmap.simulation.fields import lognormal_field
from jaxmap.simulation.masks import Stars
from jaxmap.simulation.survey import MockSurvey, observe
from jaxmap.spectra import PowerSpectrum

FIELD = Grid((256, 256), 0.4, (150.0, 2.2))
"""The surveyed field, 1.7 degrees across."""

MARGIN = 64
"""Pixels around it whose mass shears galaxies inside."""

SURVEY = MockSurvey(
    density_arcmin2=30.0, shape_noise=0.26, stars=Stars(density_arcmin2=0.004, radius_arcmin=(1, 3))
)
"""As deep as Euclid and Rubin will be, with some 40 holes around bright stars."""


class Demo(NamedTuple):
    """A map, the truth, the catalogue and binned shear it was made from, and a verdict in words."""

    result: MassMap
    truth: jax.Array
    catalog: ShearCatalog
    shear: ShearMap
    verdict: str


def demo(key: jax.Array, spectrum: PowerSpectrum, estimator: Estimator) -> Demo:
    """Simulate a survey, map it, and compare with the truth.

    Args:
        key: PRNG key.
        spectrum: power spectrum of the simulated convergence, a lognormal field.
        estimator: makes the map.

    """
    key_field, key_survey, key_map = jax.random.split(key, 3)
    sky = FIELD.padded(MARGIN)
    convergence = lognormal_field(key_field, spectrum, sky)
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
    if result.std is None or result.samples is None:
        return text
    ratio = float(std_over_error(result.samples, result.convergence, truth, result.mask))
    # The mean of the field is not measured (mass sheet), so it is taken out of the error.
    error = np.asarray(result.convergence - truth)[np.asarray(result.mask)]
    coverage = np.mean(np.abs(error - error.mean()) < 2 * np.asarray(result.std[result.mask]))
    return (
        f"{text}\nQuoted error over actual error: {ratio:.3f} (calibrated: 1). The truth is within "
        f"2 sigma in {coverage:.1%} of the pixels (Gaussian errors: 95.4%; this sky is lognormal)."
    )
