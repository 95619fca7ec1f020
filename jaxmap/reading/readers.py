"""Shear catalogues from files and tables: find the columns, read only these, calibrate.

A source of any kind becomes `Columns` (`jaxmap.reading.tablefiles`). Everything after that is the
same for all: which column plays which role (`jaxmap.reading.roles`), numbers in native byte order
with NaN for what is masked, calibration (`jaxmap.reading.calibration`), and last the checks of
`jaxmap.catalog.shear_catalog`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.reading.calibration import calibrate, complex_shapes
from jaxmap.reading.roles import columns_option, find_columns, has_positions, require_calibration
from jaxmap.reading.surveys import REQUIRED, RESPONSES, SURVEYS, Survey, recognise_survey
from jaxmap.reading.tablefiles import open_columns
from jaxmap.reading.tableformats import Columns

log = logging.getLogger(__name__)


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
        source: path of a FITS, CSV, ECSV, ASCII (with a header line), HDF5 or Parquet file (FITS
            and text also as .gz), or an astropy ``Table``, pandas ``DataFrame``, structured array
            or dict of arrays.
        survey: a preset of `jaxmap.reading.surveys`; recognised by the column names by default.
        columns: names of columns by role, ``{"ra": "ALPHA", "e1": "shear_x"}`` (roles:
            `jaxmap.reading.surveys.ROLES`); they go before the survey's. None leaves a role out.
        flip_e1, flip_e2: change the sign of a component, to come to x = west, y = north; the
            survey's convention by default.
        distortion: shapes are distortions (a^2 - b^2)/(a^2 + b^2), not (a - b)/(a + b); the
            survey's convention by default.
        m, c1, c2: multiplicative and additive bias, one number or one per galaxy, in the frame of
            the file; instead of the file's columns.
        response: mean response, or for distortions the responsivity; instead of the file's.
        hdu: number or name of the FITS table, if there are several; only for FITS.
        group: HDF5 group, as in ``"shear/bin_0"``, if there are several; only for HDF5.
        drop_invalid: leave out galaxies with a value that is NaN, infinite or masked.

    Raises:
        ValueError: if the file cannot be read, a column is missing, ambiguous or not numeric, or
            the values make no catalogue (`jaxmap.catalog.shear_catalog`).
        FileNotFoundError: if there is no such file.
    """
    reader = open_shapes(
        source,
        survey=survey,
        columns=columns,
        flip_e1=flip_e1,
        flip_e2=flip_e2,
        distortion=distortion,
        m=m,
        c1=c1,
        c2=c2,
        response=response,
        hdu=hdu,
        group=group,
        drop_invalid=drop_invalid,
    )
    return shear_catalog(**reader.calibrated(reader.values(reader.table.load(reader.names))))


