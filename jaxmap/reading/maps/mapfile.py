"""One file of maps that are not yet read: what it holds, and the way to read one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_PIXELS = 2**28
"""Largest map, 1 GiB in float32: beyond it, a damaged or hostile header is the likelier reason."""

NAMES = ("convergence", "kappa", "kappa_e")
"""What arrays of convergence are called, in files that hold other arrays besides."""


@dataclass(frozen=True)
class MapFile:
    """The maps of one file.

    Args:
        path: the file.
        keys: what tells its maps apart: names, or numbers within a cube; ``None`` for the only one.
        shape: ``(ny, nx)`` of each map.
        pixel_arcmin: side of a pixel, or None where the file does not tell.
        read: gives the map of a key in the file's own precision and byte order.

    Raises:
        ValueError: if there are no maps, they are not 2-D, or are too large to be true.
    """

    path: Path
    keys: Sequence[Any]
    shape: tuple[int, ...]
    pixel_arcmin: float | None
    read: Callable[[Any], np.ndarray]

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 2:
            raise ValueError(
                f"{self.path} holds arrays of shape {self.shape}; expected maps (ny, nx)"
            )
        if math.prod(self.shape) > MAX_PIXELS:
            raise ValueError(
                f"{self.path} claims maps of {self.shape[0]} x {self.shape[1]} pixels, more than "
                f"the {MAX_PIXELS} that are read; write it again if it is damaged, or cut the maps"
            )
        if self.pixel_arcmin is not None and not 0 < self.pixel_arcmin < math.inf:
            raise ValueError(f"{self.path} claims pixels of {self.pixel_arcmin} arcmin; mend it")
        if not self.keys:
            raise ValueError(f"{self.path} holds no maps; leave it out or write it again")

    def name(self, key: Any) -> str:
        """A map as it is called in messages."""
        return str(self.path) if key is None else f"{self.path}[{key}]"


def choose(path: Path, found: Collection[str], dataset: str | None) -> list[str]:
    """The arrays of a file that are maps, by their names.

    The one asked for; or else those called convergence or kappa, in any folder of the file; or
    else all.

    Raises:
        ValueError: if there is none.
    """
    if dataset is not None:
        chosen = [name for name in found if name.lower() == dataset.strip("/").lower()]
    else:
        chosen = [n for n in found if n.rpartition("/")[2].lower() in NAMES] or list(found)
    if not chosen:
        if dataset is None:
            raise ValueError(f"{path} holds no map; expected an array of floating-point numbers")
        raise ValueError(
            f"{path} holds no array {dataset!r}; it has {_listed(found)}: choose one of these"
        )
    return chosen


def only(path: Path, chosen: Sequence[str]) -> str:
    """The one array that can be meant.

    Raises:
        ValueError: if there are several.
    """
    if len(chosen) > 1:
        raise ValueError(
            f"{path}: any of {_listed(chosen)} could be the convergence; choose by dataset=..."
        )
    return chosen[0]


def refuse_dataset(path: Path, dataset: str | None) -> None:
    """Refuse the choice of an array in a file that holds only one."""
    if dataset is not None:
        raise ValueError(f"{path} is of a kind without names; leave out dataset={dataset!r}")


def _listed(names: Collection[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(list(names)[:most]) or "none") + more
