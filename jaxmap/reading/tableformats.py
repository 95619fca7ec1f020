"""Columns of a FITS, HDF5, Parquet or text file, or of a table in memory: one function for each.

Only names are read at first; the columns that are asked for are loaded later. Masks and units stay
as the file has them (see `jaxmap.reading.readers.to_numbers`).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxmap.hdf5files import attribute, check_datasets
from jaxmap.machine import check_memory
from jaxmap.texttables import content_of, opened, read_text, text_layout

HasPositions = Callable[[Sequence[str]], bool]
"""Whether a table with these column names can be a catalogue; tells several tables apart."""


@dataclass(frozen=True)
class Columns:
    """The columns of a catalogue, not yet loaded: their names and a function that loads some.

    ``stream(names, rows)``, where the file allows it, gives them by so many rows at a time.
    """

    label: str
    names: tuple[str, ...]
    load: Callable[[Sequence[str]], Mapping[str, Any]]
    stream: Callable[[Sequence[str], int], Iterator[Mapping[str, Any]]] | None = None

    def __post_init__(self) -> None:
        refuse_repeated(self.names, self.label)

    def in_parts(self, names: Sequence[str], rows: int) -> Iterator[Mapping[str, Any]]:
        """Columns, ``rows`` at a time; of files that cannot be read in parts, all at once."""
        if self.stream is not None:
            yield from self.stream(names, rows)
        else:
            yield self.load(names)


def refuse_repeated(names: Sequence[str], label: str) -> None:
    """Refuse columns that have the same name, of which libraries would take any."""
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ValueError(
            f"{label}: more than one column is called {listed([repr(n) for n in repeated])}; "
            "rename them"
        )


def in_memory(source: Any, label: str = "the table") -> Columns:
    """Columns of an astropy Table, a pandas DataFrame, a structured array or a dict of arrays."""
    if hasattr(source, "colnames"):
        names = source.colnames
    elif isinstance(source, Mapping):
        names = list(source)
    elif getattr(getattr(source, "dtype", None), "names", None):
        names = source.dtype.names
    elif type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        names = list(source.columns)
    else:
        raise ValueError(
            f"cannot read columns from a {type(source).__name__}; expected a path, an astropy "
            "Table, a pandas DataFrame, a structured array or a dict of arrays"
        )
    return Columns(
        label,
        tuple(str(name) for name in names),
        lambda wanted: {name: source[name] for name in wanted},
    )


def fits_columns(path: Path, hdu: int | str | None, has_positions: HasPositions) -> Columns:
    """Columns of one table (HDU), also in a compressed file."""
    from astropy.io import fits
    from astropy.table import MaskedColumn

    with reading(path):
        content = _decompressed(path)
    with reading(path), _bytes_of(path, content) as file, fits.open(file) as hdus:
        kinds = (fits.BinTableHDU, fits.TableHDU)
        headers = [(i, h.name, h.columns.names) for i, h in enumerate(hdus) if isinstance(h, kinds)]
    tables = {i: tuple(str(name) for name in names) for i, _, names in headers}
    if hdu is None:
        keys = _choose(path, "table (HDU)", tables, has_positions)
    else:
        keys = [i for i, name, _ in headers if hdu in (i, name) or str(hdu).upper() == name]
    if len(keys) != 1:
        choice = ", ".join(f"{i} {name}".strip() for i, name, _ in headers) or "none"
        wrong = "several tables could be meant" if hdu is None else f"no table with hdu={hdu!r}"
        raise ValueError(f"{path}: {wrong}; its tables are {choice}; choose one by hdu=... (--hdu)")
    (key,) = keys

    def load(names: Sequence[str]) -> dict[str, Any]:
        with reading(path), _bytes_of(path, content) as file, fits.open(file) as hdus:
            data, head = hdus[key].data, hdus[key].columns
            return taken(data, head, names)

    def taken(data: Any, head: Any, names: Sequence[str]) -> dict[str, Any]:
        loaded = {}
        for name in names:
            values, null = np.array(data[name]), head[name].null
            masked = values == null if null is not None and values.dtype.kind in "iu" else False
            loaded[name] = MaskedColumn(values, mask=masked, unit=head[name].unit)
        return loaded

    def stream(names: Sequence[str], rows: int) -> Iterator[dict[str, Any]]:
        with reading(path), open(path, "rb") as file, fits.open(file, memmap=True) as hdus:
            head, start, count = hdus[key].columns, 0, len(hdus[key].data)
            while start < count:
                part = taken(hdus[key].data[start : start + rows], head, names)
                yield part
                start += rows

    return Columns(f"{path}[{key}]", tables[key], load, stream if content is None else None)


def _decompressed(path: Path) -> bytes | None:
    """Content of a compressed file; astropy would take one that is cut short for a shorter one."""
    with opened(path) as file:
        if isinstance(file, io.BufferedReader):
            return None
    return content_of(path)


def _bytes_of(path: Path, content: bytes | None) -> BinaryIO:
    # A path would do for fits.open, but astropy leaves files that it cannot read open.
    return open(path, "rb") if content is None else io.BytesIO(content)


def hdf5_columns(
    path: Path, group: str | None, preferred: Collection[str], has_positions: HasPositions
) -> Columns:
    """Columns of a group of vectors or of one compound dataset, with units from the attributes."""
    import h5py

    def names_in(node: Any) -> tuple[str, ...]:
        if isinstance(node, h5py.Dataset):
            return tuple(node.dtype.names or ())
        return tuple(k for k in node if isinstance(node.get(k), h5py.Dataset))

    tables: dict[str, tuple[str, ...]] = {}
    with reading(path), h5py.File(path, "r") as file:
        tables["/"] = names_in(file)
        file.visititems(lambda name, node: tables.update({name: names_in(node)}))
        if group is not None and group.strip("/") in file:  # also where visiting follows no links
            tables[group.strip("/")] = names_in(file[group])
    tables = {key: names for key, names in tables.items() if names}
    if group is None:
        keys = _choose(path, "group", tables, has_positions)
        keys = [key for key in keys if key in preferred] or keys
    else:
        keys = [key for key in tables if key == (group.strip("/") or "/")]
    if len(keys) != 1:
        choice = ", ".join(key for key, names in tables.items() if has_positions(names))
        wrong = "several groups hold ra and dec" if group is None else f"no group {group!r}"
        raise ValueError(
            f"{path}: {wrong}; the choice is {choice or 'none'}; give group=... (--group)"
        )
    (key,) = keys

    def datasets(node: Any, names: Sequence[str]) -> list[Any]:
        return [node] if isinstance(node, h5py.Dataset) else [node[name] for name in names]

    def load(names: Sequence[str]) -> Mapping[str, Any]:
        from astropy.table import Column, Table

        with reading(path), h5py.File(path, "r") as file:
            node = file[key]
            kept = f"{key}.__table_column_meta__" in file  # astropy keeps masks and units there
            check_datasets(datasets(node, tables[key] if kept else names), path)
            if kept:
                return Table.read(file, path=key)
            if isinstance(node, h5py.Dataset):
                return {name: node.fields(name)[:] for name in names}
            return {n: Column(node[n][()], unit=_unit(node[n])) for n in names}

    def stream(names: Sequence[str], rows: int) -> Iterator[Mapping[str, Any]]:
        from astropy.table import Column

        with reading(path), h5py.File(path, "r") as file:
            node = file[key]
            check_datasets(datasets(node, names), path, planes=True)
            if f"{key}.__table_column_meta__" in file:
                parts: Iterator[Mapping[str, Any]] = iter([load(names)])
            elif isinstance(node, h5py.Dataset):
                read = {name: node.fields(name) for name in names}
                parts = (
                    {name: read[name][start : start + rows] for name in names}
                    for start in range(0, len(node), rows)
                )
            else:
                longest = max(len(node[name]) for name in names)
                parts = (
                    {
                        name: Column(node[name][start : start + rows], unit=_unit(node[name]))
                        for name in names
                    }
                    for start in range(0, longest, rows)
                )
            yield from parts

    return Columns(f"{path}[{key}]", tables[key], load, stream)


def _unit(dataset: Any) -> str | None:
    """Unit in the attributes of a dataset: a string, bytes, or an array of one of these."""
    value = np.ravel(attribute(dataset, "unit", attribute(dataset, "units", "")))
    text = value[0] if value.size else ""
    return (text.decode("latin-1") if isinstance(text, bytes) else str(text)) or None


def parquet_columns(path: Path) -> Columns:
    """Columns of a Parquet file, of pandas or astropy."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ValueError(
            f'reading {path} needs pyarrow, which is not installed: pip install "jaxmap[io]"'
        ) from error
    with reading(path):
        about = parquet.read_metadata(path)
        schema = about.schema.to_arrow_schema()

    def load(names: Sequence[str]) -> Mapping[str, Any]:
        # Repeated values take no room in the file, and much in memory.
        needed = 8.0 * about.num_rows * len(names)
        remedy = "is it what it should be? Give a part of it, or use a larger machine"
        check_memory(needed, f"reading {about.num_rows} rows of {path}", remedy, host=True)
        with reading(path):
            if b"table_meta_yaml" in (schema.metadata or {}):  # astropy keeps units there
                from astropy.table import Table

                return Table.read(path, format="parquet", include_names=list(names))
            table = parquet.read_table(path, columns=list(names))
            return {name: table[name].to_numpy() for name in names}

    def stream(names: Sequence[str], rows: int) -> Iterator[Mapping[str, Any]]:
        with reading(path):
            if b"table_meta_yaml" in (schema.metadata or {}):
                yield load(names)
                return
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(rows, columns=list(names)):
                    yield {name: batch[name].to_numpy(zero_copy_only=False) for name in names}

    return Columns(str(path), tuple(schema.names), load, stream)


