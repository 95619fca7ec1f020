r"""Painting many haloes at once: a basis of profiles, one FFT for each of its members.

The transform :math:`u(\ell)` of a halo's profile depends on its angular scale radius and its
concentration only. A singular value decomposition of that family gives a few functions with

.. math:: u(\ell; \theta_s, c) \approx \sum_k a_k(\theta_s, c)\, \phi_k(\ell),

so that haloes are added to K maps as points with weights :math:`a_k`, and the maps convolved with
:math:`\phi_k`: the cost does not grow with the haloes' sizes. To first order, an ellipse with axis
ratio :math:`e^{-\eta}` along the direction :math:`\psi` adds
:math:`\tfrac12 \eta \cos 2(\varphi_\ell - \psi)\, du/d\ln\ell`, expanded in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import Grid
from jaxmap.simulation.halos import halo_transform

NUM_ROUND, NUM_QUADRUPOLE = 14, 10
SCALE_RADIUS_RANGE = (2e-6, 2e-2)  # radians: 1e12 Msun/h at z = 5; a cluster 25 Mpc/h from us
CONCENTRATION_RANGE = (1.0, 60.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HaloBasis:
    r"""Profiles of haloes as sums of K + Q functions (round and quadrupole).

    Args:
        log_radius: :math:`\ln\theta_s` of the coefficients' table, evenly spaced, shape ``(nr,)``.
        log_concentration: :math:`\ln c`, evenly spaced, shape ``(nc,)``.
        coefficients: :math:`a_k`, shape ``(nr, nc, K + Q)``.
        log_ell: multipoles of the functions' table, shape ``(nl,)``.
        functions: :math:`\phi_k(\ell)`, shape ``(K + Q, nl)``.
    """

    log_radius: jax.Array
    log_concentration: jax.Array
    coefficients: jax.Array
    log_ell: jax.Array
    functions: jax.Array


def halo_basis(max_ell: float, truncation: float) -> HaloBasis:
    """Decompose the profiles of haloes seen at multipoles up to ``max_ell``.

    Args:
        max_ell: largest multipole of the map.
        truncation: truncation radius in units of r200m.
    """
    ell = np.geomspace(10, 1.01 * max_ell, 320)
    radius = np.geomspace(*SCALE_RADIUS_RANGE, 72)
    concentration = np.geomspace(*CONCENTRATION_RANGE, 20)
    log_y = np.linspace(math.log(ell[0] * radius[0]), math.log(ell[-1] * radius[-1]), 600)
    family = np.empty((2, radius.size, concentration.size, ell.size))
    for column, c in enumerate(concentration):
        transform = halo_transform(np.exp(log_y), c, truncation)
        slope = np.gradient(transform, log_y, edge_order=2)
        for row, theta in enumerate(radius):
            at = np.log(ell * theta)
            family[0, row, column] = np.interp(at, log_y, transform)
            family[1, row, column] = np.interp(at, log_y, slope)
    # The root of ell balances the cores of haloes, made of the large multipoles, against their
    # total masses.
    weight = np.sqrt(ell / ell[-1])
    parts = [
        _decompose(family[part].reshape(-1, ell.size), weight, rank)
        for part, rank in enumerate((NUM_ROUND, NUM_QUADRUPOLE))
    ]
    coefficients = np.concatenate([part[0] for part in parts], axis=1)
    return HaloBasis(
        log_radius=jnp.asarray(np.log(radius), float),
        log_concentration=jnp.asarray(np.log(concentration), float),
        coefficients=jnp.asarray(coefficients.reshape(radius.size, concentration.size, -1), float),
        log_ell=jnp.asarray(np.log(ell), float),
        functions=jnp.asarray(np.concatenate([part[1] for part in parts]), float),
    )


def _decompose(rows: np.ndarray, weight: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    u, s, v = np.linalg.svd(rows * weight, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank] / weight


def coefficients(
    basis: HaloBasis, log_radius: jax.Array, log_concentration: jax.Array
) -> jax.Array:
    """Coefficients of haloes, bilinear in the table; held constant beyond its borders.

    Args:
        log_radius, log_concentration: any one shape.

    Returns:
        That shape + ``(K + Q,)``.
    """
    row, row_part = _place(log_radius, basis.log_radius)
    column, column_part = _place(log_concentration, basis.log_concentration)
    table = basis.coefficients
    low = table[row, column] * (1 - column_part) + table[row, column + 1] * column_part
    high = table[row + 1, column] * (1 - column_part) + table[row + 1, column + 1] * column_part
    return low * (1 - row_part) + high * row_part


def _place(value: jax.Array, nodes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Index of the node below, and the distance from it with a last axis of one."""
    last = nodes.shape[0] - 1
    at = jnp.clip((value - nodes[0]) / (nodes[last] - nodes[0]) * last, 0, last * (1 - 1e-6))
    index = at.astype(jnp.int32)
    return index, (at - index)[..., None]


