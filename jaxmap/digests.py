"""Digests of data and settings: whether work that was stopped goes on with those it was begun with.

A digest is for telling two things apart, never for reading one back.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import jax
import numpy as np

log = logging.getLogger(__name__)

_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, Path, type)


def digest_of(*values: Any) -> str:
    """SHA-256 of values that decide a result, alike in every process.

    Arrays count bit for bit, with type and shape. Of dataclasses the fields count that are compared
    (``field(compare=False)`` is for how, not what); of functions the name, the code and what they
    enclose, but no global variables.

    Args:
        values: arrays, PRNG keys, plain values, functions, and trees of them.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: for an object of an unknown kind.
    """
    return digest_of_arrays(dict(_flat("", values, ())))


def digest_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def warn_without_digest(what: str, remedy: str) -> None:
    """Say of work that was begun before digests were kept that nobody knows what it is of.

    Args:
        what: the work, with its place.
        remedy: what to do if it is of other data.
    """
    log.warning(
        "%s was begun by an earlier version of jaxmap, which did not note the data; going on, "
        "for all else is the same: if the data are not, %s",
        what,
        remedy,
    )


def _flat(name: str, value: Any, above: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """A value as named arrays; ``above`` are the objects that it is within."""
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = (str(jax.random.key_impl(value)), jax.random.key_data(value))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        yield name, np.asarray(value)
        return
    plain = isinstance(value, _PLAIN)
    yield name, np.frombuffer((repr(value) if plain else _kind(value)).encode(), np.uint8)
    if plain or id(value) in above:  # a function may enclose itself
        return
    for part, inner in _parts(value).items():
        yield from _flat(f"{name}/{part}", inner, (*above, id(value)))


def _kind(value: Any) -> str:
    """Names of the class of an object, and of the object if it has one."""
    own = [getattr(value, name, "") for name in ("__module__", "__qualname__", "__name__")]
    return " ".join([type(value).__module__, type(value).__qualname__, *map(str, own)]).strip()


def _parts(value: Any) -> dict[str, Any]:
    """What an object is made of.

    Raises:
        ValueError: if nobody knows.
    """
    if isinstance(value, Mapping):
        return {repr(key): inner for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return {"length": len(value), **{str(number): each for number, each in enumerate(value)}}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value) if field.compare}
    if isinstance(value, partial):
        return {"function": value.func, "arguments": value.args, "named": value.keywords}
    if isinstance(value, MethodType):
        return {"function": value.__func__, "of": value.__self__}
    if isinstance(value, FunctionType):
        enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
        defaults = (value.__defaults__, value.__kwdefaults__)
        return {"code": value.__code__, "enclosed": enclosed, "defaults": defaults}
    if isinstance(value, CodeType):
        return {"bytes": value.co_code, "constants": value.co_consts, "names": value.co_names}
    if hasattr(value, "__wrapped__"):  # by jax.jit and the like
        return {"function": value.__wrapped__}
    if isinstance(value, frozenset):  # a constant of a function's code
        return {"members": sorted(map(repr, value))}
    if hasattr(value, "__name__"):  # of a library
        return {}
    raise ValueError(
        f"cannot tell one {_kind(value)} from another, and so whether work that was stopped goes "
        "on with the same; say what it is by identity, or make it a dataclass"
    )
