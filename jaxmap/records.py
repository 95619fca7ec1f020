"""What outputs say of how they were made, read from files of every kind that jaxmap writes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxmap.arrayfiles import json_of, parsed_json, plain_errors, read_arrays, read_json
from jaxmap.files import FILE_HASH, atomic_path, record_beside, sha256_of
from jaxmap.hdf5files import text_attribute
from jaxmap.mapfiles import read_provenance
from jaxmap.networks.weights import HEADER

HEADERS = (HEADER, "__record__", "header")
"""Of weights, checkpoints and intervals."""


@contextmanager
def with_record(path: str | Path, record: dict[str, Any]) -> Iterator[Path]:
    """A temporary path, moved to ``path`` on success, with its record in a file beside it.

    For files that have no place for one, such as CSV.
    """
    with atomic_path(path) as temporary:
        yield temporary
        text = json.dumps({FILE_HASH: sha256_of(temporary), **record}, indent=1)
        with atomic_path(record_beside(path)) as beside:
            beside.write_text(text + "\n", encoding="utf-8")


def is_ours(path: Path) -> bool:
    """Whether jaxmap wrote a file, as far as the file tells."""
    try:
        read_record(path)
    except (OSError, ValueError):
        return False
    return True


def read_record(path: Path) -> dict[str, Any]:
    """What a file of jaxmap says of its origin; nothing where it was written from Python.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is not of jaxmap.
    """
    with plain_errors():
        beside = record_beside(path)
        if beside.is_file():
            record = _object(read_json(beside))
            if record.pop(FILE_HASH, None) == sha256_of(path):
                return record
        if path.suffix not in _READERS:
            raise ValueError(f"{path} has no place for a record")
        return _object(_READERS[path.suffix](path))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a record is {type(value).__name__}, not an object")
    return value


def _of_fits(path: Path) -> Any:
    from astropy.io import fits

    try:
        return read_provenance(path)
    except ValueError:
        with fits.open(path) as hdus:
            return parsed_json(hdus[1].header["JAXMAP"])


def _of_simulation(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        return parsed_json(text_attribute(file, "record"))["made_by"]


def _of_table(path: Path) -> Any:
    from astropy.table.meta import get_header_from_yaml

    with path.open(encoding="utf-8") as file:
        lines = [line[2:].rstrip("\n") for line in itertools.takewhile(_is_comment, file)]
    record = get_header_from_yaml(lines[1:])["meta"]["jaxmap"]
    return parsed_json(record) if isinstance(record, str) else record


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _of_archive(path: Path) -> Any:
    """Of weights, checkpoints or intervals."""
    read = read_arrays(path, names=HEADERS)
    header = json_of(read[next((name for name in HEADERS if name in read), HEADER)])
    if "training" in header:
        return {"command": "train", **header["training"]}
    return header.get("made_by", header.get("about", {}))


def _of_json(path: Path) -> Any:
    record = _object(read_json(path))
    record = _object(record.get("made_by", record))
    _ = record["command"], record["versions"]["jaxmap"]  # no file of another program
    return record


def _of_log(path: Path) -> Any:
    """Of the log of a training, which says only that it is one."""
    with path.open(encoding="utf-8") as file:
        row = _object(parsed_json(file.readline(2**16)))
    return {"step": row["step"], "train": row["train"]}


_READERS: dict[str, Callable[[Path], Any]] = {
    ".fits": _of_fits,
    ".nc": read_provenance,
    ".h5": _of_simulation,
    ".ecsv": _of_table,
    ".npz": _of_archive,
    ".json": _of_json,
    ".jsonl": _of_log,
}

BEARING = (".nc", ".json", ".npz", ".ecsv")
"""Files of ours of these kinds all have a record of their own."""
