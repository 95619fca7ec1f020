"""What the fuzz tests share: many cases from a strategy, and how each of them may end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.grid import Grid

GRID = Grid((16, 16), 1.0, (150.0, 2.0))
"""One shape, so that a program is compiled once for all cases."""

SLIPS = ("none", "none", "none", "none", "none", "none", "nan", "infinite", "negative", "nothing")
MASKS = ("full", "holes", "one pixel", "one component", "row", "half", "isolated")

ALL = 2000
"""Cases of every entry point in the release tier."""

REMEDIES = re.compile(
    r"\b(expected|give|use|check|remove|choose|leave|write it again|fetch|name|put|correct|set"
    r"|rename|float64|mask them|lower|read with|pass)\b"
)


def some_and_all(num: int) -> pytest.MarkDecorator:
    """A test with as many cases (``num``) as seconds allow in CI, and with `ALL` in the release."""
    release = pytest.param(ALL, marks=pytest.mark.release, id="all")
    return pytest.mark.parametrize("num", [pytest.param(num, marks=pytest.mark.slow), release])


def run_cases(num: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """``check`` with ``num`` cases of a strategy, the same ones every time; shrunk on failure.

    Fewer, as of a strategy with few different ones, are a failure too.
    """
    seen = 0

    @settings(
        max_examples=num,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(case: Any) -> None:
        nonlocal seen
        check(case)
        seen += 1

    each()
    assert seen >= num, f"{seen} different cases, expected {num}"


def ended(work: Callable[[], Any]) -> Any:
    """What the work gives, or None where it refuses in one of the ways that are documented.

    ValueError is for input that cannot be used, FloatingPointError for numbers beyond the
    precision, RuntimeError for chains that came to no end; all must say what to do.
    """
    documented = (ValueError, FloatingPointError, RuntimeError)
    try:
        return work()
    except documented as error:
        text = str(error)
        assert type(error) in documented, repr(error)  # no subclass, such as UnicodeDecodeError
        assert REMEDIES.search(text), f"no remedy in: {text}"
        return None


def assert_finite(result: Any) -> None:
    """Every array of a result is finite; None is a refusal."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
        assert isinstance(leaf, str) or np.isfinite(np.asarray(leaf)).all(), jax.tree_util.keystr(
            path
        )


@dataclass(frozen=True)
class Field:
    """A shear map in a few numbers, from which `shear_of` makes it.

    Args:
        seed: of the values.
        mask: one of `MASKS`.
        noise: log10 of the noise of a pixel; mostly from -6 to 3, and beyond any sense.
        spread: decades over which the noise varies from pixel to pixel.
        signal: log10 of the shear itself.
        slip: what is wrong with it.
    """

    seed: int
    mask: str
    noise: float
    spread: float
    signal: float
    slip: str = "none"


FIELDS = st.builds(
    Field,
    seed=st.integers(0, 2**16),
    mask=st.sampled_from(MASKS),
    noise=st.one_of(st.floats(-6, 3), st.floats(-6, 3), st.floats(-40, 40)),
    spread=st.sampled_from((0.0, 0.0, 0.3, 3.0)),
    signal=st.one_of(st.floats(-8, 2), st.floats(-8, 2), st.floats(-40, 40)),
    slip=st.sampled_from(SLIPS),
)


def shear_of(field: Field, grid: Grid = GRID) -> ShearMap:
    """The map of a case; refused by `shear_map` where it has a slip."""
    rng = np.random.default_rng(field.seed)
    decades = field.noise + field.spread * (rng.random((2, *grid.shape)) - 0.5)
    std = 10.0**decades
    shear = rng.normal(size=(2, *grid.shape)) * (std + 10.0**field.signal)
    masked = _masked(rng, field.mask, grid.shape)
    weight = np.where(masked, 0, std**-2.0)
    values = shear[0] + 1j * shear[1]
    spot = tuple(np.argwhere(~masked.all(axis=0))[0])
    if field.slip in ("nan", "infinite"):
        values[spot] = {"nan": np.nan, "infinite": np.inf}[field.slip]
    elif field.slip == "negative":
        weight[0][spot] = -1
    elif field.slip == "nothing":
        weight[:] = 0
    return shear_map(values, grid, weight=weight)


def _masked(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    masked = np.zeros((2, *shape), bool)
    row, column = (int(rng.integers(n)) for n in shape)
    if kind == "holes":
        masked[:] = rng.random(shape) < 0.4
        masked[:, row, column] = False
    elif kind == "one component":
        masked[int(rng.integers(2))] = True
    elif kind == "half":
        masked[:, : shape[0] // 2] = True
    elif kind != "full":
        kept = np.zeros(shape, bool)
        if kind == "row":
            kept[row] = True
        elif kind == "isolated":
            kept[row % 4 :: 4, column % 4 :: 4] = True
        else:
            kept[row, column] = True
        masked[:] = ~kept
    return masked
