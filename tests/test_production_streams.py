"""Simulated maps in any number: recipes, streams, and which are missing."""

import json
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18
from jaxmap.production.maps import maps_per_file
from jaxmap.production.numbers import cut_ranges, missing_ranges
from jaxmap.redshifts import redshift_distribution
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.geometry import middle
from jaxmap.simulation.recipe import KINDS, map_recipe, recipe_from_dict, recipe_to_dict
from jaxmap.simulation.streaming import (
    MapSimulator,
    build_simulator,
    stream_maps,
    stream_skies,
)

GRID = Grid((20, 24), 1.5)


@cache
def simulator_of(kind: str) -> MapSimulator:
    return build_simulator(map_recipe(GRID, kind, seed=5))


# A light cone takes seconds to build and to compile.
@pytest.fixture(params=["lognormal", pytest.param("light-cone", marks=pytest.mark.slow)])
def simulator(request):
    return simulator_of(request.param)


def stacked(maps) -> np.ndarray:
    return np.stack([np.asarray(field, np.float32) for field in maps])


def test_recipes_survive_json() -> None:
    recipe = map_recipe(
        Grid((9, 12), 0.5, (150.0, 2.0)),
        "lognormal",
        sky_shape=(31, 24),
        redshifts=redshift_distribution([0.1, 0.8, 1.1], [0.0, 3.0, 1.0]),
        cosmology=replace(PLANCK18, sigma8=0.7),
        baryons=TNG_BARYONS,
        seed=2**32 - 1,
    )
    stored = json.loads(json.dumps(recipe_to_dict(recipe)))
    again = recipe_from_dict(stored)
    assert recipe_to_dict(again) == stored
    assert (again.grid, again.sky, again.tiles) == (recipe.grid, recipe.sky, (3, 2))
    np.testing.assert_array_equal(again.redshifts.density, recipe.redshifts.density)


@pytest.mark.parametrize(("side", "sky"), [(360, 720), (17, 35)])
def test_the_default_sky_holds_four_maps_and_has_their_middle(side, sky) -> None:
    recipe = map_recipe(Grid((side, side), 0.29))
    assert recipe.sky.shape == (sky, sky) and recipe.maps_per_sky == 4
    assert (sky - side) % 2 == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "fractal"}, "'fractal'; expected one of light-cone"),
        ({"sky_shape": (18, 30)}, r"the sky is \(18, 30\) pixels"),
        ({"sky_shape": (21, 30)}, "both even or both odd"),
        ({"grid": Grid((400, 400), 2.0)}, "maps of 13.3 degrees is 26.7 degrees wide"),
        ({"kind": "lognormal", "lognormal_shift": 0.0}, "lognormal shift is 0;"),
        ({"lognormal_shift": 0.04}, "says nothing of light-cone maps"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_bad_recipes_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        map_recipe(**{"grid": GRID, **changes})


# Streams


def test_a_map_depends_on_its_number_alone(simulator) -> None:
    """Batches of one and four, and shards that begin anywhere, give the same bits."""
    in_one = stacked(stream_maps(simulator, 0, 9))
    alone = stacked(next(stream_maps(simulator, n)) for n in range(9))
    shards = stacked([*stream_maps(simulator, 0, 3), *stream_maps(simulator, 3, 9)])
    np.testing.assert_array_equal(alone, in_one)
    np.testing.assert_array_equal(shards, in_one)
    assert np.abs(np.diff(in_one, axis=0)).min(axis=0).max() > 0


def test_maps_tile_their_sky_and_lie_in_the_middle_of_turned_skies(simulator) -> None:
    recipe = simulator.recipe
    key = jax.random.fold_in(jax.random.key(recipe.seed), 1)
    whole = np.asarray(simulator.draw(key))
    maps = [np.asarray(field) for field in stream_maps(simulator, 4, 8)]
    np.testing.assert_array_equal(np.block([maps[:2], maps[2:]]), whole)
    assert abs(whole.mean()) < 1e-3 * whole.std() < abs(maps[0].mean())
    for sky, field in zip(stream_skies(simulator, 4, 8), maps, strict=True):
        np.testing.assert_array_equal(middle(sky, recipe.sky, recipe.grid), field)
        np.testing.assert_array_equal(np.sort(sky, axis=None), np.sort(whole, axis=None))


def test_skies_that_are_not_finite_are_an_error(simulator) -> None:
    broken = replace(simulator, draw=lambda key: np.nan * simulator.draw(key))
    with pytest.raises(FloatingPointError, match="sky 0 of seed 5"):
        next(stream_maps(broken))


@pytest.mark.slow
def test_all_kinds_have_the_same_power() -> None:
    """Variances of 60 skies agree within 4 standard errors; half the power would not."""
    figures = {}
    for kind in KINDS:
        skies = stream_skies(simulator_of(kind), 0, 240)
        variances = np.array([np.var(sky) for n, sky in enumerate(skies) if n % 4 == 0])
        figures[kind] = variances.mean(), variances.std() / np.sqrt(variances.size)
    wanted, error = figures["light-cone"]
    for variance, other in (figures["lognormal"], figures["gaussian"]):
        assert abs(variance - wanted) < 4 * np.hypot(error, other)
        assert abs(variance / 2 - wanted) > 4 * np.hypot(error, other)


# Which maps are missing

RANGES = st.builds(
    lambda start, num: range(start, start + num), st.integers(0, 60), st.integers(0, 30)
)


@given(st.lists(RANGES, max_size=5), RANGES, st.integers(1, 20))
def test_missing_ranges(there, wanted, length) -> None:
    gaps = missing_ranges(there, wanted)
    assert [n for gap in gaps for n in gap] == sorted(set(wanted).difference(*there))
    parts = list(cut_ranges(gaps, length))
    assert [n for part in parts for n in part] == [n for gap in gaps for n in gap]
    assert all(len(part) > 0 and part[0] // length == part[-1] // length for part in parts)


@pytest.mark.parametrize(("side", "num"), [(10, 256), (360, 128), (1024, 16), (5000, 1)])
def test_files_stay_small(side, num) -> None:
    assert maps_per_file(map_recipe(Grid((side, side), 0.1))) == num
