"""Progress bars of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any


def progress_bar(
    items: Iterable[Any], what: str, unit: str, quiet: bool, log_every: float = 10, **more: Any
) -> Iterable[Any]:
    """``tqdm`` over items; into a file, a line every ``log_every`` seconds.

    Args:
        items: to go through.
        what: they are.
        unit: of one of them.
        quiet: show nothing.
        log_every: seconds.
        more: for ``tqdm``.
    """
    from tqdm import tqdm

    pause = 0.1 if sys.stderr and sys.stderr.isatty() else log_every
    return tqdm(items, desc=what, unit=unit, disable=quiet, mininterval=pause, **more)


def with_bar(what: str, unit: str, quiet: bool) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """`progress_bar` of any items, for functions that take what wraps their loop."""
    return partial(progress_bar, what=what, unit=unit, quiet=quiet)
