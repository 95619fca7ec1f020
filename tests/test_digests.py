"""Digests: other data have another one, the same data the same one in every process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import shear_map
from jaxmap.digests import digest_of
from jaxmap.estimators import Wiener
from jaxmap.grid import Grid
from jaxmap.spectra import power_spectrum

GRID = Grid((4, 4), 1.0)
SPECTRUM = power_spectrum(np.array([10.0, 1e5]), np.array([1e-8, 1e-10]))


@dataclass(frozen=True)
class Settings:
    steps: int
    arrays: Any
    progress: Any = field(default=None, compare=False)


def adding(number: Any) -> Any:
    return lambda x: x + number


def pairs() -> dict[str, tuple[Any, Any]]:
    zeros = np.zeros((2, 3), np.float32)
    data = shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=np.ones(GRID.shape))
    changed = replace(data, weight=data.weight.at[0, 1, 2].multiply(1 + 1e-7))
    return {
        "value": (zeros, zeros + np.float32(1e-30)),
        "shape": (zeros, zeros.reshape(3, 2)),
        "precision": (zeros, zeros.astype(np.float64)),
        "key": (jax.random.key(0), jax.random.key(1)),
        "kind of key": (jax.random.key(0, impl="threefry2x32"), jax.random.key(0, impl="rbg")),
        "order": ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        "nesting": ([1, [2]], [[1], 2]),
        "text": ("1", 1),
        "setting": (Settings(1, zeros), Settings(2, zeros)),
        "array within": (Settings(1, {"a": zeros}), Settings(1, {"a": zeros + 1})),
        "shear map": (data, changed),
        "estimator": (Wiener(SPECTRUM, 9), Wiener(SPECTRUM, 10)),
        "enclosed array": (adding(zeros), adding(zeros + 1)),
        "code": (lambda x: x + 1, lambda x: x + 2),
        "called function": (lambda x: np.sin(x), lambda x: np.cos(x)),
        "compiled": (jax.jit(partial(adding, zeros)), jax.jit(partial(adding, zeros + 1))),
    }


@pytest.mark.parametrize("name", pairs())
def test_other_values_have_another_digest(name):
    one, other = pairs()[name]
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(pairs()[name][0])  # made anew


def test_how_is_not_what():
    """Bars, folders, and where arrays lie decide nothing."""
    assert digest_of(Settings(1, 2, print)) == digest_of(Settings(1, 2))
    assert digest_of(Wiener(SPECTRUM, chunk=3)) == digest_of(Wiener(SPECTRUM))
    assert digest_of(np.ones(3, jnp.zeros(()).dtype)) == digest_of(jnp.ones(3))
    assert digest_of(np.ones((4, 4)).T[::2]) == digest_of(np.ones((2, 4)))


def test_what_nobody_knows_is_refused():
    with pytest.raises(ValueError, match=r"cannot tell one builtins.object .* say what it is by"):
        digest_of([object()])


def test_functions_that_enclose_themselves_end():
    def again(n: int) -> int:
        return again(n - 1) if n else 0

    assert len(digest_of(again)) == 64


def test_equal_in_another_process():
    """Hashes of strings differ from one to the next, and so the order of sets."""
    code = (
        "from jaxmap.digests import digest_of; import numpy as np\n"
        "def known(x): return x in {'a', 'b', 'c', 'd'}\n"
        "print(digest_of(known, {'b': np.arange(3), 'a': (1, None)}, np.sin))"
    )
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    environment = {"JAX_PLATFORMS": "cpu"}
    seeds = [
        {**environment, "PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)} for seed in "12"
    ]
    assert len({run([sys.executable, "-c", code], env=each).stdout for each in seeds}) == 1
