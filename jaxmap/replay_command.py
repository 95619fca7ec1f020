"""``jaxmap replay``: make an output again, from what it says of itself."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import jaxmap
from jaxmap import records
from jaxmap.comparison import compare_files
from jaxmap.files import sha256_of
from jaxmap.outputs import ALL_MAPS, INPUTS, each_path, shipped_sha256, write_config
from jaxmap.reading.tableformats import listed
from jaxmap.survey.merge import MAPS
from jaxmap.survey.plan import PLAN

COMMANDS = (
    "map", "detect", "demo", "benchmark", "calibrate", "simulate maps", "simulate survey",
    "dynamics estimate", "dynamics train", "dynamics mock", "dynamics evaluate",
)  # fmt: skip
"""Whose outputs can be made again."""

_IN_FOLDERS = ("mass_map.fits", ALL_MAPS, "report.json", "simulation.json", "detections.ecsv")
"""Which say how the other files of a folder were made, the first of them that is there."""

_TO_JSON = ("benchmark", "dynamics evaluate")


def run_replay(options: argparse.Namespace) -> int:
    """Run the command that made an output once more, into another place."""
    from jaxmap.cli import main

    path, record = _recorded(Path(options.output))
    _refuse_itself(path, Path(options.out))
    command, settings = record["command"], dict(record["settings"])
    if command == "calibrate" and "conformal" in settings:  # what it makes, not what it reads
        settings["conformal"] = str(Path(options.out) / Path(settings["conformal"]).name)
    settings = _moved(settings, _places(record, [Path(path) for path in options.input or ()]))
    _require_networks(record)
    say = (lambda text: None) if options.quiet else print
    for difference in _differences(record, options.deterministic):
        say(f"Not as then: {difference}; the result may differ.")
    say(f"Running `jaxmap {command}` with the settings of {options.output}.")
    target = "--json" if command in _TO_JSON else "--out"
    there = _changes(Path(options.out))
    with precision_of(record), tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        write_config(config, settings)
        quiet = ["--quiet"] if options.quiet else []
        code = main([*command.split(), "--config", str(config), target, options.out, *quiet])
    if code == 0 and not options.quiet:
        written = [file for file, when in _changes(Path(options.out)).items()
                   if there.get(file) != when]  # fmt: skip
        say(compare(path, options.out, written or None))
    return code


def _refuse_itself(output: Path, out: Path) -> None:
    """An output that is written over can no longer be compared."""
    there = out.resolve()
    if there in (output.resolve(), *output.resolve().parents[:2]):
        raise ValueError(
            f"--out is {out}, where the output of then lies, which would be lost before it is "
            "compared; choose another place"
        )


def read_record(output: str | Path) -> dict[str, Any]:
    """What an output says of the command that made it.

    Args:
        output: a file that a command of `COMMANDS` wrote, or the folder with it.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: for a file that holds no such record, or of a command with another way to
            repeat it, which is told.
    """
    return _recorded(Path(output))[1]


def _recorded(path: Path) -> tuple[Path, dict[str, Any]]:
    """The record of an output, and the file that it stands in."""
    _refuse_merged(path)
    if path.is_dir():
        path = _file_in(path)
    elif not path.exists():
        raise FileNotFoundError(f"there is no {path}; give a file that jaxmap wrote, or its folder")
    try:
        record = records.read_record(path)
        records.check_record(record)
    except ValueError as error:
        raise ValueError(
            f"{path} does not say how it was made: {error}; give another file of the same output"
        ) from error
    command = record.get("command")
    if command == "train":
        raise ValueError(
            f"{path} was made by `jaxmap train`, which goes on from checkpoints of its own; to "
            "train it anew run `jaxmap train CONFIG.toml --out ANOTHER` with the settings that it "
            f"holds: jaxmap.records.read_record(pathlib.Path({str(path)!r}))['settings']"
        )
    if command == "survey plan":
        raise ValueError(
            f"{path} is of a survey; to make it anew run `jaxmap survey plan CONFIG.toml --out "
            "ANOTHER` with the settings that it holds: "
            f"jaxmap.records.read_record(pathlib.Path({str(path)!r}))['settings'], and then "
            "`jaxmap survey run ANOTHER` and `merge ANOTHER`"
        )
    if command in COMMANDS and "settings" in record:
        return path, record
    raise ValueError(
        f"{path} does not say how it was made; expected a file that jaxmap {', '.join(COMMANDS)} "
        "wrote"
    )


def _record_of(path: Path) -> dict[str, Any]:
    """What a file says of its origin, nothing where it does not."""
    try:
        return records.read_record(path)
    except (OSError, ValueError):
        return {}


def _file_in(folder: Path) -> Path:
    """The file of a folder that says how its output was made."""
    found = [folder / name for name in _IN_FOLDERS if (folder / name).is_file()]
    if found:
        return found[0]
    made = {
        path: _job(record)
        for path in sorted(folder.iterdir())
        if path.is_file() and "command" in (record := _record_of(path))
    }
    if not made:
        raise ValueError(
            f"{folder} holds none of {', '.join(_IN_FOLDERS)}, nor another file that says how it "
            "was made; give a file that jaxmap wrote"
        )
    first, *others = made
    if any(made[other] != made[first] for other in others):
        names = listed([path.name for path in made], 8)
        raise ValueError(f"{folder} holds outputs of several commands ({names}); give one of them")
    return first


def _job(record: dict[str, Any]) -> tuple[Any, Any]:
    """What all files of one output have in common."""
    return record.get("command"), record.get("settings")


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


def _differences(record: dict[str, Any], deterministic: bool | None) -> list[str]:
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
    if (then_so := record["settings"].get("deterministic")) != deterministic:
        flag = {None: "neither", True: "--deterministic", False: "--no-deterministic"}
        found.append(f"{flag[deterministic]}, was {flag[then_so]} (replay takes these flags too)")
    return found


def compare(before: str | Path, after: str | Path, written: Collection[Path] | None = None) -> str:
    """Sentences on what two outputs have in common, and where they differ by how much.

    Args:
        before: a file of the output, or the folder with it.
        after: the file or the folder that was made again.
        written: the files in it that were; all that jaxmap wrote if None.
    """
    before, after = Path(before), Path(after)
    if before.is_dir():
        before = _file_in(before)
    if after.is_file():
        return compare_files({after.name: (before, after)})
    # The file of then may lie in a folder of its own inside the output.
    root = next(
        (one for one in before.parents[:2] if (after / before.relative_to(one)).is_file()),
        before.parent,
    )
    job = _job(_record_of(before))
    jobs = {
        path.relative_to(root): _job(found)
        for path in _files(root)
        if after.resolve() not in path.resolve().parents
        and (path.parent == root or (after / path.relative_to(root)).parent.is_dir())
        and "command" in (found := _record_of(path))
    }
    then = {path for path, made in jobs.items() if made == job}
    now = {path.relative_to(after) for path in written or _files(after) if records.is_ours(path)}
    pairs = {
        str(name): (
            root / name if (root / name).is_file() else None,
            after / name if (after / name).is_file() else None,
        )
        for name in then | now
    }
    said = compare_files(pairs)
    if others := sorted(str(path) for path in jobs.keys() - then - now):
        said += f"\nNot compared, for made with other settings: {listed(others, 8)}."
    return said


def _files(folder: Path) -> list[Path]:
    """Those of an output: in its folder, and in folders of single fields or methods."""
    return [path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.is_file()]


def _changes(folder: Path) -> dict[Path, int]:
    """Files of a folder, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in _files(folder)}
