"""Simulated maps on disk: a folder of HDF5 files, each of them whole or not there.

``maps-00000000-00000127.h5`` holds maps 0 to 127: the dataset ``convergence (num, ny, nx)``,
float32, one map per chunk with its checksum, and as attributes ``first_map`` and ``record``, the
text of ``simulation.json``. A file appears under its name when it is complete. So whatever stops a
run leaves a folder that another run completes, and several runs may fill a folder at once, each
with its own range of numbers. `jaxmap.reading.maps.source.open_maps` reads them.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np

from jaxmap.arrayfiles import parsed_json, plain_errors
from jaxmap.files import atomic_path, remove_leftovers, reserve
from jaxmap.hdf5files import text_attribute
from jaxmap.machine import check_disk
from jaxmap.production.folder import (
    check_folder,
    first_difference,
    identity,
    write_index,
)
from jaxmap.production.numbers import Produced, Progress, cut_ranges, missing_ranges
from jaxmap.simulation.recipe import MapRecipe
from jaxmap.simulation.streaming import build_simulator, stream_maps

log = logging.getLogger(__name__)

_NAME = re.compile(r"maps-(\d{8,})-(\d{8,})\.h5")
_FILE_BYTES = 64 * 2**20
_MOST_PER_FILE = 256


def produce_maps(
    recipe: MapRecipe,
    folder: str | Path,
    numbers: range,
    *,
    resume: bool = False,
    made_by: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Produced:
    """Simulate maps into a folder: those of ``numbers`` that it does not hold.

    Memory does not grow with their number: one file's maps are held, up to 64 MiB.

    Args:
        recipe: what to simulate.
        folder: made if need be.
        numbers: of the maps, ascending by 1; others may be there, or be made by another process.
        resume: whether the folder may hold maps of this recipe already.
        made_by: what else is known of how they came to be, anything JSON can hold.
        progress: shows it.

    Raises:
        ValueError: if the folder holds something else, or memory or disk do not suffice; before
            work starts.
    """
    folder = Path(folder)
    wanted = identity("maps", recipe)
    begun = check_folder(folder, wanted, resume)
    there = _whole_files(folder, wanted) if begun else []
    missing = missing_ranges(there, numbers)
    num_missing = sum(map(len, missing))
    num_there = len(numbers) - num_missing
    if not missing:
        return Produced(0, num_there, 0.0)
    bytes_missing = 4 * recipe.grid.num_pixels * num_missing
    check_disk(folder, 1.01 * bytes_missing, f"{num_missing:,} maps", "make fewer with --num")
    simulator = build_simulator(recipe)
    record = {**wanted, "made_by": made_by or {}}
    if begun:
        remove_leftovers(folder, ".h5")
    else:
        write_index(folder, record)
    start = time.perf_counter()
    streams = (stream_maps(simulator, gap.start, gap.stop) for gap in missing)
    maps: Iterator[jax.Array] = itertools.chain.from_iterable(streams)
    if progress is not None:
        maps = iter(progress(maps, len(numbers), num_there))
    per_file = maps_per_file(recipe)
    buffer = np.empty((min(per_file, num_missing), *recipe.grid.shape), np.float32)
    for part in cut_ranges(missing, per_file):
        fields = buffer[: len(part)]
        for row in fields:
            row[...] = next(maps)
        _write_maps(folder / _name(part), fields, part.start, record)
    next(maps, None)  # the progress has come to its end
    return Produced(num_missing, num_there, time.perf_counter() - start)


def maps_per_file(recipe: MapRecipe) -> int:
    """As many as make 64 MiB, at most 256; of whole skies where these are not more."""
    most = min(max(_FILE_BYTES // (4 * recipe.grid.num_pixels), 1), _MOST_PER_FILE)
    return most - most % recipe.maps_per_sky or most


def _write_maps(path: Path, fields: np.ndarray, first: int, record: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        reserve(temporary, fields.nbytes + 2**16)  # HDF5 crashes on a full disk
        _write_hdf5(temporary, fields, first, record)


def _write_hdf5(path: Path, fields: np.ndarray, first: int, record: dict[str, Any]) -> None:
    one_map = (1, *fields.shape[1:])
    # Attributes may be longer than 64 kB since HDF5 1.8: n(z) can be a long table.
    with h5py.File(path, "w", libver="v108") as file:
        file.create_dataset("convergence", data=fields, chunks=one_map, fletcher32=True)
        file.attrs["first_map"] = first
        file.attrs["record"] = json.dumps(record)


def _whole_files(folder: Path, wanted: dict[str, Any]) -> list[range]:
    """The ranges that are there; damaged files are removed."""
    whole = []
    for held in _named_files(folder):
        path = folder / _name(held)
        problem = _problem(path, wanted)
        if problem:
            log.warning("%s %s; its maps are made again", path, problem)
            path.unlink()
        else:
            whole.append(held)
    return whole


def _problem(path: Path, wanted: dict[str, Any]) -> str | None:
    """How a file is damaged, if at all, but for checksums: those are tested in reading.

    Raises:
        ValueError: if it is whole and holds other simulations.
    """
    try:
        with plain_errors(), h5py.File(path, "r") as file:
            shape = file["convergence"].shape
            record = parsed_json(text_attribute(file, "record"))
    except ValueError as error:
        return f"is damaged ({error})"
    expected = (len(_numbers(path)), *wanted["recipe"]["shape"])
    if shape != expected:
        return f"holds maps of shape {shape}, not {expected}"
    difference = first_difference(record, wanted)
    if difference:
        raise ValueError(f"{path} was made with {difference}; move it to another folder")
    return None


def _named_files(folder: Path) -> list[range]:
    found = (_numbers(path) for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return sorted(found, key=lambda held: (held.start, -held.stop))


def _numbers(path: Path) -> range:
    first, last = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
    return range(int(first), int(last) + 1)


def _name(held: range) -> str:
    return f"maps-{held.start:08d}-{held.stop - 1:08d}.h5"
