"""Choosing the field: a grid that fits a catalogue."""

from __future__ import annotations

import logging

import numpy as np

from jaxmap.catalog import ShearCatalog
from jaxmap.grid import WIDEST_FIELD_DEG, Grid

log = logging.getLogger(__name__)

GALAXIES_PER_PIXEL = 5.0
"""Default depth of a pixel; about that of the published COSMOS map."""

LARGEST_DENSITY = 500.0
"""Galaxies per square arcminute; the deepest images from space show 350."""

LARGEST_SIDE = 8192
"""Pixels; more is surely a slip in the pixel scale."""


def grid_of_catalog(
    catalog: ShearCatalog,
    pixel_arcmin: float | None = None,
    *,
    shape: tuple[int, int] | None = None,
    centre_deg: tuple[float, float] | None = None,
) -> Grid:
    """The tangent-plane grid around a catalogue.

    Args:
        catalog: galaxy positions.
        pixel_arcmin: pixel side; by default it holds five galaxies on average.
        shape: ``(ny, nx)``; by default all galaxies fit.
        centre_deg: (RA, Dec) of the centre; by default the middle of the galaxies.

    Raises:
        ValueError: if the field is too wide for a tangent plane, or the grid too large or empty.
    """
    used = catalog.weight > 0
    ra, dec = catalog.ra_deg[used], catalog.dec_deg[used]
    centre = _middle(ra, dec) if centre_deg is None else centre_deg
    x, y = Grid((1, 1), 1.0, centre).pixel_position(ra, dec)  # arcminutes from the centre
    if shape is None:
        width = np.inf if np.isnan(x).any() else 2 * max(np.abs(x).max(), np.abs(y).max()) / 60
        if width > WIDEST_FIELD_DEG:
            raise ValueError(
                f"the galaxies spread over {'more than half the sky' if width == np.inf else ''}"
                f"{'' if width == np.inf else f'{width:.1f} deg'}; expected at most "
                f"{WIDEST_FIELD_DEG:g} deg for one tangent plane: choose a part with centre_deg "
                "and shape (--centre RA,DEC --size N)"
            )
    near = np.hypot(x, y) < 60 * WIDEST_FIELD_DEG / 2
    if not near.any():
        raise ValueError(
            f"no galaxy lies within {WIDEST_FIELD_DEG / 2:g} deg of the centre {centre}; give a "
            "centre in the survey (--centre RA,DEC)"
        )
    density = _density(x[near], y[near])
    if density > LARGEST_DENSITY and np.sum(near) > 100:
        log.warning(
            "there are %.0f galaxies per square arcminute; are RA and Dec in degrees?", density
        )
    if pixel_arcmin is None:
        pixel_arcmin = float(f"{np.sqrt(GALAXIES_PER_PIXEL / density):.2g}")  # two digits
    if not 0 < pixel_arcmin < np.inf:
        raise ValueError(f"pixel scale is {pixel_arcmin} arcmin; expected a number above 0")
    if shape is None:
        # Half a pixel around, so that no galaxy sits on the rim.
        shape = tuple(  # type: ignore[assignment]
            max(2 * int(np.ceil(np.abs(axis).max() / pixel_arcmin + 0.5)), 2) for axis in (y, x)
        )
    assert shape is not None
    if max(shape) > LARGEST_SIDE:
        raise ValueError(
            f"the grid would have {shape[0]} x {shape[1]} pixels of {pixel_arcmin:g} arcmin; "
            f"expected at most {LARGEST_SIDE} on a side: choose a larger pixel (--pixel-arcmin) or "
            "a part of the field (--size)"
        )
    if max(shape) * pixel_arcmin / 60 > WIDEST_FIELD_DEG:
        raise ValueError(
            f"the field would be {max(shape) * pixel_arcmin / 60:g} deg wide; expected at most "
            f"{WIDEST_FIELD_DEG:g} deg for one tangent plane: give fewer or smaller pixels "
            "(--size, --pixel-arcmin)"
        )
    return Grid(shape, pixel_arcmin, centre)


def _middle(ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[float, float]:
    """Centre of the galaxies' bounding box in the plane tangent at their mean direction."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    mean = np.mean([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    start = (
        float(np.degrees(np.arctan2(mean[1], mean[0])) % 360),
        float(np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1])))),
    )
    plane = Grid((1, 1), 1.0, start)
    x, y = plane.pixel_position(ra_deg, dec_deg)
    if np.isnan(x).any():
        return start
    middle = plane.wcs().all_pix2world((x.min() + x.max()) / 2, (y.min() + y.max()) / 2, 0)
    return float(middle[0]), float(middle[1])


def _density(x: np.ndarray, y: np.ndarray) -> float:
    """Galaxies per square unit where there are any: over the occupied cells of a coarse grid, so
    that the gaps of an irregular footprint do not count."""
    extent = max(np.ptp(x), np.ptp(y), 1e-3)
    cells = int(np.clip(np.sqrt(len(x) / 50), 1, 200))
    side = extent / cells
    occupied = len(np.unique(((x - x.min()) // side) * (cells + 1) + (y - y.min()) // side))
    return float(len(x) / (occupied * side**2))
