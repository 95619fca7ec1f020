<<<<<<< HEAD
"""Pictures of the maps of clusters that `hong.py` makes."""
=======
"""Maps of clusters against the truth: Figures 3 to 5, 7 and 8 of Hong et al. (2021).

Distributions of convergence, as it is and normalised (less its mean, over its standard deviation,
for every map), its joint distribution with the truth, and how far peaks are off. From the maps that
``hong.py`` keeps under ``--runs``; run that first.

Writes results/hong_figures.json and .png.

- std, skewness: of the pixels of all fields.
- correlation: with the truth, all pixels together.
- high: mean of a map where the truth exceeds 0.15, over the mean of the truth there.

Errors are over fields, by resampling them.
"""
>>>>>>> 80b8d463a5f05c00e526c7a88ed4bb1318474708

from __future__ import annotations

from pathlib import Path
<<<<<<< HEAD

import numpy as np
from common import new_figure

from jaxmap.clusters.scores import CATASTROPHIC, centroid, projected_mass

LABELS = {
    "truth": "truth",
    "ks": "Kaiser-Squires, 1′",
    "ks_fine": "Kaiser-Squires, 0.5′",
    "ks_plus": "KS+, 0.5′",
    "wiener": "Wiener filter",
    "glimpse": "sparse (GLIMPSE)",
    "deepmass": "learned posterior mean",
    "mcalens": "MCALens",
    "samples": "mean of posterior samples",
    "cnn": "network of Hong et al.",
}
SKIES = {"clear": "no masks", "stars": "bright stars masked"}
MASS = "mass [Σκ within 1.92′]"


def label(name: str) -> str:
    """What a method is called in pictures."""
    kind, *more = name.split()
    if kind == "cnn" and more:
        return f"network {more[0]} × {more[0]}, {' '.join(more[1:])}"
    return LABELS.get(name, name)


def draw_masses(
    found: dict[str, np.ndarray],
    truths: np.ndarray,
    true: list[tuple[float, float, float]],
    pixel_arcmin: float,
    path: Path,
) -> None:
    """Masses, and distances of centres, against the true mass (their Fig. 6 to 8 and 10)."""
    figure = new_figure(3.1 * len(found), 6.4)
    mass = np.array([each[0] for each in true])
    centres = np.array([centroid(truth) for truth in truths])
    least = 0.05 * pixel_arcmin
    for column, (name, maps) in enumerate(found.items()):
        top = figure.add_subplot(2, len(found), column + 1)
        below = figure.add_subplot(2, len(found), len(found) + column + 1)
        for index, (kind, mark) in enumerate(zip(SKIES.values(), ("o", "x"), strict=True)):
            fields = maps[:, index].astype(float)
            sums = [projected_mass(m, x, y) for m, (_, x, y) in zip(fields, true, strict=True)]
            top.plot(mass, sums, mark, ms=3, alpha=0.7, label=kind)
            away = np.array([centroid(field) for field in fields]) - centres
            distance = np.maximum(pixel_arcmin * np.hypot(*away.T), least)
            below.semilogy(mass, distance, mark, ms=3, alpha=0.7, label=kind)
        most = 1.05 * mass.max()
        top.plot([0, most], [0, most], "k", lw=0.7)
        top.set(title=label(name), xlim=(0, most), ylim=(-10, 1.3 * most))
        below.axhline(CATASTROPHIC * pixel_arcmin, color="k", lw=0.7, ls=":")
        below.set(xlabel=f"true {MASS}", xlim=(0, most), ylim=(0.8 * least, 30))
        if column == 0:
            top.set_ylabel(f"{MASS} of the map")
            below.set_ylabel("centre off by [arcmin]")
            top.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def draw_maps(found: dict[str, np.ndarray], truths: np.ndarray, path: Path, num: int = 2) -> None:
    """Some fields through all methods (their Fig. 2, 9 and 13)."""
    figure = new_figure(2.4 * (1 + len(found)) + 0.6, 2.45 * 2 * num)
    low, high = -0.05, 0.15
    axes = figure.subplots(2 * num, 1 + len(found), squeeze=False)
    for row in range(2 * num):
        number, index = divmod(row, 2)
        panels = {"truth": truths[number]} | {n: m[number, index] for n, m in found.items()}
        for at, (name, field) in zip(axes[row], panels.items(), strict=True):
            picture = at.imshow(
                np.asarray(field, float), vmin=low, vmax=high, origin="lower", cmap="magma"
            )
            at.set(xticks=[], yticks=[])
            if row == 0:
                at.set_title(label(name), fontsize=10)
        axes[row, 0].set_ylabel(f"field {number + 1}, {list(SKIES.values())[index]}", fontsize=9)
    figure.tight_layout(rect=(0, 0, 0.93, 1))
    bar = figure.colorbar(picture, cax=figure.add_axes((0.935, 0.3, 0.01, 0.4)), extend="both")
    bar.set_label("convergence")
    figure.savefig(path, dpi=80)


