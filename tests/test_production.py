"""Simulated maps in any number: recipes, streams, and folders that are whole at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import h5py
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmap import machine
from jaxmap.files import remove_leftovers
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18
from jaxmap.production import maps as module
from jaxmap.production.maps import maps_per_file, produce_maps
from jaxmap.production.numbers import cut_ranges, missing_ranges
from jaxmap.reading.maps.source import open_maps
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


@pytest.fixture(scope="module")
def recipe():
    return map_recipe(GRID, "gaussian", seed=5)


@cache
def simulator_of(kind: str) -> MapSimulator:
    return build_simulator(map_recipe(GRID, kind, seed=5))


# A light cone takes seconds to build and to compile.
@pytest.fixture(params=["lognormal", pytest.param("light-cone", marks=pytest.mark.slow)])
def simulator(request):
    return simulator_of(request.param)


def stacked(maps) -> np.ndarray:
    return np.stack([np.asarray(field, np.float32) for field in maps])


def stored(folder) -> np.ndarray:
    source = open_maps(folder)
    return stacked(source[n] for n in range(len(source)))


# Recipes


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


# Folders


def test_what_is_stored(recipe, tmp_path) -> None:
    folder = tmp_path / "a"
    assert produce_maps(recipe, folder, range(250, 260), made_by={"who": "me"})[:2] == (10, 0)
    expected = stacked(stream_maps(build_simulator(recipe), 250, 260))
    np.testing.assert_array_equal(stored(folder), expected)
    source = open_maps(folder)
    assert source.pixel_arcmin == 1.5
    assert [source.realisation(n) for n in (0, 1, 2, 5, 6)] == [
        f"seed 5-sky {sky}" for sky in (62, 62, 63, 63, 64)
    ]
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "maps-00000250-00000255.h5",
        "maps-00000256-00000259.h5",
        "simulation.json",
    ]
    record = json.loads((folder / "simulation.json").read_text())
    assert record["made_by"] == {"who": "me"} and record["recipe"] == recipe_to_dict(recipe)
    with h5py.File(folder / names[0]) as file:
        field = file["convergence"]
        assert (field.dtype, field.chunks, field.fletcher32) == (np.float32, (1, 20, 24), True)
        assert json.loads(file.attrs["record"]) == record
        assert file.attrs["first_map"] == 250


def test_long_records_are_stored(tmp_path) -> None:
    """A table of n(z) may be longer than what HDF5 first took for an attribute, 64 kB."""
    record = {"z": list(range(50_000))}
    module._write_maps(tmp_path / "a.h5", np.zeros((1, 4, 4), np.float32), 0, record)
    with h5py.File(tmp_path / "a.h5") as file:
        assert json.loads(file.attrs["record"]) == record


def produce(recipe, folder, num):
    return produce_maps(recipe, folder, range(num), resume=True)


def test_shards_and_extensions_make_the_same_maps(recipe, tmp_path) -> None:
    produce_maps(recipe, tmp_path / "whole", range(20))
    parts = tmp_path / "parts"
    produce_maps(recipe, parts, range(11, 15))
    assert produce(recipe, parts, 8)[:2] == (8, 0)
    assert produce(recipe, parts, 20)[:2] == (8, 12)
    assert produce(recipe, parts, 20)[:2] == (0, 20)
    np.testing.assert_array_equal(stored(parts), stored(tmp_path / "whole"))


def test_other_simulations_are_refused(recipe, tmp_path) -> None:
    folder = tmp_path / "maps"
    produce_maps(recipe, folder, range(2))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="add --resume to complete"):
        produce_maps(recipe, folder, range(3))
    others = {
        "cosmology.sigma8 = 0.8102, not 0.7": {"cosmology": replace(PLANCK18, sigma8=0.7)},
        "seed = 5, not 6": {"seed": 6},
        "redshifts": {"redshifts": redshift_distribution([0.5, 1], [1, 2])},
        "baryons = ": {"baryons": None},
    }
    for message, changes in others.items():
        with pytest.raises(ValueError, match=rf"were made with .*recipe\.{message}"):
            produce(replace(recipe, **changes), folder, 3)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    # A file from elsewhere is not removed.
    produce_maps(replace(recipe, seed=6), tmp_path / "other", range(4))
    foreign = tmp_path / "other" / "maps-00000000-00000003.h5"
    foreign.rename(folder / foreign.name)
    with pytest.raises(ValueError, match=r"was made with recipe\.seed = 6, not 5"):
        produce(recipe, folder, 4)
    assert (folder / foreign.name).exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("maps-00000000-00000001.h5", "mine", r"holds simulations, but no simulation\.json"),
        ("simulation.json", "[", "does not describe simulations of jaxmap"),
        ("simulation.json", "[]", "does not describe simulations of jaxmap"),
        ("simulation.json", '{"recipe": {"centre_deg": 1}}', "does not describe simulations"),
    ],
)
def test_folders_of_others_are_refused(recipe, tmp_path, name, text, message) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        produce(recipe, tmp_path, 2)
    with pytest.raises(ValueError, match="is a file"):
        produce(recipe, tmp_path / name, 2)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, text)]


def test_damage_is_noticed_and_mended(recipe, tmp_path, caplog) -> None:
    produce_maps(recipe, tmp_path, range(300))
    expected = stored(tmp_path)
    path = tmp_path / "maps-00000256-00000299.h5"
    whole = path.read_bytes()
    # One bit of a map: its checksum tells, when it is read.
    place = whole.index(expected[260].tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    source = open_maps(tmp_path)
    np.testing.assert_array_equal(source[259], expected[259])
    with pytest.raises(ValueError, match=path.name):
        source[260]
    # A file that was cut short is not taken for a whole one.
    path.write_bytes(whole[: len(whole) // 2])
    assert produce(recipe, tmp_path, 300)[:2] == (44, 256)
    assert "its maps are made again" in caplog.text
    np.testing.assert_array_equal(stored(tmp_path), expected)


KILLED = """
import os, signal, sys
from jaxmap import files
from jaxmap.cli import main
moved, replace = [], os.replace
def replace_or_die(source, target):
    moved.append(target)
    if len(moved) == 3:  # the index, the first file, and now the second
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
files.os.replace = replace_or_die
main(sys.argv[1:])
"""
FLAGS = ["simulate", "maps", "--kind", "gaussian", "--size", "24x20", "--pixel-arcmin", "1.5"]
FLAGS += ["--seed", "5", "--num", "600", "-q"]


def test_killed_and_resumed_is_uninterrupted(recipe, tmp_path) -> None:
    from jaxmap.cli import main

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, *FLAGS, "--out", str(killed)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert len(open_maps(killed)) == 256
    (leftover,) = killed.glob(".*.h5")
    os.utime(leftover, (0, 0))
    assert main([*FLAGS, "--out", str(killed), "--resume"]) == 0
    produce_maps(recipe, whole, range(600))
    names = [sorted(path.name for path in folder.iterdir()) for folder in (killed, whole)]
    assert names[0] == names[1] and len(names[0]) == 4
    np.testing.assert_array_equal(stored(killed), stored(whole))


def test_leftovers_that_somebody_may_be_writing_stay(tmp_path) -> None:
    fresh, old, other = (tmp_path / f".{c * 12}.{s}" for c, s in ("ah", "bh", "ct"))
    folder = tmp_path / f".{'d' * 12}"
    for path in (fresh, old, other):
        path.touch()
    folder.mkdir()
    for path in (old, other, folder):
        os.utime(path, (time.time() - 3600,) * 2)
    remove_leftovers(tmp_path, ".h")
    assert fresh.exists() and other.exists() and folder.exists() and not old.exists()
    remove_leftovers(tmp_path)
    assert fresh.exists() and other.exists() and not folder.exists()


def test_a_full_disk_leaves_what_is_whole(recipe, tmp_path, monkeypatch) -> None:
    writes = []

    def full(path, *arguments):
        writes.append(path)
        if len(writes) == 2:
            raise OSError(28, "No space left on device")
        return write(path, *arguments)

    write = module._write_maps
    monkeypatch.setattr(module, "_write_maps", full)
    with pytest.raises(OSError, match="No space"):
        produce_maps(recipe, tmp_path, range(600))
    assert len(open_maps(tmp_path)) == 256
    assert produce(recipe, tmp_path, 600)[:2] == (344, 256)


def test_memory_and_disk_are_foreseen(recipe, tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"take 18\.1 GiB, and the disk of .* has 0\.0 left"):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("d", (), {"free": 9}))
        produce_maps(recipe, tmp_path / "a" / "b", range(10**7))
    monkeypatch.undo()
    limit = tmp_path / "memory.max"
    limit.write_text("100000\n")
    monkeypatch.setattr(machine, "_CONTAINER_LIMIT", limit)
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"GiB of memory, and 0\.0 are available"):
            produce_maps(map_recipe(GRID, kind), tmp_path / "out", range(2))
    assert not (tmp_path / "a").exists() and not (tmp_path / "out").exists()
    limit.write_text("max\n")
    assert machine.available_memory() > 10**8


@pytest.mark.slow
def test_killed_at_any_moment(recipe, tmp_path) -> None:
    """Three times SIGKILL at random, then a run to the end: every map is as it should be."""
    folder = tmp_path / "out"
    flags = [*FLAGS, "--num", "10000", "--out", str(folder), "--resume"]
    rng = np.random.default_rng(0)
    for _ in range(3):
        enough = len(list(folder.glob("maps-*"))) + rng.integers(1, 10)
        process = subprocess.Popen([sys.executable, "-m", "jaxmap", *flags])
        while process.poll() is None and len(list(folder.glob("maps-*"))) < enough:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run([sys.executable, "-m", "jaxmap", *flags]).returncode == 0
    source = open_maps(folder)
    assert len(source) == 10000
    for number, wanted in enumerate(stream_maps(build_simulator(recipe), 0, 10000)):
        np.testing.assert_array_equal(source[number], np.asarray(wanted, np.float32))


PEAK = """
import resource, sys
from jaxmap.cli import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_maps(tmp_path) -> None:
    """4096 maps take no more memory than 1024 do, within 10 MB; as arrays they are 200 MB more."""
    peak = []
    for num in (1024, 4096):
        flags = ["simulate", "maps", "--kind", "lognormal", "--size", "128", "-q"]
        flags += ["--num", str(num), "--out", str(tmp_path / str(num))]
        command = [sys.executable, "-c", PEAK, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak.append(int(done.stdout) / 1024)
    assert peak[1] - peak[0] < 10
