"""Judged fields on disk, one JSON object a line: an interrupted calibration goes on from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmap.files import atomic_path

FIELDS = "fields.jsonl"


def open_records(folder: Path, identity: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Fields that a folder holds already, by number; the file is made if there is none.

    What an interruption left of a last line is taken away, so that lines can be appended.

    Args:
        folder: made if need be.
        identity: all that decides what field n looks like, as JSON can hold it.

    Raises:
        ValueError: if the folder cannot be used, or holds the fields of another calibration.
    """
    wanted = json.loads(json.dumps(identity))  # as it will be read: tuples become lists
    path = folder / FIELDS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"calibration": wanted}) + "\n", encoding="utf-8")
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"cannot use {folder} ({error.strerror}); choose another folder with --out"
        ) from error
    whole = text[: text.rfind(b"\n") + 1]
    try:
        head, *lines = [json.loads(one) for one in whole.splitlines()]
        stored, records = head["calibration"], {one["number"]: one for one in lines}
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} does not hold the fields of a calibration ({error}); choose another folder "
            "with --out"
        ) from error
    if stored != wanted:
        raise ValueError(
            f"the fields in {folder} were made with {_difference(stored, wanted)}; choose another "
            "folder with --out"
        )
    if whole != text:
        with atomic_path(path) as temporary:
            temporary.write_bytes(whole)
    return records


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a field that was judged."""
    with open(folder / FIELDS, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, allow_nan=False) + "\n")


def _difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first setting in which two identities differ, in words."""
    for name in sorted(stored.keys() | wanted.keys()):
        before, now = stored.get(name), wanted.get(name)
        if before != now:
            if isinstance(before, dict) and isinstance(now, dict):
                return _difference(before, now)
            return f"{name} = {before}, not {now}"
    return "other settings"
