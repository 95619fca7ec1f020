"""Judged fields on disk, one JSON object a line: an interrupted calibration goes on from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmap.arrayfiles import parsed_json
from jaxmap.digests import digest_of, warn_without_digest
from jaxmap.files import append_line, atomic_path, whole_lines

FIELDS = "fields.jsonl"


def open_records(folder: Path, identity: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Fields that a folder holds already, by number; the file is made if there is none.

    What an interruption left of a last line is passed over.

    Args:
        folder: made if need be.
        identity: all that decides what field n looks like, as JSON can hold it. If all is the same
            but that a folder of an earlier version has no ``digest``, it is warned of and taken.

    Raises:
        ValueError: if the folder cannot be used, or holds the fields of another calibration.
    """
    wanted = json.loads(json.dumps(identity))  # as it will be read: tuples become lists
    path = folder / FIELDS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_bytes(_head(wanted))
        whole = whole_lines(path)
    except OSError as error:
        raise ValueError(
            f"cannot use {folder} ({error.strerror}); choose another folder with --out"
        ) from error
    try:
        head, *lines = [parsed_json(one) for one in whole.splitlines()]
        stored, records = head["calibration"], {one["number"]: one for one in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not hold the fields of a calibration ({error}); choose another folder "
            "with --out"
        ) from error
    if "digest" in wanted and stored == {k: v for k, v in wanted.items() if k != "digest"}:
        warn_without_digest(f"the calibration in {folder}", "choose another folder")
        with atomic_path(path) as temporary:
            temporary.write_bytes(_head(wanted) + whole[whole.index(b"\n") + 1 :])
    elif stored != wanted:
        raise ValueError(
            f"the fields in {folder} were made with {_difference(stored, wanted)}; choose another "
            "folder with --out"
        )
    return records


def identity_of(given: Mapping[str, Any] | None, *made_of: Any) -> Mapping[str, Any]:
    """What the caller says that fields are of, or else a digest of what they are made of."""
    return {"digest": digest_of(*made_of)} if given is None else given


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a field that was judged."""
    append_line(folder / FIELDS, json.dumps(record, allow_nan=False))


def _head(identity: Mapping[str, Any]) -> bytes:
    return (json.dumps({"calibration": identity}) + "\n").encode()


def _difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first setting in which two identities differ, in words."""
    for name in sorted(stored.keys() | wanted.keys(), key=lambda name: (name == "digest", name)):
        before, now = stored.get(name), wanted.get(name)
        if before != now:
            if isinstance(before, dict) and isinstance(now, dict):
                return _difference(before, now)
            if name == "digest":
                return "another estimator, other fields or another spectrum"
            return f"{name} = {before}, not {now}"
    return "other settings"
