"""Folders of simulated maps, whole at any moment, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest

from jaxmap import machine
from jaxmap.files import remove_leftovers
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18
from jaxmap.production import maps as module
from jaxmap.production.maps import produce_maps
from jaxmap.reading.maps.source import open_maps
from jaxmap.redshifts import redshift_distribution
from jaxmap.simulation.recipe import KINDS, map_recipe, recipe_to_dict
from jaxmap.simulation.streaming import (
    build_simulator,
    stream_maps,
)

GRID = Grid((20, 24), 1.5)


@pytest.fixture(scope="module")
def recipe():
    return map_recipe(GRID, "gaussian", seed=5)


def stacked(maps) -> np.ndarray:
    return np.stack([np.asarray(field, np.float32) for field in maps])


def stored(folder) -> np.ndarray:
    source = open_maps(folder)
    return stacked(source[n] for n in range(len(source)))


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
    flags = [*FLAGS, "--num", "5000", "--out", str(folder), "--resume"]
    rng = np.random.default_rng(0)
    for _ in range(3):
        enough = len(list(folder.glob("maps-*"))) + rng.integers(1, 6)
        process = subprocess.Popen([sys.executable, "-m", "jaxmap", *flags])
        while process.poll() is None and len(list(folder.glob("maps-*"))) < enough:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run([sys.executable, "-m", "jaxmap", *flags]).returncode == 0
    source = open_maps(folder)
    assert len(source) == 5000
    for number, wanted in enumerate(stream_maps(build_simulator(recipe), 0, 5000)):
        np.testing.assert_array_equal(source[number], np.asarray(wanted, np.float32))


PEAK = """
import resource, sys
from jaxmap.cli import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.release
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
