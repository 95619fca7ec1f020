"""Kernel density images of clusters in phase space: what the networks see.

Pixels are sampled at the centres of even bins, velocities from -cut to cut (axis 0) and radii from
0 to the aperture (axis 1), and normalised to a sum of one. Kernels are Gaussian; their widths are a
share of the sample's standard deviation, and never so small that a galaxy falls between pixels. All
functions of one cluster work under jit, vmap and grad.

References:
    Ho et al. (2019), ApJ 887, 25, section 3.1; Scott (2015), Multivariate Density Estimation.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.dynamics.dispersion import masked_dispersion
from jaxmap.dynamics.members import ClusterMembers, padded

NUM_PIXELS = 48
BANDWIDTH = 0.25
SMALLEST_WIDTH = 0.3
"""Of a kernel, in pixels."""
BATCH = 64


def velocity_profile(
    velocity_km_s: jax.Array,
    mask: jax.Array,
    velocity_cut_km_s: float,
    bandwidth: float = BANDWIDTH,
    num: int = NUM_PIXELS,
) -> jax.Array:
    r"""Density of velocities, :math:`\hat f(v) \propto \sum_i K[(v - v_i)/h]`, :math:`h = h_0 s`.

    Args:
        velocity_km_s: shape ``(n,)``.
        mask: True for galaxies, two at least, shape ``(n,)``.
        velocity_cut_km_s: half length of the cylinder.
        bandwidth: h_0.
        num: pixels.

    Returns:
        Shape ``(num,)``, with a sum of one.
    """
    cut = velocity_cut_km_s
    kernels = _kernels(velocity_km_s, mask, -cut, cut, bandwidth, num)
    profile = jnp.sum(kernels, axis=1)
    return profile / jnp.sum(profile)


def phase_space_image(
    radius_mpc_h: jax.Array,
    velocity_km_s: jax.Array,
    mask: jax.Array,
    aperture_mpc_h: float,
    velocity_cut_km_s: float,
    bandwidth: float = BANDWIDTH,
    num: int = NUM_PIXELS,
) -> jax.Array:
    r"""Density of velocities and radii with a product kernel.

    .. math:: \hat f(v, R) \propto \sum_i K\!\left(\frac{v - v_i}{h_v}\right)
        K\!\left(\frac{R - R_i}{h_R}\right)

    which is the product of two matrices, one per axis.

    Args:
        radius_mpc_h: shape ``(n,)``; the others as in `velocity_profile`.
        aperture_mpc_h: radius of the cylinder.

    Returns:
        Shape ``(num, num)``, velocity first, with a sum of one.
    """
    cut = velocity_cut_km_s
    along_v = _kernels(velocity_km_s, mask, -cut, cut, bandwidth, num)
    along_r = _kernels(radius_mpc_h, mask, 0.0, aperture_mpc_h, bandwidth, num)
    image = along_v @ along_r.T
    return image / jnp.sum(image)


def tilted_image(
    radius_mpc_h: jax.Array,
    velocity_km_s: jax.Array,
    mask: jax.Array,
    aperture_mpc_h: float,
    velocity_cut_km_s: float,
    bandwidth: float = BANDWIDTH,
    num: int = NUM_PIXELS,
) -> jax.Array:
    r"""As `phase_space_image`, with kernels of the sample's full covariance, :math:`h_0^2 C`.

    This is what ``scipy.stats.gaussian_kde(data, h_0)`` computes; the published code used it.
    """
    points = jnp.stack([velocity_km_s, radius_mpc_h])
    count = jnp.sum(mask)
    mean = jnp.sum(jnp.where(mask[None, :], points, 0), axis=1) / count
    apart = jnp.where(mask[None, :], points - mean[:, None], 0)
    covariance = apart @ apart.T / (count - 1)
    pixel = jnp.array([2 * velocity_cut_km_s, aperture_mpc_h]) / num
    floor = jnp.diag((SMALLEST_WIDTH * pixel) ** 2)
    widths = jnp.diag(covariance) * bandwidth**2 < jnp.diag(floor)
    root = jnp.linalg.cholesky(covariance * bandwidth**2 + jnp.where(widths[:, None], floor, 0))
    v = _centres(-velocity_cut_km_s, velocity_cut_km_s, num)
    r = _centres(0.0, aperture_mpc_h, num)
    grid = jnp.stack([jnp.repeat(v, num), jnp.tile(r, num)])
    white = (jax.scipy.linalg.solve_triangular(root, x, lower=True) for x in (grid, points))
    at, of = white
    squares = sum((at[i][:, None] - of[i][None, :]) ** 2 for i in range(2))
    image = jnp.sum(jnp.where(mask[None, :], jnp.exp(-0.5 * squares), 0), axis=1)
    return (image / jnp.sum(image)).reshape(num, num)


def images_of(
    members: ClusterMembers,
    with_radius: bool,
    aperture_mpc_h: float,
    velocity_cut_km_s: float,
    bandwidth: float = BANDWIDTH,
    num: int = NUM_PIXELS,
    tilted: bool = False,
) -> np.ndarray:
    """Images of all clusters, float32.

    Args:
        members: clusters of two galaxies at least, not all at one velocity.
        with_radius: images; otherwise profiles.
        aperture_mpc_h, velocity_cut_km_s: the cylinder.
        bandwidth, num: as in `phase_space_image`.
        tilted: `tilted_image` instead.

    Returns:
        Shape ``(clusters, num, num)``, or ``(clusters, num, 1)`` for profiles.
    """
    found = np.empty((len(members), num, num if with_radius else 1), np.float32)
    settings = (with_radius, aperture_mpc_h, velocity_cut_km_s, bandwidth, num, tilted)
    powers = np.maximum(np.ceil(np.log2(np.maximum(members.richness, 1)) / 3), 2)
    for power in np.unique(powers):
        inside = np.flatnonzero(powers == power)
        for first in range(0, len(inside), BATCH):
            which = inside[first : first + BATCH]
            block = padded(members, which, int(8**power), BATCH)
            arrays = (np.asarray(x, np.float32) for x in block[:2])
            found[which] = np.asarray(_batch(*arrays, block.mask, *settings))[: len(which)]
    return found


@partial(jax.jit, static_argnums=(3, 4, 5, 6, 7, 8))
def _batch(
    radius: jax.Array,
    velocity: jax.Array,
    mask: jax.Array,
    with_radius: bool,
    aperture: float,
    cut: float,
    bandwidth: float,
    num: int,
    tilted: bool,
) -> jax.Array:
    if not with_radius:
        profiles = jax.vmap(lambda v, m: velocity_profile(v, m, cut, bandwidth, num))
        return profiles(velocity, mask)[:, :, None]
    image = tilted_image if tilted else phase_space_image
    return jax.vmap(lambda r, v, m: image(r, v, m, aperture, cut, bandwidth, num))(
        radius, velocity, mask
    )


def _centres(low: float, high: float, num: int) -> jax.Array:
    return low + (jnp.arange(num) + 0.5) * ((high - low) / num)


def _kernels(
    values: jax.Array, mask: jax.Array, low: float, high: float, bandwidth: float, num: int
) -> jax.Array:
    """Kernels of galaxies at the centres of pixels, shape ``(num, n)``."""
    floor = SMALLEST_WIDTH * (high - low) / num
    width = jnp.maximum(bandwidth * masked_dispersion(values, mask), floor)
    centres = _centres(low, high, num).astype(values.dtype)
    distance = (centres[:, None] - values[None, :]) / width
    return jnp.where(mask[None, :], jnp.exp(-0.5 * distance**2), 0)
