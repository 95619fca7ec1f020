"""Local maxima of maps, between pixels."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np


class Peaks(NamedTuple):
    """Local maxima of a stack of maps, one row each; host arrays of one length.

    Args:
        sample: number of the map.
        x, y: position in pixels from the first pixel's centre.
        height: of the parabola through the maximum and its neighbours.
    """

    sample: np.ndarray
    x: np.ndarray
    y: np.ndarray
    height: np.ndarray


def find_peaks(maps: jax.Array | np.ndarray, least: float) -> Peaks:
    r"""Pixels above ``least`` that exceed their eight neighbours, refined along both axes.

    .. math:: \delta_x = \frac{f_{-} - f_{+}}{2 (f_{-} - 2 f_0 + f_{+})}

    is the place of the vertex of the parabola through three pixels, at most half a pixel off. The
    outermost pixels, whose neighbours are not all known, are never peaks. Of equal neighbours the
    first is taken.

    Args:
        maps: shape ``(n, ny, nx)``.
        least: the lowest height.
    """
    stack = np.asarray(maps)
    rows = []
    for number in range(len(stack)):  # one by one: they may be on disk
        field = np.asarray(stack[number], float)
        y, x = np.nonzero(np.asarray(is_peak(field)) & (field > least))
        centre = field[y, x]
        height, offsets = centre.copy(), []
        for before, after in (
            (field[y, x - 1], field[y, x + 1]),
            (field[y - 1, x], field[y + 1, x]),
        ):
            curvature = before - 2 * centre + after
            bent = curvature < 0
            offset = np.where(bent, (before - after) / (2 * np.where(bent, curvature, -1)), 0)
            offset = np.clip(offset, -0.5, 0.5)
            height += np.where(bent, -0.5 * curvature * offset**2, 0)
            offsets.append(offset)
        rows.append((np.full(len(x), number), x + offsets[0], y + offsets[1], height))
    return Peaks(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def is_peak(field: np.ndarray) -> np.ndarray:
    """Whether a pixel exceeds its eight neighbours, shape ``(ny, nx)``; False at the border."""
    inner = field[1:-1, 1:-1]
    peak = np.ones_like(inner, bool)
    ny, nx = field.shape
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            if (dy, dx) == (1, 1):
                continue
            neighbour = field[dy : ny - 2 + dy, dx : nx - 2 + dx]
            # Of equals, the first in reading order counts as the higher.
            peak &= inner >= neighbour if (dy, dx) > (1, 1) else inner > neighbour
    return np.pad(peak, 1)
