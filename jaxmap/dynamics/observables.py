"""What an observer sees of a simulated galaxy: projected radius and line-of-sight velocity.

Positions are comoving Mpc/h relative to the cluster, velocities peculiar, in km/s. All functions
are pure and work under jit, vmap and grad.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.cosmology import comoving_distance

LIGHT_SPEED_KM_S = 299792.458
BLOCK = 1 << 15
"""Galaxies whose velocities are computed at a time."""
OMEGA_M = 0.307115
"""Matter density of the MultiDark Planck cosmology, which the published mocks have."""


def basis(direction: ArrayLike) -> jax.Array:
    r"""Orthonormal axes :math:`(\hat x, \hat y, \hat z)` with z along a direction.

    Args:
        direction: any length above 0, shape ``(3,)``.

    Returns:
        Axes as rows, shape ``(3, 3)``.

    References:
        Duff et al. (2017), JCGT 6, 1, for axes without a singular direction.
    """
    along = jnp.asarray(direction, float)
    z = along / jnp.linalg.norm(along)
    sign = jnp.where(z[2] < 0, -1.0, 1.0).astype(z.dtype)
    a = -1 / (sign + z[2])
    b = z[0] * z[1] * a
    x = jnp.stack([1 + sign * z[0] ** 2 * a, sign * b, -sign * z[0]])
    y = jnp.stack([b, sign + z[1] ** 2 * a, -z[1]])
    return jnp.stack([x, y, z])


def project(position: jax.Array, axes: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Sky coordinates and projected radius.

    .. math:: x = [r - (r \cdot \hat z) \hat z] \cdot \hat x, \quad y \text{ alike}, \quad
        R = \sqrt{x^2 + y^2}

    Args:
        position: relative to the cluster, shape ``(n, 3)``.
        axes: rows of `basis`.

    Returns:
        ``(x, y)`` as shape ``(n, 2)``, and R, shape ``(n,)``, both in the unit of the position.

    References:
        Ho et al. (2019), ApJ 887, 25, equations 15 and 16.
    """
    sky = position @ axes[:2].T
    return sky, jnp.sqrt(jnp.sum(sky**2, axis=-1))


def hubble_velocity(z: jax.Array) -> jax.Array:
    r"""Velocity of recession, :math:`c\,[(1+z)^2 - 1]/[(1+z)^2 + 1]` in km/s (equation 19)."""
    square = (1 + z) ** 2
    return LIGHT_SPEED_KM_S * (square - 1) / (square + 1)


def add_velocities(first: jax.Array, second: jax.Array) -> jax.Array:
    r"""Relativistic sum of velocities along a line, :math:`(u + v) / (1 + u v / c^2)`, in km/s."""
    return (first + second) / (1 + first * second / LIGHT_SPEED_KM_S**2)


def line_of_sight_velocity(
    depth_mpc_h: ArrayLike,
    velocity_km_s: ArrayLike,
    cluster_velocity_km_s: ArrayLike = 0.0,
    redshift: float = 0.117,
    omega_m: float = OMEGA_M,
) -> jax.Array:
    r"""Velocity of galaxies along the line of sight as seen from their cluster.

    .. math:: v_\mathrm{los} = (v_\mathrm{gal} \oplus v^H_\mathrm{gal}) \ominus
        (v_\mathrm{clu} \oplus v^H_\mathrm{clu})

    with the Hubble velocities at the redshifts of the comoving distances
    :math:`d_\mathrm{clu}` and :math:`d_\mathrm{clu} + \text{depth}`.

    Args:
        depth_mpc_h: comoving distance behind the cluster, shape ``(n,)``.
        velocity_km_s: peculiar velocity of the galaxies along the line of sight, away from the
            observer, shape ``(n,)``.
        cluster_velocity_km_s: of the cluster.
        redshift: of the cluster's distance.
        omega_m: matter density of the flat cosmology.

    Returns:
        Velocities in km/s, shape ``(n,)``.

    References:
        Ho et al. (2019), ApJ 887, 25, equations 17 to 22.
    """
    z = np.linspace(0, redshift + 0.25, 1024)
    distance = comoving_distance(z, omega_m)
    at_cluster = comoving_distance(redshift, omega_m)
    depth = jnp.asarray(depth_mpc_h)
    kind = jnp.result_type(depth.dtype, float)
    table = [jnp.asarray(values, kind) for values in (distance - at_cluster, z)]
    galaxy = hubble_velocity(jnp.interp(depth.astype(kind), *table))
    cluster = hubble_velocity(jnp.asarray(redshift, kind))
    seen = add_velocities(jnp.asarray(velocity_km_s, kind), galaxy)
    frame = add_velocities(jnp.asarray(cluster_velocity_km_s, kind), cluster)
    return add_velocities(seen, -frame)


def velocities_in_blocks(
    depth_mpc_h: np.ndarray,
    velocity_km_s: np.ndarray,
    cluster_velocity_km_s: np.ndarray | float = 0.0,
    redshift: float = 0.117,
    omega_m: float = OMEGA_M,
) -> np.ndarray:
    """`line_of_sight_velocity` of host arrays of any length, compiled for one length only."""
    num = len(depth_mpc_h)
    rows = max(1, -(-num // BLOCK))
    frame = np.broadcast_to(cluster_velocity_km_s, num)
    columns = np.stack([depth_mpc_h, velocity_km_s, frame])
    blocks = np.pad(columns, ((0, 0), (0, rows * BLOCK - num))).reshape(3, rows, BLOCK)
    seen = [_block_velocities(*blocks[:, row], redshift, omega_m) for row in range(rows)]
    return np.concatenate(seen)[:num]


_block_velocities = jax.jit(line_of_sight_velocity, static_argnums=(3, 4))


def fibonacci_directions(num: int, shift: float = 0.0) -> np.ndarray:
    r"""Evenly spread directions on the sphere.

    .. math:: z_i = -1 + \frac{2 i + 1}{N}, \qquad \varphi_i = (i + u)\,\pi\,(3 - \sqrt 5)

    Args:
        num: N, 0 or more.
        shift: u, turns the set about z.

    Returns:
        Unit vectors, shape ``(num, 3)``.

    References:
        Gonzalez (2010), Math. Geosci. 42, 49.
    """
    i = np.arange(num)
    z = -1 + (2 * i + 1) / max(num, 1)
    angle = (i + shift) * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=-1)


def lines_of_sight(num: int, shift: float = 0.0) -> np.ndarray:
    """Directions to look at a halo from: three orthogonal ones, then a Fibonacci set.

    Returns:
        Unit vectors, shape ``(num, 3)``; the first three are z, x and y.
    """
    orthogonal = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    return np.concatenate([orthogonal, fibonacci_directions(max(num - 3, 0), shift)])[:num]


def axes_of_sight(num: int) -> np.ndarray:
    """The `basis` of every one of `lines_of_sight`, shape ``(num, 3, 3)``."""
    return np.asarray(_bases(lines_of_sight(num)))


_bases = jax.jit(jax.vmap(basis))
