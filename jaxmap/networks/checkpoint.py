"""Checkpoints of training: a tree of arrays in one ``.npz``, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxmap.arrayfiles import json_of, read_arrays
from jaxmap.files import atomic_path

Tree = TypeVar("Tree")
_RECORD = "__record__"


def write_checkpoint(path: str | Path, tree: Any, record: dict[str, Any]) -> None:
    """Write the leaves of a tree, and a record of how they came to be; all or nothing."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    arrays: dict[str, Any] = {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in leaves}
    arrays[_RECORD] = np.frombuffer(json.dumps(record, allow_nan=False).encode(), np.uint8)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)


def read_checkpoint(path: str | Path, like: Tree) -> tuple[Tree, dict[str, Any]]:
    """Read a checkpoint into the shape of ``like``.

    Raises:
        ValueError: for a file that is not whole, or of another shape or precision than ``like``.
    """
    names, structure = jax.tree_util.tree_flatten_with_path(like)
    try:
        arrays = read_arrays(path)
        record = json_of(arrays[_RECORD])
        leaves = [arrays[jax.tree_util.keystr(name)] for name, _ in names]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is no checkpoint of this training ({error}); remove it to start anew"
        ) from error
    for (name, expected), leaf in zip(names, leaves, strict=True):
        if np.shape(expected) != leaf.shape:
            raise ValueError(
                f"{path}: {jax.tree_util.keystr(name)} has shape {leaf.shape}, the network here "
                f"{np.shape(expected)}; remove the checkpoint or take its configuration"
            )
        if expected.dtype != leaf.dtype:
            raise ValueError(
                f"{path} was written in {leaf.dtype}, this session computes in {expected.dtype}; "
                "go on in the precision that it was begun in (float64: --x64)"
            )
    return jax.tree.unflatten(structure, map(jax.numpy.asarray, leaves)), record
