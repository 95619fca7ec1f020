"""The figures of Hong et al. (2021) for maps of clusters, their errors, and the published ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from common import mean_and_error

from jaxmap.clusters.scores import (
    CATASTROPHIC,
    centroid,
    deviation,
    interval,
    projected_mass,
    ratio,
)

PIXEL_ARCMIN = 0.192
"""Of the maps."""

PUBLISHED = {
    "note": "R, D, median mass ratio with 68 %, median offset with 68 % [arcmin]; R is of the "
    "preprint, the rest of the final paper; 29 and 19 are of MSE; MassiveNuS skies, other galaxies",
    "clear": {
        "KS93": [0.253, 6.26, [0.484, 0.218, 0.149], [4.27, 8.63, 3.94]],
        "49 MSE": [0.363, 4.59, [0.762, 0.305, 0.266], [0.55, 4.19, 0.36]],
        "49 MSE 4 channels": [0.360, 4.62, [0.789, 0.289, 0.263], [0.59, 3.66, 0.37]],
        "49 MSE no skip": [-0.361, 5.04, [-1.329, 0.457, 0.842], [0.73, 1.19, 0.40]],
        "49 focal": [0.407, 4.36, [0.867, 0.327, 0.296], [0.60, 4.92, 0.38]],
        "29": [0.359, 4.32, [0.754, 0.305, 0.245], [0.67, 7.31, 0.44]],
        "19": [0.329, 4.09, [0.720, 0.314, 0.238], [0.73, 1.19, 0.40]],
    },
    "stars": {
        "49 MSE": [0.216, 4.22, [0.448, 0.217, 0.182], [2.60, 4.09, 2.12]],
        "49 MSE 4 channels": [0.180, 4.93, [0.400, 0.178, 0.135], [4.20, 4.48, 3.67]],
        "49 focal": [0.276, 3.66, [0.554, 0.257, 0.211], [1.53, 4.21, 1.14]],
        "29": [0.209, 4.29, [0.421, 0.188, 0.193], [2.55, 6.09, 2.11]],
        "19": [0.193, 4.91, [0.386, 0.191, 0.149], [6.05, 4.99, 5.48]],
    },
}


def mass_and_place(truth: np.ndarray) -> tuple[float, float, float]:
    """True projected mass and place of the cluster: the highest peak in the middle of the field."""
    third = len(truth) // 3
    middle = np.full_like(truth, -1)
    middle[third:-third, third:-third] = truth[third:-third, third:-third]
    row, column = np.unravel_index(np.argmax(middle), truth.shape)
    return projected_mass(truth, column, row), float(column), float(row)


def judged(maps: np.ndarray, truths: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """The published figures of one estimator, the usual ones beside, and errors by resampling."""
    true = [mass_and_place(truth) for truth in truths]
    masses = np.array([projected_masses(maps, true), [mass for mass, _, _ in true]]).T
    centres = [np.array([centroid(each) for each in which]) for which in (maps, truths)]
    offsets = np.hypot(*(centres[0] - centres[1]).T)
    rows = rng.integers(0, len(maps), (300, len(maps)))
    quotient = masses[:, 0] / masses[:, 1]
    far = offsets > CATASTROPHIC
    residual = maps - truths
    third = maps.shape[1] // 3
    middle = residual[:, third:-third, third:-third].mean(axis=(1, 2))
    rmse = np.sqrt((residual**2).mean(axis=(1, 2)))
    return {
        "R": ratio(maps, truths)._asdict(),
        "D": deviation(maps, truths)._asdict(),
        "mass_ratio": interval(quotient)._asdict(),
        "mass_ratio_error": float(np.median(quotient[rows], axis=1).std()),
        "mass_scatter_after_scaling": scatter(masses),
        "offset_pixels": interval(offsets)._asdict(),
        "offset_pixels_error": float(np.median(offsets[rows], axis=1).std()),
        "offset_arcmin": interval(PIXEL_ARCMIN * offsets)._asdict(),
        "catastrophic": [float(far.mean()), float(far[rows].mean(axis=1).std())],
        "rmse": mean_and_error(rmse),
        "correlation": mean_and_error(correlations(maps, truths)),
        "mean_error_middle": mean_and_error(middle),
    }


def correlations(maps: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """With the truth, of every field."""
    pairs = zip(maps, truths, strict=True)
    return np.array([np.corrcoef(m.ravel(), t.ravel())[0, 1] for m, t in pairs])


def gain_over_runs(maps: np.ndarray, runs: np.ndarray, truths: np.ndarray) -> tuple[float, float]:
    """Correlation less the mean one of independent runs, field by field: mean and its error."""
    return mean_and_error(
        correlations(maps, truths) - np.mean([correlations(run, truths) for run in runs], axis=0)
    )


def projected_masses(maps: np.ndarray, true: list[tuple[float, float, float]]) -> list[float]:
    places = zip(maps, true, strict=True)
    return [projected_mass(one, x, y) for one, (_, x, y) in places]


def scatter(masses: np.ndarray) -> float:
    """Rms of the mass about the best straight line, relative to the mean true mass: how well the
    order of masses is known, whatever the calibration."""
    slope, offset = np.polyfit(masses[:, 0], masses[:, 1], 1)
    return float(np.std(masses[:, 1] - slope * masses[:, 0] - offset) / masses[:, 1].mean())


def scatter_of_runs(maps: np.ndarray, truths: np.ndarray, rng: np.random.Generator) -> dict:
    """Mean and standard deviation of the figures over independent runs, as published."""
    rows = [judged(run, truths, rng) for run in maps]
    values = {
        "R": [row["R"]["mean"] for row in rows],
        "D": [row["D"]["mean"] for row in rows],
        "mass_ratio": [row["mass_ratio"]["median"] for row in rows],
        "mass_scatter_after_scaling": [row["mass_scatter_after_scaling"] for row in rows],
        "offset_arcmin": [row["offset_arcmin"]["median"] for row in rows],
        "catastrophic": [row["catastrophic"][0] for row in rows],
        "rmse": [row["rmse"][0] for row in rows],
        "correlation": [row["correlation"][0] for row in rows],
    }
    stds = {name: [float(np.mean(v)), float(np.std(v, ddof=1))] for name, v in values.items()}
    return {"number": len(maps), "mean_and_std": stds}
