"""Mock surveys on disk: a folder for each field, whole or not there.

``field-00000000/`` holds ``catalog.fits`` (ra, dec, e1, e2, weight, z), ``convergence.fits`` (the
truth; mask and counts are those of the shear) and ``shear.fits`` (shear and its inverse noise
variance per pixel). As with maps, field n depends on the settings and n alone, whatever stops a run
leaves a folder that another run completes, and several runs may fill it at once.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.files import atomic_folder, remove_leftovers
from jaxmap.machine import check_disk
from jaxmap.mapfiles import write_mass_map, write_shear_map
from jaxmap.massmap import MassMap
from jaxmap.outputs import write_catalog
from jaxmap.production.folder import check_folder, identity, write_index
from jaxmap.production.numbers import Produced, Progress, missing_ranges
from jaxmap.simulation.geometry import middle
from jaxmap.simulation.mock_survey import GivenSurvey, MockSurvey
from jaxmap.simulation.recipe import MapRecipe
from jaxmap.simulation.streaming import build_simulator, stream_skies
from jaxmap.simulation.survey import check_galaxies, observe

_NAME = re.compile(r"field-(\d{8,})")
_BYTES_PER_GALAXY = 48
_BYTES_PER_PIXEL = 80
_GALAXIES = 2**32 - 1  # folded into the seed's key, where skies fold in their small numbers


def produce_surveys(
    recipe: MapRecipe,
    survey: MockSurvey | GivenSurvey,
    folder: str | Path,
    numbers: range,
    *,
    resume: bool = False,
    made_by: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Produced:
    """Simulate fields of a survey into a folder: those of ``numbers`` that it does not hold.

    Args:
        recipe: of the matter; its grid is the field and has a centre on the sky.
        survey: what is observed of it.
        folder: made if need be.
        numbers: of the fields, ascending by 1; others may be there, or be made by another process.
        resume: whether the folder may hold fields of this survey already.
        made_by: what else is known of how they came to be, anything JSON can hold.
        progress: shows it.

    Raises:
        ValueError: if survey and field do not fit together, the folder holds something else, or
            memory or disk do not suffice; before work starts.
    """
    folder = Path(folder)
    survey.check_field(recipe.grid)
    check_galaxies(survey, recipe.grid)
    wanted = identity("surveys", recipe, described(survey))
    begun = check_folder(folder, wanted, resume)
    missing = missing_ranges(_fields(folder) if begun else [], numbers)
    num_missing = sum(map(len, missing))
    num_there = len(numbers) - num_missing
    if not missing:
        return Produced(0, num_there, 0.0)
    per_field = _BYTES_PER_GALAXY * survey.expected_number(recipe.grid)
    per_field += _BYTES_PER_PIXEL * recipe.grid.num_pixels
    check_disk(folder, per_field * num_missing, f"{num_missing:,} fields", "make fewer with --num")
    simulator = build_simulator(recipe)
    record = {**wanted, "made_by": made_by or {}}
    if begun:
        remove_leftovers(folder)
    else:
        write_index(folder, record)
    start = time.perf_counter()
    left: Iterable[int] = itertools.chain.from_iterable(missing)
    if progress is not None:
        left = progress(iter(left), len(numbers), num_there)
    # Gap by gap, so that fields which share a sky take it from one simulation.
    streams = (stream_skies(simulator, gap.start, gap.stop) for gap in missing)
    for number, sky in zip(left, itertools.chain.from_iterable(streams), strict=True):
        path = folder / f"field-{number:08d}"
        _write_field(path, observed(recipe, survey, number, sky), record)
    return Produced(num_missing, num_there, time.perf_counter() - start)


def described(value: Any) -> Any:
    """A survey, or any tree of dataclasses, as JSON can hold it; large arrays by their hash."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: described(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | jax.Array):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": list(value.shape), "sha256": digest}
    if isinstance(value, tuple | list):
        return [described(item) for item in value]
    if isinstance(value, complex):
        return [value.real, value.imag]
    return value


class Field(NamedTuple):
    """A field of a mock survey: galaxies, their shear in pixels, and the truth behind it."""

    catalog: ShearCatalog
    shear: ShearMap
    truth: MassMap


def observed(
    recipe: MapRecipe, survey: MockSurvey | GivenSurvey, number: int, sky: jax.Array
) -> Field:
    """Field ``number`` of a survey, from its sky (`jaxmap.simulation.streaming.stream_skies`)."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), _GALAXIES)
    catalog = observe(jax.random.fold_in(key, number), sky, recipe.sky, survey, recipe.grid)
    shear = bin_shear(catalog, recipe.grid)
    convergence = middle(sky, recipe.sky, recipe.grid)
    truth = MassMap(convergence, recipe.grid, shear.mask, counts=shear.counts)
    return Field(catalog, shear, truth)


def _write_field(path: Path, field: Field, record: dict[str, Any]) -> None:
    with atomic_folder(path) as folder:
        write_catalog(folder / "catalog.fits", field.catalog, record["made_by"])
        write_mass_map(folder / "convergence.fits", field.truth, record)
        write_shear_map(folder / "shear.fits", field.shear, record)


def _fields(folder: Path) -> list[range]:
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return [range(int(match[1]), int(match[1]) + 1) for match in found if match]
