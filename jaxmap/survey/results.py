"""Results of tasks on disk: an HDF5 file for each (patch, chunk of samples), whole or not there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from jaxmap.files import atomic_path
from jaxmap.hdf5files import attribute, dataset_of, opened_hdf5, text_attribute
from jaxmap.massmap import MassMap
from jaxmap.survey.patches import Patch
from jaxmap.survey.plan import RESULTS, Plan

_MAPS = ("mean", "std", "b_mode", "mask", "counts")


class Task(NamedTuple):
    """One piece of work.

    Attributes:
        patch: its number.
        chunk: of samples, from 0.
    """

    patch: int
    chunk: int


@dataclass(frozen=True)
class Chunk:
    """What a task found of its patch; maps have shape ``(ny, nx)``.

    Args:
        mean: convergence.
        std: its error, or None.
        b_mode: B-mode map, or None.
        mask: True where galaxies are.
        counts: galaxies per pixel.
        num_samples: behind ``std``; 0 for a method without.
        degrees: of freedom of ``std``.
        samples: shape ``(num_samples, ny, nx)``, or None.
    """

    mean: np.ndarray
    std: np.ndarray | None
    b_mode: np.ndarray | None
    mask: np.ndarray
    counts: np.ndarray
    num_samples: int = 0
    degrees: int = 0
    samples: np.ndarray | None = None


def result_path(plan: Plan, task: Task) -> Path:
    return plan.folder / RESULTS / f"patch-{task.patch:07d}-chunk-{task.chunk:04d}.h5"


def all_tasks(plan: Plan) -> list[Task]:
    return [
        Task(patch.number, chunk)
        for patch in plan.tiling.patches
        for chunk in range(plan.num_chunks)
    ]


def missing_tasks(plan: Plan) -> list[Task]:
    """Tasks without a result."""
    folder = plan.folder / RESULTS
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return [task for task in all_tasks(plan) if result_path(plan, task).name not in there]


def write_result(plan: Plan, task: Task, chunk: Chunk | None) -> None:
    """Write what a task found; None for a patch without galaxies.

    Put together in memory: HDF5 may end the process where it finds the disk full.

    Raises:
        OSError: if there is no room.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["plan"] = plan.digest
        file.attrs["empty"] = chunk is None
        if chunk is not None:
            _write_chunk(file, chunk)
    with atomic_path(result_path(plan, task)) as temporary, temporary.open("wb") as written:
        written.write(content.getbuffer())
        written.flush()
        os.fsync(written.fileno())  # its name must not outlive its content in a power cut


def _write_chunk(file: h5py.File, chunk: Chunk) -> None:
    file.attrs["num_samples"], file.attrs["degrees"] = chunk.num_samples, chunk.degrees
    for name in _MAPS:
        values = getattr(chunk, name)
        if values is not None:
            file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
    if chunk.samples is not None:
        one = (1, *chunk.samples.shape[1:])
        file.create_dataset("samples", data=chunk.samples, chunks=one, fletcher32=True)


