"""How much memory a program takes, read off its operations before it is compiled or run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var


def program_memory(function: Callable[..., Any], *args: Any) -> int:
    """Bytes that a function takes at its worst moment, beside its arguments.

    Every operation's result is held from where it is made to where it is last used, loops hold one
    turn and what they gather. XLA fuses operations and sets aside less, but its routines take
    memory of their own: ``experiments/training_memory.py`` has this beside what was measured.

    Args:
        function: that ``jax.jit`` can trace; nothing is computed.
        args: arrays, or `jax.ShapeDtypeStruct` in their place.
    """
    return _peak(jax.make_jaxpr(function)(*args).jaxpr)


def _peak(program: Jaxpr) -> int:
    """Bytes at the worst moment, the results at the end among them."""
    last = _last_uses(program)
    held: dict[Var, int] = {}
    worst = 0
    for number, operation in enumerate(program.eqns):
        made = {variable: _size(variable.aval) for variable in operation.outvars}
        worst = max(worst, sum(held.values()) + _taken(operation, sum(made.values())))
        held |= {variable: size for variable, size in made.items() if variable in last}
        held = {variable: size for variable, size in held.items() if last[variable] > number}
    return worst


def _last_uses(program: Jaxpr) -> dict[Var, int]:
    """Number of the operation after which a value is needed no more; results are to the end."""
    last: dict[Var, int] = {}
    for number, operation in enumerate(program.eqns):
        last |= {each: number for each in operation.invars if not isinstance(each, Literal)}
    end = len(program.eqns)
    return last | {each: end for each in program.outvars if not isinstance(each, Literal)}


def _taken(operation: Any, results: int) -> int:
    """Bytes during an operation, its results among them."""
    inside = max(map(_peak, _parts(operation)), default=0)
    if operation.primitive.name in ("scan", "while"):
        return results + inside
    return max(results, inside)


def _parts(operation: Any) -> Iterator[Jaxpr]:
    """Programs that an operation runs: of loops, branches and functions."""
    for value in operation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part


def _size(aval: Any) -> int:
    shape, dtype = getattr(aval, "shape", ()), getattr(aval, "dtype", None)
    return math.prod(shape) * getattr(dtype, "itemsize", 0)
