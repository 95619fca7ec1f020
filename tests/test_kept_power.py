"""Draws of a denoiser whose correction is too weak lose power; what makes up for it."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap import posterior
from jaxmap.denoiser import Denoised, Denoiser
from jaxmap.grid import Grid
from jaxmap.networks.unet import ResidualUNet
from jaxmap.simulation.fields import gaussian_field
from jaxmap.spectra import PowerSpectrum, mode_variance, power_spectrum
from jaxmap.spectral_gain import SpectralGain
from jaxmap.training import kept_power
from jaxmap.training.gain import columns_of
from jaxmap.training.kept_power import STEP, keeping_power, missing

GRID = Grid((32, 32), 1.0)
WEAK, PATTERN, LEVEL, ROWS = 0.9, 0.3, 0.07, 2
COLUMNS, LOG_ELL, _ = columns_of(GRID)
SHARE = np.full(LOG_ELL.size, 0.5)


def sky() -> PowerSpectrum:
    """Such that a mode has a standard deviation of 0.4 to 0.02: noise of a path takes over."""
    ell = np.geomspace(100, 40_000, 64)
    return power_spectrum(ell, GRID.pixel_sr * (250 / ell) ** 1.7)


@jax.tree_util.register_static
class Skies:
    """Gaussian fields."""

    def draw(self, key: jax.Array, side: int) -> jax.Array:
        assert side == GRID.shape[0]
        return gaussian_field(key, sky(), GRID)


def denoise(denoiser, information, weight, grid):
    """Exact for these fields, but for errors of 30 % in a pattern that is zero on average, in what
    a Wiener filter of half the power leaves to correct."""
    power, precision = mode_variance(denoiser.spectrum, grid), jnp.mean(weight)

    def mean_of(variance):
        share = 1 / (1 / variance + precision)
        return jnp.fft.ifft2(share * jnp.fft.fft2(information)).real

    wiener = mean_of(power / 2)
    sign = jax.random.rademacher(jax.random.key(9), grid.shape)
    correction = (1 + PATTERN * sign) * (mean_of(power) - wiener)
    scale = jnp.full(grid.shape, precision**-0.5)
    correction = denoiser.gain.apply(correction, wiener, scale, grid)
    return Denoised(wiener + correction, scale, wiener, scale)


def weak(strength: float) -> Denoiser:
    """With a gain of three rows, the last for noise above that of the paths."""
    flat = jnp.full((ROWS + 1, LOG_ELL.size), strength)
    scales = jnp.log(jnp.array([0.01, LEVEL, 2 * LEVEL]))
    gain = SpectralGain(scales, jnp.asarray(LOG_ELL), flat, 0 * flat)
    return Denoiser({}, sky(), ResidualUNet(), gain=gain)


def made_up(denoiser: Denoiser, seed: int, num: int = 256) -> Denoiser:
    key = jax.random.key(seed)
    gain = keeping_power(
        denoiser, denoiser.gain, SHARE, ROWS, LEVEL, Skies(), GRID, COLUMNS, key, num
    )
    return replace(denoiser, gain=gain)


def lack(denoiser: Denoiser, seed: int) -> tuple[float, float]:
    """Of power at the ends of paths, on the smaller half of the scales; mean and error."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_power, "missing", lambda powers, width: seen.append(powers) or 0.0)
        made_up(denoiser, seed)
    truth, end, _ = np.moveaxis(seen[0][..., LOG_ELL.size // 2 :], 1, 0)
    each = np.mean((truth - end) / truth.mean(axis=0), axis=1)
    return float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)


def test_draws_keep_their_power(monkeypatch):
    """Measured on some fields, judged on others; without it the same fields must lack power."""
    monkeypatch.setattr(posterior, "denoise", denoise)
    monkeypatch.setattr(kept_power, "SPREAD", 0.5)  # the fault is larger than a network's
    better = made_up(weak(WEAK), 0)
    before, error = lack(weak(WEAK), 1)
    assert before > 6 * error
    after, error = lack(better, 1)
    assert abs(after) < 3 * 2**0.5 * error  # that of what was measured, and of who judges
    np.testing.assert_array_equal(better.gain.gain, WEAK)
    np.testing.assert_array_equal(better.gain.leakage[ROWS:], 0)


def test_fields_that_tell_nothing_leave_a_gain_alone():
    """What changes no power; a network that corrects nothing; and one field, of which nobody knows
    the chance."""
    rng = np.random.default_rng(0)
    truth, end = rng.normal(10, 1, (2, 50, 3))
    powers, width = np.stack([truth, end, end], axis=1), np.full(3, 0.01)
    np.testing.assert_array_equal(missing(powers, width), 0)
    np.testing.assert_array_equal(missing(0 * powers + 1, width), 0)
    powers[:, 2] += 5 * STEP
    np.testing.assert_array_equal(missing(powers, 0 * width), 0)
    np.testing.assert_array_less(np.abs(missing(powers[:1], width)), width)


def test_known_powers():
    """Draws lack 2 %, and gain 4 times what they get more of the Wiener mean."""
    truth = np.ones((40, 4))
    powers = np.stack([truth, 0.98 * truth, (0.98 + 4 * STEP) * truth], axis=1)
    np.testing.assert_allclose(missing(powers, np.full(4, 0.01)), 0.005, rtol=0.02)


def test_noise_below_that_where_samplers_end_tells_nothing():
    gain = weak(WEAK).gain
    same = keeping_power(
        weak(WEAK), gain, SHARE, ROWS, 0.005, Skies(), GRID, COLUMNS, jax.random.key(0), 9
    )
    assert same is gain
