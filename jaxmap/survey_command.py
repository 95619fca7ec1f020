"""What ``jaxmap survey`` does: plan, run, tell, merge."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxmap.arrayfiles import parsed_json
from jaxmap.commands import catalog_options, pixel_of_network, spectrum_of, warn_of_unused
from jaxmap.grid import ARCMIN
from jaxmap.machine import check_disk
from jaxmap.methods import build_estimator
from jaxmap.outputs import origin
from jaxmap.outputs import settings as settings_of
from jaxmap.summary import describe_sources
from jaxmap.survey.catalogue import catalogue_files, stream_galaxies
from jaxmap.survey.clients import Cluster, gpus_for_workers
from jaxmap.survey.cluster import LOG, Report, count_warning, run_survey
from jaxmap.survey.forecast import check_workers, describe, forecast, measure
from jaxmap.survey.merge import MAPS, Merged, merge_survey
from jaxmap.survey.patches import Tiling
from jaxmap.survey.plan import Plan, add_to_record, file_hashes, make_plan, read_plan
from jaxmap.survey.results import Task, missing_tasks

_METHOD = (
    "method", "smoothing_arcmin", "threshold", "reduced_shear", "sampler", "num_steps", "margin",
    "seed", "x64", "keep_samples",
)  # fmt: skip
_NAMED = 8  # patches in a message


def run_plan(options: argparse.Namespace) -> int:
    """``jaxmap survey plan``: a catalogue becomes patches, and a forecast."""
    if options.catalog is None or options.out is None:
        missing = "catalogue" if options.catalog is None else "folder of the run"
        raise ValueError(
            f"no {missing} given; expected `jaxmap survey plan CONFIG.toml --out RUN`, with "
            "`catalog` in the configuration or as --catalog"
        )
    catalog = Path(options.catalog)
    files, spectrum = catalogue_files(catalog), spectrum_of(options)
    warn_of_unused(options, [options.method])
    weights = Path(options.weights) if options.weights else None
    network = build_estimator(
        options.method, spectrum, weights=weights, sampler=options.sampler
    )  # refuses what would fail in every task
    reading = catalog_options(options)
    folder = catalog if catalog.is_dir() else catalog.parent
    data = file_hashes(files, folder) | {"columns": json.dumps(_plain(reading), sort_keys=True)}
    plan = make_plan(
        Path(options.out),
        stream_galaxies(files, reading),
        spectrum,
        {name: getattr(options, name) for name in _METHOD},
        data,
        patch_deg=options.patch_deg,
        pixel_arcmin=pixel_of_network(network, options.pixel_arcmin),
        overlap_arcmin=options.overlap_arcmin,
        shape_noise=options.shape_noise,
        num_samples=options.num_samples,
        samples_per_task=options.samples_per_task,
        weights=weights,
        made_by=origin(options, None, others=files),
    )
    found, trouble = forecast(plan), ""
    try:
        check_workers(found)
    except ValueError as error:  # workers may run elsewhere
        trouble = str(error)
    if options.measure and not trouble:
        found |= measure(plan)
    add_to_record(plan.folder, "forecast", found)
    if not options.quiet:
        print(_describe_plan(plan))
        print(describe_sources(options.nz, options.spectrum))
        print(describe(found))
        print(f"To run it: jaxmap survey run {plan.folder}")
    if trouble:
        print(f"jaxmap: warning: not measured: {trouble}", file=sys.stderr)
    if plan.tiling.overlap_arcmin > plan.tiling.cell_arcmin / 2:
        print(f"jaxmap: warning: {_describe_overlap(plan.tiling)}", file=sys.stderr)
    return 0


def run_run(options: argparse.Namespace) -> int:
    """``jaxmap survey run``: do what is missing."""
    for name in ("workers", "threads", "together"):
        if getattr(options, name) == 0:
            raise ValueError(f"--{name} is 0; expected 1 or more")
    here = {name: getattr(options, name) for name in ("workers", "threads", "gpus")}
    if options.scheduler and any(value is not None for value in here.values()):
        given = next(f"--{name} {value}" for name, value in here.items() if value is not None)
        raise ValueError(
            f"{given} is for workers on this machine, and those of --scheduler {options.scheduler} "
            "are started apart; leave one of the two out"
        )
    plan = read_plan(Path(options.folder))
    todo, figures = missing_tasks(plan), forecast(plan)
    needed = figures["results_bytes"] * len(todo) / figures["tasks"]
    check_disk(plan.folder, needed, f"results of {len(todo):,} tasks", "make room")
    gpus = None if options.gpus is None else tuple(filter(None, options.gpus.split(",")))
    cluster = Cluster(
        options.scheduler, options.workers or 1, options.threads, gpus, options.patience
    )
    if todo and not options.scheduler and not gpus_for_workers(cluster):
        check_workers(figures, cluster.workers)
    say: Any = (lambda text: None) if options.quiet else _aside
    try:
        report = run_survey(
            plan,
            cluster,
            retries=options.retries,
            together=options.together,
            progress=None if options.quiet else _bar,
            say=say,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; finished tasks are in {plan.folder}, and the same command goes on"
        ) from None
    if not options.quiet:
        print(_describe_run(plan, report))
    if report.failed:
        print(f"jaxmap: warning: {_describe_failures(report.failed)}", file=sys.stderr)
    return 1 if report.failed else 0


def run_status(options: argparse.Namespace) -> int:
    """``jaxmap survey status``: how far a run is."""
    plan = read_plan(Path(options.folder))
    missing, log = missing_tasks(plan), _read_log(plan)
    total = len(plan.tiling.patches) * plan.num_chunks
    print(_describe_plan(plan))
    print(f"{total - len(missing):,} of {total:,} tasks are done.")
    seconds = [record["seconds"] for record in log if record.get("state") == "done"]
    if seconds and missing:
        mean = sum(seconds) / len(seconds)
        print(f"{mean:.3g} s a task so far: {mean * len(missing) / 3600:.3g} worker hours to go.")
    open_tasks = set(missing)
    failed = {
        task: record["error"]
        for record in log
        if record["event"] == "failed"
        and (task := Task(record["patch"], record["chunk"])) in open_tasks
    }
    if failed:
        print(_describe_failures(failed))
    counted: dict[str, int] = {}
    for warning in (one for record in log for one in record.get("warnings", ())):
        count_warning(counted, warning)
    for line in _describe_warnings(counted):
        print(line)
    return 0


def run_merge(options: argparse.Namespace) -> int:
    """``jaxmap survey merge``: maps of the whole survey."""
    plan = read_plan(Path(options.folder))
    made = merge_survey(
        plan,
        nside=options.nside,
        num_samples=options.samples,
        write_patches=options.patches,
        provenance={**plan.made_by, "plan": plan.digest, "merge": settings_of(options)},
        progress=lambda parts: _tqdm(parts, "merged", "part", options.quiet),
    )
    if not options.quiet:
        print(_describe_merged(plan, made))
    for trouble in _left_out(made):
        print(f"jaxmap: warning: {trouble}", file=sys.stderr)
    return 0


def _describe_plan(plan: Plan) -> str:
    tiling = plan.tiling
    ny, nx = tiling.shape
    draws = ""
    if plan.draws:
        draws = (
            f", {plan.settings['num_samples'] * plan.num_chunks} samples in {plan.num_chunks} "
            "chunks"
        )
    return (
        f"{plan.num_galaxies:,} galaxies, shape noise {max(plan.shape_noise):.3f}; "
        f"{len(tiling.patches):,} patches of {nx} x {ny} pixels of {tiling.pixel_arcmin:g} arcmin "
        f"({nx * tiling.pixel_arcmin / 60:.2g} x {ny * tiling.pixel_arcmin / 60:.2g} deg), overlap "
        f"{tiling.overlap_arcmin:.3g} arcmin; {plan.settings['method']}{draws}."
    )


def _describe_overlap(tiling: Tiling) -> str:
    """Why patches that are mostly overlap cost much, and cells four times as wide as it."""
    return (
        f"patches reach {tiling.overlap_arcmin:.3g} arcmin beyond cells of "
        f"{tiling.cell_arcmin:.3g} arcmin, so that the sky is mapped {tiling.times_mapped:.0f} "
        f"times over; plan larger cells in another folder (--patch-deg "
        f"{4 * tiling.overlap_arcmin / 60:.2g}), or say how far patches must reach "
        "(--overlap-arcmin)"
    )


def _describe_run(plan: Plan, report: Report) -> str:
    lines = [f"{report.done:,} tasks in {report.seconds:.1f} s."]
    if report.empty:
        lines.append(f"{report.empty} patches have no galaxies.")
    lines += _describe_warnings(report.warnings)
    lines.append(f"To make the maps: jaxmap survey merge {plan.folder}")
    return "\n".join(lines)


def _describe_failures(failed: dict[Task, str]) -> str:
    reasons: dict[str, list[Task]] = {}
    for task, error in failed.items():
        reasons.setdefault(error, []).append(task)
    lines = [f"{len(failed)} tasks failed and are missing; the same run tries them again."]
    for error, tasks in reasons.items():
        lines.append(f"  patch {_named(sorted({task.patch for task in tasks}))}: {error}")
    return "\n".join(lines)


def _describe_merged(plan: Plan, made: Merged) -> str:
    area = made.num_pixels * 4 * math.pi / (12 * made.nside**2) / (60 * ARCMIN) ** 2
    lines = [
        f"{made.num_pixels:,} pixels of nside {made.nside} ({area:,.4g} square degrees) in "
        f"{plan.folder / MAPS}/."
    ]
    if made.empty:
        lines.append(f"Patches {_named(made.empty)} have no galaxies.")
    return "\n".join(lines)


def _left_out(made: Merged) -> list[str]:
    lines = [
        f"patches {_named(patches)} {text}"
        for text, patches in (
            ("have no result yet and are left out", made.absent),
            ("lack some of their samples", made.partial),
        )
        if patches
    ]
    return lines + [f"patch {patch} is left out: {why}" for patch, why in made.damaged.items()]


def _named(patches: list[int]) -> str:
    more = f" and {len(patches) - _NAMED} more" if len(patches) > _NAMED else ""
    return ", ".join(map(str, patches[:_NAMED])) + more


def _read_log(plan: Plan) -> list[dict[str, Any]]:
    """Lines of the log that are whole."""
    path = plan.folder / LOG
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    records = []
    for line in text.splitlines():
        try:
            records.append(parsed_json(line))
        except ValueError:  # a run was killed while it wrote this
            continue
    return records


def _describe_warnings(counted: dict[str, int]) -> list[str]:
    return [
        f"{count} tasks warned: {text}" + (" (numbers of the first)" if count > 1 else "")
        for text, count in sorted(counted.items())
    ]


def _plain(reading: dict[str, Any]) -> dict[str, Any]:
    survey = reading["survey"]
    return {**reading, "survey": None if survey is None else survey.name}


def _aside(text: str) -> None:
    print(text, file=sys.stderr)


def _bar(total: int, there: int) -> Any:
    return _tqdm(None, "tasks", "task", False, total=total, initial=there)


def _tqdm(parts: Iterable[Any] | None, what: str, unit: str, quiet: bool, **more: Any) -> Any:
    from tqdm import tqdm

    pause = 0.1 if sys.stderr and sys.stderr.isatty() else 10
    return tqdm(parts, desc=what, unit=unit, disable=quiet, mininterval=pause, **more)
