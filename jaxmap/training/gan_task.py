"""Training of a conditional GAN, for one survey: critic, generator, and the reward for spread."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.estimators.finite_field import inner
from jaxmap.generator import (
    NUM_CONDITIONS,
    Generator,
    conditions_of,
    generate_from,
    initialise_generator,
)
from jaxmap.networks.critic import Critic, initialise_critic, judge
from jaxmap.networks.optimiser import Schedule, TrainState, start, update
from jaxmap.spectra import PowerSpectrum, pixel_variance
from jaxmap.training.devices import on_all_devices, over_devices
from jaxmap.training.gan_losses import (
    CriticTerms,
    GeneratorTerms,
    Judge,
    critic_terms,
    gaussian_reward,
    generator_terms,
    largest_reward,
    tuned_reward,
)
from jaxmap.training.layouts import Fields
from jaxmap.training.loop import Task
from jaxmap.training.observations import (
    Observation,
    SurveyObservations,
    draw_observations,
    survey_observations,
)
from jaxmap.training.settings import Training
from jaxmap.training.survey_settings import Adversarial

SINGLE, AVERAGED = "one sample", "mean of samples"
"""Lines in the figure of errors."""


class GanState(NamedTuple):
    """Everything that the training of a GAN goes on from.

    Attributes:
        generator: of its training.
        critic: of its training.
        reward: the weight of the spread, in units of `gaussian_reward`.
    """

    generator: TrainState
    critic: TrainState
    reward: jax.Array

    @property
    def step(self) -> jax.Array:
        """Steps of the generator."""
        return self.generator.step

    @property
    def params(self) -> Any:
        """Of both networks."""
        return {"generator": self.generator.params, "critic": self.critic.params}

    @property
    def average(self) -> Any:
        """Of the generator's parameters."""
        return self.generator.average


class Summary(NamedTuple):
    """Of a step; the terms of its last batch of the critic, and of its batch of the generator."""

    critic: CriticTerms
    generator: GeneratorTerms
    reward: jax.Array


class SampleErrors(NamedTuple):
    """Of fields, mean squares in units of the variance of the maps, shape ``(batch,)`` each.

    Attributes:
        single: error of single samples.
        averaged: error of the mean of P samples.
        spread: of the samples about their mean, with P - 1.
        truth: the maps themselves.
    """

    single: jax.Array
    averaged: jax.Array
    spread: jax.Array
    truth: jax.Array


def fresh_generator(settings: Training, spectrum: PowerSpectrum, scale: jax.Array) -> Generator:
    """An untrained generator: all samples are zero."""
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    latent = settings.adversarial.latent
    params = initialise_generator(settings.plain_network, key, latent)
    return Generator(params, spectrum, scale, settings.plain_network, latent)


def gan_task(
    settings: Training, training: Fields, validation: Fields, spectrum: PowerSpectrum
) -> Task:
    """Training of a `Generator` against a critic, for `jaxmap.training.loop.train`.

    Every step is one of the critic (or several, each on new examples) and one of the generator.
    Every ``tune_every`` steps the reward for spread is tuned on validation fields
    (`jaxmap.training.gan_losses.tuned_reward`).

    Args:
        settings: of the training.
        training: maps to train on.
        validation: other maps.
        spectrum: of the maps.

    Raises:
        ValueError: for settings that `survey_observations` refuses.

    References:
        Whitney et al. (2024), arXiv:2410.24197; Bendel et al. (2023), NeurIPS, arXiv:2210.13389.
    """
    seen = survey_observations(settings, training)
    unseen = replace(seen, fields=validation)
    seen, unseen = on_all_devices((seen, unseen))
    how, schedule, batch = settings.adversarial, settings.schedule, settings.layouts[0].batch
    # The programs do not depend on how the reward is tuned: trainings of any reward share them.
    fixed = replace(how, reward=1.0, tune_every=1, tune_rate=0.0, tune_samples=2)
    generator = fresh_generator(
        settings, spectrum, jnp.sqrt(pixel_variance(spectrum, seen.survey.grid))
    )
    key = jax.random.key(settings.seed)
    train_key, validation_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)
    critic_key = jax.random.fold_in(key, 6)

    def begin(params: Any, schedule: Schedule) -> GanState:
        return GanState(
            start(params["generator"], schedule),
            start(params["critic"], schedule),
            jnp.asarray(float(how.reward)),
        )

    def examples(key: jax.Array, observations: SurveyObservations) -> Observation:
        return draw_observations(jax.random.split(key, batch), observations)

    def errors(params: Any) -> list[SampleErrors]:
        chosen = replace(generator, params=params)
        return [
            _errors(each, examples(each, unseen), chosen, unseen.margin, how.tune_samples)
            for each in jax.random.split(validation_key, settings.validation_batches)
        ]

    def advance(step: int, state: GanState) -> tuple[GanState, Summary]:
        for each in jax.random.split(jax.random.fold_in(train_key, step), how.critic_steps):
            state, judged = _critic_step(
                each, examples(each, seen), state, generator, seen.margin, fixed, schedule
            )
        drawn = jax.random.fold_in(train_key, step + 2**31)
        state, made = _generator_step(
            drawn, examples(drawn, seen), state, generator, seen.margin, fixed, schedule
        )
        summary = Summary(judged, made, state.reward)
        if (step + 1) % how.tune_every == 0 and how.tune_rate > 0 and how.reward > 0:
            state = state._replace(reward=_tuned(state, errors(state.generator.params), how))
        return state, summary

    def check(params: Any) -> dict[str, Any]:
        return error_figures(errors(params), how.tune_samples)

    critic = initialise_critic(Critic(how.critic), critic_key, NUM_CONDITIONS)
    params = {"generator": generator.params, "critic": critic}
    return Task(params, advance, partial(_figures, how=how), check, begin)


