"""What there is to know of a survey in order to imitate it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np

from jaxmap.catalog import ShearCatalog
from jaxmap.grid import Grid
from jaxmap.redshifts import RedshiftDistribution
from jaxmap.simulation.geometry import extent_arcmin, plane
from jaxmap.simulation.masks import Holes, Stars
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
        object.__setattr__(self, "mask", self.holes.mask)

    @property
    def holes(self) -> Holes:
        """Stars, border and mask."""
        return Holes(self.stars, self.border_arcmin, self.mask)

    def expected_number(self, field: Grid) -> float:
        """Mean number of galaxies in a field without holes."""
        return self.density_arcmin2 * math.prod(extent_arcmin(field))

    def check_field(self, field: Grid) -> None:
        """Raise ValueError unless the survey's border and mask leave something of a field."""
        self.holes.check_field(field)


@dataclass(frozen=True, eq=False)
class GivenSurvey:
    """A survey's own galaxies, to be put behind other skies.

    Their places, weights and redshifts are kept. The intrinsic shapes are the measured ones, each
    turned by a random angle: this takes out the shear that is in them (but for its share of their
    scatter) and keeps their distribution, measurement errors included, and its relation to the
    weights.

    Args:
        catalog: the galaxies.
        response: linear or reduced shear, multiplicative and additive bias.
        holes: where galaxies are left out, beside the holes that the catalogue has.
    """

    catalog: ShearCatalog
    response: ShearResponse = ShearResponse()  # noqa: RUF009 (immutable)
    holes: Holes = Holes()  # noqa: RUF009 (immutable)

    def expected_number(self, field: Grid) -> float:
        """Number of galaxies in a field."""
        return float(np.count_nonzero(self.places(field)[2]))

    def check_field(self, field: Grid) -> None:
        """Raise ValueError unless the field has galaxies, and border and mask leave some of it."""
        self.holes.check_field(field)
        number = self.expected_number(field)
        if number < 2:
            raise ValueError(
                f"{number:.0f} of the {len(self.catalog)} galaxies lie on the grid centred on "
                f"{field.centre_deg} deg; expected at least 2: give the centre of the catalogue"
            )

    def places(self, field: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arcminutes west and north of the field's centre, and whether they are in the field."""
        x, y = plane(field).pixel_position(self.catalog.ra_deg, self.catalog.dec_deg)
        height, width = extent_arcmin(field)
        return x, y, (np.abs(x) <= width / 2) & (np.abs(y) <= height / 2)
