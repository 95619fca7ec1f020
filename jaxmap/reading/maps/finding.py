"""Which files are meant by a folder, a pattern or a name, and what layout they have."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from jaxmap.reading.maps.layouts import LAYOUTS, Layout


def find_files(path: str, format: str) -> tuple[Layout, list[Path]]:
    """The map files that are meant, in the order of their names, and their layout.

    Hidden files, which may be half-written, do not count. In a folder, and wherever the format is
    to be told from the names, files of other names are passed over.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if no file has a known name, or the names are those of several layouts.
    """
    if format != "auto" and format not in LAYOUTS:
        raise ValueError(f"format={format!r} is not known; expected auto or {', '.join(LAYOUTS)}")
    path = os.path.abspath(os.path.expanduser(path))
    paths = _existing(path)
    if format != "auto" and not os.path.isdir(path):
        return LAYOUTS[format], paths
    layouts = LAYOUTS if format == "auto" else {format: LAYOUTS[format]}
    found: dict[str, list[Path]] = {}
    for each in paths:
        for name, layout in layouts.items():
            if layout.has_name(each):
                found.setdefault(name, []).append(each)
                break
    if not found:
        others = ", ".join(each.name for each in paths[:3]) or "nothing"
        raise ValueError(
            f"no file at {path} is named like maps of {' or '.join(layouts)} (found {others}); "
            "give format=... and a pattern for the files"
        )
    if len(found) > 1:
        kinds = ", ".join(f"{name} ({len(f)}, as {f[0].name})" for name, f in found.items())
        raise ValueError(f"{path} holds maps of several formats: {kinds}; choose by format=...")
    ((name, chosen),) = found.items()
    return LAYOUTS[name], chosen


def _existing(path: str) -> list[Path]:
    if os.path.isdir(path):
        pattern = os.path.join(glob.escape(path), "**")
    elif os.path.lexists(path):
        return [Path(path)]
    else:
        pattern = path
    found = (Path(name) for name in glob.iglob(pattern, recursive=True))
    paths = sorted(each for each in found if not each.is_dir())
    if not paths and not os.path.isdir(path):
        raise FileNotFoundError(f"there is no file or folder {path}; check the name")
    return paths
