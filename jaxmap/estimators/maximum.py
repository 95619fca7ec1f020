"""The most probable map under a learned (or any) prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.denoiser_files import Domain, warn_of_residuals, warn_outside
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators.finite_field import inner, pad_shear, require_finite_maps
from jaxmap.gaussian_posterior import wiener_b_mode
from jaxmap.massmap import MassMap
from jaxmap.posterior import most_probable
from jaxmap.sampler_prior import (
    PriorSource,
    SamplerPrior,
    gaussian_part,
    posterior_mean,
    prior_on,
)
from jaxmap.samplers import Draws


@dataclass(frozen=True)
class MaximumPosterior:
    r"""Maximum a posteriori, by gradient ascent on the posterior at falling levels of noise.

    .. math:: \hat\kappa = \arg\max_\kappa \log p_s(\kappa \mid \gamma)

    The mode of the posterior convolved with :math:`N(0, s^2)` for the least level s: the sharper
    the density, the more its mode is an accident of pixels. It has no error of its own, and for a
    skewed posterior lies below the mean.

    Args:
        prior: a trained denoiser or the spectrum of a Gaussian prior.
        domain: what the prior was trained on, to warn of data outside; None for no warnings.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        largest: first level, in units of the convergence.
        least: last level.
        num_levels: from one to the other, of four evaluations each.

    Raises:
        FloatingPointError: if the map is not finite.
    """

    prior: PriorSource
    domain: Domain | None = None
    margin: int | None = None
    largest: float = 0.5
    least: float = 0.02
    num_levels: int = 10

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        del key
        padded, margin = pad_shear(shear, self.margin)
        if self.domain is not None:
            warn_outside(self.domain, shear)
        prior = prior_on(self.prior, padded.grid)
        convergence, finite = _maximise(prior, padded, self.num_levels, self.largest, self.least)
        chi2 = chi2_per_pixel(convergence, padded)
        # Where even the size of the data overflows, the solver ends at once, with zeros.
        where = Draws(convergence[None], {}, {"level": finite[None]}).broken_at
        require_finite_maps(convergence, chi2, where=where)
        if self.domain is not None:
            warn_of_residuals(float(chi2), int(jnp.sum(shear.weight > 0)), samples=False)
        return MassMap(
            convergence=inner(convergence, margin),
            grid=shear.grid,
            mask=shear.mask,
            b_mode=inner(wiener_b_mode(padded, gaussian_part(prior, padded.grid)), margin),
            counts=shear.counts,
            diagnostics={
                "network_evaluations": 4 * self.num_levels,
                "chi2_per_pixel": float(chi2),
            },
        )


@partial(jax.jit, static_argnums=(2, 3, 4))
def _maximise(
    prior: SamplerPrior, data: ShearMap, num_levels: int, largest: float, least: float
) -> tuple[jax.Array, jax.Array]:
    gaussian = gaussian_part(prior, data.grid)
    levels = jnp.geomspace(largest, least, num_levels, dtype=gaussian.variance.dtype)
    return most_probable(posterior_mean(prior, data.grid), gaussian, data, levels)
