r"""The posterior of the paper's annealed sampler: a product of two densities, each convolved.

And the units of length of chains, for it and for the convolutions of the posterior itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxmap.likelihood import ShearLikelihood
from jaxmap.prior import Prior


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AnnealedPosterior:
    r"""Score of likelihood and prior, each convolved with :math:`N(0, \sigma^2)`; callable.

    .. math:: s(\kappa, \sigma) = \nabla \log p_\sigma(\gamma \mid \kappa)
              + \nabla \log p_\sigma(\kappa)

    A product of convolutions is not the convolution of the product: chains follow a proxy, which
    is the posterior only as :math:`\sigma \to 0`. For noise of variance N everywhere, the
    probability flow brings chains that rest at a level to

    .. math:: \frac{S_\ell N}{S_\ell + N + 2\sigma^2} \quad\text{in place of}\quad
              \frac{S_\ell N}{S_\ell + N}

    so that a floor of a tenth of the noise costs 2 % of the variance at most.

    Args:
        likelihood: of the observed shear.
        prior: of the convergence.

    References:
        Remy et al., Sect. 5.3.
    """

    likelihood: ShearLikelihood
    prior: Prior

    def __call__(self, convergence: jax.Array, sigma: jax.Array) -> jax.Array:
        """The score, shape ``(ny, nx)``."""
        return self.likelihood.score(convergence, sigma) + self.prior.score(convergence, sigma)


@dataclass(frozen=True)
class _Preconditioner(ABC):
    """Standard deviation of every mode of a Gaussian posterior of even noise; callable.

    The mean of the map, which neither data nor prior know, is held where it is.

    Args:
        variance: S of every mode, shape ``(ny, nx)``.
        weight: w, shape ``(2, ny, nx)``.
    """

    variance: jax.Array
    weight: jax.Array

    @abstractmethod
    def std(self, sigma: jax.Array) -> jax.Array:
        """Of the modes at noise sigma, shape ``(ny, nx)``."""

    def __call__(self, convergence: jax.Array, sigma: jax.Array) -> jax.Array:
        """The map, every mode times its standard deviation."""
        std = jnp.where(jnp.isfinite(self.variance), self.std(sigma), 0)
        return jnp.fft.ifft2(std * jnp.fft.fft2(convergence)).real


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FourierPreconditioner(_Preconditioner):
    r"""Of the proxy that annealed chains follow, :math:`p(x) * N(0, \sigma^2)` and data.

    .. math:: \tilde x_\ell \to \tilde x_\ell \Big/ \sqrt{1/(S_\ell + \sigma^2)
              + \langle w / (1 + \sigma^2 w) \rangle}
    """

    def std(self, sigma: jax.Array) -> jax.Array:
        """See `_Preconditioner.std`."""
        information = jnp.mean(self.weight / (1 + sigma**2 * self.weight))
        return 1 / jnp.sqrt(1 / (self.variance + sigma**2) + information)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConvolvedPreconditioner(_Preconditioner):
    r"""Of the posterior convolved with :math:`N(0, \sigma^2)`.

    .. math:: \tilde x_\ell \to \tilde x_\ell
              \sqrt{\big(1/S_\ell + \langle w \rangle\big)^{-1} + \sigma^2}
    """

    def std(self, sigma: jax.Array) -> jax.Array:
        """See `_Preconditioner.std`."""
        variance = self.variance / (1 + self.variance * jnp.mean(self.weight))
        return jnp.sqrt(variance + sigma**2)
