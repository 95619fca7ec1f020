"""Choosing a grid for a catalogue."""

import numpy as np
import pytest

from jaxmap.catalog import shear_catalog
from jaxmap.footprint import GALAXIES_PER_PIXEL, grid_of_catalog
from jaxmap.grid import Grid


def catalog_around(centre, width_deg=1.0, num=5000):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-width_deg / 2, width_deg / 2, (2, num)) * 60
    ra, dec = Grid((1, 1), 1.0, centre).wcs().all_pix2world(x, y, 0)
    return shear_catalog(
        ra, dec, 0.3 * rng.normal(size=num) * np.exp(1j * rng.uniform(0, 7, num)) / 3
    )


@pytest.mark.parametrize("centre", [(150.0, 2.0), (0.01, -40.0), (77.0, 90.0), (200.0, -89.8)])
def test_all_galaxies_fit(centre):
    catalog = catalog_around(centre)
    grid = grid_of_catalog(catalog)
    x, y = grid.pixel_position(catalog.ra_deg, catalog.dec_deg)
    ny, nx = grid.shape
    assert x.min() > -0.5 and x.max() < nx - 0.5 and y.min() > -0.5 and y.max() < ny - 0.5
    # ... and hardly more than they need.
    assert nx * grid.pixel_arcmin < 60 * 1.42 + 3 * grid.pixel_arcmin
    per_pixel = len(catalog) / (60 / grid.pixel_arcmin) ** 2
    assert 0.6 * GALAXIES_PER_PIXEL < per_pixel < 1.5 * GALAXIES_PER_PIXEL


def test_galaxies_without_weight_do_not_widen_the_field():
    catalog = catalog_around((10.0, 0.0))
    ra = catalog.ra_deg.copy()
    weight = np.ones(len(catalog))
    ra[0], weight[0] = 40.0, 0.0
    lone = shear_catalog(ra, catalog.dec_deg, catalog.ellipticity, weight)
    assert max(grid_of_catalog(lone, 1.0).shape) < 64


def test_what_is_given_is_taken():
    grid = grid_of_catalog(catalog_around((10.0, 0.0)), 0.5, shape=(33, 44), centre_deg=(10.1, 0.2))
    assert grid == Grid((33, 44), 0.5, (10.1, 0.2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel_arcmin": 0.0}, "pixel scale is 0.0"),
        ({"pixel_arcmin": -1.0}, "pixel scale is -1.0"),
        ({"pixel_arcmin": float("nan")}, "pixel scale is nan"),
        ({"pixel_arcmin": 1e-3}, "at most 8192 on a side"),
        ({"pixel_arcmin": 1.0, "shape": (10, 10_000)}, "10 x 10000 pixels"),
        ({"pixel_arcmin": 1.0, "centre_deg": (0.0, 95.0)}, "Dec"),
    ],
)
def test_bad_fields_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        grid_of_catalog(catalog_around((10.0, 0.0)), **arguments)


def test_wide_catalogues_are_refused_with_a_way_out():
    rng = np.random.default_rng(1)
    e = 0.1 * (rng.normal(size=100) + 1j * rng.normal(size=100))
    for ra, dec in (
        (rng.uniform(0, 60, 100), rng.uniform(-5, 5, 100)),
        (rng.uniform(0, 360, 100), rng.uniform(-80, 80, 100)),
    ):
        catalog = shear_catalog(ra, dec, e)
        with pytest.raises(ValueError, match="--centre RA,DEC --size N"):
            grid_of_catalog(catalog)
        part = grid_of_catalog(catalog, 1.0, shape=(60, 60), centre_deg=(30.0, 0.0))
        assert part.centre_deg == (30.0, 0.0)
