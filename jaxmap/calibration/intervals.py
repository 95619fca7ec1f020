"""Scores of simulated fields, from which conformal intervals are made (see `jaxmap.conformal`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap.arrayfiles import read_arrays
from jaxmap.calibration.checkpoint import append_record, identity_of, open_records
from jaxmap.calibration.mocks import Fields
from jaxmap.calibration.run import APART
from jaxmap.conformal import Scored, score_field
from jaxmap.estimators import Estimator
from jaxmap.files import atomic_path


def score_fields(
    estimator: Estimator,
    fields: Fields,
    num: int,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Scored]:
    """Map simulated fields and score every pixel by the truth.

    Field n depends on the seed and n alone; the fields are those of
    `jaxmap.calibration.run.calibrate` with that seed.

    Args:
        estimator: ``(key, ShearMap) -> MassMap``, with or without samples.
        fields: ``key -> (truth, ShearMap)``.
        num: number of fields.
        seed: of all fields.
        out: folder for the fields scored so far; a later call goes on from them.
        identity: what else decides the scores, as JSON can hold it; a folder made with another is
            refused. None to compare a digest of estimator and fields instead, as `calibrate` does.
        progress: wraps the loop over the fields to do, e.g. ``tqdm.tqdm``.

    Raises:
        ValueError: for a folder of another calibration, or a map that cannot be scored.
    """
    precision = "float64" if jax.config.read("jax_enable_x64") else "float32"
    decided = {"jaxmap": jaxmap.__version__, "precision": precision, "seed": seed, "scores": True}
    folder = None if out is None else Path(out)
    stored: dict[int, Scored] = {}
    if folder is not None:
        records = open_records(folder, {**decided, **identity_of(identity, estimator, fields)})
        stored = {
            number: one
            for number, record in records.items()
            if (one := _read(folder, record)) is not None
        }
    root = jax.random.fold_in(jax.random.key(seed), APART)
    for number in progress([n for n in range(num) if n not in stored]):
        key_field, key_estimator, _, _ = jax.random.split(jax.random.fold_in(root, number), 4)
        truth, data = fields(key_field)
        stored[number] = score_field(estimator(key_estimator, data), truth, data)
        if folder is not None:
            _write(folder, number, stored[number])
    return [stored[number] for number in range(num)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"scores-{number:06d}.npz"


def _write(folder: Path, number: int, scored: Scored) -> None:
    with atomic_path(_path(folder, number)) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, scores=scored.scores, observed=scored.observed)
    about = {"kind": scored.kind, "pixel_arcmin": scored.pixel_arcmin}
    append_record(folder, {"number": number, **about, "noise_std": scored.noise_std})


def _read(folder: Path, record: Mapping[str, Any]) -> Scored | None:
    """A field scored earlier; None, to do it again, where its file is gone or broken."""
    try:
        arrays = read_arrays(_path(folder, record["number"]))
        scores, observed = arrays["scores"], arrays["observed"]
    except (OSError, ValueError, KeyError):
        return None
    return Scored(record["kind"], scores, observed, record["pixel_arcmin"], record["noise_std"])
