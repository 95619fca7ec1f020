"""Holes in a survey: an empty rim, a given mask, the surroundings of bright stars."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import Grid
from jaxmap.simulation.counting import draw_poisson, poisson_slots
from jaxmap.simulation.geometry import extent_arcmin, value_at

log = logging.getLogger(__name__)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Stars:
    r"""Bright stars at random places, around which no galaxy is measured.

    Args:
        density_arcmin2: stars per square arcminute.
        radius_arcmin: smallest and largest radius of the circles; uniform in between.
        spike_length: of the four diffraction spikes along the axes of the grid, in units of the
            star's radius, from its centre; none below 1.
        spike_width: half their width, in the same unit.

    Raises:
        ValueError: for values that are negative or not finite, no density, or descending radii.
    """

    density_arcmin2: float
    radius_arcmin: tuple[float, float] = (0.5, 2.0)
    spike_length: float = 0.0
    spike_width: float = 0.1

    def __post_init__(self) -> None:
        smallest, largest = self.radius_arcmin
        numbers = (self.density_arcmin2, smallest, largest, self.spike_length, self.spike_width)
        if not all(0 <= number < math.inf for number in numbers) or self.density_arcmin2 == 0:
            raise ValueError(
                f"{self} holds a value out of range; expected a density above 0 and finite "
                "lengths of 0 or more (for no stars, leave them out of the survey)"
            )
        if smallest > largest or largest == 0:
            raise ValueError(
                f"the stars' radii are {self.radius_arcmin} arcmin; expected the smallest and the "
                "largest, above 0"
            )

    @property
    def masked_fraction(self) -> float:
        r"""Expected share of the sky inside the circles.

        .. math:: 1 - e^{-n \pi \langle r^2 \rangle}
        """
        low, high = self.radius_arcmin
        mean_square = (low**2 + low * high + high**2) / 3
        return -math.expm1(-self.density_arcmin2 * math.pi * mean_square)


class StarField(NamedTuple):
    """Stars of a field in arcminutes from its centre, shape ``(n,)`` each; radius 0 for none."""

    x: jax.Array
    y: jax.Array
    radius: jax.Array


@jax.jit
def draw_stars(key: jax.Array, stars: Stars, field: Grid) -> StarField:
    """Place stars in and around a field; of static shape, for ``jax.jit`` and ``jax.vmap``."""
    reach = stars.radius_arcmin[1] * max(1.0, stars.spike_length)
    height, width = (n * field.pixel_arcmin + 2 * reach for n in field.shape)
    mean = stars.density_arcmin2 * height * width
    slots = poisson_slots(mean)
    key_number, key_place, key_radius = jax.random.split(key, 3)
    number = draw_poisson(key_number, mean)
    y, x = jax.random.uniform(key_place, (2, slots)) - 0.5
    low, high = stars.radius_arcmin
    radius = jax.random.uniform(key_radius, (slots,), minval=low, maxval=high)
    return StarField(x * width, y * height, jnp.where(jnp.arange(slots) < number, radius, 0))


@jax.jit
def outside_stars(x: jax.Array, y: jax.Array, drawn: StarField, stars: Stars) -> jax.Array:
    """Whether places (arcminutes from the field's centre, any one shape) lie in no star's mask."""

    def add_star(clear: jax.Array, star: StarField) -> tuple[jax.Array, None]:
        dx, dy = jnp.abs(x - star.x), jnp.abs(y - star.y)
        covered = dx**2 + dy**2 < star.radius**2
        if stars.spike_length > 1:
            near = jnp.minimum(dx, dy) < stars.spike_width * star.radius
            covered |= near & (jnp.maximum(dx, dy) < stars.spike_length * star.radius)
        return clear & ~covered, None

    return jax.lax.scan(add_star, jnp.ones(x.shape, bool), drawn)[0]


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class Holes:
    """Where a survey sees no galaxies.

    Args:
        stars: holes around bright stars.
        border_arcmin: width of the empty rim of the field.
        mask: True where galaxies are seen, boolean, of the shape of the field; everywhere by
            default.

    Raises:
        ValueError: for a border out of range, or a mask that hides everything.
    """

    stars: Stars | None = None
    border_arcmin: float = 0.0
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.border_arcmin < math.inf:
            raise ValueError(f"the border is {self.border_arcmin} arcmin wide; expected 0 or more")
        if self.mask is not None:
            object.__setattr__(self, "mask", np.asarray(self.mask, bool))
            if not np.any(self.mask):
                raise ValueError("the mask hides the whole field; expected True where galaxies are")

    def check_field(self, field: Grid) -> None:
        """Raise ValueError unless border and mask leave something of a field; warn if little."""
        height, width = extent_arcmin(field)
        if 2 * self.border_arcmin >= min(height, width):
            raise ValueError(
                f"a border of {self.border_arcmin} arcmin leaves nothing of a field of {width:g} x "
                f"{height:g} arcmin; give a larger field or a narrower border"
            )
        left = (1 - 2 * self.border_arcmin / height) * (1 - 2 * self.border_arcmin / width)
        if left < 0.25:
            log.warning(
                "a border of %g arcmin leaves %.1f%% of a field of %g x %g arcmin; give a larger "
                "field or a narrower border (--border-arcmin)",
                self.border_arcmin,
                100 * left,
                width,
                height,
            )
        if self.mask is not None and self.mask.shape != field.shape:
            raise ValueError(
                f"the survey's mask has shape {self.mask.shape} and the field {field.shape}; "
                "expected one shape: give the field of the mask, or a mask of the field"
            )

    def outside(self, key: jax.Array, x: jax.Array, y: jax.Array, field: Grid) -> jax.Array:
        """Whether places lie in the field and outside border, mask and (random) stars; pure.

        Args:
            key: PRNG key of the stars.
            x, y: arcminutes from the field's centre, any one shape.
            field: the field.
        """
        height, width = extent_arcmin(field)
        half_width, half_height = width / 2 - self.border_arcmin, height / 2 - self.border_arcmin
        seen = (jnp.abs(x) < half_width) & (jnp.abs(y) < half_height)
        if self.mask is not None:
            seen &= value_at(jnp.asarray(self.mask), field, x, y)
        if self.stars is not None:
            seen &= outside_stars(x, y, draw_stars(key, self.stars, field), self.stars)
        return seen
