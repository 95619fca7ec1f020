"""What a command leaves behind: its files, all or none, and how they came to be."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

import jaxmap
from jaxmap import plot
from jaxmap.catalog import ShearCatalog
from jaxmap.files import atomic_path, folders_for
from jaxmap.mapfiles import read_provenance, write_mass_map, write_samples
from jaxmap.massmap import MassMap

_FILES = (
    "catalog", "case", "map", "nz", "spectrum", "conformal", "match", "weights", "mask_from"
)  # fmt: skip
MAP_FILES = ("mass_map.fits", "mass_map.png", "samples.nc")
ALL_MAPS = "mass_maps.png"
DETECTION_FILES = ("detections.ecsv", "detections.reg")


def origin(
    options: argparse.Namespace, source: Path | None, num_galaxies: int | None = None
) -> dict[str, Any]:
    """What made this output: settings, versions, and the hash of the input."""
    record: dict[str, Any] = {
        "command": options.command,
        "settings": settings(options),
        "versions": {"jaxmap": jaxmap.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].platform,
    }
    if source is not None:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        record["input"] = {"path": str(source.absolute()), "sha256": digest}
    if num_galaxies is not None:
        record["num_galaxies"] = num_galaxies
    return record


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that, given as a configuration, repeat this run."""
    aside = ("command", "run", "config", "quiet", "verbose", "out", "json")
    chosen = {}
    for name, value in vars(options).items():
        if value is None or value == {} or name in aside:
            continue
        if isinstance(value, dict):
            value = ",".join(f"{key}={item}" for key, item in value.items())
        elif name in _FILES:
            value = str(Path(value).absolute())
        elif name in ("size", "sky") and isinstance(value, tuple):
            value = f"{value[1]}x{value[0]}"
        elif isinstance(value, tuple):
            value = list(value)
        chosen[name] = value
    return chosen


def write_config(path: Path, chosen: dict[str, Any]) -> None:
    """Settings as TOML; JSON values of these kinds are TOML values too."""
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in chosen.items())
    path.write_text("".join(lines), encoding="utf-8", errors="replace")


def write_map_files(
    folder: Path,
    result: MassMap,
    provenance: dict[str, Any],
    title: str,
    truth: jax.Array | None = None,
) -> None:
    """The map as FITS, its samples as NetCDF, and (with matplotlib) its picture."""
    # The samples go to a file of their own, where one can be read without the others.
    write_mass_map(folder / "mass_map.fits", replace(result, samples=None), provenance)
    if result.samples is not None:
        write_samples(folder / "samples.nc", result, provenance)
    try:
        plot.plot_mass_map(result, title, truth).savefig(folder / "mass_map.png", dpi=130)
    except Exception as error:  # a map is not lost for want of its picture
        (folder / "mass_map.png").unlink(missing_ok=True)
        print(f"jaxmap: no picture: {error}", file=sys.stderr)


def write_picture_of_all(folder: Path, maps: Mapping[str, MassMap], title: str) -> None:
    """Several maps in one picture (with matplotlib), which says in its metadata whose it is."""
    software = {"Software": f"jaxmap {jaxmap.__version__}"}
    try:
        with atomic_path(folder / ALL_MAPS) as temporary:
            plot.plot_mass_maps(maps, title).savefig(temporary, dpi=130, metadata=software)
    except Exception as error:
        (folder / ALL_MAPS).unlink(missing_ok=True)
        print(f"jaxmap: no picture: {error}", file=sys.stderr)


def check_picture_of_all(folder: Path) -> None:
    """Refuse to replace a picture of that name that jaxmap did not draw."""
    path = folder / ALL_MAPS
    ours = path.is_file() and b"Software\0jaxmap " in path.read_bytes()
    if os.path.lexists(path) and not ours:
        raise ValueError(
            f"{folder} holds {ALL_MAPS} that jaxmap did not write; choose another folder with --out"
        )


def write_catalog(path: Path, catalog: ShearCatalog) -> None:
    from astropy.table import Table

    columns = {
        "ra": catalog.ra_deg,
        "dec": catalog.dec_deg,
        "e1": catalog.ellipticity.real,
        "e2": catalog.ellipticity.imag,
        "weight": catalog.weight,
    }
    if catalog.z is not None:
        columns["z"] = catalog.z
    Table(columns).write(path)


@contextmanager
def staged(
    out: Path, names: Collection[str], inputs: Iterable[str | Path | None] = ()
) -> Iterator[Path]:
    """A folder to write in, whose files move to ``out`` together once all are whole.

    Enter it before the work, so that a folder that cannot be written to is found then.

    Args:
        out: the folder of the user's choice; it may hold an older map, which is replaced.
        names: the files that may come; older ones of these names that do not come are removed.
        inputs: files of the user's that must stay as they are; None is passed over.

    Raises:
        ValueError: if the folder cannot be written to, holds files of these names that jaxmap did
            not write, or holds an input of that name.
    """
    folder = _new_folder(out, names, inputs)
    try:
        yield folder
        with folders_for(out):
            new = {path.name for path in folder.iterdir()}
            for name in new:
                os.replace(folder / name, out / name)
            for stale in set(names) - new:
                (out / stale).unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_folder(
    out: Path, names: Collection[str], inputs: Iterable[str | Path | None] = ()
) -> None:
    """Refuse now what `staged` would refuse later; arguments and errors are those of it."""
    _new_folder(out, names, inputs).rmdir()


def _new_folder(out: Path, names: Collection[str], inputs: Iterable[str | Path | None]) -> Path:
    targets = {(out / name).resolve() for name in names}
    for source in inputs:
        if source is not None and Path(source).resolve() in targets:
            raise ValueError(f"{source} would be overwritten; choose another folder with --out")
    foreign = sorted(name for name in names if os.path.lexists(out / name))
    if foreign and not _is_ours(out):
        raise ValueError(
            f"{out} holds {', '.join(foreign)} that jaxmap did not write; choose another folder "
            "with --out"
        )
    try:
        # Inside the folder if it is there, for it may be on a file system of its own.
        base = out if out.is_dir() else next(f for f in out.absolute().parents if f.exists())
        if os.path.lexists(out) and not out.is_dir():
            raise NotADirectoryError(0, "it is a file")
        return Path(tempfile.mkdtemp(dir=base, prefix=".jaxmap-"))
    except OSError as error:
        raise ValueError(
            f"cannot write in {out} ({error.strerror}); choose another folder with --out"
        ) from error


def partial_samples(out: Path, record: dict[str, Any]) -> Path:
    """Where samples of this very run are kept while they are drawn."""
    text = json.dumps(record, sort_keys=True)
    return out / f"samples-{hashlib.sha256(text.encode()).hexdigest()[:12]}.partial"


@contextmanager
def kept_if_interrupted(drawn: Path) -> Iterator[None]:
    """Say, of an interrupted run, what it leaves to go on from."""
    try:
        yield
    except KeyboardInterrupt:
        if not drawn.exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; the samples drawn so far are in {drawn}, and the same command goes on "
            "from them (or remove that folder)"
        ) from None


def _is_ours(out: Path) -> bool:
    """Whether a folder holds a map or detections that jaxmap wrote."""
    table = out / "detections.ecsv"
    if table.is_file():
        with table.open(encoding="utf-8", errors="replace") as file:
            if any("jaxmap:" in line for line in itertools.takewhile(_is_comment, file)):
                return True
    try:
        read_provenance(out / "mass_map.fits")
    except (OSError, ValueError):
        return False
    return True


def _is_comment(line: str) -> bool:
    return line.startswith("#")
