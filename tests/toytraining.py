"""A training of seconds: fields of sparse bright pixels, which no Gaussian prior describes.

As a script, ``python toytraining.py run FOLDER`` trains in a folder, to the end or until somebody
kills it; ``python toytraining.py steps FILE BATCH`` makes two steps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.networks.optimiser import Schedule, TrainState, start
from jaxmap.networks.unet import ResidualUNet
from jaxmap.training import denoiser_task as tasks
from jaxmap.training.layouts import GivenFields, Layout
from jaxmap.training.loop import Task, train
from jaxmap.training.settings import Training, training_from
from jaxmap.training.smooth_power import smooth_power

SIDE = 16
TABLE: dict[str, Any] = {
    "schedule": {
        "num_steps": 40,
        "learning_rate": 5e-3,
        "warmup_steps": 5,
        "decay_steps": 10,
        "averaging": 10,
    },
    "network": {"channels": [8]},
    "noise": {"level": [0.01, 0.1], "shares": [1, 0, 0]},
    "layouts": [{"side": SIDE, "batch": 8}],
    "validation_batches": 4,
    "validate_every": 20,
    "checkpoint_every": 5,
}


def toy_fields(seed: int) -> np.ndarray:
    """48 maps in which one pixel of 50 is bright."""
    rng = np.random.default_rng(seed)
    return 0.2 * (rng.random((48, SIDE, SIDE)) < 0.02)


def toy_task(settings: Training) -> Task:
    training, validation = (GivenFields(jnp.asarray(toy_fields(seed), float)) for seed in (0, 1))
    spectrum = smooth_power(toy_fields(0), settings.source.pixel_arcmin)
    return tasks.denoiser_task(settings, training, validation, spectrum)


def run(folder: Path) -> None:
    """Train, with a checkpoint every few steps; with small batches, which compile faster."""
    settings = training_from({**TABLE, "layouts": [{"side": SIDE, "batch": 2}]})
    train(
        toy_task(settings),
        settings.schedule,
        folder,
        {"settings": TABLE},
        checkpoint_every=settings.checkpoint_every,
        validate_every=settings.validate_every,
    )


def steps(path: Path, batch: int) -> None:
    """Two steps and a validation; figures and program into one file."""
    settings = Training(
        Schedule(10, 1e-3, 1),
        network=ResidualUNet((4,)),
        layouts=(Layout(SIDE, batch, window=8, margin=4),),
        validation_batches=1,
    )
    task = toy_task(settings)
    state = start(task.params, settings.schedule)
    for step in range(2):
        state, (terms, *_) = task.advance(step, state)
    leaves = jax.tree_util.tree_leaves_with_path((state, terms))
    np.savez(
        path,
        devices=len(jax.devices()),
        program=program(settings, state),
        validation=task.validate(state.average)["loss"],
        **{jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in leaves},
    )


def program(settings: Training, state: TrainState) -> str:
    """That of a step, as the compiler deals it out to the devices there are."""
    fields = GivenFields(jnp.asarray(toy_fields(0), float))
    spectrum = smooth_power(toy_fields(0), settings.source.pixel_arcmin)
    denoiser = tasks.fresh_denoiser(settings, spectrum)
    arguments = (fields, settings.layouts[0], settings.source.pixel_arcmin, settings.noise)
    lowered = tasks._step.lower(jax.random.key(0), state, denoiser, *arguments, settings.schedule)
    return str(lowered.compile().as_text())


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(Path(sys.argv[2]))
    else:
        steps(Path(sys.argv[2]), int(sys.argv[3]))
