"""HEALPix maps of a part of the sky as FITS tables with explicit pixels, written as they come.

The layout that healpy and healsparse read: one binary table with the column ``PIXEL`` and one map
(healsparse takes no more), ``INDXSCHM = 'EXPLICIT'``, ``OBJECT = 'PARTIAL'``, nested order,
equatorial coordinates, with the checksums of the FITS standard.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import jaxmap
from jaxmap.mapfiles import open_map

_BLOCK = 2880
_NO_LETTERS = [ord(sign) for sign in ":;<=>?@[\\]^_`"]


class PartialMapWriter:
    """Writes rows of a partial map to a file; memory does not grow with it. A context manager.

    Args:
        path: of the new file.
        nside: of the pixels, nested.
        name: of the map.
        record: how it came to be, kept in the header; anything JSON can hold.
    """

    def __init__(
        self, path: str | Path, nside: int, name: str, record: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.nside, self.name = Path(path), nside, name
        self.record = json.dumps(record or {})
        self.num = 0
        self._sum = 0
        self._row = np.dtype([("PIXEL", ">i8"), (name, ">f4")])

    def __enter__(self) -> PartialMapWriter:
        self._file = self.path.open("wb")
        self._file.write(self._headers())
        return self

    def write(self, pixels: np.ndarray, values: np.ndarray) -> None:
        """Add pixels, ascending from call to call, and the map there."""
        rows = np.empty(len(pixels), self._row)
        rows["PIXEL"], rows[self.name] = pixels, values
        content = rows.tobytes()
        self._file.write(content)
        self._sum = _checksum(content, self._sum)
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
        return _with_checksums(primary.header, 0) + _with_checksums(header, self._sum)


def _with_checksums(header: Any, data_sum: int) -> bytes:
    """A header that says the sum of its data, and brings that of both together to zero."""
    header["CHECKSUM"], header["DATASUM"] = "0" * 16, str(data_sum)

    def text() -> bytes:
        return header.tostring(sep="", endcard=True, padding=True).encode("ascii")

    header["CHECKSUM"] = _letters(_checksum(text(), data_sum) ^ 0xFFFFFFFF)
    return text()


def _checksum(content: bytes, before: int = 0) -> int:
    """The sum of words of four bytes; what 32 bits do not hold is added at the other end."""
    total = before + int(np.frombuffer(content, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _letters(value: int) -> str:
    """A number of 32 bits as 16 letters whose sum it is (FITS standard 4.0, appendix J)."""
    letters = np.empty((4, 4), int)
    for column, byte in enumerate(value.to_bytes(4, "big")):
        letters[:, column] = byte // 4 + ord("0")
        letters[0, column] += byte % 4
    for pair in (letters[:2], letters[2:]):
        while (other := np.isin(pair, _NO_LETTERS).any(axis=0)).any():
            pair += other * np.array([[1], [-1]])
    return "".join(map(chr, np.roll(letters.ravel(), 1)))


def read_partial_map(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """nside, pixels and values of a file of `PartialMapWriter`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not whole, or does not match its checksums.
    """
    with open_map(path) as hdus:
        table, header = hdus["MAP"].data, hdus["MAP"].header
        pixels, values = (np.asarray(table.field(i)) for i in (0, 1))
        return int(header["NSIDE"]), pixels.astype(np.int64), values.astype(np.float32)
