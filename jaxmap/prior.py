"""Priors on the convergence; here the analytic one, a Gaussian field with a known spectrum.

Learned ones are in `jaxmap.hybrid_prior`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp


class Prior(Protocol):
    """A density of convergence maps, known by the score of its convolutions."""

    def score(self, convergence: jax.Array, sigma: float | jax.Array) -> jax.Array:
        r"""Gradient of the log density convolved with :math:`N(0, \sigma^2)`, ``(ny, nx)``."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianPrior:
    r"""Stationary Gaussian prior on a real, periodic convergence map.

    .. math:: \log p_\sigma(\kappa)
              = -\tfrac12 \sum_\ell |\tilde\kappa_\ell|^2 / (S_\ell + \sigma^2)

    with orthonormal FFTs, up to a constant. Convolution with :math:`N(0, \sigma^2)` adds
    :math:`\sigma^2` to every mode. The mean of the map is free (flat prior): :math:`S_0 = \infty`.

    Args:
        variance: :math:`S_\ell` from `jaxmap.spectra.mode_variance`, shape ``(ny, nx)``.

    References:
        Remy et al. (2023), A&A 672, A51, Sect. 5.1.
    """

    variance: jax.Array

    @property
    def amplitude(self) -> jax.Array:
        r""":math:`\sqrt{S_\ell}`, with 0 for modes of infinite variance: a map has zero mean."""
        # A zero is kept from the square root as well, whose derivative there is infinite.
        proper = jnp.isfinite(self.variance) & (self.variance > 0)
        return jnp.where(proper, jnp.sqrt(jnp.where(proper, self.variance, 1)), 0)

    def log_prob(self, convergence: jax.Array, sigma: float | jax.Array = 0.0) -> jax.Array:
        """Log density up to a constant, a scalar; modes without variance need ``sigma > 0``."""
        power = jnp.abs(jnp.fft.fft2(convergence, norm="ortho")) ** 2
        return -0.5 * jnp.sum(power / (self.variance + sigma**2))

    def score(self, convergence: jax.Array, sigma: float | jax.Array = 0.0) -> jax.Array:
        r"""Gradient of `log_prob`: :math:`-F^* [F\kappa / (S_\ell + \sigma^2)]`, ``(ny, nx)``."""
        modes = jnp.fft.fft2(convergence)
        return -jnp.fft.ifft2(modes / (self.variance + sigma**2)).real

    def denoise(self, convergence: jax.Array, sigma: float | jax.Array) -> jax.Array:
        r"""Mean of the map given it + :math:`N(0, \sigma^2)`: :math:`x + \sigma^2 s_\sigma(x)`."""
        return convergence + sigma**2 * self.score(convergence, sigma)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw one map of zero mean, shape ``(ny, nx)``."""
        white = jax.random.normal(key, self.variance.shape, self.variance.dtype)
        return jnp.fft.ifft2(self.amplitude * jnp.fft.fft2(white)).real
