"""Learned priors with the exact Gaussian part inside: the published hybrid, and a denoiser as one.

Both are a `jaxmap.prior.Prior`, so a sampler takes either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxmap.denoiser import Denoiser
from jaxmap.grid import Grid
from jaxmap.networks.score_unet import ScoreUNet, residual_score
from jaxmap.posterior import learned_mean, prior_denoiser
from jaxmap.prior import GaussianPrior


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HybridPrior:
    r"""Gaussian prior with a learned correction to its score.

    .. math:: \nabla\log p_\sigma(\kappa) = \nabla\log p_{G,\sigma}(\kappa)
              + r_\theta(\kappa, \sigma^2 \nabla\log p_{G,\sigma}(\kappa), \sigma)

    Args:
        gaussian: the analytic part, on the grid of the maps.
        params: of the network, nested dictionaries of arrays.
        network: its architecture.

    References:
        Remy et al., Eq. 23. (The network is given :math:`\sigma^2` times the Gaussian score, what
        Gaussian denoising adds to a map, as in their program.)
    """

    gaussian: GaussianPrior
    params: Any
    network: ScoreUNet = field(default=ScoreUNet(), metadata={"static": True})

    def score(self, convergence: jax.Array, sigma: float | jax.Array) -> jax.Array:
        """Gradient of the log density of maps with noise of level sigma, shape ``(ny, nx)``."""
        gaussian = self.gaussian.score(convergence, sigma)
        increment = sigma**2 * gaussian
        return gaussian + residual_score(self.network, self.params, convergence, increment, sigma)

    def denoise(self, convergence: jax.Array, sigma: float | jax.Array) -> jax.Array:
        r"""Mean of the map given it + :math:`N(0, \sigma^2)`: :math:`x + \sigma^2 s_\sigma(x)`."""
        return convergence + sigma**2 * self.score(convergence, sigma)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenoiserPrior:
    r"""A denoiser at even noise, without data: :math:`s_\sigma(x) = (D(x, \sigma^2) - x)/\sigma^2`.

    A denoiser knows shear only, and so nothing of the mean; as in `GaussianPrior` it is left free.

    A network does not know noise below what it was trained on, and its residual grows without
    bound there: lower levels are taken for the least one.

    Args:
        denoiser: trained on noise of all kinds.
        grid: of the maps.
        least: level of noise that the denoiser was trained down to.
    """

    denoiser: Denoiser
    grid: Grid = field(metadata={"static": True})
    least: float = field(default=0.003, metadata={"static": True})

    def score(self, convergence: jax.Array, sigma: float | jax.Array) -> jax.Array:
        """Gradient of the log density of maps with noise of level sigma, shape ``(ny, nx)``."""
        known = jnp.maximum(jnp.asarray(sigma, convergence.dtype), self.least)
        return (self.denoise(convergence, known) - convergence) / known**2

    def denoise(self, convergence: jax.Array, sigma: float | jax.Array) -> jax.Array:
        r"""Mean of the map given it + :math:`N(0, \sigma^2)`."""
        apply = prior_denoiser(learned_mean(self.denoiser, self.grid))
        mean = apply(convergence, jnp.asarray(sigma, convergence.dtype))
        return mean - jnp.mean(mean) + jnp.mean(convergence)
