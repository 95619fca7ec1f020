"""Maps as HDF5 datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.hdf5files import attribute, check_dataset
from jaxmap.reading.maps.mapfile import MapFile, choose, only
from jaxmap.reading.tableformats import reading


def hdf5_datasets(path: Path, dataset: str | None) -> MapFile:
    """The maps of one dataset ``(num, ny, nx)``, or of 2-D datasets, each of them a map.

    The pixel scale is the attribute ``pixel_arcmin`` of the dataset or of the file.

    Args:
        path: the file.
        dataset: name of the dataset; by default those called ``convergence`` or ``kappa``, or
            else all.

    Raises:
        ValueError: if the file is not whole, has no such dataset, or it is not clear which
            datasets are maps.
    """
    import h5py

    with reading(path), h5py.File(path, "r") as file:
        found: dict[str, tuple[int, ...]] = {}

        def keep(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and node.dtype.kind == "f" and node.ndim > 1:
                check_dataset(node, path, planes=node.ndim > 2)
                found[name] = node.shape

        wanted = (dataset or "").strip("/")
        if wanted and isinstance(file.get(wanted), h5py.Dataset):
            keep(wanted, file[wanted])  # spares a walk through the whole file
        else:
            file.visititems(keep)
        scales = {name: _pixel_arcmin(file, name) for name in found}
    names = choose(path, found, dataset)
    if any(found[name] != found[names[0]] or len(found[name]) != 2 for name in names):
        names = [only(path, names)]
    shape = found[names[0]]
    pixel_arcmin = scales[names[0]]

    def read(key: str | int) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return file[names[0]][key] if isinstance(key, int) else file[key][()]

    if len(shape) == 3:
        return MapFile(path, range(shape[0]), shape[1:], pixel_arcmin, read)
    return MapFile(path, names, shape, pixel_arcmin, read)


def _pixel_arcmin(file: Any, name: str) -> float | None:
    value = attribute(file[name], "pixel_arcmin", attribute(file, "pixel_arcmin"))
    return None if value is None else float(value)
