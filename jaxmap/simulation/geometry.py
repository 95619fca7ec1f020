"""How simulated maps, surveyed fields and galaxies lie on one another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import WIDEST_FIELD_DEG, Grid


@jax.jit
def value_at(values: jax.Array, grid: Grid, x: jax.Array, y: jax.Array) -> jax.Array:
    """Value of a map in the pixels of places, given in arcminutes from the grid's centre.

    Maps hold means over pixels: with no interpolation between them, which would smooth once more,
    the mean over the galaxies of a pixel is the pixel's value.
    """
    ny, nx = grid.shape
    row = jnp.floor(y / grid.pixel_arcmin + ny / 2).astype(int)
    column = jnp.floor(x / grid.pixel_arcmin + nx / 2).astype(int)
    return values[jnp.clip(row, 0, ny - 1), jnp.clip(column, 0, nx - 1)]


def middle(values: jax.Array, grid: Grid, field: Grid) -> jax.Array:
    """The pixels of a field in the middle of a map on a larger grid, shape ``field.shape``.

    Raises:
        ValueError: if the field's pixels are not among the grid's.
    """
    rows, columns = (big - small for big, small in zip(grid.shape, field.shape, strict=True))
    whole = min(rows, columns) >= 0 and rows % 2 == columns % 2 == 0
    if field.pixel_arcmin != grid.pixel_arcmin or not whole or not _one_centre(grid, field):
        raise ValueError(
            f"the pixels of the field {field} are not those in the middle of {grid}; expected the "
            "same pixel scale and centre, and a margin of whole pixels (Grid.padded gives one)"
        )
    top, left = rows // 2, columns // 2
    return values[top : top + field.shape[0], left : left + field.shape[1]]


def extent_arcmin(grid: Grid) -> tuple[float, float]:
    """Height and width."""
    return grid.shape[0] * grid.pixel_arcmin, grid.shape[1] * grid.pixel_arcmin


def plane(grid: Grid) -> Grid:
    """The tangent plane whose pixel coordinates are arcminutes from the grid's centre."""
    return Grid((1, 1), 1.0, grid.centre_deg)


def check_map(convergence: Any, grid: Grid) -> None:
    """Refuse maps that galaxies on the sky cannot be put behind."""
    if np.shape(convergence) != grid.shape:
        raise ValueError(
            f"the convergence has shape {np.shape(convergence)}; expected the grid's (ny, nx) = "
            f"{grid.shape}"
        )
    if not bool(jnp.all(jnp.isfinite(jnp.asarray(convergence)))):
        raise ValueError("the convergence is not finite everywhere; simulate another map")
    if grid.centre_deg is None:
        raise ValueError(
            "the grid is not on the sky, so its galaxies would have no RA and Dec; give it a "
            "centre: Grid(shape, pixel_arcmin, centre_deg=(ra, dec))"
        )
    check_flat(grid, "the grid")


def check_flat(grid: Grid, what: str) -> None:
    """Refuse a grid, called ``what`` in the message, that is too wide to be taken as flat."""
    side = max(extent_arcmin(grid)) / 60
    if side > WIDEST_FIELD_DEG:
        raise ValueError(
            f"{what} is {side:.1f} degrees wide; expected at most {WIDEST_FIELD_DEG:g}, where a "
            "tangent plane is still flat enough (simulate patches, or use larger-area tools such "
            "as GLASS)"
        )


def check_field(field: Grid, grid: Grid) -> None:
    """Refuse a field that is not inside the simulated grid."""
    if not _one_centre(grid, field):
        raise ValueError(
            f"the field is centred on {field.centre_deg} deg and the simulated grid on "
            f"{grid.centre_deg}; expected one centre"
        )
    (height, width), (high, wide) = extent_arcmin(field), extent_arcmin(grid)
    # Products such as 720 * 0.29 are not exact.
    if height > high * (1 + 1e-9) or width > wide * (1 + 1e-9):
        raise ValueError(
            f"the field is {width:g} x {height:g} arcmin and the simulated grid {wide:g} x "
            f"{high:g}; expected a field inside the grid: give a smaller field, or simulate more"
        )


def _one_centre(grid: Grid, field: Grid) -> bool:
    return None in (grid.centre_deg, field.centre_deg) or grid.centre_deg == field.centre_deg
