"""Which of many numbered simulations are still to be made, and what is said of the making."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

Progress = Callable[[Iterator[Any], int, int], Iterable[Any]]
"""Given what comes, how many are wanted and how many were there, shows it and passes it on."""


class Produced(NamedTuple):
    """What a production did: how many it made and found there, and the time for those made."""

    num_made: int
    num_there: int
    seconds: float


def missing_ranges(there: Iterable[range], wanted: range) -> list[range]:
    """The numbers of ``wanted`` that are not there, ascending."""
    gaps = []
    start = wanted.start
    for held in sorted(there, key=lambda held: held.start):
        if start < min(held.start, wanted.stop):
            gaps.append(range(start, min(held.start, wanted.stop)))
        start = max(start, held.stop)
    if start < wanted.stop:
        gaps.append(range(start, wanted.stop))
    return gaps


def cut_ranges(ranges: Iterable[range], length: int) -> Iterator[range]:
    """The same numbers in ranges that end at multiples of ``length``, one by one."""
    for whole in ranges:
        start = whole.start
        while start < whole.stop:
            stop = min(whole.stop, start - start % length + length)
            yield range(start, stop)
            start = stop
