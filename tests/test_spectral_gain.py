"""The strength of a network's correction: how it is applied, and that its measurement is right."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toytraining

from jaxmap.denoiser import Denoiser
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance
from jaxmap.spectral_gain import SpectralGain, gain_from
from jaxmap.training import gain as measuring
from jaxmap.training.denoiser_task import fresh_denoiser
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.layouts import GivenFields
from jaxmap.training.noise import draw_survey_weight
from jaxmap.training.settings import training_from
from jaxmap.training.smooth_power import smooth_power

GRID = Grid((24, 20), 2.0)
RNG = np.random.default_rng(5)
TABLES = {
    "log_scale": np.log([0.01, 0.02]),
    "log_ell": np.log([800.0, 2000.0, 4000.0]),
    "gain": np.array([[0.5, 1.0, 1.5], [1.0, 1.2, 0.8]]),
    "leakage": np.array([[0.1, 0.0, -0.1], [0.0, 0.0, 0.2]]),
}


def fields() -> tuple[jax.Array, jax.Array]:
    correction, wiener = RNG.normal(size=(2, *GRID.shape))
    return jnp.asarray(correction), jnp.asarray(wiener)


@pytest.mark.parametrize("scale", [0.005, 0.01, 0.0125, 0.02, 0.3])
def test_a_gain_acts_on_every_mode(scale):
    """Against the formula, with tables interpolated by numpy; beyond their ends the last values."""
    correction, wiener = fields()
    found = gain_from(TABLES).apply(correction, wiener, jnp.full(GRID.shape, scale), GRID)
    log_ell = np.log(np.maximum(np.abs(np.asarray(GRID.ell())), 1.0))
    share = np.clip(np.log(scale / 0.01) / np.log(2), 0, 1)
    gain, leakage = (
        np.interp(log_ell, TABLES["log_ell"], (1 - share) * table[0] + share * table[1])
        for table in (TABLES["gain"], TABLES["leakage"])
    )
    expected = np.fft.ifft2(gain * (np.fft.fft2(correction) - leakage * np.fft.fft2(wiener))).real
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_noise_that_varies_counts_by_its_mean_square():
    correction, wiener = fields()
    uneven = 0.015 * np.sqrt(np.where(np.arange(20) < 10, 0.5, 1.5)) * np.ones(GRID.shape)
    found, even = (
        gain_from(TABLES).apply(correction, wiener, jnp.asarray(scale), GRID)
        for scale in (uneven, np.full(GRID.shape, 0.015))
    )
    np.testing.assert_allclose(found, even, atol=1e-12)


def test_a_gain_is_differentiable_and_takes_batches():
    correction, wiener = fields()
    gain, scales = gain_from(TABLES), jnp.full(GRID.shape, 0.015)

    def square(factor):
        return jnp.sum(gain.apply(correction, wiener, factor * scales, GRID) ** 2)

    slope = (square(1.0 + 1e-5) - square(1.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(square))(1.0), slope, rtol=1e-6)
    both = jax.vmap(lambda one: gain.apply(one, wiener, scales, GRID))(
        jnp.stack([correction, 2 * correction])
    )
    np.testing.assert_allclose(both[0], gain.apply(correction, wiener, scales, GRID), atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gain": np.full((2, 3), np.nan)},
        {"gain": np.ones((3, 2))},
        {"log_ell": np.log([800.0, 4000.0, 2000.0])},
        {"log_scale": np.zeros((2, 1))},
        {"log_scale": np.zeros(0), "gain": np.zeros((0, 3)), "leakage": np.zeros((0, 3))},
    ],
)
def test_tables_that_are_none(wrong):
    with pytest.raises(ValueError, match="no finite table with ascending rows and columns"):
        gain_from(TABLES | wrong)


LEAK, STRENGTH, SIDE = 0.05, 1.6, 32


def faulty(denoiser, information, weight, grid):
    """A denoiser with a known fault: it knows the error up to noise of the same power, so that half
    of what it knows is right; it takes 1.6 times as much, and a part of the Wiener mean."""
    truth, wiener, noise = information
    correction = STRENGTH * (truth - wiener + noise) + LEAK * wiener
    if denoiser.gain is not None:
        correction = denoiser.gain.apply(correction, wiener, 0 * truth + 0.01, grid)
    return SimpleNamespace(mean=wiener + correction, wiener=wiener, scale=0 * truth + 0.01)


def moments(denoiser: SimpleNamespace, num: int, seed: int) -> list[measuring.Moments]:
    """Of fields whose Wiener mean is uncorrelated with its error, as it must be."""
    grid = Grid((SIDE, SIDE), 1.0)
    columns, _, _ = measuring.columns_of(grid)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        wiener, error, noise = jnp.asarray(rng.normal(size=(3, SIDE, SIDE)))
        told = (wiener + error, wiener, noise)
        found.append(
            jax.device_get(
                measuring.moments_of(denoiser, wiener + error, told, jnp.ones(()), grid, columns)
            )
        )
    return found


def overlap(found: list[measuring.Moments]) -> tuple[np.ndarray, np.ndarray]:
    """Of error and map over the square of the map, by column; mean and error."""
    each = np.array([one.overlap - one.leakage - one.correction for one in found])
    square = np.mean([one.wiener + 2 * one.leakage + one.correction for one in found], axis=0)
    return each.mean(axis=0) / square, each.std(axis=0, ddof=1) / len(found) ** 0.5 / square


def test_the_gain_puts_a_known_fault_right(monkeypatch):
    """Measured on some fields, judged on others; without it the same fields must show the fault."""
    monkeypatch.setattr(measuring, "denoise", faulty)
    grid = Grid((SIDE, SIDE), 1.0)
    _, log_ell, count = measuring.columns_of(grid)
    plain = SimpleNamespace(gain=None)
    found = moments(plain, 200, 0)
    mean = measuring.Moments(*(np.mean(each, axis=0) for each in zip(*found, strict=True)))
    gain = measuring.gain_of([mean], log_ell, 200 * count)
    many = count > 100
    assert gain.gain.shape == (1, count.size)
    np.testing.assert_allclose(gain.leakage[0, many], LEAK, atol=0.02)
    np.testing.assert_allclose(gain.gain[0, many], 0.5 / STRENGTH, rtol=0.03)
    right, error = overlap(moments(SimpleNamespace(gain=gain), 200, 1))
    assert np.all(np.abs(right[many]) < 5 * error[many])
    wrong, error = overlap(moments(plain, 200, 1))
    assert np.all(wrong[many] < -30 * error[many])


def test_columns_hold_every_mode_but_the_mean():
    columns, log_ell, count = measuring.columns_of(Grid((16, 12), 1.0))
    assert columns[0, 0] == count.size and np.sum(columns < count.size) == 16 * 12 - 1
    assert np.all(np.diff(log_ell) > 0) and count.sum() == 16 * 12 - 1 and count.min() > 0


def test_a_network_that_corrects_nothing_keeps_its_gain_of_one():
    """And the gain depends on the key alone."""
    settings = training_from(toytraining.TABLE)
    maps = toytraining.toy_fields(0)
    untrained = fresh_denoiser(settings, smooth_power(maps, settings.source.pixel_arcmin))
    seen = []

    def watched(numbers):
        seen.extend(numbers)
        return numbers

    source = GivenFields(jnp.asarray(maps, float))
    key = jax.random.key(3)
    measured = measuring.measure_gain(untrained, source, settings, key, 6, watched)
    assert seen == 2 * list(range(6)) and isinstance(measured.gain, SpectralGain)
    rows = measured.gain.log_scale.size - measuring.NUM_LEVELS
    assert 1 <= rows <= measuring.NUM_GROUPS
    assert np.all(np.diff(measured.gain.log_scale) > 0)
    np.testing.assert_allclose(measured.gain.gain, 1)
    np.testing.assert_allclose(measured.gain.leakage, 0)
    again = measuring.measure_gain(replace(measured), source, settings, key, 6)
    for one, other in zip(jax.tree.leaves(again.gain), jax.tree.leaves(measured.gain), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.release
def test_a_gain_tells_of_surveys_where_noise_is_large():
    """A network of random weights, behind surveys that the gain was not measured on: the overlap of
    error and map, over the square of the Wiener filter's error, falls by more than 5 of the
    standard errors of its fall; what is left is below a hundredth."""
    settings = training_from(toytraining.TABLE)
    maps = toytraining.toy_fields(0)
    untrained = fresh_denoiser(settings, smooth_power(maps, settings.source.pixel_arcmin))
    network = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
        untrained.params,
    )
    source = GivenFields(jnp.asarray(maps, float))
    wrong = replace(untrained, params=network)
    right = measuring.measure_gain(wrong, source, settings, jax.random.key(0), 48)
    side = max(layout.side for layout in settings.layouts)
    grid = Grid((side, side), settings.source.pixel_arcmin)
    columns, _, _ = measuring.columns_of(grid)

    @jax.jit
    def look(key: jax.Array, denoiser: Denoiser) -> measuring.Moments:
        keys = jax.random.split(key, 3)
        field = source.draw(keys[0], side)
        weight = draw_survey_weight(keys[1], grid, settings.noise)
        precision = jnp.broadcast_to(weight, (2, *grid.shape))
        shear = shear_from_convergence(field, grid)
        information = information_from_shear(keys[2], shear, precision, grid)
        return measuring.moments_of(denoiser, field, information, precision, grid, columns)

    def off(denoiser: Denoiser) -> np.ndarray:
        found = [look(jax.random.key(100 + number), denoiser) for number in range(96)]
        each = [one.overlap - one.leakage - one.correction for one in found]
        return np.array([jnp.sum(a) / jnp.sum(b.error) for a, b in zip(each, found, strict=True)])

    better = np.abs(off(wrong)) - np.abs(off(right))
    error = better.std(ddof=1) / better.size**0.5
    assert better.mean() > 5 * error
    assert np.abs(off(right)).mean() < 0.01


def test_groups_are_of_one_size_and_in_order():
    """As many as there are at most, and none empty."""
    for number, sizes in ((0, []), (3, [1, 1, 1]), (11, [2, 2, 2, 2, 3])):
        scales = np.random.default_rng(0).permutation(number)
        found = [measuring.Moments(scale, 1, 1, 1, 1, 1) for scale in scales]
        groups = measuring.grouped(found)
        assert sorted(map(len, groups)) == sizes
        assert [one.scale for group in groups for one in group] == list(range(number))


@pytest.mark.parametrize("least", [0.003, 3.0])
def test_levels_end_where_little_is_left_to_see(spectrum, least):
    """Where the Wiener filter's error is 0.7 of the maps' std; four times the least level at least,
    where that is beyond."""
    grid = Grid((64, 64), 0.29)
    levels = measuring.levels_of(spectrum, grid, least)
    assert levels.size == measuring.NUM_LEVELS and float(levels[0]) == pytest.approx(least)
    variance = GaussianPrior(mode_variance(spectrum, grid)).amplitude ** 2
    error = jnp.mean(variance / (1 + variance / levels[-1] ** 2)) ** 0.5
    if least < 1:
        assert float(error) == pytest.approx(0.7 * float(jnp.mean(variance)) ** 0.5, rel=0.03)
    else:
        assert float(levels[-1]) == pytest.approx(4 * least)
