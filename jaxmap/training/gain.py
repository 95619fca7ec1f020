"""Measure the `SpectralGain` of a trained network, on fields and noise as in its training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.denoiser import Denoiser, denoise
from jaxmap.grid import Grid
from jaxmap.spectral_gain import SpectralGain, shares, typical
from jaxmap.training.denoiser_task import draw_batch
from jaxmap.training.layouts import Fields, Layout
from jaxmap.training.loop import Progress
from jaxmap.training.settings import Training

NUM_ROWS, NUM_COLUMNS = 9, 20
SPREAD = 0.3
"""How far from 1 a gain is before it is measured, in standard deviations. On the largest scales,
where a correction is small beside what it corrects, it stays there."""


class Moments(NamedTuple):
    """Of the modes of a field between two multipoles, by columns of ell; sums, shape ``(m,)``.

    Attributes:
        log_scale: ln c of the field, a number.
        wiener: of the Wiener mean squared.
        correction: of the network's correction squared.
        leakage: of the one times the other.
        error: of the error of the Wiener mean squared.
        overlap: of that error times the correction.
    """

    log_scale: jax.Array
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
        settings: of the training, for sizes and noise.
        key: PRNG key.
        num: number of fields; some hundreds, which take a small part of a training's time.
        progress: wraps the range of fields.
    """
    plain = replace(denoiser, gain=None)
    layout = Layout(max(layout.side for layout in settings.layouts), 1)
    pixel = settings.source.pixel_arcmin
    columns, log_ell, count = columns_of(layout.grid(pixel))

    @jax.jit
    def one(key: jax.Array, plain: Denoiser, fields: Fields) -> Moments:
        example = jax.tree.map(
            lambda leaf: leaf[0], draw_batch(key[None], fields, layout, pixel, settings.noise)
        )
        return moments_of(
            plain,
            example.convergence,
            example.information,
            example.precision,
            layout.grid(pixel),
            columns,
        )

    found = [
        jax.device_get(one(jax.random.fold_in(key, number), plain, fields))
        for number in progress(range(num))
    ]
    return replace(denoiser, gain=gain_of(found, log_ell, count))


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
        typical(result.scale),
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


def gain_of(found: list[Moments], log_ell: np.ndarray, count: np.ndarray) -> SpectralGain:
    r"""The gain of many fields, by their noise.

    .. math:: g = \frac{\langle e C' \rangle + \kappa}{\langle C'^2 \rangle + \kappa}, \qquad
        \kappa = \frac{\langle e^2 \rangle}{N \sigma_g^2}

    with N modes, the mean of g given a Gaussian prior about 1 of width :math:`\sigma_g` (`SPREAD`).
    """
    log_scale, *sums = (np.array(each, float) for each in zip(*found, strict=True))
    num_rows = min(NUM_ROWS, max(1, len(found) // 10))
    quantiles = np.quantile(log_scale, (np.arange(num_rows) + 0.5) / num_rows)
    rows = quantiles[np.append(True, np.diff(quantiles) > 1e-3)]
    share = np.asarray(jax.vmap(partial(shares, rows=jnp.asarray(rows)))(jnp.asarray(log_scale)))
    wiener, correction, crossing, error, overlap = (share.T @ each for each in sums)
    leakage = crossing / np.maximum(wiener, np.finfo(np.float32).tiny)
    modes = share.sum(axis=0)[:, None] * count
    known = error / (modes * SPREAD**2)
    gain = (overlap + known) / np.maximum(correction - leakage * crossing + known, 1e-300)
    return SpectralGain(*(jnp.asarray(each, float) for each in (rows, log_ell, gain, leakage)))
