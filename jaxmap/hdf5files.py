"""HDF5 datasets of strangers: no larger than memory, and nowhere else than beside their file.

A dataset without data may claim any shape, and reads as zeros; links, virtual datasets and external
storage lead to other files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jaxmap.machine import check_memory


def check_dataset(dataset: Any, path: Path, planes: bool = False) -> None:
    """Refuse a dataset that must not, or cannot, be read.

    Args:
        dataset: of h5py, or with a shape and dtype.
        path: the file that was opened.
        planes: it is read by the first index, one at a time.

    Raises:
        ValueError: if it lies in a file outside the folder of ``path``, or needs more memory than
            there is.
    """
    for name in _other_files(dataset):
        if path.resolve().parent not in (path.parent / name).resolve().parents:
            raise ValueError(
                f"{dataset.name} lies in {name}, outside its folder; copy the data into one file"
            )
    shape = dataset.shape[1:] if planes else dataset.shape
    check_memory(
        math.prod(shape or ()) * dataset.dtype.itemsize,
        f"its dataset {getattr(dataset, 'name', '')}",
        "is it what it should be? Fetch it again, or use a larger machine",
        host=True,
    )


def _other_files(dataset: Any) -> set[str]:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        return set()
    names = {str(dataset.file.filename), *(name for name, *_ in dataset.external or ())}
    if dataset.is_virtual:
        names |= {source.file_name for source in dataset.virtual_sources()}
    return names - {"."}
