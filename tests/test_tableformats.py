"""Details of single formats: repeated names, units, cut headers, options of another format."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from jaxmap.reading.readers import read_shear

COLUMNS = {name: np.linspace(0.1, 0.5, 40) for name in ("ra", "dec", "e1", "e2")}


def test_repeated_names(tmp_path: Path) -> None:
    columns = [fits.Column(name, "D", array=v) for name, v in COLUMNS.items()]
    columns.append(fits.Column("xx", "D", array=COLUMNS["e2"]))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content.replace(b"'xx      '", b"'e2      '"))
    frame = pd.DataFrame(COLUMNS | {"xx": COLUMNS["e2"]})
    frame.columns = [*COLUMNS, "e2"]
    Table(COLUMNS | {"xx": COLUMNS["e2"]}).write(tmp_path / "a.ecsv")
    ecsv = (tmp_path / "a.ecsv").read_text().replace("xx", "e2")
    (tmp_path / "a.ecsv").write_text(ecsv)
    for source in (tmp_path / "a.fits", tmp_path / "a.ecsv", frame):
        with pytest.raises(ValueError, match="more than one column is called 'e2'; rename"):
            read_shear(source)


def test_decimals_of_parquet(tmp_path: Path) -> None:
    exact = [Decimal(f"0.{i:02d}") for i in range(39)]
    pd.DataFrame(COLUMNS | {"e1": [*exact, None]}).to_parquet(tmp_path / "a.parquet")
    read = read_shear(tmp_path / "a.parquet", drop_invalid=True)
    np.testing.assert_array_equal(read.ellipticity.real, np.arange(39) / 100)


@pytest.mark.parametrize("unit", [np.array([b"rad"]), np.array("rad", object), ["rad"], b"rad"])
def test_forms_of_hdf5_units(unit: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in COLUMNS.items():
            file[name] = values
        file["ra"].attrs["units"] = unit
        file["dec"].attrs["units"] = np.array([], "S3")
    read = read_shear(tmp_path / "a.h5")
    np.testing.assert_allclose(read.ra_deg, np.rad2deg(COLUMNS["ra"]))
    np.testing.assert_array_equal(read.dec_deg, COLUMNS["dec"])


def test_units_of_fits_as_surveys_spell_them(tmp_path: Path) -> None:
    columns = [fits.Column(n, "D", array=v, unit="DEG") for n, v in COLUMNS.items()]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_shear(tmp_path / "a.fits").ra_deg, COLUMNS["ra"])


def test_fits_cut_in_the_header_of_a_table(tmp_path: Path) -> None:
    Table(COLUMNS).write(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    for end in (2881, 3000, 5000, 5700):
        (tmp_path / "a.fits").write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"^cannot read .*a\.fits.*cut short") as caught:
            read_shear(tmp_path / "a.fits")
        assert "\n" not in str(caught.value)


def test_options_of_another_format(tmp_path: Path) -> None:
    for name in ("a.fits", "a.csv"):
        Table(COLUMNS).write(tmp_path / name)
        with pytest.raises(ValueError, match=r"group='x' \(--group\) applies to HDF5 files only"):
            read_shear(tmp_path / name, group="x")
    for source in (tmp_path / "a.csv", COLUMNS):
        with pytest.raises(ValueError, match=r"hdu=1 \(--hdu\) applies to FITS files only"):
            read_shear(source, hdu=1)
