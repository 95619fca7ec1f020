"""The run-time checks: signs of the ellipticities, residuals, spread against error."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.binning import bin_shear
from jaxmap.catalog import shear_map
from jaxmap.diagnostics import check_e2_sign, chi2_per_pixel, std_over_error
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field


@pytest.fixture(scope="module")
def survey(spectrum):
    grid = Grid((96, 90), 1.0)
    kappa = gaussian_field(jax.random.key(0), spectrum, grid)
    noise = 0.05 * jax.random.normal(jax.random.key(1), (2, *grid.shape))
    std = np.full(grid.shape, 0.05)
    std[30:50, 20:45] = 0
    shear = shear_from_convergence(kappa, grid) + jax.lax.complex(*noise)
    return shear_map(shear, grid, noise_std=std)


def conjugate(data):
    return replace(data, shear=data.shear.conj())


def test_the_right_sign_passes_and_the_wrong_one_is_found(survey):
    right, wrong = check_e2_sign(survey), check_e2_sign(conjugate(survey))
    assert right.as_given > 5 and not right.looks_flipped
    assert wrong.flipped == pytest.approx(right.as_given) and wrong.looks_flipped


def full(shape):
    return np.ones(shape, bool)


def strip(shape):
    y, x = np.indices(shape)
    return np.abs(x - y) < 7


def two_patches(shape):
    inside = np.zeros(shape, bool)
    inside[5:20, 8:25] = inside[60:80, 60:75] = True
    return inside


@pytest.mark.parametrize("footprint", [full, strip, two_patches])
def test_pure_noise_raises_no_alarm(survey, footprint):
    """Over 200 noise maps: mean 0 within 4 standard errors, hardly an alarm, spread about 1.

    On a mask the effective number of modes is approximate: the spread was seen at 0.73, so the
    lower bound is wide (an error too large is safe). The control: without the correction for the
    mask the spread is far beyond the upper bound.
    """
    observed = footprint(survey.grid.shape)
    data = replace(survey, weight=400.0 * jnp.broadcast_to(observed, survey.weight.shape))
    excess, alarms = [], 0
    for seed in range(200):
        noise = 0.05 * jax.random.normal(jax.random.key(seed), (2, *survey.grid.shape))
        check = check_e2_sign(replace(data, shear=jax.lax.complex(*noise)))
        excess.append(check.as_given)
        alarms += check.looks_flipped
    assert abs(np.mean(excess)) < 4 * np.std(excess) / np.sqrt(200)
    assert 0.65 < np.std(excess) < 1.2
    if not observed.all():
        assert np.std(excess) / np.sqrt(observed.mean()) > 1.5
    assert alarms <= 1


@pytest.mark.parametrize("second", [1.0, 4.0])
def test_an_additive_bias_is_no_signal(survey, second):
    """Whatever the weights of the second component against those of the first."""
    observed = strip(survey.grid.shape)
    data = replace(survey, weight=400.0 * jnp.stack([observed, second * observed]))
    noise = 0.05 * jax.random.normal(jax.random.key(3), (2, *survey.grid.shape))
    plain = check_e2_sign(replace(data, shear=jax.lax.complex(*noise)))
    biased = check_e2_sign(replace(data, shear=jax.lax.complex(*noise) + 0.1))
    np.testing.assert_allclose(biased, plain, atol=1e-6)


def test_cosmos_signs(shared):
    """The real catalogue passes in its own convention and fails with e2 flipped."""
    from jaxmap.footprint import grid_of_catalog
    from jaxmap.reading.readers import read_shear

    catalog = read_shear(shared / "cosmos" / "s10_shear_catalog.fits")
    data = bin_shear(catalog, grid_of_catalog(catalog, 0.5))
    right, wrong = check_e2_sign(data), check_e2_sign(conjugate(data))
    assert right.as_given > 3 and not right.looks_flipped
    assert wrong.looks_flipped


def test_chi2_counts_observed_components(survey):
    """Noise of the stated variance around the true map: 1 within 4 standard errors."""
    kappa = jnp.zeros(survey.grid.shape)
    noise = 0.05 * jax.random.normal(jax.random.key(9), (2, *survey.grid.shape))
    data = replace(survey, shear=jax.lax.complex(*noise))
    num = int(jnp.sum(data.weight > 0))
    assert abs(float(chi2_per_pixel(kappa, data)) - 1) < 4 * np.sqrt(2 / num)
    louder = replace(data, shear=1.1 * data.shear)
    assert abs(float(chi2_per_pixel(kappa, louder)) - 1) > 4 * np.sqrt(2 / num)


@pytest.mark.parametrize("num", [2, 6, 20])
def test_std_over_error_of_few_samples(num):
    """One for samples that are draws like the truth, however few; not so for tighter ones."""
    rng = np.random.default_rng(0)
    truth, *samples = jnp.asarray(rng.normal(size=(num + 1, 50, 50)))
    mask = jnp.asarray(rng.random((50, 50)) > 0.2)
    ratio = std_over_error(samples, truth, mask)
    bound = 4 * np.sqrt(1 / (2 * 2000) * (1 + 2 / (num - 1)))
    assert abs(float(ratio) - 1) < bound
    tight = 0.5 * jnp.asarray(samples)
    assert abs(float(std_over_error(tight, truth, mask)) - 1) > 2 * bound
    shifted = std_over_error(jnp.asarray(samples) + 3.0, truth - 7.0, mask)
    assert float(shifted) == pytest.approx(float(ratio))
