"""Do samples of bright skies have as much more power as those skies?

Of an exact posterior the truth's power, regressed over skies on the mean power of its samples, has
slope 1 in every band, whatever the prior: the samples' power is all that the data tell of it. A
slope above 1: skies that stand out are given samples that stand out too little. Nineteen samples of
a sky have a mean that is not exact, which lowers the slope a little. And TARP of all skies.

Reads what calibration.py kept in runs/ of the same kind (``--quick``: of quick runs, and below
``--out``), of seed 0 and, if it is there, 5; errors are by jackknife over skies. The Gaussian prior
is the control that must fail. Writes results/sky_response.json and sky_response.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from calibration import QUICK_SIDE, SIDE
from common import HERE, arguments, new_figure, save

from jaxmap.calibration.tarp import BOUND, largest_deviation

SUFFIXES = ("", "_seed_5")
SHOWN = ("ell 1168-2776", "ell 6596-15673", "ell 15673-37241")


def main() -> None:
    options = arguments(__doc__)
    figures: dict[str, Any] = {}
    skies = {name: kept_skies(options, name) for name in ("dlposterior", "wiener")}
    for name, (heads, records) in skies.items():
        figures[name] = {
            "seeds": [head["seed"] for head in heads],
            "num_skies": len(records),
            "num_samples": heads[0]["num_samples"],
            "truth_on_samples": {band: slope(records, band) for band in bands_of(records)},
            "tarp": tarp(records),
        }
        weights = {head["weights"] for head in heads}
        if len(weights) > 1:
            raise SystemExit(f"the skies in runs/ are of several networks: {sorted(weights)}")
        figures["weights"] = weights.pop()
    save(options, "sky_response", figures)
    picture(options, {name: records for name, (_, records) in skies.items()})


def kept_skies(options: argparse.Namespace, name: str) -> tuple[list[Any], list[Any]]:
    """What calibration.py was told, by seed, and what it kept of every sky."""
    side, kept = (QUICK_SIDE, options.out) if options.quick else (SIDE, HERE.parent)
    heads, records = [], []
    for suffix in SUFFIXES:
        path: Path = kept / "runs" / f"calibration_{side}_{name}{suffix}" / "fields.jsonl"
        if path.exists():
            head, *lines = map(json.loads, path.read_text().splitlines())
            heads.append(head["calibration"])
            records += lines
    if not heads:
        raise SystemExit(f"there are no skies in {kept / 'runs'}; run calibration.py first")
    return heads, records


def bands_of(records: list[Any]) -> list[str]:
    return [name.removeprefix("power, ") for name in records[0]["means"] if "power" in name]


def powers(records: list[Any], band: str) -> np.ndarray:
    """Mean of the samples, and truth, of every sky, shape ``(2, n)``."""
    return np.array([record["means"][f"power, {band}"] for record in records]).T


def slope(records: list[Any], band: str) -> dict[str, float]:
    """Of the truth's power on that of the samples, and truth over samples in the quarters of skies
    whose samples have most and least."""
    both = powers(records, band)

    def of(skies: np.ndarray) -> float:
        return float(np.cov(*skies)[0, 1] / np.var(skies[0], ddof=1))

    size = both.shape[1]
    without = [of(np.delete(both, number, axis=1)) for number in range(size)]
    order = np.array_split(np.argsort(both[0]), min(4, size))
    dull, *_, bright = (both[1, part].mean() / both[0, part].mean() for part in order)
    samples, truth = np.std(both, axis=1, ddof=1) / np.mean(both, axis=1)
    return {
        "value": of(both),
        "error": float(np.std(without) * (size - 1) ** 0.5),
        "dull": float(dull),
        "bright": float(bright),
        "scatter_of_samples": float(samples),
        "scatter_of_truth": float(truth),
    }


def tarp(records: list[Any]) -> dict[str, float]:
    """Largest deviation of all skies, and what chance exceeds in 5 % of cases."""
    found = {
        name: largest_deviation(
            np.array([record["positions"][f"TARP, {name}"] for record in records])
        )
        for name in ("pixels", "smoothed")
    }
    return {**found, "limit": BOUND / len(records) ** 0.5}


def picture(options: argparse.Namespace, skies: dict[str, list[Any]]) -> None:
    figure = new_figure(12, 4.2)
    bands = [band for band in bands_of(skies["wiener"]) if options.quick or band in SHOWN][-3:]
    for axes, band in zip(figure.subplots(1, len(bands)), bands, strict=True):
        mean = powers(skies["dlposterior"], band)[1].mean()
        for (name, records), colour in zip(skies.items(), ("C0", "0.6"), strict=True):
            samples, truth = powers(records, band) / mean
            label = {"dlposterior": "learned prior", "wiener": "Gaussian prior"}[name]
            axes.plot(samples, truth, ".", color=colour, label=label, ms=4)
        ends = np.array(axes.get_ylim())
        axes.plot(ends, ends, "k-", lw=0.8, label="slope 1")
        axes.set(xlabel="mean power of the samples", title=band.replace("ell", "ℓ"))
    figure.axes[0].set_ylabel("power of the truth [mean of the truths]")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(options.out / "sky_response.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
