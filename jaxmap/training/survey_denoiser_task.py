"""Training of the published DeepMass, for one survey."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.estimators.finite_field import inner
from jaxmap.networks.optimiser import Schedule, TrainState, update
from jaxmap.networks.plain_unet import initialise_plain
from jaxmap.spectra import PowerSpectrum, pixel_variance
from jaxmap.survey_denoiser import SurveyDenoiser, recover
from jaxmap.training.devices import on_all_devices, over_devices
from jaxmap.training.layouts import Fields
from jaxmap.training.loop import Task
from jaxmap.training.observations import (
    Observation,
    SurveyObservations,
    draw_observations,
    survey_observations,
)
from jaxmap.training.settings import Training

REGION = "survey"
"""The one line in the figure of losses."""


class Errors(NamedTuple):
    """Mean square errors of fields, in units of the variance of the maps, shape ``(batch,)``.

    Attributes:
        network: of the network.
        wiener: of the Wiener filter.
    """

    network: jax.Array
    wiener: jax.Array


def fresh_survey_denoiser(settings: Training, spectrum: PowerSpectrum) -> SurveyDenoiser:
    """An untrained network: with ``first = "wiener"`` exactly the Wiener filter."""
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    params = initialise_plain(settings.plain_network, key, 1)
    return SurveyDenoiser(params, spectrum, settings.plain_network, settings.first_map.first)


def survey_denoiser_task(
    settings: Training, training: Fields, validation: Fields, spectrum: PowerSpectrum
) -> Task:
    r"""Training of a `SurveyDenoiser`, for `jaxmap.training.loop.train`.

    .. math:: L = \langle (\hat\kappa - \kappa)^2 \rangle / s^2

    over all pixels of the field, observed or not, with the maps' standard deviation s.

    Args:
        settings: of the training.
        training: maps to train on.
        validation: other maps.
        spectrum: of the maps, the prior of the Wiener filter.

    Raises:
        ValueError: for settings that `survey_observations` refuses.

    References:
        Jeffrey et al. (2020), MNRAS 492, 5023, Sect. 3.
    """
    seen = survey_observations(settings, training)
    unseen = replace(seen, fields=validation)
    seen, unseen = on_all_devices((seen, unseen))
    model, batch = fresh_survey_denoiser(settings, spectrum), settings.layouts[0].batch
    key = jax.random.key(settings.seed)
    train_key, validation_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)

    def examples(key: jax.Array, observations: SurveyObservations) -> Observation:
        return draw_observations(jax.random.split(key, batch), observations)

    def advance(step: int, state: TrainState) -> tuple[TrainState, Errors]:
        drawn = examples(jax.random.fold_in(train_key, step), seen)
        return _step(drawn, state, model, seen.margin, settings.schedule)

    def check(params: Any) -> dict[str, Any]:
        averaged = replace(model, params=params)
        keys = jax.random.split(validation_key, settings.validation_batches)
        return _figures([_evaluate(examples(key, unseen), averaged, seen.margin) for key in keys])

    return Task(model.params, advance, _figures, check)


def _loss(examples: Observation, model: SurveyDenoiser, margin: int) -> tuple[jax.Array, Errors]:
    """Mean loss of examples, and the errors behind it."""

    def one(example: Observation) -> Errors:
        unit = pixel_variance(model.spectrum, example.data.grid)
        maps = recover(model, example.data)
        return Errors(
            *(jnp.mean((inner(found, margin) - example.truth) ** 2) / unit for found in maps)
        )

    errors = jax.vmap(one)(examples)
    return jnp.mean(errors.network), errors


@partial(jax.jit, static_argnums=(3, 4))
def _step(
    examples: Observation,
    state: TrainState,
    model: SurveyDenoiser,
    margin: int,
    schedule: Schedule,
) -> tuple[TrainState, Errors]:
    def gradient_of(
        examples: Observation, params: Any, model: SurveyDenoiser
    ) -> tuple[Any, Errors]:
        def loss(params: Any) -> tuple[jax.Array, Errors]:
            return _loss(examples, replace(model, params=params), margin)

        return jax.grad(loss, has_aux=True)(params)

    gradient, errors = over_devices(gradient_of, len(examples.truth))(examples, state.params, model)
    return update(state, gradient, schedule), errors


@partial(jax.jit, static_argnums=2)
def _evaluate(examples: Observation, model: SurveyDenoiser, margin: int) -> Errors:
    evaluate = over_devices(partial(_loss, margin=margin), len(examples.truth))
    errors: Errors = evaluate(examples, model)[1]
    return errors


def _figures(batches: list[Errors]) -> dict[str, Any]:
    network, wiener = (np.concatenate(rows) for rows in zip(*batches, strict=True))
    return {
        "loss": float(network.mean()),
        "wiener": float(wiener.mean()),
        "ratio": {REGION: float(network.sum() / wiener.sum())},
    }
