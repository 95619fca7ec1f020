r"""How much more of the Wiener mean a trained network needs for its draws to keep the power.

An exact denoiser's diffusion carries :math:`x + s n` to a field of the power of x. A network's ends
at one of less power on the smallest scales, though its error is uncorrelated with both the
Wiener mean and the correction: what it cannot tell it leaves out of its answer, and a path follows
the answer. So the leakage :math:`\alpha` of the gain is lowered by :math:`\eta(\ell)`, some
thousandths, wherever it was measured in even noise; to first order

.. math:: \eta = \frac{d\, r}{r^2 + \sigma_d^2 / \sigma_\eta^2}, \qquad
    d = \frac{\langle |\hat x|^2 - |\hat y|^2 \rangle}{\langle |\hat x|^2 \rangle}, \quad
    r = \frac{\langle |\hat y_\epsilon|^2 - |\hat y|^2 \rangle}
             {\epsilon \langle |\hat x|^2 \rangle}

with y the end of a path and :math:`y_\epsilon` that with :math:`\eta = \epsilon` everywhere, from
the same state: d is what draws lack, r what they gain. :math:`\eta` has a Gaussian prior about 0,
of a width of some hundredths of what the network's correction is to the Wiener mean, in power:
where it corrects nothing it has nothing to make up for.

A stronger correction would give draws as much, but chains many times that: the peaks that it
sharpens come back with the next sweep, to be sharpened again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.denoiser import Denoiser
from jaxmap.grid import Grid
from jaxmap.posterior import learned_mean, prior_denoiser
from jaxmap.prior import GaussianPrior
from jaxmap.sampling.diffusion import integrate, noise_levels
from jaxmap.spectra import mode_variance
from jaxmap.spectral_gain import SpectralGain
from jaxmap.training.layouts import Fields
from jaxmap.training.loop import Progress

NUM_LEVELS = 8
"""Of a path: so close that its own error is well below what is measured."""
STEP = 0.005
SPREAD = 0.05


def keeping_power(
    denoiser: Denoiser,
    gain: SpectralGain,
    share: np.ndarray,
    rows: int,
    level: float,
    fields: Fields,
    grid: Grid,
    columns: np.ndarray,
    key: jax.Array,
    num: int,
    progress: Progress = lambda numbers: numbers,
) -> SpectralGain:
    """The gain under which a denoiser's paths from a level of even noise keep the power; as it is
    where samplers end above that level.

    Args:
        denoiser: the trained one.
        gain: its least-squares gain.
        share: power of its correction over that of the Wiener mean, by column, shape ``(m,)``.
        rows: of the gain, from the first on, that even noise up to the level tells.
        level: noise where paths start; they end where those of samplers do.
        fields: maps to draw from.
        grid: of the fields.
        columns: of the gain, for every mode of the grid (`jaxmap.training.gain.columns_of`).
        key: PRNG key.
        num: number of fields.
        progress: wraps the range of fields.
    """
    levels = noise_levels(NUM_LEVELS, level)
    if level <= levels[-1]:
        return gain
    variance = GaussianPrior(mode_variance(denoiser.spectrum, grid)).amplitude ** 2
    both = tuple(replace(denoiser, gain=_lowered(gain, rows, one)) for one in (0.0, STEP))
    power = partial(_power, place=jnp.asarray(columns.ravel()), number=int(columns.max()))

    @jax.jit
    def start(key: jax.Array, fields: Fields) -> tuple[jax.Array, jax.Array]:
        key_field, key_noise = jax.random.split(key)
        field = fields.draw(key_field, grid.shape[0])
        white = jax.random.normal(key_noise, field.shape, field.dtype)
        return power(field), field + level * white

    @jax.jit
    def end(noised: jax.Array, one: Denoiser) -> jax.Array:
        mean = prior_denoiser(learned_mean(one, grid))
        return power(integrate(mean, noised, levels, variance))

    found = []
    for number in progress(range(num)):
        truth, noised = start(jax.random.fold_in(key, number), fields)
        found.append(jax.device_get([truth, *(end(noised, one) for one in both)]))
    return _lowered(gain, rows, missing(np.array(found, dtype=float), SPREAD * share))


def missing(powers: np.ndarray, width: np.ndarray) -> np.ndarray:
    r""":math:`\eta` by column, shape ``(m,)``.

    Args:
        powers: of fields, of the ends of their paths, and of those with more of the Wiener mean;
            shape ``(num, 3, m)``.
        width: :math:`\sigma_\eta`, shape ``(m,)``.
    """
    truth, end, more = np.moveaxis(powers, 1, 0)
    scale = truth.mean(axis=0)
    lack, response = (truth - end) / scale, np.mean(more - end, axis=0) / (STEP * scale)
    chance = np.mean(lack**2, axis=0) / len(powers)
    ridge = chance + (response * width) ** 2
    return lack.mean(axis=0) * response * width**2 / np.maximum(ridge, np.finfo(float).tiny)


def _lowered(gain: SpectralGain, rows: int, by: float | np.ndarray) -> SpectralGain:
    return replace(gain, leakage=gain.leakage.at[:rows].add(-jnp.asarray(by)))


def _power(field: jax.Array, place: jax.Array, number: int) -> jax.Array:
    modes = jnp.abs(jnp.fft.fft2(field, norm="ortho")).ravel() ** 2
    return jax.ops.segment_sum(modes, place, number + 1)[:number]
