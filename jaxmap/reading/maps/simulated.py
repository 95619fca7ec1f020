"""The maps that ``jaxmap simulate maps`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmap.arrayfiles import parsed_json
from jaxmap.hdf5files import attribute, check_dataset, text_attribute
from jaxmap.reading.maps.mapfile import MapFile, refuse_dataset
from jaxmap.reading.tableformats import reading


class Tile(NamedTuple):
    """A map among those cut from one simulated sky, which depends on the seed and its number."""

    seed: int
    sky: int
    number: int

    def __str__(self) -> str:
        return f"seed {self.seed}, sky {self.sky}, map {self.number}"


def simulated_maps(path: Path, dataset: str | None) -> MapFile:
    """The maps of one file of a simulation: a run of numbers, with the recipe of all.

    Raises:
        ValueError: if the file is not whole or of another layout.
    """
    import h5py

    refuse_dataset(path, dataset)
    with reading(path), h5py.File(path, "r") as file:
        check_dataset(file["convergence"], path, planes=True)
        num, *shape = file["convergence"].shape
        first = int(attribute(file, "first_map"))
        recipe = parsed_json(text_attribute(file, "record"))["recipe"]
        (rows, columns), (ny, nx) = recipe["sky_shape"], shape
        maps_per_sky = (rows // ny) * (columns // nx)
        tiles = [Tile(recipe["seed"], n // maps_per_sky, n) for n in range(first, first + num)]

    def read(tile: Tile) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return file["convergence"][tile.number - first]

    return MapFile(path, tiles, (ny, nx), float(recipe["pixel_arcmin"]), read)
