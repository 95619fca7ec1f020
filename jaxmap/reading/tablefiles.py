"""Open a catalogue of any kind, a file or a table in memory, as `Columns`."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jaxmap.reading.tableformats import (
    Columns,
    HasPositions,
    fits_columns,
    hdf5_columns,
    in_memory,
    parquet_columns,
    reading,
    text_columns,
)
from jaxmap.texttables import opened, require_file

FORMATS = {
    "FITS": (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.xz"),
    "text": (".csv", ".tsv", ".txt", ".dat", ".asc", ".csv.gz", ".tsv.gz", ".txt.gz"),
    "ECSV": (".ecsv",),
    "HDF5": (".h5", ".hdf5"),
    "Parquet": (".parquet", ".parq", ".pq"),
}
# How a file of each kind begins, after decompression.
_MAGIC = {
    b"SIMPLE  =": "FITS",
    b"\x89HDF\r\n": "HDF5",
    b"PAR1": "Parquet",
    b"# %ECSV": "ECSV",
}


def open_columns(
    source: Any,
    has_positions: HasPositions,
    *,
    hdu: int | str | None = None,
    group: str | None = None,
    preferred_groups: Collection[str] = (),
) -> Columns:
    """The column names of a file or a table in memory, and the way to load them.

    Args:
        source, hdu, group: as in `jaxmap.reading.readers.read_shear`.
        has_positions: tells from the column names which of several tables are catalogues.
        preferred_groups: HDF5 groups to take if several are.

    Raises:
        ValueError: if the source cannot be read, does not say which table is meant, or is of a
            kind that has no ``hdu`` or ``group``.
        FileNotFoundError: if there is no such file.
    """
    path = Path(source).expanduser() if isinstance(source, (str, os.PathLike)) else None
    kind = _kind(path) if path else "a table in memory"
    for option, value, applies in (("hdu", hdu, "FITS"), ("group", group, "HDF5")):
        if value is not None and kind != applies:
            raise ValueError(
                f"{option}={value!r} (--{option}) applies to {applies} files only, and "
                f"{path or 'the source'} is {kind}; leave it out"
            )
    if path is None:
        return in_memory(source)
    if kind == "FITS":
        return fits_columns(path, hdu, has_positions)
    if kind == "HDF5":
        return hdf5_columns(path, group, preferred_groups, has_positions)
    if kind == "Parquet":
        return parquet_columns(path)
    return text_columns(path, kind)


def _kind(path: Path) -> str:
    require_file(path)
    endings = {ending: kind for kind, all_of in FORMATS.items() for ending in all_of}
    named = [kind for ending, kind in endings.items() if path.name.lower().endswith(ending)]
    if not named:
        raise ValueError(f"{path}: unknown kind of file; expected a name in {', '.join(endings)}")
    with reading(path), opened(path) as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty; write or fetch it again")
    content = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    content = content or ("unknown binary data" if b"\0" in head else "text")
    if named[0] == "text" and content == "ECSV":
        return "ECSV"
    if content != named[0]:
        raise ValueError(
            f"{path} is named as {named[0]}, but its content is {content}; rename it, or write it "
            "again if it is damaged"
        )
    return content
