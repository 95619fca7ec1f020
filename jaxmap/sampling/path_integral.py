r"""Differences of a log density from its score alone: line integrals by Simpson's rule."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Score = Callable[[jax.Array, jax.Array], jax.Array]
"""``score(x, sigma)``: gradient at x of the log of a density convolved with N(0, sigma^2)."""


def simpson_weights(num_intervals: int) -> np.ndarray:
    """Weights of the composite Simpson rule on [0, 1]; (1, 4, 2, 4, 1)/12 for 4 intervals.

    Raises:
        ValueError: unless the number of intervals is even and positive.
    """
    if num_intervals < 2 or num_intervals % 2:
        raise ValueError(
            f"num_intervals is {num_intervals}; Simpson's rule needs an even number, 2 or more"
        )
    weights = np.ones(num_intervals + 1)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return weights / (3 * num_intervals)


def log_density_change(
    score: Score,
    sigma: jax.Array,
    start: jax.Array,
    end: jax.Array,
    score_start: jax.Array,
    score_end: jax.Array,
    num_intervals: int = 4,
) -> jax.Array:
    r"""Change of the log density from one point to another, along the straight line.

    .. math:: \log p_\sigma(x') - \log p_\sigma(x)
              = \int_0^1 s(x + t (x' - x), \sigma) \cdot (x' - x) \, dt

    by the composite Simpson rule: exact where the log density is a polynomial of up to fourth
    degree, of fourth order in the spacing elsewhere. The nodes lie symmetrically, so the way back
    gives the negative. The scores of the two ends, known to whoever has moved from one to the
    other, are not evaluated again: ``num_intervals - 1`` evaluations.

    Args:
        score: ``score(x, sigma)``.
        sigma: annealing level, a scalar.
        start: :math:`x`, real, any shape.
        end: :math:`x'`.
        score_start: score of the start.
        score_end: score of the end.
        num_intervals: even.

    Returns:
        A scalar.

    Raises:
        ValueError: for an odd number of intervals.

    References:
        Remy et al., Eq. A.1 ("4 points" there are 4 intervals in the authors' code).
    """
    weights = jnp.asarray(simpson_weights(num_intervals), start.dtype)
    direction = end - start

    def add_node(total: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        fraction = number.astype(start.dtype) / num_intervals
        return total + weights[number] * score(start + fraction * direction, sigma), None

    ends = weights[0] * (score_start + score_end)
    # One node after the other: the score is compiled once, and memory stays that of one call.
    mean_score, _ = jax.lax.scan(add_node, ends, jnp.arange(1, num_intervals))
    return jnp.sum(mean_score * direction)


def closed_loop_integral(
    score: Score, sigma: jax.Array | float, corners: jax.Array, num_intervals: int = 4
) -> jax.Array:
    r"""Circulation of a score along a closed polygon, zero for the gradient of a density.

    .. math:: \oint s(x, \sigma) \cdot dx

    A learned score need not be a gradient, and Metropolis-Hastings with line integrals samples a
    density only as far as it is: the circulation along loops as wide as the sampler's moves should
    be well below 1.

    Args:
        score: ``score(x, sigma)``.
        sigma: annealing level.
        corners: shape ``(num_corners, ...)``; the last is joined to the first.
        num_intervals: of Simpson's rule along every side, even.

    Returns:
        A scalar, in units of the log density.
    """
    level = jnp.asarray(sigma, corners.dtype)
    scores = jax.vmap(lambda corner: score(corner, level))(corners)

    def side(start: jax.Array, end: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
        return log_density_change(score, level, start, end, first, last, num_intervals)

    ends, scores_end = jnp.roll(corners, -1, axis=0), jnp.roll(scores, -1, axis=0)
    return jnp.sum(jax.vmap(side)(corners, ends, scores, scores_end))