def text_columns(path: Path, kind: str, *, allow_empty: bool = False) -> Columns:
    """Columns of CSV, ECSV or text; these are loaded at once. Only ECSV may be without rows."""
    from astropy.table import Table

    with reading(path):
        text = read_text(path)
    layout = text_layout(text, path, allow_empty=allow_empty and kind == "ECSV")
    refuse_repeated(layout["names"], str(path))  # astropy would give one of them a new name
    if kind == "ECSV":
        layout = {"format": "ascii.ecsv"}
    with reading(path):
        table = Table.read(text.split("\n"), **layout)
    return in_memory(table, str(path))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a library raises for a bad file into one sentence."""
    try:
        with warnings.catch_warnings():
            # astropy only warns of FITS files that are cut short, and returns part of them.
            warnings.filterwarnings("error", message=".*truncated|Error validating header")
            yield
    except ImportError:
        raise
    except MemoryError as error:
        raise ValueError(
            f"{path} needs more memory than there is; is it what it should be? Fetch it again, "
            "give a part of it, or use a larger machine"
        ) from error
    except Exception as error:  # zlib, lzma, struct, pyarrow ... each with a class of its own
        reason = " ".join(str(error).split())[:600] or type(error).__name__
        raise ValueError(
            f"cannot read {path}: {reason}; the file is cut short, damaged or of another layout: "
            "fetch or write it again"
        ) from error


def _choose(
    path: Path, what: str, tables: Mapping[Any, Sequence[str]], has_positions: HasPositions
) -> list[Any]:
    """The tables with positions; the only table there is passes, so that its columns are told."""
    if len(tables) == 1:
        return list(tables)
    holders = [key for key, names in tables.items() if has_positions(names)]
    if not holders:
        found = "; ".join(f"{key}: {listed(names, 8)}" for key, names in tables.items())
        raise ValueError(
            f"{path}: no {what} holds ra and dec (found {found or 'no table'}); give the file of a "
            "catalogue, or name its columns, columns={'ra': 'name', ...} (--columns ra=name,...)"
        )
    return holders


def listed(names: Sequence[str], most: int = 40) -> str:
    """Names for a message, which stays short."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
