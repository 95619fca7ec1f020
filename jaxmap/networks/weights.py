"""Parameters in one ``.npz`` with a JSON header; nothing in it can run code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.arrayfiles import json_of, read_arrays
from jaxmap.digests import digest_of_arrays
from jaxmap.files import atomic_path

HEADER = "__header__"


def write_weights(path: str | Path, params: Any, header: dict[str, Any]) -> None:
    """Write nested dictionaries of arrays as float32, with what there is to know about them.

    Args:
        path: of the file.
        params: nested dictionaries; keys without ``/``.
        header: anything JSON can hold; ``sha256`` of the arrays is added.
    """
    arrays = {name: np.asarray(leaf, np.float32) for name, leaf in _flat(params).items()}
    text = json.dumps({**header, "sha256": digest_of_arrays(arrays)}, allow_nan=False)
    everything: dict[str, Any] = {**arrays, HEADER: np.frombuffer(text.encode(), np.uint8)}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **everything)


def read_weights(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """Parameters and header of a file of `write_weights`.

    Raises:
        ValueError: for a file that is missing, cut short, not of this kind, or whose arrays are
            not those that its header was written for.
    """
    try:
        arrays = read_arrays(path)
        header = json_of(arrays.pop(HEADER))
        known = header["sha256"]
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}; give the path of trained weights") from error
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is not a whole file of jaxmap weights ({error}); fetch it again, or give a "
            "file that `jaxmap train` wrote"
        ) from error
    if digest_of_arrays(arrays) != known:
        raise ValueError(
            f"the arrays in {path} do not match its checksum: the file was damaged or changed; "
            "fetch it again"
        )
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, last = name.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = array
    return nested, header


@contextmanager
def network_file(
    path: str | Path, kind: str, trained_as: str
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Arrays and header of a file of one kind, for a ``with`` block that builds a network of them.

    Args:
        path: of the file.
        kind: that its header must name.
        trained_as: what `jaxmap train` calls it.

    Raises:
        ValueError: for a file that is not whole or of another kind, and in place of whatever the
            block stumbles over.
    """
    arrays, header = read_weights(path)
    try:
        if header["kind"] != kind:
            raise ValueError(f"it holds a {header['kind']}")
        _require_modest(header["network"])
        yield arrays, header
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a {kind} of jaxmap ({error}); give a file that `jaxmap train` wrote "
            f'for kind = "{trained_as}"'
        ) from error


def _require_modest(network: dict[str, Any]) -> None:
    """Refuse a network of absurd size, which would take long to be found not to fit its arrays."""
    for name, value in network.items():
        numbers = value if isinstance(value, list) else [value]
        most = 64 if name == "blocks" else 2**16
        if len(numbers) > 32 or any(
            isinstance(number, int | float) and not 0 <= number <= most for number in numbers
        ):
            raise ValueError(f"{name} of its network is {str(value)[:60]}, expected 0 to {most}")


def above_zero(value: Any) -> float:
    """A number from a header that must be finite and above 0, such as the side of a pixel.

    Raises:
        ValueError: if it is not.
    """
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"a number in its header is {number}, expected one above 0")
    return number


def fitted_to(initialise: Callable[[jax.Array], Any], params: Any) -> Any:
    """`fitted`, to a network whose parameters are made from a key by a function."""
    return fitted(params, jax.eval_shape(initialise, jax.random.key(0)))


def fitted(params: Any, like: Any) -> Any:
    """Parameters from a file as arrays of the session's precision, if they fit a network.

    Args:
        params: nested dictionaries of arrays.
        like: the network's, or their shapes from ``jax.eval_shape``.

    Raises:
        ValueError: unless both have the same names and shapes.
    """

    def check(expected: jax.ShapeDtypeStruct, array: np.ndarray) -> jax.Array:
        if expected.shape != array.shape:
            raise ValueError(f"an array has shape {array.shape}, the network {expected.shape}")
        return jnp.asarray(array, float)

    return jax.tree.map(check, like, params)


def _flat(params: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
