"""What ``jaxmap calibrate`` does: simulate, sample, judge, and say so in plain words."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from jaxmap.benchmark import read_survey_map
from jaxmap.calibrate_flags import SAMPLING, SKIES
from jaxmap.calibration.checkpoint import FIELDS
from jaxmap.calibration.figure import draw_report
from jaxmap.calibration.intervals import score_fields
from jaxmap.calibration.mocks import MockFields, middle_of_survey, shrunk_to
from jaxmap.calibration.report import lines_of
from jaxmap.calibration.run import calibrate
from jaxmap.catalog import ShearMap
from jaxmap.commands import cosmology_of, warn_of_unused
from jaxmap.conformal import Conformal, Scored, conformal_of, held_out_coverage, write_conformal
from jaxmap.conformal.calibrate import coverage
from jaxmap.conformal.thresholds import fewest_fields
from jaxmap.estimators import Estimator
from jaxmap.estimators.memory import check_map_memory
from jaxmap.files import atomic_path
from jaxmap.grid import Grid
from jaxmap.methods import build_estimator, method_identity, network_digest
from jaxmap.outputs import input_files, origin, require_writable
from jaxmap.plot import save_picture
from jaxmap.progress import with_bar
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.simulation.baryons import BARYONS
from jaxmap.simulation.expected import light_cone_power
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.presets import PRESETS
from jaxmap.simulation.recipe import MapRecipe, map_recipe
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.streaming import build_simulator
from jaxmap.spectra import PowerSpectrum

log = logging.getLogger(__name__)

SIZE = (240, 240)
REPORT, FIGURE = "report.json", "calibration.png"
SMALL_ARCMIN = 60.0
"""Periodic fields below this judge a network trained on larger skies (`field_sizes.py`)."""


def run_calibrate(options: argparse.Namespace) -> int:
    """``jaxmap calibrate``: posterior samples judged on simulated surveys, or intervals made."""
    own = argparse.Namespace(threshold=options.threshold, sampler=options.sampler)
    warn_of_unused(own, [options.method])  # the others are of the report as well
    if options.conformal:
        return _run_intervals(options)
    if options.method not in SAMPLING or options.sampler == "map":
        raise ValueError(
            f"method {options.method} ({options.sampler}) draws no posterior samples to judge; "
            "expected dlposterior or wiener, or intervals for any method (--conformal FILE.npz)"
        )
    out = Path(options.out)
    inputs = [*input_files(options), options.config]
    require_writable([out / REPORT, out / FIGURE], inputs, "choose another folder with --out")
    recipe, survey = _survey(options)
    spectrum = light_cone_power(
        recipe.grid.pixel_arcmin, recipe.redshifts, recipe.cosmology, recipe.baryons
    )
    margin = None if options.cut else 0
    if options.method == "dlposterior":
        _warn_of_small_skies(recipe)
    check_map_memory(options.method, recipe.grid.shape, margin, options.num_samples or 0)
    estimator = _estimator(options, spectrum, margin)
    record = origin(options, Path(options.mask_from) if options.mask_from else None)
    response = ShearResponse(reduced=options.reduced)
    fields = MockFields(build_simulator(recipe), survey, response)
    try:
        report = calibrate(
            estimator,
            fields,
            options.num,
            spectrum=spectrum,
            seed=options.seed,
            smoothing_arcmin=options.smoothing_arcmin,
            margin=margin,
            out=out,
            identity=_identity(options, record, estimator),
            progress=with_bar("judged fields", "field", options.quiet),
        )
    except KeyboardInterrupt:
        if not (out / FIELDS).exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; the fields judged so far are in {out}/, and the same command goes on"
        ) from None
    with atomic_path(out / REPORT) as path:
        text = json.dumps({**report, **record}, indent=1, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    _draw(out / FIGURE, report, options, record)
    if not options.quiet:
        print(describe(report))
        print(f"Wrote {out}/{REPORT} and {FIGURE}.")
    return 0


def _warn_of_small_skies(recipe: MapRecipe) -> None:
    side = min(recipe.sky.shape) * recipe.sky.pixel_arcmin
    if side < SMALL_ARCMIN:
        log.warning(
            "the simulated skies are periodic after %.0f arcmin, and lack the long modes of larger "
            "ones, which a network may have been trained on: the power of its samples can be off "
            "by some per cent here and right on the sky; take fields of %.0f arcmin or more "
            "(--size), or cut them from larger skies (--cut)",
            side,
            SMALL_ARCMIN,
        )


def _run_intervals(options: argparse.Namespace) -> int:
    """``jaxmap calibrate --conformal``: widths that cover the truth of simulated surveys."""
    out, target = Path(options.out), Path(options.conformal).expanduser()
    _check_intervals(options, target)
    inputs = [*input_files(options), options.config]
    require_writable([target], inputs, "choose another file with --conformal")
    options.cut = True  # a field whose outside acts, as in the maps to come
    recipe, survey = _survey(options)
    spectrum = light_cone_power(
        recipe.grid.pixel_arcmin, recipe.redshifts, recipe.cosmology, recipe.baryons
    )
    check_map_memory(options.method, recipe.grid.shape, None, options.num_samples or 0)
    estimator = _estimator(options, spectrum, None)
    record = origin(options, Path(options.mask_from) if options.mask_from else None)
    scored = score_fields(
        estimator,
        MockFields(build_simulator(recipe), survey, ShearResponse(reduced=options.reduced)),
        options.num,
        seed=options.seed,
        out=out,
        identity=_identity(options, record, estimator),
        progress=with_bar("judged fields", "field", options.quiet),
    )
    method = method_identity(
        options.method,
        estimator,
        smoothing_arcmin=options.smoothing_arcmin,
        threshold=options.threshold,
        num_samples=options.num_samples,
        sampler=options.sampler,
        weights=options.weights,
    )
    bounds = conformal_of(scored, options.level, per_pixel=options.per_pixel, method=method)
    write_conformal(target, bounds, record)
    if not options.quiet:
        print(describe_intervals(bounds, scored))
        print(f"Wrote {target}. Use it: jaxmap map CATALOG --method {options.method} --conformal")
    return 0


def _check_intervals(options: argparse.Namespace, target: Path) -> None:
    """Refuse, before the work, what would be refused after it."""
    if not 0 < options.level < 1:
        raise ValueError(
            f"the level is {options.level}; expected a number between 0 and 1, as in --level 0.68"
        )
    least = fewest_fields(options.level)
    if options.num < least:
        raise ValueError(
            f"the number of fields is {options.num}; expected at least {least}, since no fewer can "
            f"promise {options.level:.0%} (--num, --level)"
        )
    if options.per_pixel and not options.mask_from:
        raise ValueError(
            "--per-pixel needs fields of one mask, and those of a preset have random holes; "
            "expected a survey's own mask (--mask-from)"
        )
    if target.is_dir() or target.suffix != ".npz":
        raise ValueError(f"cannot write intervals to {target}; expected a file ending in .npz")


def describe_intervals(bounds: Conformal, scored: list[Scored]) -> str:
    """What the intervals are, and how fields that were left out agree."""
    on = {"interval": "its limits", "std": "its std", "plain": "nothing but its map"}[bounds.kind]
    lines = [
        f"Intervals of {bounds.level:.0%} for {bounds.method['method']}, built on {on}, from "
        f"{bounds.num_fields} fields."
    ]
    if not bounds.per_pixel:
        widths = {"interval": "limits moved by", "std": "half width in std", "plain": "half width"}
        lines.append(
            f"{widths[bounds.kind].capitalize()}: {float(bounds.observed):.4g} where observed, "
            f"{float(bounds.masked):.4g} where masked."
        )
    nominal = {"interval": 0.0, "std": NormalDist().inv_cdf((1 + bounds.level) / 2)}
    if bounds.kind == "std" or (bounds.kind == "interval" and bounds.level == 0.68):
        before = coverage(scored, replace(bounds, observed=np.asarray(nominal[bounds.kind])))
        lines.append(f"Coverage of observed pixels as it was: {_with_error(before)}.")
    after = held_out_coverage(scored, bounds.level, per_pixel=bounds.per_pixel)
    if after is not None:
        lines.append(f"Coverage of fields left out of the calibration: {_with_error(after)}.")
    return "\n".join(lines)


def _with_error(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} +- {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def describe(report: dict[str, Any]) -> str:
    """The lines that did not pass, the main ones that did, and the verdict."""
    lines = lines_of(report)
    counted = {
        verdict: sum(one["verdict"] == verdict for one in lines)
        for verdict in ("pass", "open", "fail")
    }
    main = ("pixels, observed", "pixels, masked", "std/error", "TARP", "chi2")
    shown = [
        one
        for one in lines
        if one["verdict"] != "pass" or one["name"].startswith(main) or "samples/" in one["name"]
    ]
    rows = [_row(one) for one in shown]
    figures = [
        f"{name:<40}{found['value']:>9.4f} +- {found['error']:.4f}"
        for name, found in report["figures"].items()
    ]
    summary = (
        f"{report['num_fields']} fields of {report['num_samples']} samples: "
        f"{report['verdict'].upper()} ({counted['pass']} checks pass, {counted['open']} are open, "
        f"{counted['fail']} fail)"
    )
    if report["verdict"] == "open":
        summary += "; more fields (a larger --num) decide what is open"
    return "\n".join([*rows, *figures, summary])


def _row(one: dict[str, Any]) -> str:
    value = "none" if one["value"] is None else f"{one['value']:.4f}"
    if "least" in one:
        told = f"p, at least {one['least']:.2g}"
    elif one["nominal"] == 0:
        told = f"at most {one['tolerance']:.4f}"
    else:
        error = "" if one["error"] is None else f" +- {one['error']:.4f}"
        told = f"{error}, expected {one['nominal']:g} +- {one['tolerance']:g}".removeprefix(", ")
    return f"{one['name']:<40}{value:>9} {told.strip()}: {one['verdict']}"


def _survey(options: argparse.Namespace) -> tuple[MapRecipe, MockSurvey | ShearMap]:
    """What to simulate, and the survey that sees it."""
    preset = PRESETS[options.preset]
    survey: MockSurvey | ShearMap
    if options.mask_from:
        given = read_survey_map(options.mask_from)
        survey = middle_of_survey(given, options.size or given.grid.shape)
        grid = survey.grid
    else:
        if preset.grid is None:
            raise ValueError(f"the preset {options.preset} has no pixels; give another --preset")
        grid = Grid(options.size or SIZE, preset.grid.pixel_arcmin)
        survey = shrunk_to(preset, grid)
    recipe = map_recipe(
        grid,
        SKIES[options.sky],
        sky_shape=None if options.cut else grid.shape,
        redshifts=read_redshift_distribution(options.nz) if options.nz else preset.redshifts,
        cosmology=cosmology_of(options),
        baryons=BARYONS[options.baryons],
        seed=options.seed,
    )
    return recipe, survey


def _estimator(
    options: argparse.Namespace, spectrum: PowerSpectrum, margin: int | None
) -> Estimator:
    chosen: dict[str, Any] = {}
    if options.method in ("dlposterior", "deepmass"):
        chosen = {"sampler": options.sampler, "weights": options.weights}
    elif options.method == "gan":
        chosen = {"weights": options.weights}
    return build_estimator(
        options.method,
        spectrum,
        smoothing_arcmin=options.smoothing_arcmin,
        threshold=options.threshold,
        num_samples=options.num_samples,
        margin=margin,
        progress=lambda chunks: chunks,
        **chosen,
    )


def _identity(
    options: argparse.Namespace, record: dict[str, Any], estimator: Estimator
) -> dict[str, Any]:
    """All settings but the number of fields, to which more can be added; contents of files, and of
    the network, which another version may ship trained anew."""
    aside = ("num", "conformal", "level", "per_pixel")
    settings = {name: value for name, value in record["settings"].items() if name not in aside}
    files = {
        name: hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for name in ("weights", "mask_from", "nz")
        if (path := getattr(options, name))
    }
    return {"settings": settings, "files": files, "network": network_digest(estimator)}


def _draw(
    path: Path, report: dict[str, Any], options: argparse.Namespace, record: dict[str, Any]
) -> None:
    sampler = f" ({options.sampler})" if options.method == "dlposterior" else ""
    place = Path(options.mask_from).name if options.mask_from else options.preset
    try:
        figure = draw_report(report, f"{options.method}{sampler}, {options.sky} sky, {place}")
        save_picture(path, figure, record, dpi=110)
    except Exception as error:  # a report is not lost for want of its picture
        print(f"jaxmap: no picture: {error}", file=sys.stderr)
