"""HDF5 files of strangers: no larger than memory, nowhere else than beside their file, and whole.

A dataset without data may claim any shape, and reads as zeros; links, virtual datasets and external
storage lead to other files. Texts of any length lie in heaps, and where a heap is damaged the HDF5
library looks for its next object for ever.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxmap.arrayfiles import plain_errors
from jaxmap.machine import check_memory


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """A file of h5py to be read; whatever goes wrong with it is a ValueError with the reason.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    import h5py

    with plain_errors(), h5py.File(path, "r") as file:
        yield file


def dataset_of(file: Any, name: str, planes: bool = False) -> Any:
    """A dataset that is there, and passes `check_dataset`.

    Raises:
        ValueError: if it is not, or does not.
    """
    import h5py

    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"it holds no dataset {name!r}")
    check_dataset(dataset, Path(file.filename), planes)
    return dataset


def check_dataset(dataset: Any, path: Path, planes: bool = False) -> None:
    """As `check_datasets`, of one alone.

    Args:
        dataset: of h5py, or with a shape and dtype.
        path: the file that was opened.
        planes: it is read by the first index, one at a time.

    Raises:
        ValueError: as there.
    """
    check_datasets([dataset], path, planes)


def check_datasets(datasets: Sequence[Any], path: Path, planes: bool = False) -> None:
    """Refuse datasets that must not, or cannot, be read and held together.

    Args:
        datasets, path, planes: as of `check_dataset`.

    Raises:
        ValueError: if one lies in a file outside the folder of ``path`` or holds texts in a damaged
            heap, or all of them need more memory than there is.
    """
    needed = 0
    for dataset in datasets:
        for name in _other_files(dataset):
            if path.resolve().parent not in (path.resolve().parent / name).resolve().parents:
                raise ValueError(
                    f"{dataset.name} lies in {name}, outside its folder; copy the data into one "
                    "file"
                )
        shape = dataset.shape[1:] if planes else dataset.shape
        # A chunk is read as a whole, and may be larger than what it is a part of.
        chunk = math.prod(getattr(dataset, "chunks", None) or ())
        needed += max(math.prod(shape or ()), chunk) * dataset.dtype.itemsize
    first = getattr(datasets[0], "name", "")
    check_memory(
        needed,
        f"its dataset {first}" + (f" with {len(datasets) - 1} others" if datasets[1:] else ""),
        "is it what it should be? Fetch it again, or use a larger machine",
        host=True,
    )
    if any(dataset.dtype.hasobject for dataset in datasets):
        _check_heaps(path)


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """An attribute of a file, group or dataset of h5py, or the default if there is none.

    Raises:
        ValueError: if it is a text in a damaged heap.
    """
    if name not in node.attrs:
        return default
    if node.attrs.get_id(name).dtype.hasobject:
        _check_heaps(Path(node.file.filename))
    return node.attrs[name]


def text_attribute(file: Any, name: str) -> str:
    """An attribute that must be there and be a text.

    Raises:
        ValueError: if it is not, or lies in a damaged heap.
    """
    text = attribute(file, name)
    if isinstance(text, bytes):  # of a fixed length
        text = text.decode()
    if not isinstance(text, str):
        raise ValueError(f"its attribute {name!r} is {type(text).__name__}, expected a text")
    return text


def _check_heaps(path: Path) -> None:
    state = path.stat()
    _check_heaps_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _check_heaps_of(path: Path, size: int, modified: int) -> None:
    """Objects of a heap follow one another to its end; number 0 is the room that is left."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in re.finditer(rb"GCOL\x01\0\0\0", content):
            at = found.end() + 8
            end = found.start() + int.from_bytes(content[at - 8 : at], "little")
            while at + 16 <= min(end, size):
                number, length = struct.unpack_from("<H6xQ", content, at)
                at += 16 + 8 * math.ceil(length / 8) if number else length or size
            if not at <= end <= size:
                raise ValueError("a heap of texts in it is damaged")


def _other_files(dataset: Any) -> set[str]:
    """Files that a dataset lies in, named as seen from that of the file that was opened."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        return set()
    names = {str(Path(dataset.file.filename).resolve())}
    names |= {name for name, *_ in dataset.external or ()}
    if dataset.is_virtual:
        names |= {source.file_name for source in dataset.virtual_sources()}
    return names - {"."}
