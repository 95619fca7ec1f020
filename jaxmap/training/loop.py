"""The training loop: steps, validation, checkpoints, and a log that a person can read."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxmap.arrayfiles import parsed_json
from jaxmap.digests import warn_without_digest
from jaxmap.files import append_line, whole_lines
from jaxmap.networks.checkpoint import read_checkpoint, write_checkpoint
from jaxmap.networks.optimiser import Schedule, lost_steps, start

log = logging.getLogger(__name__)

CHECKPOINT, LOG = "checkpoint.npz", "log.jsonl"
Progress = Callable[[range], Iterable[int]]


class State(Protocol):
    """Everything that a training goes on from; a pytree. `TrainState` is one."""

    @property
    def step(self) -> jax.Array:
        """Steps made so far."""

    @property
    def params(self) -> Any:
        """The parameters."""

    @property
    def average(self) -> Any:
        """Their running average, which is what one uses."""


class Task(NamedTuple):
    """What is trained.

    Attributes:
        params: to start from.
        advance: ``(step, state) -> (state, summary)``, one update; depends on nothing else, so that
            a training that was stopped goes on as if it had not been.
        figures: the summaries since the last checkpoint as plain numbers, with ``loss`` among them.
        validate: figures of averaged parameters on data that training does not see.
        begin: ``(params, schedule) -> state``, the state before the first step.
        select: ``(state, figures) -> state`` after a validation, for a state that keeps its best.
        result: ``state -> params``, what a training ends with.
        heaviest: a step that takes as much memory as any.
    """

    params: Any
    advance: Callable[[int, Any], tuple[Any, Any]]
    figures: Callable[[list[Any]], dict[str, Any]]
    validate: Callable[[Any], dict[str, Any]]
    begin: Callable[[Any, Schedule], State] = start
    select: Callable[[Any, dict[str, Any]], Any] = lambda state, figures: state
    result: Callable[[Any], Any] = lambda state: state.average
    heaviest: int = 0


def train(
    task: Task,
    schedule: Schedule,
    folder: Path,
    record: dict[str, Any],
    *,
    checkpoint_every: int = 100,
    validate_every: int = 400,
    progress: Progress = lambda steps: steps,
) -> Any:
    """Train, from the folder's checkpoint if there is one.

    Args:
        task: what to train.
        schedule: of the optimiser.
        folder: for checkpoint and log (one JSON object a line); made if need be.
        record: kept in the checkpoint: ``settings`` as plain values, and digests of the ``data`` by
            name. A checkpoint of others is refused, except that ``num_steps`` may change until the
            decay has begun; one without digests, of an earlier version, is warned of and taken.
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validations, each with a checkpoint.
        progress: wraps the range of steps.

    Returns:
        The averaged parameters, or what the task makes of its state.

    Raises:
        ValueError: for a checkpoint of another training.
        FloatingPointError: if the loss, or a parameter, is no longer finite, or no gradient since
            the last checkpoint was; the checkpoint then is an earlier one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = task.begin(task.params, schedule)
    if (folder / CHECKPOINT).exists():
        state, before = read_checkpoint(folder / CHECKPOINT, state)
        _require_same(before, record, int(state.step), schedule)
        _require_same_data(before, record, folder)
        log.info("going on from step %d of %s", state.step, folder / CHECKPOINT)
    summaries: list[Any] = []
    began, lost = time.perf_counter(), lost_steps(state)
    for step in progress(range(int(state.step), schedule.num_steps)):
        state, summary = task.advance(step, state)
        summaries.append(summary)
        done, last = step + 1, step + 1 == schedule.num_steps
        if done % checkpoint_every and done % validate_every and not last:
            continue
        figures = task.figures(summaries)
        row = {"step": done, "seconds": time.perf_counter() - began, "train": figures}
        newly, lost = lost_steps(state) - lost, lost_steps(state)
        fault = _fault(task, done, summaries, figures, state, newly)
        if fault:
            raise FloatingPointError(
                f"{fault}; train again with a lower learning_rate (a checkpoint in {folder} is of "
                "an earlier step, and whole)"
            )
        if newly:
            row["lost_steps"] = newly
            log.warning("%d of %d steps left out: no finite gradient", newly, len(summaries))
        if done % validate_every == 0 or last:
            row["validation"] = validation = task.validate(state.average)
            state = task.select(state, validation)
        # The log first: a kill in between costs a repeated line, not the last one of a training.
        append_line(folder / LOG, json.dumps(row))
        write_checkpoint(folder / CHECKPOINT, state, record)
        summaries, began = [], time.perf_counter()
    _complete_log(folder, task, state)
    return jax.block_until_ready(task.result(state))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a training's log; lines that are none are left out.

    After `train` the last row is of the last step, and has a ``validation``.
    """
    rows = map(_row, whole_lines(folder / LOG).splitlines())
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = parsed_json(line)
        _ = row["step"], row["seconds"]
    except (ValueError, KeyError, TypeError):
        return None
    return dict(row)


def _complete_log(folder: Path, task: Task, state: State) -> None:
    """Validate once more where the log has lost its last row: a log is worth no weights."""
    rows = read_log(folder) if (folder / LOG).exists() else []
    if rows and rows[-1]["step"] == int(state.step) and "validation" in rows[-1]:
        return
    log.warning("the end of %s was lost, and is validated anew", folder / LOG)
    row = {"step": int(state.step), "seconds": 0.0, "validation": task.validate(state.average)}
    append_line(folder / LOG, json.dumps(row))


def _fault(
    task: Task, done: int, summaries: list[Any], figures: dict[str, Any], state: State, lost: int
) -> str:
    """What is not finite since the last checkpoint, and from which step on; empty if all is."""
    first = done - len(summaries) + 1
    if not np.isfinite(figures["loss"]):
        finite = [np.isfinite(task.figures([summary])["loss"]) for summary in summaries]
        return f"the loss is not finite at step {first + finite.index(False)}"
    for path, leaf in jax.tree_util.tree_flatten_with_path(state.params)[0]:
        if not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return f"the parameter {name} is not finite at step {done}"
    if lost >= len(summaries):
        return f"no gradient was finite from step {first} to {done}, and nothing is learned"
    return ""


def _require_same(
    before: dict[str, Any], now: dict[str, Any], step: int, schedule: Schedule
) -> None:
    # As JSON, which the checkpoint went through, has it: lists for tuples.
    if _but_length(before) != _but_length(json.loads(json.dumps(now))):
        raise ValueError(
            "the checkpoint in this folder is of a training with other settings; give another "
            "folder, or remove the checkpoint to start anew"
        )
    length = before["settings"]["schedule"]["num_steps"]
    slowing = min(length, schedule.num_steps) - schedule.decay_steps
    if length != schedule.num_steps and step > slowing:
        raise ValueError(
            f"the training stands at step {step} of {length}; its length can no longer become "
            f"{schedule.num_steps}, for with one of the two it would slow down from step "
            f"{slowing} on (give another folder to start anew)"
        )


def _require_same_data(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    known, data = before.get("data"), now.get("data", {})
    if known is None:
        if data:
            remedy = "give another folder, or remove the checkpoint to start anew"
            warn_without_digest(f"the training in {folder}", remedy)
        return
    others = sorted(name for name in known | data if known.get(name) != data.get(name))
    if others:
        raise ValueError(
            f"the checkpoint in {folder} is of a training with other data ({', '.join(others)}); "
            "give what it was begun with, or another folder, or remove the checkpoint to start anew"
        )


def _but_length(record: dict[str, Any]) -> dict[str, Any]:
    settings = dict(record["settings"])
    settings["schedule"] = {k: v for k, v in settings["schedule"].items() if k != "num_steps"}
    return settings
