"""HEALPix maps of a part of the sky as FITS tables with explicit pixels, written as they come.

The layout that healpy and healsparse read: one binary table with the column ``PIXEL`` and one map
(healsparse takes no more), ``INDXSCHM = 'EXPLICIT'``, ``OBJECT = 'PARTIAL'``, nested order,
equatorial coordinates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import jaxmap

_BLOCK = 2880


class PartialMapWriter:
    """Writes rows of a partial map to a file; memory does not grow with it. A context manager.

    Args:
        path: of the new file.
        nside: of the pixels, nested.
        name: of the map.
        record: how it came to be, kept in the header; anything JSON can hold.
    """

    def __init__(
        self, path: Path, nside: int, name: str, record: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.nside, self.name = path, nside, name
        self.record = json.dumps(record or {})
        self.num = 0
        self._row = np.dtype([("PIXEL", ">i8"), (name, ">f4")])

    def __enter__(self) -> PartialMapWriter:
        self._file = self.path.open("wb")
        self._file.write(self._headers())
        return self

    def write(self, pixels: np.ndarray, values: np.ndarray) -> None:
        """Add pixels, ascending from call to call, and the map there."""
        rows = np.empty(len(pixels), self._row)
        rows["PIXEL"], rows[self.name] = pixels, values
        self._file.write(rows.tobytes())
        self.num += len(rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._file.write(b"\0" * (-self.num * self._row.itemsize % _BLOCK))
            self._file.seek(0)  # the number of rows is known only now; headers keep their length
            self._file.write(self._headers())
        self._file.close()

    def _headers(self) -> bytes:
        from astropy.io import fits

        primary = fits.PrimaryHDU()
        primary.header["ORIGIN"] = f"jaxmap {jaxmap.__version__}"
        columns = [fits.Column("PIXEL", "K"), fits.Column(self.name, "E")]
        header = fits.BinTableHDU.from_columns(columns, name="MAP").header
        header["NAXIS2"] = self.num
        for card in (
            ("PIXTYPE", "HEALPIX", "HEALPix pixelation"),
            ("ORDERING", "NESTED", "pixel order"),
            ("NSIDE", self.nside, "resolution"),
            ("INDXSCHM", "EXPLICIT", "pixels are numbered in the first column"),
            ("OBJECT", "PARTIAL", "part of the sky"),
            ("COORDSYS", "C", "equatorial, ICRS"),
            ("JAXMAP", self.record),
        ):
            header.set(*card)
        texts = (
            part.tostring(sep="", endcard=True, padding=True) for part in (primary.header, header)
        )
        return "".join(texts).encode("ascii")


def read_partial_map(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """nside, pixels and values of a file of `PartialMapWriter`."""
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        table, header = hdus["MAP"].data, hdus["MAP"].header
        pixels, values = (np.asarray(table.field(i)) for i in (0, 1))
        return int(header["NSIDE"]), pixels.astype(np.int64), values.astype(np.float32)
