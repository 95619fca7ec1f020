"""One task of a survey: read the galaxies of a patch, bin them, estimate, write the result.

Everything a task needs is in the folder of the run, and its random numbers come from the seed, the
patch and the chunk alone, so that any worker gives the same result at any time.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import weighted_mean_shear
from jaxmap.catalog import ShearMap, require_finite
from jaxmap.survey.estimates import PatchSolver, patch_solver
from jaxmap.survey.patches import Patch
from jaxmap.survey.plan import GALAXIES, Plan, read_plan, require_version
from jaxmap.survey.results import Chunk, Task, result_path, write_result
from jaxmap.survey.store import read_cells

_UNCONVERGED = 1e-3
_ONE_AT_A_TIME = threading.Lock()  # a worker of several threads compiles once all the same


@dataclass(frozen=True)
class Worker:
    """What a process keeps between the tasks of one run: the plan and the compiled estimator."""

    plan: Plan
    patches: dict[int, Patch]
    solver: PatchSolver


@lru_cache(maxsize=1)
def worker_of(folder: str, digest: str) -> Worker:
    """This process as a worker of a run; ``digest`` is that of the plan expected there."""
    plan = read_plan(Path(folder))
    if plan.digest != digest:
        raise ValueError(f"{folder} holds another plan than this run's; start the run again")
    require_version(plan)
    patches = {patch.number: patch for patch in plan.tiling.patches}
    with _precision(plan):
        solver = patch_solver(plan.estimator(), plan.settings["num_samples"])
    return Worker(plan, patches, solver)


def _precision(plan: Plan) -> AbstractContextManager[Any]:
    return jax.enable_x64(bool(plan.settings["x64"]))


def run_tasks(folder: str, digest: str, tasks: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Do tasks that are not done yet; as many at once as this process has devices.

    What can be done is done before an error is raised.

    Args:
        folder: of the run.
        digest: of its plan.
        tasks: (patch, chunk) of each.

    Returns:
        A record of every task, as JSON can hold it.
    """
    with _ONE_AT_A_TIME:
        worker = worker_of(folder, digest)
        with _precision(worker.plan):
            return _run(worker, tasks)


def _run(worker: Worker, tasks: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    start = time.perf_counter()
    todo, failed = [], None
    records: list[dict[str, Any]] = []
    for task in map(Task._make, tasks):
        if result_path(worker.plan, task).exists():
            records.append({**task._asdict(), "state": "there"})
            continue
        try:
            shear = patch_shear(worker.plan, worker.patches[task.patch])
        except Exception as error:
            failed = error
            continue
        if shear is None:
            write_result(worker.plan, task, None)
            records.append({**task._asdict(), "state": "empty"})
        else:
            todo.append((task, shear))
    if todo:
        with _messages() as messages:
            keys = [_key(worker.plan, task) for task, _ in todo]
            found = worker.solver(keys, [_no_counts(shear) for _, shear in todo])
        seconds = (time.perf_counter() - start) / len(todo)
        for (task, shear), maps in zip(todo, found, strict=True):
            if maps.get("residual", 0) > _UNCONVERGED:
                messages.append(f"stopped at a relative residual of {maps['residual']:.1e}")
            write_result(worker.plan, task, _chunk(worker.plan, shear, maps))
            record = {**task._asdict(), "state": "done", "seconds": round(seconds, 4)}
            record["galaxies"] = int(jnp.sum(_counts(shear)))
            record |= {"worker": f"{socket.gethostname()}-{os.getpid()}", "memory_mib": _memory()}
            records.append({**record, "warnings": sorted(set(messages))} if messages else record)
    if failed is not None:
        raise failed
    return records


def patch_shear(plan: Plan, patch: Patch) -> ShearMap | None:
    """The binned shear of a patch, on a grid that is the same for all; None without galaxies.

    Raises:
        OSError: if the galaxies cannot be read.
    """
    grid, catalog = plan.tiling.grid(patch), read_cells(plan.folder / GALAXIES, patch.cells)
    x, y = grid.pixel_position(catalog.ra_deg, catalog.dec_deg)
    ny, nx = grid.shape
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    inside &= catalog.weight > 0
    if not inside.any():
        return None
    turned = catalog.ellipticity[inside] * grid.frame_rotation(catalog.ra_deg[inside])
    shear, weight, counts = weighted_mean_shear(
        _filled(x[inside], plan.slots, -1.0, float),
        _filled(y[inside], plan.slots, -1.0, float),
        _filled(turned, plan.slots, 0.0, complex),
        _filled(catalog.weight[inside] / catalog.weight.max(), plan.slots, 0.0, float),
        jnp.asarray(plan.shape_noise, float),
        plan.tiling.plane,
    )
    require_finite(weight)
    return ShearMap(shear, weight, plan.tiling.plane, counts) if bool(jnp.any(weight > 0)) else None


def map_task(plan: Plan, task: Task) -> dict[str, np.ndarray]:
    """The maps of a task, not written; for those who measure how long it takes."""
    worker = worker_of(str(plan.folder), plan.digest)
    shear = patch_shear(plan, worker.patches[task.patch])
    if shear is None:
        raise ValueError(f"patch {task.patch} has no galaxies to map")
    return worker.solver([_key(plan, task)], [_no_counts(shear)])[0]


def densest_patch(plan: Plan) -> Patch:
    return max(plan.tiling.patches, key=lambda patch: patch.most_galaxies)


def _memory() -> int:
    """Resident memory of this process, MiB."""
    import psutil

    return int(psutil.Process().memory_info().rss / 2**20)


def _filled(values: np.ndarray, size: int, fill: float, kind: Any) -> jax.Array:
    """With entries that count for nothing, so that nothing is compiled anew for every patch."""
    if len(values) > size:
        raise ValueError(
            f"{len(values)} galaxies on a patch planned for {size}; the store has changed, plan "
            "the survey anew"
        )
    return jnp.asarray(np.pad(values, (0, size - len(values)), constant_values=fill), kind)


def _key(plan: Plan, task: Task) -> jax.Array:
    root = jax.random.key(plan.settings["seed"])
    return jax.random.fold_in(jax.random.fold_in(root, task.patch), task.chunk)


def _no_counts(shear: ShearMap) -> ShearMap:
    return ShearMap(shear.shear, shear.weight, shear.grid)


def _counts(shear: ShearMap) -> jax.Array:
    assert shear.counts is not None
    return shear.counts


def _chunk(plan: Plan, shear: ShearMap, maps: dict[str, np.ndarray]) -> Chunk:
    samples = maps.get("samples")
    num = 0 if samples is None else len(samples)
    exact_mean = plan.settings["method"] == "wiener"
    return Chunk(
        mean=maps["mean"],
        std=maps.get("std"),
        b_mode=maps.get("b_mode"),
        mask=np.asarray(shear.mask, np.uint8),
        counts=np.asarray(_counts(shear), np.float32),
        num_samples=num,
        degrees=num if exact_mean else max(num - 1, 0),
        samples=samples if plan.settings["keep_samples"] else None,
    )


@contextmanager
def _messages() -> Iterator[list[str]]:
    """What jaxmap warns of, kept for the record instead of said by every worker."""
    found: list[str] = []

    class _Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("jaxmap")
    handler, before = _Keep(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
