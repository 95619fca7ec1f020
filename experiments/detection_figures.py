"""Fractions, calibration and pictures of the fields that `cluster_detection.py` keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import mean_and_error, new_figure

PUBLISHED = (9e13, 3e14, 6e14)
LIMITS = (3.0, 5.0)
LABELS = {"eps": "learned prior", "wiener": "Gaussian prior (Wiener)"}
KINDS = {
    "injected": "at the halo",
    "prior_low": "anywhere, no halo, 1.5σ",
    "catalogue": "places that samples chose",
}


def by_mass(fields: list[dict], masses: tuple[float, ...]) -> list[dict]:
    """Input S/N and detection fractions, means over fields with standard errors."""
    found = []
    for index, mass in enumerate(masses):
        rows = [field["by_mass"][index] for field in fields]
        heights = np.array([row["heights"] for row in rows])
        entry: dict[str, Any] = {
            "mass": mass,
            "snr": mean_and_error(np.array([row["snr"] for row in rows])),
            "anywhere": mean_and_error(np.array([row["anywhere"] for row in rows])),
        }
        for limit in LIMITS:
            name = f"{limit:g}_sigma"
            entry[name] = mean_and_error((heights > limit).mean(axis=1))
            entry[f"truth_{name}"] = float(np.mean([row["truth"] > limit for row in rows]))
        found.append(entry)
    return found


def monotone(fields: list[dict], masses: tuple[float, ...]) -> dict[str, list]:
    """Rise of the fraction from each mass to the next, paired by field, in standard errors."""
    found = {}
    for limit in LIMITS:
        shares = np.array(
            [
                [np.mean(np.array(one["heights"]) > limit) for one in field["by_mass"]]
                for field in fields
            ]
        )
        rises = [mean_and_error(step) for step in np.diff(shares, axis=1).T]
        # A standard error of nothing has no noise to compare with: 0 of 0 samples, or all of all.
        found[f"{limit:g}_sigma"] = [
            {"from": masses[i], "rise": rise, "error": error}
            for i, (rise, error) in enumerate(rises)
        ]
    return found


def calibration(rng: np.random.Generator, fields: list[list[list[float]]]) -> dict[str, Any]:
    """Predicted against true in bins, and the excess of events, errors by resampling fields."""
    edges = np.array([0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0001])
    sums = np.zeros((len(fields), 3, len(edges) - 1))
    for index, field in enumerate(fields):
        if field:
            predicted, event = np.array(field).T
            inside = np.digitize(predicted, edges) - 1
            for which, values in enumerate((np.ones_like(event), predicted, event)):
                sums[index, which] = np.bincount(inside, values, len(edges) - 1)
    drawn = sums[rng.integers(0, len(fields), (2000, len(fields)))].sum(axis=1)
    number, predicted, event = sums.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.nanstd(drawn[:, 2] / drawn[:, 0] - drawn[:, 1] / drawn[:, 0], axis=0)
        excess = (drawn[:, 2] - drawn[:, 1]).sum(axis=1) / drawn[:, 0].sum(axis=1)
    bins = [
        {
            "places": int(number[i]),
            "predicted": float(predicted[i] / number[i]),
            "frequency": float(event[i] / number[i]),
            "error": float(error[i]),
        }
        for i in range(len(number))
        if number[i]
    ]
    total = number.sum()
    return {
        "places": int(total),
        "events": int(event.sum()),
        "excess": float((event - predicted).sum() / total) if total else None,
        "excess_error": float(np.std(excess)) if total else None,
        "bins": bins,
    }


def of_prior(field: dict[str, Any], kind: str, num_masses: int) -> list[list[float]]:
    """Places of the lattice in the sky without a halo, the first of the masses: that is a draw of
    the prior, for which alone probabilities must be right."""
    return field[kind][: len(field[kind]) // num_masses]


def draw(rows: dict, figures: dict, masses: tuple[float, ...], path: Path) -> None:
    """Heights about the halo (Fig. 8), detected shares against S/N (Fig. 9), and calibration."""
    figure = new_figure(14, 4.2)
    axes = figure.add_subplot(1, 3, 1)
    first = next(iter(rows))
    bins = np.linspace(-3, 16, 60)
    for index, mass in enumerate(masses):
        if mass in (0, *PUBLISHED):
            heights = np.concatenate([f["by_mass"][index]["heights"] for f in rows[first]])
            name = f"{told(mass)} M☉" if mass else "no halo"
            axes.hist(heights, bins, histtype="step", density=True, label=name)
    axes.axvline(LIMITS[0], color="k", lw=0.7)
    axes.set(
        title=f"posterior samples, {LABELS.get(first, first)}",
        xlabel="largest coefficient near the halo [σ of the background]",
        ylabel="density of samples",
    )
    axes.legend(fontsize=8)
    axes = figure.add_subplot(1, 3, 2)
    for number, method in enumerate(rows):
        for limit, line in zip(LIMITS, ("-", ":"), strict=True):
            points = figures[method]["by_mass"]
            snr = [point["snr"][0] for point in points]
            share, error = np.array([point[f"{limit:g}_sigma"] for point in points]).T
            name = f"{LABELS.get(method, method)}, {limit:g}σ"
            axes.errorbar(
                snr, share, error, ls=line, marker=".", label=name, color=f"C{number}", capsize=2
            )
    axes.set(
        title="detections",
        xlabel="input S/N of the halo (Eq. 29)",
        ylabel="share of samples above the limit",
        ylim=(-0.03, 1.03),
    )
    axes.legend(fontsize=8)
    axes = figure.add_subplot(1, 3, 3)
    axes.plot([0, 1], [0, 1], "k", lw=0.7)
    for number, method in enumerate(rows):
        for (kind, name), marker in zip(KINDS.items(), ("o", "s", "^"), strict=True):
            found = figures[method]["calibration"][kind]["bins"]
            axes.errorbar(
                [b["predicted"] for b in found],
                [b["frequency"] for b in found],
                [b["error"] for b in found],
                fmt=marker,
                ms=4,
                lw=0.8,
                color=f"C{number}",
                mfc=("w", f"C{number}", "0.7")[list(KINDS).index(kind)],
                label=f"{LABELS.get(method, method)}: {name}",
            )
    axes.set(
        title="calibration",
        xlabel="share of samples with a peak above 3σ",
        ylabel="how often the sky has one",
    )
    axes.legend(fontsize=6.5)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def draw_stamps(kept: dict[float, np.ndarray], pixel_arcmin: float, path: Path) -> None:
    """Filtered samples about the halo, framed where they detect it (Fig. F.1)."""
    figure = new_figure(12.5, 5.2)
    columns = len(next(iter(kept.values())))
    axes = figure.subplots(len(kept), columns, squeeze=False)
    for row, (mass, cut) in zip(axes, kept.items(), strict=True):
        half = np.array(cut.shape[1:]) / 2 * pixel_arcmin
        centre = np.array(cut.shape[1:]) // 2
        near = np.hypot(*(np.indices(cut.shape[1:]) - (centre + 0.5)[:, None, None])) <= 4
        highest = cut[:, near].max(axis=1)
        order = np.argsort(-(highest > LIMITS[0]).astype(int), kind="stable")
        for at, number in zip(row, order, strict=True):
            picture = at.imshow(
                cut[number],
                vmin=-4,
                vmax=8,
                origin="lower",
                cmap="magma",
                extent=(-half[1], half[1], -half[0], half[0]),
            )
            there = highest[number] > LIMITS[0]
            at.set(xticks=[-3, 0, 3], yticks=[-3, 0, 3])
            at.tick_params(labelsize=6, labelbottom=at in axes[-1], labelleft=at is row[0])
            at.spines[:].set(color="limegreen" if there else "0.6", linewidth=2.5 if there else 1)
        row[0].set_ylabel(f"{told(mass)} M☉\n[arcmin]", fontsize=9)
    figure.suptitle(
        "filtered posterior samples about the halo; green: above 3σ, a detection", fontsize=10
    )
    figure.tight_layout(rect=(0, 0, 0.94, 1))
    bar = figure.colorbar(picture, cax=figure.add_axes((0.95, 0.2, 0.01, 0.6)), extend="both")
    bar.set_label("coefficient [σ of the background]")
    figure.savefig(path, dpi=100)


def told(mass: float) -> str:
    """A mass as a number of powers of ten."""
    power = int(np.floor(np.log10(mass)))
    return f"{mass / 10**power:g}×10$^{{{power}}}$"
