r"""Starlet aperture mass, and the mean convergence of an aperture over its surroundings.

A starlet scale is an aperture-mass filter: its kernel U is compact and integrates to zero, so that
the unknown mean of a convergence map drops out,

.. math:: M_{ap}(\theta) = \int U_j(|\theta - \theta'|)\, \kappa(\theta')\, d^2\theta' = w_j(\theta)

and a tangential shear Q gives the same number (Leonard et al.). The scale j answers to structure of
some :math:`2^j` pixels.

References:
    Schneider (1996), MNRAS 283, 837; Leonard, Pires & Starck (2012), MNRAS 423, 3405.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.grid import Grid
from jaxmap.starlet import most_scales, starlet_windows


def scale_of(arcmin: float, grid: Grid) -> int:
    r"""The starlet scale j >= 1 whose :math:`2^j` pixels come closest (by ratio) to a size.

    Raises:
        ValueError: for a size that is not above 0, nearer to a pixel than to 2, or too wide for
            the map.
    """
    if not 0 < arcmin < math.inf:
        raise ValueError(f"the scale is {arcmin} arcmin; expected a finite number above 0")
    scale = round(math.log2(arcmin / grid.pixel_arcmin))
    most = most_scales(grid.shape)
    if not 1 <= scale <= most:
        raise ValueError(
            f"a scale of {arcmin:g} arcmin is {arcmin / grid.pixel_arcmin:.3g} pixels; expected "
            f"about 2 to {2**most} on this map (--scale-arcmin)"
        )
    return scale


def aperture_mass(
    convergence: jax.Array | np.ndarray, scale: int, periodic: bool = False
) -> jax.Array:
    r"""Starlet coefficients :math:`w_j` of one scale of a convergence map.

    Args:
        convergence: shape ``(..., ny, nx)``.
        scale: j >= 1, from fine to coarse.
        periodic: whether the map is; if not, it is continued by its mirror image, so that opposite
            borders do not see each other.

    Returns:
        Shape ``(..., ny, nx)``.

    Raises:
        ValueError: for a scale below 1 or a map of fewer than two dimensions.
    """
    if scale < 1:
        raise ValueError(f"the starlet scale is {scale}; expected 1 or more")
    if jnp.ndim(convergence) < 2:
        raise ValueError(f"the map has shape {jnp.shape(convergence)}; expected (..., ny, nx)")
    return _aperture_mass(jnp.asarray(convergence), scale, periodic)


@partial(jax.jit, static_argnames=("scale", "periodic"))
def _aperture_mass(convergence: jax.Array, scale: int, periodic: bool) -> jax.Array:
    *_, ny, nx = convergence.shape
    reach = 2 * (2**scale - 1)  # of the splines that the coefficient is the difference of
    margin = [0 if periodic else min(reach, n - 1) for n in (ny, nx)]

    def one(field: jax.Array) -> jax.Array:
        wide = jnp.pad(field, [(m, m) for m in margin], mode="reflect") if any(margin) else field
        window = starlet_windows(wide.shape, scale, field.dtype)[scale - 1]
        filtered = jnp.fft.irfft2(window * jnp.fft.rfft2(wide), wide.shape)
        return filtered[margin[0] : margin[0] + ny, margin[1] : margin[1] + nx]

    flat = convergence.reshape(-1, ny, nx)
    return jax.lax.map(one, flat).reshape(convergence.shape)


def aperture_contrast(
    convergence: ArrayLike, grid: Grid, x: ArrayLike, y: ArrayLike, radius_arcmin: float
) -> np.ndarray:
    r"""Mean convergence within a radius R less that of the ring about it.

    .. math:: \zeta = \bar\kappa(< R) - \bar\kappa(\sqrt 2 R < r < 2 R)

    does not depend on the unknown mean of the map; :math:`\pi R^2 \Sigma_{cr} \zeta` is a lower
    limit of the mass in the cylinder.

    Args:
        convergence: maps, shape ``(n, ny, nx)``.
        grid: pixel grid.
        x, y: centres in pixels from the first pixel's centre, shape ``(m,)``.
        radius_arcmin: R, at least one pixel.

    Returns:
        Shape ``(n, m)``; NaN where the ring has no pixel on the map.

    Raises:
        ValueError: for a radius below a pixel.

    References:
        Fahlman, Kaiser, Squires & Woods (1994), ApJ 437, 56.
    """
    radius = radius_arcmin / grid.pixel_arcmin
    if not 1 <= radius < math.inf:
        raise ValueError(
            f"the aperture's radius is {radius_arcmin} arcmin, {radius:.3g} pixels; expected one "
            "pixel or more (--aperture-arcmin)"
        )
    maps = np.asarray(convergence)
    ny, nx = grid.shape
    found = np.full((len(maps), np.size(x)), np.nan)
    for number, (cx, cy) in enumerate(zip(np.atleast_1d(x), np.atleast_1d(y), strict=True)):
        # A window about the centre, so that samples on disk are not read whole.
        top, left = (max(0, int(c - 2 * radius) - 1) for c in (cy, cx))
        bottom, right = int(cy + 2 * radius) + 2, int(cx + 2 * radius) + 2
        rows, columns = np.mgrid[top : max(top, min(bottom, ny)), left : max(left, min(right, nx))]
        distance = np.hypot(columns - cx, rows - cy)
        disc = distance <= radius
        ring = (distance > math.sqrt(2) * radius) & (distance <= 2 * radius)
        if disc.any() and ring.any():
            window = np.asarray(maps[:, top : min(bottom, ny), left : min(right, nx)], float)
            found[:, number] = window[:, disc].mean(axis=1) - window[:, ring].mean(axis=1)
    return found
