"""Tables of a function, such as n(z) or C_ell, read from two columns of any common format."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.arrayfiles import plain_errors, read_array, read_arrays
from jaxmap.machine import check_memory
from jaxmap.texttables import content_of, read_text, require_file

log = logging.getLogger(__name__)

_Columns = tuple[np.ndarray, np.ndarray]
_Pick = Callable[[list[str]], tuple[int, int]]


def read_two_columns(
    path: str | Path, first_names: Collection[str], second_names: Collection[str], what: str
) -> _Columns:
    """Read two columns of numbers, chosen by name where both have a known one, else the first two.

    Where not both have a known name, it must be a table of two columns, or one without names.

    Args:
        path: FITS table; ``.npy`` of shape ``(2, n)`` or ``(n, 2)``; ``.npz`` of two vectors;
            anything else is text (ECSV, CSV, white space), with or without a line of names.
        first_names: known names of the first column, in lower case without punctuation.
        second_names: known names of the second column.
        what: the two columns in words, such as "z and n(z)", for messages.

    Returns:
        The two columns in float64, shape ``(n,)`` each; their values are not checked.

    Raises:
        ValueError: for a file that is missing, unreadable, cut short or without two equally long
            columns of real numbers; the message names the file and what was expected.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        require_file(path)
    except FileNotFoundError as error:
        message = f"the file {str(path)!r} does not exist; expected a table of {what}"
        raise ValueError(message) from error

    def pick(names: list[str]) -> tuple[int, int]:
        return _pick_columns(names, first_names, second_names, what)

    try:
        with plain_errors():
            if name.endswith((".npy", ".npz")):
                columns = _columns_of_numpy(path, pick)
            elif name.endswith((".fits", ".fit", ".fits.gz")):
                columns = _columns_of_fits(path, pick)
            else:
                columns = _columns_of_text(read_text(path), pick)
            return _two_vectors(*columns)
    except ValueError as error:
        raise ValueError(
            f"cannot read two columns, {what}, from {str(path)!r}: {error}; write or fetch it "
            "again, as a whole table with these two columns"
        ) from error


def _pick_columns(
    names: list[str], first_names: Collection[str], second_names: Collection[str], what: str
) -> tuple[int, int]:
    if len(names) < 2:
        raise ValueError(f"the table has the columns {names}; expected two")
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    first = [i for i, name in enumerate(plain) if name in first_names]
    second = [i for i, name in enumerate(plain) if name in second_names]
    if not (first and second):
        named = not all(map(str.isdecimal, plain))
        if named and len(names) > 2:
            known = "only " + repr(names[(first or second)[0]]) if first or second else "none"
            raise ValueError(
                f"of the columns {names} {known} has a known name; leave two columns, or "
                f"call them as in {min(first_names)} and {min(second_names)}"
            )
        if named:
            log.warning("columns %r and %r are taken for %s", *names[:2], what)
        return 0, 1
    for name in (names[first[0]], names[second[0]]):
        if names.count(name) > 1:
            raise ValueError(f"more than one column is called {name!r}; rename them")
    return first[0], second[0]


def _two_vectors(first: np.ndarray, second: np.ndarray) -> _Columns:
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"the columns have the shapes {first.shape} and {second.shape}; expected equally "
            "long vectors"
        )
    if np.iscomplexobj(first) or np.iscomplexobj(second):
        raise ValueError("the columns hold complex numbers; expected real ones")
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def _columns_of_text(text: str, pick: _Pick) -> _Columns:
    names, rows = _names_and_rows(text)
    i, j = pick(names)
    first, second = np.empty(len(rows)), np.empty(len(rows))
    for row, (number, entries) in enumerate(rows):
        if len(entries) != len(names) or not (_is_number(entries[i]) and _is_number(entries[j])):
            raise ValueError(
                f"line {number} is {' '.join(entries)[:60]!r}; expected numbers in {len(names)} "
                "columns as in the first line (was the file cut short?)"
            )
        first[row], second[row] = float(entries[i]), float(entries[j])
    return first, second


def _names_and_rows(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, numbers for want of names, and the rows with their line numbers."""
    rows: list[tuple[int, list[str]]] = []
    comment = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("#"):
            comment = comment if rows else line.strip(" #")
            continue
        rows.append((number, _split(line)))
    if not rows:
        raise ValueError("the file holds no rows")
    # The line of names is the first one, or (as numpy.savetxt writes it) the last comment before.
    names = [str(i) for i in range(len(rows[0][1]))]
    if not all(_is_number(entry) for entry in rows[0][1]):
        names = rows.pop(0)[1]
    elif len(_split(comment)) == len(names):
        names = _split(comment)
    return names, rows


def _split(line: str) -> list[str]:
    parts = line.split(next((d for d in ",;|" if d in line), None))
    return [part.strip().strip("\"'") for part in parts]


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return True


def _columns_of_numpy(path: Path, pick: _Pick) -> _Columns:
    if path.name.lower().endswith(".npy"):
        loaded = read_array(path)
        if loaded.ndim != 2 or 2 not in loaded.shape:
            raise ValueError(f"the array has shape {loaded.shape}; expected (2, n) or (n, 2)")
        table = loaded if loaded.shape[0] == 2 else loaded.T
        return table[0], table[1]
    arrays = read_arrays(path)
    i, j = pick(list(arrays))
    first, second = list(arrays.values())[i], list(arrays.values())[j]
    return first, second


def _columns_of_fits(path: Path, pick: _Pick) -> _Columns:
    from astropy.io import fits

    # A compressed file may unpack into anything. No warnings about the file's style, since what
    # matters is whether the two columns can be read.
    content = io.BytesIO(content_of(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for unit in fits.open(content, memmap=False, disable_image_compression=True):
            if isinstance(unit, fits.BinTableHDU | fits.TableHDU):
                names = list(unit.columns.names)
                i, j = pick(names)
                _require_numbers(unit.columns[i], unit.columns[j])
                check_memory(8 * unit.size, "its table", "give the two columns alone", host=True)
                return np.array(unit.data[names[i]]), np.array(unit.data[names[j]])
    raise ValueError("the FITS file holds no table")


def _require_numbers(*columns: Any) -> None:
    """Lists of any length (formats P and Q) may all stand in one place, and need any memory."""
    for column in columns:
        if re.search("[PQ]", column.format):
            raise ValueError(
                f"the column {column.name!r} has the format {column.format!r}; expected one number "
                "in each row"
            )
