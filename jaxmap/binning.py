"""From galaxies to pixels: the mean shear and its noise on a tangent plane."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearCatalog, ShearMap, require_finite
from jaxmap.grid import Grid
from jaxmap.operators import sum_in_pixels


def measured_shape_noise(catalog: ShearCatalog) -> tuple[float, float]:
    r"""Shape noise per component from the scatter of the ellipticities.

    .. math:: \sigma_{e,a}^2 = \sum_i w_i^2 e_{a,i}^2 / \sum_i w_i^2

    The weights enter squared because that is how they enter the variance of a weighted mean.
    """
    squared = (catalog.weight / catalog.weight.max()) ** 2
    variance = [
        float(np.sum(squared * part**2) / np.sum(squared))
        for part in (catalog.ellipticity.real, catalog.ellipticity.imag)
    ]
    return variance[0] ** 0.5, variance[1] ** 0.5


def shape_noise_of(
    catalog: ShearCatalog, given: float | tuple[float, float] | None = None
) -> np.ndarray:
    """Shape noise per component, shape ``(2,)``: the one given, or measured.

    Raises:
        ValueError: if it is not positive.
    """
    noise = measured_shape_noise(catalog) if given is None else given
    sigma = np.broadcast_to(np.asarray(noise, float), (2,))
    if not np.all(np.isfinite(sigma) & (sigma > 0)):
        raise ValueError(
            f"the shape noise per component is {sigma.tolist()}; expected numbers above 0 (all "
            "ellipticities equal? give the value, e.g. shape_noise=0.26 or --shape-noise 0.26)"
        )
    return sigma


def bin_shear(
    catalog: ShearCatalog, grid: Grid, shape_noise: float | tuple[float, float] | None = None
) -> ShearMap:
    r"""Weighted mean shear and its inverse noise variance in every pixel of a tangent plane.

    .. math::
        \gamma_p = \frac{\sum_{i \in p} w_i e_i}{\sum w_i}, \qquad
        w_{a,p} = \frac{(\sum w_i)^2}{\sigma_{e,a}^2 \sum w_i^2}

    with the ellipticities turned to the frame of the grid (`Grid.frame_rotation`).

    Args:
        catalog: galaxy shapes.
        grid: pixel grid with a centre on the sky.
        shape_noise: :math:`\sigma_e` per component, one number or two; measured from the catalogue
            by default (`measured_shape_noise`).

    Raises:
        ValueError: if no galaxy with weight falls on the grid, or the shape noise is not positive.
    """
    sigma = shape_noise_of(catalog, shape_noise)
    x, y = grid.pixel_position(catalog.ra_deg, catalog.dec_deg)
    shear, weight, counts = weighted_mean_shear(
        jnp.asarray(x, float),
        jnp.asarray(y, float),
        jnp.asarray(catalog.ellipticity * grid.frame_rotation(catalog.ra_deg), complex),
        jnp.asarray(catalog.weight / catalog.weight.max(), float),
        jnp.asarray(sigma, float),
        grid,
    )
    require_finite(weight)
    if not bool(jnp.any(weight > 0)):
        raise ValueError(
            f"none of the {len(catalog)} galaxies falls on the grid centred on {grid.centre_deg} "
            "deg; give the centre of the catalogue or a larger size"
        )
    return ShearMap(shear=shear, weight=weight, grid=grid, counts=counts)


@partial(jax.jit, static_argnames="grid")
def weighted_mean_shear(
    x: jax.Array,
    y: jax.Array,
    ellipticity: jax.Array,
    weight: jax.Array,
    shape_noise: jax.Array,
    grid: Grid,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The pure core of `bin_shear`: pixel positions in, (shear, inverse variance, counts) out.

    Galaxies of zero weight count for nothing. Differentiable in ellipticity, weight and noise.
    """
    counted = (weight > 0).astype(weight.dtype)
    columns = (weight * ellipticity.real, weight * ellipticity.imag, weight, weight**2, counted)
    sums = sum_in_pixels(x, y, jnp.stack(columns, axis=-1), grid)
    sum_e1, sum_e2, sum_w, sum_w2, counts = jnp.moveaxis(sums, -1, 0)
    # A weight so small that its square vanishes in this precision counts as none.
    observed = sum_w2 > 0
    safe_w = jnp.where(observed, sum_w, 1)
    shear = jax.lax.complex(sum_e1 / safe_w, sum_e2 / safe_w)
    # In derivatives of the square of the ratio no power of weights higher than the second divides.
    ratio = safe_w / jnp.sqrt(jnp.where(observed, sum_w2, 1))
    effective = jnp.where(observed, ratio**2, 0)
    return shear, effective[None] / shape_noise[:, None, None] ** 2, counts