@dataclass(frozen=True)
class ShapeReader:
    """How the columns of one table become shear estimates. Made by `open_shapes`.

    Args:
        table: the columns.
        survey: whose conventions are followed.
        found: names of columns by role.
        given: numbers by role, which go before columns.
        distortion, flip_e1, flip_e2, drop_invalid: as in `read_shear`.
    """

    table: Columns
    survey: Survey
    found: Mapping[str, str]
    given: Mapping[str, np.ndarray]
    distortion: bool
    flip_e1: bool
    flip_e2: bool
    drop_invalid: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to load, each once."""
        return tuple(dict.fromkeys(self.found.values()))

    def values(self, raw: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Loaded columns as numbers by role, with equal weights where there are none."""
        label = self.table.label
        values = {
            role: to_numbers(raw[name], name, role, label) for role, name in self.found.items()
        }
        values = _valid_rows(label, values | dict(self.given), self.found, self.drop_invalid)
        return {"weight": np.ones_like(values["ra"])} | values

    def calibrated(self, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The arguments of `jaxmap.catalog.shear_catalog`."""
        shapes = complex_shapes(values["e1"], values["e2"])
        if shapes.size:
            shapes = calibrate(shapes, values["weight"], values, self.survey, self.distortion)
        if self.flip_e1:
            shapes.real *= -1
        if self.flip_e2:
            shapes.imag *= -1
        return {
            "ra_deg": values["ra"],
            "dec_deg": values["dec"],
            "ellipticity": shapes,
            "weight": values["weight"],
            "z": values.get("z"),
        }


def open_shapes(
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
) -> ShapeReader:
    """Find the columns of a catalogue, and read none yet; arguments as of `read_shear`."""
    if survey is not None and not isinstance(survey, Survey):
        raise ValueError(
            f"survey is {survey!r}; expected a preset such as jaxmap.reading.surveys.HSC"
        )
    columns = columns or {}
    known = [survey] if survey else list(SURVEYS.values())
    table = open_columns(
        source,
        lambda names: has_positions(names, known, columns),
        hdu=hdu,
        group=group,
        preferred_groups=[s.group for s in known if s.group],
    )
    taken = survey or recognise_survey(table.names)
    is_distortion = taken.distortion if distortion is None else distortion
    numbers = {"m": m, "c1": c1, "c2": c2, "response": response}
    given = {r: np.asarray(value, float) for r, value in numbers.items() if value is not None}
    for role, value in given.items():
        if value.ndim == 0 and not np.isfinite(value):
            raise ValueError(f"{role} is {value}; expected a finite number")
    not_needed = set(given) | (set(RESPONSES) if response is not None else set())
    found = find_columns(table, taken, columns, not_needed)
    log.info(
        "%s: survey %s, %s",
        table.label,
        f"{taken.name} ({taken.note})" if taken.note else taken.name,
        ", ".join(f"{role} = {name}" for role, name in found.items())
        + ("" if "weight" in found else ", equal weights"),
    )
    require_calibration(table, taken, found, given)

    return ShapeReader(
        table=table,
        survey=taken,
        found=found,
        given=given,
        distortion=is_distortion,
        flip_e1=taken.flip_e1 if flip_e1 is None else flip_e1,
        flip_e2=taken.flip_e2 if flip_e2 is None else flip_e2,
        drop_invalid=drop_invalid,
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
    if values.size and (row := _row_of_no_number(values)) is not None:
        raise ValueError(
            f"{label}: column {name!r} ({role}) is not numeric, row {row} holds "
            f"{values[row : row + 1].tolist()[0]!r}; expected numbers (convert the column, or name "
            f"another, {columns_option(role)})"
        )
    numbers = values.astype(np.float64) if values.size else np.zeros(0)
    numbers[np.broadcast_to(mask, numbers.shape)] = np.nan
    unit = getattr(column, "unit", None)
    if role in ("ra", "dec") and unit is not None:
        numbers *= _degrees_per(unit, name, label)
    return numbers


def _row_of_no_number(values: np.ndarray) -> int | None:
    """First row that is not a number, or if all rows spell numbers, the first that is a string."""
    if values.dtype.kind in "iufb":
        return None
    # Objects may be numbers of any class, and None where one is missing; other types are none.
    fine = (Real, Decimal, np.bool_, type(None)) if values.dtype.kind == "O" else ()
    rows = [row for row, value in enumerate(values) if not isinstance(value, fine)]
    return next((row for row in rows if not _spells_number(values[row])), next(iter(rows), None))


def _spells_number(value: Any) -> bool:
    if not isinstance(value, (str, bytes)):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _degrees_per(unit: Any, name: str, label: str) -> float:
    from astropy import units

    parsed = units.Unit(unit, parse_strict="silent")
    loosely = re.fullmatch(r"[\s\[(]*deg(ree)?s?[\])]*(\s[^/*^]*)?", str(parsed), re.IGNORECASE)
    if parsed == units.dimensionless_unscaled or loosely:  # as in "DEG", "[deg]", "deg (J2000)"
        return 1.0
    if isinstance(parsed, units.UnrecognizedUnit) or not parsed.is_equivalent(units.deg):
        raise ValueError(
            f"{label}: column {name!r} has the unit {str(unit)!r}; expected an angle (deg, rad, "
            "hourangle) or none for degrees; correct it in the file, or pass the columns as a "
            "dict of arrays"
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
        if bad.any() and not checked_later and not drop_invalid:
            raise ValueError(
                f"{label}: {name!r} ({role}) holds {bad.sum()} values that are not finite (first "
                f"in row {np.argmax(bad)}); remove them, or read with drop_invalid=True "
                "(--drop-invalid)"
            )
        keep &= ~bad
    if not drop_invalid or keep.all():
        return values
    log.info("%s: dropped %d of %d rows with invalid values", label, count - keep.sum(), count)
    return {role: v[keep] if v.ndim else v for role, v in values.items()}
