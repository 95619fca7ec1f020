"""Measure the `SpectralGain` of a trained network, in even noise on fields of its training."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.denoiser import Denoiser, denoise, wiener_error
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance
from jaxmap.spectral_gain import SpectralGain
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.layouts import Fields
from jaxmap.training.loop import Progress
from jaxmap.training.settings import Training

NUM_LEVELS, NUM_COLUMNS = 8, 20
LARGEST = 0.7
"""Error of the Wiener filter, in standard deviations of the maps, up to which gains are measured;
from twice that noise on they are 1. In larger noise the pattern of the data decides what is right:
behind the COSMOS mask and noise, gains of even noise there made a denoiser worse."""
SPREAD = 1.0
"""How far from 1 a gain is before it is measured, in standard deviations. On the largest scales,
where a correction is small beside what it corrects, it stays there."""


class Moments(NamedTuple):
    """Of the modes of a field between two multipoles, by columns of ell; sums, shape ``(m,)``.

    Attributes:
        scale: mean square of c.
        wiener: of the Wiener mean squared.
        correction: of the network's correction squared.
        leakage: of the one times the other.
        error: of the error of the Wiener mean squared.
        overlap: of that error times the correction.
    """

    scale: jax.Array
    wiener: jax.Array
    correction: jax.Array
    leakage: jax.Array
    error: jax.Array
    overlap: jax.Array


def measure_gain(
    denoiser: Denoiser,
    fields: Fields,
    settings: Training,
    key: jax.Array,
    num: int,
    progress: Progress = lambda numbers: numbers,
) -> Denoiser:
    """The denoiser with the gain that so many whole fields of the largest layout tell.

    Args:
        denoiser: the trained one; a gain it has is forgotten.
        fields: maps to draw from.
        settings: of the training, for the size of the fields and the levels of noise.
        key: PRNG key.
        num: number of fields, each seen in even noise of `NUM_LEVELS` levels; a hundred or so.
        progress: wraps the range of fields.
    """
    plain = replace(denoiser, gain=None)
    side = max(layout.side for layout in settings.layouts)
    grid = Grid((side, side), settings.source.pixel_arcmin)
    levels = levels_of(denoiser.spectrum, grid, settings.noise.level[0])
    columns, log_ell, count = columns_of(grid)

    @jax.jit
    def draw(key: jax.Array, fields: Fields) -> jax.Array:
        return fields.draw(key, side)

    @jax.jit
    def look(key: jax.Array, convergence: jax.Array, level: jax.Array, plain: Denoiser) -> Moments:
        precision = jnp.full((2, *grid.shape), 1 / level**2, convergence.dtype)
        shear = shear_from_convergence(convergence, grid)
        information = information_from_shear(key, shear, precision, grid)
        return moments_of(plain, convergence, information, precision, grid, columns)

    found = []
    for number in progress(range(num)):
        key_field, *keys = jax.random.split(jax.random.fold_in(key, number), NUM_LEVELS + 1)
        field = draw(key_field, fields)
        seen = [look(one, field, level, plain) for one, level in zip(keys, levels, strict=True)]
        found.append(jax.device_get(seen))
    means = jax.tree.map(lambda *each: np.mean(each, axis=0, dtype=float), *found)
    gain = gain_of(means, log_ell, num * count)
    beyond = look(key, field, 2 * levels[-1], plain).scale
    return replace(denoiser, gain=_ended(gain, 0.5 * jnp.log(beyond)))


def levels_of(spectrum: PowerSpectrum, grid: Grid, least: float) -> jax.Array:
    """Levels of noise from the least to that where the Wiener filter's error is `LARGEST`."""
    variance = GaussianPrior(mode_variance(spectrum, grid)).amplitude ** 2
    std = jnp.sqrt(jnp.mean(variance))
    levels = least * jnp.geomspace(4, 1e4, 256)
    known = wiener_error(1 / levels**2, variance, std) < LARGEST * std
    return jnp.geomspace(least, levels[jnp.maximum(jnp.sum(known), 1) - 1], NUM_LEVELS)


def moments_of(
    denoiser: Denoiser,
    convergence: jax.Array,
    information: jax.Array,
    precision: jax.Array,
    grid: Grid,
    columns: np.ndarray,
) -> Moments:
    """What a field of known convergence tells of a denoiser; ``columns``: see `columns_of`."""
    result = denoise(denoiser, information, precision, grid)
    wiener, correction, error = (
        jnp.fft.fft2(field, norm="ortho").ravel()
        for field in (result.wiener, result.mean - result.wiener, convergence - result.wiener)
    )
    number = int(columns.max()) + 1
    place = jnp.asarray(columns.ravel())

    def total(one: jax.Array, other: jax.Array) -> jax.Array:
        return jax.ops.segment_sum((one * other.conj()).real, place, number)[:-1]

    return Moments(
        jnp.mean(result.scale**2),
        total(wiener, wiener),
        total(correction, correction),
        total(wiener, correction),
        total(error, error),
        total(error, correction),
    )


def columns_of(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column of every mode, shape ``(ny, nx)``, the last for the mean alone; mean ln ell of the
    columns, and their numbers of modes. Evenly spaced in ln ell, those without modes left out."""
    ell = np.abs(np.asarray(grid.ell()))
    log_ell = np.log(np.where(ell > 0, ell, 1.0))
    inside = ell > 0
    edges = np.linspace(log_ell[inside].min(), log_ell.max() + 1e-6, NUM_COLUMNS + 1)
    band = np.clip(np.digitize(log_ell, edges) - 1, 0, NUM_COLUMNS - 1)
    kept, place = np.unique(band[inside], return_inverse=True)
    columns = np.full(ell.shape, kept.size)
    columns[inside] = place
    count = np.bincount(place)
    return columns, np.bincount(place, log_ell[inside]) / count, count


def gain_of(levels: list[Moments], log_ell: np.ndarray, modes: np.ndarray) -> SpectralGain:
    r"""The gain that mean moments tell, one for each level of noise, of so many modes.

    .. math:: g = \frac{\langle e C' \rangle + \kappa}{\langle C'^2 \rangle + \kappa}, \qquad
        \kappa = \frac{\langle e^2 \rangle}{N \sigma_g^2}

    with N modes, the mean of g given a Gaussian prior about 1 of width :math:`\sigma_g` (`SPREAD`).
    """
    scale, wiener, correction, shared, error, overlap = map(np.array, zip(*levels, strict=True))
    leakage = shared / np.maximum(wiener, np.finfo(np.float32).tiny)
    known = error / (modes * SPREAD**2)
    gain = (overlap + known) / (correction - leakage * shared + known)
    tables = (0.5 * np.log(scale), log_ell, gain, leakage)
    return SpectralGain(*(jnp.asarray(each, float) for each in tables))


def _ended(gain: SpectralGain, log_scale: jax.Array) -> SpectralGain:
    """With a last row that changes nothing."""
    one = jnp.ones((1, gain.log_ell.size))
    return SpectralGain(
        jnp.append(gain.log_scale, log_scale),
        gain.log_ell,
        jnp.concatenate([gain.gain, one]),
        jnp.concatenate([gain.leakage, 0 * one]),
    )
