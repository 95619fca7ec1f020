"""What there is to know of a survey in order to imitate it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import Grid
from jaxmap.redshifts import RedshiftDistribution
from jaxmap.simulation.geometry import extent_arcmin, value_at
from jaxmap.simulation.masks import Stars, draw_stars, outside_stars
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.shapes import LARGEST_SHAPE_NOISE, MeasurementError


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class MockSurvey:
    """What to know of a survey to imitate it; see `jaxmap.simulation.presets` for known ones.

    Args:
        density_arcmin2: galaxies per square arcminute where nothing is masked.
        shape_noise: standard deviation per component of the intrinsic ellipticities.
        redshifts: n(z) of the sources; without it catalogues have no redshifts.
        measurement: errors of the measured ellipticities, which then weigh by their total noise.
        response: linear or reduced shear, multiplicative and additive bias.
        stars: holes around bright stars.
        border_arcmin: width of the empty rim of the field.
        mask: True where galaxies are seen, boolean, of the shape of the field; everywhere by
            default.
        grid: a field that suits the survey, for those who simulate one: pixels, size and place on
            the sky. Nothing else here depends on it.

    Raises:
        ValueError: for a density, noise or border out of range, or a mask that hides everything.
    """

    density_arcmin2: float
    shape_noise: float
    redshifts: RedshiftDistribution | None = None
    measurement: MeasurementError | None = None
    response: ShearResponse = ShearResponse()  # noqa: RUF009 (immutable)
    stars: Stars | None = None
    border_arcmin: float = 0.0
    mask: np.ndarray | None = None
    grid: Grid | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.density_arcmin2) and self.density_arcmin2 > 0):
            raise ValueError(
                f"the survey has {self.density_arcmin2} galaxies per square arcminute; expected a "
                "number above 0"
            )
        if not 0 <= self.shape_noise < LARGEST_SHAPE_NOISE:
            raise ValueError(
                f"the shape noise per component is {self.shape_noise}; expected 0 to "
                f"{LARGEST_SHAPE_NOISE} (for the noise of both components, divide by sqrt(2))"
            )
        if not 0 <= self.border_arcmin < math.inf:
            raise ValueError(f"the border is {self.border_arcmin} arcmin wide; expected 0 or more")
        if self.mask is not None:
            object.__setattr__(self, "mask", np.asarray(self.mask, bool))
            if not np.any(self.mask):
                raise ValueError("the mask hides the whole field; expected True where galaxies are")

    def expected_number(self, field: Grid) -> float:
        """Mean number of galaxies in a field without holes."""
        return self.density_arcmin2 * math.prod(extent_arcmin(field))

    def check_field(self, field: Grid) -> None:
        """Raise ValueError unless the survey's border and mask leave something of a field."""
        height, width = extent_arcmin(field)
        if 2 * self.border_arcmin >= min(height, width):
            raise ValueError(
                f"a border of {self.border_arcmin} arcmin leaves nothing of a field of {width:g} x "
                f"{height:g} arcmin; give a larger field or a narrower border"
            )
        if self.mask is not None and self.mask.shape != field.shape:
            raise ValueError(
                f"the survey's mask has shape {self.mask.shape} and the field {field.shape}; "
                "expected one shape: give the field of the mask, or a mask of the field"
            )

    def unmasked(self, key: jax.Array, x: jax.Array, y: jax.Array, field: Grid) -> jax.Array:
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
