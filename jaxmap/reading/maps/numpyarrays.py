"""Maps in numpy's own files, ``.npy`` and ``.npz``, read without unpickling anything.

numpy would read a whole archive member at once, and trust its header with the memory; here the
header is compared with the size of the file, and one map is read.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from jaxmap.arrayfiles import read_header
from jaxmap.reading.maps.mapfile import MapFile, choose, only, refuse_dataset
from jaxmap.reading.tableformats import reading


def npy_array(path: Path, dataset: str | None) -> MapFile:
    """The map ``(ny, nx)`` or the maps ``(num, ny, nx)`` of a ``.npy`` file.

    Raises:
        ValueError: if the file is not whole, or holds anything but floating-point numbers.
    """
    refuse_dataset(path, dataset)
    return _maps(path, None, path.stat().st_size, None)


def npz_array(path: Path, dataset: str | None) -> MapFile:
    """The maps in one array of a ``.npz`` archive, which may also hold ``pixel_arcmin``.

    Args:
        path: the archive.
        dataset: name of the array; ``convergence`` or ``kappa``, or the only one, by default.

    Raises:
        ValueError: as `npy_array`, or if there is no such array.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    names = {member.removesuffix(".npy") for member in sizes if member.endswith(".npy")}
    member = only(path, choose(path, sorted(names - {"pixel_arcmin"}), dataset)) + ".npy"
    pixel_arcmin = None
    if sizes.get("pixel_arcmin.npy", 1024) < 1024:  # a number and its header
        with reading(path), _stream(path, "pixel_arcmin.npy") as stream:
            pixel_arcmin = np.lib.format.read_array(stream, allow_pickle=False).item()
    return _maps(path, member, sizes[member], pixel_arcmin)


def _maps(path: Path, member: str | None, size: int, pixel_arcmin: float | None) -> MapFile:
    with reading(path), _stream(path, member) as stream:
        shape, fortran, dtype = read_header(stream, size)
        start = stream.tell()
    if dtype.kind != "f":
        raise ValueError(f"{path} holds {dtype}; expected floating-point numbers")
    cube = len(shape) == 3
    if cube and fortran:
        raise ValueError(f"{path} has Fortran order; save np.ascontiguousarray of it instead")
    plane = shape[1:] if cube else shape
    num_bytes = math.prod(plane) * dtype.itemsize

    def read(key: int | None) -> np.ndarray:
        with _stream(path, member) as stream:
            stream.seek(start + (key or 0) * num_bytes)
            content = stream.read(num_bytes)
        return np.frombuffer(content, dtype).reshape(plane, order="F" if fortran else "C")

    return MapFile(path, range(shape[0]) if cube else (None,), plane, pixel_arcmin, read)


@contextmanager
def _stream(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    """A ``.npy`` file, or one inside an archive."""
    if member is None:
        with open(path, "rb") as stream:
            yield stream
    else:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            yield stream
