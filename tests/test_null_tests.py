"""Null tests: quiet where only lensing and noise are, loud where something else is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom, kstest

from jaxmap.catalog import shear_catalog, shear_map
from jaxmap.estimators import KaiserSquires
from jaxmap.grid import Grid
from jaxmap.null_tests import (
    b_mode_test,
    jackknife,
    noise_test,
    random_sign_map,
    residual_chi2,
    run_null_tests,
)
from jaxmap.null_tests.skies import averaged
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field

KEY = jax.random.key(0)
GRID = Grid((17, 20), 1.0)
MARGIN = 8
NUM = 19


def survey_noise():
    """Of 17 x 20 pixels: a hole, a masked row, uneven columns, components of different noise."""
    std = np.full((2, *GRID.shape), 0.08)
    std[1] *= 1.3
    std[:, :, 12:] *= 1.5
    std[:, 3:9, 4:11] = 0
    std[:, -1] = 0
    return std


STD = survey_noise()


@pytest.fixture(scope="module")
def observed(spectrum):
    """Shear of a sky cut from a larger one: E modes, a B mode of the same spectrum, noise."""
    big = GRID.padded(MARGIN + 5)
    cut = slice(MARGIN + 5, -MARGIN - 5)
    depth = shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=STD)

    @partial(jax.jit, static_argnames="skewed")
    def shear_of(key, e_amplitude, b_amplitude, noise, skewed):
        key_e, key_b, key_noise = jax.random.split(key, 3)
        e_mode = gaussian_field(key_e, spectrum, big)
        if skewed:
            scale = jnp.std(e_mode)
            e_mode = scale * (jnp.exp(e_mode / scale) - jnp.exp(0.5))
        fields = e_amplitude * e_mode + 1j * b_amplitude * gaussian_field(key_b, spectrum, big)
        shear = shear_from_convergence(fields, big)[cut, cut]
        white = jnp.asarray(STD) * jax.random.normal(key_noise, STD.shape)
        return jnp.where(depth.mask, shear + noise * jax.lax.complex(white[0], white[1]), 0)

    def make(number, e=1.0, b=0.0, noise=1.0, skewed=False):
        key = jax.random.fold_in(KEY, number)
        return replace(depth, shear=shear_of(key, e, b, noise, skewed))

    return make


def p_values(observed, spectrum, num, **sky):
    return np.array(
        [
            b_mode_test(jax.random.key(n), observed(n, **sky), spectrum, NUM, MARGIN).p_value
            for n in range(num)
        ]
    )


def too_many_small(found):
    """Chance of so many p-values at or below 0.1, were they uniform on 1/20 ... 1."""
    return binom.sf(np.sum(found <= 0.1) - 1, len(found), 0.1)


@pytest.mark.slow
def test_p_values_without_and_with_b_modes(observed, spectrum):
    """Of a few skies each: as if uniform without (mean within 3.5 standard errors, small ones not
    too many), though E modes have four times the power that is assumed and are skewed; small
    with B modes of the size of the E modes."""
    found = p_values(observed, spectrum, 6, e=2.0, skewed=True)
    assert abs(found.mean() - 0.525) < 3.5 / np.sqrt(12 * 6)
    assert too_many_small(found) > 0.001
    assert too_many_small(p_values(observed, spectrum, 4, b=1.0)) < 1e-3


@pytest.mark.release
@pytest.mark.parametrize("sky", [{}, {"e": 2.0, "skewed": True}], ids=str)
def test_p_values_are_uniform(observed, spectrum, sky):
    """Of 60 skies, by Kolmogorov and Smirnov (p-values spread over their steps at random), and
    their smallest by the binomial law: beyond 0.001. The controls: B modes as large as the
    expected E modes, and more noise than the weights tell."""
    found = p_values(observed, spectrum, 60, **sky)
    spread = found - np.random.default_rng(0).random(60) / (NUM + 1)
    assert kstest(spread, "uniform").pvalue > 0.001
    assert too_many_small(found) > 0.001
    for change in ({"b": 1.0}, {"noise": 1.5}):
        wrong = p_values(observed, spectrum, 20, **{**sky, **change})
        assert kstest(wrong, "uniform").pvalue < 1e-4


@pytest.mark.slow
def test_a_map_without_mask_in_single_precision(spectrum):
    """Periodic, odd sides: a turned map is found, the right one is not."""
    dtype = np.float32
    grid = Grid((15, 21), 1.0)
    sky = gaussian_field(KEY, spectrum, grid)
    noise = 0.05 * jax.random.normal(jax.random.key(1), (2, *grid.shape))
    shear = shear_from_convergence(sky, grid) + jax.lax.complex(*noise)
    data = shear_map(shear, grid, noise_std=np.full(grid.shape, 0.05))
    complex_dtype = np.result_type(dtype, np.complex64)
    data = replace(data, shear=data.shear.astype(complex_dtype), weight=data.weight.astype(dtype))
    spectrum = jax.tree.map(lambda x: x.astype(dtype), spectrum)
    right = b_mode_test(KEY, data, spectrum, NUM, 0)
    wrong = b_mode_test(KEY, replace(data, shear=1j * data.shear), spectrum, NUM, 0)
    assert right.p_value > 0.05 and abs(right.excess) < 4
    assert wrong.p_value == 1 / (NUM + 1) and wrong.excess > 5 and wrong.ratio > 1.5


def test_large_maps_are_averaged(observed, spectrum):
    """Weighted mean and summed weight; a test on the averaged map runs with its margin."""
    data = observed(0)
    assert averaged(data, 20) is data
    small = averaged(data, 7)
    assert small.grid == Grid((6, 7), 3.0)
    first = (slice(0, 3), slice(0, 3))
    weight = data.weight[0][first]
    assert float(small.weight[0, 0, 0]) == pytest.approx(float(weight.sum()))
    mean = float((weight * data.shear.real[first]).sum() / weight.sum())
    assert float(small.shear[0, 0].real) == pytest.approx(mean)
    assert float(small.weight.sum()) == pytest.approx(float(data.weight.sum()))


@pytest.mark.parametrize(
    ("side", "found"), [(42, 14), (50, 10), (82, 41), (41, 41)], ids=["3", "5", "2", "none"]
)
def test_periodic_maps_stay_periodic(side, found):
    """By factors that divide the side: 3 where it does, else 5, 2, or none; no pixel is masked."""
    grid = Grid((side, side), 1.0)
    data = shear_map(np.ones(grid.shape, complex), grid, noise_std=np.ones(grid.shape))
    assert averaged(data, 20, periodic=True).grid == Grid((found,) * 2, side / found)
    weight = averaged(data, 20, periodic=True).weight
    np.testing.assert_array_equal(weight, (side / found) ** 2)
    if side == 41:  # the control: filled up to 42 pixels
        assert len(np.unique(averaged(data, 20).weight)) > 1


@pytest.mark.slow
def test_b_modes_of_a_periodic_map_are_looked_for_on_a_periodic_map(spectrum, monkeypatch):
    grid = Grid((17, 17), 1.0)
    shear = shear_from_convergence(gaussian_field(KEY, spectrum, grid), grid)
    data = shear_map(shear, grid, noise_std=np.full(grid.shape, 0.01))
    whole = b_mode_test(KEY, data, spectrum, 19, 0)
    monkeypatch.setattr("jaxmap.null_tests.skies.LARGEST_SIDE", 10)
    assert b_mode_test(KEY, data, spectrum, 19, 0) == whole


@pytest.fixture(scope="module")
def catalog():
    rng = np.random.default_rng(3)
    num = 20_000
    ra, dec = 150 + rng.uniform(-0.15, 0.15, num), rng.uniform(-0.15, 0.15, num)
    shapes = 0.25 * (rng.normal(size=num) + 1j * rng.normal(size=num))
    weight = rng.uniform(0.5, 2, num)
    # Shear far beyond any lensing, which must drop out of the null map.
    return shear_catalog(ra, dec, shapes.clip(-0.6 - 0.6j, 0.6 + 0.6j) + 0.05, weight)


def test_random_signs_leave_the_noise(catalog):
    """Chi-squared 1 within 4 standard errors, and its error that of a chi-squared; noise given
    ten per cent too small is found."""
    grid = Grid((18, 16), 1.0, (150.0, 0.0))
    null = random_sign_map(KEY, catalog, grid)
    found = noise_test(null)
    assert abs(found.value - 1) < 4 * found.error
    assert found.error == pytest.approx(np.sqrt(2 / (2 * 18 * 16)), rel=0.3)
    assert abs(complex(jnp.mean(null.shear))) < 0.05 / 5
    wrong = noise_test(random_sign_map(KEY, catalog, grid, 0.7 * 0.25))
    assert abs(wrong.value - 1) > 4 * wrong.error


def test_jackknife_of_noise_and_of_signal(observed):
    """Noise alone, 60 maps: the excess has mean 0 within 4 standard errors and about unit scatter
    (errors of blocks are known roughly); lensing raises it, turned by 45 degrees it lowers it."""
    noise = np.array([jackknife(observed(n, e=0.0)).total for n in range(60)])
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(60)
    assert 0.5 < noise.std() < 1.5
    signal = np.array([jackknife(observed(n, e=1.0, noise=0.5)).total for n in range(20)])
    turned = np.array([jackknife(observed(n, e=0.0, b=1.0, noise=0.5)).total for n in range(20)])
    assert signal.mean() > 1.5 and turned.mean() < -1.5


def test_jackknife_finds_where_the_signal_is():
    """A single mass in one block: without it little is left. Bands add up, masks are no matter."""
    grid = Grid((40, 33), 1.0)
    y, x = np.indices(grid.shape)
    lump = np.exp(-0.5 * ((y - 10) ** 2 + (x - 8) ** 2) / 2**2)
    noise = 0.01 * np.random.default_rng(0).normal(size=(2, *grid.shape))
    shear = shear_from_convergence(jnp.asarray(lump), grid) + noise[0] + 1j * noise[1]
    std = np.full(grid.shape, 0.01)
    std[:3] = 0
    found = jackknife(shear_map(shear, grid, noise_std=std))
    assert found.without.shape == (16,) and found.without.min() < 0.5
    assert np.median(found.without) > 0.9
    assert found.ell.shape == found.power.shape == found.error.shape
    assert np.all(np.diff(found.ell) > 0) and np.all(found.error > 0)


def test_jackknife_does_not_see_the_mean_shear(observed):
    """Components of unequal weights, each with its own mean."""
    data = observed(0, e=0.0)
    data = replace(data, weight=data.weight * jnp.array([1.0, 4.0])[:, None, None])
    biased = replace(data, shear=jnp.where(data.mask, data.shear + 0.3 - 0.2j, 0))
    np.testing.assert_allclose(jackknife(biased).power, jackknife(data).power, rtol=1e-9)


def test_residuals_and_the_whole(observed, spectrum):
    """Of a map that holds nothing chi-squared is that of the data; all figures are JSON's."""
    import json

    data = observed(0, e=0.0)
    nothing = KaiserSquires(1.0, 0)(KEY, replace(data, shear=0 * data.shear))
    num = int(jnp.sum(data.weight > 0))
    assert abs(residual_chi2(nothing, data, 2) - 1) < 4 * np.sqrt(2 / num)
    found = run_null_tests(KEY, data, nothing, spectrum, num=NUM, margin=MARGIN, null=data)
    figures = found.diagnostics["null_tests"]
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert set(figures) == {"b_modes", "power", "jackknife", "residual_chi2", "noise_chi2"}
    assert abs(figures["noise_chi2"]["value"] - 1) < 4 * figures["noise_chi2"]["error"]


def test_too_few_skies_are_refused(observed, spectrum):
    with pytest.raises(ValueError, match="number of skies for null tests is 18; expected at least"):
        b_mode_test(KEY, observed(0), spectrum, 18)
