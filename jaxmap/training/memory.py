"""Whether a training fits into memory, asked before its first step."""

from __future__ import annotations

from functools import partial

import jax

from jaxmap.machine import check_memory
from jaxmap.networks.optimiser import Schedule
from jaxmap.program_memory import program_memory
from jaxmap.training.loop import Task
from jaxmap.training.settings import Training

_SMALLER = "give [[layouts]] a smaller batch or side, or [network] fewer channels"
SMALLER = {
    "denoiser": f"{_SMALLER}, or cut windows from large maps",
    "gan": f"{_SMALLER}, or [gan] fewer samples",
    "hong": "give [[layouts]] a smaller batch, [clusters] a smaller side, or [network] a smaller "
    "width",
}
"""Settings that make a step of a training smaller."""

BESIDE = 64 * 2**20
"""Bytes that XLA's work takes beside (``experiments/training_memory.py``)."""

TAKEN = {"score": 2.0, "gan": 1.1}
"""What a step takes on CPUs over what its operations hold, by kind, as measured there. A part of
what ``score`` takes is not what XLA sets aside; perhaps its convolutions take it as they run."""


def training_memory(task: Task, schedule: Schedule) -> int:
    """Bytes that a training takes beside its maps: its state, and its heaviest step.

    As `program_memory` has it; what compiling takes is not counted.
    """
    state = jax.eval_shape(lambda: task.begin(task.params, schedule))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return int(held) + program_memory(partial(task.advance, task.heaviest), state)


def asked_memory(kind: str, held: float) -> float:
    """Bytes that a training should find free, of the ``held`` ones of `training_memory`.

    On other devices than CPUs no more than these: what they take was not measured.
    """
    times = TAKEN.get(kind, 1.0) if jax.default_backend() == "cpu" else 1.0
    return times * held + BESIDE


def check_training_memory(task: Task, settings: Training) -> None:
    """Refuse a training that needs more memory than there is.

    Raises:
        ValueError: if it does, with the settings that make it smaller.
    """
    sizes = " and ".join(f"{layout.batch} of side {layout.side}" for layout in settings.layouts)
    check_memory(
        asked_memory(settings.kind, training_memory(task, settings.schedule)),
        f"a step of this training (batches of {sizes})",
        SMALLER.get(settings.kind, _SMALLER),
    )
