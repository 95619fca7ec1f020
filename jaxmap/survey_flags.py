"""Flags of ``jaxmap survey``; only the standard library is imported here."""

from __future__ import annotations

import argparse
from typing import Any

from jaxmap.flags import (
    METHODS,
    add_catalog,
    add_common,
    add_estimator,
    add_general,
    add_prior,
    whole,
)


def add_survey(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "survey",
        help="map a survey of any size, on any number of machines",
        description="Map a survey in overlapping patches: plan it, run the plan on this machine or "
        "on a dask.distributed cluster, look how far it is, and merge the patches. Needs the extra "
        'packages of "jaxmap[survey]".',
    )
    steps = parser.add_subparsers(dest="command", metavar="STEP", required=True)
    _add_plan(steps)
    _add_run(steps)
    _add_status(steps)
    _add_merge(steps)


def _add_plan(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="cut the footprint into patches",
        description="Read a catalogue of galaxy shapes in passing (a file, or a folder of its "
        "parts), store it by cells of the sky, cut the footprint into patches of one shape, and "
        "forecast memory, time and disk. Everything a run needs is then in its folder.",
    )
    parser.set_defaults(command="survey plan")
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG.toml",
        default=argparse.SUPPRESS,
        help="settings, as --config",
    )
    parser.add_argument("--catalog", metavar="PATH", help="file of galaxy shapes, or a folder")
    parser.add_argument("--out", metavar="RUN", help="folder of the run, new")
    parser.add_argument(
        "--method", choices=METHODS, default="wiener", help="estimator (default wiener)"
    )
    patches = parser.add_argument_group("patches")
    patches.add_argument(
        "--patch-deg",
        type=float,
        default=3.7,
        help="side of their cells: about 7.3, 3.7, 1.8 or 0.9, as HEALPix has them (default 3.7)",
    )
    patches.add_argument(
        "--overlap-arcmin",
        type=float,
        help="how far they reach beyond the cells (default: as far as the method sees)",
    )
    patches.add_argument(
        "--pixel-arcmin",
        type=float,
        help="pixel side (default: 5 galaxies each; learned methods: as trained)",
    )
    patches.add_argument(
        "--margin", type=whole, help="masked pixels around a patch (default: a quarter of it)"
    )
    patches.add_argument(
        "--samples-per-task",
        type=whole,
        default=25,
        metavar="N",
        help="most samples in one task, which is what a lost worker costs (default 25)",
    )
    patches.add_argument(
        "--keep-samples",
        action="store_true",
        help="keep the samples, not only mean and standard deviation",
    )
    patches.add_argument(
        "--measure",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="do one task, to forecast the time of all (default)",
    )
    add_catalog(parser)
    add_estimator(parser.add_argument_group("estimator"))
    add_prior(parser)
    add_common(parser, "survey_command.run_plan")


def _add_run(subparsers: Any) -> None:
    parser = _step(
        subparsers,
        "run",
        "do what is missing",
        "Do the tasks of a plan that have no result yet, on workers of this machine or of a "
        "dask.distributed scheduler. Stopped at any moment, the same command goes on. Tasks that "
        "fail do not stop the others; the exit code is then 1.",
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="as tcp://host:8786; it has workers")
    parser.add_argument("--workers", type=whole, help="processes here (default 1)")
    parser.add_argument("--threads", type=whole, help="of each (default: cores shared evenly)")
    parser.add_argument(
        "--gpus",
        metavar="N,N,...",
        help="one for each worker, as CUDA_VISIBLE_DEVICES counts them (default: those that are "
        "here, if they are enough; '' leaves it to JAX)",
    )
    parser.add_argument(
        "--together",
        type=whole,
        default=1,
        metavar="N",
        help="patches in one task, for workers that see N devices (default 1)",
    )
    parser.add_argument("--retries", type=whole, default=2, help="of a task that fails (default 2)")
    parser.add_argument(
        "--patience",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long to wait for a scheduler that is lost (default 600)",
    )


def _add_status(subparsers: Any) -> None:
    _step(subparsers, "status", "say how far a run is", "Count what is done, and name what failed.")


def _add_merge(subparsers: Any) -> None:
    parser = _step(
        subparsers,
        "merge",
        "blend the patches into maps of the survey",
        "Write HEALPix maps (convergence, std, S/N, B mode), with explicit pixels in nested order, "
        "and the FITS maps of patches into RUN/maps. What is missing is named and left out.",
    )
    parser.add_argument("--nside", type=whole, help="of HEALPix (default: no wider than pixels)")
    parser.add_argument(
        "--samples",
        type=whole,
        default=0,
        metavar="N",
        help="also merge N posterior samples (plan with --keep-samples)",
    )
    parser.add_argument(
        "--patches",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the maps of patches (default)",
    )


def _step(subparsers: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=summary, description=description)
    parser.set_defaults(command=f"survey {name}", run=f"survey_command.run_{name}", x64=False)
    parser.add_argument("folder", metavar="RUN", help="folder of `jaxmap survey plan`")
    add_general(parser.add_argument_group("general"))
    return parser
