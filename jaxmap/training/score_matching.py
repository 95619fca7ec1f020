"""Denoising score matching: learning the score of a density from examples, for any kind of data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.networks.optimiser import Schedule, TrainState, update
from jaxmap.networks.spectral import limit_kernels
from jaxmap.training.devices import on_all_devices, over_devices
from jaxmap.training.loop import Task
from jaxmap.training.settings import ScoreMatching

LEVELS = {"below 0.01": 0.0, "0.01": 0.01, "0.02": 0.02, "0.05": 0.05, "0.1": 0.1, "above 0.2": 0.2}
"""Bins of the noise level, by the least in them, for the figures."""


class Score(Protocol):
    """Anything with a score at every level of added noise; every `jaxmap.prior.Prior` has one."""

    def score(self, x: jax.Array, sigma: jax.Array, /) -> jax.Array:
        r"""Gradient of :math:`\log p_\sigma` at x."""


class Trainable(Score, Protocol):
    """A score with parameters; a dataclass and a pytree."""

    @property
    def params(self) -> Any:
        """Nested dictionaries of arrays."""


class Examples(Protocol):
    """Where clean examples come from; a pytree."""

    def draw(self, key: jax.Array) -> jax.Array:
        """One example, any shape."""


class ScoreLosses(NamedTuple):
    """Of the examples of a batch, shape ``(batch,)`` each.

    Attributes:
        network: loss of the score that is trained.
        baseline: that of the score it is compared with.
        level: |sigma|.
    """

    network: jax.Array
    baseline: jax.Array
    level: jax.Array


def score_loss(score: Score, clean: jax.Array, white: jax.Array, sigma: jax.Array) -> jax.Array:
    r"""Denoising score matching on one example.

    .. math:: L = \langle |u + \sigma\, s_\sigma(x + \sigma u)|^2 \rangle

    1 for no score at all; the least value is that of the exact score. For a hybrid prior, whose
    score is a Gaussian one and a residual, this is residual denoising score matching.

    Args:
        score: s.
        clean: x, any shape.
        white: u, of unit variance, same shape.
        sigma: level of the noise, either sign.

    Returns:
        Mean over the values of x, a scalar.

    References:
        Remy et al., Eqs. 20 and 24; Lim et al. (2020), AR-DAE.
    """
    return jnp.mean((white + sigma * score.score(clean + sigma * white, sigma)) ** 2)


def score_matching_task(
    key: jax.Array,
    model: Trainable,
    baseline: Score,
    training: Examples,
    validation: Examples,
    *,
    batch: int,
    matching: ScoreMatching,
    schedule: Schedule,
    validation_batches: int,
) -> Task:
    """Training of a score, for `jaxmap.training.loop.train`.

    Args:
        key: of everything random.
        model: what to train, fresh.
        baseline: a score to compare with.
        training: examples to train on.
        validation: other examples.
        batch: examples in a step.
        matching: noise, and limit on the kernels.
        schedule: of the optimiser.
        validation_batches: at every validation, the same ones every time.
    """
    training, validation = on_all_devices((training, validation))
    train_key, validation_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)

    def advance(step: int, state: TrainState) -> tuple[TrainState, ScoreLosses]:
        drawn = jax.random.fold_in(train_key, step)
        return _step(drawn, state, model, baseline, training, batch, matching, schedule)

    def check(params: Any) -> dict[str, Any]:
        averaged = _with_params(model, params)
        return _figures(
            [
                _evaluate(drawn, averaged, baseline, validation, batch, matching.spread)
                for drawn in jax.random.split(validation_key, validation_batches)
            ]
        )

    return Task(_within(model.params, matching), advance, _figures, check)


def _with_params(model: Any, params: Any) -> Score:
    trained: Score = replace(model, params=params)
    return trained


def _within(params: Any, matching: ScoreMatching) -> Any:
    return limit_kernels(params, matching.kernel_norm) if matching.kernel_norm else params


def _losses(
    keys: jax.Array, model: Score, baseline: Score, examples: Examples, spread: float
) -> tuple[jax.Array, ScoreLosses]:
    """Mean loss of an example for every key, and the losses behind it."""

    def one(key: jax.Array) -> ScoreLosses:
        key_clean, key_white, key_sigma = jax.random.split(key, 3)
        clean = examples.draw(key_clean)
        white = jax.random.normal(key_white, clean.shape, clean.dtype)
        sigma = spread * jax.random.normal(key_sigma, (), clean.dtype)
        return ScoreLosses(
            network=score_loss(model, clean, white, sigma),
            baseline=score_loss(baseline, clean, white, sigma),
            level=jnp.abs(sigma),
        )

    losses = jax.vmap(one)(keys)
    return jnp.mean(losses.network), losses


@partial(jax.jit, static_argnums=(4, 5))
def _evaluate(
    key: jax.Array, model: Score, baseline: Score, examples: Examples, batch: int, spread: float
) -> ScoreLosses:
    evaluate = over_devices(partial(_losses, spread=spread), batch)
    losses: ScoreLosses = evaluate(jax.random.split(key, batch), model, baseline, examples)[1]
    return losses


@partial(jax.jit, static_argnums=(5, 6, 7))
def _step(
    key: jax.Array,
    state: TrainState,
    model: Trainable,
    baseline: Score,
    training: Examples,
    batch: int,
    matching: ScoreMatching,
    schedule: Schedule,
) -> tuple[TrainState, ScoreLosses]:
    def gradient_of(
        keys: jax.Array, params: Any, model: Trainable, baseline: Score, training: Examples
    ) -> tuple[Any, ScoreLosses]:
        def loss(params: Any) -> tuple[jax.Array, ScoreLosses]:
            trained = _with_params(model, params)
            return _losses(keys, trained, baseline, training, matching.spread)

        return jax.grad(loss, has_aux=True)(params)

    gradient, losses = over_devices(gradient_of, batch)(
        jax.random.split(key, batch), state.params, model, baseline, training
    )
    return update(state, gradient, schedule, partial(_within, matching=matching)), losses


def _figures(batches: list[ScoreLosses]) -> dict[str, Any]:
    """Mean losses, and the ratio of the network's to the baseline's by noise level."""
    network, baseline, level = (np.concatenate(rows) for rows in zip(*batches, strict=True))
    by_level = np.digitize(level, tuple(LEVELS.values())) - 1

    def ratio(chosen: np.ndarray) -> float | None:
        return float(network[chosen].sum() / baseline[chosen].sum()) if chosen.any() else None

    return {
        "loss": float(network.mean()),
        "baseline": float(baseline.mean()),
        "ratio": {name: ratio(by_level == number) for number, name in enumerate(LEVELS)},
    }
