"""Maps for tools that work in HEALPix pixels: of one field, and files in TXPipe's layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from jaxmap.files import atomic_path, reserve
from jaxmap.massmap import MassMap
from jaxmap.survey.blend import places_on
from jaxmap.survey.healpix import cell_side_deg, healpix, place_of, power_of_two_nside, within


class HealpixMaps(NamedTuple):
    """Maps on the same part of the sphere.

    Attributes:
        nside: of the pixels, nested, equatorial.
        pixels: their numbers, ascending, int64, shape ``(n,)``.
        maps: values by name, shape ``(n,)`` each.
    """

    nside: int
    pixels: np.ndarray
    maps: dict[str, np.ndarray]


def healpix_maps(mass_map: MassMap, nside: int | None = None) -> HealpixMaps:
    """The observed part of a map in HEALPix pixels: ``kappa_E`` and, where known, ``kappa_B``,
    ``sigma``.

    Every pixel takes the value of the map's pixel that holds its centre: to interpolate would
    smooth the map, and shrink its std.

    Args:
        mass_map: on the sky.
        nside: a power of two; by default its pixels are no wider than the map's.

    Raises:
        ValueError: if the map is not on the sky, or ``nside`` is not a power of two or has pixels
            wider than the map's.
    """
    grid = mass_map.grid
    if grid.centre_deg is None:
        raise ValueError(
            "this map is not on the sky; give its grid a centre, Grid(..., centre_deg=(ra, dec))"
        )
    least = power_of_two_nside(grid.pixel_arcmin / 60)
    nside = least if nside is None else nside
    if nside < least or nside & (nside - 1):
        raise ValueError(
            f"nside is {nside}, with pixels of {60 * cell_side_deg(max(nside, 1)):.2g} arcmin; "
            f"expected a power of two, {least} or more for a map of {grid.pixel_arcmin:g} arcmin; "
            "coarser maps are averages of such a one (healpy.ud_grade, healsparse's degrade)"
        )
    half = grid.pixel_arcmin / 60 * math.hypot(*grid.shape) / 2
    reach = math.degrees(math.atan(math.radians(half)))
    pixels = within(healpix(nside), *grid.centre_deg, reach)
    places = places_on(grid, 0.0, *place_of(healpix(nside), pixels))
    observed = np.asarray(mass_map.mask)[places.rows, places.columns]
    rows, columns = places.rows[observed], places.columns[observed]
    named = {"kappa_E": mass_map.convergence, "kappa_B": mass_map.b_mode, "sigma": mass_map.std}
    maps = {
        name: np.asarray(values)[rows, columns]
        for name, values in named.items()
        if values is not None
    }
    return HealpixMaps(nside, pixels[places.used][observed], maps)


def write_txpipe_maps(
    path: str | Path, nside: int, pixels: np.ndarray, maps: Mapping[str, np.ndarray]
) -> None:
    """Write HEALPix maps as TXPipe keeps them: HDF5, a group ``maps/NAME`` for each.

    A group holds ``pixel`` (ring order, ascending) and ``value``, and says ``pixelization``,
    ``nside`` and ``nest``.

    Args:
        path: file to write; replaced only once the new one is whole.
        nside: of the pixels.
        pixels: nested numbers, shape ``(n,)``.
        maps: values by name, shape ``(n,)`` each.

    Raises:
        ValueError: if a map has not one value for every pixel.
    """
    for name, values in maps.items():
        if np.shape(values) != np.shape(pixels):
            raise ValueError(
                f"map {name!r} has shape {np.shape(values)}; expected one value for each of "
                f"{np.shape(pixels)} pixels"
            )
    ring = np.asarray(healpix(nside).nested_to_ring(pixels), np.int64)
    order = np.argsort(ring)
    room = sum(ring.nbytes + np.asarray(values).nbytes for values in maps.values()) + 2**16
    with atomic_path(path) as temporary:
        reserve(temporary, room)
        with h5py.File(temporary, "w") as file:
            for name, values in maps.items():
                group = file.create_group(f"maps/{name}")
                group.attrs.update({"pixelization": "healpix", "nside": nside, "nest": False})
                group["pixel"] = ring[order]
                group["value"] = np.asarray(values)[order]
