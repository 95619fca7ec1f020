r"""Fields about clusters of galaxies, cut out of larger convergence maps, and galaxies behind them.

The recipe of Hong et al. (2021): peaks of convergence maps of one source redshift, 32 arcmin about
each, 25 000 galaxies at random places with shape noise and an error of measurement that grows
towards faint magnitudes, reduced shear also inside critical curves, and holes of bright stars.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence, sum_in_pixels
from jaxmap.simulation.masks import StarField, Stars, draw_stars, outside_stars
from jaxmap.simulation.response import ShearResponse, lensed_ellipticity
from jaxmap.simulation.shapes import MeasurementError, draw_ellipticities

BRIGHT_STARS = Stars(density_arcmin2=1.5 / 400, radius_arcmin=(0.5, 2.0))
"""One or two in 20' x 20', with masks of 0.5' to 2' (Hong et al., Sect. 3.5)."""

_SMOOTHING = 1.0  # pixels, of maps in which peaks are looked for


@jax.tree_util.register_static
@dataclass(frozen=True)
class ClusterSurvey:
    """Galaxies of a field; hashable.

    The error of measurement is a stand-in: Hong et al. took the relation that Kim et al. (2019)
    observed, which is not published as numbers. Here it rises as for noise of the sky, to 0.4 for
    the faintest, over their range of magnitudes (from 21.5, most at 25.5, to 27.5).

    Args:
        num_galaxies: in the field; masks of stars take some away.
        field_arcmin: side of the field.
        shape_noise: of unlensed galaxies, per component.
        faintest_error: of measurement of the faintest galaxies, per component.
    """

    num_galaxies: int = 25_000
    field_arcmin: float = 32.0
    shape_noise: float = 0.24
    faintest_error: float = 0.4

    @property
    def measurement(self) -> MeasurementError:
        """The error of measurement by magnitude."""
        return MeasurementError(self.faintest_error, (21.5, 25.5, 27.5))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClusterSky:
    """Convergence and shear about a cluster, or about many (leading axis).

    Args:
        convergence: shape ``(..., ny, nx)``.
        shear: complex, same shape; of the whole map that the field was cut from.
        pixel_arcmin: side of a pixel.
    """

    convergence: jax.Array
    shear: jax.Array
    pixel_arcmin: float = field(metadata={"static": True})

    @jax.jit
    def at(self, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Convergence and shear of one sky between pixels, bilinear.

        Args:
            x, y: arcminutes from the middle of the field, one shape.
        """
        ny, nx = self.convergence.shape
        both = jnp.stack([self.convergence + 0j, self.shear], axis=-1)
        column = jnp.clip(x / self.pixel_arcmin + (nx - 1) / 2, 0, nx - 1)
        row = jnp.clip(y / self.pixel_arcmin + (ny - 1) / 2, 0, ny - 1)
        left = jnp.minimum(jnp.floor(column), nx - 2)
        low = jnp.minimum(jnp.floor(row), ny - 2)
        across, along = (column - left)[..., None], (row - low)[..., None]
        i, j = low.astype(int), left.astype(int)
        lower = (1 - across) * both[i, j] + across * both[i, j + 1]
        upper = (1 - across) * both[i + 1, j] + across * both[i + 1, j + 1]
        values = (1 - along) * lower + along * upper
        return values[..., 0].real, values[..., 1]


class ClusterGalaxies(NamedTuple):
    """Galaxies of a field, shape ``(n,)`` each.

    Attributes:
        x, y: arcminutes from the middle of the field.
        ellipticity: as measured, complex.
        weight: inverse variance of a component; 0 for galaxies that are not seen.
    """

    x: jax.Array
    y: jax.Array
    ellipticity: jax.Array
    weight: jax.Array


def find_clusters(
    convergence: np.ndarray, separation: int, least: float, most: int, border: int
) -> np.ndarray:
    """The highest peaks of a map (of photutils), after smoothing by a pixel.

    Args:
        convergence: shape ``(ny, nx)``.
        separation: side in pixels of the square in which a peak is the highest place.
        least: smoothed convergence of a peak, at least.
        most: as many, at most.
        border: pixels along the edges without peaks.

    Returns:
        Row and column of each, the highest first, shape ``(n, 2)``.

    Raises:
        ImportError: without photutils (``pip install jaxmap[clusters]``).
    """
    try:
        from photutils.detection import find_peaks
        from scipy.ndimage import gaussian_filter
    except ImportError as error:
        raise ImportError(
            "clusters are found in maps by photutils; install it: pip install 'jaxmap[clusters]'"
        ) from error
    smooth = gaussian_filter(np.asarray(convergence, float), _SMOOTHING, mode="wrap")
    inside = smooth[border : smooth.shape[0] - border, border : smooth.shape[1] - border]
    if not inside.size or inside.max() < least:
        return np.zeros((0, 2), int)
    found = find_peaks(smooth, least, box_size=separation, border_width=border, n_peaks=most)
    if found is None:
        return np.zeros((0, 2), int)
    order = np.argsort(np.asarray(found["peak_value"]))[::-1]
    places = np.stack([np.asarray(found["y_peak"]), np.asarray(found["x_peak"])], axis=1)
    return places[order].astype(int)


