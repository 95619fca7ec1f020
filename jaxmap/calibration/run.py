"""Run an estimator over simulated fields and report how well its samples are calibrated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap.calibration.checkpoint import append_record, identity_of, open_records
from jaxmap.calibration.field import FEWEST_SAMPLES, Judged, judge_field
from jaxmap.calibration.mocks import Fields
from jaxmap.calibration.report import build_report
from jaxmap.calibration.summaries import build_summaries
from jaxmap.calibration.tarp import reference_map
from jaxmap.catalog import ShearMap
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators import Estimator, Wiener
from jaxmap.spectra import PowerSpectrum

log = logging.getLogger(__name__)

APART = 0xCA11B8A7
"""Folded into the seed's key: fields for calibration are those of no training or simulation."""

_chi2 = jax.jit(chi2_per_pixel)
_reference = jax.jit(reference_map, static_argnames="grid")


def calibrate(
    estimator: Estimator,
    fields: Fields,
    num: int,
    *,
    spectrum: PowerSpectrum,
    seed: int = 0,
    smoothing_arcmin: float = 1.0,
    margin: int | None = 0,
    out: str | Path | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Judge an estimator's posterior samples by surveys whose truth is known.

    Field n depends on the seed and n alone, and the samples of one field are held at a time.

    Args:
        estimator: ``(key, ShearMap) -> MassMap`` with at least 9 samples.
        fields: ``key -> (truth, ShearMap)``, such as `jaxmap.calibration.mocks.MockFields`; their
            law is the prior that the samples are judged by.
        num: number of fields; 100 for the targets of the report, 2 at least.
        spectrum: about that of the truth: of the Wiener map that the mean is compared with, and of
            TARP's references.
        seed: of all fields.
        smoothing_arcmin: of the maps whose peaks and skewness are compared.
        margin: of that Wiener map; 0 for periodic fields, whose chi-squared is judged too; None for
            fields cut from a larger sky.
        out: folder for the fields judged so far (``fields.jsonl``); with the same arguments a later
            call goes on from them and gives the same report.
        identity: what else decides the result (settings of estimator and fields), as JSON can
            hold it; a folder made with another is refused. None to compare a digest of estimator,
            fields and spectrum instead, which may refuse a folder of another machine (last bits).
        progress: wraps the loop over the fields to do, e.g. ``tqdm.tqdm``.

    Returns:
        The report (`jaxmap.calibration.report.build_report`).

    Raises:
        ValueError: for fewer than two fields, an estimator with too few samples, a field with too
            few observed pixels, or a folder of another calibration.
    """
    if num < 2:
        raise ValueError(
            f"the number of fields is {num}; expected at least 2, whose scatter gives the errors "
            "(100 for the targets)"
        )
    asked = getattr(estimator, "num_samples", FEWEST_SAMPLES)
    if 0 < asked < FEWEST_SAMPLES:
        raise ValueError(
            f"num_samples is {asked}; expected at least {FEWEST_SAMPLES} posterior samples of a "
            "field, among which the truth is ranked (--num-samples)"
        )
    precision = "float64" if jax.config.read("jax_enable_x64") else "float32"
    decided = {
        "jaxmap": jaxmap.__version__,
        "precision": precision,
        "seed": seed,
        "smoothing_arcmin": smoothing_arcmin,
        "margin": margin,
    }
    records: dict[int, dict[str, Any]] = {}
    if out is not None:
        identity = identity_of(identity, estimator, fields, spectrum)
        records = open_records(Path(out), {**decided, **identity})
    root = jax.random.fold_in(jax.random.key(seed), APART)
    judge = partial(
        _judge,
        estimator=estimator,
        fields=fields,
        wiener=Wiener(spectrum, num_samples=0, margin=margin),
        smoothing_arcmin=smoothing_arcmin,
    )
    for number in progress([n for n in range(num) if n not in records]):
        record = {"number": number, **judge(jax.random.fold_in(root, number))}
        records[number] = record
        if out is not None:
            append_record(Path(out), record)
    numbers = [records[number]["num_samples"] for number in range(num)]
    if min(numbers) < max(numbers):
        log.warning(
            "%d of %d fields have fewer samples than the others (%d of %d at least): chains that "
            "did not come to their end are left out, and may be those of a kind; a smaller step "
            "size or more rounds finish them",
            sum(one < max(numbers) for one in numbers),
            num,
            min(numbers),
            max(numbers),
        )
    return build_report([records[number] for number in range(num)])


def _judge(
    key: jax.Array,
    estimator: Estimator,
    fields: Fields,
    wiener: Wiener,
    smoothing_arcmin: float,
) -> dict[str, Any]:
    """Simulate one field, sample its posterior, and judge it."""
    key_field, key_estimator, key_reference, key_ranks = jax.random.split(key, 4)
    truth, data = fields(key_field)
    samples = estimator(key_estimator, data).samples
    if samples is None:
        raise ValueError(
            "the estimator gave no posterior samples; expected one that draws them, such as "
            "Wiener or the learned posterior (num_samples, --num-samples)"
        )
    samples = np.asarray(samples, float)
    baseline = wiener(key_reference, data).convergence
    reference = _reference(key_reference, baseline, wiener.spectrum, data.grid)
    field = Judged(
        truth=np.asarray(truth, float),
        samples=samples,
        observed=np.asarray(data.mask),
        reference=np.asarray(reference, float),
        wiener=np.asarray(baseline, float),
        chi2=_chi2_of(truth, samples, data) if wiener.margin == 0 else None,
    )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_ranks)))
    return judge_field(rng, field, build_summaries(data.grid, wiener.spectrum, smoothing_arcmin))


def _chi2_of(truth: jax.Array, samples: np.ndarray, data: ShearMap) -> np.ndarray:
    """Per observed component, of the truth and of every sample, shape ``(1 + n,)``."""
    maps = [truth, *samples]
    return np.array([float(_chi2(jax.numpy.asarray(one, truth.dtype), data)) for one in maps])
