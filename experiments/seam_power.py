"""Power of merged maps in small squares, on borders of cells and inside, for `survey_seams.py`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmap import Grid
from jaxmap.spectra import map_power
from jaxmap.survey.healpix import healpix, outline_of, pixel_of, place_of

PIXEL = 3.0  # arcminutes
SIDE, EDGES = 26, np.array([400, 700, 1000, 1400])  # of squares in pixels; of bands in ell


def border_distance(nside: int, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Degrees to the nearest point on the border of any cell, by points 3 arcmin or so apart."""
    from scipy.spatial import cKDTree

    grid = healpix(nside, "ring")
    cells = np.unique(pixel_of(grid, ra, dec))
    outlines = [np.concatenate(part) for part in outline_of(grid, cells, 80)]
    return np.degrees(cKDTree(directions(*outlines)).query(directions(ra, dec))[0])


def directions(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def seam_power(
    nside: int,
    pixels: np.ndarray,
    truth: np.ndarray,
    maps: dict[str, np.ndarray],
    inside: np.ndarray,
) -> dict[str, dict[str, np.ndarray]]:
    """Power of maps and of the truth in small tapered squares, on borders and inside cells.

    Squares inside are five for a cell, one in its middle and one a side's length from it in every
    direction of the compass, where its corners are. Shape ``(squares, bands)`` by place and map.
    """
    grid, fine = healpix(nside, "ring"), healpix(1024)
    cells = np.unique(pixel_of(grid, *place_of(fine, pixels[inside])))
    borders = np.stack([np.concatenate(part) for part in outline_of(grid, cells, 2)], axis=1)
    middles = np.stack(place_of(grid, cells), axis=1)
    step = SIDE * PIXEL / 60
    shifts = step * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
    stretch = np.stack([1 / np.cos(np.radians(middles[:, 1])), np.ones(len(middles))], axis=1)
    centres = (middles[:, None] + shifts * stretch[:, None]).reshape(-1, 2)
    far = border_distance(nside, *centres.T) > step / 2
    points = {"seams": np.unique(borders.round(6), axis=0), "interior": centres[far]}
    powers = {}
    for place, at in points.items():
        squares = [
            [square_power(tuple(one), pixels, v, inside) for v in (truth, *maps.values())]
            for one in at
        ]
        kept = [row for row in squares if row[0] is not None]
        values = np.array(kept, float).reshape(-1, 1 + len(maps), len(EDGES) - 1)
        powers[place] = dict(zip(("truth", *maps), values.swapaxes(0, 1), strict=True))
    return powers


def power_ratios(surveys: list[dict[str, dict[str, np.ndarray]]]) -> dict[str, Any]:
    """Power of maps over that of the truth, near borders over inside, from squares of all surveys.

    The sky's own scatter drops out of the ratio. The truth is a mean over pixels of 3.4 arcmin,
    which costs it power at the highest ell, near borders and elsewhere. Errors are jackknives over
    squares.
    """
    found: dict[str, Any] = {"ell_edges": EDGES.tolist()}
    for place in ("seams", "interior"):
        found[f"squares_{place}"] = sum(len(one[place]["truth"]) for one in surveys)
    if not all(found[f"squares_{place}"] for place in ("seams", "interior")):
        return found
    for name in ("mean", "sample"):
        values, errors = [], []
        for place in ("seams", "interior"):
            above, below = (
                np.concatenate([one[place][what] for one in surveys]) for what in (name, "truth")
            )
            count = len(above)
            left_out = (above.sum(0) - above) / (below.sum(0) - below)
            values.append(above.sum(0) / below.sum(0))
            errors.append(np.sqrt((count - 1) * np.var(left_out, axis=0)))
        ratio = values[0] / values[1]
        error = ratio * np.hypot(errors[0] / values[0], errors[1] / values[1])
        found[name] = {
            "seams_over_truth": values[0].tolist(),
            "interior_over_truth": values[1].tolist(),
            "ratio": ratio.tolist(),
            "ratio_error": error.tolist(),
        }
    return found


def square_power(
    centre: tuple[float, float],
    pixels: np.ndarray,
    values: np.ndarray,
    inside: np.ndarray,
) -> np.ndarray | None:
    """Band powers of a square of 1.3 degrees of the merged map; None where it is not all inside."""
    grid = Grid((SIDE, SIDE), PIXEL, centre)
    rows, columns = np.indices(grid.shape)
    ra, dec = grid.wcs().all_pix2world(columns.ravel(), rows.ravel(), 0)
    at = pixel_of(healpix(1024), ra, dec)
    row = np.clip(np.searchsorted(pixels, at), 0, len(pixels) - 1)
    if not np.mean((pixels[row] == at) & inside[row]) > 0.98:
        return None
    taper = np.hanning(SIDE + 2)[1:-1]
    window = taper[:, None] * taper[None]
    field = np.where(pixels[row] == at, values[row], 0).reshape(grid.shape)
    field = (field - np.sum(window * field) / window.sum()) * window
    return np.asarray(map_power(jnp.asarray(field), grid, EDGES)[1])