def modes_of_basis(basis: HaloBasis, grid: Grid) -> jax.Array:
    """The functions on the half plane of `jax.numpy.fft.rfft2`, zero at the monopole.

    Returns:
        Shape ``(K + Q, ny, nx // 2 + 1)``.
    """
    ell = half_plane_ell(grid)
    log_ell = np.log(np.maximum(np.abs(ell), 1e-9)).ravel()
    nodes = np.asarray(basis.log_ell)
    values = np.stack([np.interp(log_ell, nodes, row) for row in np.asarray(basis.functions)])
    modes = values.reshape(-1, *ell.shape)
    modes[:, 0, 0] = 0
    return jnp.asarray(modes, float)


def half_plane_ell(grid: Grid) -> np.ndarray:
    """Complex multipoles of the half plane of `jax.numpy.fft.rfft2`, ``(ny, nx // 2 + 1)``."""
    ny, nx = grid.shape
    step = 2 * np.pi / grid.pixel_sr**0.5
    return step * (np.fft.rfftfreq(nx)[None, :] + 1j * np.fft.fftfreq(ny)[:, None])


def deposit(x: jax.Array, y: jax.Array, values: jax.Array, grid: Grid) -> jax.Array:
    """Add points to the nearest pixels of periodic maps.

    Every halo is drawn as if it lay on its pixel's centre. Shared among several pixels, it would
    be blurred by an amount that depends on its place; this way the mean power of random points is
    the same at all scales, and the images are exact.

    Args:
        x, y: positions in pixels from the first pixel's centre, shape ``(n,)``.
        values: shape ``(n, m)``.

    Returns:
        Shape ``(m, ny, nx)``.
    """
    ny, nx = grid.shape
    column, row = jnp.floor(x + 0.5).astype(jnp.int32), jnp.floor(y + 0.5).astype(jnp.int32)
    pixel = (row % ny) * nx + column % nx
    sums = jnp.zeros((ny * nx, values.shape[1]), values.dtype).at[pixel].add(values)
    return sums.T.reshape(-1, ny, nx)


def convolve_points(points: jax.Array, modes: jax.Array, grid: Grid) -> jax.Array:
    r"""Modes of the map whose haloes were deposited as points.

    Args:
        points: deposited :math:`w a_k`, :math:`w \eta \cos(2\psi) b_k` and
            :math:`w \eta \sin(2\psi) b_k`, shape ``(K + 2 Q, ny, nx)``.
        modes: from `modes_of_basis`, shape ``(K + Q, ny, nx // 2 + 1)``.

    Returns:
        Complex, shape ``(ny, nx // 2 + 1)``.
    """
    fourier = jnp.fft.rfft2(points)
    round_part, cos_part, sin_part = jnp.split(
        fourier, [NUM_ROUND, NUM_ROUND + NUM_QUADRUPOLE], axis=0
    )
    ell = half_plane_ell(grid)
    double = np.exp(2j * np.angle(ell))
    cos, sin = (jnp.asarray(part, modes.dtype)[None] for part in (double.real, double.imag))
    quadrupole = 0.5 * jnp.sum(modes[NUM_ROUND:] * (cos * cos_part + sin * sin_part), axis=0)
    return jnp.sum(modes[:NUM_ROUND] * round_part, axis=0) + quadrupole
