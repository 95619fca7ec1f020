"""What the margin buys: Wiener error at the edge of a field against its interior.

Fields are cut from maps 4 times as wide, so that mass outside shears galaxies inside. Writes
results/edges.json and edges.png.
"""

from __future__ import annotations

import jax
import numpy as np
from common import arguments, new_figure, save

from jaxmap.catalog import shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.estimators import Wiener, default_margin
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field

NOISE = {"COSMOS-like": 0.125, "deep": 0.03}
"""Shear noise per pixel and component."""


def main() -> None:
    options = arguments(__doc__)
    side, num_fields = (90, 2) if options.quick else (360, 20)
    field, sky = Grid((side, side), 0.29), Grid((4 * side, 4 * side), 0.29)
    margins = sorted({0, side // 24, side // 12, default_margin(field.shape), side // 4, side // 2})
    spectrum = convergence_power()
    errors = {name: {margin: np.zeros((num_fields, 2)) for margin in margins} for name in NOISE}
    for number in range(num_fields):
        key = jax.random.fold_in(jax.random.key(options.seed), number)
        truth, shear = cut(key, spectrum, sky, side)
        for name, std in NOISE.items():
            noise = std * jax.random.normal(jax.random.fold_in(key, 1), (2, side, side))
            data = shear_map(
                shear + jax.lax.complex(*noise), field, noise_std=np.full(field.shape, std)
            )
            for margin in margins:
                result = Wiener(spectrum, num_samples=0, margin=margin)(key, data)
                errors[name][margin][number] = squared_errors(result.convergence, truth)
    figures = {
        name: {margin: ratio_of_rms(values) for margin, values in by_margin.items()}
        for name, by_margin in errors.items()
    }
    save(
        options,
        "edges",
        {
            "side": side,
            "num_fields": num_fields,
            "default_margin": default_margin(field.shape),
            "edge_over_interior_rms_by_margin": figures,
        },
    )
    draw(options.out / "edges.png", figures, side, default_margin(field.shape))


def cut(key, spectrum, sky: Grid, side: int):
    """Convergence and shear in the middle of a larger periodic map."""
    convergence = gaussian_field(key, spectrum, sky)
    start = (sky.shape[0] - side) // 2
    inner = slice(start, start + side)
    return convergence[inner, inner], shear_from_convergence(convergence, sky)[inner, inner]


def squared_errors(convergence, truth) -> tuple[float, float]:
    """Mean squared error in the outer 10 % of the side (5 % on each) and in the rest."""
    error = np.asarray(convergence - truth)
    error = error - error.mean()
    rim = len(error) // 20
    edge = np.ones(error.shape, bool)
    edge[rim:-rim, rim:-rim] = False
    return float(np.mean(error[edge] ** 2)), float(np.mean(error[~edge] ** 2))


def ratio_of_rms(squares: np.ndarray) -> dict[str, float]:
    """Ratio of the rms errors, with its standard error by jackknife over the fields."""

    def ratio(values: np.ndarray) -> float:
        edge, interior = values.mean(axis=0)
        return float(np.sqrt(edge / interior))

    leave_one_out = np.asarray([ratio(np.delete(squares, i, axis=0)) for i in range(len(squares))])
    n = len(squares)
    error = np.sqrt((n - 1) / n * np.sum((leave_one_out - leave_one_out.mean()) ** 2))
    return {"ratio": ratio(squares), "standard_error": float(error)}


def draw(path, figures, side: int, default: int) -> None:
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    for name, by_margin in figures.items():
        ratios = [row["ratio"] for row in by_margin.values()]
        errors = [row["standard_error"] for row in by_margin.values()]
        label = f"{name}: noise {NOISE[name]:g} per pixel"
        axes.errorbar(list(by_margin), ratios, errors, marker="o", capsize=3, label=label)
    axes.axvline(default, color="grey", linestyle=":", label="default margin")
    axes.axhline(1.2, color="firebrick", linestyle="--", linewidth=1, label="target 1.2")
    axes.set_xlabel(f"masked margin [pixels; field {side} x {side}]")
    axes.set_ylabel("rms error, outer 10 % / interior")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
