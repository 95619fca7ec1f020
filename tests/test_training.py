"""Training of a denoiser: it learns, goes on after a kill, and shares its work among devices."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toytraining
from toytraining import TABLE, toy_task

from jaxmap.denoiser_files import Domain, write_denoiser
from jaxmap.networks.optimiser import start
from jaxmap.spectra import power_spectrum
from jaxmap.training.denoiser_task import _figures, fresh_denoiser
from jaxmap.training.denoising import LossTerms
from jaxmap.training.loop import CHECKPOINT, LOG, train
from jaxmap.training.settings import training_from

WHOLE_BATCH = r" = c\d+\[(\d+),\d+,\d+\]\S* fft\("
"""FFTs of several fields; on CPUs the loss takes them one by one."""
FLAT = power_spectrum([10.0, 1e5], [1e-10, 1e-10])


@pytest.mark.release
def test_a_few_steps_beat_the_wiener_filter():
    """Losses of the last 10 steps are below those of the Wiener filter on the same fields, by more
    than 5 standard errors; those of the first step are equal."""
    settings = training_from(TABLE)
    task = toy_task(settings)
    state = start(task.params, settings.schedule)
    ratios, spreads = [], []
    for step in range(settings.schedule.num_steps):
        state, (terms, kind, level) = task.advance(step, state)
        ratios.append(float(jnp.mean(terms.network) / jnp.mean(terms.wiener)))
        spreads.append(float(jnp.mean(terms.spread)))
        assert not np.any(kind) and np.all((level >= 0.01) & (level <= 0.1))
    last = np.array(ratios[-10:])
    assert abs(ratios[0] - 1) < 1e-12
    assert last.mean() + 5 * last.std(ddof=1) / np.sqrt(10) < 1
    assert np.mean(spreads[-10:]) < np.mean(spreads[:5])


def test_figures_by_kind_and_level():
    terms = LossTerms(*(np.array(v) for v in ([1.0, 2, 3, 4], [2.0, 2, 2, 8], [0.0, 1, 0, 1])))
    kind, level = np.array([0, 0, 2, 0]), np.array([0.005, 0.02, 0.02, 0.007])
    half = slice(0, 2), slice(2, 4)
    summaries = [(jax.tree.map(lambda v, s=s: v[s], terms), kind[s], level[s]) for s in half]
    figures = _figures(summaries)
    assert (figures["loss"], figures["wiener"], figures["spread"]) == (2.5, 3.5, 0.5)
    assert figures["ratio"] == {"prior": 7 / 12, "state": None, "survey": 1.5}
    assert figures["prior_by_level"] == [0.5, 1.0, None, None, None]
    json.dumps(figures, allow_nan=False)


@pytest.mark.release
def test_training_beats_the_wiener_filter_on_other_maps(tmp_path):
    settings = training_from(TABLE)
    task = toy_task(settings)
    before = task.validate(task.params)
    assert before == task.validate(task.params)
    assert before["loss"] == before["wiener"] and before["ratio"]["prior"] == 1
    record = {"settings": TABLE}
    params = train(task, settings.schedule, tmp_path, record, validate_every=20)
    after = task.validate(params)
    assert after["wiener"] == before["wiener"] and after["ratio"]["prior"] < 0.9
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40]
    assert rows[-1]["validation"] == after


@pytest.mark.release
def test_a_training_may_start_from_another(tmp_path, caplog):
    """From the parameters of a file; refused if they are of a network of another shape."""
    settings = training_from(TABLE)
    task = toy_task(settings)
    state, _ = task.advance(0, start(task.params, settings.schedule))
    denoiser = replace(fresh_denoiser(settings, FLAT), params=state.params)
    write_denoiser(tmp_path / "first.npz", denoiser, Domain(0.29, (0.1, 1.0)), {})
    table = {**TABLE, "start": str(tmp_path / "first.npz")}
    for one, other in zip(
        jax.tree.leaves(toy_task(training_from(table)).params),
        jax.tree.leaves(state.params),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert "logarithm" not in caplog.text
    write_denoiser(tmp_path / "old.npz", replace(denoiser, reach=None), Domain(0.29, (0.1, 1)), {})
    toy_task(training_from({**table, "start": str(tmp_path / "old.npz")}))
    assert "now sees them by their logarithm" in caplog.text
    with pytest.raises(ValueError, match=r"channels \(8,\) and 1 blocks; give \[network\]"):
        toy_task(training_from({**table, "network": {"channels": [4]}}))
    with pytest.raises(ValueError, match="nowhere"):
        toy_task(training_from({**table, "start": str(tmp_path / "nowhere.npz")}))


def script(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, toytraining.__file__, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, output.decode()


def num_rows(folder: Path) -> int:
    log = folder / LOG
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_for_bit(tmp_path):
    """Killed twice, with no chance to tidy up, after some checkpoints and wherever it then is."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(script("run", str(whole)))
    for wanted in (2, 5):
        process = script("run", str(parts))
        while num_rows(parts) < wanted:
            assert process.poll() is None, process.communicate()[0].decode()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert num_rows(parts) < num_rows(whole)
    finish(script("run", str(parts)))
    with np.load(whole / CHECKPOINT) as one, np.load(parts / CHECKPOINT) as other:
        assert set(one.files) == set(other.files)
        for name in one.files:
            assert one[name].tobytes() == other[name].tobytes(), name


@pytest.mark.release
@pytest.mark.parametrize(("batch", "part"), [(4, 1), (3, 3)])
def test_four_devices_do_what_one_does(tmp_path, batch, part):
    """To rounding of the parameters, which are float32, for batches that divide by four and
    not at all. The program of a device has FFTs of its own part only, and no gathering."""
    flags = "--xla_force_host_platform_device_count="
    for number in (1, 4):
        out = tmp_path / f"{number}.npz"
        finish(script("steps", str(out), str(batch), XLA_FLAGS=f"{flags}{number}"))
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "4.npz") as four:
        assert (int(one["devices"]), int(four["devices"])) == (1, 4)
        figures = {name for name in one.files if name != "program"} - {"devices"}
        assert set(one.files) == set(four.files) and len(figures) > 50
        for name in figures:
            np.testing.assert_allclose(four[name], one[name], rtol=1e-5, atol=1e-8, err_msg=name)
        program = str(four["program"])
        assert set(re.findall(WHOLE_BATCH, program)) == {str(part)}
        assert "all-gather" not in program
        assert set(re.findall(WHOLE_BATCH, str(one["program"]))) == {str(batch)}
