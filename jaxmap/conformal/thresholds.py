"""Thresholds of scores that keep a promise of coverage (see `jaxmap.conformal`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jaxmap.conformal.scores import Floats

_ROUNDING = 1e-9
"""Of sums of shares; far below one pixel."""


def pooled_threshold(scores: Sequence[Floats], level: float) -> Floats:
    r"""Least t with :math:`\sum_i L_i(t) \le (n + 1)(1 - \mathrm{level}) - 1`; see above.

    Args:
        scores: of the pixels of every field, one vector each; fields without pixels are passed
            over.
        level: of coverage.

    Returns:
        Shape ``()``; inf where fields are too few.
    """
    fields = [one for one in scores if len(one)]
    allowed = (len(fields) + 1) * (1 - level) - 1
    if allowed < -_ROUNDING:
        return np.full((), np.inf)
    values = np.concatenate(fields)
    share = np.concatenate([np.full(len(one), 1 / len(one)) for one in fields])
    order = np.argsort(values, kind="stable")
    # Shares of all pixels from each score upwards, that is, missed by any threshold below it.
    missed = np.append(np.cumsum(share[order][::-1])[::-1][1:], 0.0)
    return np.asarray(values[order][np.argmax(missed <= allowed + _ROUNDING)])


def position_threshold(scores: Floats, level: float) -> Floats:
    r"""The :math:`\lceil (n + 1)\, \mathrm{level} \rceil`-th smallest score of every position.

    Args:
        scores: shape ``(n, ny, nx)``.
        level: of coverage.
    """
    rank = math.ceil((len(scores) + 1) * level - _ROUNDING)
    if rank > len(scores):
        return np.full(scores.shape[1:], np.inf)
    return np.partition(scores, rank - 1, axis=0)[rank - 1]


def fewest_fields(level: float) -> int:
    """Below it no finite width keeps the promise: :math:`n + 1 \\ge 1 / (1 - level)`."""
    return max(1, math.ceil(1 / (1 - level) - 1 - _ROUNDING))
