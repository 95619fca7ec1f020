"""Training of a denoiser: batches, steps and figures."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import read_denoiser
from jaxmap.networks.optimiser import Schedule, TrainState, update
from jaxmap.networks.unet import initialise
from jaxmap.spectra import PowerSpectrum
from jaxmap.training.denoising import Example, LossTerms, batch_loss, information_from_shear
from jaxmap.training.devices import on_all_devices, over_devices
from jaxmap.training.layouts import Fields, Layout, cut_field
from jaxmap.training.loop import Task
from jaxmap.training.noise import KINDS, NoiseRanges, draw_precision
from jaxmap.training.settings import Training

log = logging.getLogger(__name__)

LEVEL_EDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 3.0)
"""Bins of the prior's noise level in the log."""

Summary = tuple[LossTerms, jax.Array, jax.Array]
"""Losses, kind of noise and level of the fields of a batch."""


def fresh_denoiser(settings: Training, spectrum: PowerSpectrum) -> Denoiser:
    """An untrained denoiser: exactly the Wiener filter."""
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    params = initialise(settings.network, key, NUM_FEATURES, NUM_CONDITIONS)
    return Denoiser(params, spectrum, settings.network)


def _first_denoiser(settings: Training, spectrum: PowerSpectrum) -> Denoiser:
    fresh = fresh_denoiser(settings, spectrum)
    if settings.start is None:
        return fresh
    given, _, _ = read_denoiser(settings.start)
    if jax.tree.map(np.shape, given.params) != jax.tree.map(np.shape, fresh.params):
        raise ValueError(
            f"start is {settings.start!r}, a network of channels {given.network.channels} and "
            f"{given.network.blocks} blocks; give [network] the same, or leave out start"
        )
    if given.reach != fresh.reach:
        log.warning(
            "the network of %s saw high peaks as they are, and now sees them by their logarithm: "
            "its loss will be higher at first",
            settings.start,
        )
    return replace(fresh, params=given.params)


def denoiser_task(
    settings: Training, training: Fields, validation: Fields, spectrum: PowerSpectrum
) -> Task:
    """Training of a `Denoiser`, for `jaxmap.training.loop.train`.

    Args:
        settings: of the training.
        training: maps to train on.
        validation: other maps.
        spectrum: of the maps, the prior of the Wiener part.
    """
    denoiser = _first_denoiser(settings, spectrum)
    training, validation = on_all_devices((training, validation))
    key = jax.random.key(settings.seed)
    train_key, validation_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)

    def advance(step: int, state: TrainState) -> tuple[TrainState, Summary]:
        layout = _layout_of(step, settings)
        return _step(
            jax.random.fold_in(train_key, step),
            state,
            denoiser,
            training,
            layout,
            settings.source.pixel_arcmin,
            settings.noise,
            settings.schedule,
        )

    def check(params: Any) -> dict[str, Any]:
        averaged = replace(denoiser, params=params)
        return validate(averaged, validation, settings, validation_key)

    return Task(denoiser.params, advance, _figures, check, heaviest=_heaviest_step(settings))


def validate(
    denoiser: Denoiser, fields: Fields, settings: Training, key: jax.Array
) -> dict[str, Any]:
    """Losses on maps that training does not see, the same ones every time."""
    summaries = []
    for number, layout in enumerate(settings.layouts):
        for batch in range(settings.validation_batches):
            drawn = jax.random.fold_in(jax.random.fold_in(key, number), batch)
            summary = _evaluate(
                drawn,
                denoiser,
                fields,
                layout,
                settings.source.pixel_arcmin,
                settings.noise,
            )
            summaries.append(summary)
    return _figures(summaries)


def _layout_of(step: int, settings: Training) -> Layout:
    shares = np.array([layout.share for layout in settings.layouts])
    number = np.random.default_rng((settings.seed, step)).choice(
        len(shares), p=shares / shares.sum()
    )
    return settings.layouts[number]


