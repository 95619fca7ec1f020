"""Score estimators on a case whose truth is known.

A case is a periodic grid, and its shear was made as two real maps on it: the operator behind it is
that of `jaxmap.operators.two_map_phase`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmap.arrayfiles import read_arrays
from jaxmap.catalog import ShearMap, shear_map
from jaxmap.diagnostics import chi2_per_pixel, std_over_error
from jaxmap.estimators import Estimator
from jaxmap.files import atomic_path
from jaxmap.grid import Grid
from jaxmap.metrics import accuracy_observed, accuracy_published
from jaxmap.operators import two_map_phase
from jaxmap.spectra import PowerSpectrum, power_spectrum

_LONG = 60.0  # seconds, beside which compilation is little
FIELDS = ("convergence", "shear", "noise_std", "mask", "pixel_arcmin", "power_spectrum")


@dataclass(frozen=True)
class Case:
    """A benchmark case: true convergence, the noisy shear it makes, the prior spectrum if any."""

    truth: jax.Array
    shear: ShearMap
    spectrum: PowerSpectrum | None


def read_case(path: str | Path) -> Case:
    """Read a case from ``.npz``.

    Fields: ``convergence`` (ny, nx); ``shear`` (2, ny, nx), or complex (ny, nx); ``noise_std`` per
    component, (ny, nx), (1, ny, nx) or (2, ny, nx); ``mask`` (ny, nx), nonzero = observed;
    ``pixel_arcmin``; optional ``power_spectrum`` (2, n) with rows ell and C_ell.

    Raises:
        ValueError: for an unreadable file, a missing field, or shapes and values that do not fit.
    """
    fields = _load(path)
    missing = {"convergence", "shear", "noise_std", "mask", "pixel_arcmin"} - fields.keys()
    if missing:
        raise ValueError(
            f"{path} lacks {sorted(missing)}; it holds {sorted(fields)}: write it again with all"
        )
    truth, mask = fields["convergence"], fields["mask"]
    if truth.ndim != 2 or mask.shape != truth.shape:
        raise ValueError(
            f"{path}: convergence has shape {truth.shape} and mask {mask.shape}; expected one "
            "(ny, nx) for both"
        )
    if not np.all(np.isfinite(truth)):
        raise ValueError(
            f"{path}: the convergence holds values that are not finite; expected a number in every "
            "pixel, masked or not"
        )
    if fields["pixel_arcmin"].size != 1:
        number = fields["pixel_arcmin"].size
        raise ValueError(f"{path}: pixel_arcmin has {number} values; expected one, in arcmin")
    observed = mask != 0
    if np.isnan(mask).any():
        raise ValueError(f"{path}: the mask holds NaN; expected 0 where masked, 1 where observed")
    if observed.any() and np.ptp(truth[observed]) == 0:
        raise ValueError(
            f"{path}: the convergence is the same in all {observed.sum()} observed pixels; "
            "expected a map to compare with"
        )
    if fields["noise_std"].shape not in ((2, *mask.shape), (1, *mask.shape), mask.shape):
        raise ValueError(
            f"{path}: noise_std has shape {fields['noise_std'].shape}; expected (2, ny, nx), "
            f"(1, ny, nx) or (ny, nx) for the map's (ny, nx) = {truth.shape}"
        )
    noise_std = np.where(observed, fields["noise_std"], 0)
    bad = observed & ~(np.isfinite(noise_std) & (noise_std > 0))
    if bad.any():
        raise ValueError(
            f"{path}: noise_std is not a number above 0 in {bad.sum()} observed pixels; mask them"
        )
    grid = Grid(truth.shape, fields["pixel_arcmin"].item())
    spectrum = None
    if "power_spectrum" in fields:
        table = fields["power_spectrum"]
        if table.ndim != 2 or len(table) != 2:
            raise ValueError(
                f"{path}: power_spectrum has shape {table.shape}; expected (2, n), ell and C_ell"
            )
        spectrum = power_spectrum(*table)
    return Case(
        truth=jax.numpy.asarray(truth, float),
        shear=shear_map(fields["shear"], grid, noise_std=noise_std),
        spectrum=spectrum,
    )


def write_case(path: str | Path, case: Case) -> None:
    """Write a case to ``.npz`` with the fields of `read_case`; a place on the sky is not kept.

    Args:
        path: file to write; replaced only once the new one is whole.
        case: what to write, in its own precision.

    Raises:
        ValueError: if one component only was observed in some pixel, which the fields cannot say.
    """
    weight = np.asarray(case.shear.weight)
    mask = (weight > 0).all(axis=0)
    halves = int(np.sum((weight > 0).any(axis=0) & ~mask))
    if halves:
        raise ValueError(
            f"{halves} pixels have one component of the shear without a weight; expected both or "
            "neither: mask them"
        )
    fields: dict[str, Any] = {
        "convergence": np.asarray(case.truth),
        "shear": np.asarray(case.shear.shear),
        "noise_std": np.where(mask, 1 / np.sqrt(np.where(mask, weight, 1)), 0),
        "mask": mask,
        "pixel_arcmin": np.asarray(case.shear.grid.pixel_arcmin),
    }
    if case.spectrum is not None:
        fields["power_spectrum"] = np.stack([case.spectrum.ell, case.spectrum.c_ell])
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **fields)


def _load(path: str | Path) -> dict[str, np.ndarray]:
    try:
        return {name: _numbers(name, array) for name, array in read_arrays(path, FIELDS).items()}
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}; check the name") from error
    except ValueError as error:
        raise ValueError(
            f"{path} is not a whole .npz file of plain arrays ({error}); write or fetch it again"
        ) from error


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    kinds = "biufc" if name == "shear" else "biuf"
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
        raise ValueError(f"{name} holds {getattr(values, 'dtype', 'no array')}, not real numbers")
    return values


def score(case: Case, estimators: Mapping[str, Estimator], key: jax.Array) -> dict[str, Any]:
    """Run every estimator on the case and measure it against the truth.

    Returns:
        Per method: ``rmse_A``, ``r_A``, ``rmse_C``, ``r_C`` (`jaxmap.metrics`), ``seconds`` (of a
        second run, unless the first took over a minute) and ``seconds_first`` (with compilation);
        with posterior samples also ``num_samples``, ``std_over_error``, ``chi2_per_pixel`` (mean
        over the samples) and ``network_evaluations_per_sample``.
    """
    return {name: _score_one(case, estimator, key) for name, estimator in estimators.items()}


def _score_one(case: Case, estimator: Estimator, key: jax.Array) -> dict[str, Any]:
    seconds: list[float] = []
    while not seconds or (len(seconds) < 2 and seconds[0] < _LONG):
        start = time.perf_counter()
        result = jax.block_until_ready(estimator(key, case.shear))
        seconds.append(time.perf_counter() - start)
    mask = case.shear.mask
    published = accuracy_published(result.convergence, case.truth, mask)
    observed = accuracy_observed(result.convergence, case.truth, mask)
    figures: dict[str, Any] = {
        "rmse_A": float(published.rmse),
        "r_A": float(published.r),
        "rmse_C": float(observed.rmse),
        "r_C": float(observed.r),
        "seconds": seconds[-1],
        "seconds_first": seconds[0],
    }
    if result.samples is not None:
        chi2 = [
            float(chi2_per_pixel(sample, case.shear, two_map_phase)) for sample in result.samples
        ]
        figures["num_samples"] = len(result.samples)
        figures["std_over_error"] = float(std_over_error(result.samples, case.truth, mask))
        figures["chi2_per_pixel"] = float(np.mean(chi2))
        figures["network_evaluations_per_sample"] = result.diagnostics.get(
            "network_evaluations_per_sample", 0
        )
    return figures


def table(methods: Mapping[str, Mapping[str, float]]) -> str:
    """The figures of `score` as text, one method a line."""
    lines = [
        f"{'method':<14}{'A: RMSE':>11}{'r':>8}{'C: RMSE':>12}{'r':>8}{'seconds':>10}",
        *(
            f"{name:<14}{row['rmse_A']:>11.4e}{row['r_A']:>8.4f}"
            f"{row['rmse_C']:>12.4e}{row['r_C']:>8.4f}{row['seconds']:>10.3f}"
            for name, row in methods.items()
        ),
    ]
    for name, row in methods.items():
        if "num_samples" in row:
            lines.append(
                f"{name}: {row['num_samples']} posterior samples, std/error "
                f"{row['std_over_error']:.3f}, chi2 per observed component "
                f"{row['chi2_per_pixel']:.4f}"
            )
    return "\n".join(lines)
