"""Spectral normalisation: kernels whose largest singular value is bounded."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

_KERNEL = "kernel"  # what flax calls the weights of a linear layer; biases and scales have others


def spectral_norm(matrix: jax.Array, doublings: int = 8) -> jax.Array:
    r"""Largest singular value, by power iteration on all directions at once.

    .. math:: \|W\| \le \left[ \mathrm{tr}\,(W^T W)^p \right]^{1/2p} \le n^{1/2p}\, \|W\|,
              \qquad p = 2^k

    Squaring the Gram matrix k times makes :math:`2^k` iterations of it, so nothing needs to be kept
    from one step of training to the next, and the result is never too small.

    Args:
        matrix: W, shape ``(m, n)``.
        doublings: k; 8 are right to 1 % up to n = 160.
    """
    gram = _product(matrix.T, matrix)
    log_square = jnp.zeros((), matrix.dtype)
    for number in range(doublings):
        scale = jnp.maximum(jnp.trace(gram), jnp.finfo(matrix.dtype).tiny)
        log_square += jnp.log(scale) / 2**number
        gram = _product(gram / scale, gram / scale)
    last = jnp.maximum(jnp.trace(gram), jnp.finfo(matrix.dtype).tiny)
    return jnp.exp(0.5 * (log_square + jnp.log(last) / 2**doublings))


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")  # GPUs would round to ten bits


def limit_kernels(params: Any, limit: float = 1.0) -> Any:
    r"""Shrink every kernel whose spectral norm is above a limit, :math:`W / \max(1, \|W\|/L)`.

    Kernels of convolutions count as matrices of shape ``(height * width * in, out)``. Biases,
    scales and offsets are left alone. Averages of parameters that obey the limit obey it too.

    Args:
        params: nested dictionaries of arrays.
        limit: L.

    References:
        Gouk et al. (2021), Mach. Learn. 110, 393; Remy et al., App. C. (Their program sets the norm
        to 1 exactly, which would make a network unable to add nothing, and also treats the scales
        of batch normalisation as kernels.)
    """

    def project(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if path[-1].key != _KERNEL:
            return leaf
        return leaf / jnp.maximum(1, spectral_norm(leaf.reshape(-1, leaf.shape[-1])) / limit)

    return jax.tree_util.tree_map_with_path(project, params)
