"""Random convergence fields with a given power spectrum: Gaussian and lognormal."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance


def gaussian_field(key: jax.Array, spectrum: PowerSpectrum, grid: Grid) -> jax.Array:
    """A periodic Gaussian field of zero mean, shape ``(ny, nx)``."""
    return GaussianPrior(mode_variance(spectrum, grid)).sample(key)


def lognormal_field(
    key: jax.Array, spectrum: PowerSpectrum, grid: Grid, shift: float = 0.03
) -> jax.Array:
    r"""A periodic, shifted-lognormal field: skewed as convergence is, with the given spectrum.

    .. math:: \kappa = \lambda (e^{x - \sigma_x^2 / 2} - 1), \qquad
              \xi_x = \ln(1 + \xi_\kappa / \lambda^2)

    Args:
        key: PRNG key.
        spectrum: power spectrum of :math:`\kappa`.
        grid: pixel grid.
        shift: :math:`\lambda`, minus the lowest possible convergence.

    Returns:
        Shape ``(ny, nx)``. Modes where the spectrum of x would be negative (a correlation function
        no lognormal field can have) are left without power.

    References:
        Hilbert, Hartlap & Schneider (2011), A&A 536, A85.
    """
    variance = GaussianPrior(mode_variance(spectrum, grid)).amplitude ** 2
    correlation = jnp.fft.ifft2(variance).real
    correlation_x = jnp.log1p(correlation / shift**2)
    variance_x = jnp.maximum(jnp.fft.fft2(correlation_x).real, 0)
    white = jax.random.normal(key, grid.shape, variance.dtype)
    x = jnp.fft.ifft2(jnp.sqrt(variance_x) * jnp.fft.fft2(white)).real
    return shift * jnp.expm1(x - correlation_x[0, 0] / 2)
