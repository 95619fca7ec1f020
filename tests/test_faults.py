"""Killed, or out of disk, at a bad moment: nothing is lost but the last chunk, nothing is half."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_training_loop as toys

from jaxmap import files, machine
from jaxmap.catalog import ShearMap, shear_map
from jaxmap.estimators import SampledPosterior, memory
from jaxmap.estimators.memory import PARTS, PLANES, check_map_memory
from jaxmap.flags import METHODS
from jaxmap.grid import Grid
from jaxmap.map_command import check_size
from jaxmap.mapfiles import (
    read_mass_map,
    read_samples,
    read_shear_map,
    write_mass_map,
    write_samples,
    write_shear_map,
)
from jaxmap.massmap import MassMap
from jaxmap.networks.checkpoint import read_checkpoint, write_checkpoint
from jaxmap.networks.weights import read_weights, write_weights
from jaxmap.sample_store import SampleStore
from jaxmap.samplers import Diffusion
from jaxmap.spectra import PowerSpectrum, power_spectrum
from jaxmap.training.loop import LOG, read_log, train

GRID = Grid((16, 16), 1.0)
TREE = {"a": np.arange(3000.0), "b": {"c": np.ones(4)}}


def spectrum() -> PowerSpectrum:
    ell = np.geomspace(10, 2e5, 50)
    return power_spectrum(ell, 5e-8 / (1 + (ell / 300) ** 1.6))


def data() -> ShearMap:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, *GRID.shape))
    return shear_map(noise[0] + 1j * noise[1], GRID, noise_std=np.full(GRID.shape, 0.1))


def posterior(folder: Path | None, progress=lambda chunks: chunks) -> SampledPosterior:
    return SampledPosterior(
        spectrum(), Diffusion(2), 6, margin=4, chunk=1, folder=folder, progress=progress
    )


def sample(folder: Path, fault: str) -> None:
    """Draw samples, as a script; before the fourth comes the fault."""

    def until_the_fault(chunks):
        for chunk in chunks:
            if chunk == 3 and fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk

    if fault == "full disk":
        no_room()
    posterior(folder, until_the_fault)(jax.random.key(0), data())


def no_room(most: int = 2000) -> None:
    """No file of this process may grow beyond 2 kB, as on a disk that has just filled up."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def write_all(folder: Path, value: float) -> None:
    """One file of every kind."""
    plane = jnp.full(GRID.shape, value)
    mask = jnp.ones(GRID.shape, bool)
    found = MassMap(plane, GRID, mask, samples=np.full((40, *GRID.shape), value))
    writers = {
        "map.fits": lambda path: write_mass_map(path, found),
        "shear.fits": lambda path: write_shear_map(path, data()),
        "samples.nc": lambda path: write_samples(path, found),
        "weights.npz": lambda path: write_weights(path, TREE, {"kind": "x", "value": value}),
        "checkpoint.npz": lambda path: write_checkpoint(path, TREE, {"value": value}),
    }
    for name, write in writers.items():
        try:
            write(folder / name)
        except OSError:
            print(name)


READERS = {
    "map.fits": read_mass_map,
    "shear.fits": read_shear_map,
    "samples.nc": read_samples,
    "weights.npz": read_weights,
    "checkpoint.npz": lambda path: read_checkpoint(path, TREE),
}


def overwrite(folder: Path, fault: str) -> None:
    """Write over the files that are there, as a script, on a full disk."""
    del fault
    no_room()
    write_all(folder, 2.0)


def train_toy(folder: Path, progress=lambda steps: steps) -> np.ndarray:
    schedule = toys.schedule_of(24)
    params = train(
        toys.toy(schedule),
        schedule,
        folder,
        toys.record_of(schedule),
        checkpoint_every=4,
        validate_every=8,
        progress=progress,
    )
    return np.asarray(params["x"])


def losses(folder: Path) -> dict[int, float]:
    """Losses by step of a log in which every line can be read."""
    rows = read_log(folder)
    assert len(rows) == len((folder / LOG).read_bytes().splitlines())
    return {row["step"]: row["train"]["loss"] for row in rows}


