"""``jaxmap replay``: make an output again, from what it says of itself."""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap.mapfiles import read_mass_map, read_provenance
from jaxmap.outputs import write_config

COMMANDS = ("map", "detect", "demo", "benchmark", "calibrate", "simulate maps", "simulate survey")
"""Whose outputs can be made again."""

_IN_FOLDERS = ("mass_map.fits", "report.json", "simulation.json", "detections.ecsv")
_INPUTS = ("catalog", "map", "case", "mask_from")


def run_replay(options: argparse.Namespace) -> int:
    """Run the command that made an output once more, into another place."""
    from jaxmap.cli import main

    record = read_record(options.output)
    command = record["command"]
    settings = dict(record["settings"])
    if "input" in record:
        known = record["input"]
        place = _same_input(options.input or known["path"], known["sha256"])
        settings |= {name: str(place) for name in _INPUTS if name in settings}
    say = (lambda text: None) if options.quiet else print
    for difference in _differences(record):
        say(f"Not as then: {difference}; the result may differ.")
    say(f"Running `jaxmap {command}` with the settings of {options.output}.")
    target = "--json" if command == "benchmark" else "--out"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        write_config(config, settings)
        quiet = ["--quiet"] if options.quiet else []
        code = main([*command.split(), "--config", str(config), target, options.out, *quiet])
    if code == 0:
        say(compare(options.output, options.out))
    return code


def read_record(output: str | Path) -> dict[str, Any]:
    """What an output says of the command that made it.

    Args:
        output: a file that a command of `COMMANDS` wrote, or the folder with it.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: for a file that holds no such record.
    """
    path = Path(output)
    if path.is_dir():
        found = [path / name for name in _IN_FOLDERS if (path / name).exists()]
        if not found:
            raise ValueError(
                f"{path} holds none of {', '.join(_IN_FOLDERS)}; give a file that jaxmap wrote"
            )
        path = found[0]
    elif not path.exists():
        raise FileNotFoundError(f"there is no {path}; give a file that jaxmap wrote, or its folder")
    try:
        record = _READERS[path.suffix](path)
        record = record.get("made_by", record)
        if record["command"] in COMMANDS and isinstance(record["settings"], dict):
            return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(
        f"{path} does not say how it was made; expected a map, samples, figures or simulation that "
        f"jaxmap {', '.join(COMMANDS)} wrote"
    )


def _of_simulation(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path) as file:
        return json.loads(file.attrs["record"])


def _of_table(path: Path) -> dict[str, Any]:
    from astropy.table import Table

    return Table.read(path, format="ascii.ecsv").meta["jaxmap"]


_READERS = {
    ".fits": read_provenance,
    ".nc": read_provenance,
    ".h5": _of_simulation,
    ".ecsv": _of_table,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
}


def _same_input(path: str, known: str) -> Path:
    """The input, if it is what it was."""
    place = Path(path).expanduser()
    if not place.is_file():
        raise FileNotFoundError(
            f"the input {place} is no longer there; say where it is now with --input FILE"
        )
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != known:
        raise ValueError(
            f"{place} is not the input of then (sha256 {digest[:12]}, was {known[:12]}); say where "
            "that is with --input FILE"
        )
    return place


def _differences(record: dict[str, Any]) -> list[str]:
    now = {"jaxmap": jaxmap.__version__, "jax": jax.__version__}
    then = record.get("versions", {})
    found = [
        f"{name} {version}, was {then[name]}"
        for name, version in now.items()
        if then.get(name, version) != version
    ]
    device = jax.devices()[0].platform
    if record.get("device", device) != device:
        found.append(f"device {device}, was {record['device']}")
    return found


def compare(before: str | Path, after: str | Path) -> str:
    """A sentence on whether two outputs hold the same map; on others, where to look."""
    found = [path for place in (before, after) if (path := _map_beside(Path(place))).exists()]
    if len(found) < 2:
        return f"Made {before} again in {after}; whether it is the same is for you to compare."
    first, second = (np.asarray(read_mass_map(path).convergence) for path in found)
    if np.array_equal(first, second, equal_nan=True):
        return "The map is the same, bit for bit."
    if first.shape != second.shape:
        return f"The map differs: it has shape {second.shape}, not {first.shape}."
    return f"The map differs, by {np.nanmax(np.abs(first - second)):.2g} at most."


def _map_beside(place: Path) -> Path:
    return (place if place.is_dir() else place.parent) / "mass_map.fits"
