"""Public data: assembled as published, and a clear way out without a network."""

import argparse
import hashlib
import sys

import common
import jax
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from jaxmap import datasets
from jaxmap.benchmark import read_case
from jaxmap.reading.readers import read_shear


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMAP_CACHE", str(tmp_path))
    return tmp_path / "datasets" / datasets.COMMIT[:8]


@pytest.fixture
def published(cache, monkeypatch):
    """A function that puts a file where a fetched one would be, and takes it for the right one."""

    def put(name, values):
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, values)
        elif path.suffix == ".txt":
            path.write_text(values)
        else:  # as FITS images are: big-endian
            fits.PrimaryHDU(np.asarray(values)).writeto(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(datasets.SHA256, name, digest)

    return put


def put_noise(published, shared):
    with np.load(shared / "cosmos" / "binned_0.29arcmin_360.npz") as file:
        published("data/COSMOS/cosmos_full_mask_0.29arcmin360.fits", file["mask"].astype(np.uint8))
        for number in (1, 2):
            published(f"data/COSMOS/std{number}.fits", file["noise_std"][number - 1])


def put_case(published, shared):
    put_noise(published, shared)
    with np.load(shared / "ktng" / "table1.npz") as file:
        published("data/ktng/ktng_kappa360v2.fits", file["convergence"])
    published("data/ktng/ktng_PS_theory.npy", np.load(shared / "ktng" / "power_spectrum.npy"))


def put_catalog(published, shared):
    table = Table.read(shared / "cosmos" / "s10_shear_catalog.fits")
    for name in ("ra", "dec", "e1", "e2"):
        published(f"data/COSMOS/{name}.fits", np.asarray(table[name]))
    published("data/COSMOS/nhweight_int.fits", np.asarray(table["weight"]))
    return table


@pytest.mark.slow
def test_benchmark_case(published, shared):
    """The stored case, noise and all, from the map, the mask and the noise level."""
    stored = read_case(shared / "ktng" / "table1.npz")
    put_case(published, shared)
    spectrum = np.load(shared / "ktng" / "power_spectrum.npy")
    case = datasets.benchmark_case()
    np.testing.assert_array_equal(case.truth, stored.truth)
    np.testing.assert_allclose(case.shear.shear, stored.shear.shear, atol=2e-7)
    np.testing.assert_allclose(case.shear.weight, stored.shear.weight, rtol=1e-6)
    np.testing.assert_allclose(case.spectrum.c_ell, spectrum[1], rtol=1e-6)
    # The generator of today draws other noise.
    modern = jax.random.normal(jax.random.key(42), case.truth.shape, np.float32)
    with jax.threefry_partitionable(False):
        assert not np.allclose(
            modern, jax.random.normal(jax.random.key(42), case.truth.shape, np.float32)
        )


def test_cosmos_catalog(published, shared):
    table = put_catalog(published, shared)
    catalog = datasets.cosmos_catalog()
    assert len(catalog) == 417_117 and catalog.ra_deg.dtype.isnative
    np.testing.assert_array_equal(catalog.ra_deg, table["ra"])
    np.testing.assert_array_equal(catalog.ellipticity.imag, np.asarray(table["e2"], float))
    np.testing.assert_array_equal(catalog.weight, np.asarray(table["weight"], float))


XRAY = (
    "# Comes from a table\n# ID RA DEC\n"
    "3\t150.80244\t1.98985\t1.0\t0.70   0.16\t0.25\t0.69   0.14\t2.2   0.5\t0.56   0.06\t1\n"
    "145\t149.39739\t2.57480\t2.5\t20.42   0.46\t0.37\t26.47   0.54\t144.9   3.3\t3.98\t0\n"
)


def test_xray_clusters(published):
    published("data/xray.txt", XRAY)
    table = datasets.xray_clusters()
    assert list(table["id"]) == [3, 145]
    assert list(table["z"]) == [0.25, 0.37] and list(table["m500_1e13"]) == [0.69, 26.47]


@pytest.mark.slow
def test_experiments_without_the_folder_of_data(published, shared, tmp_path):
    """The files that the experiments read, laid out from what was fetched."""
    put_case(published, shared)
    put_catalog(published, shared)
    published("data/xray.txt", XRAY)
    options = argparse.Namespace(data=tmp_path / "nothing")
    folder = common.real_data(options)
    ours, stored = (read_case(one / "ktng" / "table1.npz") for one in (folder, shared))
    np.testing.assert_allclose(ours.shear.shear, stored.shear.shear, atol=2e-7)
    binned, stored_map = (
        np.load(one / "cosmos" / "binned_0.29arcmin_360.npz") for one in (folder, shared)
    )
    with binned, stored_map:
        for name in ("mask", "noise_std"):
            np.testing.assert_allclose(binned[name], stored_map[name], rtol=1e-6)
    assert len(read_shear(folder / "cosmos" / "s10_shear_catalog.fits")) == 417_117
    assert len(Table.read(folder / "cosmos" / "xray_clusters.ecsv")) == 2
    assert common.real_data(options) == folder  # not made again


def test_offline(cache, monkeypatch):
    """The message names the address, the file to put there by hand, and its hash."""
    pytest.importorskip("pooch")
    monkeypatch.setattr(datasets, "SOURCE", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="cannot fetch") as raised:
        datasets.xray_clusters()
    message = str(raised.value)
    for part in (
        "http://127.0.0.1:9/data/xray.txt",
        str(cache / "data" / "xray.txt"),
        datasets.SHA256["data/xray.txt"],
    ):
        assert part in message


def test_damaged_file_is_not_taken(cache, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setattr(datasets, "SOURCE", "http://127.0.0.1:9")
    path = cache / "data" / "xray.txt"
    path.parent.mkdir(parents=True)
    path.write_text("3\t150.8\t1.99\n")
    with pytest.raises(OSError, match="cannot fetch"):
        datasets.xray_clusters()


def test_without_pooch(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"jaxmap\[data\].*or save"):
        datasets.fetch("data/xray.txt")
