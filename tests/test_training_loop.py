"""The training loop on a toy: going on after a stop, lengths that may change, exploding losses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.networks.checkpoint import read_checkpoint
from jaxmap.networks.optimiser import Schedule, TrainState, start, update
from jaxmap.training.loop import CHECKPOINT, LOG, Task, train

TARGET = np.array([1.0, -2.0, 3.0])
PARAMS = {"x": jnp.zeros(3)}


class Stopped(Exception):
    """Stands for a kill."""


def toy(
    schedule: Schedule,
    stop_at: int | None = None,
    bad_at: int | None = None,
    bad: str = "loss",
    lost: tuple[int, ...] = (),
) -> Task:
    """A noisy parabola; stops before a step, or meets a NaN in one; gradients may be lost."""

    @jax.jit
    def descend(step: Any, state: TrainState) -> tuple[TrainState, jax.Array]:
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (3,))
        error = state.params["x"] - TARGET
        gone = jnp.any(step == jnp.asarray(lost, int))
        gradient = jnp.where(gone, jnp.nan, error + 0.1 * noise)
        return update(state, {"x": gradient}, schedule), jnp.sum(error**2)

    def advance(step: int, state: TrainState) -> tuple[TrainState, Any]:
        if step == stop_at:
            raise Stopped
        state, loss = descend(step, state)
        if step == bad_at and bad == "loss":
            loss = np.nan
        if step == bad_at and bad == "parameter":
            state = state._replace(params={"x": state.params["x"].at[1].set(jnp.inf)})
        return state, loss

    def figures(losses: list[Any]) -> dict[str, Any]:
        return {"loss": float(np.mean(losses)), "num": len(losses)}

    def validate(params: Any) -> dict[str, Any]:
        return {"loss": float(np.sum((np.asarray(params["x"]) - TARGET) ** 2))}

    return Task(PARAMS, advance, figures, validate)


def schedule_of(num_steps: int, **others: Any) -> Schedule:
    settings = {"learning_rate": 0.1, "warmup_steps": 3, "decay_steps": 10, "averaging": 5}
    return Schedule(num_steps, **(settings | others))


def record_of(schedule: Schedule, seed: int = 1) -> dict[str, Any]:
    plain = {"num_steps": schedule.num_steps, "learning_rate": schedule.learning_rate}
    return {"settings": {"seed": seed, "schedule": plain, "channels": (8, 16)}}


def run(
    folder: Path,
    schedule: Schedule,
    seed: int = 1,
    data: dict[str, str] | None = None,
    **toy_options: Any,
) -> np.ndarray:
    """Train the toy, with a checkpoint every 4 steps and a validation every 8."""
    task, record = toy(schedule, **toy_options), record_of(schedule, seed)
    if data is not None:
        record["data"] = data
    params = train(task, schedule, folder, record, checkpoint_every=4, validate_every=8)
    return np.asarray(params["x"])


def step_of(folder: Path) -> int:
    return int(read_checkpoint(folder / CHECKPOINT, start(PARAMS, schedule_of(1)))[0].step)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_training_ends_at_the_target_and_tells_how(tmp_path):
    seen: list[int] = []

    def progress(steps: Iterable[int]) -> Iterable[int]:
        for step in steps:
            seen.append(step)
            yield step

    schedule = schedule_of(90)
    folder = tmp_path / "deep" / "run"
    params = train(
        toy(schedule),
        schedule,
        folder,
        record_of(schedule),
        checkpoint_every=4,
        validate_every=10,
        progress=progress,
    )
    np.testing.assert_allclose(params["x"], TARGET, atol=0.1)
    assert seen == list(range(90))
    log = rows(folder)
    steps = sorted({*range(4, 91, 4), *range(10, 91, 10)})
    assert [row["step"] for row in log] == steps
    assert [row["step"] for row in log if "validation" in row] == list(range(10, 91, 10))
    assert [row["train"]["num"] for row in log] == list(np.diff([0, *steps]))
    assert log[-1]["validation"]["loss"] < 0.02 < 10 < log[0]["train"]["loss"]


def test_goes_on_bit_for_bit(tmp_path):
    """Stopped twice between checkpoints; everything that is kept is as without the stops."""
    schedule = schedule_of(30)
    whole = run(tmp_path / "whole", schedule)
    parts = tmp_path / "parts"
    for stop_at in (7, 21):
        with pytest.raises(Stopped):
            run(parts, schedule, stop_at=stop_at)
        assert step_of(parts) == stop_at // 4 * 4
    assert run(parts, schedule).tobytes() == whole.tobytes()
    with np.load(tmp_path / "whole" / CHECKPOINT) as one, np.load(parts / CHECKPOINT) as other:
        assert all(one[name].tobytes() == other[name].tobytes() for name in one.files)
    untimed = [[{**row, "seconds": 0} for row in rows(tmp_path / n)] for n in ("whole", "parts")]
    assert untimed[0] == untimed[1]
    # A training that is done has nothing left to do.
    assert run(parts, schedule, stop_at=0).tobytes() == whole.tobytes()


def test_other_settings_are_refused(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, schedule_of(30), stop_at=9)
    for changed in ({"seed": 2}, {"schedule": schedule_of(30, learning_rate=0.2)}):
        with pytest.raises(ValueError, match="training with other settings; give another folder"):
            run(tmp_path, **({"schedule": schedule_of(30)} | changed))
    assert step_of(tmp_path) == 8


def test_other_data_are_refused(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, schedule_of(30), stop_at=9, data={"maps": "a", "start": "b"})
    for data in ({"maps": "a", "start": "c"}, {"maps": "a"}, {}):
        with pytest.raises(ValueError, match=r"other data \(.*start\); give what it was begun"):
            run(tmp_path, schedule_of(30), data=data)
    with pytest.raises(ValueError, match=r"other data \(maps, start\)"):
        run(tmp_path, schedule_of(30), data={"maps": "A", "start": "B"})
    assert step_of(tmp_path) == 8


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(tmp_path, caplog):
    """Bit for bit, with a warning until it is written anew; then its data are known."""
    whole = run(tmp_path / "whole", schedule_of(30))
    parts = tmp_path / "parts"
    with pytest.raises(Stopped):
        run(parts, schedule_of(30), stop_at=9, data=None)
    with pytest.raises(Stopped):
        run(parts, schedule_of(30), stop_at=13, data={"maps": "a"})
    assert len(caplog.messages) == 1 and "earlier version" in caplog.messages[0]
    with pytest.raises(ValueError, match=r"other data \(maps\)"):
        run(parts, schedule_of(30), data={"maps": "b"})
    assert run(parts, schedule_of(30), data={"maps": "a"}).tobytes() == whole.tobytes()
    assert len(caplog.messages) == 1


def test_length_may_change_until_the_decay(tmp_path):
    """Longer or shorter, as if so from the start, while neither has begun to slow down."""
    for length in (60, 24):
        folder = tmp_path / str(length)
        with pytest.raises(Stopped):
            run(folder, schedule_of(40), stop_at=14)
        assert step_of(folder) == 12
        changed = run(folder, schedule_of(length))
        whole = run(tmp_path / f"whole-{length}", schedule_of(length))
        assert changed.tobytes() == whole.tobytes()


@pytest.mark.parametrize(("stop_at", "length"), [(35, 60), (21, 24), (30, 16)])
def test_length_may_not_change_in_the_decay(tmp_path, stop_at, length):
    """Of 40 steps, the last 10 slow down: too late for more; too late for fewer, and for less
    than there have been."""
    with pytest.raises(Stopped):
        run(tmp_path, schedule_of(40), stop_at=stop_at)
    with pytest.raises(ValueError, match=rf"step {step_of(tmp_path)} of 40.* no longer .*{length}"):
        run(tmp_path, schedule_of(length))


@pytest.mark.parametrize("bad", ["loss", "parameter"])
def test_explosions_stop_and_leave_the_checkpoint_whole(tmp_path, bad):
    schedule = schedule_of(30)
    message = r"not finite at step 12; train again with a lower learning_rate"
    with pytest.raises(FloatingPointError, match=message):
        run(tmp_path, schedule, bad_at=11, bad=bad)
    assert step_of(tmp_path) == 8
    state, _ = read_checkpoint(tmp_path / CHECKPOINT, start(PARAMS, schedule))
    assert np.isfinite(state.params["x"]).all()
    assert run(tmp_path, schedule).tobytes() == run(tmp_path / "whole", schedule).tobytes()


def test_gradients_that_are_not_finite_are_counted_and_never_all(tmp_path, caplog):
    """Two lost steps are told and kept in the log; a chunk without any other ends the training."""
    schedule = schedule_of(16)
    run(tmp_path / "two", schedule, lost=(5, 6))
    assert [row.get("lost_steps", 0) for row in rows(tmp_path / "two")] == [0, 2, 0, 0]
    assert caplog.messages == ["2 of 4 steps left out: no finite gradient"]
    message = r"no gradient was finite from step 5 to 8.*whole"
    with pytest.raises(FloatingPointError, match=message):
        run(tmp_path / "all", schedule, lost=(4, 5, 6, 7))
    assert step_of(tmp_path / "all") == 4


def test_schedule():
    rate = [float(schedule_of(40).at(jnp.asarray(step))) for step in range(41)]
    np.testing.assert_allclose(rate[:3], [0.1 / 3, 0.2 / 3, 0.1])
    np.testing.assert_allclose(rate[3:31], 0.1)
    assert np.all(np.diff(rate[30:]) < 0) and rate[40] == 0
    for wrong in (
        {"num_steps": 0},
        {"learning_rate": 0.0},
        {"clip": -1.0},
        {"warmup_steps": -1},
        {"decay_steps": -1},
        {"averaging": -1},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; expected"):
            Schedule(**({"num_steps": 1} | wrong))
