"""A plugin of dask.distributed that gives every worker a GPU of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distributed import Worker, WorkerPlugin


class OneGPU(WorkerPlugin):
    """Shows worker n the GPU of that place in a list, before JAX looks for one.

    Args:
        gpus: numbers for ``CUDA_VISIBLE_DEVICES``.
    """

    name = "one-gpu"

    def __init__(self, gpus: Sequence[str]) -> None:
        self.gpus = tuple(gpus)

    def setup(self, worker: Worker) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus[int(worker.name) % len(self.gpus)]
