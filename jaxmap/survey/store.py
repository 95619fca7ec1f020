"""Galaxies of a survey on disk, by HEALPix cell: written in passing, read a few cells at a time.

``cell-000123.h5`` holds the dataset ``galaxies``, a table of ra, dec (float64), e1, e2 and weight
(float32) with a checksum for every chunk. The galaxies of a cell are in the catalogue's order.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from jaxmap.catalog import ShearCatalog
from jaxmap.files import reserve
from jaxmap.hdf5files import dataset_of, opened_hdf5

ROW = np.dtype([("ra", "f8"), ("dec", "f8"), ("e1", "f4"), ("e2", "f4"), ("weight", "f4")])
_CHUNK_ROWS = 16384
_MOST_HELD = 2**22


class CellWriter:
    """Sorts galaxies into the files of their cells; holds up to ``most`` rows in memory.

    Args:
        folder: there, and empty.
        most: rows held before they are written.
    """

    def __init__(self, folder: Path, most: int = _MOST_HELD) -> None:
        self.folder, self.most = folder, most
        self._rows: list[np.ndarray] = []
        self._cells: list[np.ndarray] = []
        self._num = 0

    def add(self, catalog: ShearCatalog, cells: np.ndarray) -> None:
        """Take galaxies and the number of the cell of each, shape ``(n,)``."""
        rows = np.empty(len(catalog), ROW)
        rows["ra"], rows["dec"] = catalog.ra_deg, catalog.dec_deg
        rows["e1"], rows["e2"] = catalog.ellipticity.real, catalog.ellipticity.imag
        rows["weight"] = catalog.weight
        self._rows.append(rows)
        self._cells.append(cells)
        self._num += len(rows)
        if self._num >= self.most:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._num:
            return
        rows, cells = np.concatenate(self._rows), np.concatenate(self._cells)
        order = np.argsort(cells, kind="stable")
        rows, cells = rows[order], cells[order]
        numbers, starts = np.unique(cells, return_index=True)
        for cell, part in zip(numbers, np.split(rows, starts[1:]), strict=True):
            _append(cell_path(self.folder, int(cell)), part)
        self._rows, self._cells, self._num = [], [], 0


def cell_path(folder: Path, cell: int) -> Path:
    """The file of a cell."""
    return folder / f"cell-{cell:06d}.h5"


def read_cells(folder: Path, cells: Iterable[int]) -> ShearCatalog:
    """The galaxies of some cells.

    Raises:
        OSError: if a file is missing or damaged.
    """
    parts = [np.empty(0, ROW)]
    for cell in cells:
        path = cell_path(folder, cell)
        try:
            with opened_hdf5(path) as file:
                rows = dataset_of(file, "galaxies")
                if rows.dtype != ROW or rows.ndim != 1:
                    raise ValueError(f"galaxies of {rows.dtype} and shape {rows.shape}")
                parts.append(rows[:])
        except (OSError, ValueError) as error:
            raise OSError(
                f"cannot read the galaxies in {path} ({error}); restore the file, or plan the "
                "survey anew"
            ) from error
    rows = np.concatenate(parts)
    return ShearCatalog(
        rows["ra"], rows["dec"], rows["e1"] + 1j * rows["e2"], rows["weight"].astype(float), None
    )


def _append(path: Path, rows: np.ndarray) -> None:
    new = not path.exists()
    path.touch()
    # HDF5 crashes on a full disk; it gives back what it does not need of the room.
    needed = rows.nbytes + _CHUNK_ROWS * ROW.itemsize + 2**16
    reserve(path, path.stat().st_size + needed)
    with h5py.File(path, "w" if new else "r+") as file:
        if new:
            file.create_dataset(
                "galaxies",
                (0,),
                ROW,
                maxshape=(None,),
                chunks=(min(_CHUNK_ROWS, max(len(rows), 256)),),
                fletcher32=True,
            )
        table = file["galaxies"]
        table.resize(len(table) + len(rows), axis=0)
        table[-len(rows) :] = rows
