"""From the numbers of many fields to a report: every check with its error, target and verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmap.calibration.estimate import Estimate, line, pooled_ratio, square_root
from jaxmap.calibration.ranks import Floats, interval_weights, thinned
from jaxmap.calibration.tarp import BOUND, SURE, expected_coverage, largest_deviation

LEVELS = (0.68, 0.90, 0.95)
POOLED = ("pixels, observed", "pixels, masked")
COVERAGE, COVERAGE_STRATUM = 0.02, 0.03
STD_OVER_ERROR = {"observed": 0.03, "masked": 0.03, "top 1 %": 0.05}
RATIOS = {"chi2": 0.002, "skewness": 0.05, "peak height": 0.05}
POWER_RATIO = 0.03
SIGNIFICANCE = 0.01
"""Of all SBC checks together (Bonferroni)."""

Record = dict[str, Any]


def build_report(records: Sequence[Record]) -> dict[str, Any]:
    """Pool the fields that `jaxmap.calibration.field.judge_field` has judged.

    Fields may have unequal numbers of samples, as chains that do not finish leave behind: every
    check holds for any number, and the histograms to draw are thinned to the fewest.

    Returns:
        As JSON can hold it: ``verdict`` (``fail`` if any line fails; ``pass`` if none does and all
        gates pass; else ``open``), ``num_fields``, ``num_samples`` (the fewest); ``coverage``,
        ``spread``, ``tarp``, ``sbc`` and ``ratios``, each a list of lines
        (`jaxmap.calibration.estimate.line`); ``figures`` without a target (error of the mean over
        that of the Wiener filter, bias of the mean); and ``curves`` to draw (rank histograms, TARP
        coverage, positions of every scalar).

    Raises:
        ValueError: for fewer than two fields.
    """
    _check(records)
    checks = {
        "coverage": _coverage(records),
        "spread": _spread(records),
        "tarp": _tarp(records),
        "sbc": _sbc(records),
        "ratios": _ratios(records),
    }
    return {
        "verdict": _verdict([one for lines in checks.values() for one in lines]),
        "num_fields": len(records),
        "num_samples": min(record["num_samples"] for record in records),
        **checks,
        "figures": _figures(records),
        "curves": _curves(records),
    }


def _verdict(lines: Sequence[dict[str, Any]]) -> str:
    if any(one["verdict"] == "fail" for one in lines):
        return "fail"
    return "pass" if all(one["verdict"] == "pass" for one in lines if one["gate"]) else "open"


def lines_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """All lines of a report."""
    groups = ("coverage", "spread", "tarp", "sbc", "ratios")
    return [one for group in groups for one in report[group]]


def _coverage(records: Sequence[Record]) -> list[dict[str, Any]]:
    lines = []
    for name in records[0]["histograms"]:
        hits = _histograms(records, name)
        totals = np.array([each.sum() for each in hits])
        if not totals.any():
            continue
        gate = name in POOLED
        tolerance = COVERAGE if gate else COVERAGE_STRATUM
        for level in LEVELS:
            inside = [each @ interval_weights(len(each) - 1, level) for each in hits]
            share = pooled_ratio(np.array(inside), totals)
            lines.append(line(f"{name}: {100 * level:g} %", share, level, tolerance, gate=gate))
    return lines


def _spread(records: Sequence[Record]) -> list[dict[str, Any]]:
    lines = []
    for name, tolerance in STD_OVER_ERROR.items():
        variance, square, _, _ = _column(records, "squares", name).T
        if variance.any():
            ratio = square_root(pooled_ratio(variance, square))
            lines.append(line(f"std/error, {name}", ratio, 1.0, tolerance))
    return lines


def _tarp(records: Sequence[Record]) -> list[dict[str, Any]]:
    root = math.sqrt(len(records))
    lines = []
    for name in _tarp_names(records):
        deviation = largest_deviation(_column(records, "positions", name))
        found = Estimate(deviation, 0.0, len(records))
        lines.append(line(name, found, 0.0, BOUND / root, sure=SURE / root))
    return lines


def _sbc(records: Sequence[Record]) -> list[dict[str, Any]]:
    from scipy.stats import kstest

    names = [name for name in records[0]["positions"] if not name.startswith("TARP")]
    lines = []
    for name in names:
        p_value = float(kstest(_column(records, "positions", name), "uniform").pvalue)
        least = SIGNIFICANCE / len(names)
        verdict = "pass" if p_value >= least else "fail"
        lines.append(
            {"name": name, "value": p_value, "least": least, "verdict": verdict, "gate": True}
        )
    return lines


def _ratios(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Means over the samples in units of the truth's, where the truth has any to speak of."""
    lines = []
    for name in records[0]["means"]:
        gate = name in RATIOS
        tolerance = RATIOS[name] if gate else POWER_RATIO if name.startswith("power") else None
        samples, truth = _column(records, "means", name).T
        noise = np.std(truth, ddof=1) / math.sqrt(len(truth))
        if tolerance is not None and abs(np.mean(truth)) > 5 * noise:
            ratio = pooled_ratio(samples, truth)
            lines.append(line(f"{name}, samples/truth", ratio, 1.0, tolerance, gate=gate))
    return lines


def _figures(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    of_mean, of_wiener = np.array([record["errors"] for record in records]).T
    named = {"rmse of mean / Wiener": square_root(pooled_ratio(of_mean, of_wiener))}
    for name in ("masked", "top 1 %"):  # of zero mean where observed
        _, _, error, spread = _column(records, "squares", name).T
        if spread.any():
            named[f"bias/std, {name}"] = pooled_ratio(error, spread)
    return {
        name: {"value": found.value, "error": found.error}
        for name, found in named.items()
        if math.isfinite(found.value)
    }


def _curves(records: Sequence[Record]) -> dict[str, Any]:
    levels = np.linspace(0, 1, 41)
    histograms = {
        name: _pooled(_histograms(records, name)).tolist() for name in records[0]["histograms"]
    }
    tarp = {
        name: expected_coverage(_column(records, "positions", name), levels).tolist()
        for name in _tarp_names(records)
    }
    positions = {
        name: sorted(_column(records, "positions", name).tolist())
        for name in records[0]["positions"]
    }
    return {
        "rank_histograms": histograms,
        "tarp_levels": levels.tolist(),
        "tarp_coverage": tarp,
        "positions": positions,
    }


def _tarp_names(records: Sequence[Record]) -> list[str]:
    return [name for name in records[0]["positions"] if name.startswith("TARP")]


def _histograms(records: Sequence[Record], name: str) -> list[Floats]:
    """Rank histograms of every field, longer by one than its samples, or half of them."""
    return [np.array(record["histograms"][name], float) for record in records]


def _pooled(histograms: Sequence[Floats]) -> Floats:
    """Their sum, as of the fewest samples that all have."""
    fewest = min(map(len, histograms)) - 1
    return np.sum([thinned(each, fewest) for each in histograms], axis=0)


def _column(records: Sequence[Record], group: str, name: str) -> Floats:
    """One number, or row of numbers, of every field, along the first axis."""
    return np.array([record[group][name] for record in records], float)


def _check(records: Sequence[Record]) -> None:
    if len(records) < 2:
        raise ValueError(
            f"{len(records)} field was judged; expected at least 2, whose scatter gives the errors "
            "(--num; 100 for the targets)"
        )
