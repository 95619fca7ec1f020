"""Catalogues: roles of columns, units, masks, and one clear sentence for every bad table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmap.catalog import ShearCatalog
from jaxmap.reading.readers import read_shear, to_numbers

NAMES = ("ra", "dec", "e1", "e2", "weight", "z")


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    n = 300
    return {
        "ra": rng.uniform(359, 361, n) % 360,
        "dec": rng.uniform(-1, 1, n),
        "e1": rng.uniform(-0.5, 0.5, n),
        "e2": rng.uniform(-0.5, 0.5, n),
        "weight": rng.uniform(0, 2, n),
        "z": rng.uniform(0, 3, n),
    }


def assert_same(catalog: ShearCatalog, columns: dict[str, np.ndarray]) -> None:
    parts = (catalog.ra_deg, catalog.dec_deg, catalog.ellipticity.real, catalog.ellipticity.imag)
    for name, values in zip(NAMES, (*parts, catalog.weight, catalog.z), strict=True):
        assert values.dtype.isnative and values.dtype == np.float64
        np.testing.assert_array_equal(values, columns[name], err_msg=name)


MEMORY: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "dict": dict,
    "lists": lambda c: {name: values.tolist() for name, values in c.items()},
    "Table": Table,
    "QTable": lambda c: QTable(c, units={"ra": u.deg}),
    "DataFrame": pd.DataFrame,
    "nullable": lambda c: pd.DataFrame(c).convert_dtypes(),
    "arrow": lambda c: pd.DataFrame(c).convert_dtypes(dtype_backend="pyarrow"),
    "category": lambda c: pd.DataFrame(c).astype("category"),
    "object": lambda c: pd.DataFrame(c).astype(object),
    "Decimal": lambda c: {n: [Decimal(x) for x in v.tolist()] for n, v in c.items()},
    "structured": lambda c: np.array(Table(c)),
    "big-endian": lambda c: {name: values.astype(">f8") for name, values in c.items()},
    "shuffled columns": lambda c: dict(reversed(c.items())),
    "filtered frame": lambda c: pd.concat([pd.DataFrame(c)] * 2).iloc[: len(c["ra"])],
}


@pytest.mark.parametrize("kind", MEMORY)
def test_tables_in_memory(kind: str, columns: dict[str, np.ndarray]) -> None:
    assert_same(read_shear(MEMORY[kind](columns)), columns)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", ">i2", "<i8", "f2"])
def test_byte_order_and_types(dtype: str) -> None:
    values = np.arange(5).astype(dtype)
    numbers = to_numbers(values, "x", "weight", "here")
    assert numbers.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(numbers, np.arange(5.0))


def test_rows_are_kept_as_they_are(columns: dict[str, np.ndarray]) -> None:
    order = np.random.default_rng(0).integers(0, 300, 500)  # unsorted and repeated
    rows = {name: values[order] for name, values in columns.items()}
    assert_same(read_shear(rows), rows)


def test_source_is_not_changed(columns: dict[str, np.ndarray]) -> None:
    before = {name: values.copy() for name, values in columns.items()}
    read_shear(columns, flip_e1=True, flip_e2=True, c1=0.1, m=0.1)
    for name in NAMES:
        np.testing.assert_array_equal(columns[name], before[name])


@pytest.mark.parametrize(
    "unit", [u.deg, u.rad, u.hourangle, u.arcsec, u.dimensionless_unscaled, None]
)
@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
@pytest.mark.parametrize(
    "form", ["memory", "units.fits", "units.ecsv", "units.h5", "units.parquet"]
)
def test_units_of_positions(
    unit: Any, form: str, columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    table = Table(columns)
    if unit not in (None, u.dimensionless_unscaled):
        for name in ("ra", "dec"):
            table[name] = (columns[name] * u.deg).to(unit)
    elif unit is not None:
        table["ra"].unit = unit
    if form == "units.fits" and unit in (u.hourangle,):
        pytest.skip("FITS knows no hourangle")
    source: Any = table if form == "memory" else tmp_path / form
    if form == "units.h5":
        table.write(source, path="t", serialize_meta=True)
    elif form != "memory":
        table.write(source)
    read = read_shear(source)
    np.testing.assert_allclose(read.ra_deg, columns["ra"], rtol=1e-12)
    np.testing.assert_allclose(read.dec_deg, columns["dec"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("unit", ["km", "radians", "h", "deg2", "DEG/S", "degrade"])
def test_wrong_unit(unit: str, columns: dict[str, np.ndarray]) -> None:
    table = Table(columns)
    table["ra"] = MaskedColumn(columns["ra"], unit=u.Unit(unit, parse_strict="silent"))
    with pytest.raises(ValueError, match=rf"'ra' has the unit '{unit}'; expected an angle"):
        read_shear(table)


@pytest.mark.parametrize("unit", ["DEG", "Degree", "degs", "[deg]", "(Degrees)", "deg (J2000)"])
def test_spellings_of_degrees(unit: str) -> None:
    column = MaskedColumn([1.0, 2.0], unit=u.Unit(unit, parse_strict="silent"))
    assert to_numbers(column, "x", "ra", "here").tolist() == [1, 2]


def with_holes(columns: dict[str, np.ndarray], form: str, path: Path) -> Any:
    """Row 3 has no e2 and row 7 no weight, in each source's own way of saying so."""
    holes = {"e2": 3, "weight": 7}
    table = Table(columns, masked=True)
    frame = pd.DataFrame(columns)
    spoilt = {name: values.copy() for name, values in columns.items()}
    for name, row in holes.items():
        table[name].mask[row] = True
        frame.loc[row, name] = None
        spoilt[name][row] = np.nan
    if form == "nan":
        return spoilt
    if form == "table":
        return table
    if form == "nullable":
        return frame.convert_dtypes()
    if form == "numpy":
        return {name: table[name].data for name in columns}
    if form == "csv-pandas":
        frame.to_csv(path / "a.csv", index=False)
        return path / "a.csv"
    if form == "parquet-pandas":
        frame.convert_dtypes().to_parquet(path / "a.parquet")
        return path / "a.parquet"
    if form == "h5":
        table.write(path / "a.h5", path="t", serialize_meta=True)
        return path / "a.h5"
    table.write(path / f"a.{form}")
    return path / f"a.{form}"


