r"""Hamiltonian Monte Carlo that needs the score of a density, not the density.

One chain at a time, as pure functions; ``jax.vmap`` makes many, each with its own annealing level
and step size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.sampling.path_integral import Score, log_density_change

Preconditioner = Callable[[jax.Array, jax.Array], jax.Array]
r"""``L(x, sigma)``, linear in x, with :math:`L L^T = M^{-1}`, the inverse mass.

Best near the standard deviation of the density convolved with N(0, sigma^2), e.g. per Fourier mode;
then the step size counts in standard deviations."""


def identity(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Unit mass."""
    del sigma
    return x


class HMCState(NamedTuple):
    """Where a chain stands.

    Attributes:
        position: x, real, any shape.
        sigma: annealing level, a scalar.
        score: score of the position at that level.
    """

    position: jax.Array
    sigma: jax.Array
    score: jax.Array


class HMCInfo(NamedTuple):
    """How a step went.

    Attributes:
        accepted: whether the chain moved.
        acceptance: probability that it did.
        energy_error: change of the Hamiltonian along the trajectory, 0 for an exact one; infinite
            where the trajectory diverged.
        evaluations: number of calls of the score.
    """

    accepted: jax.Array
    acceptance: jax.Array
    energy_error: jax.Array
    evaluations: jax.Array


def init(position: jax.Array, sigma: jax.Array | float, score: Score) -> HMCState:
    """A chain at a position and level; one evaluation of the score."""
    level = jnp.asarray(sigma, position.dtype)
    return HMCState(position, level, score(position, level))


def leapfrog(
    state: HMCState,
    momentum: jax.Array,
    score: Score,
    step_size: jax.Array | float,
    num_steps: int,
    precondition: Preconditioner = identity,
) -> tuple[HMCState, jax.Array]:
    r"""Follow Hamilton's equations; reversible, volume-preserving, of second order.

    .. math:: q \gets q + \tfrac\epsilon2 L^T s(x), \quad x \gets x + \epsilon L q, \quad
              q \gets q + \tfrac\epsilon2 L^T s(x)

    in the momentum :math:`q = L^T p`, whose law is N(0, I) for every mass. One evaluation of the
    score per step.

    References:
        Remy et al., Eq. 21; Neal (2011), arXiv:1206.1901.
    """
    half = 0.5 * step_size

    def root(x: jax.Array) -> jax.Array:
        return precondition(x, state.sigma)

    def transpose(x: jax.Array) -> jax.Array:
        return jax.linear_transpose(root, x)(x)[0]

    def advance(_: jax.Array, now: tuple[HMCState, jax.Array]) -> tuple[HMCState, jax.Array]:
        state, momentum = now
        momentum = momentum + half * transpose(state.score)
        state = init(state.position + step_size * root(momentum), state.sigma, score)
        return state, momentum + half * transpose(state.score)

    return jax.lax.fori_loop(0, num_steps, advance, (state, momentum))


def step(
    key: jax.Array,
    state: HMCState,
    score: Score,
    step_size: jax.Array | float,
    num_leapfrog: int = 3,
    num_intervals: int = 4,
    jitter: float = 0.5,
    precondition: Preconditioner = identity,
) -> tuple[HMCState, HMCInfo]:
    r"""One trajectory with a fresh momentum, accepted or not by Metropolis and Hastings.

    The log ratio is the line integral of the score between the ends (`log_density_change`) plus
    the change of :math:`-q^2/2`. It takes ``num_leapfrog + num_intervals - 1`` evaluations.

    Args:
        key: PRNG key.
        state: the chain.
        score: ``score(x, sigma)``.
        step_size: :math:`\epsilon`, before jitter.
        num_leapfrog: steps per trajectory.
        num_intervals: of Simpson's rule, even.
        jitter: the step is multiplied by a factor from ``1 - jitter`` to ``1 + jitter``. Without
            it, modes for which the trajectory is half a period or a whole never mix.
        precondition: square root of the inverse mass.

    Returns:
        The chain after the step, and `HMCInfo`.

    References:
        Remy et al., Sect. 4.2 and App. A.
    """
    key_momentum, key_jitter, key_accept = jax.random.split(key, 3)
    dtype = state.position.dtype
    factor = jax.random.uniform(key_jitter, (), dtype, 1 - jitter, 1 + jitter)
    momentum = jax.random.normal(key_momentum, state.position.shape, dtype)
    proposal, last_momentum = leapfrog(
        state, momentum, score, factor * step_size, num_leapfrog, precondition
    )
    log_ratio = log_density_change(
        score,
        state.sigma,
        state.position,
        proposal.position,
        state.score,
        proposal.score,
        num_intervals,
    ) + 0.5 * (jnp.sum(momentum**2) - jnp.sum(last_momentum**2))
    log_ratio = jnp.where(jnp.isfinite(log_ratio), log_ratio, -jnp.inf)
    accepted = jnp.log(jax.random.uniform(key_accept, (), dtype)) < log_ratio
    after = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, state)
    return after, HMCInfo(
        accepted=accepted,
        acceptance=jnp.exp(jnp.minimum(log_ratio, 0)),
        energy_error=-log_ratio,
        evaluations=jnp.asarray(num_leapfrog + num_intervals - 1),
    )
