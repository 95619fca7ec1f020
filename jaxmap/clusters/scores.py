r"""How well maps show clusters: the figures of Hong et al. (2021).

Weights make every level of the convergence count alike, :math:`1 / \omega = df / d\kappa`, with the
distribution of the true convergence in 50 equal bins.

References:
    Hong et al. (2021), ApJ 923, 266, Sect. 3; R is of their preprint, arXiv:2102.05403.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUM_BINS = 50
CATASTROPHIC = 10.0
"""Pixels; a centroid that is farther off is of another place."""


class Spread(NamedTuple):
    """A weighted mean over pixels and the weighted standard deviation about it."""

    mean: float
    std: float


class Interval(NamedTuple):
    """A median, and the distances from it to the 84 % and the 16 % quantile."""

    median: float
    above: float
    below: float


def deviation(found: np.ndarray, truth: np.ndarray) -> Spread:
    r"""D, the difference of maps in units of their own spread.

    .. math:: D = \frac{\sum_x \omega |\tilde\kappa - \tilde\kappa_t|}{\sum_x \omega}, \qquad
              \tilde\kappa = \frac{\kappa - \langle\kappa\rangle}{\Delta\kappa}

    with mean and standard deviation of every map, and weights of all pixels together. It does not
    always fall as maps become better: read it beside other figures.

    Args:
        found, truth: convergence of many fields, shape ``(num, ny, nx)``.
    """
    scaled, true = (
        (maps - maps.mean(axis=(1, 2), keepdims=True)) / maps.std(axis=(1, 2), keepdims=True)
        for maps in (np.asarray(found, float), np.asarray(truth, float))
    )
    return _weighted(np.abs(scaled - true).ravel(), _weight(true.ravel()))


def ratio(found: np.ndarray, truth: np.ndarray, rounds: int = 20) -> Spread:
    r"""R, the mean of :math:`\kappa / \kappa_t` with the weights, clipped at 3 sigma until nothing
    changes; arguments as of `deviation`."""
    true = np.asarray(truth, float).ravel()
    weight = _weight(true)
    usable = true != 0
    quotient = np.asarray(found, float).ravel()[usable] / true[usable]
    weight = weight[usable]
    result = _weighted(quotient, weight)
    for _ in range(rounds):
        kept = np.abs(quotient - result.mean) <= 3 * result.std
        if kept.all():
            break
        quotient, weight = quotient[kept], weight[kept]
        result = _weighted(quotient, weight)
    return result


def projected_mass(convergence: np.ndarray, x: float, y: float, radius: float = 10.0) -> float:
    """Sum of the convergence within a circle, in pixels of the map.

    Args:
        convergence: shape ``(ny, nx)``.
        x, y: the centre, in pixels from the middle of the first.
        radius: of the circle.
    """
    rows, columns = np.indices(convergence.shape)
    inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return float(np.sum(convergence, where=inside))


def centroid(convergence: np.ndarray, half: int = 10) -> tuple[float, float]:
    """First moments about the highest pixel, in a square of ``2 half + 1`` pixels.

    The least value of the square is subtracted before. At an edge of the map the square is smaller.

    Args:
        convergence: shape ``(ny, nx)``.
        half: pixels of the square on either side of the highest.

    Returns:
        x and y in pixels from the middle of the first.
    """
    row, column = np.unravel_index(np.argmax(convergence), convergence.shape)
    low, left = max(0, row - half), max(0, column - half)
    square = np.asarray(convergence[low : row + half + 1, left : column + half + 1], float)
    square = square - square.min()
    total = square.sum()
    if total == 0:
        return float(column), float(row)
    rows, columns = np.indices(square.shape)
    x, y = ((square * at).sum() / total for at in (columns, rows))
    return float(left + x), float(low + y)


def interval(values: np.ndarray) -> Interval:
    """Median and the 68 % around it."""
    low, middle, high = np.percentile(values, [16, 50, 84])
    return Interval(float(middle), float(high - middle), float(middle - low))


def _weight(true: np.ndarray) -> np.ndarray:
    """Inverse of the density of the true values at each of them."""
    counts, edges = np.histogram(true, NUM_BINS)
    bins = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, NUM_BINS - 1)
    return 1 / counts[bins]


def _weighted(values: np.ndarray, weight: np.ndarray) -> Spread:
    mean = np.average(values, weights=weight)
    return Spread(float(mean), float(np.average((values - mean) ** 2, weights=weight) ** 0.5))
