"""Whether an estimator's work fits into memory, asked before it starts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmap.estimators.finite_field import taken_margin
from jaxmap.machine import check_memory

PLANES = {
    "ks": 20,
    "ksplus": 65,
    "wiener": 35,
    "glimpse": 100,
    "mcalens": 110,
    "deepmass": 125,
    "dlposterior": 155,
    "gan": 135,
    "hong": 30,
}
"""Maps of the padded grid that a method holds at once: what XLA sets aside for its largest program
(15, 58, 24, 78, 81, 113 and 119; ``memory_analysis`` of a compiled function), and input, B mode
and result. Of a network, the shipped one's; annealed chains under it hold 1.14 times what ``eps``
does (`jaxmap.program_memory`). Of ``hong`` what ``experiments/map_memory.py`` measured (25), and
room."""

PARTS = {"hong": 260 * 2**20}
"""Bytes beside, whatever the size of the field: ``hong`` works on parts of one size, four at a time
(measured there too, 217 MiB)."""


PER_GALAXY = 32
"""Numbers for each galaxy of methods that are given galaxies, not their means in pixels: 6 of its
own, and 24 that XLA sets aside to read a map off at their places and write it back."""

REMEDY = "take larger pixels (--pixel-arcmin), a part of the field (--size) or a smaller --margin"


def map_memory(
    method: str,
    shape: tuple[int, int],
    margin: int | None,
    num_samples: int = 0,
    at_once: int = 1,
    itemsize: int = 4,
    num_galaxies: int = 0,
) -> int:
    """Bytes that a map takes.

    Args:
        method: name of the estimator.
        shape: of the field.
        margin: around it; None for the default.
        num_samples: that are kept in memory.
        at_once: maps that are worked on together.
        itemsize: bytes of a number.
        num_galaxies: that the method is given in place of their means in pixels.
    """
    taken = taken_margin(shape, margin)
    padded = (shape[0] + 2 * taken) * (shape[1] + 2 * taken)
    planes = PLANES[method] * at_once * padded + num_samples * shape[0] * shape[1]
    return itemsize * (planes + PER_GALAXY * num_galaxies) + PARTS.get(method, 0)


def check_map_memory(
    method: str,
    shape: tuple[int, int],
    margin: int | None,
    num_samples: int = 0,
    drawn: int = 0,
    remedy: str = REMEDY,
    num_galaxies: int = 0,
) -> None:
    """Refuse a map that needs more memory than there is.

    Args:
        method: name of the estimator.
        shape: of the field.
        margin: around it; None for the default.
        num_samples: that are kept in memory.
        drawn: all that are drawn, those kept in files too; on a CPU one by one, else eight at once.
        remedy: what makes it smaller.
        num_galaxies: that the method is given in place of their means in pixels.

    Raises:
        ValueError: if it does, with the options that make it smaller.
    """
    taken = taken_margin(shape, margin)
    drawn = max(drawn, num_samples, 1)
    at_once = 1 if jax.default_backend() == "cpu" else min(drawn, 8)
    itemsize = jnp.zeros((), float).dtype.itemsize
    fewer = ", or draw fewer samples (--num-samples)" if drawn > 1 else ""
    unbinned = f" of {num_galaxies:,} unbinned galaxies" if num_galaxies else ""
    binned = ", or the galaxies' means in pixels (without --unbinned)" if num_galaxies else ""
    check_memory(
        map_memory(method, shape, taken, num_samples, at_once, itemsize, num_galaxies),
        f"a {method} map{unbinned} of {shape[1]} x {shape[0]} pixels with a margin of {taken}",
        f"{remedy}{fewer}{binned}",
    )
