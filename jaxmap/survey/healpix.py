"""The sphere in HEALPix cells, through astropy-healpix, an extra (``jaxmap[survey]``).

Angles are degrees everywhere, and pixels nested unless said otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

FULL_SKY_DEG2 = 4 * math.pi * math.degrees(1) ** 2


def healpix(nside: int, order: str = "nested") -> Any:
    """A pixelation of the sphere, ``astropy_healpix.HEALPix``.

    Raises:
        ValueError: if astropy-healpix is not installed.
    """
    try:
        from astropy_healpix import HEALPix
    except ImportError as error:
        raise ValueError(
            'maps of whole surveys need astropy-healpix: pip install "jaxmap[survey]"'
        ) from error
    return HEALPix(nside=nside, order=order)


def cell_side_deg(nside: int) -> float:
    """Square root of the area of a pixel."""
    return math.sqrt(FULL_SKY_DEG2 / 12) / nside


def power_of_two_nside(side_deg: float, most: int = 2**20) -> int:
    """The coarsest nested pixelation whose pixels are no wider than ``side_deg``."""
    return min(2 ** max(math.ceil(math.log2(cell_side_deg(1) / side_deg)), 0), most)


def pixel_of(grid: Any, ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    """Pixel numbers of places, int64."""
    from astropy import units

    ra, dec = np.asarray(ra_deg, float) * units.deg, np.asarray(dec_deg, float) * units.deg
    return np.asarray(grid.lonlat_to_healpix(ra, dec), np.int64)


def place_of(grid: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec of the centres of pixels."""
    ra, dec = grid.healpix_to_lonlat(np.asarray(pixels))
    return np.asarray(ra.to_value("deg")), np.asarray(dec.to_value("deg"))


def outline_of(grid: Any, pixels: np.ndarray, step: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec of points on the borders of pixels, shape ``(num, 4 step)`` each."""
    ra, dec = grid.boundaries_lonlat(np.asarray(pixels), step)
    return np.asarray(ra.to_value("deg")), np.asarray(dec.to_value("deg"))


def within(grid: Any, ra_deg: float, dec_deg: float, radius_deg: float) -> np.ndarray:
    """Pixels that a circle touches, ascending."""
    from astropy import units

    found = grid.cone_search_lonlat(ra_deg * units.deg, dec_deg * units.deg, radius_deg * units.deg)
    return np.sort(np.asarray(found, np.int64))
