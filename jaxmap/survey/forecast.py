"""What a survey will take: memory of a worker, disk of the run, time of all workers together."""

from __future__ import annotations

import time
from typing import Any

from jaxmap.estimators.memory import map_memory
from jaxmap.machine import check_memory
from jaxmap.survey.plan import Plan
from jaxmap.survey.results import Task
from jaxmap.survey.store import ROW
from jaxmap.survey.tasks import densest_patch, map_task

_BYTES_PER_GALAXY = (
    200  # of a patch: rows of the store, tangent-plane columns, padded on the device
)
_PROCESS_BYTES = 0.7 * 2**30  # Python, JAX, dask and compiled programs


def forecast(plan: Plan) -> dict[str, Any]:
    """Memory and disk by counting, as JSON can hold it.

    Returns:
        ``worker_bytes``, ``results_bytes``, ``store_bytes``, ``patches``, ``tasks``.
    """
    (ny, nx), settings = plan.tiling.shape, plan.settings
    size, samples = 8 if settings["x64"] else 4, settings["num_samples"]
    kept = samples if settings["keep_samples"] else 0
    of_map = map_memory(
        settings["method"], (ny, nx), settings["margin"], 2 * samples, itemsize=size
    )
    chunk_bytes = ny * nx * (size * (3 + kept) + 5)
    tasks = len(plan.tiling.patches) * plan.num_chunks
    return {
        "patches": len(plan.tiling.patches),
        "tasks": tasks,
        "worker_bytes": _PROCESS_BYTES + _BYTES_PER_GALAXY * plan.slots + of_map,
        "results_bytes": chunk_bytes * tasks,
        "store_bytes": plan.num_galaxies * ROW.itemsize,
    }


def check_workers(found: dict[str, Any], workers: int = 1) -> None:
    """Refuse workers that need more memory than this machine has.

    Raises:
        ValueError: if they do, with the options that make it less.
    """
    fewer = "start fewer (--workers), or " if workers > 1 else ""
    check_memory(
        workers * found["worker_bytes"],
        f"work of {workers} worker{'s' * (workers != 1)}",
        f"{fewer}plan smaller patches (--patch-deg, --overlap-arcmin), larger pixels "
        "(--pixel-arcmin) or fewer samples in a task (--samples-per-task) in another folder",
        host=True,
    )


def measure(plan: Plan) -> dict[str, Any]:
    """Do the first task of the densest patch twice, for the time of one, as JSON can hold it.

    Returns:
        ``seconds_per_task``, ``seconds_to_compile``, ``device``.
    """
    import jax

    task = Task(densest_patch(plan).number, 0)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        map_task(plan, task)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds_per_task": seconds[1],
        "seconds_to_compile": max(seconds[0] - seconds[1], 0.0),
        "device": jax.devices()[0].device_kind,
    }


def describe(found: dict[str, Any]) -> str:
    """The forecast in words."""
    gib = {name: found[name] / 2**30 for name in ("worker_bytes", "results_bytes", "store_bytes")}
    lines = [
        f"Memory: about {gib['worker_bytes']:.1f} GiB for each worker, whatever the survey's size.",
        f"Disk: {gib['store_bytes']:.3g} GiB of galaxies, {gib['results_bytes']:.3g} GiB of "
        f"results from {found['tasks']:,} tasks.",
    ]
    if "seconds_per_task" in found:
        seconds = found["seconds_per_task"]
        lines.append(
            f"Time: {seconds:.3g} s a task on {found['device']} (measured on the densest patch), "
            f"{seconds * found['tasks'] / 3600:.3g} hours for one worker."
        )
    return "\n".join(lines)
