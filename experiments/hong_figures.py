"""Maps of clusters against the truth: Figures 3 to 5, 7 and 8 of Hong et al. (2021).

Distributions of convergence, as it is and normalised (less its mean, over its standard deviation,
for every map), its joint distribution with the truth, and how far peaks are off. From the maps that
``hong.py`` keeps under ``--runs``; those that are missing are made. Of several networks the first.

Writes results/hong_figures.json and .png.

- std, skewness: of the pixels of all fields.
- correlation: with the truth, all pixels together.
- high: mean of a map where the truth exceeds 0.15, over the mean of the truth there.

Errors are over fields, by resampling them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, new_figure, save
from hong import SKIES, each_of, maps_of, record_of, truth_of
from hong_maps import HELD_OUT, RUNS, TRAINED, held_out
from hong_pictures import MASS, label
from hong_scores import mass_and_place

from jaxmap.clusters.scores import CATASTROPHIC, centroid, deviation

METHODS = ("ks", "wiener", "deepmass", "cnn")
HIGH = 0.15
MASSIVE = 35.0


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 200, "help": "fields (default: %(default)s)"},
        runs={"type": Path, "default": RUNS / "fields"},
        **HELD_OUT,
        **TRAINED,
    )
    options.runs.mkdir(parents=True, exist_ok=True)
    num = 3 if options.quick else options.num
    skies = held_out(options, num)
    truths = np.stack([truth_of(sky) for sky in each_of(skies, num)])
    names = {name: name for name in METHODS} | {"cnn": f"cnn:{options.weights[0]}"}
    clear = SKIES.index("clear")
    found = {
        n: maps_of(one, num, skies, options.runs, options)[:, clear] for n, one in names.items()
    }
    rng = np.random.default_rng(options.seed)
    rows = rng.integers(0, num, (200, num))
    masses = np.array([mass_and_place(truth)[0] for truth in truths])
    figures: dict[str, Any] = {
        "fields": num,
        "weights": record_of(options.weights[0]),
        "truth": with_errors(truths, truths, rows),
    }
    for name, maps in found.items():
        figures[name] = with_errors(maps, truths, rows) | {
            "D": list(deviation(maps, truths)),
            "offset_pixels": by_mass(offsets(maps, truths), masses),
        }
    save(options, "hong_figures", figures)
    draw(options.out / "hong_figures.png", truths, found, masses)


def with_errors(maps: np.ndarray, truths: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Every figure and its standard error, from sums over the pixels of each field."""
    sums = {
        "x": maps, "xx": maps**2, "xxx": maps**3, "t": truths, "tt": truths**2,
        "xt": maps * truths, "high_x": maps * (truths > HIGH), "high_t": truths * (truths > HIGH),
    }  # fmt: skip
    means = {name: values.mean(axis=(1, 2)) for name, values in sums.items()}
    values = pixel_figures({name: one.mean() for name, one in means.items()})
    drawn = pixel_figures({name: one[rows].mean(axis=1) for name, one in means.items()})
    return {name: [float(values[name]), float(np.std(drawn[name]))] for name in values}


def pixel_figures(m: dict[str, Any]) -> dict[str, Any]:
    """From mean powers of the pixels."""
    variance, true_variance = m["xx"] - m["x"] ** 2, m["tt"] - m["t"] ** 2
    third = m["xxx"] - 3 * m["x"] * m["xx"] + 2 * m["x"] ** 3
    return {
        "std": np.sqrt(variance),
        "skewness": third / variance**1.5,
        "correlation": (m["xt"] - m["x"] * m["t"]) / np.sqrt(variance * true_variance),
        "high": m["high_x"] / m["high_t"],
    }


def normalised(maps: np.ndarray) -> np.ndarray:
    return (maps - maps.mean(axis=(1, 2), keepdims=True)) / maps.std(axis=(1, 2), keepdims=True)


def offsets(maps: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Between the highest peaks of maps and of truths, in pixels."""
    places = (np.array([centroid(one) for one in which]) for which in (maps, truths))
    return np.hypot(*np.subtract(*places).T)


def by_mass(pixels: np.ndarray, masses: np.ndarray) -> dict[str, float | None]:
    """Medians above and below the mass where the paper sees a change; share of lost peaks.

    None for no cluster at all, as may be in a quick run.
    """
    massive = masses > MASSIVE
    return {
        "massive": median(pixels[massive]),
        "num_massive": int(massive.sum()),
        "others": median(pixels[~massive]),
        "catastrophic": float(np.mean(pixels > CATASTROPHIC)),
    }


def median(pixels: np.ndarray) -> float | None:
    return float(np.median(pixels)) if pixels.size else None


def draw(path: Path, truths: np.ndarray, found: dict[str, np.ndarray], masses: np.ndarray) -> None:
    figure = new_figure(3.1 * (len(found) + 1), 9.4)
    axes = figure.subplots(3, len(found) + 1)
    views = (("", lambda maps: maps, -0.1, 0.6), ("normalised ", normalised, -5.0, 25.0))
    for row, (what, view, low, high) in zip(axes[:2], views, strict=True):
        true, bins = view(truths), np.linspace(low, high, 71)
        for name, maps in {"truth": truths, **found}.items():
            row[0].hist(view(maps).ravel(), bins, density=True, histtype="step", label=label(name))
        row[0].set(yscale="log", xlabel=f"{what}convergence", title="Fig. 3: distribution")
        for axis, (name, maps) in zip(row[1:], found.items(), strict=True):
            counts, _, _ = np.histogram2d(true.ravel(), view(maps).ravel(), bins=(bins, bins))
            axis.contour(
                0.5 * (bins[1:] + bins[:-1]), 0.5 * (bins[1:] + bins[:-1]), counts.T,
                levels(counts), colors=["C3", "C1", "C0"], linewidths=1,
            )  # fmt: skip
            axis.plot([low, high], [low, high], "k:", lw=0.8)
            number = 5 if what else 4
            axis.set(xlabel=f"true {what}convergence", title=f"Fig. {number}: {label(name)}")
    axes[0, 0].legend(fontsize=8)
    off = {name: offsets(maps, truths) for name, maps in found.items()}
    limits = (0.1, 150)
    for axis, (name, values) in zip(axes[2], off.items(), strict=False):
        axis.plot(masses, values, ".", ms=3)
        axis.set(yscale="log", ylim=limits, xlabel=f"true {MASS}", title=f"Fig. 7: {label(name)}")
    axes[2, 0].set(ylabel="offset of the peak [pixels]")
    axes[2, -1].loglog(off["ks"], off["cnn"], ".", ms=3)
    axes[2, -1].plot(limits, limits, "k:", lw=0.8)
    axes[2, -1].set(
        xlim=limits,
        ylim=limits,
        xlabel="offset, Kaiser-Squires [pixels]",
        title="Fig. 8: offset, network",
    )
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def levels(counts: np.ndarray) -> list[float]:
    """Heights of the contours that hold 99.7, 95 and 68 % of the pixels."""
    heights = np.sort(counts.ravel())[::-1]
    held = np.cumsum(heights) / counts.sum()
    return [float(heights[np.searchsorted(held, share)]) for share in (0.997, 0.95, 0.68)]


if __name__ == "__main__":
    main()
