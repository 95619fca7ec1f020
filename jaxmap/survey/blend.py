r"""Overlapping patches blended on the sphere, with weights that fade towards their edges.

A patch counts for nothing within a quarter of the overlap from its edge, and fully from the whole
overlap on, where its own cell begins; a smooth step lies between. Of patches that hold a place,

.. math:: m = \sum_p \hat w_p m_p, \qquad s^2 = \sum_p \hat w_p s_p^2, \qquad
          \hat w_p = w_p / \sum_q w_q

Patches that overlap share their data there, so their errors are nearly the same: variances are
averaged, not divided. Samples of two patches are independent draws, whose average would scatter
too little; their deviations from the mean are therefore put together by
:math:`\sum_p \hat w_p\, \delta_p / (\sum_p \hat w_p^2)^{1/2}`, which keeps the variance of every
place. What it cannot keep is the correlation between places in different patches: structure larger
than a patch varies too little from sample to sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxmap.grid import Grid

_DEAD = 0.25
"""Part of the overlap next to the edge that is left out."""


class Places(NamedTuple):
    """Where points of the sky lie on a patch.

    Attributes:
        used: which of the points have a weight there, boolean, shape ``(n,)``.
        rows, columns: pixels of those, shape ``(m,)``.
        weight: above 0 and up to 1, shape ``(m,)``.
    """

    used: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray


def places_on(grid: Grid, overlap_arcmin: float, ra_deg: np.ndarray, dec_deg: np.ndarray) -> Places:
    """Pixels of a patch that points of the sky fall in, and their weights.

    The nearest pixel is taken: to interpolate would smooth a map, and shrink its std.

    Args:
        grid: of the patch.
        overlap_arcmin: over which its weight fades.
        ra_deg, dec_deg: the points, shape ``(n,)``.
    """
    x, y = grid.pixel_position(ra_deg, dec_deg)
    ny, nx = grid.shape
    to_edge = [
        side / 2 - np.abs(place - (side - 1) / 2) for place, side in ((x, nx), (y, ny))
    ]  # pixels
    width = max(overlap_arcmin / grid.pixel_arcmin, 1e-6)
    factors = [
        smooth_step((np.nan_to_num(d, nan=-1.0) / width - _DEAD) / (1 - _DEAD)) for d in to_edge
    ]
    weight = factors[0] * factors[1]
    used = weight > 0
    rows = np.clip(np.rint(y[used]), 0, ny - 1).astype(np.int64)
    columns = np.clip(np.rint(x[used]), 0, nx - 1).astype(np.int64)
    return Places(used, rows, columns, weight[used])


def smooth_step(t: np.ndarray) -> np.ndarray:
    """From 0 at t = 0 to 1 at t = 1, with slope 0 at both."""
    return np.sin(0.5 * np.pi * np.clip(t, 0, 1)) ** 2


class Blend:
    """Sums of patches at some points of the sky, in float64.

    Args:
        num_points: of the sky.
    """

    def __init__(self, num_points: int) -> None:
        self.weight = np.zeros(num_points)
        self.squared_weight = np.zeros(num_points)
        self.sums: dict[str, np.ndarray] = {}
        self.missing: set[str] = set()

    def add(self, places: Places, maps: dict[str, np.ndarray | None]) -> None:
        """Add a patch: maps by name, shape ``(ny, nx)``; None for one that it lacks."""
        self.weight[places.used] += places.weight
        self.squared_weight[places.used] += places.weight**2
        for name, values in maps.items():
            total = self.sums.setdefault(name, np.zeros(len(self.weight)))
            if values is None:
                self.missing.add(name)
            else:
                total[places.used] += places.weight * values[places.rows, places.columns]

    def mean(self, name: str) -> np.ndarray | None:
        """The weighted mean where there is any weight; None unless every patch had this map."""
        if name in self.missing or name not in self.sums:
            return None
        return self.sums[name][self.covered] / self.weight[self.covered]

    @property
    def covered(self) -> np.ndarray:
        """Points that lie on any patch, boolean."""
        return self.weight > 0
