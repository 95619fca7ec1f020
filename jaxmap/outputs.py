"""What a command leaves behind: its files, all or none, and how they came to be."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jax

import jaxmap
from jaxmap import plot
from jaxmap.arrayfiles import json_of, read_arrays
from jaxmap.catalog import ShearCatalog
from jaxmap.cluster_network import SHIPPED as CLUSTER_NETWORK
from jaxmap.denoiser_files import SHIPPED as DENOISER
from jaxmap.files import folders_for, sha256_of
from jaxmap.flags import METHODS
from jaxmap.mapfiles import write_mass_map, write_samples
from jaxmap.massmap import MassMap
from jaxmap.networks.weights import HEADER
from jaxmap.records import BEARING, is_ours

INPUTS = (
    "catalog", "case", "map", "nz", "spectrum", "conformal", "match", "weights", "mask_from",
    "galaxies",
)  # fmt: skip
"""Flags that name what is read."""

MAP_FILES = ("mass_map.fits", "mass_map.png", "samples.nc")
ALL_MAPS = "mass_maps.png"
DETECTION_FILES = ("detections.ecsv", "detections.reg")
SHIPPED_NETWORKS = {"deepmass": DENOISER, "dlposterior": DENOISER, "hong": CLUSTER_NETWORK}
"""Files in ``jaxmap/data`` of methods that have a network unless given another."""


def origin(
    options: argparse.Namespace,
    source: Path | None,
    num_galaxies: int | None = None,
    others: Iterable[Path] = (),
) -> dict[str, Any]:
    """What made this output: settings, versions, precision, and hashes of all that is read.

    Args:
        options: of the command.
        source: its main input, if there is one.
        num_galaxies: read from it.
        others: files that are read and that no flag names.
    """
    record: dict[str, Any] = {
        "command": options.command,
        "settings": settings(options),
        "versions": {"jaxmap": jaxmap.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].platform,
        "precision": precision(),
    }
    if source is not None:
        record["input"] = {"path": str(source.absolute()), "sha256": sha256_of(source)}
    if num_galaxies is not None:
        record["num_galaxies"] = num_galaxies
    return record | also_read(options, source, others)


def also_read(
    options: argparse.Namespace, source: Path | None, others: Iterable[Path] = ()
) -> dict[str, dict[str, str]]:
    """Hashes of the files beside the main input, and of the networks that come with jaxmap."""
    read = {path.absolute() for path in [*input_files(options), *others] if path.is_file()}
    if source is not None:
        read.discard(source.absolute())
    return {
        "files": {str(path): sha256_of(path) for path in sorted(read)},
        "networks": {name: shipped_sha256(name) for name in _networks_taken(options)},
    }


def precision() -> str:
    return "float64" if jax.config.read("jax_enable_x64") else "float32"


def shipped_sha256(name: str) -> str:
    """Hash of the arrays of a network that comes with jaxmap, by its name in ``jaxmap/data``.

    Raises:
        ValueError: for a name that leads elsewhere.
        FileNotFoundError: if there is no such network.
    """
    if not re.fullmatch(r"(dynamics/)?\w[\w.-]*", name):
        raise ValueError(
            f"{name[:60]!r} is no name of a network that comes with jaxmap; expected one such as "
            f"{DENOISER} or dynamics/m_sigma_pure.npz"
        )
    with resources.as_file(resources.files("jaxmap") / "data" / name) as path:
        return json_of(read_arrays(path, names=(HEADER,))[HEADER])["sha256"]


def _networks_taken(options: argparse.Namespace) -> list[str]:
    """The shipped networks that a command takes."""
    weights = getattr(options, "weights", None)
    if options.command == "dynamics train" or (weights and not isinstance(weights, dict)):
        return []
    if options.command.startswith("dynamics"):
        chosen = getattr(options, "models", None) or [getattr(options, "model", None)]
        return [f"dynamics/{model}.npz" for model in chosen if model]
    chosen = getattr(options, "methods", None) or getattr(options, "method", None) or ()
    methods = set([chosen] if isinstance(chosen, str) else chosen) - set(weights or ())
    return sorted({SHIPPED_NETWORKS[method] for method in methods & SHIPPED_NETWORKS.keys()})


def input_files(options: argparse.Namespace) -> list[Path]:
    """Every file or folder that flags tell a command to read, but for the configuration."""
    made = {"conformal"} if options.command == "calibrate" else set()
    names = [name for name in INPUTS if name not in made]
    found: list[Path] = []

    def keep(path: str) -> str:
        found.append(Path(path).expanduser())
        return path

    for name in names:
        value = getattr(options, name, None)
        for one in value.values() if isinstance(value, dict) else [value] if value else []:
            each_path(name, str(one), keep)
    return found


def each_path(name: str, value: str, change: Callable[[str], str]) -> str:
    """The value of a flag of `INPUTS` with its path changed.

    ``--weights`` may hold several with commas between them, and ``METHOD=`` before one.
    """
    if name != "weights":
        return change(value)
    part = re.compile(rf"((?:^|,)(?:(?:{'|'.join(METHODS)})=)?)([^,]+)")
    return part.sub(lambda found: found[1] + change(found[2]), value)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that, given as a configuration, repeat this run."""
    aside = ("command", "run", "config", "quiet", "verbose", "out", "json")
    chosen = {}
    for name, value in vars(options).items():
        if value is None or value == {} or name in aside:
            continue
        if isinstance(value, dict):
            value = ",".join(f"{key}={item}" for key, item in value.items())
        elif name in INPUTS:
            value = each_path(name, str(value), lambda path: str(Path(path).absolute()))
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
        figure = plot.plot_mass_map(result, title, truth)
        plot.save_picture(folder / "mass_map.png", figure, provenance, dpi=130)
    except Exception as error:  # a map is not lost for want of its picture
        print(f"jaxmap: no picture: {error}", file=sys.stderr)