def _tuned(state: GanState, batches: list[SampleErrors], how: Adversarial) -> jax.Array:
    single, averaged = (
        jnp.mean(jnp.concatenate([getattr(batch, name) for batch in batches]))
        for name in ("single", "averaged")
    )
    most = largest_reward(how.samples)
    tuned = tuned_reward(state.reward, single, averaged, how.tune_samples, how.tune_rate, most)
    return tuned.astype(state.reward.dtype)


@partial(jax.jit, static_argnums=(4, 5, 6))
def _critic_step(
    key: jax.Array,
    examples: Observation,
    state: GanState,
    generator: Generator,
    margin: int,
    how: Adversarial,
    schedule: Schedule,
) -> tuple[GanState, CriticTerms]:
    def one(key: jax.Array, example: Observation, critic: Any, given: Given) -> CriticTerms:
        key_white, key_mix = jax.random.split(key)
        truth, conditions = _inputs(example, given.generator)
        sample = inner(generate_from(given.generator, key_white, conditions, given.params), margin)
        mix = jax.random.uniform(key_mix, (), truth.dtype)
        value = _judge(critic, conditions, margin, how)
        return critic_terms(value, truth, sample, mix)

    def gradient_of(batch: Batch, critic: Any, given: Given) -> tuple[Any, CriticTerms]:
        def loss(critic: Any) -> tuple[jax.Array, CriticTerms]:
            terms = jax.vmap(one, in_axes=(0, 0, None, None))(*batch, critic, given)
            total = -terms.distance + how.penalty * terms.penalty + how.drift * terms.drift
            return jnp.mean(total), terms

        return jax.grad(loss, has_aux=True)(critic)

    batch = _batch(key, examples)
    gradient, terms = over_devices(gradient_of, len(batch.keys))(
        batch, state.critic.params, Given(generator, state.generator.params)
    )
    # Its learning rate follows the steps of the generator.
    critic = update(state.critic._replace(step=state.step), gradient, schedule)
    return state._replace(critic=critic), terms


@partial(jax.jit, static_argnums=(4, 5, 6))
def _generator_step(
    key: jax.Array,
    examples: Observation,
    state: GanState,
    generator: Generator,
    margin: int,
    how: Adversarial,
    schedule: Schedule,
) -> tuple[GanState, GeneratorTerms]:
    def one(
        key: jax.Array, example: Observation, params: Any, critic: Any, generator: Generator
    ) -> GeneratorTerms:
        truth, conditions = _inputs(example, generator)
        samples = jax.vmap(lambda white: generate_from(generator, white, conditions, params))(
            jax.random.split(key, how.samples)
        )
        value = _judge(critic, conditions, margin, how)
        return generator_terms(value, truth, inner(samples, margin))

    def gradient_of(
        batch: Batch, params: Any, critic: Any, reward: jax.Array, generator: Generator
    ) -> tuple[Any, GeneratorTerms]:
        def loss(params: Any) -> tuple[jax.Array, GeneratorTerms]:
            terms = jax.vmap(one, in_axes=(0, 0, None, None, None))(
                *batch, params, critic, generator
            )
            return jnp.mean(_generator_loss(terms, reward, how)), terms

        return jax.grad(loss, has_aux=True)(params)

    batch = _batch(key, examples)
    gradient, terms = over_devices(gradient_of, len(batch.keys))(
        batch, state.generator.params, state.critic.params, state.reward, generator
    )
    return state._replace(generator=update(state.generator, gradient, schedule)), terms


