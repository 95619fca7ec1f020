"""The figure of a calibration report; needs the ``plot`` extra (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmap.calibration.report import LEVELS
from jaxmap.calibration.tarp import BOUND
from jaxmap.plot import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = ("pixels, observed", "pixels, masked", "pixels, top 1 %")


def draw_report(report: dict[str, Any], title: str = "") -> Figure:
    """Draw coverage, ranks, TARP, SBC and the ratios of spread and statistics.

    Args:
        report: of `jaxmap.calibration.report.build_report`.
        title: line above the panels.

    Raises:
        ImportError: without matplotlib, with the way to install it.
    """
    figure = new_figure(15.5, 9.0, "constrained")
    panels = [figure.add_subplot(2, 3, number + 1) for number in range(6)]
    _draw_coverage(panels[0], report, "pixels, ")
    _draw_coverage(panels[1], report, "modes, ")
    _draw_ranks(panels[2], report)
    _draw_tarp(panels[3], report)
    _draw_sbc(panels[4], report)
    _draw_ratios(panels[5], report)
    heading = f"{report['num_fields']} fields x {report['num_samples']} samples"
    figure.suptitle(f"{title}: {heading}" if title else heading, parse_math=False)
    return figure


def _draw_coverage(axes: Axes, report: dict[str, Any], prefix: str) -> None:
    """Coverage less its nominal level, in per cent, stratum by stratum."""
    lines = [one for one in report["coverage"] if one["name"].startswith(prefix)]
    names = list(dict.fromkeys(one["name"].partition(": ")[0] for one in lines))
    for offset, level in enumerate(LEVELS):
        chosen = [one for one in lines if one["nominal"] == level]
        axes.errorbar(
            np.arange(len(chosen)) + 0.2 * (offset - 1),
            [100 * (one["value"] - level) for one in chosen],
            [100 * one["error"] for one in chosen],
            fmt="o",
            label=f"{100 * level:g} %",
        )
    _band(axes, 100 * lines[0]["tolerance"], 0)
    axes.set_xticks(range(len(names)), [name.removeprefix(prefix) for name in names], rotation=30)
    axes.set(ylabel="coverage - nominal [%]", title=f"coverage of {prefix.removesuffix(', ')}")
    axes.legend(frameon=False, fontsize=8)


def _draw_ranks(axes: Axes, report: dict[str, Any]) -> None:
    """Rank histograms of the truth among the samples; flat when calibrated."""
    for name in _SHOWN:
        hits = np.array(report["curves"]["rank_histograms"].get(name, []), float)
        if hits.any():
            edges = np.linspace(0, 1, len(hits) + 1)
            density, label = hits / hits.mean(), name.removeprefix("pixels, ")
            axes.stairs(density, edges, baseline=None, label=label)
    axes.axhline(1, color="0.5", lw=1)
    axes.set(xlabel="rank of the truth", ylabel="density", title="ranks of pixels")
    axes.legend(frameon=False, fontsize=8)


def _draw_tarp(axes: Axes, report: dict[str, Any]) -> None:
    """Expected coverage of balls around references, less the level."""
    levels = np.array(report["curves"]["tarp_levels"])
    for name, coverage in report["curves"]["tarp_coverage"].items():
        axes.plot(levels, np.array(coverage) - levels, label=name.removeprefix("TARP, "))
    _band(axes, BOUND / np.sqrt(report["num_fields"]), 0)
    axes.set(xlabel="credibility level", ylabel="expected coverage - level", title="TARP")
    axes.legend(frameon=False, fontsize=8)


def _draw_sbc(axes: Axes, report: dict[str, Any]) -> None:
    """Distribution of the ranks of scalars, less the uniform one."""
    for name, positions in report["curves"]["positions"].items():
        if not name.startswith("TARP"):
            share = np.arange(1, len(positions) + 1) / len(positions)
            style = "-" if name.startswith("power") else "--"
            axes.plot(positions, share - positions, style, lw=1, label=name)
    _band(axes, BOUND / np.sqrt(report["num_fields"]), 0)
    axes.set(xlabel="rank of the truth", ylabel="ECDF - uniform", title="SBC")
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _draw_ratios(axes: Axes, report: dict[str, Any]) -> None:
    """Spread over error, and statistics of samples over those of the truth."""
    lines = [one for one in (*report["spread"], *report["ratios"]) if one["error"] is not None]
    for place, one in enumerate(lines):
        colour = {"pass": "C2", "open": "C1", "fail": "C3"}[one["verdict"]]
        axes.errorbar(one["value"], -place, xerr=one["error"], fmt="o", color=colour)
        axes.plot(
            one["nominal"] + one["tolerance"] * np.array([-1, 1]), [-place] * 2, color="0.7", lw=4,
            zorder=0, alpha=0.6,
        )  # fmt: skip
    axes.axvline(1, color="0.5", lw=1)
    _name_rows(axes, [one["name"] for one in lines])
    axes.set(xlabel="ratio; grey: target", title="spread and statistics")


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(-np.arange(len(names)), names, fontsize=7)


def _band(axes: Axes, half: float, centre: float) -> None:
    axes.axhspan(centre - half, centre + half, color="0.9", zorder=0)
    axes.axhline(centre, color="0.5", lw=1)
