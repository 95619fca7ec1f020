"""What more training, a larger network and more maps would buy: a scaling figure.

Denoisers of three sizes are trained alike on maps that never repeat, and the one in the middle also
on few maps again and again. Each is judged along its training by its mean square error over that of
the Wiener filter, on fields that none has seen. The learning rate falls over the last half, so only
the last figure is of a finished training. Goes on from checkpoints in ``--runs``. Writes
results/scaling.json and scaling.png.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save

from jaxmap.denoiser import Denoiser, denoise
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.training.denoiser_task import denoiser_task, fresh_denoiser
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.layouts import GivenFields, SimulatedFields
from jaxmap.training.loop import LOG, train
from jaxmap.training.settings import Training, training_from
from jaxmap.training.sources import Source, open_source

SIZES = {"small": (8, 16, 32), "medium": (16, 32, 64), "large": (32, 64, 128)}
FEW = (4, 32)
PRECISIONS = {"white noise of 0.025": 1 / 0.025**2, "depth of COSMOS": 5.4 / 0.3**2}
"""Inverse noise variance of a component of the shear."""


def main() -> None:
    options = arguments(
        __doc__, runs={"type": Path, "default": Path("runs/scaling"), "help": "of the trainings"}
    )
    side, steps, held_out = (32, 4, 2) if options.quick else (128, 800, 64)
    sizes = {"medium": (4, 8)} if options.quick else SIZES
    first = settings_of(sizes["medium"], steps, side, options.seed)
    source = open_source(first)
    truths = drawn(source.validation, jax.random.fold_in(jax.random.key(options.seed), 8), held_out)
    rows: list[dict[str, Any]] = []
    for name, num in [(name, None) for name in sizes] + [("medium", num) for num in FEW]:
        settings = replace(first, network=replace(first.network, channels=sizes[name]))
        given = source if num is None else of_few_maps(source, num, options.seed)
        folder = options.runs / (name if num is None else f"{name}-{num}-maps")
        parameters, curve = learning_curve(settings, given, truths, folder)
        rows.append({"network": name, "parameters": parameters, "maps": num, "curve": curve})
        print(folder, curve[-1], flush=True)
        save(options, "scaling", {"side": side, "held_out": held_out, "rows": rows})
    draw(options.out / "scaling.png", rows)


def settings_of(channels: tuple[int, ...], steps: int, side: int, seed: int) -> Training:
    """A short version of the training of the shipped denoiser."""
    schedule = {
        "num_steps": steps,
        "learning_rate": 2e-3,
        "warmup_steps": steps // 10,
        "decay_steps": steps // 2,
        "averaging": steps // 20,
    }
    return training_from(
        {
            "seed": 2026 + seed,
            "schedule": schedule,
            "network": {"channels": list(channels)},
            "layouts": [{"side": side, "batch": 8}],
            "maps": {"redshift_stretch": 1.05, "baryons": "tng"},
        }
    )


def drawn(fields: SimulatedFields, key: jax.Array, num: int) -> jax.Array:
    """Periodic maps of zero mean, shape ``(num, side, side)``."""
    (side,) = fields.cones
    draw = jax.jit(lambda key: fields.draw(key, side))
    maps = jnp.stack([draw(jax.random.fold_in(key, number)) for number in range(num)])
    return maps - jnp.mean(maps, axis=(1, 2), keepdims=True)


def of_few_maps(source: Source, num: int, seed: int) -> Source:
    maps = drawn(source.training, jax.random.fold_in(jax.random.key(seed), 9), num)
    return source._replace(training=GivenFields(maps))


def learning_curve(
    settings: Training, source: Source, truths: jax.Array, folder: Path
) -> tuple[int, list[dict[str, Any]]]:
    """Number of parameters, and figures along a training, which goes on from its checkpoint."""
    fresh = fresh_denoiser(settings, source.spectrum)
    grid = settings.layouts[0].grid(settings.source.pixel_arcmin)

    def judge(params: Any) -> dict[str, Any]:
        denoiser = replace(fresh, params=params)
        return {
            name: dict(zip(("ratio", "error"), gain(denoiser, truths, value, grid), strict=True))
            for name, value in PRECISIONS.items()
        }

    task = denoiser_task(settings, source.training, source.validation, source.spectrum)
    every = max(settings.schedule.num_steps // 8, 1)
    train(
        task._replace(validate=judge),
        settings.schedule,
        folder,
        {"settings": {"schedule": asdict(settings.schedule)}},
        checkpoint_every=every,
        validate_every=every,
    )
    log = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    curve = {row["step"]: {"step": row["step"], **row["validation"]} for row in log}
    return sum(leaf.size for leaf in jax.tree.leaves(fresh.params)), list(curve.values())


def gain(
    denoiser: Denoiser, truths: jax.Array, precision: float, grid: Grid
) -> tuple[float, float]:
    """Mean ratio of the mean square errors of the network and the Wiener filter, and its error."""
    squares = [
        squared_errors(jax.random.key(number), denoiser, truth, precision, grid)
        for number, truth in enumerate(truths)
    ]
    network, wiener = np.array(squares).T
    return mean_and_error(network / wiener)


@partial(jax.jit, static_argnames="grid")
def squared_errors(
    key: jax.Array, denoiser: Denoiser, truth: jax.Array, precision: float, grid: Grid
) -> tuple[jax.Array, jax.Array]:
    weight = jnp.full((2, *grid.shape), precision)
    information = information_from_shear(key, shear_from_convergence(truth, grid), weight, grid)
    result = denoise(denoiser, information, weight, grid)
    return jnp.mean((result.mean - truth) ** 2), jnp.mean((result.wiener - truth) ** 2)


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Learning curves, one panel for each kind of noise."""
    figure = new_figure(10, 4)
    for number, noise in enumerate(PRECISIONS):
        axes = figure.add_subplot(1, 2, number + 1)
        for row in rows:
            maps = "new maps" if row["maps"] is None else f"{row['maps']} maps"
            axes.errorbar(
                [point["step"] for point in row["curve"]],
                [point[noise]["ratio"] for point in row["curve"]],
                [point[noise]["error"] for point in row["curve"]],
                fmt="o-" if row["maps"] is None else "s--",
                ms=3,
                label=f"{row['parameters']:,} parameters, {maps}",
            )
        axes.set(title=noise, xlabel="steps of 8 fields", ylabel="mean square error / Wiener")
        axes.axhline(1, color="0.5", lw=1)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
