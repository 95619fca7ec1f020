"""The command line: its flags, and what an error looks like.

Only the standard library is imported here, so that ``jaxmap --help`` answers at once. Exit codes:
0 done, 1 the work failed, 2 bad input or usage.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import jaxmap
from jaxmap.calibrate_flags import add_calibrate
from jaxmap.config import command_of, with_config
from jaxmap.detect_flags import add_detect
from jaxmap.dynamics_flags import add_dynamics
from jaxmap.flags import (
    METHODS,
    NOISES,
    SHIPPED,
    add_catalog,
    add_common,
    add_estimator,
    add_general,
    add_prior,
    methods,
    pair,
    size,
    whole,
)
from jaxmap.simulate_flags import add_simulate
from jaxmap.survey_flags import add_survey
from jaxmap.train_flags import add_train

PATHS = (
    "catalog", "case", "map", "config", "settings", "folder", "weights", "nz", "spectrum",
    "conformal", "match", "output", "out", "json", "mask_from", "galaxies",
)  # fmt: skip

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
"""XLA's Fourier transforms on CPUs take more threads or fewer as it happens, and with another
number of them round differently (openxla/xla issue 46345)."""

SAME_ON_GPU = "--xla_gpu_deterministic_ops=true"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    try:
        options = parser.parse_args(
            with_config(list(sys.argv[1:] if argv is None else argv), parser)
        )
    except ValueError as error:
        return _say(error, 2)
    if options.command is None:
        parser.print_help()
        return 2
    for name in PATHS:
        if getattr(options, name, None) is not None:
            setattr(options, name, os.path.expanduser(getattr(options, name)))
    logging.basicConfig(format="jaxmap: %(levelname)s: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger("jaxmap").setLevel(logging.INFO if options.verbose else logging.WARNING)
    logging.captureWarnings(True)
    try:
        with _terminated_as_interrupted():
            return _run(options)
    except (ValueError, FileNotFoundError) as error:
        if options.verbose:
            logging.getLogger("jaxmap").exception("input refused")
        return _say(error, 2)
    except KeyboardInterrupt as stop:
        return _say(str(stop) or "interrupted; nothing was written", 1)
    except BrokenPipeError:
        # Whoever read our words has left, after the work was done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.verbose:
            logging.getLogger("jaxmap").exception("the work failed")
        return _say(f"the work failed: {type(error).__name__}: {error}", 1)


def entry() -> NoReturn:
    """The console script: `main`, and an exit that cannot crash.

    Where work was cut short XLA's threads may still be busy, and the interpreter's orderly
    shutdown would pull their ground away; then the process ends at once.
    """
    code = main()
    if code == 1:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _run(options: argparse.Namespace) -> int:
    chosen = os.environ.get("XLA_FLAGS", "")  # is read as JAX starts
    wanted = {None: [ONE_THREAD], True: [ONE_THREAD, SAME_ON_GPU], False: []}
    added = [flag for flag in wanted[options.deterministic] if flag.partition("=")[0] not in chosen]
    os.environ["XLA_FLAGS"] = " ".join([chosen, *added]).strip()
    import jax

    if options.x64:
        jax.config.update("jax_enable_x64", True)
    module, function = options.run.split(".")
    code = getattr(importlib.import_module(f"jaxmap.{module}"), function)(options)
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: object, code: int) -> int:
    print(f"jaxmap: error: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the whole usage; flags are written in full."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how, allow_abbrev=False)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if not unknown:
            return options
        command, _ = command_of(self, list(args))
        flag = unknown[0].partition("=")[0]
        close = [name for name in command._option_string_actions if name.startswith(flag)]
        close = close or difflib.get_close_matches(flag, command._option_string_actions, 1)
        meant = f"; did you mean {close[0]}?" if flag.startswith("-") and close else ""
        command.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")

    def error(self, message: str) -> NoReturn:
        if "expected one argument" in message:
            message += " (write a value that begins with a minus sign as --flag=-1)"
        self.exit(2, f"jaxmap: error: {message}; see `{self.prog} --help`\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxmap",
        description="From galaxy shapes to maps of the projected mass, with uncertainties.",
        epilog="`jaxmap COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"jaxmap {jaxmap.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_map(subparsers)
    _add_demo(subparsers)
    _add_benchmark(subparsers)
    add_simulate(subparsers)
    add_train(subparsers)
    add_calibrate(subparsers)
    add_dynamics(subparsers)
    add_detect(subparsers)
    add_survey(subparsers)
    _add_replay(subparsers)
    info = subparsers.add_parser("info", help="versions, devices and default settings")
    add_common(info, "commands.run_info")
    return parser


def _add_map(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "map",
        help="make a mass map from a catalogue of galaxy shapes",
        description="Read galaxy shapes, average them in pixels, infer the convergence, and write "
        "mass_map.fits (E and B mode, error, S/N, mask, counts), mass_map.png, samples.nc "
        "(posterior samples, if the method draws them) and config.toml (to rerun). A run of "
        "dlposterior or gan that is stopped goes on, by the same command, from the samples it had "
        "drawn. Of several methods the files are in DIR/METHOD, as one alone would write them, "
        "and DIR/mass_maps.png shows all maps in the same colours.",
    )
    parser.add_argument(
        "catalog", nargs="?", help="FITS, CSV, ECSV, text, HDF5 or Parquet file of galaxy shapes"
    )
    parser.add_argument(
        "--method",
        type=methods,
        default="wiener",
        metavar="METHOD[,METHOD...]",
        help=f"estimator, of {', '.join(METHODS)} (default wiener); several on the same pixels, or "
        "all, which are those that need no weights or pixels of their own",
    )
    parser.add_argument("--out", metavar="DIR", help="output folder (default CATALOG-map)")
    field = parser.add_argument_group("field")
    field.add_argument(
        "--pixel-arcmin",
        type=float,
        help="pixel side (default: 5 galaxies each; learned methods: as trained)",
    )
    field.add_argument("--size", type=size, help="pixels: N or NXxNY (default: all galaxies)")
    field.add_argument("--centre", type=pair, metavar="RA,DEC", help="degrees (default: middle)")
    add_catalog(parser)
    estimator = parser.add_argument_group("estimator")
    add_estimator(estimator)
    estimator.add_argument(
        "--unbinned",
        action="store_true",
        help="glimpse: fit the shape of every galaxy where it is, instead of means of pixels",
    )
    estimator.add_argument(
        "--margin", type=whole, help="masked pixels around the field (default: a quarter of it)"
    )
    add_prior(parser)
    _add_checks(parser)
    add_common(parser, "map_command.run_map")


def _add_replay(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="make an output again, from what it says of itself",
        description="Read from a map, samples, figures, tables, weights or simulation how it was "
        "made, and make it again: same command, settings, seed and precision, and files that are "
        "checked to be the same. It says whether the new output is the same, bit for bit, or how "
        "much it differs, and whether by rounding alone.",
    )
    parser.add_argument("output", metavar="OUTPUT", help="a file that jaxmap wrote, or its folder")
    parser.add_argument("--out", metavar="DIR", required=True, help="where to make it again")
    parser.add_argument(
        "--input",
        metavar="FILE",
        action="append",
        type=os.path.expanduser,
        help="where a file that was read is now, if it was moved; once for each, they are known by "
        "content",
    )
    parser.set_defaults(run="replay_command.run_replay", x64=False)
    add_general(parser.add_argument_group("general"))


def _add_checks(parser: argparse.ArgumentParser) -> None:
    checks = parser.add_argument_group("errors and checks")
    checks.add_argument(
        "--noise-samples",
        type=whole,
        default=0,
        metavar="N",
        help="methods without samples: take as std the spread of maps of N noise realisations "
        "(default: the method's own std; 100 is a good number)",
    )
    checks.add_argument(
        "--noise",
        choices=NOISES,
        default="weights",
        help="their noise: Gaussian as the weights say (default), or the residuals with random "
        "signs",
    )
    checks.add_argument(
        "--conformal",
        metavar="FILE.npz",
        help="add intervals calibrated by `jaxmap calibrate --conformal` with the same method",
    )
    checks.add_argument(
        "--null-tests",
        type=whole,
        default=50,
        metavar="N",
        help="simulated skies that B modes are compared with (default 50; 0: no null tests)",
    )


def _add_demo(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="simulate a survey, map it, and compare with the truth",
        description="Simulate a survey with holes in it, write its catalogue, make the map as "
        "`jaxmap map` would, and say how well it recovers the truth.",
    )
    parser.add_argument("--out", metavar="DIR", default="jaxmap-demo", help="output folder")
    parser.add_argument(
        "--method",
        choices=("wiener", "deepmass", "dlposterior"),
        default="dlposterior",
        help="estimator (default dlposterior)",
    )
    add_estimator(parser.add_argument_group("estimator"))
    add_common(parser, "commands.run_demo")


def _add_benchmark(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "benchmark",
        help="score methods on a case with a known truth",
        description="Solve CASE.npz (convergence, shear, noise_std, mask, pixel_arcmin, optional "
        "power_spectrum) on its own periodic grid with every method, its shear taken to be made "
        "there as two real maps, and print how far each is from the truth: metric A (as in Table 1 "
        "of Remy et al.) and C (observed pixels, means removed).",
    )
    parser.add_argument("case", nargs="?", help="the case, an .npz file")
    parser.add_argument(
        "--methods",
        type=methods,
        default=list(SHIPPED),
        help=f"comma-separated, of {','.join(METHODS)} (default {','.join(SHIPPED)})",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    add_estimator(parser.add_argument_group("estimator"))
    add_prior(parser)
    add_common(parser, "commands.run_benchmark")
