"""Detections and a catalogue's objects, one to one."""

from __future__ import annotations

import numpy as np


def match_positions(
    x: np.ndarray, y: np.ndarray, x_other: np.ndarray, y_other: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pair points with the nearest of others, each taken once, the closest pairs first.

    Args:
        x, y: points, shape ``(n,)``.
        x_other, y_other: other points, shape ``(m,)``, in the same unit; NaN matches nothing.
        radius: largest separation.

    Returns:
        Index of the partner, -1 for none, and the separation, NaN for none; shape ``(n,)`` each.

    Raises:
        ValueError: for a radius that is not a number above 0.
    """
    if not radius > 0:
        raise ValueError(f"the matching radius is {radius}; expected a number above 0")
    x, y, x_other, y_other = (np.asarray(values, float) for values in (x, y, x_other, y_other))
    separation = np.hypot(x[:, None] - x_other[None], y[:, None] - y_other[None])
    partner, distance = np.full(len(x), -1), np.full(len(x), np.nan)
    one, other = np.nonzero(separation <= radius)
    taken = np.zeros(len(x_other), bool)
    for pair in np.argsort(separation[one, other], kind="stable"):
        i, j = one[pair], other[pair]
        if partner[i] < 0 and not taken[j]:
            partner[i], distance[i], taken[j] = j, separation[i, j], True
    return partner, distance
