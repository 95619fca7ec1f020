r"""The posterior of the paper's annealed sampler: a product of two densities, each convolved.

And the units of length of chains, for it and for the convolutions of the posterior itself.
"""

from __future__ import annotations

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FourierPreconditioner:
    r"""Standard deviation of a Gaussian posterior of even noise, as a preconditioner; callable.

    .. math:: \tilde x_\ell \to \tilde x_\ell \Big/ \sqrt{1/(S_\ell + \sigma^2)
              + \langle w / (1 + \sigma^2 w) \rangle}

    The mean of the map, which neither data nor prior know, is held where it is.

    Args:
        variance: :math:`S_\ell`, shape ``(ny, nx)``.
        weight: w, shape ``(2, ny, nx)``.
    """

    variance: jax.Array
    weight: jax.Array

    def __call__(self, convergence: jax.Array, sigma: jax.Array) -> jax.Array:
        """The map, every mode times its standard deviation."""
        information = jnp.mean(self.weight / (1 + sigma**2 * self.weight))
        precision = 1 / (self.variance + sigma**2) + information
        std = jnp.where(jnp.isfinite(self.variance), 1 / jnp.sqrt(precision), 0)
        return jnp.fft.ifft2(std * jnp.fft.fft2(convergence)).real


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConvolvedPreconditioner:
    r"""Standard deviation of a Gaussian posterior of even noise, convolved; callable.

    .. math:: \tilde x_\ell \to \tilde x_\ell
              \sqrt{\big(1/S_\ell + \langle w \rangle\big)^{-1} + \sigma^2}

    The mean of the map is held where it is, as by `FourierPreconditioner`.

    Args:
        variance: :math:`S_\ell`, shape ``(ny, nx)``.
        weight: w, shape ``(2, ny, nx)``.
    """

    variance: jax.Array
    weight: jax.Array

    def __call__(self, convergence: jax.Array, sigma: jax.Array) -> jax.Array:
        """The map, every mode times its standard deviation."""
        variance = self.variance / (1 + self.variance * jnp.mean(self.weight))
        std = jnp.where(jnp.isfinite(self.variance), jnp.sqrt(variance + sigma**2), 0)
        return jnp.fft.ifft2(std * jnp.fft.fft2(convergence)).real
