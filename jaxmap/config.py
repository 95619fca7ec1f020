"""Configuration files: TOML that says what flags say."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from pathlib import Path
from typing import Any


def with_config(arguments: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """Put the settings of ``--config FILE.toml`` before the flags, which therefore win.

    Keys are the flags' names without dashes (``num_samples`` or ``num-samples``), and ``catalog``,
    ``case`` or ``map`` for the input file; values as on the command line, where a list stands for
    values joined by commas and a table for ``key=value`` pairs.

    Raises:
        ValueError: for an unreadable file or a key that is no flag of the command.
    """
    path = getattr(parser.parse_args(arguments), "config", None)
    if path is None:
        return arguments
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
        settings = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"cannot read the configuration {path}: {error}") from error
    command, depth = command_of(parser, arguments)
    actions = {action.dest: action for action in command._actions}
    flags: list[str] = []
    for key, value in settings.items():
        name = key.replace("-", "_")
        action = actions.get(name)
        if action is None or name in ("help", "config"):
            close = difflib.get_close_matches(name, actions, 1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            hint = f"; {meant}See `{command.prog} --help` for those there are, and leave out others"
            raise ValueError(f"{path}: {key!r} is no setting of `{command.prog}`{hint}")
        if action.option_strings:
            flags += _as_flag(action, value, f"{path}: {key}")
        else:
            command.set_defaults(**{name: str(value)})
    return [*arguments[:depth], *flags, *arguments[depth:]]


def command_of(
    parser: argparse.ArgumentParser, words: list[str]
) -> tuple[argparse.ArgumentParser, int]:
    """The parser of the command that the words begin with, and the number of its words."""
    depth = 0
    while nested := [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]:
        if depth == len(words) or words[depth] not in nested[0].choices:
            break
        parser = nested[0].choices[words[depth]]
        depth += 1
    return parser, depth


def _as_flag(action: argparse.Action, value: Any, where: str) -> list[str]:
    """A setting as it would stand on the command line."""
    switch = action.nargs == 0
    if isinstance(value, bool) != switch:
        expected = "true or false" if switch else "a value, not true or false"
        raise ValueError(f"{where} is {value!r}; expected {expected}")
    if isinstance(action, argparse.BooleanOptionalAction):
        return [action.option_strings[0 if value else 1]]
    if switch:
        return [action.option_strings[-1]] if value else []
    if isinstance(value, dict):
        value = [f"{name}={item}" for name, item in value.items()]
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    # The = keeps values that begin with a minus sign from being read as flags.
    return [f"{action.option_strings[-1]}={text}"]