def train_until(folder: Path, fault: str) -> None:
    """A training, as a script; the disk is full after step 12, in the middle of a file."""

    def until_the_fault(steps):
        for step in steps:
            if step == 12:
                no_room(2000 if fault == "checkpoint" else (folder / LOG).stat().st_size + 30)
            yield step

    train_toy(folder, until_the_fault)


def as_script(function: str, folder: Path, fault: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, function, str(folder), fault]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_sampling_killed_goes_on_bit_for_bit(tmp_path):
    whole = posterior(None)(jax.random.key(0), data())
    done = as_script("sample", tmp_path / "killed", "kill")
    assert done.returncode == -signal.SIGKILL
    drawn: list[int] = []

    def watched(chunks):
        for chunk in chunks:
            drawn.append(chunk)
            yield chunk

    again = posterior(tmp_path / "killed", watched)(jax.random.key(0), data())
    assert drawn == [3, 4, 5]
    np.testing.assert_array_equal(again.samples, whole.samples)
    np.testing.assert_array_equal(again.std, whole.std)


@pytest.mark.slow
def test_sampling_on_a_full_disk_stops_and_can_be_repeated(tmp_path):
    done = as_script("sample", tmp_path / "full", "full disk")
    assert done.returncode == 1 and "File too large" in done.stderr
    again = posterior(tmp_path / "full")(jax.random.key(0), data())
    np.testing.assert_array_equal(again.samples, posterior(None)(jax.random.key(0), data()).samples)


