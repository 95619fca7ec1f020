"""A catalogue of any size, passed through once for its calibration and once for its galaxies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.reading.calibration import complex_shapes, warn_of_measured
from jaxmap.reading.readers import ShapeReader, open_shapes
from jaxmap.reading.surveys import RESPONSES
from jaxmap.reading.tablefiles import FORMATS

ROWS = 2**20
_AVERAGED = ("m", *RESPONSES)
_COLUMNS = ("ra_deg", "dec_deg", "ellipticity", "weight")


def catalogue_files(path: Path) -> list[Path]:
    """The files of a catalogue: itself, or all tables in a folder, by name.

    Of a folder with Parquet files in sub-folders (partitions, as dask, Spark and HATS write them)
    those alone: tables beside them describe it.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: for a folder without tables.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(
                f"there is no {path}; give a catalogue, or a folder of its parts"
            )
        return [path]
    endings = tuple(ending for kind in FORMATS.values() for ending in kind)
    found = sorted(part for part in path.iterdir() if part.name.lower().endswith(endings))
    partitions = sorted(path.rglob("*.parquet"))
    if any(part.parent != path for part in partitions):
        found = partitions
    if not found:
        raise ValueError(f"{path} holds no tables; expected files in {', '.join(endings)}")
    return found


def stream_galaxies(
    files: Sequence[Path], options: Mapping[str, Any], rows: int = ROWS
) -> Iterator[ShearCatalog]:
    """Calibrated galaxies of a catalogue, part by part; those of no weight are left out.

    Means that calibrate shapes (response, multiplicative bias) are over the whole catalogue, as
    `jaxmap.reading.readers.read_shear` takes them.

    Args:
        files: parts of one catalogue, with the same columns.
        options: of `jaxmap.reading.readers.open_shapes`.
        rows: read at a time.

    Raises:
        ValueError: as `jaxmap.reading.readers.read_shear`.
    """
    readers = [open_shapes(path, **options) for path in files]
    means = _calibration_means(readers, rows)
    held: dict[str, Any] | None = None
    for values in _parts(readers, rows):
        columns = readers[0].calibrated(values | means)
        used = ~(columns["weight"] == 0)  # NaN and negative weights stay, to be refused
        columns = {name: columns[name][used] for name in _COLUMNS}
        if held is None:
            held = columns
        elif min(len(held["weight"]), len(columns["weight"])) < 2:  # too few for a catalogue
            held = {name: np.concatenate([held[name], columns[name]]) for name in _COLUMNS}
        else:
            yield shear_catalog(**held)
            held = columns
    if held is not None:
        yield shear_catalog(**held)


def _parts(readers: Sequence[ShapeReader], rows: int) -> Iterator[dict[str, np.ndarray]]:
    for reader in readers:
        for raw in reader.table.in_parts(reader.names, rows):
            yield reader.values(raw)


def _calibration_means(readers: Sequence[ShapeReader], rows: int) -> dict[str, np.ndarray]:
    """Weighted means of the columns that calibrate, over all parts; none is read if there are none.

    Of ``e_rms`` the rms, since its square is what is averaged; of distortions without it, the
    responsivity of their own scatter.
    """
    first = readers[0]
    roles = [role for role in _AVERAGED if role in first.found]
    scatter = first.distortion and not {"response", "e_rms"} & {*first.found, *first.given}
    if not roles and not scatter:
        return {}
    sums: dict[str, float] = dict.fromkeys([*roles, "scatter"], 0.0)
    total = 0.0
    for values in _parts(readers, rows):
        weight = values["weight"]
        weight = np.where(np.isfinite(weight) & (weight > 0), weight, 0.0)
        for role in roles:
            power = 2 if role == "e_rms" else 1
            sums[role] += float(np.sum(weight * values[role] ** power))
        shapes = complex_shapes(values["e1"], values["e2"])
        sums["scatter"] += float(np.sum(weight * np.nan_to_num(np.abs(shapes) ** 2)))
        total += float(np.sum(weight))
    if total == 0:
        raise ValueError("no galaxy has a weight above 0; is the weight column the right one?")
    means = {role: np.asarray(sums[role] / total) for role in roles}
    if "e_rms" in means:
        means["e_rms"] = np.sqrt(means["e_rms"])
    if scatter:
        means["response"] = np.asarray(1 - 0.5 * sums["scatter"] / total)
        warn_of_measured(float(means["response"]))
    return means
