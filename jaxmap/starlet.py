r"""The starlet, an isotropic undecimated wavelet of periodic maps, and noise seen through it.

A map is smoothed by ever wider B3 splines, :math:`c_{j+1} = h_j c_j` with :math:`c_0 = \kappa`, and
the starlet keeps what each smoothing takes away, with the last smooth map at the end:

.. math:: \Phi^t \kappa = (w_1, \dots, w_J, c_J), \qquad w_{j+1} = c_j - c_{j+1}, \qquad
          \kappa = c_J + \sum_j w_j

Scale :math:`j` responds to structure of some :math:`2^j` pixels. The starlet is linear and
commutes with shifts, so all of it here is exact on any grid, however small.

References:
    Starck, Fadili & Murtagh (2007), IEEE Trans. Image Process. 16, 297.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.operators import spin2_phase

B3_SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def most_scales(shape: tuple[int, int], arcmin: float | None = None, pixel: float = 1.0) -> int:
    """Wavelet scales whose spline still fits into a map, at least 1.

    Args:
        shape: ``(ny, nx)``.
        arcmin: leave out scales broader than this; None for the map's own limit.
        pixel: side of a pixel in arcminutes.
    """
    side = min(shape) if arcmin is None else min(min(shape), arcmin / pixel)
    return max(1, int(math.log2(max(side, 2))) - 1)


def starlet(field: jax.Array, num_scales: int) -> jax.Array:
    r"""Starlet coefficients :math:`\Phi^t\kappa` of a periodic map.

    Args:
        field: shape ``(ny, nx)``, real or complex.
        num_scales: :math:`J`, wavelet scales.

    Returns:
        Shape ``(J + 1, ny, nx)``: wavelet scales from fine to coarse, then the smooth map.
    """
    bands, smooth = [], field
    for scale in range(num_scales):
        smoother = smooth_spline(smooth, scale)
        bands.append(smooth - smoother)
        smooth = smoother
    return jnp.stack([*bands, smooth])


def from_starlet(coefficients: jax.Array) -> jax.Array:
    """The map that has these starlet coefficients: their sum, shape ``(ny, nx)``."""
    return jnp.sum(coefficients, axis=0)


def adjoint_starlet(coefficients: jax.Array) -> jax.Array:
    r"""The adjoint :math:`\Phi\alpha` of `starlet`: :math:`\langle\alpha,\Phi^t\kappa\rangle
    = \langle\Phi\alpha,\kappa\rangle`.

    Not its inverse, which is `from_starlet`.

    Args:
        coefficients: :math:`\alpha`, shape ``(J + 1, ny, nx)``.

    Returns:
        Shape ``(ny, nx)``.
    """
    *bands, field = coefficients
    for scale in reversed(range(len(bands))):
        field = bands[scale] + smooth_spline(field - bands[scale], scale)
    return field


def smooth_spline(field: jax.Array, scale: int) -> jax.Array:
    r"""Convolve a periodic map with the B3 spline whose taps are :math:`2^j` pixels apart.

    Args:
        field: shape ``(ny, nx)``.
        scale: :math:`j`, from 0.
    """
    for axis in (-2, -1):
        shifts = [(tap - 2) * 2**scale % field.shape[axis] for tap in range(5)]
        field = sum(
            weight * jnp.roll(field, shift, axis)
            for weight, shift in zip(B3_SPLINE, shifts, strict=True)
        )
    return field


def starlet_norm(shape: tuple[int, int], num_scales: int) -> jax.Array:
    r"""The operator norm of `starlet`, :math:`\max_\ell (\sum_j |\hat\psi_j|^2 +
    |\hat\phi_J|^2)^{1/2}`; at most 1, reached by the mean."""
    return jnp.sqrt(jnp.max(jnp.sum(starlet_windows(shape, num_scales) ** 2, axis=0)))


def starlet_windows(shape: tuple[int, int], num_scales: int) -> jax.Array:
    r"""Fourier transforms of the starlet's filters, real, shape ``(J + 1, ny, nx)``."""
    delta = jnp.zeros(shape).at[0, 0].set(1)
    return jnp.fft.fft2(starlet(delta, num_scales)).real


def starlet_noise(weight: jax.Array, grid: Grid, num_scales: int) -> jax.Array:
    r"""Noise of the starlet coefficients of the weighted Kaiser-Squires map, exact for any mask.

    The noise :math:`n` of the shear has variance :math:`1/w`, so that the back-projected noise
    :math:`\mathrm{Re}\, A^\dagger W n` is finite where nothing was observed. Each coefficient
    is a sum over independent pixels, so that with the filter :math:`\psi_j`

    .. math:: \sigma_j^2(p) = \sum_{a=1,2} \sum_q k_{j,a}^2(p - q)\, w_a(q), \qquad
              k_{j,1} + i k_{j,2} = F^* [\hat\psi_j P^*]

    Args:
        weight: inverse noise variance per component, shape ``(2, ny, nx)``; 0 = masked.
        grid: pixel grid.
        num_scales: :math:`J`.

    Returns:
        Standard deviations, shape ``(J + 1, ny, nx)``.
    """
    phase = spin2_phase(grid, weight.dtype)
    windows = starlet_windows(grid.shape, num_scales).astype(weight.dtype)
    spread = jnp.fft.fft2(weight)

    def of_scale(window: jax.Array) -> jax.Array:
        kernel = jnp.fft.ifft2(window * phase.conj())
        kernels = jnp.stack([kernel.real, kernel.imag])
        variance = jnp.sum(jnp.fft.fft2(kernels**2) * spread, axis=0)
        return jnp.sqrt(jnp.maximum(jnp.fft.ifft2(variance).real, 0))

    return jax.lax.map(of_scale, windows)
