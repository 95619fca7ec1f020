"""What the index says of a table or figure of a paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Item(NamedTuple):
    """A table or figure of a paper.

    Args:
        name: its name there and what it shows.
        script: that makes it here, in ``experiments/``, with flags; empty if there is none.
        outputs: files in ``results/``, the JSON first.
        published: the paper's figures, in words.
        ours: words from the JSON.
        why: what differs and why, or why there is nothing.
        before: commands that make the weights it needs, which are not committed.
    """

    name: str
    script: str
    outputs: tuple[str, ...]
    published: str
    ours: Callable[[Any], str]
    why: str
    before: str = ""


def nothing(_: Any) -> str:
    """For pictures."""
    return "see the picture"


def plus_error(value: dict[str, float], digits: int = 3) -> str:
    """A value with its standard error."""
    error = value.get("standard_error", value.get("error", 0.0))
    return f"{value['value']:.{digits}f} ± {error:.{digits}f}"