FORMS = ["nan", "table", "nullable", "numpy", "csv-pandas", "parquet-pandas"]


@pytest.mark.parametrize("form", [*FORMS, "fits", "ecsv", "csv", "h5", "parquet"])
def test_masked_and_missing_values(
    form: str, columns: dict[str, np.ndarray], tmp_path: Path, caplog: Any
) -> None:
    source = with_holes(columns, form, tmp_path)
    with pytest.raises(ValueError, match=r"'e2' holds 1 values.*row 3"):
        read_shear(source)
    with caplog.at_level(logging.INFO, "jaxmap"):
        read = read_shear(source, drop_invalid=True)
    assert "dropped 2 of 300 rows" in caplog.text
    assert_same(read, {name: np.delete(values, [3, 7]) for name, values in columns.items()})


def test_invalid_calibration_rows(columns: dict[str, np.ndarray]) -> None:
    m = np.full(300, 0.1)
    m[11] = np.nan
    table = columns | {"bias": m}
    with pytest.raises(ValueError, match=r"'bias' \(m\) holds 1 values.*row 11"):
        read_shear(table, columns={"m": "bias"})
    read = read_shear(table, columns={"m": "bias"}, drop_invalid=True)
    np.testing.assert_allclose(read.ellipticity.real, np.delete(columns["e1"], 11) / 1.1)
    assert len(read_shear(columns, m=m, drop_invalid=True)) == 299


def test_columns_by_name(columns: dict[str, np.ndarray], caplog: Any) -> None:
    table = dict(zip(("A", "B", "x", "y", "w", "z"), columns.values(), strict=True))
    roles = {"ra": "A", "dec": "b", "e1": "x", "e2": "y"}
    assert_same(read_shear(table, columns=roles), columns)
    read = read_shear(table, columns={**roles, "z": None, "weight": None})
    assert read.z is None and (read.weight == 1).all()
    assert not caplog.records
    read_shear(table | {"m": columns["z"]}, columns=roles)
    assert "columns m look like a calibration" in caplog.text


RA_ALIASES = ["ra", "RA", "RAJ2000", "ALPHA_J2000", "right_ascension"]
DEC_ALIASES = ["dec", "DEC", "DECJ2000", "DELTA_J2000", "declination"]
E_ALIASES = ["e1 e2", "e_1 e_2", "g1 g2", "G_1 G_2", "gamma1 gamma2", "Shear1 Shear2"]


@settings(max_examples=40, deadline=None)
@given(
    ra=st.sampled_from(RA_ALIASES),
    dec=st.sampled_from(DEC_ALIASES),
    pair=st.sampled_from(E_ALIASES),
    weight=st.sampled_from(["w", "weight", "WEIGHTS"]),
    z=st.sampled_from(["z", "Z_B", "zphot", "Redshift"]),
    data=st.data(),
)
def test_usual_names_are_recognised(
    ra: str, dec: str, pair: str, weight: str, z: str, data: Any
) -> None:
    names = [ra, dec, *pair.split(), weight, z]
    values = dict(zip(names, np.random.default_rng(1).uniform(0, 0.5, (6, 9)), strict=True))
    expected = dict(zip(NAMES, values.values(), strict=True))
    order = data.draw(st.permutations(names))
    assert_same(read_shear({name: values[name] for name in order}), expected)