@partial(jax.jit, static_argnums=(3, 4))
def _errors(
    key: jax.Array, examples: Observation, generator: Generator, margin: int, number: int
) -> SampleErrors:
    def one(key: jax.Array, example: Observation, generator: Generator) -> SampleErrors:
        truth, conditions = _inputs(example, generator)
        # One after the other, to hold the layers of one sample only.
        samples = jax.lax.map(
            lambda white: inner(generate_from(generator, white, conditions), margin),
            jax.random.split(key, number),
        )
        mean = jnp.mean(samples, axis=0)
        return SampleErrors(
            single=jnp.mean((samples - truth[None]) ** 2),
            averaged=jnp.mean((mean - truth) ** 2),
            spread=jnp.mean((samples - mean[None]) ** 2) * number / (number - 1),
            truth=jnp.mean(truth**2),
        )

    def of_batch(batch: Batch, generator: Generator) -> tuple[tuple[()], SampleErrors]:
        return (), jax.vmap(one, in_axes=(0, 0, None))(*batch, generator)

    batch = _batch(key, examples)
    errors: SampleErrors = over_devices(of_batch, len(batch.keys))(batch, generator)[1]
    return errors


class Batch(NamedTuple):
    """Examples, and a key for each, of the white images."""

    keys: jax.Array
    examples: Observation


class Given(NamedTuple):
    """What the critic's step takes as it is."""

    generator: Generator
    params: Any


def _batch(key: jax.Array, examples: Observation) -> Batch:
    return Batch(jax.random.split(jax.random.fold_in(key, 1), len(examples.truth)), examples)


def _generator_loss(terms: GeneratorTerms, reward: Any, how: Adversarial) -> Any:
    weight = reward * gaussian_reward(how.samples)
    return terms.absolute - weight * terms.spread - how.adversarial * terms.value


def _inputs(example: Observation, generator: Generator) -> tuple[jax.Array, jax.Array]:
    """A true field in units of s, and what the networks are told of its data."""
    conditions = conditions_of(example.data, generator.scale)
    return (example.truth / generator.scale).astype(conditions.dtype), conditions


def _judge(critic: Any, conditions: jax.Array, margin: int, how: Adversarial) -> Judge:
    """The critic for some data, of their field without the margin."""
    told = jnp.moveaxis(inner(jnp.moveaxis(conditions, -1, 0), margin), 0, -1)
    return lambda image: judge(Critic(how.critic), critic, image, told)


def error_figures(batches: list[SampleErrors], number: int) -> dict[str, Any]:
    r"""Errors of samples and their means, and whether samples are spread as their errors ask.

    ``spread_over_error`` is :math:`\sqrt{(1 + 1/P) V / E_P}`, with the variance V of samples; 1
    if the truth is one more of them.
    """
    single, averaged, spread, truth = (
        float(np.concatenate(rows).mean()) for rows in zip(*batches, strict=True)
    )
    return {
        "loss": averaged / truth,
        "ratio": {SINGLE: single / truth, AVERAGED: averaged / truth},
        "single_over_averaged": single / averaged,
        "expected_single_over_averaged": 2 * number / (number + 1),
        "spread_over_error": float(np.sqrt((1 + 1 / number) * spread / averaged)),
    }


def _figures(summaries: list[Summary], how: Adversarial) -> dict[str, Any]:
    distance, penalty, _ = (
        np.concatenate(rows) for rows in zip(*(each.critic for each in summaries), strict=True)
    )
    value, absolute, spread = (
        np.concatenate(rows) for rows in zip(*(each.generator for each in summaries), strict=True)
    )
    reward = np.array([each.reward for each in summaries])
    made = GeneratorTerms(value.mean(), absolute.mean(), spread.mean())
    return {
        "loss": float(_generator_loss(made, reward.mean(), how)),
        "absolute_error": float(made.absolute),
        "spread": float(made.spread),
        "distance": float(distance.mean()),
        "gradient_penalty": float(penalty.mean()),
        "reward": float(reward[-1]),
        "ratio": {SINGLE: None, AVERAGED: None},
    }