@pytest.mark.slow
def test_old_files_survive_a_full_disk(tmp_path):
    write_all(tmp_path, 1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = as_script("overwrite", tmp_path, "")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == set(READERS)  # the control: none could be written
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("file", ["checkpoint", "log"])
def test_training_on_a_full_disk_goes_on_bit_for_bit(tmp_path, file):
    done = as_script("train", tmp_path / "full", file)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert toys.step_of(tmp_path / "full") == 12
    cut = not (tmp_path / "full" / LOG).read_bytes().endswith(b"\n")
    assert cut == (file == "log")  # the control
    found = train_toy(tmp_path / "full")
    np.testing.assert_array_equal(found, train_toy(tmp_path / "whole"))
    assert losses(tmp_path / "full") == losses(tmp_path / "whole")


def stop_before(last: int):
    def until_the_fault(steps):
        for step in steps:
            if step == last:
                raise InterruptedError
            yield step

    return until_the_fault


def test_a_line_of_the_log_that_was_cut_is_taken_away(tmp_path):
    train_toy(tmp_path / "whole")
    for step, cut in ((5, ""), (5, '{"step"'), (13, '{"step": 16, "sec')):
        folder = tmp_path / f"{step}{len(cut)}"
        with pytest.raises(InterruptedError):
            train_toy(folder, stop_before(step))
        with (folder / LOG).open("a" if step == 13 else "w") as log:
            log.write(cut)
        train_toy(folder)
        found, whole = losses(folder), losses(tmp_path / "whole")
        assert found == {row: whole[row] for row in whole if row > 4 or step == 13}


@pytest.mark.parametrize("rest", ["", "cut", "x" * 200_000])
def test_a_line_is_added_after_the_last_whole_one_of_a_long_log(tmp_path, rest):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{number}\n" for number in range(50_000)) + rest)
    files.append_line(log, "new")
    assert log.read_text().splitlines()[-2:] == ["49999", "new"]
    log.write_text(rest)
    files.append_line(log, "new")
    assert log.read_text() == "new\n"


def test_no_log_keeps_weights_from_being_written(tmp_path, caplog):
    """Neither one with a cut line inside, as versions before left it, nor one that lost its end."""
    whole = train_toy(tmp_path)
    path = tmp_path / LOG
    *before, last = path.read_bytes().splitlines(keepends=True)
    validation = json.loads(last)["validation"]
    path.write_bytes(b"".join([*before[:-1], b'{"step": 16, "seco', before[-1], last]))
    np.testing.assert_array_equal(train_toy(tmp_path), whole)
    assert read_log(tmp_path)[-1] == json.loads(last) and caplog.messages == []
    for content in (b"", b"\xff\0[1]\n", b"".join(before), b"[" * 10 + b"\n"):
        path.write_bytes(content)
        np.testing.assert_array_equal(train_toy(tmp_path), whole)
        assert read_log(tmp_path)[-1]["validation"] == validation
    assert len(caplog.messages) == 4 and "log.jsonl was lost, and is validated" in caplog.text
    path.unlink()
    np.testing.assert_array_equal(train_toy(tmp_path), whole)
    assert read_log(tmp_path)[-1]["validation"] == validation


def test_room_for_all_samples_is_taken_at_once(tmp_path, monkeypatch):
    """A mapped file on a disk that fills up later would end the process by a bus error."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    store = SampleStore(5, tmp_path / "samples")
    with pytest.raises(OSError, match=r"no room for .*samples\.npy .*choose another folder"):
        store.append({"samples": np.ones((1, 4, 4))})
    assert list((tmp_path / "samples").iterdir()) == []


@pytest.mark.parametrize("name", READERS)
def test_no_part_of_a_file_is_taken_for_the_whole(tmp_path, name):
    write_all(tmp_path, 1.0)
    content = (tmp_path / name).read_bytes()
    READERS[name](tmp_path / name)
    part = tmp_path / f"part-{name}"
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        part.write_bytes(content[:length])
        with pytest.raises(ValueError, match="part-"):
            READERS[name](part)


def test_cluster_maps_take_no_more_than_is_foreseen():
    kept = Path(__file__).parents[1] / "experiments" / "results" / "map_memory.json"
    found = json.loads(kept.read_text())
    assert found["planes"] < PLANES["hong"] < 2 * found["planes"]
    assert found["parts_mib"] < PARTS["hong"] / 2**20 < 2 * found["parts_mib"]


def test_memory_of_a_map_is_foreseen(monkeypatch):
    assert PLANES.keys() == set(METHODS)
    shape = (1000, 2000)
    for method in METHODS:
        check_map_memory(method, shape, 0, 2)  # the control: there is enough
    monkeypatch.setattr(machine, "_free_memory", lambda: 300 * 2**20)
    monkeypatch.setattr(memory.jax, "default_backend", lambda: "cpu")
    for method in set(METHODS) - {"ks"}:
        with pytest.raises(ValueError, match=r"GiB of memory, and 0\.3 are .*--pixel-arcmin"):
            check_map_memory(method, shape, 0)
    with pytest.raises(ValueError, match="--num-samples"):
        check_map_memory("wiener", (500, 500), 0, 1000)
    check_map_memory("wiener", (250, 250), 0, 10)
    # The network of Hong et al. takes memory for a part, however small the field.
    monkeypatch.setattr(machine, "_free_memory", lambda: 100 * 2**20)
    check_map_memory("ks", (386, 386), 0)
    with pytest.raises(ValueError, match="a hong map of 386 x 386"):
        check_map_memory("hong", (386, 386), 0)
    monkeypatch.setattr(machine, "_free_memory", lambda: 300 * 2**20)
    # Devices draw eight samples at once, whether these are kept in memory or in files.
    monkeypatch.setattr(memory.jax, "default_backend", lambda: "gpu")
    check_map_memory("dlposterior", (250, 250), 0)
    with pytest.raises(ValueError, match="--num-samples"):
        check_map_memory("dlposterior", (250, 250), 0, drawn=32)


def test_room_for_the_samples_of_a_map_is_foreseen(tmp_path, monkeypatch):
    options = argparse.Namespace(method="dlposterior", sampler="eps", num_samples=500, margin=0)
    check_size(options, GRID, tmp_path)  # the control: there is room
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(10**6))
    with pytest.raises(
        ValueError, match=r"500 samples take .* left \(draw fewer \(--num-samples\)"
    ):
        check_size(options, GRID, tmp_path)
    options.sampler = "map"
    check_size(options, GRID, tmp_path)


if __name__ == "__main__":
    {"sample": sample, "overwrite": overwrite, "train": train_until}[sys.argv[1]](
        Path(sys.argv[2]), sys.argv[3]
    )
