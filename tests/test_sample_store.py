"""Samples kept as they are drawn: whole, resumable, never taken for others."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxmap.sample_store import SampleStore

SAMPLES = np.arange(5 * 6, dtype=np.float32).reshape(5, 2, 3)
IDENTITY = {"data": "abc", "size": (2, 3)}


def chunks(first: int, size: int):
    for start in range(first, 5, size):
        part = SAMPLES[start : start + size]
        yield {"samples": part, "chi2": part.sum(axis=(1, 2))}


@pytest.mark.parametrize("on_disk", [False, True])
def test_chunks_add_up_and_what_is_too_much_is_cut(tmp_path, on_disk):
    store = SampleStore(4, tmp_path / "store" if on_disk else None, IDENTITY)
    for chunk in chunks(0, 3):
        store.append(chunk)
    assert store.done == 4
    np.testing.assert_array_equal(store.arrays["samples"], SAMPLES[:4])
    np.testing.assert_array_equal(store.arrays["chi2"], SAMPLES[:4].sum(axis=(1, 2)))
    store.remove()
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_goes_on(tmp_path):
    folder = tmp_path / "store"
    store = SampleStore(5, folder, IDENTITY)
    for chunk in chunks(0, 2):
        store.append(chunk)
        break
    # What is written beyond the last whole chunk, as by a run killed there, counts for nothing.
    store.arrays["samples"][2] = np.nan
    again = SampleStore(5, folder, IDENTITY)
    assert again.done == 2
    for chunk in chunks(2, 2):
        again.append(chunk)
    np.testing.assert_array_equal(SampleStore(5, folder, IDENTITY).arrays["samples"], SAMPLES)


@pytest.mark.parametrize("damage", ["identity", "number", "array", "index", "short"])
def test_other_samples_are_refused(tmp_path, damage):
    folder = tmp_path / "store"
    store = SampleStore(5, folder, IDENTITY)
    store.append(next(chunks(0, 2)))
    identity, num = IDENTITY, 5
    if damage == "identity":
        identity = {**IDENTITY, "data": "xyz"}
    elif damage == "number":
        num = 6
    elif damage == "array":
        (folder / "chi2.npy").unlink()
    elif damage == "index":
        (folder / "progress.json").write_text("{")
    else:
        path = folder / "samples.npy"
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"cannot go on with the samples in .*; remove "):
        SampleStore(num, folder, identity)


def test_no_room_is_found_before_the_work(tmp_path, monkeypatch):
    from jaxmap import machine

    monkeypatch.setattr(machine, "available_memory", lambda: 0)  # a GPU's, where none is kept
    SampleStore(5).append(next(chunks(0, 2)))
    monkeypatch.setattr(machine, "host_memory", lambda: 100)
    with pytest.raises(ValueError, match="5 samples needs about"):
        SampleStore(5).append(next(chunks(0, 2)))
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="5 samples take"):
        SampleStore(5, tmp_path / "store").append(next(chunks(0, 2)))
    assert not (tmp_path / "store").exists()


def test_nothing_is_unpickled(tmp_path):
    folder = tmp_path / "store"
    store = SampleStore(5, folder, IDENTITY)
    store.append(next(chunks(0, 2)))
    np.save(folder / "samples.npy", np.array([{}] * 5, object), allow_pickle=True)
    assert json.loads((folder / "progress.json").read_text())["done"] == 2
    with pytest.raises(ValueError, match="cannot go on"):
        SampleStore(5, folder, IDENTITY)
