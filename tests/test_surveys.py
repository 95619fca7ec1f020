"""Every preset on a known lens: the shear of the sky must come back through each layout."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog
from jaxmap.estimators import KaiserSquires
from jaxmap.grid import Grid
from jaxmap.reading import surveys
from jaxmap.reading.readers import read_shear
from jaxmap.reading.surveys import SURVEYS, Survey

LENS_DEG = (150.1, 2.2)


@pytest.fixture(scope="module")
def sky() -> ShearCatalog:
    """Tangential shear around one mass, drawn on the sky without any use of the package.

    A galaxy at position angle PA (east of north) from the lens is stretched at right angles to
    that direction: g = gt exp(2 i PA), positive (east-west) due north of the lens and positive
    imaginary (north-west to south-east) in its north-east.
    """
    rng = np.random.default_rng(8)
    ra = LENS_DEG[0] + rng.uniform(-0.4, 0.4, 400)
    dec = LENS_DEG[1] + rng.uniform(-0.4, 0.4, 400)
    lens = SkyCoord(*LENS_DEG, unit="deg")
    galaxies = SkyCoord(ra, dec, unit="deg")
    tangential = 0.02 / np.maximum(galaxies.separation(lens).deg, 0.05)
    angle = galaxies.position_angle(lens).rad
    shear = tangential * np.exp(2j * angle)
    return ShearCatalog(ra, dec, shear, rng.uniform(0.2, 2, 400), rng.uniform(0.2, 2, 400))


def write_hdf5(path: Path, columns: dict[str, np.ndarray]) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return path


def cosmos_ascii(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    g = sky.ellipticity
    names = "Ra Dec Xs Ys MAG_AUTO e1iso_rot4_gr_snCal e2iso_rot4_gr_snCal nhweight_int zphot"
    x = np.zeros(len(sky))
    data = np.column_stack([sky.ra_deg, sky.dec_deg, x, x, x, g.real, g.imag, sky.weight, sky.z])
    path = tmp / "cosmos_bright_cat_min.asc"
    np.savetxt(path, data, fmt="%.17g", header=names)
    return path, {}


def cosmos_fits(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    g = sky.ellipticity
    table = Table([sky.ra_deg, sky.dec_deg, g.real, g.imag, sky.weight, sky.z])
    table = Table(table, names=["ra", "dec", "e1", "e2", "weight", "z"])
    table.write(tmp / "s10.fits")
    return tmp / "s10.fits", {}


def des(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    # Responses scatter by far more than their mean: per-galaxy division would fail here.
    rng = np.random.default_rng(1)
    r11, r22 = rng.normal(0.7, 1.5, (2, len(sky)))
    selection, m = 0.004, -0.0198
    mean = 0.5 * np.average(r11 + r22, weights=sky.weight) + selection
    e = sky.ellipticity * mean * (1 + m)
    group = "catalog/unsheared/"
    columns = dict(ra=sky.ra_deg, dec=sky.dec_deg, e_1=e.real, e_2=e.imag, R11=r11, R22=r22)
    columns |= dict(R12=r11, R21=r22, weight=sky.weight)
    columns = {group + name: values for name, values in columns.items()}
    columns |= {f"catalog/sheared_{k}/weight": sky.weight for k in ("1p", "1m", "2p", "2m")}
    preset = replace(surveys.DES_Y3, selection_response=selection)
    return write_hdf5(tmp / "DESY3.h5", columns), {"m": m, "survey": preset}


def kids(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    m, c1, c2 = -0.023, 2e-4, -3e-4
    e = sky.ellipticity * (1 + m) + (c1 + 1j * c2)
    names = ["ALPHA_J2000", "DELTA_J2000", "e1", "e2", "weight", "Z_B"]
    table = Table([sky.ra_deg, sky.dec_deg, e.real, e.imag, sky.weight, sky.z], names=names)
    table.write(tmp / "kids.fits")
    return tmp / "kids.fits", {"m": m, "c1": c1, "c2": c2}


def hsc_columns(sky: ShearCatalog) -> dict[str, np.ndarray]:
    """Distortions 2R [(1 + <m>) g + c], with e2 (and c2) counted the other way round."""
    rng = np.random.default_rng(1)
    e_rms, m = rng.uniform(0.3, 0.45, len(sky)), rng.normal(-0.1, 0.05, len(sky))
    c1, c2 = rng.normal(0, 1e-3, (2, len(sky)))
    mean_r = 1 - np.average(e_rms**2, weights=sky.weight)
    g = np.conj(sky.ellipticity) * (1 + np.average(m, weights=sky.weight)) + c1 + 1j * c2
    e = 2 * mean_r * g
    return dict(e1=e.real, e2=e.imag, m=m, c1=c1, c2=c2, e_rms=e_rms)


def hsc_y1(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    c = hsc_columns(sky)
    start = "ishape_hsm_regauss_"
    table = Table({"ira": sky.ra_deg, "idec": sky.dec_deg})
    table[start + "e1"], table[start + "e2"] = c["e1"], c["e2"]
    table[start + "derived_shape_weight"] = sky.weight
    table[start + "derived_shear_bias_m"] = c["m"]
    table[start + "derived_shear_bias_c1"] = c["c1"]
    table[start + "derived_shear_bias_c2"] = c["c2"]
    table[start + "derived_rms_e"] = c["e_rms"]
    table[start + "resolution"] = 0.5
    table.write(tmp / "hsc_y1.fits")
    return tmp / "hsc_y1.fits", {}


def hsc(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    c = hsc_columns(sky)
    start = "i_hsmshaperegauss_"
    table = Table({"i_ra": sky.ra_deg, "i_dec": sky.dec_deg})
    table[start + "e1"], table[start + "e2"] = c["e1"], c["e2"]
    table[start + "derived_weight"] = sky.weight
    for name in ("m", "c1", "c2"):
        table[f"{start}derived_shear_bias_{name}"] = c[name]
    table[start + "derived_rms_e"] = c["e_rms"]
    table["b_mode_mask"], table["hsc_y3_zbin"] = 1, 2
    table.write(tmp / "GAMA09H.fits")
    return tmp / "GAMA09H.fits", {}


def euclid(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    from astropy.io import fits

    g = sky.ellipticity
    table = Table({"SHE_LENSMC_UPDATED_RA": sky.ra_deg, "SHE_LENSMC_UPDATED_DEC": sky.dec_deg})
    table["SHE_LENSMC_G1"], table["SHE_LENSMC_G2"] = g.real, g.imag
    table["SHE_LENSMC_G1_CHAIN"] = np.zeros((len(sky), 5), np.float32)
    table["SHE_LENSMC_WEIGHT"], table["PHZ_MEDIAN"] = sky.weight, sky.z
    tables = [Table({"a": [1]}), table]
    hdus = [fits.table_to_hdu(t) for t in tables]
    hdus[1].name = "SOURCE_CATALOG"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp / "euclid.fits")
    return tmp / "euclid.fits", {}


def euclid_proxy(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    g = sky.ellipticity
    names = ["RIGHT_ASCENSION", "DECLINATION", "G1", "G2", "WEIGHT"]
    table = Table([sky.ra_deg, sky.dec_deg, g.real, g.imag, sky.weight], names=names)
    table["TOM_BIN_ID"] = 1
    table.write(tmp / "proxy.fits")
    return tmp / "proxy.fits", {}


def txpipe_binned(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    g = sky.ellipticity
    columns = dict(ra=sky.ra_deg, dec=sky.dec_deg, g1=g.real, g2=g.imag, weight=sky.weight)
    binned = {f"shear/bin_0/{name}": values for name, values in columns.items()}
    binned |= {f"shear/bin_1/{name}": values[::-1] for name, values in columns.items()}
    preset = surveys.TXPIPE
    return write_hdf5(tmp / "binned.hdf5", binned), {"group": "shear/bin_0", "survey": preset}


def txpipe_lensfit(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    rng = np.random.default_rng(1)
    m = rng.normal(0.01, 0.05, len(sky))
    c1, c2 = rng.normal(0, 1e-3, (2, len(sky)))
    g = sky.ellipticity * (1 + np.average(m, weights=sky.weight)) + c1 + 1j * c2
    columns = dict(ra=sky.ra_deg, dec=sky.dec_deg, g1=g.real, g2=g.imag, m=m, c1=c1, c2=c2)
    columns |= dict(weight=sky.weight)
    columns = {f"shear/{name}": values for name, values in columns.items()}
    return write_hdf5(tmp / "lensfit.hdf5", columns), {}


def txpipe_metacal(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    rng = np.random.default_rng(1)
    r11, r22 = rng.normal(0.8, 0.3, (2, len(sky)))
    g = sky.ellipticity * 0.5 * np.average(r11 + r22, weights=sky.weight)
    columns = dict(ra=sky.ra_deg, dec=sky.dec_deg, mcal_g1=g.real, mcal_g2=g.imag)
    columns |= dict(mcal_g1_1p=g.real + 0.01 * r11, mcal_g1_1m=g.real - 0.01 * r11)
    columns |= dict(mcal_g2_2p=g.imag + 0.01 * r22, mcal_g2_2m=g.imag - 0.01 * r22)
    columns |= dict(weight=sky.weight)
    columns = {f"shear/{name}": values for name, values in columns.items()}
    return write_hdf5(tmp / "metacal.hdf5", columns), {}


def generic(sky: ShearCatalog, tmp: Path) -> tuple[Path, dict[str, Any]]:
    g = sky.ellipticity
    names = ["right_ascension", "Declination", "gamma1", "gamma2", "w", "redshift"]
    table = Table([sky.ra_deg, sky.dec_deg, g.real, g.imag, sky.weight, sky.z], names=names)
    table.write(tmp / "mine.csv")
    return tmp / "mine.csv", {}


LAYOUTS = [
    (cosmos_ascii, "cosmos", True),
    (cosmos_fits, "cosmos", False),
    (des, "des_y3", True),
    (kids, "kids", True),
    (hsc_y1, "hsc_y1", True),
    (hsc, "hsc", True),
    (euclid, "euclid", True),
    (euclid_proxy, "euclid", True),
    (txpipe_binned, "txpipe", False),
    (txpipe_lensfit, "txpipe", True),
    (txpipe_metacal, "txpipe", True),
    (generic, "generic", True),
]


@pytest.mark.parametrize(("layout", "name", "recognised"), LAYOUTS)
def test_known_lens(
    layout: Any, name: str, recognised: bool, sky: ShearCatalog, tmp_path: Path, caplog: Any
) -> None:
    path, options = layout(sky, tmp_path)
    read = read_shear(path, **({"survey": SURVEYS[name]} | options))
    np.testing.assert_allclose(read.ellipticity, sky.ellipticity, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(read.ra_deg, sky.ra_deg)
    np.testing.assert_array_equal(read.weight, sky.weight)
    if read.z is not None:
        np.testing.assert_array_equal(read.z, sky.z)

    # Without being told the survey: the same shear, and the log says what was taken.
    with caplog.at_level(logging.INFO, "jaxmap"):
        automatic = read_shear(path, **{k: v for k, v in options.items() if k != "survey"})
    assert f"survey {name if recognised else 'generic'}" in caplog.text
    rtol = 0.02 if name == "des_y3" else 1e-6  # only the selection response is not known
    np.testing.assert_allclose(automatic.ellipticity, sky.ellipticity, rtol=rtol, atol=0)

    # Control: the wrong sign of e2 must be seen.
    flip = not SURVEYS[name].flip_e2
    wrong = read_shear(path, **({"survey": SURVEYS[name]} | options | {"flip_e2": flip}))
    np.testing.assert_allclose(wrong.ellipticity, np.conj(sky.ellipticity), rtol=1e-6, atol=0)
    assert np.abs(wrong.ellipticity - sky.ellipticity).max() > 0.05

    # On a map the lens is a positive peak, and with the wrong sign it is not.
    right_peak, wrong_peak = (peak_at_lens(catalog) for catalog in (read, wrong))
    assert right_peak > 0.02 and wrong_peak < 0.3 * right_peak


def peak_at_lens(catalog: ShearCatalog) -> float:
    grid = Grid((32, 32), 2.0, LENS_DEG)
    result = KaiserSquires(2.0)(None, bin_shear(catalog, grid, 0.3))
    return float(result.convergence[14:18, 14:18].max())


def test_sky_is_tangential_in_the_house_frame(sky: ShearCatalog) -> None:
    """The drawn sky and `Grid` agree on x = west, y = north; the conjugate does not."""
    x, y = Grid((64, 64), 1.0, LENS_DEG).pixel_position(sky.ra_deg, sky.dec_deg)
    angle = np.arctan2(y - 31.5, x - 31.5)
    tangential = -sky.ellipticity * np.exp(-2j * angle)
    np.testing.assert_allclose(tangential.real, np.abs(sky.ellipticity), rtol=1e-3)
    wrong = -np.conj(sky.ellipticity) * np.exp(-2j * angle)
    assert abs(np.mean(wrong.real)) < 0.2 * np.mean(tangential.real)


def test_flip_e1_and_both(sky: ShearCatalog, tmp_path: Path) -> None:
    path, _ = cosmos_fits(sky, tmp_path)
    flipped = read_shear(path, flip_e1=True, flip_e2=True)
    np.testing.assert_array_equal(flipped.ellipticity, -sky.ellipticity)


def test_arguments_go_before_columns(sky: ShearCatalog, tmp_path: Path) -> None:
    path, options = txpipe_metacal(sky, tmp_path)
    one, two = (read_shear(path, response=r, **options).ellipticity for r in (1.0, 2.0))
    np.testing.assert_allclose(one, 2 * two, rtol=1e-12)
    path, _ = txpipe_lensfit(sky, tmp_path)
    m = np.linspace(0, 0.2, len(sky))
    ratio = read_shear(path, m=0).ellipticity / read_shear(path, m=m).ellipticity
    np.testing.assert_allclose(ratio, 1 + np.average(m, weights=sky.weight), rtol=1e-12)


def test_missing_calibration_is_an_error(sky: ShearCatalog, tmp_path: Path) -> None:
    path, _ = hsc(sky, tmp_path)
    table = Table.read(path)
    table.remove_column("i_hsmshaperegauss_derived_shear_bias_m")
    with pytest.raises(ValueError, match=r"need a multiplicative bias.*give m=... \(--m; 0 to do"):
        read_shear(table)
    assert len(read_shear(table, m=0)) == len(sky)
    des_like = {"ra": sky.ra_deg, "dec": sky.dec_deg, "e_1": sky.weight, "e_2": sky.weight}
    with pytest.raises(ValueError, match="needs a response"):
        read_shear(des_like, survey=surveys.DES_Y3)


def test_presets_are_consistent() -> None:
    for name, survey in SURVEYS.items():
        assert isinstance(survey, Survey) and survey.name == name
        assert set(survey.columns) <= set(surveys.ROLES)
        assert len(survey.columns["e1"]) == len(survey.columns["e2"])
        assert hash(survey) == hash(replace(survey))
        for signature in survey.signatures:
            assert signature == {word.lower() for word in signature}
    assert {n for n, s in SURVEYS.items() if s.flip_e2} == {"hsc", "hsc_y1"}
