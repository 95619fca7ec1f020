r"""Annealed Hamiltonian Monte Carlo: chains that follow a smoothed density as it sharpens.

Every chain starts at a level :math:`\sigma_0` at which the density is wide and plain, makes a
round of steps there, and goes on to the next level if enough of them were accepted; each at its
own pace. (The authors' release adds a random test to this, which is no exchange move and doubles
the steps.) At the floor the probability flow (`jaxmap.sampling.probability_flow`) takes it to zero
noise. One chain makes one sample.

A run is a sequence of states, each a pytree of arrays with chains along the leading axis: save one,
and the run can go on from it to the same samples (`anneal`, `finish`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.sampling import hmc
from jaxmap.sampling.hmc import HMCState, Preconditioner
from jaxmap.sampling.path_integral import Score
from jaxmap.sampling.probability_flow import (
    flow_evaluations,
    flow_levels,
    flow_of_modes,
    flow_to_zero_watched,
)
from jaxmap.sampling.rounds import (
    AnnealingState,
    LevelStatistics,
    active_chains,
    advance_rounds,
    broken_chains,
    first_state,
)
from jaxmap.sampling.schedule import PAPER, AnnealingSettings

log = logging.getLogger(__name__)


class AnnealingInfo(NamedTuple):
    """How the chains went.

    Attributes:
        sigma: level at which each ended, before the probability flow.
        finished: whether each made its round at the floor; only these are samples.
        evaluations: calls of the score, all told, per chain.
        steps: trajectories, per chain.
        statistics: per chain and level of ``AnnealingSettings.sigmas``.
    """

    sigma: jax.Array
    finished: jax.Array
    evaluations: jax.Array
    steps: jax.Array
    statistics: LevelStatistics


def sample_annealed(
    key: jax.Array,
    start: jax.Array,
    score: Score,
    settings: AnnealingSettings = PAPER,
    progress: Callable[[Iterable[AnnealingState]], Iterable[AnnealingState]] = lambda run: run,
    precondition: Preconditioner = hmc.identity,
    first: int = 0,
    variance: jax.Array | None = None,
) -> tuple[jax.Array, AnnealingInfo]:
    r"""One sample per chain by annealed HMC and the probability flow.

    Args:
        key: PRNG key. Chain i draws from it with the number ``first + i``, so that samples do not
            depend on how many chains run at once.
        start: positions at the first level, real, shape ``(num_chains, ...)``; e.g. a rough
            solution plus :math:`\sigma_0` times white noise.
        score: ``score(x, sigma)`` of one position: the gradient of the log density convolved with
            :math:`N(0, \sigma^2)`. A pytree, such as ``jax.tree_util.Partial(function, arrays)``,
            is compiled once for all arrays; any other function once for itself.
        settings: schedule and kernel.
        progress: wraps the run, an iterable of `AnnealingState`, one per chunk of rounds; the
            place for a progress bar, or to save the state.
        precondition: square root of the inverse mass, a pytree or function as the score.
        first: number of the first chain.
        variance: about that of the density, per Fourier mode, where positions are periodic fields:
            the flow then takes the steps of a Gaussian field (`flow_of_modes`), for modes far
            narrower than the last level that a score was made for. None for any density.

    Returns:
        Samples, shape ``(num_chains, ...)``, and `AnnealingInfo`; a warning tells of chains that
        did not reach the floor.

    Raises:
        FloatingPointError: if a position or score is not finite, as soon as it is met.
    """
    state = begin(start, score, settings)
    for latest in progress(anneal(key, state, score, settings, precondition, first)):
        state = latest
    return finish(state, score, settings, first, variance)


def begin(start: jax.Array, score: Score, settings: AnnealingSettings) -> AnnealingState:
    """Chains at the first level, shape ``(num_chains, ...)``."""
    return first_state(start, _argument(score), settings)


def anneal(
    key: jax.Array,
    state: AnnealingState,
    score: Score,
    settings: AnnealingSettings,
    precondition: Preconditioner = hmc.identity,
    first: int = 0,
) -> Iterator[AnnealingState]:
    """The states of a run after every chunk of rounds, until all chains are done.

    Arguments as of `sample_annealed`; the state may come from an earlier, interrupted run.

    Raises:
        FloatingPointError: if a position or score is not finite.
    """
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(len(state.rounds)))
    _require_finite(state, settings, first)
    while jnp.any(active_chains(state, settings)):
        state = advance_rounds(keys, state, _argument(score), settings, _argument(precondition))
        _require_finite(state, settings, first)
        yield state


def finish(
    state: AnnealingState,
    score: Score,
    settings: AnnealingSettings,
    first: int = 0,
    variance: jax.Array | None = None,
) -> tuple[jax.Array, AnnealingInfo]:
    """Carry chains from their own level to zero noise, and tell how they went.

    Arguments as of `sample_annealed`.

    Raises:
        FloatingPointError: if the flow leaves the finite numbers.
    """
    samples, finite = _flow(state.chain, _argument(score), settings, variance)
    by_modes = variance is not None
    _require_finite_flow(state, np.asarray(finite), settings, first, by_modes)
    finished = state.level == len(settings.sigmas)
    steps = state.rounds * settings.steps_per_level
    info = AnnealingInfo(
        sigma=state.chain.sigma,
        finished=finished,
        evaluations=state.evaluations + flow_evaluations(settings.flow_steps, by_modes),
        steps=steps,
        statistics=_means(state.statistics),
    )
    _warn_of_unfinished(info, settings)
    return samples, info


def _means(sums: LevelStatistics) -> LevelStatistics:
    rounds = jnp.maximum(sums.rounds, 1).astype(sums.acceptance.dtype)
    return LevelStatistics(
        sums.rounds, sums.acceptance / rounds, jnp.sqrt(sums.energy_error / rounds)
    )


@partial(jax.jit, static_argnames="settings")
def _flow(
    chain: HMCState, score: Score, settings: AnnealingSettings, variance: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    def flow(position: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        steps = settings.flow_steps, settings.flow_end
        if variance is None:
            return flow_to_zero_watched(position, sigma, score, *steps)
        return flow_of_modes(position, sigma, score, variance, *steps)

    return jax.vmap(flow)(chain.position, chain.sigma)


def _argument(function: Any) -> Any:
    """A function as an argument of ``jax.jit``, which takes pytrees."""
    is_leaf = jax.tree_util.all_leaves([function])
    return jax.tree_util.Partial(function) if is_leaf else function


_REMEDY = (
    "the score must be finite at every level; check the units of the noise, raise sigma_floor to "
    "the least level the score was made for, or use float64 (--x64)"
)


def _require_finite(state: AnnealingState, settings: AnnealingSettings, first: int) -> None:
    broken = np.asarray(broken_chains(state))
    if not broken.any():
        return
    number = int(np.argmax(broken))
    position = np.isfinite(np.asarray(state.chain.position)[number]).all()
    levels = len(settings.sigmas)
    raise FloatingPointError(
        f"the {'score' if position else 'position'} of chain {first + number} is not finite after "
        f"{int(state.rounds[number])} rounds, at level {min(int(state.level[number]) + 1, levels)} "
        f"of {levels} (sigma = {float(state.chain.sigma[number]):.3g}); {_REMEDY}"
    )


def _require_finite_flow(
    state: AnnealingState,
    finite: np.ndarray,
    settings: AnnealingSettings,
    first: int,
    by_modes: bool,
) -> None:
    """Refuse a flow that is not finite after each of its steps, shape ``(num_chains, steps)``."""
    if finite.all():
        return
    number, step = (int(index) for index in np.argwhere(~finite)[0])
    sigma = state.chain.sigma[number]
    levels = flow_levels(sigma, settings.flow_steps, settings.flow_end, by_modes)
    level = float(levels[step])
    raise FloatingPointError(
        f"chain {first + number} is not finite from step {step + 1} of {finite.shape[1]} of its "
        f"flow to zero noise on (from sigma = {level:.3g}); {_REMEDY}"
    )


def _warn_of_unfinished(info: AnnealingInfo, settings: AnnealingSettings) -> None:
    finished = np.asarray(info.finished)
    if finished.all():
        return
    stopped = np.asarray(info.sigma)[~finished]
    log.warning(
        "%d of %d chains did not finish: they stopped at sigma %.3g to %.3g, the floor is %.3g, "
        "after %d rounds (one of acceptance below %.2g does not cool); lower step_size or raise "
        "max_rounds, and leave these chains out (AnnealingInfo.finished)",
        len(stopped),
        len(finished),
        stopped.min(),
        stopped.max(),
        settings.sigma_floor,
        settings.last_round,
        settings.min_acceptance,
    )
