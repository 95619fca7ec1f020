"""Simulated fields."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.grid import Grid
from jaxmap.simulation.fields import gaussian_field, lognormal_field
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
