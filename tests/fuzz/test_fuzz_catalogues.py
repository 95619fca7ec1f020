"""Catalogues with any content, in files with any bytes: galaxies, or a refusal with a remedy."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.table import Table
from cases import GRID, assert_finite, ended, run_cases, some_and_all
from hypothesis import strategies as st

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.footprint import grid_of_catalog
from jaxmap.reading.readers import read_shear

SPECIAL = (0.0, -0.0, 1.0, -1.0, 90.0, -90.0, 90.1, 360.0, -1e-300, 1e300, np.nan, np.inf, -np.inf)
VALUES = st.one_of(
    st.sampled_from(SPECIAL), st.floats(-1, 1), st.floats(0, 400), st.floats(allow_nan=True)
)
CELLS = st.one_of(
    VALUES.map(repr), st.sampled_from(("", "NA", "--", "1;2", '"', "a b", "é", "0x1"))
)
NAMES = ("ra", "dec", "e1", "e2", "weight", "z", "m", "RA", "e1_2", "dec (deg)", "c1", "R11", "g1")


@dataclass(frozen=True)
class Galaxies:
    """A mostly sound catalogue with some values replaced."""

    seed: int
    num: int
    spread: float
    dec: float
    replaced: tuple[tuple[str, int, float], ...]


GALAXIES = st.builds(
    Galaxies,
    seed=st.integers(0, 2**16),
    num=st.integers(0, 30),
    spread=st.sampled_from((1e-9, 1e-3, 0.05, 0.2, 5.0, 90.0)),
    dec=st.sampled_from((2.0, 2.0, 0.0, 89.95, -90.0)),
    replaced=st.lists(
        st.tuples(
            st.sampled_from(("ra_deg", "dec_deg", "e1", "e2", "weight")), st.integers(0, 29), VALUES
        ),
        max_size=3,
    ).map(tuple),
)


def columns_of(case: Galaxies) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(case.seed)
    columns = {
        "ra_deg": 150 + case.spread * rng.uniform(-1, 1, case.num),
        "dec_deg": case.dec + case.spread * rng.uniform(-1, 1, case.num),
        "e1": 0.3 * rng.uniform(-1, 1, case.num),
        "e2": 0.3 * rng.uniform(-1, 1, case.num),
        "weight": rng.uniform(0, 2, case.num),
    }
    for name, row, value in case.replaced:
        if row < case.num:
            columns[name][row] = value
    return columns


def catalog_of(case: Galaxies) -> ShearCatalog:
    columns = columns_of(case)
    shapes = np.empty(case.num, complex)
    shapes.real, shapes.imag = columns.pop("e1"), columns.pop("e2")
    return shear_catalog(**columns, ellipticity=shapes)


def assert_sound(catalog: ShearCatalog | None) -> None:
    assert_finite(catalog)
    if catalog is not None:
        assert len(catalog) >= 2 and (catalog.weight >= 0).all()


@some_and_all(400)
def test_binning(num: int):
    binned = 0

    def check(case: Galaxies) -> None:
        nonlocal binned
        catalog = ended(lambda: catalog_of(case))
        assert_sound(catalog)
        if catalog is None:
            return
        shear = ended(lambda: bin_shear(catalog, GRID))
        assert_finite(shear)
        binned += shear is not None
        grid = ended(lambda: grid_of_catalog(catalog))
        assert grid is None or 2 <= max(grid.shape) <= 8192

    run_cases(num, GALAXIES, check)
    assert binned > 0.15 * num


@dataclass(frozen=True)
class Text:
    """A table of any words."""

    names: list[str]
    rows: list[list[str]]
    delimiter: str
    end: str
    suffix: str


TEXTS = st.builds(
    Text,
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=7),
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=7), max_size=5),
    delimiter=st.sampled_from((",", " ", ";", "|", "\t")),
    end=st.sampled_from(("\n", "\r\n", "", "\n#", "\n\0")),
    suffix=st.sampled_from((".csv", ".txt", ".tsv", ".ecsv")),
)


@some_and_all(800)
def test_text_files(tmp_path: Path, num: int):
    def check(case: Text) -> None:
        path = tmp_path / f"galaxies{case.suffix}"
        lines = [case.names, *case.rows]
        text = "\n".join(case.delimiter.join(words) for words in lines) + case.end
        path.write_text(text, encoding="utf-8", newline="")
        assert_sound(ended(lambda: read_shear(path)))

    run_cases(num, TEXTS, check)


@dataclass(frozen=True)
class Damage:
    """Bytes changed, inserted or cut off in a whole file."""

    changed: tuple[tuple[float, int], ...]
    cut: float
    inserted: bytes


DAMAGE = st.builds(
    Damage,
    changed=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6).map(tuple),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    inserted=st.binary(max_size=8),
)


def damaged(content: bytes, damage: Damage) -> bytes:
    """The file with that damage; places are shares of its length, more of them at its head."""
    data = bytearray(content)
    for place, value in damage.changed:
        data[int(place**4 * (len(data) - 1))] = value
    del data[int(damage.cut * len(data)) :]
    middle = len(data) // 3
    return bytes(data[:middle] + damage.inserted + data[middle:])


def good_table() -> Table:
    columns = columns_of(Galaxies(1, 12, 0.1, 2.0, ()))
    columns["ra"], columns["dec"] = columns.pop("ra_deg"), columns.pop("dec_deg")
    return Table(columns)


def good_file(folder: Path, suffix: str) -> bytes:
    path = folder / f"good{suffix}"
    table = good_table()
    if suffix in (".csv", ".ecsv"):
        table.write(path, format=f"ascii{suffix}")
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name in table.colnames:
                file[f"shear/{name}"] = table[name]
    else:
        table.write(path)
    return path.read_bytes()


@some_and_all(200)
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".h5", ".parquet", ".ecsv"])
def test_damaged_files(tmp_path: Path, suffix: str, num: int):
    good = good_file(tmp_path, suffix)
    path = tmp_path / f"galaxies{suffix}"
    path.write_bytes(good)
    assert len(read_shear(path)) == 12

    def check(damage: Damage) -> None:
        path.write_bytes(damaged(good, damage))
        assert_sound(ended(lambda: read_shear(path)))

    run_cases(num, DAMAGE, check)


KINDS: dict[str, Any] = {
    "float": lambda values: values,
    "text": lambda values: values.astype(str),
    "object": lambda values: values.astype(object),
    "masked": lambda values: np.ma.masked_less(values, 0),
    "complex": lambda values: values + 0j,
    "pair": lambda values: np.stack([values, values], axis=1),
    "big-endian": lambda values: values.astype(">f8"),
    "short": lambda values: values[:-1],
}


@some_and_all(600)
def test_tables_in_memory(num: int):
    kinds = st.dictionaries(
        st.sampled_from(("ra_deg", "dec_deg", "e1", "e2", "weight")), st.sampled_from(sorted(KINDS))
    )
    options = st.fixed_dictionaries(
        {},
        optional={
            "flip_e1": st.booleans(),
            "distortion": st.booleans(),
            "m": VALUES,
            "c1": VALUES,
            "response": VALUES,
            "drop_invalid": st.booleans(),
        },
    )

    def check(case: tuple[Galaxies, dict[str, str], dict[str, Any]]) -> None:
        galaxies, chosen, given = case
        columns = columns_of(galaxies)
        table = {
            n.removesuffix("_deg"): KINDS[chosen.get(n, "float")](v) for n, v in columns.items()
        }
        assert_sound(ended(partial(read_shear, table, **given)))

    run_cases(num, st.tuples(GALAXIES, kinds, options), check)


def test_rows_of_one_byte_are_no_text(tmp_path: Path):
    """A control: damage is noticed at all."""
    path = tmp_path / "galaxies.fits"
    path.write_bytes(io.BytesIO(good_file(tmp_path, ".fits")).read()[:4000])
    with pytest.raises(ValueError, match="cut short"):
        read_shear(path)
