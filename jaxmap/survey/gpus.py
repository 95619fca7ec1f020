"""GPUs of this machine, and a plugin of dask.distributed that gives every worker one of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from distributed import Worker, WorkerPlugin

_SHOWN = "CUDA_VISIBLE_DEVICES"


def gpus_here(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """Those that ``CUDA_VISIBLE_DEVICES`` shows, or all NVIDIA GPUs of this machine; Linux."""
    shown = os.environ.get(_SHOWN)
    if shown is not None:
        return tuple(part.strip() for part in shown.split(",") if part.strip() not in ("", "-1"))
    numbers = (path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))
    return tuple(sorted(numbers, key=int))


class OneGPU(WorkerPlugin):
    """Shows worker n the GPU of that place in a list, before JAX looks for one.

    Args:
        gpus: numbers for ``CUDA_VISIBLE_DEVICES``.
    """

    name = "one-gpu"

    def __init__(self, gpus: Sequence[str]) -> None:
        self.gpus = tuple(gpus)

    def setup(self, worker: Worker) -> None:
        os.environ[_SHOWN] = self.gpus[int(worker.name) % len(self.gpus)]
