"""Preconditioned conjugate gradients that say how they ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Operator = Callable[[jax.Array], jax.Array]


class SolverInfo(NamedTuple):
    """How an iterative solver ended.

    Attributes:
        iterations: number of steps taken.
        residual: norm of the last residual over the norm of the right-hand side.
    """

    iterations: jax.Array
    residual: jax.Array


class _State(NamedTuple):
    x: jax.Array
    residual: jax.Array
    direction: jax.Array
    rho: jax.Array
    step: jax.Array


def conjugate_gradient(
    operator: Operator,
    rhs: jax.Array,
    precondition: Operator,
    tolerance: float,
    max_iterations: int,
) -> tuple[jax.Array, SolverInfo]:
    r"""Solve :math:`M x = b` for a symmetric positive definite operator.

    ``jax.scipy.sparse.linalg.cg`` solves the same system but reports neither the steps nor the
    residual it reached, which both the benchmark and the user need. Gradients come from
    the implicit function theorem, not from the iterations.

    Args:
        operator: :math:`x \to M x`, symmetric positive definite.
        rhs: :math:`b`, real, any shape.
        precondition: an approximate inverse of the operator, symmetric positive definite.
        tolerance: stop when :math:`\|b - M x\| \le` tolerance :math:`\|b\|`; no
            smaller than the precision.
        max_iterations: stop here in any case.

    Returns:
        The solution, started from zero, and `SolverInfo`.

    References:
        Shewchuk (1994), "An introduction to the conjugate gradient method".
    """

    def solve(matvec: Operator, target: jax.Array) -> tuple[jax.Array, SolverInfo]:
        # Below the precision the recursion goes on to shrink, and at last divides zero by zero.
        limit = max(tolerance, float(jnp.finfo(target.dtype).eps)) * _norm(target)

        def unfinished(state: _State) -> jax.Array:
            return (_norm(state.residual) > limit) & (state.step < max_iterations)

        def advance(state: _State) -> _State:
            x, residual, direction, rho, step = state
            image = matvec(direction)
            length = rho / _inner(direction, image)
            x, residual = x + length * direction, residual - length * image
            z = precondition(residual)
            rho_new = _inner(residual, z)
            return _State(x, residual, z + (rho_new / rho) * direction, rho_new, step + 1)

        first = precondition(target)
        rho = _inner(target, first)
        start = _State(jnp.zeros_like(target), target, first, rho, jnp.asarray(0))
        x, residual, _, _, step = jax.lax.while_loop(unfinished, advance, start)
        target_norm = _norm(target)
        relative = _norm(residual) / jnp.where(target_norm > 0, target_norm, 1)
        return x, SolverInfo(step, relative)

    return jax.lax.custom_linear_solve(operator, rhs, solve, symmetric=True, has_aux=True)


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b)


def _norm(a: jax.Array) -> jax.Array:
    return jnp.sqrt(_inner(a, a))
