"""Tables of haloes: against colossus and pyccl, the cache, machines without colossus."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxmap.matter_power import PLANCK18
from jaxmap.simulation import halo_tables as module
from jaxmap.simulation.halo_tables import compute_halo_table, halo_table

OTHER = replace(PLANCK18, sigma8=0.75)


@pytest.mark.release
def test_shipped_table_is_what_the_code_computes() -> None:
    pytest.importorskip("colossus")
    shipped, computed = halo_table(PLANCK18), compute_halo_table(PLANCK18)
    for name in module._ARRAYS:
        np.testing.assert_allclose(getattr(shipped, name), getattr(computed, name), rtol=2e-5)


def test_table_agrees_with_ccl() -> None:
    """An independent code: abundance to 3 %, bias to 2 %, where haloes lens."""
    ccl = pytest.importorskip("pyccl")
    cosmo = ccl.Cosmology(
        Omega_c=PLANCK18.omega_m - PLANCK18.omega_b,
        Omega_b=PLANCK18.omega_b,
        h=PLANCK18.h,
        n_s=PLANCK18.n_s,
        sigma8=PLANCK18.sigma8,
        Omega_g=0,
        transfer_function="eisenstein_hu",
    )
    abundance = ccl.halos.MassFuncTinker08(mass_def="200m")
    bias = ccl.halos.HaloBiasTinker10(mass_def="200m")
    table = halo_table(PLANCK18)
    mass = np.asarray(table.mass)
    lensing = (mass > 1e12) & (mass < 10**14.8)
    for row in (0, 10, 16):
        a = 1 / (1 + float(table.z[row]))
        theirs = abundance(cosmo, mass / PLANCK18.h, a) / PLANCK18.h**3 / np.log(10)
        ours = np.exp(np.asarray(table.log_abundance[row]))
        np.testing.assert_allclose(ours[lensing], theirs[lensing], rtol=0.03)
        theirs = bias(cosmo, mass / PLANCK18.h, a)
        np.testing.assert_allclose(np.asarray(table.bias[row])[lensing], theirs[lensing], rtol=0.02)


def test_haloes_grow_with_time_and_sigma8() -> None:
    table = halo_table(PLANCK18)
    massive = np.asarray(table.log_abundance)[:, np.asarray(table.mass) > 1e14]
    assert np.all(np.diff(massive, axis=0) <= 0)
    assert np.all(np.asarray(table.concentration) > 2)


@pytest.mark.release
def test_other_cosmologies_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    colossus = pytest.importorskip("colossus.cosmology.cosmology")
    monkeypatch.setenv("JAXMAP_CACHE", str(tmp_path))
    mine = colossus.setCosmology("WMAP9", persistence="")
    table = halo_table(OTHER)
    assert colossus.getCurrent() is mine, "the user's colossus cosmology must survive"
    assert float(table.log_abundance[0, 60]) < float(halo_table(PLANCK18).log_abundance[0, 60])
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(module, "compute_halo_table", lambda cosmology: pytest.fail("not cached"))
    np.testing.assert_allclose(halo_table(OTHER).bias, table.bias, rtol=1e-6)
    monkeypatch.setattr(module, "compute_halo_table", lambda cosmology: table)
    path.write_bytes(path.read_bytes()[:-100])
    np.testing.assert_allclose(halo_table(OTHER).bias, table.bias, rtol=1e-6)


def test_without_colossus_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAXMAP_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "colossus", None)
    monkeypatch.setitem(sys.modules, "colossus.cosmology", None)
    with pytest.raises(ImportError, match=r'pip install "jaxmap\[clusters\]"'):
        halo_table(OTHER)
    assert halo_table(PLANCK18).mass.shape == (97,)
