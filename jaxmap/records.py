"""What outputs say of how they were made, read from files of every kind that jaxmap writes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxmap.arrayfiles import json_of, parsed_json, plain_errors, read_arrays, read_json
from jaxmap.clusters.tables import record_of_regions
from jaxmap.files import FILE_HASH, atomic_path, record_beside, sha256_of
from jaxmap.hdf5files import text_attribute
from jaxmap.mapfiles import read_provenance
from jaxmap.networks.weights import HEADER
from jaxmap.plot import record_of_picture

HEADERS = (HEADER, "__record__", "header")
"""Of weights, checkpoints and intervals."""

LARGEST_TABLE_HEADER = 2**20
"""Bytes of YAML before a table; ours have some thousands."""

_DEEPEST = 64
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_TEXTS = ("command", "device", "precision")
_TABLES = ("versions", "files", "networks", "input")


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
            known = record.pop(FILE_HASH, None)
            if known == sha256_of(path):
                return record
            if known is not None:
                raise ValueError(
                    f"it was changed since jaxmap wrote it, for {beside.name} beside it has "
                    "another hash"
                )
        if path.suffix not in _READERS:
            raise ValueError(f"{path} has no place for a record")
        record = _object(_READERS[path.suffix](path))
        inner = record.get("made_by")  # beside what else describes a simulation
        return inner if isinstance(inner, dict) else record


def check_record(record: dict[str, Any]) -> None:
    """Refuse a record with parts of other kinds than jaxmap writes.

    Raises:
        ValueError: if there is one, which is told.
    """
    for name in record.keys() & {*_TEXTS}:
        if not isinstance(record[name], str):
            raise ValueError(f"{name} of its record is {_short(record[name])}, expected a text")
    for name in record.keys() & {*_TABLES}:
        table = record[name]
        if not isinstance(table, dict) or not all(isinstance(one, str) for one in table.values()):
            raise ValueError(f"{name} of its record is {_short(table)}, expected texts by name")
    if "input" in record and record["input"].keys() != {"path", "sha256"}:
        raise ValueError(f"input of its record is {_short(record['input'])}, expected a file")
    for name in _object(record.get("settings", {})):
        if not _NAME.fullmatch(name):
            raise ValueError(f"its record has the setting {_short(name)}, expected a plain name")


def _short(value: Any) -> str:
    return repr(value)[:60]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a record is {type(value).__name__}, not an object")
    return value


def _of_fits(path: Path) -> Any:
    from astropy.io import fits

    try:
        return read_provenance(path)
    except ValueError:
        # Our own handle: astropy leaves its one open where the file is cut short.
        with path.open("rb") as stream, fits.open(stream) as hdus:
            if "PROVENANCE" in hdus:  # a map of ours, which has its record nowhere else
                raise
            return parsed_json(hdus[1].header["JAXMAP"])


def _of_simulation(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        return parsed_json(text_attribute(file, "record"))


def _of_table(path: Path) -> Any:
    record = table_meta(path)["jaxmap"]
    return parsed_json(record) if isinstance(record, str) else record


def table_meta(path: Path) -> dict[str, Any]:
    """What the header of an ECSV table says beside its columns.

    Raises:
        ValueError: if it says nothing, is longer than `LARGEST_TABLE_HEADER`, or has references,
            by which a few lines can stand for more than memory holds.
    """
    from astropy.table.meta import get_header_from_yaml

    with path.open("rb") as file:
        text = file.read(LARGEST_TABLE_HEADER + 1)
    lines = list(itertools.takewhile(lambda line: line.startswith(b"#"), text.split(b"\n")))
    if sum(len(line) + 1 for line in lines) > LARGEST_TABLE_HEADER:
        raise ValueError(f"its header is longer than {LARGEST_TABLE_HEADER} bytes")
    header = [line[2:].decode().rstrip("\r") for line in lines[1:]]
    _refuse_references("\n".join(header))
    return _object(get_header_from_yaml(header)["meta"])


def _refuse_references(text: str) -> None:
    """Go through YAML word by word, and make nothing of it."""
    import yaml

    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        kind = type(token).__name__
        depth += kind.endswith("StartToken") - kind.endswith("EndToken")
        if kind in ("AnchorToken", "AliasToken"):
            raise ValueError(f"its header has the reference {_short(token.value)}")
        if depth > _DEEPEST:
            raise ValueError("its header is nested too deeply")


def _of_archive(path: Path) -> Any:
    """Of weights, checkpoints or intervals."""
    read = read_arrays(path, names=HEADERS)
    header = json_of(read[next((name for name in HEADERS if name in read), HEADER)])
    if "training" in header:
        return {"command": "train", **header["training"]}
    return header if "made_by" in header else header.get("about", {})


def _of_json(path: Path) -> Any:
    record = _object(read_json(path))
    made = record.get("made_by", record)
    _ = made["command"], made["versions"]["jaxmap"]  # no file of another program
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
    ".png": record_of_picture,
    ".reg": record_of_regions,
}

BEARING = (".nc", ".json", ".npz", ".ecsv")
"""Files of ours of these kinds all have a record of their own."""
