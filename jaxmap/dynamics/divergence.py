r"""Kullback-Leibler divergence between samples, from nearest neighbours.

.. math:: D(p \| q) \approx \frac{d}{n} \sum_{i=1}^n \ln\frac{\nu_k(x_i)}{\rho_k(x_i)}
    + \ln\frac{m}{n - 1}

:math:`\rho_k` is the distance of :math:`x_i` to its k-th neighbour among the n points of p (itself
left out), :math:`\nu_k` that to its k-th neighbour among the m points of q. Negative estimates
count as 0, and where no point of q is near those of p the divergence comes out too small. Distances
have a floor, since rounded velocities may coincide.

References:
    Wang, Kulkarni & Verdú (2009), IEEE Trans. Inf. Theory 55, 2392, equation 5.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FLOOR = 1e-6
"""Smallest distance, in units of the features' standard deviation."""
QUERIES = 8192
"""Points whose neighbours are sought at a time: few enough for a processor's cache."""
REFERENCES = 32
"""Samples they are sought in, in one call."""
UNROLL = 8


class Bags(NamedTuple):
    """Samples of points, one after the other; host arrays.

    Attributes:
        points: shape ``(n, d)``.
        offsets: sample i has the points ``offsets[i]`` to ``offsets[i + 1]``.
    """

    points: np.ndarray
    offsets: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)


def kl_divergence(
    x: jax.Array,
    y: jax.Array,
    k: int = 3,
    x_mask: jax.Array | None = None,
    y_mask: jax.Array | None = None,
) -> jax.Array:
    """Divergence of one sample from another, by all distances; for jit, vmap and grad.

    Args:
        x: sample of p, shape ``(n, d)``, more than ``k`` points.
        y: sample of q, shape ``(m, d)``, ``k`` points or more.
        k: which neighbour.
        x_mask, y_mask: True for points that count, shapes ``(n,)`` and ``(m,)``.

    Returns:
        Estimate of D(p || q) in nats, 0 or more, a scalar.
    """
    in_x = jnp.ones(len(x), bool) if x_mask is None else x_mask
    in_y = jnp.ones(len(y), bool) if y_mask is None else y_mask
    rho = _kth_of_all(x, x, in_x, k + 1)  # the nearest is the point itself
    nu = _kth_of_all(x, y, in_y, k)
    ratio = jnp.where(in_x, jnp.log(jnp.maximum(nu, FLOOR)) - jnp.log(jnp.maximum(rho, FLOOR)), 0)
    n, m = jnp.sum(in_x), jnp.sum(in_y)
    return jnp.maximum(x.shape[1] * jnp.sum(ratio) / n + jnp.log(m / (n - 1)), 0)


def _kth_of_all(x: jax.Array, y: jax.Array, in_y: jax.Array, k: int) -> jax.Array:
    squares = jnp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)
    kth = jnp.sort(jnp.where(in_y[None, :], squares, jnp.inf), axis=1)[:, k - 1]
    # Not sqrt(kth), whose gradient at a distance of 0 is infinite.
    return jnp.sqrt(jnp.maximum(kth, FLOOR**2))


def divergences(p: Bags, q: Bags, k: int = 3) -> np.ndarray:
    """D(p_i || q_j) for all pairs of samples, shape ``(len(p), len(q))``, float64.

    One-dimensional samples are sorted and searched; others are compared point by point.

    Raises:
        ValueError: for samples of too few points: each needs more than ``k``.
    """
    for bags in (p, q):
        if bags.sizes.min(initial=k + 1) <= k:
            raise ValueError(
                f"a sample has {bags.sizes.min()} points; expected more than k = {k}: leave it "
                "out, or give a smaller k"
            )
    num, dimension = p.sizes.astype(float), p.points.shape[1]
    own = own_log_distance(p, k)
    across = mean_log_distance(p, q, k)
    found = dimension * (across - own[:, None]) + np.log(q.sizes[None, :] / (num[:, None] - 1))
    return np.maximum(found, 0)


