"""What a command leaves behind: its files, all or none, and how they came to be."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

import jaxmap
from jaxmap.catalog import ShearCatalog
from jaxmap.mapfiles import write_mass_map, write_samples
from jaxmap.massmap import MassMap

OUTPUTS = ("mass_map.fits", "mass_map.png", "samples.nc", "config.toml")


def check_out(out: Path) -> None:
    """Refuse an output folder that cannot be, before any work is done."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; expected a folder for --out")
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise ValueError(f"cannot write in {parent}; choose another folder with --out")


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
    aside = ("command", "config", "quiet", "verbose", "out", "json")
    chosen = {}
    for name, value in vars(options).items():
        if value is None or name in aside:
            continue
        if name in ("catalog", "case", "nz", "spectrum"):
            value = str(Path(value).absolute())
        elif name == "size":
            value = f"{value[1]}x{value[0]}"
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, dict):
            value = ",".join(f"{role}={column}" for role, column in value.items())
        chosen[name] = value
    return chosen


def write_map(
    out: Path, result: MassMap, provenance: dict[str, Any], options: argparse.Namespace
) -> list[str]:
    """Write everything a map leaves in ``out``; returns the names of the files."""
    with staged(out) as folder:
        write_map_files(
            folder, result, provenance, f"{Path(options.catalog).name}, {options.method}"
        )
        # JSON values of these kinds are TOML values too.
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in provenance["settings"].items())
        (folder / "config.toml").write_text("".join(lines))
        return sorted(path.name for path in folder.iterdir())


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
        from jaxmap.plot import plot_mass_map

        plot_mass_map(result, title, truth).savefig(folder / "mass_map.png", dpi=130)
    except ImportError as error:
        print(f"jaxmap: no picture: {error}", file=sys.stderr)


def write_catalog(path: Path, catalog: ShearCatalog) -> None:
    from astropy.table import Table

    columns = {
        "ra": catalog.ra_deg,
        "dec": catalog.dec_deg,
        "e1": catalog.ellipticity.real,
        "e2": catalog.ellipticity.imag,
        "weight": catalog.weight,
    }
    Table(columns).write(path)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder to write in, whose files move to ``out`` together once all are whole."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}-"))
    try:
        yield folder
        out.mkdir(exist_ok=True)
        new = {path.name for path in folder.iterdir()}
        for stale in set(OUTPUTS) - new:
            (out / stale).unlink(missing_ok=True)
        for name in new:
            os.replace(folder / name, out / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
