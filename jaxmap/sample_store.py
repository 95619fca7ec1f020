"""Where samples are kept as they are drawn: in memory, or in a folder that survives a stop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.arrayfiles import read_json
from jaxmap.digests import warn_without_digest
from jaxmap.files import atomic_path, reserve
from jaxmap.machine import check_disk, check_memory

_INDEX = "progress.json"


class SampleStore:
    """Arrays whose first axis is the number of the sample, filled from the first to the last.

    In a folder each array is an ``.npy`` file, mapped into memory page by page, so that memory does
    not grow with the number of samples; ``progress.json`` says how many of them are whole. It is
    replaced only after they are on the disk: what a killed run leaves is never taken for more than
    it is.

    Args:
        num: samples in the end.
        folder: where to keep them; None for memory.
        identity: what the samples are of, as JSON can hold it; a folder of another identity is
            refused.
        digest: of what they are drawn from (`jaxmap.digests`); that of another is refused, and a
            folder without one, of an earlier version, is warned of and taken.

    Attributes:
        done: samples that are there.
        arrays: by name, shape ``(num, ...)``; empty before the first chunk.

    Raises:
        ValueError: for a folder that holds other samples, or cannot be read.
    """

    def __init__(
        self, num: int, folder: Path | None = None, identity: Any = None, digest: str = ""
    ) -> None:
        self.num, self.folder, self.digest = num, folder, digest
        self.identity = json.loads(json.dumps(identity))
        self.done = 0
        self.arrays: dict[str, np.ndarray] = {}
        if folder is not None and (folder / _INDEX).exists():
            self._open(folder)

    def append(self, chunk: Mapping[str, np.ndarray]) -> None:
        """Add samples; those beyond ``num`` are left out.

        Raises:
            ValueError: if there is not enough memory or disk for all samples (first chunk).
        """
        if not self.arrays:
            self._create({name: np.asarray(values) for name, values in chunk.items()})
        count = min(len(next(iter(chunk.values()))), self.num - self.done)
        for name, values in chunk.items():
            self.arrays[name][self.done : self.done + count] = np.asarray(values)[:count]
        for array in self.arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        self.done += count
        self._write_index()

    def remove(self) -> None:
        """Delete the folder's files; the arrays must not be used any more."""
        if self.folder is None or not self.folder.exists():
            return
        for path in (self.folder / _INDEX, *self.folder.glob("*.npy")):
            path.unlink(missing_ok=True)
        self.folder.rmdir()

    def _create(self, chunk: Mapping[str, np.ndarray]) -> None:
        needed = self.num * sum(values[0].nbytes for values in chunk.values())
        what = f"{self.num} samples"
        if self.folder is None:
            check_memory(needed, what, "draw fewer, or keep them in a folder", host=True)
            self.arrays = {
                name: np.empty((self.num, *values.shape[1:]), values.dtype)
                for name, values in chunk.items()
            }
            return
        check_disk(self.folder, needed, what, "draw fewer, or choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.arrays = {
            name: _reserved(
                self.folder / f"{name}.npy", values.dtype, (self.num, *values.shape[1:])
            )
            for name, values in chunk.items()
        }

    def _open(self, folder: Path) -> None:
        remedy = f"remove {folder} to draw them anew, or choose another folder"
        try:
            index = read_json(folder / _INDEX)
            if index["identity"] != self.identity or index["num"] != self.num:
                raise ValueError("they are of other data or settings")
            arrays = {name: _mapped(folder / f"{name}.npy") for name in index["arrays"]}
            if not all(len(array) == self.num for array in arrays.values()):
                raise ValueError("arrays of another length")
            self.done, self.arrays = int(index["done"]), arrays
            if "digest" not in index:
                warn_without_digest(f"the drawing of the samples in {folder}", remedy)
                self._write_index()
            elif index["digest"] != self.digest:
                raise ValueError("they are of another key, data, prior or sampler")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"cannot go on with the samples in {folder} ({error}); {remedy}"
            ) from (error)

    def _write_index(self) -> None:
        if self.folder is None:
            return
        index = {
            "identity": self.identity,
            "digest": self.digest,
            "num": self.num,
            "done": self.done,
            "arrays": sorted(self.arrays),
        }
        with atomic_path(self.folder / _INDEX) as temporary:
            temporary.write_text(json.dumps(index), encoding="utf-8")


def _reserved(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A mapped array whose room is taken at once: a disk that is full later would kill us."""
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        reserve(path, path.stat().st_size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return array


def _mapped(path: Path) -> np.ndarray:
    # Read only first: a file that is cut short would be lengthened by "r+".
    np.lib.format.open_memmap(path, "r")
    return np.lib.format.open_memmap(path, "r+")
