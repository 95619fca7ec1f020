"""What every estimator shares: its call, and a masked margin that keeps the FFT's edges away.

A survey field is not periodic, and mass outside it shears galaxies inside. Estimators therefore
work on a larger grid whose margin is masked (weight 0), where the map is free to hold that outside
mass, and crop their result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap, require_shear_map
from jaxmap.massmap import MassMap

LARGEST_MARGIN = 8192
"""Pixels; more is surely a slip."""


class Estimator(Protocol):
    """Turns observed shear into a mass map, ``(key, shear) -> MassMap``.

    Runs on the host, with loops and checks there, and so not inside ``jax.jit`` or ``vmap``; the
    operators, solvers and `jaxmap.posterior`, of which they are made, do.

    Those that draw nothing ignore the key. The map has the grid, mask and counts of the shear, and
    whatever else the estimator knows; None stands for what it does not.
    """

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap: ...


def default_margin(shape: tuple[int, int]) -> int:
    """A quarter of the longer side, or a little more where that makes fast FFT sizes.

    ``experiments/edges.py`` measures what that buys. An eighth would do for the error of the map at
    its edges, but leaves posterior samples over-confident on the largest scales of the field.
    """
    least = -(-max(shape) // 4)
    candidates = range(least, least + 16)
    return min(candidates, key=lambda m: max(_largest_factor(n + 2 * m) for n in shape) > 11)


def _largest_factor(n: int) -> int:
    factor, largest = 2, 1
    while n > 1:
        if n % factor == 0:
            n, largest = n // factor, factor
        else:
            factor += 1
    return largest


def pad_shear(shear: ShearMap, margin: int | None) -> tuple[ShearMap, int]:
    """Surround a shear map with masked pixels.

    Args:
        shear: the observed field.
        margin: pixels on every side; None for `default_margin`, 0 for a field that is periodic.

    Returns:
        The larger map and the margin taken.

    Raises:
        TypeError: for anything but a shear map.
        ValueError: for a margin that is negative or absurd.
    """
    require_shear_map(shear)
    taken = taken_margin(shear.grid.shape, margin)
    around = ((taken, taken), (taken, taken))
    larger = replace(
        shear,
        shear=jnp.pad(shear.shear, around),
        weight=jnp.pad(shear.weight, ((0, 0), *around)),
        grid=shear.grid.padded(taken),
        counts=None if shear.counts is None else jnp.pad(shear.counts, around),
    )
    return larger, taken


def taken_margin(shape: tuple[int, int], margin: int | None) -> int:
    """The margin given, or the default one.

    Raises:
        ValueError: for a margin that is negative or absurd.
    """
    taken = default_margin(shape) if margin is None else margin
    if not 0 <= taken <= LARGEST_MARGIN:
        raise ValueError(
            f"margin is {taken} pixels; expected 0 (periodic field) to {LARGEST_MARGIN}"
        )
    return taken


def require_finite_maps(*maps: jax.Array | None, where: Callable[[], str] = str) -> None:
    """Refuse maps that left the range of the precision; what ``jax.jit`` traces passes.

    Args:
        maps: None for those that were not made.
        where: says since when in the course of the work, for the message.

    Raises:
        FloatingPointError: if a value is not finite.
    """
    known = [array for array in maps if array is not None]
    traced = any(isinstance(array, jax.core.Tracer) for array in known)
    if not traced and not all(bool(jnp.all(jnp.isfinite(array))) for array in known):
        raise FloatingPointError(
            f"the map is not finite{where()}: shear or weights are beyond the range of the "
            "precision; check the units of the noise, or use float64 (--x64)"
        )


def inner(maps: jax.Array, margin: int) -> jax.Array:
    """Maps, shape ``(..., ny, nx)``, without the margin of `pad_shear`."""
    ny, nx = maps.shape[-2:]
    return maps[..., margin : ny - margin, margin : nx - margin]
