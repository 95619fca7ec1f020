"""DeepMass for any mask and noise: one pass of the heteroscedastic denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoised, Denoiser, denoise_shear
from jaxmap.denoiser_files import Domain, warn_of_residuals, warn_outside
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators.finite_field import pad_shear, require_finite_maps
from jaxmap.gaussian_posterior import turned
from jaxmap.likelihood import apply_weight
from jaxmap.massmap import MassMap


@dataclass(frozen=True)
class DeepMass:
    r"""Posterior mean of the convergence under the learned prior, and its error.

    .. math:: \hat\kappa = D(\gamma, W^{-1}) \approx E[\kappa \mid \gamma]

    `jaxmap.denoiser` with the survey's own noise: not trained for one survey, as DeepMass was, but
    for any footprint and depth. The standard deviation comes from the network's second head: an
    estimate of the rms error in every pixel, not the spread of samples. The B-mode map is the
    Wiener filter of the shear turned by 45 degrees; the diagnostics hold the chi-squared of the
    residuals, on the grid with its margin.

    Args:
        denoiser: a trained denoiser, e.g. of `jaxmap.denoiser_files.read_denoiser`.
        domain: what it was trained on, to warn of data outside; None for no warnings.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.

    Raises:
        FloatingPointError: if the map is not finite.

    References:
        Jeffrey et al. (2020), MNRAS 492, 5023.
    """

    denoiser: Denoiser
    domain: Domain | None = None
    margin: int | None = None

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        del key
        padded, margin = pad_shear(shear, self.margin)
        if self.domain is not None:
            warn_outside(self.domain, shear)
        result, b_mode, chi2, size = _apply(self.denoiser, padded)
        # Where even the size of the data overflows, the solver ends at once, with zeros.
        require_finite_maps(result.mean, result.std, chi2, size)
        if self.domain is not None:
            warn_of_residuals(float(chi2), int(jnp.sum(shear.weight > 0)), samples=False)
        return MassMap(
            convergence=result.mean,
            grid=padded.grid,
            mask=padded.mask,
            std=result.std,
            b_mode=b_mode,
            counts=padded.counts,
            diagnostics={"chi2_per_pixel": float(chi2)},
        ).cropped(margin)


@jax.jit
def _apply(denoiser: Denoiser, data: ShearMap) -> tuple[Denoised, jax.Array, jax.Array, jax.Array]:
    b_mode = denoise_shear(denoiser, turned(data)).wiener
    size = jnp.sum(jnp.abs(apply_weight(data.weight, data.shear)) ** 2)
    result = denoise_shear(denoiser, data)
    return result, b_mode, chi2_per_pixel(result.mean, data), size