def cut_clusters(
    maps: np.ndarray,
    pixel_arcmin: float,
    side: int,
    *,
    per_map: int = 12,
    least: float = 0.05,
    rim: int = 0,
) -> ClusterSky:
    """Squares about the highest peaks of maps; a peak is the highest within a quarter of the side.

    Args:
        maps: of the convergence, shape ``(num, ny, nx)``.
        pixel_arcmin: side of their pixels.
        side: of the squares, in pixels.
        per_map: squares from every map, at most.
        least: smoothed convergence of a peak, at least.
        rim: pixels of maps that are not periodic, where their shear is wrong.

    Raises:
        ValueError: if no map has a peak.
        ImportError: without photutils.
    """
    border = side // 2 + rim + 1
    shear_of = jax.jit(shear_from_convergence, static_argnums=1)
    convergences, shears = [], []
    for convergence in maps:
        places = find_clusters(convergence, side // 2, least, per_map, border)
        shear = np.asarray(
            shear_of(jnp.asarray(convergence, float), Grid(convergence.shape, pixel_arcmin))
        )
        for row, column in places:
            # The middle of an even square lies between pixels: half a pixel off the peak.
            low, left = row - side // 2, column - side // 2
            cut = slice(low, low + side), slice(left, left + side)
            convergences.append(convergence[cut])
            shears.append(shear[cut])
    if not convergences:
        raise ValueError(
            f"no peak of a smoothed convergence of {least} or more in {len(maps)} maps; expected "
            "clusters to cut out: lower the threshold, or give larger maps"
        )
    return ClusterSky(
        jnp.asarray(np.stack(convergences), float), jnp.asarray(np.stack(shears)), pixel_arcmin
    )


@partial(jax.jit, static_argnames="survey")
def draw_cluster_galaxies(
    key: jax.Array, sky: ClusterSky, survey: ClusterSurvey, stars: StarField | None = None
) -> ClusterGalaxies:
    """Galaxies behind one sky.

    Args:
        key: PRNG key.
        sky: of one cluster.
        survey: of galaxies.
        stars: whose surroundings have none.
    """
    key_place, key_shape, key_error, key_noise = jax.random.split(key, 4)
    num = survey.num_galaxies
    x, y = survey.field_arcmin * (jax.random.uniform(key_place, (2, num)) - 0.5)
    convergence, shear = sky.at(x, y)
    rest = 1 - convergence
    reduced = shear / jnp.where(jnp.abs(rest) < 1e-6, 1e-6, rest)
    intrinsic = draw_ellipticities(key_shape, num, survey.shape_noise)
    error = survey.measurement.draw(key_error, num)
    noise = jax.lax.complex(*(error[None] * jax.random.normal(key_noise, (2, num))))
    measured = lensed_ellipticity(intrinsic, reduced, ShearResponse()) + noise
    weight = 1 / (survey.shape_noise**2 + error**2)
    if stars is not None:
        weight = jnp.where(outside_stars(x, y, stars, BRIGHT_STARS), weight, 0)
    return ClusterGalaxies(x, y, measured, weight)


@partial(jax.jit, static_argnames="grid")
def bin_cluster(galaxies: ClusterGalaxies, grid: Grid) -> ShearMap:
    """Inverse-variance mean of the galaxies in every pixel of a grid about the same middle."""
    ny, nx = grid.shape
    weight, ellipticity = galaxies.weight, galaxies.ellipticity
    columns = [weight, weight * ellipticity.real, weight * ellipticity.imag, weight > 0]
    sums = sum_in_pixels(
        galaxies.x / grid.pixel_arcmin + (nx - 1) / 2,
        galaxies.y / grid.pixel_arcmin + (ny - 1) / 2,
        jnp.stack([each.astype(weight.dtype) for each in columns], axis=-1),
        grid,
    )
    total, first, second, counts = jnp.moveaxis(sums, -1, 0)
    safe = jnp.where(total > 0, total, 1)
    shear = jax.lax.complex(first / safe, second / safe)
    return ShearMap(shear, jnp.broadcast_to(total[None], (2, ny, nx)), grid, counts)


@partial(jax.jit, static_argnames="field")
def draw_bright_stars(key: jax.Array, field: Grid, x: jax.Array, y: jax.Array) -> StarField:
    """Bright stars of a field, one of them within an arcminute of a place (the mass peak).

    Args:
        key: PRNG key.
        field: that they lie in.
        x, y: the place, in arcminutes from the middle.
    """
    key_stars, key_near = jax.random.split(key)
    drawn = draw_stars(key_stars, BRIGHT_STARS, field)
    square, angle, share = jax.random.uniform(key_near, (3,))
    low, high = BRIGHT_STARS.radius_arcmin
    distance, angle = jnp.sqrt(square), 2 * jnp.pi * angle
    near = StarField(
        x + distance * jnp.cos(angle), y + distance * jnp.sin(angle), low + share * (high - low)
    )
    return jax.tree.map(lambda many, one: jnp.append(many, one), drawn, near)