def draw_pixels(found: dict[str, np.ndarray], truths: np.ndarray, path: Path) -> None:
    """Distributions of pixels without masks, and medians against the truth (their Fig. 3 to 5)."""
    figure = new_figure(13, 3.8)
    maps = {"truth": truths} | {name: maps[:, 0].astype(float) for name, maps in found.items()}
    for column, normal in enumerate((False, True)):
        axes = figure.add_subplot(1, 3, column + 1)
        edges = np.linspace(-4, 25, 90) if normal else np.linspace(-0.15, 0.6, 90)
        for name, fields in maps.items():
            values = normalised(fields) if normal else fields
            density = np.histogram(values, edges)[0] / values.size / np.diff(edges)
            style = {"color": "k", "lw": 2} if name == "truth" else {"lw": 1}
            axes.stairs(np.where(density > 0, density, np.nan), edges, label=label(name), **style)
        what = "(κ − mean) / standard deviation" if normal else "κ"
        axes.set(yscale="log", xlabel=what, ylabel="density of pixels")
    axes.legend(fontsize=7)
    axes = figure.add_subplot(1, 3, 3)
    edges = np.linspace(0, np.quantile(truths, 0.9999), 13)
    place = np.digitize(truths.ravel(), edges)
    for name, fields in maps.items():
        if name != "truth":
            each = [
                np.quantile(fields.ravel()[place == i], (0.16, 0.5, 0.84)) for i in range(1, 13)
            ]
            below, middle, above = np.array(each).T
            centres = (edges[1:] + edges[:-1]) / 2
            (line,) = axes.plot(centres, middle, label=label(name))
            axes.fill_between(centres, below, above, color=line.get_color(), alpha=0.12, lw=0)
    axes.plot(edges, edges, "k", lw=0.7)
    axes.set(xlabel="true κ", ylabel="κ of the map: median and 68 %")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps less their means, over their standard deviations."""
    return (maps - maps.mean(axis=(1, 2), keepdims=True)) / maps.std(axis=(1, 2), keepdims=True)
=======
from typing import Any

import numpy as np
from common import HERE, arguments, new_figure, save
from hong import SKIES, each_of, held_out, mass_and_place, record_of, truth_of

from jaxmap.clusters.scores import CATASTROPHIC, centroid, deviation

METHODS = ("ks", "wiener", "deepmass", "cnn")
HIGH = 0.15
MASSIVE = 35.0


def main() -> None:
    runs = HERE.parent / "runs" / "hong"
    options = arguments(
        __doc__,
        num={"type": int, "default": 200, "help": "fields (default: %(default)s)"},
        maps={"type": Path, "default": runs / "held_out"},
        weights={"type": Path, "default": runs / "train" / "hong.npz"},
        runs={"type": Path, "default": runs / "fields"},
    )
    num = 3 if options.quick else options.num
    truths = np.stack([truth_of(sky) for sky in each_of(held_out(options.maps, num), num)])
    found = {name: kept_maps(options, name, num) for name in METHODS}
    rng = np.random.default_rng(options.seed)
    rows = rng.integers(0, num, (200, num))
    masses = np.array([mass_and_place(truth)[0] for truth in truths])
    figures: dict[str, Any] = {
        "fields": num,
        "weights": record_of(options.weights),
        "truth": with_errors(truths, truths, rows),
    }
    for name, maps in found.items():
        figures[name] = with_errors(maps, truths, rows) | {
            "D": list(deviation(maps, truths)),
            "offset_pixels": by_mass(offsets(maps, truths), masses),
        }
    save(options, "hong_figures", figures)
    draw(options.out / "hong_figures.png", truths, found, masses)


def kept_maps(options: Any, name: str, num: int) -> np.ndarray:
    """Maps of skies without stars, as ``hong.py`` left them."""
    paths = [options.runs / f"{name}-{options.seed}-{number:04d}.npy" for number in range(num)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise SystemExit(f"there is no {missing[0]}; run experiments/hong.py first")
    return np.stack([np.load(path)[SKIES.index("clear")] for path in paths]).astype(float)


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


def by_mass(pixels: np.ndarray, masses: np.ndarray) -> dict[str, float]:
    """Medians above and below the mass where the paper sees a change; share of lost peaks."""
    massive = masses > MASSIVE
    return {
        "massive": float(np.median(pixels[massive])) if massive.any() else float("nan"),
        "num_massive": int(massive.sum()),
        "others": float(np.median(pixels[~massive])),
        "catastrophic": float(np.mean(pixels > CATASTROPHIC)),
    }


def draw(path: Path, truths: np.ndarray, found: dict[str, np.ndarray], masses: np.ndarray) -> None:
    figure = new_figure(3.1 * (len(found) + 1), 9.4)
    axes = figure.subplots(3, len(found) + 1)
    views = (("", lambda maps: maps, -0.1, 0.6), ("normalised ", normalised, -5.0, 25.0))
    for row, (label, view, low, high) in zip(axes[:2], views, strict=True):
        true, bins = view(truths), np.linspace(low, high, 71)
        for name, maps in {"truth": truths, **found}.items():
            row[0].hist(view(maps).ravel(), bins, density=True, histtype="step", label=name)
        row[0].set(yscale="log", xlabel=f"{label}convergence", title="Fig. 3: distribution")
        for axis, (name, maps) in zip(row[1:], found.items(), strict=True):
            counts, _, _ = np.histogram2d(true.ravel(), view(maps).ravel(), bins=(bins, bins))
            axis.contour(
                0.5 * (bins[1:] + bins[:-1]), 0.5 * (bins[1:] + bins[:-1]), counts.T,
                levels(counts), colors=["C3", "C1", "C0"], linewidths=1,
            )  # fmt: skip
            axis.plot([low, high], [low, high], "k:", lw=0.8)
            number = 5 if label else 4
            axis.set(xlabel=f"true {label}convergence", title=f"Fig. {number}: {name}")
    axes[0, 0].legend(fontsize=8)
    off = {name: offsets(maps, truths) for name, maps in found.items()}
    limits = (0.1, 150)
    for axis, (name, values) in zip(axes[2], off.items(), strict=False):
        axis.plot(masses, values, ".", ms=3)
        axis.set(yscale="log", ylim=limits, xlabel="true mass", title=f"Fig. 7: {name}")
    axes[2, 0].set(ylabel="offset of the peak [pixels]")
    axes[2, -1].loglog(off["ks"], off["cnn"], ".", ms=3)
    axes[2, -1].plot(limits, limits, "k:", lw=0.8)
    axes[2, -1].set(xlim=limits, ylim=limits, xlabel="offset, ks", title="Fig. 8: offset, cnn")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def levels(counts: np.ndarray) -> list[float]:
    """Heights of the contours that hold 99.7, 95 and 68 % of the pixels."""
    heights = np.sort(counts.ravel())[::-1]
    held = np.cumsum(heights) / counts.sum()
    return [float(heights[np.searchsorted(held, share)]) for share in (0.997, 0.95, 0.68)]


if __name__ == "__main__":
    main()
>>>>>>> 80b8d463a5f05c00e526c7a88ed4bb1318474708
