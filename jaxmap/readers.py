"""Shear catalogues from files and tables: find the columns, read only these, calibrate.

A source of any kind becomes a `Table`: the names of its columns, and a function that loads some of
them. Everything after that is the same for all: which column plays which role (`find_columns`),
numbers in native byte order with NaN for what is masked, calibration (`jaxmap.surveys`), checks
(`jaxmap.catalog.shear_catalog`).
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.surveys import (
    GENERIC,
    REQUIRED,
    RESPONSES,
    ROLES,
    SHEARED,
    SURVEYS,
    Survey,
    calibrate,
    recognise_survey,
)

log = logging.getLogger(__name__)

FORMATS = {
    "FITS": (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.xz"),
    "text": (".csv", ".txt", ".dat", ".asc"),
    "ECSV": (".ecsv",),
    "HDF5": (".h5", ".hdf5"),
    "Parquet": (".parquet", ".parq", ".pq"),
}
# How a file of each kind begins; compressed files may hold FITS.
_MAGIC = {
    b"SIMPLE  =": "FITS",
    b"\x1f\x8b": "FITS",
    b"\xfd7zXZ": "FITS",
    b"\x89HDF\r\n": "HDF5",
    b"PAR1": "Parquet",
    b"# %ECSV": "ECSV",
}


@dataclass(frozen=True)
class Columns:
    """The columns of a catalogue, not yet loaded: their names and a function that loads some."""

    label: str
    names: tuple[str, ...]
    load: Callable[[Sequence[str]], Mapping[str, Any]]


def read_shear(
    source: Any,
    *,
    survey: Survey | None = None,
    columns: Mapping[str, str | None] | None = None,
    flip_e1: bool | None = None,
    flip_e2: bool | None = None,
    distortion: bool | None = None,
    m: ArrayLike | None = None,
    c1: ArrayLike | None = None,
    c2: ArrayLike | None = None,
    response: ArrayLike | None = None,
    hdu: int | str | None = None,
    group: str | None = None,
    drop_invalid: bool = False,
) -> ShearCatalog:
    """Read galaxy shapes from a file or a table in memory.

    Args:
        source: path of a FITS, CSV, ECSV, ASCII (with a header line), HDF5 or Parquet file, or an
            astropy ``Table``, pandas ``DataFrame``, structured array or dict of arrays.
        survey: a preset of `jaxmap.surveys`; recognised by the column names by default.
        columns: names of columns by role, ``{"ra": "ALPHA", "e1": "shear_x"}`` (roles:
            `jaxmap.surveys.ROLES`); they go before the survey's. None leaves a role out.
        flip_e1, flip_e2: change the sign of a component, to come to x = west, y = north; the
            survey's convention by default.
        distortion: shapes are distortions (a^2 - b^2)/(a^2 + b^2), not (a - b)/(a + b); the
            survey's convention by default.
        m, c1, c2: multiplicative and additive bias, one number or one per galaxy, in the frame of
            the file; instead of the file's columns.
        response: mean response, or for distortions the responsivity; instead of the file's.
        hdu: number or name of the FITS table, if there are several.
        group: HDF5 group, as in ``"shear/bin_0"``, if there are several.
        drop_invalid: leave out galaxies with a value that is NaN, infinite or masked.

    Raises:
        ValueError: if the file cannot be read, a column is missing, ambiguous or not numeric, or
            the values make no catalogue (`jaxmap.catalog.shear_catalog`).
        FileNotFoundError: if there is no such file.
    """
    if survey is not None and not isinstance(survey, Survey):
        raise ValueError(f"survey is {survey!r}; expected a preset such as jaxmap.surveys.HSC")
    table = open_columns(source, survey=survey, columns=columns, hdu=hdu, group=group)
    taken = survey or recognise_survey(table.names)
    is_distortion = taken.distortion if distortion is None else distortion
    numbers = {"m": m, "c1": c1, "c2": c2, "response": response}
    given = {r: np.asarray(value, float) for r, value in numbers.items() if value is not None}
    not_needed = set(given) | (set(RESPONSES) if response is not None else set())
    found = find_columns(table, taken, columns or {}, not_needed)
    log.info(
        "%s: survey %s, %s",
        table.label,
        f"{taken.name} ({taken.note})" if taken.note else taken.name,
        ", ".join(f"{role} = {name}" for role, name in found.items())
        + ("" if "weight" in found else ", equal weights"),
    )
    _require_calibration(table.label, taken, found, given)

    raw = table.load(tuple(dict.fromkeys(found.values())))
    values = {role: to_numbers(raw[name], name, role, table.label) for role, name in found.items()}
    values = _valid_rows(table.label, values | given, found, drop_invalid)
    weight = values.get("weight", np.ones_like(values["ra"]))
    shapes = np.empty(values["e1"].shape, complex)
    shapes.real, shapes.imag = values["e1"], values["e2"]
    if shapes.size:
        shapes = calibrate(shapes, weight, values, taken, is_distortion)
    if taken.flip_e1 if flip_e1 is None else flip_e1:
        shapes.real *= -1
    if taken.flip_e2 if flip_e2 is None else flip_e2:
        shapes.imag *= -1
    return shear_catalog(values["ra"], values["dec"], shapes, weight, values.get("z"))


def find_columns(
    table: Columns,
    survey: Survey,
    given: Mapping[str, str | None],
    not_needed: Collection[str] = (),
) -> dict[str, str]:
    """Which column plays which role.

    Args:
        table: has the names.
        survey: knows the names to look for, without regard to case.
        given: names that the user chose, by role; None leaves the role out.
        not_needed: roles not to look for.

    Raises:
        ValueError: for unknown roles, and for columns that are missing or ambiguous.
    """
    if unknown := set(given) - set(ROLES):
        raise ValueError(f"columns has the roles {sorted(unknown)}; expected some of {ROLES}")
    found: dict[str, str] = {}
    for role in ROLES:
        names = _aliases(role, survey, given, not_needed)
        matches: list[str] = []
        for name in names:
            if not (matches and survey.ranked):
                matches = matches + _same_name(name, table.names)
        if len(matches) > 1:
            raise ValueError(
                f"{table.label}: the columns {', '.join(matches)} could all be {role!r}; name the "
                f"right one, as in columns={{{role!r}: {matches[0]!r}}}"
            )
        if matches:
            found[role] = matches[0]
        elif role in REQUIRED or given.get(role) is not None:
            raise ValueError(
                f"{table.label}: no column for {role!r} (looked for {', '.join(names) or 'none'}; "
                f"survey {survey.name}); the columns are {_listed(table.names)}; name yours, as in "
                f"columns={{{role!r}: 'name'}}"
            )
    _check_pair(table.label, survey, given, found)
    _tell_unused(table, survey, given, found, not_needed)
    return found


def _aliases(
    role: str, survey: Survey, given: Mapping[str, str | None], not_needed: Collection[str]
) -> tuple[str, ...]:
    if role in given:
        name = given[role]
        return () if name is None else (name,)
    return () if role in not_needed else survey.columns.get(role, ())


def _same_name(wanted: str, names: Sequence[str]) -> list[str]:
    return [n for n in names if n == wanted] or [n for n in names if n.lower() == wanted.lower()]


def _listed(names: Sequence[str], most: int = 40) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def _check_pair(
    label: str, survey: Survey, given: Mapping[str, str | None], found: Mapping[str, str]
) -> None:
    if "e1" in given or "e2" in given:
        return
    ranks = [[a.lower() for a in survey.columns[r]].index(found[r].lower()) for r in ("e1", "e2")]
    if ranks[0] != ranks[1]:
        raise ValueError(
            f"{label}: {found['e1']!r} and {found['e2']!r} are not a pair of components; name "
            "both, columns={'e1': ..., 'e2': ...}"
        )


def _tell_unused(
    table: Columns,
    survey: Survey,
    given: Mapping[str, str | None],
    found: Mapping[str, str],
    not_needed: Collection[str],
) -> None:
    # "m" may as well be a magnitude, so only a survey or the user can make it a bias.
    roles = [r for r in ("m", "c1", "c2", "R11", "R22") if r not in (*given, *not_needed)]
    left = [n for r in roles for n in _same_name(r, table.names) if n not in found.values()]
    if survey is GENERIC and left:
        log.warning(
            "%s: columns %s look like a calibration and are not applied; name those to apply, as "
            "in columns={'m': 'm'}, or give the survey",
            table.label,
            ", ".join(left),
        )


def _require_calibration(
    label: str, survey: Survey, found: Mapping[str, str], given: Mapping[str, Any]
) -> None:
    has = {*found, *given}
    has_response = "response" in has or {"R11", "R22"} <= has or set(SHEARED) <= has
    if found["e1"].lower() in survey.responsive and not has_response:
        raise ValueError(
            f"{label}: {found['e1']!r} (survey {survey.name}) needs a response, and there are no "
            f"columns {_listed([n for r in RESPONSES for n in survey.columns.get(r, ())])}; give "
            "its mean, response=..."
        )
    if survey.needs_m and "m" not in has:
        raise ValueError(
            f"{label}: shapes of survey {survey.name} need a multiplicative bias, and there is no "
            f"column {survey.columns['m'][0]}; give m=... (m=0 to do without)"
        )


def to_numbers(column: Any, name: str, role: str, label: str) -> np.ndarray:
    """One column as native float64, NaN where masked, positions in degrees.

    Args:
        column: anything like an array; masks and units of astropy and pandas are understood.
        name: of the column, for messages.
        role: "ra" and "dec" are converted to degrees; without a unit they are degrees.
        label: of the source, for messages.

    Raises:
        ValueError: if the column is not a vector of numbers or has a unit that is not an angle.
    """
    mask: Any = False
    if type(column).__module__.partition(".")[0] == "pandas":
        numeric = column.dtype.kind in "iufb"
        values = column.to_numpy(float if numeric else object, na_value=np.nan)
    else:
        mask = np.ma.getmaskarray(column) if np.ma.isMA(column) else getattr(column, "mask", False)
        bare = getattr(column, "unmasked", column)
        values = np.asarray(getattr(bare, "value", bare))
    if values.ndim != 1:
        raise ValueError(
            f"{label}: column {name!r} has shape {values.shape}; expected one number per galaxy"
        )
    if values.dtype.kind not in "iufb" and values.size:
        example = next((v for v in values.tolist() if not isinstance(v, (int, float))), values[0])
        raise ValueError(
            f"{label}: column {name!r} ({role}) is not numeric, it holds {example!r}; expected "
            "numbers (convert the column, or name another, "
            f"columns={{{role!r}: 'name'}})"
        )
    numbers = values.astype(np.float64)
    numbers[np.broadcast_to(mask, numbers.shape)] = np.nan
    unit = getattr(column, "unit", None)
    if role in ("ra", "dec") and unit is not None:
        numbers *= _degrees_per(unit, name, label)
    return numbers


def _degrees_per(unit: Any, name: str, label: str) -> float:
    from astropy import units

    parsed = units.Unit(unit, parse_strict="silent")
    if parsed == units.dimensionless_unscaled or str(parsed).lower() in ("degrees", "degs"):
        return 1.0
    if isinstance(parsed, units.UnrecognizedUnit) or not parsed.is_equivalent(units.deg):
        raise ValueError(
            f"{label}: column {name!r} has the unit {str(unit)!r}; expected an angle (deg, rad, "
            "hourangle) or none for degrees"
        )
    return float(parsed.to(units.deg))


def _valid_rows(
    label: str, values: dict[str, np.ndarray], found: Mapping[str, str], drop_invalid: bool
) -> dict[str, np.ndarray]:
    """Check what `shear_catalog` will not see (lengths, calibration); drop bad rows if asked to."""
    count = len(values["ra"])
    keep = np.ones(count, bool)
    for role, vector in values.items():
        name = found.get(role, role)
        if vector.shape not in ((), (count,)):
            raise ValueError(
                f"{label}: {name!r} has shape {vector.shape}; expected {(count,)}, as for 'ra'"
            )
        bad = ~np.isfinite(vector)
        checked_later = role in (*REQUIRED, "weight", "z")
        if bad.any() and not checked_later and not (drop_invalid and vector.ndim):
            raise ValueError(
                f"{label}: {name!r} ({role}) holds {bad.sum()} values that are not finite (first "
                f"in row {np.argmax(bad)}); remove them, or read with drop_invalid=True"
            )
        keep &= ~bad
    if not drop_invalid or keep.all():
        return values
    log.info("%s: dropped %d of %d rows with invalid values", label, count - keep.sum(), count)
    return {role: v[keep] if v.ndim else v for role, v in values.items()}


def open_columns(
    source: Any,
    *,
    survey: Survey | None = None,
    columns: Mapping[str, str | None] | None = None,
    hdu: int | str | None = None,
    group: str | None = None,
) -> Columns:
    """The column names of a file or a table in memory, and the way to load them.

    Args: as in `read_shear`; ``survey`` and ``columns`` help to choose among several tables.

    Raises:
        ValueError: if the source cannot be read or does not say which table is meant.
        FileNotFoundError: if there is no such file.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _in_memory(source)
    path = Path(source).expanduser()
    kind = _kind(path)

    def has_positions(names: Sequence[str]) -> bool:
        wanted = {r: (columns or {}).get(r) for r in ("ra", "dec")}
        known = [survey] if survey else SURVEYS.values()
        aliases = {
            r: [w] if w else [a for s in known for a in s.columns[r]] for r, w in wanted.items()
        }
        return all(any(_same_name(a, names) for a in aliases[r]) for r in wanted)

    if kind == "FITS":
        return _fits(path, hdu, has_positions)
    if kind == "HDF5":
        preferred = {survey.group} if survey else {s.group for s in SURVEYS.values()}
        return _hdf5(path, group, preferred - {None}, has_positions)
    if kind == "Parquet":
        return _parquet(path)
    return _in_memory(_text(path, kind), str(path))


