"""Mock galaxy shapes behind a convergence map."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.grid import Grid
from jaxmap.operators import reduced_shear


def mock_catalog(
    key: jax.Array,
    convergence: jax.Array,
    grid: Grid,
    num_galaxies: int,
    shape_noise: float = 0.26,
    field: Grid | None = None,
) -> ShearCatalog:
    r"""Galaxies at random positions, sheared by a map and with intrinsic shapes.

    .. math:: e = \frac{e_s + g}{1 + g^* e_s} \; (|g| \le 1), \quad
              e = \frac{1 + g e_s^*}{e_s^* + g^*} \; (|g| > 1), \quad
              g = \frac{\gamma}{1 - \kappa}

    Args:
        key: PRNG key.
        convergence: :math:`\kappa` on ``grid``, shape ``(ny, nx)``, periodic.
        grid: pixel grid with a centre on the sky.
        num_galaxies: how many; uniform in the tangent plane.
        shape_noise: standard deviation of each component of :math:`e_s` (Gaussian, cut at
            :math:`|e_s| < 0.95`).
        field: a smaller grid of the same centre and pixels to draw galaxies in, so that mass
            outside the survey acts too; the whole grid by default.

    References:
        Seitz & Schneider (1997), A&A 318, 687.
    """
    ny, nx = (field or grid).shape
    key_position, key_shape = jax.random.split(key)
    uniform = jax.random.uniform(key_position, (2, num_galaxies))
    y = (uniform[0] - 0.5) * ny + (grid.shape[0] - 1) / 2
    x = (uniform[1] - 0.5) * nx + (grid.shape[1] - 1) / 2
    row = jnp.clip(jnp.floor(y + 0.5).astype(int), 0, grid.shape[0] - 1)
    column = jnp.clip(jnp.floor(x + 0.5).astype(int), 0, grid.shape[1] - 1)
    g = reduced_shear(convergence, grid)[row, column]
    intrinsic = jax.lax.complex(*(shape_noise * jax.random.normal(key_shape, (2, num_galaxies))))
    intrinsic = intrinsic * jnp.minimum(1, 0.95 / jnp.maximum(jnp.abs(intrinsic), 1e-6))
    weak = jnp.abs(g) <= 1
    observed = jnp.where(weak, intrinsic + g, 1 + g * intrinsic.conj()) / jnp.where(
        weak, 1 + g.conj() * intrinsic, intrinsic.conj() + g.conj()
    )
    ra, dec = grid.wcs().all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
    return shear_catalog(ra, dec, np.asarray(observed) * grid.frame_rotation(ra).conj())
