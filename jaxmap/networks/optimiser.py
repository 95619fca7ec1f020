"""Adam with a schedule and an average of the parameters: one step of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


@dataclass(frozen=True)
class Schedule:
    r"""How the step size runs: linear warm-up, a plateau, and a cosine to zero at the end.

    A staircase is had from ``drops``, with ``decay_steps = 0`` to leave out the cosine. Until the
    decay begins nothing depends on ``num_steps``, so training may be made longer.

    Args:
        num_steps: of the whole training.
        learning_rate: on the plateau.
        warmup_steps: from zero to the plateau.
        decay_steps: from the plateau to zero, the last of ``num_steps``.
        averaging: of the parameters over about this many steps (exponential).
        clip: largest norm of a gradient; longer ones are shortened.
        drops: steps from which on the learning rate is a tenth of what it was.
        beta2: Adam's memory of squared gradients.
        beta1: Adam's memory of gradients.
    """

    num_steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_steps: int = 1000
    averaging: int = 500
    clip: float = 1.0
    drops: tuple[int, ...] = ()
    beta2: float = 0.99
    beta1: float = 0.9

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; expected 1 or more")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")
        for name in ("warmup_steps", "decay_steps", "averaging"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more steps")
        if not 0 < self.beta2 < 1:
            raise ValueError(f"beta2 is {self.beta2}; expected a number between 0 and 1")
        if not 0 <= self.beta1 < 1:
            raise ValueError(f"beta1 is {self.beta1}; expected 0 or more, and less than 1")

    def at(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step, counted from 0."""
        rise = jnp.minimum((step + 1) / max(self.warmup_steps, 1), 1)
        left = jnp.clip((self.num_steps - step) / max(self.decay_steps, 1), 0, 1)
        stairs = 0.1 ** sum((step >= drop).astype(rise.dtype) for drop in self.drops)
        return self.learning_rate * rise * stairs * jnp.sin(0.5 * jnp.pi * left) ** 2


class TrainState(NamedTuple):
    """Everything that training goes on from.

    Attributes:
        step: updates made so far.
        params: the parameters.
        average: their running average, which is what one uses.
        moments: of Adam.
    """

    step: jax.Array
    params: Any
    average: Any
    moments: Any


def start(params: Any, schedule: Schedule) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.asarray(0), params, params, _transform(schedule).init(params))


def update(
    state: TrainState,
    gradient: Any,
    schedule: Schedule,
    project: Callable[[Any], Any] = lambda params: params,
) -> TrainState:
    """One step of Adam along the gradient of a loss; none if the gradient is not finite.

    Args:
        state: before the step.
        gradient: of the loss.
        schedule: of the optimiser.
        project: makes parameters allowed again after a step.
    """
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)]))
    taken = _adam_step(state, gradient, schedule, project)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), taken, state)._replace(
        step=state.step + 1
    )


def lost_steps(tree: Any) -> int:
    """Steps that `update` left out, of all trainings in a state, for want of a finite gradient."""
    states = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, TrainState))
    return sum(
        max(int(state.step) - int(optax.tree_utils.tree_get(state.moments, "count")), 0)
        for state in states
        if isinstance(state, TrainState)
    )


def _adam_step(
    state: TrainState, gradient: Any, schedule: Schedule, project: Callable[[Any], Any]
) -> TrainState:
    changes, moments = _transform(schedule).update(gradient, state.moments, state.params)
    rate = schedule.at(state.step)
    params = project(jax.tree.map(lambda p, c: p - rate.astype(p.dtype) * c, state.params, changes))
    # Early on the average covers the steps there are, not the start.
    keep = 1 - 1 / jnp.minimum(state.step + 1, max(schedule.averaging, 1))
    average = jax.tree.map(lambda a, p: p + keep.astype(p.dtype) * (a - p), state.average, params)
    return TrainState(state.step + 1, params, average, moments)


def _transform(schedule: Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(schedule.clip),
        optax.scale_by_adam(b1=schedule.beta1, b2=schedule.beta2),
    )