def _kind(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the name")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected one file")
    endings = {ending: kind for kind, all_of in FORMATS.items() for ending in all_of}
    named = [kind for ending, kind in endings.items() if path.name.lower().endswith(ending)]
    if not named:
        raise ValueError(f"{path}: unknown kind of file; expected a name in {', '.join(endings)}")
    with _reading(path), open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty; write or fetch it again")
    content = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    content = content or ("unknown binary data" if b"\0" in head else "text")
    if named[0] == "text" and content == "ECSV":
        return "ECSV"
    if content != named[0]:
        raise ValueError(
            f"{path} is named as {named[0]}, but its content is {content}; rename it, or write it "
            "again if it is damaged"
        )
    return content


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a library raises for a bad file into one sentence."""
    try:
        with warnings.catch_warnings():
            # astropy only warns of FITS files that are cut short, and returns part of the rows.
            warnings.filterwarnings("error", message=".*truncated")
            yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # zlib, lzma, struct, pyarrow ... each with a class of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"cannot read {path}: {reason}; the file is cut short, damaged or of another layout: "
            "fetch or write it again"
        ) from error


def _choose(
    path: Path, what: str, tables: Mapping[Any, Sequence[str]], has_positions: Callable[..., bool]
) -> list[Any]:
    """The tables with positions; the only table there is passes, so that its columns are told."""
    if len(tables) == 1:
        return list(tables)
    holders = [key for key, names in tables.items() if has_positions(names)]
    if not holders:
        listed = "; ".join(f"{key}: {_listed(names, 8)}" for key, names in tables.items())
        raise ValueError(f"{path}: no {what} holds ra and dec (found {listed or 'no table'})")
    return holders


def _fits(path: Path, hdu: int | str | None, has_positions: Callable[..., bool]) -> Columns:
    from astropy.io import fits
    from astropy.table import MaskedColumn

    # Opened here, since astropy leaves a file that it cannot read open.
    with _reading(path), open(path, "rb") as file, fits.open(file) as hdus:
        kinds = (fits.BinTableHDU, fits.TableHDU)
        headers = [(i, h.name, h.columns.names) for i, h in enumerate(hdus) if isinstance(h, kinds)]
    tables = {i: tuple(names) for i, _, names in headers}
    if hdu is None:
        keys = _choose(path, "table (HDU)", tables, has_positions)
    else:
        keys = [i for i, name, _ in headers if hdu in (i, name) or str(hdu).upper() == name]
    if len(keys) != 1:
        listed = ", ".join(f"{i} {name}".strip() for i, name, _ in headers) or "none"
        wrong = "several tables could be meant" if hdu is None else f"no table with hdu={hdu!r}"
        raise ValueError(f"{path}: {wrong}; its tables are {listed}; choose one by hdu=...")

    def load(names: Sequence[str]) -> dict[str, Any]:
        with _reading(path), open(path, "rb") as file, fits.open(file) as hdus:
            data, head = hdus[keys[0]].data, hdus[keys[0]].columns
            loaded = {}
            for name in names:
                values, null = np.array(data[name]), head[name].null
                masked = values == null if null is not None and values.dtype.kind in "iu" else False
                loaded[name] = MaskedColumn(values, mask=masked, unit=head[name].unit)
            return loaded

    return Columns(f"{path}[{keys[0]}]", tables[keys[0]], load)


def _hdf5(
    path: Path,
    group: str | None,
    preferred: Collection[str | None],
    has_positions: Callable[..., bool],
) -> Columns:
    import h5py

    def names_in(node: Any) -> tuple[str, ...]:
        if isinstance(node, h5py.Dataset):
            return tuple(node.dtype.names or ())
        return tuple(k for k in node if isinstance(node.get(k), h5py.Dataset))

    tables: dict[str, tuple[str, ...]] = {}
    with _reading(path), h5py.File(path, "r") as file:
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
        listed = ", ".join(key for key, names in tables.items() if has_positions(names))
        wrong = "several groups hold ra and dec" if group is None else f"no group {group!r}"
        raise ValueError(f"{path}: {wrong}; the choice is {listed or 'none'}; give group=...")

    def load(names: Sequence[str]) -> Mapping[str, Any]:
        from astropy.table import Column, Table

        with _reading(path), h5py.File(path, "r") as file:
            node = file[keys[0]]
            if f"{keys[0]}.__table_column_meta__" in file:  # astropy keeps masks and units there
                return Table.read(file, path=keys[0])
            if isinstance(node, h5py.Dataset):
                return {name: node.fields(name)[:] for name in names}
            units = {n: node[n].attrs.get("unit", node[n].attrs.get("units")) for n in names}
            text = {n: u.decode() if isinstance(u, bytes) else u for n, u in units.items()}
            return {n: Column(node[n][()], unit=text[n] or None) for n in names}

    return Columns(f"{path}[{keys[0]}]", tables[keys[0]], load)


def _parquet(path: Path) -> Columns:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ValueError(
            f'reading {path} needs pyarrow, which is not installed: pip install "jaxmap[io]"'
        ) from error
    with _reading(path):
        schema = parquet.read_schema(path)

    def load(names: Sequence[str]) -> Mapping[str, Any]:
        with _reading(path):
            if b"table_meta_yaml" in (schema.metadata or {}):  # astropy keeps units there
                from astropy.table import Table

                return Table.read(path, format="parquet", include_names=list(names))
            table = parquet.read_table(path, columns=list(names))
            return {name: table[name].to_numpy() for name in names}

    return Columns(str(path), tuple(schema.names), load)


def _text(path: Path, kind: str) -> Any:
    """Read CSV (its header has commas) or text in columns, whose header may be a comment."""
    from astropy.table import Table

    if kind == "ECSV":
        with _reading(path):
            return Table.read(path, format="ascii.ecsv")
    with open(path, "rb") as raw:
        encoding = "utf-8-sig" if raw.read(3) == b"\xef\xbb\xbf" else "latin-1"
    comments: list[str] = []
    with open(path, encoding=encoding) as file:
        first = ""
        for line in file:
            if line.strip() and not line.lstrip().startswith("#"):
                first = line
                break
            comments += [line.strip().lstrip("#").strip()] if line.strip() else []
    if not first:
        raise ValueError(f"{path} holds no rows; write or fetch it again")
    delimiter = "," if "," in first else None
    names = _header_in_comments(comments, first.split(delimiter), delimiter)
    if names is None and all(_is_number(word) for word in first.split(delimiter)):
        raise ValueError(
            f"{path}: no line with column names before the numbers {first.strip()[:60]!r}; put "
            "one in front, as in: ra dec e1 e2 weight"
        )
    layout = (
        {"format": "ascii.basic"}
        if names is None
        else {"format": "ascii.no_header", "names": names}
    )
    with _reading(path):
        return Table.read(
            path,
            **layout,
            delimiter=delimiter or r"\s",
            guess=False,
            comment=r"\s*#",
            encoding=encoding,
        )


def _header_in_comments(
    comments: Sequence[str], first: Sequence[str], delimiter: str | None
) -> list[str] | None:
    """Names from comments: one line with all, or a numbered line for each (as SExtractor does)."""
    if not all(_is_number(word) for word in first):
        return None
    numbered = [re.match(r"(\d+)\s+([A-Za-z_]\S*)", line) for line in comments]
    known = {int(match[1]): match[2] for match in numbered if match}
    lines = [[word.strip() for word in line.split(delimiter)] for line in comments]
    whole = [words for words in lines if len(words) == len(first) and len(set(words)) == len(words)]
    if whole and not any(_is_number(word) for word in whole[-1]):
        return whole[-1]
    if len(known) > 1:
        return [known.get(i, f"col{i}") for i in range(1, len(first) + 1)]
    return None


def _is_number(word: str) -> bool:
    try:
        float(word or "nan")
    except ValueError:
        return False
    return True


def _in_memory(source: Any, label: str = "the table") -> Columns:
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
