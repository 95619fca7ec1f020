"""Simulated fields and mock catalogues."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.binning import bin_shear
from jaxmap.grid import Grid
from jaxmap.operators import reduced_shear
from jaxmap.simulation.fields import gaussian_field, lognormal_field
from jaxmap.simulation.survey import mock_catalog
from jaxmap.spectra import PowerSpectrum, map_power

GRID = Grid((128, 128), 1.0, (30.0, 20.0))


@pytest.fixture
def spectrum(spectrum):
    """As weak as cosmic shear on these pixels, so that a lognormal field can have it."""
    return PowerSpectrum(spectrum.ell, 0.05 * spectrum.c_ell)


@pytest.mark.parametrize("field", [gaussian_field, lognormal_field])
def test_fields_have_the_spectrum(spectrum, field):
    """Band powers of 100 maps within 4 standard errors plus 2 % (table interpolation)."""
    edges = np.geomspace(200, 8000, 6)
    powers = jnp.stack(
        [map_power(field(jax.random.key(k), spectrum, GRID), GRID, edges)[1] for k in range(100)]
    )
    ell = jnp.abs(GRID.ell())
    expected = []
    for low, high in pairwise(edges):
        inside = (ell >= low) & (ell < high)
        expected.append(float(jnp.sum(jnp.where(inside, spectrum(ell), 0)) / inside.sum()))
    ratio = powers.mean(axis=0) / jnp.asarray(expected)
    error = powers.std(axis=0) / jnp.asarray(expected) / 10
    assert jnp.all(jnp.abs(ratio - 1) < 4 * error + 0.02)
    assert not jnp.all(jnp.abs(1.15 * ratio - 1) < 4 * error + 0.02)


def test_lognormal_fields_are_skewed_and_bounded(spectrum):
    log, gauss = (f(jax.random.key(0), spectrum, GRID) for f in (lognormal_field, gaussian_field))

    def skewness(field):
        return float(jnp.mean((field - field.mean()) ** 3) / jnp.std(field) ** 3)

    assert float(log.min()) > -0.03
    assert skewness(log) > 0.5 > 5 * abs(skewness(gauss))


def test_mock_galaxies_carry_the_reduced_shear_of_their_place(spectrum):
    kappa = lognormal_field(jax.random.key(3), spectrum, GRID)
    catalog = mock_catalog(jax.random.key(4), kappa, GRID, 200_000, shape_noise=1e-4)
    data = bin_shear(catalog, GRID)
    g = reduced_shear(kappa, GRID)
    # Every galaxy of a pixel has the same shear, so only the tiny shape noise is left.
    assert float(jnp.abs(jnp.where(data.mask, data.shear - g, 0)).max()) < 5e-4


def test_shape_noise_and_field_of_mocks(spectrum):
    field = Grid((64, 32), 1.0, (30.0, 20.0))
    catalog = mock_catalog(jax.random.key(4), jnp.zeros(GRID.shape), GRID, 50_000, 0.26, field)
    x, y = field.pixel_position(catalog.ra_deg, catalog.dec_deg)
    for position, side in ((x, 32), (y, 64)):
        assert position.min() == pytest.approx(-0.5, abs=0.1)
        assert position.max() == pytest.approx(side - 0.5, abs=0.1)
    error = 0.26 / np.sqrt(2 * 50_000)
    for part in (catalog.ellipticity.real, catalog.ellipticity.imag):
        # The cut at |e| < 0.95 takes 0.1 % of the spread.
        assert abs(np.std(part) - 0.26) < 4 * error + 1e-3 * 0.26
