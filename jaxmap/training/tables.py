"""Settings from the tables of a configuration, with every slip named."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")


def build(kind: type[Kind], values: Any, where: str) -> Kind:
    """A dataclass or named tuple from a table of its arguments.

    Args:
        kind: the class; its annotations say what is expected (int, float, bool, str, tuples of
            them, or None with one of them).
        values: the table; lists stand for tuples, and whole numbers pass for fractions.
        where: name of the table in messages.

    Raises:
        ValueError: for anything but a table, an unknown or missing key, a value of another type, a
            number that is not finite, or a value that the class itself refuses.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}; expected a table: [{where}] and keys below it")
    required = _arguments(kind)
    if unknown := set(values) - set(required):
        raise ValueError(
            f"[{where}] has unknown settings {sorted(unknown)}; expected {sorted(required)}"
        )
    if lacking := [name for name, needed in required.items() if needed and name not in values]:
        raise ValueError(f"[{where}] lacks {', '.join(lacking)}; give a value")
    hints = get_type_hints(kind)
    taken = {name: converted(value, hints[name], name, where) for name, value in values.items()}
    try:
        return kind(**taken)
    except ValueError as error:
        raise ValueError(f"[{where}] {error}") from error


def converted(value: Any, hint: Any, name: str, where: str = "") -> Any:
    """A value of a configuration as the type that is wanted; where it is not one: ValueError."""
    try:
        return _converted(value, hint)
    except TypeError:
        place = f"[{where}] " if where else ""
        raise ValueError(f"{place}{name} is {value!r}; expected {_in_words(hint)}") from None


def require(settings: Any, name: str, holds: bool, expected: str) -> None:
    """Refuse the value of a setting, unless a condition holds."""
    if not holds:
        raise ValueError(f"{name} is {getattr(settings, name)!r}; expected {expected}")


def _arguments(kind: Any) -> dict[str, bool]:
    """Names of a class's arguments, and whether they must be given."""
    if hasattr(kind, "_fields"):
        return {name: name not in kind._field_defaults for name in kind._fields}
    # Those that flax adds to a module are no settings.
    return {
        each.name: each.default is MISSING
        for each in fields(kind)
        if each.init and each.name not in ("parent", "name")
    }


def _converted(value: Any, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (wanted,) = (each for each in get_args(hint) if each is not types.NoneType)
        return _converted(value, wanted)  # TOML has no None: it is what is left out
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        kinds = get_args(hint)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) != len(value):
            raise TypeError
        return tuple(map(_converted, value, kinds))
    if hint is float and type(value) is int:
        value = float(value)
    # A bool is an int to isinstance.
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise TypeError
    return value


def _in_words(hint: Any) -> str:
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_in_words(each) for each in get_args(hint) if each is not types.NoneType)
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        if others == [Ellipsis]:
            return f"a list, each {_in_words(first)}"
        return f"a list of {1 + len(others)}, each {_in_words(first)}"
    return names[hint]
