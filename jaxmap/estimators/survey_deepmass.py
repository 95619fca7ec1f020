"""DeepMass as published: one pass of a network that was trained for one survey."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.denoiser_files import warn_of_residuals
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators.finite_field import pad_shear, require_finite_maps
from jaxmap.gaussian_posterior import wiener_b_mode
from jaxmap.likelihood import apply_weight
from jaxmap.massmap import MassMap
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance
from jaxmap.survey_denoiser import SurveyDenoiser, recover
from jaxmap.trained_survey import TrainedSurvey, warn_of_survey


@dataclass(frozen=True)
class SurveyDeepMass:
    r"""The published DeepMass, a baseline for `DeepMass`, which serves any mask and noise.

    .. math:: \hat\kappa = m + s\, U_\theta(m / s)

    with the Wiener map m (`jaxmap.survey_denoiser`). It has no estimate of its error. The B-mode
    map is the Wiener filter of the shear turned by 45 degrees.

    Args:
        model: a trained network, e.g. of `jaxmap.survey_network_files.read_survey_denoiser`.
        survey: that it was trained for, to warn of other data; None for no warnings.
        margin: masked pixels around the field; None for as many as in training (the default
            margin without a ``survey``), 0 for a periodic field.

    Raises:
        FloatingPointError: if the map is not finite.

    References:
        Jeffrey et al. (2020), MNRAS 492, 5023.
    """

    model: SurveyDenoiser
    survey: TrainedSurvey | None = None
    margin: int | None = None

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        del key
        margin = self.margin
        if margin is None and self.survey is not None:
            margin = self.survey.margin
        padded, margin = pad_shear(shear, margin)
        if self.survey is not None:
            warn_of_survey(self.survey, shear)
        convergence, b_mode, chi2, size = _apply(self.model, padded)
        # Where even the size of the data overflows, the solver ends at once, with zeros.
        require_finite_maps(convergence, chi2, size)
        if self.survey is not None:
            warn_of_residuals(float(chi2), int(jnp.sum(shear.weight > 0)), samples=False)
        return MassMap(
            convergence=convergence,
            grid=padded.grid,
            mask=padded.mask,
            b_mode=b_mode,
            counts=padded.counts,
            diagnostics={"chi2_per_pixel": float(chi2)},
        ).cropped(margin)


@jax.jit
def _apply(
    model: SurveyDenoiser, data: ShearMap
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    prior = GaussianPrior(mode_variance(model.spectrum, data.grid))
    size = jnp.sum(jnp.abs(apply_weight(data.weight, data.shear)) ** 2)
    mean = recover(model, data).mean
    return mean, wiener_b_mode(data, prior), chi2_per_pixel(mean, data), size
