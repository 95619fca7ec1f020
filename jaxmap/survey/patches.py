"""A footprint cut into overlapping tangent planes of one shape, around HEALPix centres.

A patch is the square that holds one HEALPix cell and ``overlap_arcmin`` around it. All patches of a
survey have the same number of pixels, so that one compiled program serves them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxmap.grid import WIDEST_FIELD_DEG, Grid
from jaxmap.survey.healpix import cell_side_deg, healpix, outline_of, pixel_of, place_of, within

COUNTS_NSIDE = 512
"""Of the map of galaxy counts that stands for the footprint: pixels of 6.9 arcmin."""


@dataclass(frozen=True)
class Patch:
    """One tangent plane of a survey.

    Args:
        number: its HEALPix cell, in ring order.
        centre_deg: RA and Dec of the cell's centre.
        cells: of the galaxy store, which it needs.
        most_galaxies: upper bound of the galaxies on it.
    """

    number: int
    centre_deg: tuple[float, float]
    cells: tuple[int, ...]
    most_galaxies: int


@dataclass(frozen=True)
class Tiling:
    """Patches of one shape.

    Args:
        nside: of the cells in the middle of the patches.
        cells_nside: of the galaxy store.
        shape: pixels of every patch.
        pixel_arcmin: their side.
        overlap_arcmin: least distance of a cell from the edge of its patch.
        patches: ascending in number.
    """

    nside: int
    cells_nside: int
    shape: tuple[int, int]
    pixel_arcmin: float
    overlap_arcmin: float
    patches: tuple[Patch, ...]

    def grid(self, patch: Patch) -> Grid:
        """The patch on the sky."""
        return Grid(self.shape, self.pixel_arcmin, patch.centre_deg)

    @property
    def plane(self) -> Grid:
        """The grid of any patch, nowhere on the sky: what programs are compiled for."""
        return Grid(self.shape, self.pixel_arcmin)

    @property
    def cell_arcmin(self) -> float:
        """Side of a square as large as a cell."""
        return 60 * cell_side_deg(self.nside)

    @property
    def times_mapped(self) -> float:
        """Area of a patch over that of its cell: how many times over the sky is computed."""
        return self.plane.num_pixels * (self.pixel_arcmin / self.cell_arcmin) ** 2


def nearest_nside(side_deg: float, most: int = COUNTS_NSIDE) -> int:
    """The pixelation whose pixels are about so wide."""
    return int(np.clip(2.0 ** round(math.log2(cell_side_deg(1) / side_deg)), 1, most))


def cells_nside_for(patch_deg: float) -> int:
    """Cells of the galaxy store: some ten of them in a patch."""
    return nearest_nside(patch_deg / 3, most=256)


def cut_patches(
    counts: np.ndarray, patch_deg: float, pixel_arcmin: float, overlap_arcmin: float
) -> Tiling:
    """Patches that cover every galaxy.

    Args:
        counts: galaxies in the nested pixels of `COUNTS_NSIDE`.
        patch_deg: side of the cells; the nearest there is (58.6 deg halved some times) is taken.
        pixel_arcmin: side of a pixel.
        overlap_arcmin: how far patches reach beyond their cells.

    Raises:
        ValueError: for sizes that are not positive, or patches too wide to be flat.
    """
    for name, value in (("patch_deg", patch_deg), ("pixel_arcmin", pixel_arcmin)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} is {value}; expected a number above 0")
    if not 0 <= overlap_arcmin < np.inf:
        raise ValueError(f"the overlap is {overlap_arcmin} arcmin; expected 0 or more")
    nside = nearest_nside(patch_deg)
    fine, coarse = healpix(COUNTS_NSIDE), healpix(nside, "ring")
    used = np.flatnonzero(counts)
    numbers = np.unique(pixel_of(coarse, *place_of(fine, used)))
    centres = np.stack(place_of(coarse, numbers), axis=1)
    half = _half_sides(numbers, nside, centres) + overlap_arcmin
    shape = (2 * math.ceil(half[1] / pixel_arcmin), 2 * math.ceil(half[0] / pixel_arcmin))
    width = max(shape) * pixel_arcmin / 60
    if width > WIDEST_FIELD_DEG:
        raise ValueError(
            f"patches of {patch_deg:g} deg would be {width:.1f} deg wide with their overlap; "
            f"expected at most {WIDEST_FIELD_DEG:g}: give a smaller --patch-deg or "
            "--overlap-arcmin"
        )
    cells_nside = cells_nside_for(patch_deg)
    patches = tuple(
        _patch(int(number), (float(ra), float(dec)), counts, shape, pixel_arcmin, cells_nside)
        for number, (ra, dec) in zip(numbers, centres, strict=True)
    )
    return Tiling(nside, cells_nside, shape, pixel_arcmin, overlap_arcmin, patches)


def _half_sides(numbers: np.ndarray, nside: int, centres: np.ndarray) -> np.ndarray:
    """Farthest that any cell reaches from its centre along x and y, arcminutes."""
    ra, dec = outline_of(healpix(nside, "ring"), numbers)
    reach = [
        np.abs(Grid((1, 1), 1.0, tuple(centre)).pixel_position(*outline)).max(axis=-1)
        for centre, *outline in zip(centres, ra, dec, strict=True)
    ]
    if not np.isfinite(reach).all():
        raise ValueError("the patches are as wide as the sky; give a smaller --patch-deg")
    return np.max(reach, axis=0)


def _patch(
    number: int,
    centre: tuple[float, float],
    counts: np.ndarray,
    shape: tuple[int, int],
    pixel_arcmin: float,
    cells_nside: int,
) -> Patch:
    """A patch with all that may lie on it: by count pixels that its square touches."""
    half_y, half_x = (side * pixel_arcmin / 2 for side in shape)
    fine = healpix(COUNTS_NSIDE)
    # More than from a count pixel's centre to its farthest corner, 1.05 of its side, on a plane
    # that stretches lengths by three per cent at most.
    touch = 60 * 1.1 * cell_side_deg(COUNTS_NSIDE)
    radius = math.hypot(half_x, half_y) + touch
    near = within(fine, *centre, min(radius / 60, 180.0))
    near = near[counts[near] > 0]
    x, y = Grid((1, 1), 1.0, centre).pixel_position(*place_of(fine, near))
    near = near[(np.abs(x) <= half_x + touch) & (np.abs(y) <= half_y + touch)]
    cells = np.unique(near // (COUNTS_NSIDE // cells_nside) ** 2)
    return Patch(number, centre, tuple(cells.tolist()), int(counts[near].sum()))
