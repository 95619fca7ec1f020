r"""Shear at the places of galaxies, not binned: a map is read off, and written back, bilinearly.

A galaxy at x sees :math:`\gamma(x) = \sum_p c_p(x)\, \gamma_p` of the four pixels around it, with
:math:`c` the bilinear weights; the adjoint spreads a galaxy's value over the same four. The shape
of one galaxy then has noise of its own, and nothing is averaged over a pixel before the fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import shape_noise_of
from jaxmap.catalog import ShearCatalog, ShearMap, require_finite
from jaxmap.grid import Grid
from jaxmap.operators import sum_in_pixels


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GalaxyShear:
    """Shapes of galaxies on a pixel grid; made by `galaxy_shear`.

    Args:
        x, y: positions in pixels from the first pixel's centre, shape ``(n,)``; the grid is taken
            for periodic.
        shear: complex, shape ``(n,)``, in the frame of the grid.
        galaxy_weight: inverse noise variance of the two components, shape ``(2, n)``.
        grid: of the map.
    """

    x: jax.Array
    y: jax.Array
    shear: jax.Array
    galaxy_weight: jax.Array
    grid: Grid = field(metadata={"static": True})

    @property
    def weight(self) -> jax.Array:
        r"""The galaxies' weights in the pixels around them, shape ``(2, ny, nx)``.

        No weighted map is magnified more than by its maximum: the rows of the matrix
        :math:`B^t W B` of a bilinear B sum to it.
        """
        return jnp.stack([_spread(self, weight) for weight in self.galaxy_weight])

    @property
    def counts(self) -> jax.Array:
        """Galaxies in every pixel, shape ``(ny, nx)``."""
        return sum_in_pixels(self.x, self.y, jnp.ones_like(self.x), self.grid)

    @property
    def mask(self) -> jax.Array:
        """True in pixels that hold a galaxy, shape ``(ny, nx)``."""
        return self.counts > 0


def galaxy_shear(
    catalog: ShearCatalog, grid: Grid, shape_noise: float | tuple[float, float] | None = None
) -> GalaxyShear:
    r"""Galaxies of a catalogue on a tangent plane, with the noise that `bin_shear` would give them.

    .. math:: w_{a,i} = \frac{w_i}{\sigma_{e,a}^2} \frac{\sum_j w_j}{\sum_j w_j^2}

    so that a pixel of many galaxies has the same weight as there.

    Args:
        catalog: galaxy shapes.
        grid: pixel grid with a centre on the sky; galaxies outside it are left out.
        shape_noise: per component, one number or two; measured from the catalogue by default.

    Raises:
        ValueError: if no galaxy with weight falls on the grid, or the shape noise is not positive.
    """
    sigma = shape_noise_of(catalog, shape_noise)
    x, y = grid.pixel_position(catalog.ra_deg, catalog.dec_deg)
    ny, nx = grid.shape
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
    inside &= catalog.weight > 0
    if not inside.any():
        raise ValueError(
            f"none of the {len(catalog)} galaxies falls on the grid centred on {grid.centre_deg} "
            "deg; give the centre of the catalogue or a larger size"
        )
    relative = catalog.weight[inside] / catalog.weight.max()
    effective = relative * relative.sum() / (relative**2).sum()
    weight = jnp.asarray(effective[None] / sigma[:, None] ** 2, float)
    require_finite(weight)
    turned = catalog.ellipticity * grid.frame_rotation(catalog.ra_deg)
    return GalaxyShear(
        x=jnp.asarray(x[inside], float),
        y=jnp.asarray(y[inside], float),
        shear=jnp.asarray(turned[inside], complex),
        galaxy_weight=weight,
        grid=grid,
    )


def pixel_mean(galaxies: GalaxyShear) -> ShearMap:
    r"""Inverse-variance mean of the galaxies in every pixel.

    .. math:: \gamma_p = \frac{\sum_{i \in p} w_i e_i}{\sum w_i}, \qquad w_p = \sum_{i \in p} w_i

    Against `bin_shear`, where the weights of a catalogue count within a pixel alone, galaxies of
    small weight are noisier: that matters in pixels of few galaxies.
    """
    values = [*galaxies.galaxy_weight]
    values += [values[0] * galaxies.shear.real, values[1] * galaxies.shear.imag]
    values.append(jnp.ones_like(galaxies.x))
    sums = sum_in_pixels(galaxies.x, galaxies.y, jnp.stack(values, axis=-1), galaxies.grid)
    *weight, first, second, counts = jnp.moveaxis(sums, -1, 0)
    safe = [jnp.where(each > 0, each, 1) for each in weight]
    shear = jax.lax.complex(first / safe[0], second / safe[1])
    return ShearMap(shear, jnp.stack(weight), galaxies.grid, counts)


def read_off(galaxies: GalaxyShear, field: jax.Array) -> jax.Array:
    """A map, real or complex, at the places of the galaxies, shape ``(n,)``."""
    corners = _corners(galaxies)
    return sum(share * field[row, column] for row, column, share in corners)  # type: ignore[return-value]


def weighted_residual(galaxies: GalaxyShear, shear: jax.Array) -> jax.Array:
    r""":math:`B^t W (\gamma - B\,\gamma_{map})`, complex, shape ``(ny, nx)``."""
    missing = galaxies.shear - read_off(galaxies, shear)
    first, second = galaxies.galaxy_weight
    return jax.lax.complex(
        _spread(galaxies, first * missing.real), _spread(galaxies, second * missing.imag)
    )


def neighbour_weights(galaxies: GalaxyShear) -> dict[tuple[int, int], jax.Array]:
    r"""The weight matrix :math:`B^t W B` off its diagonal, for `jaxmap.starlet.starlet_noise`.

    Returns:
        Element between every pixel and that ``(rows, columns)`` further on, ``(2, ny, nx)`` for
        each such offset; the others follow from symmetry. The diagonal is under ``(0, 0)``.
    """
    corners = _corners(galaxies)
    places = ((0, 0), (0, 1), (1, 0), (1, 1))
    found = {offset: jnp.zeros((2, *galaxies.grid.shape)) for offset in _OFFSETS}
    for place, (row, column, share) in zip(places, corners, strict=True):
        for other, (_, _, its_share) in zip(places, corners, strict=True):
            offset = (other[0] - place[0], other[1] - place[1])
            if offset in found:
                value = galaxies.galaxy_weight * (share * its_share)[None]
                found[offset] = found[offset].at[:, row, column].add(value)
    return found


_OFFSETS = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1))


def padded_galaxies(galaxies: GalaxyShear, margin: int) -> GalaxyShear:
    """On a grid with so many more pixels on every side."""
    return replace(
        galaxies, x=galaxies.x + margin, y=galaxies.y + margin, grid=galaxies.grid.padded(margin)
    )


class _Corner(NamedTuple):
    row: jax.Array
    column: jax.Array
    share: jax.Array


def _corners(galaxies: GalaxyShear) -> list[_Corner]:
    """Rows, columns and bilinear weights of the four pixels around every galaxy."""
    ny, nx = galaxies.grid.shape
    left, low = jnp.floor(galaxies.x), jnp.floor(galaxies.y)
    right_share, high_share = galaxies.x - left, galaxies.y - low
    columns = [(left.astype(jnp.int32) + step) % nx for step in (0, 1)]
    rows = [(low.astype(jnp.int32) + step) % ny for step in (0, 1)]
    return [
        _Corner(rows[i], columns[j], across * along)
        for i, across in enumerate((1 - high_share, high_share))
        for j, along in enumerate((1 - right_share, right_share))
    ]


def _spread(galaxies: GalaxyShear, values: jax.Array) -> jax.Array:
    spread = jnp.zeros(galaxies.grid.shape, values.dtype)
    for row, column, share in _corners(galaxies):
        spread = spread.at[row, column].add(share * values)
    return spread
