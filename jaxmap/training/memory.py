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


def training_memory(task: Task, schedule: Schedule) -> int:
    """Bytes that a training takes beside its maps: its state, and its heaviest step.

    As `program_memory` has it; what compiling takes is not counted.
    """
    state = jax.eval_shape(lambda: task.begin(task.params, schedule))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return int(held) + program_memory(partial(task.advance, task.heaviest), state)


def check_training_memory(task: Task, settings: Training) -> None:
    """Refuse a training that needs more memory than there is.

    Raises:
        ValueError: if it does, with the settings that make it smaller.
    """
    sizes = " and ".join(f"{layout.batch} of side {layout.side}" for layout in settings.layouts)
    check_memory(
        training_memory(task, settings.schedule) + BESIDE,
        f"a step of this training (batches of {sizes})",
        SMALLER.get(settings.kind, _SMALLER),
    )
