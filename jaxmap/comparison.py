"""What two outputs hold, compared file by file: every plane, column, array and figure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmap.arrayfiles import json_of, parsed_json, plain_errors, read_arrays, read_json
from jaxmap.hdf5files import attribute, check_dataset
from jaxmap.machine import check_memory
from jaxmap.plot import picture_chunks
from jaxmap.reading.tableformats import listed, text_columns
from jaxmap.records import HEADERS, table_meta

Contents = dict[str, np.ndarray]
"""Everything in a file that its command computed, by name."""

_RECORDS = ("made_by", "training", "about", "jaxmap", "before")
_RECORD = (
    "command", "settings", "versions", "device", "precision", "input", "num_galaxies", "files",
    "networks",
)  # fmt: skip
"""What outputs say of how they were made, inside such a table or beside their figures."""

_TIMES = frozenset(("seconds", "milliseconds", "time", "date"))
"""In the names of figures that no two runs share."""

_SKY = re.compile(r"(CRVAL|CRPIX|CDELT|CTYPE|CUNIT|CD|PC|LONPOLE|LATPOLE|RADESYS)[\d_]*$").match
"""Cards of a FITS header that say where a map lies."""

ROUNDING = 1e-4
"""Of the largest value; threads that add up in another order move maps by less, in float32."""

_SHOWN = 8


class Difference(NamedTuple):
    """In what two files differ, in words, and whether by so little that rounding may be why."""

    text: str
    rounding: bool = False


def compare_files(pairs: dict[str, tuple[Path | None, Path | None]]) -> str:
    """Sentences on which files are the same, and which differ in what and by how much.

    Args:
        pairs: of each name the file of then and that of now; None where there is none.
    """
    same, said, rounded = [], [], False
    for name, (before, after) in sorted(pairs.items()):
        if before is None or after is None:
            said.append(f"{name} is there only {'now' if before is None else 'before'}.")
            continue
        try:
            differing = differences(before, after)
        except ValueError as error:
            said.append(f"{name} cannot be compared: {error}.")
            continue
        if differing:
            only = all(one.rounding for one in differing)
            rounded |= only
            texts = [one.text for one in differing]
            how = " by rounding alone" if only else ""
            said.append(f"{name} differs{how}: {listed(texts, _SHOWN)}.")
        else:
            same.append(name)
    if rounded:
        said.append("Machines, versions and, with --no-deterministic, threads round differently.")
    if same:
        said.append(f"The same, bit for bit: {listed(same, _SHOWN)}.")
    return "\n".join(said) or "There is nothing to compare."


def differences(before: Path, after: Path) -> list[Difference]:
    """In what two files of one kind differ; times and dates excepted.

    Raises:
        ValueError: if one of them cannot be read.
    """
    one, other = contents_of(before), contents_of(after)
    found = (
        _difference(name, one.get(name), other.get(name)) for name in {**one, **other}
    )  # in their order
    return [difference for difference in found if difference]


def contents_of(path: Path) -> Contents:
    """All that a file holds, but for what it says of its origin.

    Raises:
        ValueError: if it cannot be read.
    """
    with plain_errors():
        found = _READERS.get(path.suffix, _bytes)(path)
    return {
        name: values.astype(str) if values.dtype.kind == "O" else values
        for name, values in found.items()
    }


def _difference(name: str, one: np.ndarray | None, other: np.ndarray | None) -> Difference | None:
    if one is None or other is None:
        return Difference(f"{name} is there only {'now' if one is None else 'before'}")
    if one.shape != other.shape:
        return Difference(f"{name} has shape {other.shape}, not {one.shape}")
    if one.dtype == other.dtype and one.tobytes() == other.tobytes():
        return None
    if one.dtype.kind not in "biufc" or other.dtype.kind not in "biufc":
        short = not one.ndim and len(f"{one}{other}") <= 60
        return Difference(f"{name} is {other}, not {one}" if short else name)
    known = np.isfinite(one) & np.isfinite(other)
    most = np.abs(np.where(known, one, 0) - 1.0 * np.where(known, other, 0)).max(initial=0)
    text = f"{name} by {most:.2g} at most" if one.ndim else f"{name} by {most:.2g}"
    largest = np.abs(np.where(known, one, 0)).max(initial=0)
    rounding = one.dtype.kind in "fc" and bool(most <= ROUNDING * largest)
    if one.dtype != other.dtype:
        text, rounding = f"{text} ({other.dtype}, not {one.dtype})", False
    if not np.array_equal(one[~known], other[~known], equal_nan=one.dtype.kind in "fc"):
        text, rounding = f"{text} and where it is finite", False
    return Difference(text, rounding)


def _of_fits(path: Path) -> Contents:
    from astropy.io import fits

    found: Contents = {}
    how: dict[str, Any] = {"memmap": False, "disable_image_compression": True}
    with open(path, "rb") as stream, fits.open(stream, **how) as hdus:
        remedy = "is it what it should be? Use a larger machine"
        check_memory(sum(hdu.size for hdu in hdus), f"reading {path}", remedy, host=True)
        for number, hdu in enumerate(hdus):
            plane = hdu.name if hdu.name not in found else f"{hdu.name}, number {number}"
            if hdu.name == "PROVENANCE":
                for name in ("grid", "diagnostics"):
                    found |= _flat(parsed_json(hdu.data[name][0]), name)
            elif isinstance(hdu, fits.BinTableHDU):
                columns = hdu.columns.names
                found |= {f"{hdu.name} {one}".strip(): np.array(hdu.data[one]) for one in columns}
            elif hdu.data is not None:
                found[plane] = np.array(hdu.data)
                found |= _flat({name: hdu.header[name] for name in hdu.header if _SKY(name)}, plane)
    return found


def _of_hdf5(path: Path) -> Contents:
    import h5py

    found: Contents = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            check_dataset(node, path)
            found[name] = np.asarray(node[()])

    with h5py.File(path) as file:
        file.visititems(keep)
        for name in ("grid", "diagnostics"):
            if (text := attribute(file, name)) is not None:
                found |= _flat(parsed_json(text), name)
    return found


def _of_archive(path: Path) -> Contents:
    arrays = read_arrays(path)
    headers = [json_of(arrays.pop(name)) for name in HEADERS if name in arrays]
    return arrays | {name: one for header in headers for name, one in _figures(header).items()}


def _of_ecsv(path: Path) -> Contents:
    return _figures(table_meta(path)) | _columns(path, "ECSV")


def _of_csv(path: Path) -> Contents:
    return _columns(path, "CSV")


def _columns(path: Path, kind: str) -> Contents:
    columns = text_columns(path, kind, allow_empty=True)
    found: Contents = {}
    for name, values in columns.load(columns.names).items():
        found[name] = np.ma.filled(values, 0)
        found[f"gaps of {name}"] = np.ma.getmaskarray(np.ma.asanyarray(values))
    return found


def _of_json(path: Path) -> Contents:
    return _figures(read_json(path))


def _of_picture(path: Path) -> Contents:
    pixels = hashlib.sha256()
    for kind, content in picture_chunks(path):
        if kind == b"IDAT":
            pixels.update(content)
    return {"the picture": np.array(pixels.hexdigest())}


def _of_regions(path: Path) -> Contents:
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = (line for line in lines if not line.startswith("#"))
    return {"what they are": np.array("\n".join(kept))}


def _bytes(path: Path) -> Contents:
    return {"its bytes": np.frombuffer(path.read_bytes(), np.uint8)}


def _figures(header: Any) -> Contents:
    """All but the record, whose files may lie elsewhere now."""
    aside = {*_RECORDS, *(_RECORD if "command" in header else ())}
    return _flat({name: value for name, value in header.items() if name not in aside})


def _flat(value: Any, name: str = "") -> Contents:
    """JSON as arrays: numbers, lists of numbers, and the text of anything else."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        value = {str(number): one for number, one in enumerate(value)}
    if isinstance(value, dict):
        found: Contents = {}
        for key, one in value.items():
            if not _TIMES & {*str(key).split("_")}:
                found |= _flat(one, f"{name}.{key}".lstrip("."))
        return found
    if isinstance(value, str):
        return {name: np.asarray(value)}
    if isinstance(value, list) and any(isinstance(one, str) for one in value):
        return {name: np.asarray(json.dumps(value))}
    try:
        return {name: np.asarray(value, float)}
    except (TypeError, ValueError):
        return {name: np.asarray(json.dumps(value))}


_READERS: dict[str, Callable[[Path], Contents]] = {
    ".fits": _of_fits,
    ".nc": _of_hdf5,
    ".h5": _of_hdf5,
    ".npz": _of_archive,
    ".ecsv": _of_ecsv,
    ".csv": _of_csv,
    ".json": _of_json,
    ".png": _of_picture,
    ".reg": _of_regions,
}
