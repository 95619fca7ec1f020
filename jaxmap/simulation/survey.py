"""Mock surveys: the galaxy catalogue or shear map that a survey would make of a convergence map.

Galaxies lie at random, unclustered, and are aligned neither with one another nor with the matter
(no intrinsic alignment). All are sheared by one convergence map, which should be that of the
survey's n(z): the mean over its sources. The redshift of a mock galaxy is drawn from n(z) but does
not change its shear, so that mocks serve for maps of all sources, not for tomography.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, ShearMap, shear_catalog
from jaxmap.grid import Grid
from jaxmap.machine import check_memory
from jaxmap.redshifts import draw_redshifts
from jaxmap.simulation.counting import draw_poisson, poisson_slots
from jaxmap.simulation.geometry import check_field, check_map, extent_arcmin, plane, value_at
from jaxmap.simulation.mock_survey import GivenSurvey, MockSurvey
from jaxmap.simulation.response import ShearResponse, lensed_ellipticity, lensing_shear
from jaxmap.simulation.shapes import draw_ellipticities

_BYTES_PER_GALAXY = 300  # of the columns and their intermediates


def observe(
    key: jax.Array,
    convergence: jax.Array,
    grid: Grid,
    survey: MockSurvey | GivenSurvey,
    field: Grid | None = None,
) -> ShearCatalog:
    r"""The galaxies a survey would measure behind a convergence map.

    Every galaxy has the shear of the pixel it lies in; a Poisson number of them lies in the field,
    or those of a `GivenSurvey`.

    Args:
        key: PRNG key; the same key gives the same catalogue.
        convergence: :math:`\kappa` on ``grid``, shape ``(ny, nx)``, periodic.
        grid: pixel grid with a centre on the sky.
        survey: galaxies, noise, masks and biases.
        field: the part of ``grid`` that is surveyed, about the same centre and with pixels of any
            size, so that mass outside the field acts too and the grid's period does not show; the
            whole grid by default.

    Raises:
        ValueError: if map, grid, field and mask do not fit together, the field is too wide to be
            flat, there are more galaxies than the memory holds, or the masks leave none.
    """
    field = _checked_field(convergence, grid, survey, field)
    if isinstance(survey, GivenSurvey):
        return _observe_given(key, convergence, grid, survey, field)
    slots = poisson_slots(survey.expected_number(field))
    drawn = _draw_galaxies(key, jnp.asarray(convergence), grid, survey, field, slots)
    columns = {name: np.asarray(values) for name, values in drawn.items()}
    seen = columns.pop("seen")
    _check_seen(seen)
    columns = {name: values[seen] for name, values in columns.items()}
    x, y = columns["x"].astype(float), columns["y"].astype(float)
    ra, dec = plane(grid).wcs().all_pix2world(x, y, 0)
    ellipticity = columns["ellipticity"] * grid.frame_rotation(ra).conj()
    return shear_catalog(ra, dec, ellipticity, columns["weight"], columns.get("z"))


def observe_map(
    key: jax.Array,
    convergence: jax.Array,
    grid: Grid,
    survey: MockSurvey | GivenSurvey,
    field: Grid | None = None,
) -> ShearMap:
    """`observe`, then `bin_shear` on the pixels of the field."""
    catalog = observe(key, convergence, grid, survey, field)
    return bin_shear(catalog, replace(field or grid, centre_deg=grid.centre_deg))


def observe_catalog(
    key: jax.Array,
    convergence: jax.Array,
    grid: Grid,
    catalog: ShearCatalog,
    response: ShearResponse = ShearResponse(),  # noqa: B008 (immutable)
) -> ShearCatalog:
    """The galaxies of a catalogue behind another convergence map: `observe` with a `GivenSurvey`.

    Args:
        key: PRNG key.
        convergence: on ``grid``, shape ``(ny, nx)``, periodic.
        grid: pixel grid with a centre on the sky; galaxies outside it are left out.
        catalog: the galaxies.
        response: linear or reduced shear, multiplicative and additive bias.

    Raises:
        ValueError: if map and grid do not fit together, or the grid holds none of the galaxies.
    """
    return observe(key, convergence, grid, GivenSurvey(catalog, response))


def _observe_given(
    key: jax.Array, convergence: jax.Array, grid: Grid, survey: GivenSurvey, field: Grid
) -> ShearCatalog:
    """Galaxies of a catalogue, turned and sheared."""
    key_angle, key_stars = jax.random.split(key)
    west, north, inside = survey.places(field)
    x, y = jnp.asarray(west[inside], float), jnp.asarray(north[inside], float)
    kept = jax.tree.map(lambda values: values[inside], survey.catalog)
    size = jnp.asarray(np.abs(kept.ellipticity), float)
    angle = 2 * math.pi * jax.random.uniform(key_angle, size.shape)
    intrinsic = jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))
    shear = lensing_shear(jnp.asarray(convergence), grid, survey.response)
    at = value_at(shear, grid, x, y)
    ellipticity = np.asarray(lensed_ellipticity(intrinsic, at, survey.response))
    turned = ellipticity * grid.frame_rotation(kept.ra_deg).conj()
    seen = np.asarray(survey.holes.outside(key_stars, x, y, field))
    _check_seen(seen & (kept.weight > 0))
    # Not checked as a new catalogue is: that would warn of |e| > 1 field by field.
    return jax.tree.map(lambda values: values[seen], replace(kept, ellipticity=turned))


def _check_seen(seen: np.ndarray) -> None:
    if seen.sum() < 2:
        raise ValueError(
            f"the survey sees {seen.sum()} galaxies in its field; expected at least 2: give "
            "a larger field or density, or smaller holes and borders"
        )


def _draw_galaxies(
    key: jax.Array,
    convergence: jax.Array,
    grid: Grid,
    survey: MockSurvey,
    field: Grid,
    slots: int,
) -> dict[str, jax.Array]:
    """Columns of all galaxies, seen or not: as many as there may be, so that nothing is compiled
    anew for every key."""
    key_number, key_place, key_shape, key_error, key_noise, key_z, key_stars = jax.random.split(
        key, 7
    )
    height, width = extent_arcmin(field)
    number = draw_poisson(key_number, survey.expected_number(field))
    y, x = jax.random.uniform(key_place, (2, slots)) - 0.5
    y, x = y * height, x * width
    shear = lensing_shear(convergence, grid, survey.response)
    intrinsic = draw_ellipticities(key_shape, slots, survey.shape_noise)
    ellipticity = lensed_ellipticity(intrinsic, value_at(shear, grid, x, y), survey.response)
    variance = jnp.full(slots, survey.shape_noise**2)
    if survey.measurement is not None:
        std = survey.measurement.draw(key_error, slots)
        noise = std[None] * jax.random.normal(key_noise, (2, slots))
        ellipticity += jax.lax.complex(noise[0], noise[1])
        variance += std**2
    seen = (jnp.arange(slots) < number) & survey.holes.outside(key_stars, x, y, field)
    columns = {"x": x, "y": y, "ellipticity": ellipticity, "seen": seen}
    columns["weight"] = jnp.where(variance > 0, 1 / jnp.where(variance > 0, variance, 1), 1)
    if survey.redshifts is not None:
        columns["z"] = draw_redshifts(key_z, survey.redshifts, slots)
    return columns


def check_galaxies(survey: MockSurvey | GivenSurvey, field: Grid) -> None:
    """Refuse more galaxies than the memory holds.

    Raises:
        ValueError: if a field of the survey has more.
    """
    number = survey.expected_number(field)
    needed = number * _BYTES_PER_GALAXY
    check_memory(needed, f"a field of {number:.3g} galaxies", "observe the survey in patches")


def _checked_field(
    convergence: Any, grid: Grid, survey: MockSurvey | GivenSurvey, field: Grid | None
) -> Grid:
    """The field, placed on the sky, if all fits together."""
    check_map(convergence, grid)
    if field is not None:
        check_field(field, grid)
    placed = replace(grid if field is None else field, centre_deg=grid.centre_deg)
    survey.check_field(placed)
    check_galaxies(survey, placed)
    return placed
