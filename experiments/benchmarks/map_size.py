"""Time and memory against the size of the map: Kaiser-Squires, Wiener mean, posterior sample.

Run from the repository root: ``python experiments/benchmarks/map_size.py`` (some minutes). Writes a
figure next to the JSON file.

A COSMOS-like survey is scaled to the map. Sizes are those of the FFTs; with the default margin of
a quarter, an estimator works on a map 1.5 times as wide as its field; `Wiener` solves twice (E and
B mode) and once more for every sample. Every measurement has a
fresh process, so that its peak of resident memory is its own; the arguments, results and temporary
arrays of the compiled program are given besides, because Python, JAX and the compiler weigh a few
hundred megabytes whatever the map.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    PIXEL_ARCMIN,
    arguments,
    in_fresh_process,
    interleaved,
    peak_bytes,
    show,
    spread,
    survey,
    table,
    write_json,
)

from jaxmap.catalog import ShearMap
from jaxmap.gaussian_posterior import gaussian_fluctuation, solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.operators import convergence_from_shear
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance

METHODS = {
    "kaiser_squires": "Kaiser-Squires",
    "wiener_mean": "Wiener mean",
    "posterior_sample": "Gaussian posterior sample",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def prepare(size: int, seed: int, path: Path) -> None:
    """Keep a survey on disk, for processes whose memory is to be free of the making of it."""
    shear, spectrum = survey(size, seed)
    variance = mode_variance(spectrum, shear.grid)
    np.savez(path, shear=shear.shear, weight=shear.weight, variance=variance)


def measure(method: str, size: int, seed: int, path: Path, rounds: int) -> dict[str, Any]:
    """Time and memory of one method on one map, in a process of its own."""
    with np.load(path) as file:
        grid = Grid((size, size), PIXEL_ARCMIN)
        data = ShearMap(jnp.asarray(file["shear"]), jnp.asarray(file["weight"]), grid)
        prior = GaussianPrior(jnp.asarray(file["variance"]))
    key = jax.random.key(seed)
    function, inputs = {
        "kaiser_squires": (lambda shear: convergence_from_shear(shear, grid), (data.shear,)),
        "wiener_mean": (solve_conjugate_gradient, (data, prior)),
        "posterior_sample": (gaussian_fluctuation, (key, data, prior)),
    }[method]
    compiled = jax.jit(function).lower(*inputs).compile()
    before = peak_bytes()
    result = jax.block_until_ready(compiled(*inputs))
    after = peak_bytes()
    analysis = compiled.memory_analysis()
    seconds = interleaved({method: lambda: compiled(*inputs)}, rounds)[method]
    solved = isinstance(result, tuple)
    return {
        "method": method,
        "size": size,
        "seconds": spread(seconds),
        "iterations": int(result[1].iterations) if solved else None,
        "residual": float(result[1].residual) if solved else None,
        "peak_bytes": after,
        "peak_bytes_before": before,
        "program_bytes": analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes,
    }


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(9.6, 4.2), layout="constrained", dpi=150)
    time_axes, memory_axes = figure.subplots(1, 2)
    for i, (method, label) in enumerate(METHODS.items()):
        colour = COLOURS[i]
        # 1000 is no power of two and next to 1024: a point beside the line.
        mine = [row for row in rows if row["method"] == method and row["size"] != 1000]
        beside = [row for row in rows if row["method"] == method and row["size"] == 1000]
        for row in beside:
            hollow = {"color": colour, "marker": "o", "markersize": 5, "fillstyle": "none"}
            time_axes.plot(row["size"], row["seconds"]["median"], **hollow)
            memory_axes.plot(row["size"], row["peak_bytes"] / 1e6, **hollow)
        size = [row["size"] for row in mine]
        style = {"color": colour, "marker": "o", "markersize": 4, "label": label}
        time_axes.plot(size, [row["seconds"]["median"] for row in mine], **style)
        time_axes.fill_between(
            size,
            [row["seconds"]["quartiles"][0] for row in mine],
            [row["seconds"]["quartiles"][1] for row in mine],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        memory_axes.plot(size, [row["peak_bytes"] / 1e6 for row in mine], **style)
        program = [row["program_bytes"] / 1e6 for row in mine]
        # Dashes in turn, because two of the lines coincide.
        memory_axes.plot(size, program, color=colour, linestyle=(4 * i, (4, 4)), linewidth=1.5)
    sizes = np.array(sorted({row["size"] for row in rows}))
    last = min(row["seconds"]["median"] for row in rows if row["size"] == sizes[-1])
    cost = sizes**2 * np.log(sizes)
    time_axes.plot(sizes, 0.4 * last * cost / cost[-1], ":", color="0.5", label="∝ n² log n")
    memory_axes.plot([], [], color="0.3", label="peak of the process")
    memory_axes.plot([], [], "--", color="0.3", linewidth=1.2, label="arrays of the program")
    for axes, label in ((time_axes, "time per map [s]"), (memory_axes, "memory [MB]")):
        axes.set(xscale="log", yscale="log", xlabel="map size n [pixels on a side]", ylabel=label)
        axes.set_xticks([size for size in sizes if size != 1000])
        axes.set_xticklabels([str(size) for size in sizes if size != 1000])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    time_axes.legend(frameon=False)
    handles, labels = memory_axes.get_legend_handles_labels()
    memory_axes.legend(handles[-2:], labels[-2:], frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")


def main() -> None:
    args = arguments("map_size", __doc__ or "")
    sizes = (16, 32) if args.quick else (64, 128, 256, 360, 512, 1000, 1024, 2048)
    rounds = 2 if args.quick else 5
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "survey.npz"
        for size in sizes:
            in_fresh_process(prepare, size, args.seed, path)
            for method in METHODS:
                rows.append(in_fresh_process(measure, method, size, args.seed, path, rounds))
                print(f"{size:>5} {method:<17}{rows[-1]['seconds']['median']:.4g} s", flush=True)
    lines = [
        (
            METHODS[row["method"]],
            str(row["size"]),
            show(row["seconds"], 1e3, 2),
            "-" if row["iterations"] is None else str(row["iterations"]),
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{(row['peak_bytes'] - row['peak_bytes_before']) / 1e6:.0f}",
            f"{row['program_bytes'] / 1e6:.1f}",
        )
        for row in sorted(rows, key=lambda row: list(METHODS).index(row["method"]))
    ]
    head = ("method", "pixels", "ms", "steps", "peak [MB]", "of it, the run", "arrays [MB]")
    print(table(head, lines))
    write_json(args, rows)
    if args.json is not None:
        plot(rows, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
