"""Measure the `SpectralGain` of a trained network, on fields and in noise of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
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
from jaxmap.training.kept_power import keeping_power
from jaxmap.training.layouts import Fields
from jaxmap.training.loop import Progress
from jaxmap.training.noise import draw_survey_weight
from jaxmap.training.settings import Training

NUM_LEVELS, NUM_STATES, NUM_GROUPS, NUM_COLUMNS = 8, 5, 5, 20
LARGEST = 0.7
"""Error of the Wiener filter, in standard deviations of the maps, up to which gains are measured in
even noise. Where more is unknown the pattern of the data counts: they are then means over random
surveys, each with states of a sampler from there to the largest noise of the training."""
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
        settings: of the training, for the size of the fields and what noise to draw.
        key: PRNG key.
        num: number of fields, each seen in even noise of `NUM_LEVELS` levels, and behind a survey
            of its own with `NUM_STATES` states of a sampler; a hundred or so. As many others tell
            what draws lack in power (`jaxmap.training.kept_power`).
        progress: wraps the range of fields, twice.
    """
    plain = replace(denoiser, gain=None)
    side = max(layout.side for layout in settings.layouts)
    grid = Grid((side, side), settings.source.pixel_arcmin)
    least, most = settings.noise.level
    levels = levels_of(denoiser.spectrum, grid, least)
    states = jnp.geomspace(levels[-1], jnp.maximum(most, 10 * levels[-1]), NUM_STATES + 1)[1:]
    columns, log_ell, count = columns_of(grid)

    @jax.jit
    def draw(key: jax.Array, fields: Fields) -> jax.Array:
        return fields.draw(key, side)

    @jax.jit
    def survey_of(key: jax.Array) -> jax.Array:
        return draw_survey_weight(key, grid, settings.noise)

    @jax.jit
    def look(
        key: jax.Array, convergence: jax.Array, survey: jax.Array, level: jax.Array, plain: Denoiser
    ) -> Moments:
        weight = jnp.asarray(survey + 1 / level**2, convergence.dtype)
        precision = jnp.broadcast_to(weight, (2, *grid.shape))
        shear = shear_from_convergence(convergence, grid)
        information = information_from_shear(key, shear, precision, grid)
        return moments_of(plain, convergence, information, precision, grid, columns)

    even, behind = [], []
    for number in progress(range(num)):
        key_one = jax.random.fold_in(key, number)
        key_field, *keys = jax.random.split(key_one, 1 + NUM_LEVELS)
        key_survey, *keys_behind = jax.random.split(jax.random.fold_in(key_one, 1), 1 + NUM_STATES)
        field, survey = draw(key_field, fields), survey_of(key_survey)
        none = jnp.zeros_like(survey)
        seen = [look(one, field, none, s, plain) for one, s in zip(keys, levels, strict=True)]
        even.append(jax.device_get(seen))
        seen = [
            look(one, field, survey, s, plain) for one, s in zip(keys_behind, states, strict=True)
        ]
        behind += jax.device_get(seen)
    rows = [_mean(each) for each in zip(*even, strict=True)]
    groups = grouped([one for one in behind if one.scale > rows[-1].scale])
    fields_of_rows = np.array([num] * len(rows) + [len(group) for group in groups])
    rows += [_mean(group) for group in groups]
    gain = gain_of(rows, log_ell, fields_of_rows[:, None] * count)
    share = share_of(rows[:NUM_LEVELS], gain)
    last, one = float(levels[-1]), jax.random.fold_in(key, num)
    gain = keeping_power(
        plain, gain, share, NUM_LEVELS, last, fields, grid, columns, one, num, progress
    )
    return replace(denoiser, gain=gain)


def grouped(found: list[Moments]) -> list[list[Moments]]:
    """By scale, ascending: `NUM_GROUPS` groups of as equal numbers as can be, none without any."""
    found = sorted(found, key=lambda one: one.scale)
    edges = np.linspace(0, len(found), min(NUM_GROUPS, len(found)) + 1).astype(int)
    return [found[first:last] for first, last in pairwise(edges)]


def _mean(each: Sequence[Moments]) -> Moments:
    return jax.tree.map(lambda *values: np.mean(values, axis=0, dtype=float), *each)


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


def share_of(rows: list[Moments], gain: SpectralGain) -> np.ndarray:
    """Power of the correction, with its gain, over that of the Wiener mean; over all rows, which
    are the first of the gain; shape ``(m,)``."""
    _, wiener, correction, shared, _, _ = map(np.array, zip(*rows, strict=True))
    strength, leakage = (np.asarray(table)[: len(rows)] for table in (gain.gain, gain.leakage))
    right = strength**2 * (correction - leakage * shared)
    return right.sum(axis=0) / np.maximum(wiener.sum(axis=0), np.finfo(np.float32).tiny)