def read_result(path: Path, plan: Plan) -> Chunk | None:
    """What a task found but for its samples; None for a patch without galaxies.

    Args:
        path: of the result.
        plan: that it belongs to.

    Raises:
        OSError: if the file is damaged, or of another plan.
    """
    with _opened(path) as file:
        if text_attribute(file, "plan") != plan.digest:
            raise ValueError("it belongs to another plan")
        if attribute(file, "empty"):
            return None
        maps: dict[str, Any] = {name: dataset_of(file, name)[()] for name in _MAPS if name in file}
        for name, values in maps.items():
            if values.shape != plan.tiling.shape or values.dtype.kind not in "buif":
                raise ValueError(f"{name} of {values.dtype} and shape {values.shape}")
        num, degrees = int(attribute(file, "num_samples")), int(attribute(file, "degrees"))
        needed = {"mean", "mask", "counts", *(["std"] if num else [])}
        if not needed <= maps.keys():
            raise ValueError(f"it lacks {', '.join(sorted(needed - maps.keys()))}")
        return Chunk(**{**dict.fromkeys(_MAPS), **maps}, num_samples=num, degrees=degrees)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A result to be read; what goes wrong names it, and what to do."""
    try:
        with opened_hdf5(path) as file:
            yield file
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot read the result {path} ({error}); remove it and run the survey again"
        ) from error


def patch_results(plan: Plan, patch: Patch) -> list[Path]:
    """The results of a patch that are there."""
    tasks = (Task(patch.number, chunk) for chunk in range(plan.num_chunks))
    return [path for task in tasks if (path := result_path(plan, task)).exists()]


def num_samples_of(plan: Plan, patch: Patch) -> int:
    """How many samples of a patch are there.

    Raises:
        OSError: if a result is damaged.
    """
    count = 0
    for path in patch_results(plan, patch):
        with _opened(path) as file:
            count += len(_samples(file, plan))
    return count


def samples_of(plan: Plan, patch: Patch) -> Iterator[np.ndarray]:
    """The samples of a patch, one by one, shape ``(ny, nx)``.

    Raises:
        OSError: if a result is damaged.
    """
    for path in patch_results(plan, patch):
        with _opened(path) as file:
            samples = _samples(file, plan)
            for number in range(len(samples)):
                yield samples[number]


def _samples(file: h5py.File, plan: Plan) -> Any:
    """The samples that a result has kept, not yet read."""
    if "samples" not in file:
        return ()
    samples = dataset_of(file, "samples", planes=True)
    if samples.shape[1:] != plan.tiling.shape or samples.dtype.kind != "f":
        raise ValueError(f"samples of {samples.dtype} and shape {samples.shape}")
    return samples


def patch_map(plan: Plan, patch: Patch) -> MassMap | None:
    r"""The chunks of a patch as one map; None if none has galaxies or none is there.

    .. math:: m = \frac{\sum_c n_c m_c}{\sum_c n_c}, \qquad
              s^2 = \frac{\sum_c [f_c s_c^2 + n_c (m_c - m)^2]}{\nu}

    of C chunks with :math:`\nu = \sum_c f_c + C - 1 = \sum_c n_c - 1` where means are sampled
    (:math:`f_c = n_c - 1`), and :math:`\nu = \sum_c n_c` where chunks share an exact mean
    (:math:`f_c = n_c`).

    Raises:
        OSError: if a result is damaged.
    """
    found = [read_result(path, plan) for path in patch_results(plan, patch)]
    chunks = [chunk for chunk in found if chunk is not None]
    if not chunks:
        return None
    first = chunks[0]
    mean, std, diagnostics = first.mean, first.std, {}
    if first.num_samples:
        counts = np.array([chunk.num_samples for chunk in chunks], float)
        means = np.stack([chunk.mean for chunk in chunks]).astype(float)
        centre = np.tensordot(counts, means, 1) / counts.sum()
        squares = np.zeros_like(centre)
        for chunk, one in zip(chunks, means, strict=True):
            assert chunk.std is not None
            squares += chunk.degrees * chunk.std.astype(float) ** 2
            squares += chunk.num_samples * (one - centre) ** 2
        # A sampled mean costs one degree of freedom in all; a chunk has lost one already.
        lost = 0 if first.degrees == first.num_samples else 1
        mean = centre.astype(first.mean.dtype)
        std = np.sqrt(squares / (counts.sum() - lost)).astype(first.mean.dtype)
        diagnostics = {"num_samples": int(counts.sum()), "chunks": len(chunks)}
    maps: dict[str, Any] = {"convergence": mean, "std": std, "b_mode": first.b_mode}
    maps |= {"mask": first.mask.astype(bool), "counts": first.counts}
    return MassMap(grid=plan.tiling.grid(patch), diagnostics=diagnostics, **maps)
