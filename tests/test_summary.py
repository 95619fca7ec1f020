"""Results in plain words."""

import re

import numpy as np
import pytest

import jaxmap
from jaxmap.summary import describe_input, describe_map, describe_sources


@pytest.mark.parametrize(("pixel", "fine"), [(2.0, False), (0.05, True)])
def test_density_does_not_depend_on_the_pixels(pixel, fine):
    """Twenty arcminutes squared with 4 galaxies per square arcminute, however fine the pixels."""
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(-1 / 6, 1 / 6, (2, 1600))
    shapes = 0.2 * rng.normal(size=1600) + 0.2j * rng.normal(size=1600)
    catalog = jaxmap.shear_catalog(150 + ra, dec, shapes, np.ones(1600))
    side = round(20 / pixel)
    grid = jaxmap.grid_of_catalog(catalog, pixel_arcmin=pixel, shape=(side, side))
    said = describe_input(catalog, jaxmap.bin_shear(catalog, grid), 0.2, "here")
    (density, inside) = re.search(r"\((\S+) per arcmin2 .*, (\S+) in a pixel", said).groups()
    assert float(density) == pytest.approx(4, rel=0.05)
    assert float(inside) == pytest.approx(1 if fine else 4 * pixel**2, rel=0.1)
    assert ("--pixel-arcmin" in said) == fine


def test_whose_power_spectrum():
    assert "n(z) of COSMOS, since no --nz is given;" in describe_sources(None, None)
    assert "n(z) of mine.csv;" in describe_sources("mine.csv", None)
    told = describe_sources(None, "power.txt")
    assert "that of power.txt;" in told and "COSMOS" not in told


def test_the_peak_told_is_the_highest_not_the_one_of_least_error():
    """Errors of few samples are much too small somewhere."""
    grid = jaxmap.Grid((8, 9), 1.0)
    convergence = np.full(grid.shape, 0.02)
    convergence[3, 4] = 0.06
    std = np.full(grid.shape, 0.02)
    std[6, 2] = 0.001
    result = jaxmap.MassMap(convergence, grid, np.ones(grid.shape, bool), std=std)
    assert "Highest peak: S/N 3.0 (convergence 0.060 +- 0.020)" in describe_map(result, "ks")
