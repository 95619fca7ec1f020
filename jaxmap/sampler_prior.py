"""What samplers ask of a prior, for every kind there is: learned, published hybrid, Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import DenoiserPrior, HybridPrior
from jaxmap.posterior import Mean, gaussian_mean, learned_mean, posterior_denoiser
from jaxmap.prior import GaussianPrior, Prior
from jaxmap.spectra import PowerSpectrum, mode_variance

SamplerPrior = Denoiser | GaussianPrior | HybridPrior
"""A prior on the grid of the data; a pytree."""

PriorSource = Denoiser | PowerSpectrum | Callable[[Grid], SamplerPrior]
"""Where it comes from: a denoiser, which fits any grid; the spectrum of a Gaussian prior; or a
function, e.g. one that reads the published hybrid prior of a file for a grid."""


def prior_on(source: PriorSource, grid: Grid) -> SamplerPrior:
    """The prior on a grid."""
    if isinstance(source, PowerSpectrum):
        return GaussianPrior(mode_variance(source, grid))
    return source if isinstance(source, Denoiser) else source(grid)


def gaussian_part(prior: SamplerPrior, grid: Grid) -> GaussianPrior:
    """The Gaussian prior of the same power, for starts and steps."""
    if isinstance(prior, Denoiser):
        return GaussianPrior(mode_variance(prior.spectrum, grid))
    return prior.gaussian if isinstance(prior, HybridPrior) else prior


def posterior_mean(prior: SamplerPrior, grid: Grid) -> Mean:
    """The mean given data of any noise.

    Raises:
        ValueError: for a hybrid prior, which knows even noise only.
    """
    if isinstance(prior, HybridPrior):
        raise ValueError(
            "the published hybrid prior knows even noise only, and can be sampled by annealed HMC "
            "alone; choose --sampler hmc, or a denoiser's weights"
        )
    if isinstance(prior, Denoiser):
        return learned_mean(prior, grid)
    return gaussian_mean(prior, grid)


def prior_score(prior: SamplerPrior, grid: Grid) -> Prior:
    """The score of the prior's convolutions."""
    return DenoiserPrior(prior, grid) if isinstance(prior, Denoiser) else prior


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConvolvedPosterior:
    r"""Score of the posterior convolved with :math:`N(0, \sigma^2)`; callable, a pytree.

    .. math:: \nabla \log p_\sigma(x \mid \gamma)
              = \frac{E[\kappa \mid x, \gamma] - x}{\sigma^2}

    by the identity of Miyasawa and Tweedie, with state and data together as one observation
    (`posterior_denoiser`): unlike `AnnealedPosterior` no proxy, at any level.

    Args:
        prior: not the published hybrid one, which knows even noise only.
        data: shear on a periodic grid.
    """

    prior: SamplerPrior
    data: ShearMap

    def __call__(self, convergence: jax.Array, sigma: jax.Array) -> jax.Array:
        """The score, shape ``(ny, nx)``."""
        denoise = posterior_denoiser(posterior_mean(self.prior, self.data.grid), self.data)
        return (denoise(convergence, sigma) - convergence) / sigma**2
