"""Pictures of the maps of clusters that `hong.py` makes."""

from __future__ import annotations

from pathlib import Path

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
        width, loss, *others = more
        title = f"network {width} × {width}, {loss.replace('mse', 'MSE')}"
        return f"{title}\n{' '.join(others)}" if others else title
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