def write_picture_of_all(
    folder: Path, maps: Mapping[str, MassMap], title: str, record: dict[str, Any]
) -> None:
    """Several maps in one picture (with matplotlib)."""
    try:
        plot.save_picture(folder / ALL_MAPS, plot.plot_mass_maps(maps, title), record, dpi=130)
    except Exception as error:
        (folder / ALL_MAPS).unlink(missing_ok=True)
        print(f"jaxmap: no picture: {error}", file=sys.stderr)


def write_catalog(path: Path, catalog: ShearCatalog, record: dict[str, Any] | None = None) -> None:
    """Galaxies as a FITS table, with a record of how they came to be in its header."""
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
    Table(columns, meta={"jaxmap": json.dumps(record or {})}).write(path)


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
    require_writable([out / name for name in names], inputs, "choose another folder with --out")
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


def partial_folder(out: Path, what: str, record: dict[str, Any]) -> Path:
    """Where this very run, and no other, keeps what it has made so far."""
    text = json.dumps(record, sort_keys=True)
    return out / f"{what}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.partial"


@contextmanager
def kept_if_interrupted(folder: Path, what: str) -> Iterator[None]:
    """Say, of an interrupted run, what it leaves to go on from, and where."""
    try:
        yield
    except KeyboardInterrupt:
        if not folder.exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; the {what} so far are in {folder}, and the same command goes on "
            "from them (or remove that folder)"
        ) from None


def require_writable(
    targets: Collection[Path],
    inputs: Iterable[str | Path | None],
    remedy: str = "choose another name with --out",
) -> None:
    """Refuse, before the work, to write over an input or over what jaxmap did not write.

    Args:
        targets: files that will be written and belong together; those of kinds that hold no record
            (pictures) count as ours beside one that does.
        inputs: files of the user's that must stay as they are; None is passed over.
        remedy: what to do instead.

    Raises:
        ValueError: if one of the targets is an input, or not ours.
    """
    places = {path.resolve() for path in targets}
    for source in inputs:
        if source is not None and Path(source).resolve() in places:
            raise ValueError(f"{source} would be overwritten; {remedy}")
    there = [path for path in targets if os.path.lexists(path)]
    ours = {path for path in there if is_ours(path)}
    foreign = [path for path in there if path not in ours and (not ours or path.suffix in BEARING)]
    if foreign:
        names = ", ".join(sorted(path.name for path in foreign))
        raise ValueError(f"{foreign[0].parent} holds {names} that jaxmap did not write; {remedy}")