def _heaviest_step(settings: Training) -> int:
    """The first step whose layout has the most pixels, of those of the first thousand."""
    steps = range(min(settings.schedule.num_steps, 1000))

    def pixels(step: int) -> int:
        layout = _layout_of(step, settings)
        return layout.batch * max(layout.side, layout.window + 2 * layout.margin) ** 2

    return max(steps, key=pixels)


@partial(jax.jit, static_argnames=("layout", "pixel_arcmin", "noise"))
def draw_batch(
    keys: jax.Array, fields: Fields, layout: Layout, pixel_arcmin: float, noise: NoiseRanges
) -> Example:
    """A field and its noise for every key."""
    grid = layout.grid(pixel_arcmin)

    def one(key: jax.Array) -> Example:
        key_field, key_precision, key_noise = jax.random.split(key, 3)
        whole = fields.draw(key_field, layout.side)
        convergence, shear, window = cut_field(whole, layout, pixel_arcmin, fields.rim)
        known = window if layout.window else None
        precision, kind, level = draw_precision(key_precision, grid, noise, known)
        information = information_from_shear(key_noise, shear, precision, grid)
        return Example(convergence, window, information, precision, kind, level)

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _step(
    key: jax.Array,
    state: TrainState,
    denoiser: Denoiser,
    fields: Fields,
    layout: Layout,
    pixel_arcmin: float,
    noise: NoiseRanges,
    schedule: Schedule,
) -> tuple[TrainState, Summary]:
    def gradient_of(
        keys: jax.Array, params: Any, denoiser: Denoiser, fields: Fields
    ) -> tuple[Any, Summary]:
        examples = draw_batch(keys, fields, layout, pixel_arcmin, noise)
        gradient, terms = jax.grad(batch_loss, has_aux=True)(
            params, denoiser, examples, layout.grid(pixel_arcmin)
        )
        return gradient, (terms, examples.kind, examples.level)

    keys = jax.random.split(key, layout.batch)
    gradient, summary = over_devices(gradient_of, layout.batch)(
        keys, state.params, denoiser, fields
    )
    return update(state, gradient, schedule), summary


@partial(jax.jit, static_argnums=(3, 4, 5))
def _evaluate(
    key: jax.Array,
    denoiser: Denoiser,
    fields: Fields,
    layout: Layout,
    pixel_arcmin: float,
    noise: NoiseRanges,
) -> Summary:
    def loss_of(keys: jax.Array, denoiser: Denoiser, fields: Fields) -> tuple[Any, Summary]:
        examples = draw_batch(keys, fields, layout, pixel_arcmin, noise)
        grid = layout.grid(pixel_arcmin)
        loss, terms = batch_loss(denoiser.params, denoiser, examples, grid)
        return loss, (terms, examples.kind, examples.level)

    keys = jax.random.split(key, layout.batch)
    return over_devices(loss_of, layout.batch)(keys, denoiser, fields)[1]


def _figures(summaries: list[Summary]) -> dict[str, Any]:
    """Mean losses, and the ratio of the network's to the Wiener filter's by kind and level.

    Fields without a finite loss are counted and left out, unless they are more than one in 50.
    """
    network, wiener, spread, kind, level = (
        np.concatenate([np.asarray(leaf) for leaf in leaves])
        for leaves in zip(*((*terms, kind, level) for terms, kind, level in summaries), strict=True)
    )

    finite = np.isfinite(network)
    lost = int(np.sum(~finite))
    if 50 * lost < finite.size:
        network, wiener, spread, kind, level = (
            values[finite] for values in (network, wiener, spread, kind, level)
        )

    def ratio(chosen: np.ndarray) -> float | None:
        return float(network[chosen].sum() / wiener[chosen].sum()) if chosen.any() else None

    by_level = np.digitize(level, LEVEL_EDGES[1:-1])
    return {
        "lost": lost,
        "loss": float(network.mean()),
        "wiener": float(wiener.mean()),
        "spread": float(spread.mean()),
        "ratio": {name: ratio(kind == number) for number, name in enumerate(KINDS)},
        "prior_by_level": [
            ratio((kind == 0) & (by_level == number)) for number in range(len(LEVEL_EDGES) - 1)
        ],
    }
