"""``jaxmap replay``: make an output again, from what it says of itself."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap import records
from jaxmap.arrayfiles import read_arrays
from jaxmap.files import sha256_of
from jaxmap.mapfiles import read_mass_map
from jaxmap.outputs import INPUTS, MAP_FILES, each_path, shipped_sha256, write_config
from jaxmap.survey.merge import MAPS
from jaxmap.survey.plan import PLAN

COMMANDS = (
    "map", "detect", "demo", "benchmark", "calibrate", "simulate maps", "simulate survey",
    "dynamics estimate", "dynamics train", "dynamics mock", "dynamics evaluate",
)  # fmt: skip
"""Whose outputs can be made again."""

_IN_FOLDERS = ("mass_map.fits", "report.json", "simulation.json", "detections.ecsv")
_TO_JSON = ("benchmark", "dynamics evaluate")


def run_replay(options: argparse.Namespace) -> int:
    """Run the command that made an output once more, into another place."""
    from jaxmap.cli import main

    record = read_record(options.output)
    command, settings = record["command"], dict(record["settings"])
    if command == "calibrate" and "conformal" in settings:  # what it makes, not what it reads
        settings["conformal"] = str(Path(options.out) / Path(settings["conformal"]).name)
    settings = _moved(settings, _places(record, [Path(path) for path in options.input or ()]))
    _require_networks(record)
    say = (lambda text: None) if options.quiet else print
    for difference in _differences(record):
        say(f"Not as then: {difference}; the result may differ.")
    say(f"Running `jaxmap {command}` with the settings of {options.output}.")
    target = "--json" if command in _TO_JSON else "--out"
    with precision_of(record), tempfile.TemporaryDirectory() as folder:
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
        ValueError: for a file that holds no such record, or of a command with another way to
            repeat it, which is told.
    """
    path = Path(output)
    _refuse_merged(path)
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
        record = records.read_record(path)
    except (OSError, ValueError):
        record = {}
    command = record.get("command")
    if command == "train":
        raise ValueError(
            f"{path} was trained by `jaxmap train`, which goes on from checkpoints of its own; to "
            "train it anew run `jaxmap train CONFIG.toml --out ANOTHER` with the settings that its "
            f"header holds: jaxmap.networks.weights.read_weights({str(path)!r})[1]['training']"
        )
    if command in COMMANDS and isinstance(record.get("settings"), dict):
        return record
    raise ValueError(
        f"{path} does not say how it was made; expected a file that jaxmap {', '.join(COMMANDS)} "
        "wrote"
    )


def _refuse_merged(path: Path) -> None:
    """Maps of a survey come from a plan, which stands beside them."""
    maps = path if path.is_dir() else path.parent
    plan = (maps.absolute().parent if maps.name == MAPS else path) / PLAN
    if plan.is_file():
        raise ValueError(
            f"{path} is of the survey planned in {plan}, whose settings are there under made_by; "
            "to make it anew run `jaxmap survey plan CONFIG.toml --out ANOTHER`, and then "
            f"`jaxmap survey run ANOTHER` and `merge ANOTHER` ({MAPS}/ is written once more by "
            f"`jaxmap survey merge {plan.parent}`)"
        )


def _places(record: dict[str, Any], given: list[Path]) -> dict[str, Path]:
    """Where the files are now that the command read, by where they were.

    Args:
        record: of the output.
        given: files that were moved, or folders of such; they are known by content.

    Raises:
        ValueError: if one of the files is not what it was.
        FileNotFoundError: if one is no longer there.
    """
    known = dict(record.get("files", {}))
    if "input" in record:
        known[record["input"]["path"]] = record["input"]["sha256"]
    names = {Path(name).name for name in known}
    files = [
        file
        for path in given
        for file in ([path / name for name in names] if path.is_dir() else [path])
        if file.is_file() or file == path
    ]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}; say where it is with --input FILE")
    moved = {sha256_of(file): file for file in files}
    return {
        name: moved.get(one) or _unchanged(Path(name), one, files) for name, one in known.items()
    }


def _unchanged(path: Path, known: str, given: list[Path]) -> Path:
    """A file that is where it was, and what it was."""
    if path.is_file() and sha256_of(path) == known:
        return path
    others = sorted(given, key=lambda file: file.name != path.name)
    found = next((file for file in [*others, path] if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"the input {path} is no longer there; say where it is now with --input FILE"
        )
    raise ValueError(
        f"{found} is not the input of then (sha256 {sha256_of(found)[:12]}, expected "
        f"{known[:12]}); say where that is with --input FILE"
    )


def _moved(settings: dict[str, Any], places: dict[str, Path]) -> dict[str, Any]:
    """Settings with files, and folders of files, where they are now."""
    folders = {str(Path(name).parent): place.parent for name, place in places.items()}
    now = {name: str(place.absolute()) for name, place in {**folders, **places}.items()}
    return {
        name: each_path(name, value, lambda path: now.get(path, path))
        if name in INPUTS and isinstance(value, str)
        else value
        for name, value in settings.items()
    }


def _require_networks(record: dict[str, Any]) -> None:
    """Refuse to take another shipped network for that of then."""
    for name, known in record.get("networks", {}).items():
        try:
            digest = shipped_sha256(name)
        except FileNotFoundError:
            digest = "none"
        if digest != known:
            version = record.get("versions", {}).get("jaxmap", "of then")
            raise ValueError(
                f"the network {name} that comes with jaxmap {jaxmap.__version__} is not that of "
                f"then (sha256 {digest[:12]}, expected {known[:12]}); install jaxmap {version}"
            )


@contextmanager
def precision_of(record: dict[str, Any]) -> Iterator[None]:
    """Compute as then; outputs of older versions do not say how."""
    before = jax.config.read("jax_enable_x64")
    if "precision" in record:
        jax.config.update("jax_enable_x64", record["precision"] == "float64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


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
    """A sentence on whether two outputs hold the same; where no one can tell, where to look."""
    maps = [_map_of(Path(place)) for place in (before, after)]
    if all(path.is_file() for path in maps):
        first, second = (np.asarray(read_mass_map(path).convergence) for path in maps)
        if np.array_equal(first, second, equal_nan=True):
            return "The map is the same, bit for bit."
        if first.shape != second.shape:
            return f"The map differs: it has shape {second.shape}, not {first.shape}."
        return f"The map differs, by {np.nanmax(np.abs(first - second)):.2g} at most."
    one, other = _numbers(Path(before)), _numbers(Path(after))
    if one is None or other is None:
        return f"Made {before} again in {after}; whether it is the same is for you to compare."
    differing = [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or not _equal(one[name], other[name])
    ]
    if differing:
        return f"The output differs, in {', '.join(differing)}."
    return "The output is the same, number for number."


def _numbers(path: Path) -> dict[str, np.ndarray] | None:
    """Columns of a table or arrays of weights; None of what has neither."""
    path = next((found for found in (path / "detections.ecsv",) if found.is_file()), path)
    kinds = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits"}
    if not path.is_file() or path.suffix not in (*kinds, ".npz"):
        return None
    if path.suffix == ".npz":
        return {n: v for n, v in read_arrays(path).items() if n not in records.HEADERS}
    from astropy.table import Table

    table = Table.read(path, format=kinds[path.suffix])
    return {name: np.ma.filled(table[name], 0) for name in table.colnames}


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")


def _map_of(place: Path) -> Path:
    folder = place.parent if place.name in MAP_FILES else place
    return folder / "mass_map.fits"
