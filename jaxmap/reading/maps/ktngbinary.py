"""The binary maps of kappaTNG (Osato, Liu & Haiman 2021, MNRAS 502, 5593)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.reading.maps.mapfile import MapFile, refuse_dataset
from jaxmap.reading.tableformats import reading


def ktng_binary(path: Path, dataset: str | None) -> MapFile:
    """The map of a file ``int32 n, float64[n, n], int32 n``, in either byte order.

    The markers look like those of Fortran records, but count the grid and not the bytes.

    Raises:
        ValueError: if the markers and the size of the file do not agree.
    """
    refuse_dataset(path, dataset)
    size = path.stat().st_size
    with reading(path), open(path, "rb") as file:
        first = file.read(4)
        file.seek(max(size - 4, 0))
        last = file.read(4)
    for order in ("<", ">"):
        num = int.from_bytes(first, "little" if order == "<" else "big", signed=True)
        # Checked before anything is read: a wrong marker must not ask for terabytes.
        if num > 0 and size == 8 + 8 * num**2 and first == last:
            break
    else:
        raise ValueError(
            f"{path}: {size} bytes between the markers {first.hex()} and {last.hex()} are not a "
            "kappaTNG map (int32 n, n*n float64, int32 n; 8388616 bytes for n = 1024); the file "
            "is cut short or of another kind: fetch it again"
        )

    def read(_: Any) -> np.ndarray:
        return np.fromfile(path, order + "f8", num**2, offset=4).reshape(num, num)

    return MapFile(path, (None,), (num, num), None, read)
