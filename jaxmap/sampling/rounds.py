"""Rounds of an annealed run: steps of all chains at their levels, and when a chain cools."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.sampling import hmc
from jaxmap.sampling.hmc import HMCState, Preconditioner
from jaxmap.sampling.path_integral import Score
from jaxmap.sampling.schedule import AnnealingSettings


class LevelStatistics(NamedTuple):
    """What happened at every level, shape ``(..., num_levels)``; levels not reached hold 0.

    Attributes:
        rounds: rounds of a chain at the level, 1 where it went on at once.
        acceptance: mean acceptance.
        energy_error: rms change of the Hamiltonian along trajectories; infinite if one diverged.
    """

    rounds: jax.Array
    acceptance: jax.Array
    energy_error: jax.Array


class AnnealingState(NamedTuple):
    """Chains under way; every field with chains along the leading axis.

    Attributes:
        chain: position, level and score.
        level: levels passed; all of them once a chain has made its round at the floor.
        rounds: rounds made.
        evaluations: calls of the score.
        statistics: of the levels so far, as sums.
    """

    chain: HMCState
    level: jax.Array
    rounds: jax.Array
    evaluations: jax.Array
    statistics: LevelStatistics


@partial(jax.jit, static_argnames="settings")
def first_state(start: jax.Array, score: Score, settings: AnnealingSettings) -> AnnealingState:
    """Chains at the first level, from positions of shape ``(num_chains, ...)``."""

    def one(position: jax.Array) -> AnnealingState:
        zeros = jnp.zeros(len(settings.sigmas), position.dtype)
        # Not jnp.asarray(0), whose weak type would have the first chunk compiled apart.
        zero = jnp.zeros((), int)
        return AnnealingState(
            chain=hmc.init(position, settings.sigmas[0], score),
            level=zero,
            rounds=zero,
            evaluations=zero + 1,
            statistics=LevelStatistics(zeros.astype(int), zeros, zeros),
        )

    return jax.vmap(one)(start)


@partial(jax.jit, static_argnames="settings")
def advance_rounds(
    keys: jax.Array,
    state: AnnealingState,
    score: Score,
    settings: AnnealingSettings,
    precondition: Preconditioner,
) -> AnnealingState:
    """A chunk of rounds of all chains, each with its key; those that are done stay as they are.

    Ends early where a chain is broken (`broken_chains`).
    """

    def one(key: jax.Array, state: AnnealingState) -> AnnealingState:
        after = _round(key, state, score, settings, precondition)
        active = active_chains(state, settings)
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), after, state)

    def unfinished(loop: tuple[jax.Array, AnnealingState]) -> jax.Array:
        number, state = loop
        more = (number < settings.chunk) & jnp.any(active_chains(state, settings))
        return more & ~jnp.any(broken_chains(state))

    def advance(loop: tuple[jax.Array, AnnealingState]) -> tuple[jax.Array, AnnealingState]:
        number, state = loop
        return number + 1, jax.vmap(one)(keys, state)

    return jax.lax.while_loop(unfinished, advance, (jnp.asarray(0), state))[1]


def active_chains(state: AnnealingState, settings: AnnealingSettings) -> jax.Array:
    """Which chains have rounds to make."""
    return (state.level < len(settings.sigmas)) & (state.rounds < settings.last_round)


def broken_chains(state: AnnealingState) -> jax.Array:
    """Which chains stand where their position, or its score, is not finite: they cannot move."""

    def broken(chain: HMCState) -> jax.Array:
        return ~jnp.all(jnp.isfinite(chain.position) & jnp.isfinite(chain.score))

    return jax.vmap(broken)(state.chain)


def _round(
    key: jax.Array,
    state: AnnealingState,
    score: Score,
    settings: AnnealingSettings,
    precondition: Preconditioner,
) -> AnnealingState:
    """One chain: a round of steps at its level, then the next level if they were accepted."""
    sigmas = jnp.asarray(settings.sigmas, state.chain.position.dtype)
    step_size = settings.step_size * (state.chain.sigma / sigmas[0]) ** settings.step_power

    def one_step(chain: HMCState, number: jax.Array) -> tuple[HMCState, hmc.HMCInfo]:
        return hmc.step(
            jax.random.fold_in(key, number),
            chain,
            score,
            step_size,
            settings.num_leapfrog,
            settings.num_intervals,
            settings.jitter,
            precondition,
        )

    numbers = state.rounds * settings.steps_per_level + jnp.arange(settings.steps_per_level)
    chain, infos = jax.lax.scan(one_step, state.chain, numbers)
    acceptance = jnp.mean(infos.acceptance)
    level = state.level + (acceptance >= settings.min_acceptance)
    sigma = sigmas[jnp.minimum(level, len(sigmas) - 1)]
    return AnnealingState(
        chain=hmc.init(chain.position, sigma, score),
        level=level,
        rounds=state.rounds + 1,
        evaluations=state.evaluations + jnp.sum(infos.evaluations) + 1,
        statistics=_add(state, acceptance, jnp.mean(infos.energy_error**2)),
    )


def _add(state: AnnealingState, acceptance: jax.Array, square_error: jax.Array) -> LevelStatistics:
    """Sums over the rounds of a level."""
    sums = state.statistics
    return LevelStatistics(
        rounds=sums.rounds.at[state.level].add(1),
        acceptance=sums.acceptance.at[state.level].add(acceptance),
        energy_error=sums.energy_error.at[state.level].add(square_error),
    )
