"""What the masked margin buys, on fields cut from maps 4 times as wide, where outside mass acts.

1. Error of the Wiener map in the outer 10 % of the field against the interior.
2. Quoted over actual error (std of posterior samples over error of their mean) of the largest
   modes that fit into the field.

Writes results/edges.json and edges.png.
"""

from __future__ import annotations

import jax
import numpy as np
from common import arguments, new_figure, save

from jaxmap.catalog import shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.estimators import Wiener, default_margin
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field

NOISE = {"COSMOS-like": 0.0625, "deep": 0.015}
"""Shear noise per pixel of 0.58 arcmin and component."""

NUM_SAMPLES = 4


def main() -> None:
    options = arguments(__doc__)
    side, num_fields = (90, 8) if options.quick else (180, 80)
    field, sky = Grid((side, side), 0.58), Grid((4 * side, 4 * side), 0.58)
    default = default_margin(field.shape)
    margins = sorted({0, side // 12, side // 8, default, side // 2})
    spectrum = convergence_power()
    found: dict = {name: {margin: [] for margin in margins} for name in NOISE}
    for number in range(num_fields):
        key = jax.random.fold_in(jax.random.key(options.seed), number)
        truth, shear = cut(key, spectrum, sky, side)
        for name, std in NOISE.items():
            noise = std * jax.random.normal(jax.random.fold_in(key, 1), (2, side, side))
            noisy = shear + jax.lax.complex(*noise)
            data = shear_map(noisy, field, noise_std=np.full(field.shape, std))
            for margin in margins:
                result = Wiener(spectrum, num_samples=NUM_SAMPLES, margin=margin)(key, data)
                found[name][margin].append(statistics(result, truth))
    figures = {
        name: {
            margin: {
                "edge_over_interior_rms": root_ratio(np.asarray(rows)[:, :2]),
                "largest_modes_std_over_error": root_ratio(np.asarray(rows)[:, 2:]),
            }
            for margin, rows in by_margin.items()
        }
        for name, by_margin in found.items()
    }
    about = {"side": side, "num_fields": num_fields, "default_margin": default}
    save(options, "edges", {**about, "by_margin": figures})
    draw(options.out / "edges.png", figures, side, default)


def cut(key, spectrum, sky: Grid, side: int):
    """Convergence and shear in the middle of a larger periodic map."""
    convergence = gaussian_field(key, spectrum, sky)
    start = (sky.shape[0] - side) // 2
    inner = slice(start, start + side)
    return convergence[inner, inner], shear_from_convergence(convergence, sky)[inner, inner]


def statistics(result: MassMap, truth: jax.Array) -> tuple[float, float, float, float]:
    """Mean squared error in the outer 10 % of the side (5 % on each) and in the rest; power of
    posterior fluctuations and of the error in the field's eight largest modes."""
    error = np.asarray(result.convergence - truth)
    error = error - error.mean()
    rim = len(error) // 20
    edge = np.ones(error.shape, bool)
    edge[rim:-rim, rim:-rim] = False
    fluctuations = np.asarray(result.samples) - np.asarray(result.convergence)
    spread = np.mean([largest_modes(draw) for draw in fluctuations])
    return (
        float(np.mean(error[edge] ** 2)),
        float(np.mean(error[~edge] ** 2)),
        float(spread),
        largest_modes(error),
    )


def largest_modes(field: np.ndarray) -> float:
    power = np.abs(np.fft.fft2(field)) ** 2
    return float(sum(power[row, column] for row, column in ((0, 1), (1, 0), (1, 1), (1, -1))))


def root_ratio(pairs: np.ndarray) -> dict[str, float]:
    """Root of a ratio of means, with its standard error by jackknife over the fields."""

    def ratio(values: np.ndarray) -> float:
        top, bottom = values.mean(axis=0)
        return float(np.sqrt(top / bottom))

    leave_one_out = np.asarray([ratio(np.delete(pairs, i, axis=0)) for i in range(len(pairs))])
    n = len(pairs)
    error = np.sqrt((n - 1) / n * np.sum((leave_one_out - leave_one_out.mean()) ** 2))
    return {"value": ratio(pairs), "standard_error": float(error)}


def draw(path, figures, side: int, default: int) -> None:
    figure = new_figure(10, 4)
    titles = {
        "edge_over_interior_rms": ("rms error, outer 10 % / interior", 1.2),
        "largest_modes_std_over_error": ("quoted / actual error, largest modes", 1.0),
    }
    for number, (quantity, (label, target)) in enumerate(titles.items(), start=1):
        axes = figure.add_subplot(1, 2, number)
        for name, by_margin in figures.items():
            values = [row[quantity]["value"] for row in by_margin.values()]
            errors = [row[quantity]["standard_error"] for row in by_margin.values()]
            legend = f"{name}: noise {NOISE[name]:g} per pixel"
            axes.errorbar(list(by_margin), values, errors, marker="o", capsize=3, label=legend)
        axes.axvline(default, color="grey", linestyle=":", label="default margin")
        axes.axhline(target, color="firebrick", linestyle="--", label=f"target {target:g}")
        axes.set_xlabel(f"masked margin [pixels; field {side} x {side}]")
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
