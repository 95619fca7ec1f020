"""Simulated surveys of known truth: the fields that calibration is measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.simulation.geometry import middle
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.pixels import draw_depth, observe_pixels
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.streaming import MapSimulator

Fields = Callable[[jax.Array], tuple[jax.Array, ShearMap]]
"""From a PRNG key to a true convergence and the shear observed of it, on one grid."""

_observe = jax.jit(observe_pixels, static_argnames=("grid", "response"))
_depth = jax.jit(draw_depth, static_argnums=(1, 2))


@dataclass(frozen=True, eq=False)
class MockFields:
    """Fields of a survey over simulated skies, one sky each, so that fields are independent.

    Where the simulated sky is as large as the field, the field is periodic, and its data depend on
    nothing outside: a strict test of a sampler. From a larger sky the field is cut, as real ones
    are, and the mass outside it acts.

    Args:
        simulator: of the sky, about the grid of the field.
        survey: random holes and galaxy counts anew for every field; or a shear map, whose mask and
            noise are kept.
        response: how galaxies respond; by default to the shear itself, as estimators assume.
    """

    simulator: MapSimulator
    survey: MockSurvey | ShearMap
    response: ShearResponse = ShearResponse(reduced=False)  # noqa: RUF009 (immutable)

    def __call__(self, key: jax.Array) -> tuple[jax.Array, ShearMap]:
        key_sky, key_depth, key_noise = jax.random.split(key, 3)
        recipe = self.simulator.recipe
        sky = self.simulator.draw(key_sky)
        if not bool(jnp.all(jnp.isfinite(sky))):
            raise FloatingPointError("a simulated sky is not finite; take another seed")
        data = self.survey
        if isinstance(data, MockSurvey):
            data = _depth(key_depth, data, recipe.grid)
        shear = _observe(key_noise, sky, recipe.sky, data, self.response)
        return middle(sky, recipe.sky, recipe.grid), shear


def middle_of_survey(data: ShearMap, shape: tuple[int, int]) -> ShearMap:
    """The middle part of a shear map, ``(ny, nx)`` pixels, off the sky.

    Raises:
        ValueError: if the map is smaller, or observed nowhere in its middle.
    """
    rows, columns = (big - small for big, small in zip(data.grid.shape, shape, strict=True))
    if min(rows, columns) < 0:
        raise ValueError(
            f"the field is to be {shape} pixels and the survey's map has {data.grid.shape}; "
            "expected a part of it (--size)"
        )
    top, left = rows // 2, columns // 2
    cut = (..., slice(top, top + shape[0]), slice(left, left + shape[1]))
    part = jax.tree.map(lambda plane: jnp.asarray(plane)[cut], data)
    if not np.any(part.weight > 0):
        raise ValueError(
            f"the middle {shape} pixels of the survey's map are masked; expected some that are "
            "observed: take more of it (--size)"
        )
    return replace(part, grid=Grid(shape, data.grid.pixel_arcmin))


def shrunk_to(survey: MockSurvey, field: Grid) -> MockSurvey:
    """The survey on a smaller field than its own, its empty rim shrunk as much."""
    if survey.grid is None:
        return survey
    side, own = (max(g.shape) * g.pixel_arcmin for g in (field, survey.grid))
    return replace(survey, border_arcmin=survey.border_arcmin * min(1.0, side / own))
