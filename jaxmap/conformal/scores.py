"""Scores: how far the truth lies outside what a map says of it, pixel by pixel."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from jaxmap.catalog import ShearMap
from jaxmap.massmap import MassMap

Floats = NDArray[np.floating[Any]]
Kind = Literal["interval", "std", "plain"]


class Scored(NamedTuple):
    """What calibration keeps of one field.

    Attributes:
        kind: of the scores.
        scores: shape ``(ny, nx)``.
        observed: True where the shear was observed.
        pixel_arcmin: side of a pixel.
        noise_std: median noise of a component in an observed pixel.
    """

    kind: Kind
    scores: Floats
    observed: NDArray[np.bool_]
    pixel_arcmin: float
    noise_std: float


def kind_of(result: MassMap) -> Kind:
    """The best thing that widths can be built on."""
    if result.lower is not None and result.upper is not None:
        return "interval"
    return "plain" if result.std is None else "std"


def median_noise(shear: ShearMap) -> float:
    """Median standard deviation of an observed component."""
    weight = np.asarray(shear.weight)
    return float(1 / np.sqrt(np.median(weight[weight > 0])))


def score_field(result: MassMap, truth: jax.Array, shear: ShearMap) -> Scored:
    """Scores of a map whose truth is known.

    Raises:
        ValueError: if the truth has another shape, or a score is not a number.
    """
    kind, observed = kind_of(result), np.asarray(result.mask)
    estimate, true = np.asarray(result.convergence, float), np.asarray(truth, float)
    if true.shape != estimate.shape:
        raise ValueError(
            f"the truth has shape {true.shape} and the map {estimate.shape}; expected the same"
        )
    true = true + np.mean((estimate - true)[observed])
    error = np.abs(true - estimate)
    if kind == "interval":
        scores = np.maximum(np.asarray(result.lower) - true, true - np.asarray(result.upper))
    elif kind == "std":
        std = np.asarray(result.std, float)
        known = std > 0
        scores = np.where(known, error / np.where(known, std, 1), np.inf)
    else:
        scores = error
    if np.isnan(scores).any():
        raise ValueError(
            f"{np.isnan(scores).sum()} pixels of the map or its truth are not numbers; expected "
            "finite maps"
        )
    return Scored(kind, scores, observed, shear.grid.pixel_arcmin, median_noise(shear))
