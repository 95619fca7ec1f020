"""Errors of learned masses, measured on clusters that were held out of the training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUM_BINS = 8
FEWEST = 25
"""Held-out clusters needed for one bin."""


class ErrorModel(NamedTuple):
    """Error as a function of the estimate, linear between the given ones and constant beyond.

    Attributes:
        log10_mass: estimates, ascending, shape ``(n,)``.
        std: rms error there in dex, shape ``(n,)``.
    """

    log10_mass: np.ndarray
    std: np.ndarray

    def __call__(self, log10_mass: np.ndarray, spread: np.ndarray | None = None) -> np.ndarray:
        """Errors in dex; what an ensemble's spread exceeds the usual one by is added."""
        std = np.interp(log10_mass, self.log10_mass, self.std)
        return std if spread is None else np.hypot(std, spread)


def fit_errors(
    estimate: np.ndarray, truth: np.ndarray, spread: np.ndarray | None = None
) -> ErrorModel:
    """Measure errors in bins of the estimate that hold equally many clusters.

    Args:
        estimate: log10 masses of clusters that were not trained on, shape ``(n,)``.
        truth: their true log10 masses.
        spread: standard deviation of an ensemble's members; its square is taken off, since
            `ErrorModel` adds it again.

    Raises:
        ValueError: for fewer than 50 clusters.
    """
    require_enough(len(estimate))
    num = min(NUM_BINS, len(estimate) // FEWEST)
    groups = np.array_split(np.argsort(estimate, kind="stable"), num)
    square = (estimate - truth) ** 2
    taken = np.zeros(len(estimate)) if spread is None else spread**2
    variance = [max(np.mean(square[g] - taken[g]), 0.01 * np.mean(square[g])) for g in groups]
    centres = np.array([np.mean(estimate[g]) for g in groups])
    return ErrorModel(centres, np.sqrt(variance))


def require_enough(num_held_out: int) -> None:
    """Refuse to measure errors with too few clusters, before a training for them.

    Raises:
        ValueError: for fewer than 50.
    """
    if num_held_out < 2 * FEWEST:
        raise ValueError(
            f"errors cannot be measured with {num_held_out} held-out clusters; expected "
            f"{2 * FEWEST} or more (train with more clusters)"
        )
