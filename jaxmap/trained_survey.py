"""The one survey that a network was trained for, kept with it so that other data are noticed."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from jaxmap.catalog import ShearMap

log = logging.getLogger(__name__)

_MASK, _NOISE = 0.02, 0.05
"""Pixels that may be masked in one survey only, and relative difference of the noise (rms)."""


@dataclass(frozen=True, eq=False)
class TrainedSurvey:
    """Mask and noise that a network knows.

    Args:
        weight: inverse noise variance of the shear, shape ``(2, ny, nx)``; 0 = masked.
        pixel_arcmin: side of a pixel.
        margin: masked pixels around the field in training.
    """

    weight: np.ndarray
    pixel_arcmin: float
    margin: int


def warn_of_survey(survey: TrainedSurvey, data: ShearMap) -> None:
    """Say where data are not those of the survey that a network was trained for."""
    if differences := _differences(survey, data):
        log.warning(
            "the network was trained for one survey, and these data are of another: %s; nothing is "
            "known of its errors there. Train one for this survey (jaxmap train, [survey]), or use "
            "a network for any mask and noise (deepmass or dlposterior without --weights)",
            ", ".join(differences),
        )


def _differences(survey: TrainedSurvey, data: ShearMap) -> list[str]:
    pixel = data.grid.pixel_arcmin
    if abs(pixel / survey.pixel_arcmin - 1) > 0.02:
        return [f"pixels of {pixel:g} arcmin for {survey.pixel_arcmin:g}"]
    trained, weight = np.asarray(survey.weight), np.asarray(data.weight)
    if trained.shape != weight.shape:
        here, there = (f"{w.shape[2]} x {w.shape[1]}" for w in (weight, trained))
        return [f"a field of {here} pixels for {there}"]
    found = []
    unlike = float(np.mean((trained > 0).any(axis=0) != (weight > 0).any(axis=0)))
    if unlike > _MASK:
        found.append(f"{unlike:.0%} of the pixels masked in one only")
    both = (trained > 0) & (weight > 0)
    if both.any():
        # Logarithms first: the ratio of two weights may be beyond the range of the precision.
        ratio = 0.5 * (np.log(trained[both].astype(float)) - np.log(weight[both].astype(float)))
        if np.sqrt(np.mean(ratio**2)) > _NOISE:
            found.append(
                f"noise {np.exp(np.median(ratio)):.3g} times as large in the median, and different "
                f"by a factor of {np.exp(np.sqrt(np.mean(ratio**2))):.3g} in the rms"
            )
    return found
