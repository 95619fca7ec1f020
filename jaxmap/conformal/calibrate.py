"""From fields of known truth to calibrated widths, and how well those keep their promise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.conformal.bounds import Conformal
from jaxmap.conformal.scores import Floats, Scored, score_field
from jaxmap.conformal.thresholds import fewest_fields, pooled_threshold, position_threshold
from jaxmap.estimators import Estimator


def calibrate_intervals(
    key: jax.Array,
    estimator: Estimator,
    fields: Iterable[tuple[jax.Array, ShearMap]],
    level: float = 0.68,
    *,
    per_pixel: bool = False,
    method: Mapping[str, Any] | None = None,
) -> Conformal:
    """Map fields of known truth and find the widths that cover it.

    Args:
        key: PRNG key, for estimators that draw.
        estimator: ``(key, ShearMap) -> MassMap``; the one whose maps get the intervals.
        fields: pairs of the true convergence and the shear observed of it; exchangeable, and with
            the field to come.
        level: of coverage.
        per_pixel: a threshold for every position instead of one for all.
        method: what the estimator is, as JSON can hold it, for `Conformal.check`.

    Raises:
        ValueError: see `conformal_of`.
    """
    scored = [
        score_field(estimator(jax.random.fold_in(key, number), shear), truth, shear)
        for number, (truth, shear) in enumerate(fields)
    ]
    return conformal_of(scored, level, per_pixel=per_pixel, method=method)


def conformal_of(
    scored: Sequence[Scored],
    level: float = 0.68,
    *,
    per_pixel: bool = False,
    method: Mapping[str, Any] | None = None,
) -> Conformal:
    """The widths that cover the truth of scored fields.

    Raises:
        ValueError: for a level that is none, fields of different kinds or pixels, or so few that no
            finite width keeps the promise.
    """
    _check_fields(scored, level, per_pixel)
    if per_pixel:
        observed = position_threshold(np.stack([one.scores for one in scored]), level)
        masked = np.full((), np.nan)
    else:
        observed = pooled_threshold([one.scores[one.observed] for one in scored], level)
        masked = pooled_threshold([one.scores[~one.observed] for one in scored], level)
    noise = [one.noise_std for one in scored]
    return Conformal(
        level=float(level),
        kind=scored[0].kind,
        observed=observed,
        masked=np.where(np.isfinite(masked), masked, np.nan),
        num_fields=len(scored),
        pixel_arcmin=scored[0].pixel_arcmin,
        noise_std=(min(noise), max(noise)),
        method=json.loads(json.dumps(dict(method or {}))),
    )


def coverage(scored: Sequence[Scored], bounds: Conformal) -> Floats:
    """Share of the observed pixels of every field that its interval covers, shape ``(n,)``."""
    inside = [one.scores <= bounds.observed for one in scored]
    return np.array([hit[one.observed].mean() for hit, one in zip(inside, scored, strict=True)])


def held_out_coverage(
    scored: Sequence[Scored], level: float, *, per_pixel: bool = False, folds: int = 5
) -> Floats | None:
    """`coverage` of fields by thresholds of the others, a fifth of them left out at a time.

    Returns:
        Shape ``(n,)``; None where the others are too few.
    """
    found = np.zeros(len(scored))
    for fold in range(folds):
        others = [one for number, one in enumerate(scored) if number % folds != fold]
        if len(others) < fewest_fields(level):
            return None
        bounds = conformal_of(others, level, per_pixel=per_pixel)
        found[fold::folds] = coverage(scored[fold::folds], bounds)
    return found


def _check_fields(scored: Sequence[Scored], level: float, per_pixel: bool) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; expected a number between 0 and 1, as in 0.68")
    least = fewest_fields(level)
    if len(scored) < least:
        raise ValueError(
            f"{len(scored)} fields were given; expected at least {least}, since no fewer can "
            f"promise {level:.0%}: simulate more (--num), or lower the level (--level)"
        )
    kinds = {one.kind for one in scored}
    pixels = {one.pixel_arcmin for one in scored}
    if len(kinds) > 1 or len(pixels) > 1:
        raise ValueError(
            f"the fields have scores of kinds {sorted(kinds)} in pixels of {sorted(pixels)} arcmin;"
            " expected one of each"
        )
    shapes = {one.scores.shape for one in scored}
    if per_pixel and len(shapes) > 1:
        raise ValueError(
            f"the fields have shapes {sorted(shapes)}; expected one, to calibrate every position "
            "(or pooled intervals: per_pixel=False)"
        )