@pytest.mark.parametrize(
    "names",
    [
        "right_ascension declination g1 g2 w z",
        "alpha_j2000 delta_j2000 e1 e2 w z_b",
        "raj2000 decj2000 e1 e2 w z_b",
    ],
)
def test_weight_is_not_lost_to_a_survey(names: str, columns: dict[str, np.ndarray]) -> None:
    """Names that a survey shares with others must not hide columns that it has not."""
    assert_same(read_shear(dict(zip(names.split(), columns.values(), strict=True))), columns)


def without(columns: dict[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    return {name: values for name, values in columns.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda c: without(c, "e2"), {}, r"no column for 'e2'.*ra, dec, e1, weight.*columns="),
        (lambda c: c, {"columns": {"e2": "nope"}}, r"no column for 'e2' \(looked for nope"),
        (lambda c: c, {"columns": {"z": "nope"}}, r"no column for 'z' \(looked for nope"),
        (lambda c: c, {"columns": {"e2": None}}, r"no column for 'e2'"),
        (lambda c: c, {"columns": {"shape": "e1"}}, r"roles \['shape'\]; expected some of"),
        (lambda c: c | {"g1": c["e1"]}, {}, r"columns e1, g1 could all be 'e1'; name"),
        (lambda c: c | {"RA": c["ra"]}, {"columns": {"ra": "Ra"}}, r"ra, RA could all be 'ra'"),
        (lambda c: c | {"w": c["e1"]}, {}, r"weight, w could all be 'weight'"),
        (lambda c: without(c, "e2") | {"g2": c["e2"]}, {}, r"'e1' and 'g2' are not a pair"),
        (lambda c: c | {"e1": np.full(300, "a")}, {}, r"'e1' \(e1\) is not .* row 0 holds 'a'"),
        (lambda c: c | {"e1": c["e1"].astype(str)}, {}, r"'e1' \(e1\) is not numeric"),
        (lambda c: c | {"e1": c["e1"] + 0j}, {}, r"'e1' \(e1\) is not numeric"),
        (lambda c: pd.DataFrame(c).astype({"ra": str}), {}, r"'ra' \(ra\) is not numeric"),
        (lambda c: pd.DataFrame({**c, "z": pd.Categorical(["x"] * 300)}), {}, r"row 0 holds 'x'"),
        (lambda c: c | {"e1": np.zeros((300, 2))}, {}, r"'e1' has shape \(300, 2\)"),
        (lambda c: c | {"e1": np.zeros(299)}, {}, r"'e1' has shape \(299,\); expected \(300,\)"),
        (lambda c: {n: v[:0] for n, v in c.items()}, {}, r"0 galaxies"),
        (lambda c: {n: v[:1] for n, v in c.items()}, {}, r"1 galaxies"),
        (lambda c: c | {"e2": c["e1"] * 100}, {}, r"\|e\| exceeds 1"),
        (lambda c: c | {"ra": np.where(c["ra"] < 0.5, np.inf, 1)}, {}, r"'ra' holds"),
        (lambda c: [1, 2], {}, r"cannot read columns from a list"),
    ],
)
def test_bad_tables(
    change: Any, options: dict[str, Any], message: str, columns: dict[str, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=message):
        read_shear(change(columns), **options)


def test_strings_in_a_csv_are_named(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    frame = pd.DataFrame(columns).astype({"e1": object})
    frame.loc[4, "e1"] = "bad"
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"'e1' \(e1\) is not numeric, row 4 holds 'bad'"):
        read_shear(tmp_path / "a.csv")


def test_header_without_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ra,dec,e1,e2\n")
    with pytest.raises(ValueError, match="holds no rows"):
        read_shear(tmp_path / "a.csv")


def test_cosmos_catalogue(shared: Path) -> None:
    """Schrabback et al. (2010): all 417117 galaxies; KSB shapes beyond 1 are few and are kept."""
    path = shared / "cosmos" / "s10_shear_catalog.fits"
    if not path.exists():
        pytest.skip(f"no {path}")
    catalog = read_shear(path)
    size = np.abs(catalog.ellipticity)
    assert len(catalog) == 417117
    assert 1.3 < size.max() < 1.5 and 0 < np.mean(size > 1) < 0.01
    assert np.ptp(catalog.ra_deg) < 2 and catalog.z is None
