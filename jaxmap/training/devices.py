"""Batches over several devices: every device makes its own part, and gradients are averaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")
BatchFunction = Callable[..., tuple[Any, Any]]


def over_devices(function: BatchFunction, batch: int) -> BatchFunction:
    """A function of a batch of keys, with the keys dealt out to all devices.

    The partitioner of XLA gathers whole batches for every FFT, so the parts are cut by hand: no
    device hears of another before the end.

    Args:
        function: ``(keys, *rest) -> (mean, each)``: a mean over the batch, and arrays whose first
            axis is the batch.
        batch: number of keys. As many devices share the work as divide it evenly.

    Returns:
        A function of the same arguments and results (its mean, to rounding), for ``jax.jit``; on
        one device the function itself.
    """
    devices = jax.devices()
    if len(devices) == 1:
        return function
    parts = math.gcd(batch, len(devices))
    mesh = Mesh(np.array(devices).reshape(parts, -1), ("part", "copy"))

    def of_part(keys: jax.Array, rest: tuple[Any, ...]) -> tuple[Any, Any]:
        mean, each = function(keys, *rest)
        return jax.lax.pmean(mean, "part"), each

    split = jax.shard_map(
        of_part,
        mesh=mesh,
        in_specs=(PartitionSpec("part"), PartitionSpec()),
        out_specs=(PartitionSpec(), PartitionSpec("part")),
        check_vma=False,  # loops that start from constants would be refused
    )
    return lambda keys, *rest: split(keys, rest)


def on_all_devices(tree: Tree) -> Tree:
    """Arrays copied to every device once, not anew for every batch."""
    devices = jax.devices()
    if len(devices) == 1:
        return tree
    everywhere = NamedSharding(Mesh(np.array(devices), ("copy",)), PartitionSpec())
    return jax.device_put(tree, everywhere)
