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
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.operators import spin2_phase


def most_scales(shape: tuple[int, int], arcmin: float | None = None, pixel: float = 1.0) -> int:
    """Wavelet scales whose spline still fits into a map, at least 1.

    Args:
        shape: ``(ny, nx)``.
        arcmin: leave out scales broader than this; None for the map's own limit.
        pixel: side of a pixel in arcminutes.
    """
    side = min(shape) if arcmin is None else min(min(shape), arcmin / pixel)
    return max(1, int(math.log2(max(side, 2))) - 1)


def starlet(field: jax.Array, num_scales: int, windows: jax.Array | None = None) -> jax.Array:
    r"""Starlet coefficients :math:`\Phi^t\kappa` of a periodic map.

    Args:
        field: real, shape ``(ny, nx)``.
        num_scales: :math:`J`, wavelet scales.
        windows: of `starlet_windows`, where they are at hand.

    Returns:
        Shape ``(J + 1, ny, nx)``: wavelet scales from fine to coarse, then the smooth map.
    """
    if windows is None:
        windows = starlet_windows(field.shape, num_scales, field.dtype)
    return _to_maps(windows * jnp.fft.rfft2(field)[None], field.shape)


def from_starlet(coefficients: jax.Array) -> jax.Array:
    """The map that has these starlet coefficients: their sum, shape ``(ny, nx)``."""
    return jnp.sum(coefficients, axis=0)


def adjoint_starlet(coefficients: jax.Array, windows: jax.Array | None = None) -> jax.Array:
    r"""The adjoint :math:`\Phi\alpha` of `starlet`: :math:`\langle\alpha,\Phi^t\kappa\rangle
    = \langle\Phi\alpha,\kappa\rangle`.

    Not its inverse, which is `from_starlet`.

    Args:
        coefficients: :math:`\alpha`, shape ``(J + 1, ny, nx)``.
        windows: as in `starlet`.

    Returns:
        Shape ``(ny, nx)``.
    """
    count, *shape = coefficients.shape
    if windows is None:
        windows = starlet_windows(shape, count - 1, coefficients.dtype)
    return _to_maps(jnp.sum(windows * jnp.fft.rfft2(coefficients), axis=0), shape)


def starlet_windows(
    shape: Sequence[int], num_scales: int, dtype: jnp.dtype | type = float
) -> jax.Array:
    r"""The starlet's filters in the Fourier modes of real maps, ``(J + 1, ny, nx // 2 + 1)``.

    The taps (1, 4, 6, 4, 1) / 16 of the B3 spline, :math:`2^j` pixels apart, are
    :math:`\cos^4(\pi k 2^j / n)` along each axis: real, so that the filters are their own adjoints.
    """
    rows, columns = jnp.arange(shape[0]), jnp.arange(shape[1] // 2 + 1)
    smooth, bands = jnp.ones((shape[0], len(columns)), dtype), []
    for scale in range(num_scales):
        # Whole turns are taken off before the cosine, where single precision would suffer.
        along_y, along_x = (
            jnp.cos(jnp.pi * (index * 2**scale % count / count).astype(dtype)) ** 4
            for index, count in zip((rows, columns), shape, strict=True)
        )
        smoother = smooth * along_y[:, None] * along_x[None]
        bands.append(smooth - smoother)
        smooth = smoother
    return jnp.stack([*bands, smooth])


def _to_maps(modes: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jnp.fft.irfft2(modes, tuple(shape))


@partial(jax.jit, static_argnames=("grid", "num_scales"))
def starlet_noise(
    weight: jax.Array,
    grid: Grid,
    num_scales: int,
    neighbours: Mapping[tuple[int, int], jax.Array] | None = None,
) -> jax.Array:
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
        neighbours: of weights that are a matrix, the elements between every pixel and that
            ``(rows, columns)`` further on, by offset (`jaxmap.galaxies.neighbour_weights`); its
            diagonal is then ``weight``.

    Returns:
        Standard deviations, shape ``(J + 1, ny, nx)``.
    """
    phase = spin2_phase(grid, weight.dtype)
    delta = jnp.zeros(grid.shape, weight.dtype).at[0, 0].set(1)
    windows = jnp.fft.fft2(starlet(delta, num_scales)).real
    matrix = {(0, 0): weight} | dict(neighbours or {})

    def of_scale(window: jax.Array) -> jax.Array:
        kernel = jnp.fft.ifft2(window * phase.conj())
        kernels = jnp.stack([kernel.real, kernel.imag])
        variance = jnp.zeros(grid.shape, kernel.dtype)
        for offset, elements in matrix.items():
            pairs = kernels * jnp.roll(kernels, offset, (-2, -1))
            times = 1 if offset == (0, 0) else 2
            variance += times * jnp.sum(jnp.fft.fft2(pairs) * jnp.fft.fft2(elements), axis=0)
        return jnp.sqrt(jnp.maximum(jnp.fft.ifft2(variance).real, 0))

    return jax.lax.map(of_scale, windows)
