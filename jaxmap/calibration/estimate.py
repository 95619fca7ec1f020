"""Averages over fields with their standard errors, and what they say against a target."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxmap.calibration.ranks import Floats


class Estimate(NamedTuple):
    """A number and its standard error, from the scatter over a number of fields."""

    value: float
    error: float
    num_fields: int

    @property
    def reach(self) -> float:
        """What chance exceeds in 0.27 % of cases: 3 standard errors of very many fields, more of
        few, whose scatter is ill known (Student's t)."""
        from scipy.special import stdtrit

        return self.error * float(stdtrit(self.num_fields - 1, 1 - 0.00135))


def pooled_ratio(numerator: Floats, denominator: Floats) -> Estimate:
    r"""Ratio of sums over n independent fields.

    .. math:: r = \frac{\sum_f a_f}{\sum_f b_f}, \qquad
              \mathrm{Var}\, r = \frac{n}{n - 1} \,
              \frac{\sum_f (a_f - r b_f)^2}{(\sum_f b_f)^2}

    Args:
        numerator, denominator: one value for each field, shape ``(n,)``, n of 2 or more.
    """
    total = float(np.sum(denominator))
    ratio = float(np.sum(numerator)) / total
    scatter = float(np.sum((numerator - ratio * denominator) ** 2))
    num = len(denominator)
    return Estimate(ratio, math.sqrt(num / (num - 1) * scatter) / abs(total), num)


def square_root(estimate: Estimate) -> Estimate:
    """The root of an estimated square; not a number below 0."""
    if estimate.value <= 0:
        return estimate._replace(value=math.nan, error=math.nan)
    root = math.sqrt(estimate.value)
    return estimate._replace(value=root, error=estimate.error / (2 * root))


def line(
    name: str,
    estimate: Estimate,
    nominal: float,
    tolerance: float,
    *,
    sure: float | None = None,
    gate: bool = True,
) -> dict[str, Any]:
    """One line of a report.

    Its verdict is ``pass`` within the tolerance; ``fail`` where not even `Estimate.reach` leads
    back to it (or beyond ``sure``, where given); ``open`` between: simulate more fields.

    Args:
        name: what it is.
        estimate: its value.
        nominal: in a calibrated posterior.
        tolerance: the target, on either side.
        sure: deviation beyond which chance is ruled out, instead of the reach.
        gate: whether the whole report waits for this line to pass.
    """
    distance = abs(estimate.value - nominal)
    limit = tolerance + estimate.reach if sure is None else sure
    # A value that is no number is no agreement.
    verdict = "pass" if distance <= tolerance else "open" if distance <= limit else "fail"
    return {
        "name": name,
        "value": _or_none(estimate.value),
        "error": _or_none(estimate.error),
        "nominal": nominal,
        "tolerance": tolerance,
        "verdict": verdict,
        "gate": gate,
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