def mean_log_distance(p: Bags, q: Bags, k: int) -> np.ndarray:
    """Mean over the points of p_i of log distance to the k-th neighbour in q_j."""
    one = p.points.shape[1] == 1
    kernel = _kth_sorted if one else _kth_brute
    found = np.empty((len(p.sizes), len(q.sizes)))
    count = len(p.points)
    queries = np.zeros((-(-count // QUERIES) * QUERIES, p.points.shape[1]), np.float32)
    queries[:count] = p.points
    blocks = queries.reshape(-1, QUERIES, queries.shape[1])
    for which, size in _buckets(q):
        points, sizes = _rectangle(q, which, size, ordered=one)
        logs = [np.asarray(kernel(block, points, sizes, k)) for block in blocks]
        flat = np.concatenate(logs, axis=1)[: len(which), :count]
        sums = np.add.reduceat(flat.astype(np.float64), p.offsets[:-1], axis=1)
        found[:, which] = (sums / p.sizes[None, :]).T
    return found


def own_log_distance(p: Bags, k: int) -> np.ndarray:
    """Mean log distance of the points of every sample to their k-th neighbour in it."""
    found = np.empty(len(p.sizes))
    for which, size in _buckets(p):
        points, sizes = _rectangle(p, which, size)
        logs = np.asarray(_kth_own(points, sizes, k + 1), np.float64)
        inside = np.arange(size)[None, :] < sizes[:, None]
        means = np.where(inside, logs, 0).sum(axis=1) / np.maximum(sizes, 1)
        found[which] = means[: len(which)]
    return found


def _buckets(bags: Bags) -> list[tuple[np.ndarray, int]]:
    """Groups of samples of like size, each with the power of eight that holds them."""
    powers = np.maximum(np.ceil(np.log2(np.maximum(bags.sizes, 1)) / 3), 3)
    groups = []
    for power in np.unique(powers):
        inside = np.flatnonzero(powers == power)
        for first in range(0, len(inside), REFERENCES):
            groups.append((inside[first : first + REFERENCES], int(8**power)))
    return groups


def _rectangle(
    bags: Bags, which: np.ndarray, size: int, ordered: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Samples as shape ``(REFERENCES, size, d)``, filled up with infinity, and their sizes."""
    points = np.full((REFERENCES, size, bags.points.shape[1]), np.inf, np.float32)
    sizes = np.zeros(REFERENCES, np.int32)
    for row, bag in enumerate(which):
        inside = bags.points[bags.offsets[bag] : bags.offsets[bag + 1]]
        points[row, : len(inside)] = np.sort(inside, axis=0) if ordered else inside
        sizes[row] = len(inside)
    return points, sizes


@partial(jax.jit, static_argnums=3)
def _kth_brute(queries: jax.Array, points: jax.Array, sizes: jax.Array, k: int) -> jax.Array:
    """Log distance of every query to its k-th neighbour in every sample, ``(samples, queries)``."""
    return jax.lax.map(lambda one: _log_kth(queries, one[0], one[1], k), (points, sizes))


@partial(jax.jit, static_argnums=2)
def _kth_own(points: jax.Array, sizes: jax.Array, k: int) -> jax.Array:
    def own(one: tuple[jax.Array, jax.Array]) -> jax.Array:
        inside = jnp.arange(one[0].shape[0]) < one[1]
        return _log_kth(jnp.where(inside[:, None], one[0], 0), one[0], one[1], k)

    return jax.lax.map(own, (points, sizes))


def _log_kth(queries: jax.Array, points: jax.Array, size: jax.Array, k: int) -> jax.Array:
    """The k smallest squares are kept in order while points are passed through, some at a time."""

    def pass_some(block: jax.Array, best: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        some = jax.lax.dynamic_slice_in_dim(points, block * UNROLL, UNROLL)
        for j in range(UNROLL):
            square = jnp.zeros_like(best[0])
            for axis in range(queries.shape[1]):
                square = square + (queries[:, axis] - some[j, axis]) ** 2
            best = tuple(
                jnp.minimum(b, square if i == 0 else jnp.maximum(best[i - 1], square))
                for i, b in enumerate(best)
            )
        return best

    start = tuple(jnp.full(len(queries), jnp.inf, queries.dtype) for _ in range(k))
    best = jax.lax.fori_loop(0, (size + UNROLL - 1) // UNROLL, pass_some, start)
    return 0.5 * jnp.log(jnp.maximum(best[-1], FLOOR**2))


@partial(jax.jit, static_argnums=3)
def _kth_sorted(queries: jax.Array, points: jax.Array, sizes: jax.Array, k: int) -> jax.Array:
    """As `_kth_brute`, for sorted samples of one dimension.

    The k nearest of a sorted sample are neighbours in it, so the k-th distance is the smallest of
    the k + 1 runs of k points about the query, each with the larger distance of its two ends.
    """
    x = queries[:, 0]

    def search(one: tuple[jax.Array, jax.Array]) -> jax.Array:
        line, size = one[0][:, 0], one[1]
        place = jnp.searchsorted(line, x, method="scan_unrolled")
        best = jnp.full_like(x, jnp.inf)
        for shift in range(k + 1):
            first = place - k + shift
            last = first + k - 1
            ends = [jnp.abs(x - line[jnp.clip(i, 0, len(line) - 1)]) for i in (first, last)]
            inside = (first >= 0) & (last < size)
            best = jnp.where(inside, jnp.minimum(best, jnp.maximum(*ends)), best)
        return jnp.log(jnp.maximum(best, FLOOR))

    return jax.lax.map(search, (points, sizes))
