"""The command line: its flags, and what an error looks like.

Only the standard library is imported here, so that ``jaxmap --help`` answers at once. Exit codes:
0 done, 1 the work failed, 2 bad input or usage.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import jaxmap
from jaxmap.config import with_config

METHODS = ("ks", "wiener")
PATHS = ("catalog", "case", "config", "nz", "spectrum", "out", "json")
SURVEYS = ("auto", "generic", "cosmos", "des_y3", "kids", "hsc_y1", "hsc", "euclid", "txpipe")


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
    except KeyboardInterrupt:
        return _say("interrupted; nothing was written", 1)
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
    import jax

    from jaxmap import commands

    if options.x64:
        jax.config.update("jax_enable_x64", True)
    code = getattr(commands, f"run_{options.command}")(options)
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
    """Says what is wrong in one line, without the whole usage."""

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
    info = subparsers.add_parser("info", help="versions, devices and default settings")
    _add_common(info)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE.toml", help="settings, named as the flags here")
    general.add_argument("--seed", type=_whole, default=0, help="random seed (default 0)")
    general.add_argument("--x64", action="store_true", help="compute in float64")
    general.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    general.add_argument("-v", "--verbose", action="store_true", help="say more, with tracebacks")


def _add_map(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "map",
        help="make a mass map from a catalogue of galaxy shapes",
        description="Read galaxy shapes, average them in pixels, infer the convergence, and write "
        "mass_map.fits (E and B mode, error, S/N, mask, counts), mass_map.png, samples.nc "
        "(posterior samples, if the method draws them) and config.toml (to rerun).",
    )
    parser.add_argument(
        "catalog", nargs="?", help="FITS, CSV, ECSV, text, HDF5 or Parquet file of galaxy shapes"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="wiener", help="estimator (default wiener)"
    )
    parser.add_argument("--out", metavar="DIR", help="output folder (default CATALOG-map)")
    field = parser.add_argument_group("field")
    field.add_argument("--pixel-arcmin", type=float, help="pixel side (default: 5 galaxies each)")
    field.add_argument("--size", type=_size, help="pixels: N or NXxNY (default: all galaxies)")
    field.add_argument("--centre", type=_pair, metavar="RA,DEC", help="degrees (default: middle)")
    catalog = parser.add_argument_group("catalogue")
    catalog.add_argument(
        "--survey", choices=SURVEYS, default="auto", help="columns and conventions (default auto)"
    )
    catalog.add_argument(
        "--columns", type=_mapping, metavar="ROLE=NAME,...", help="e.g. ra=ALPHA,dec=DELTA,e1=g1"
    )
    catalog.add_argument("--hdu", type=_name_or_number, help="FITS extension, name or number")
    catalog.add_argument("--group", help="HDF5 group, e.g. catalog/unsheared")
    for component in ("e1", "e2"):
        catalog.add_argument(
            f"--flip-{component}",
            action=argparse.BooleanOptionalAction,
            help=f"change the sign of {component} (default: as the survey needs)",
        )
    catalog.add_argument(
        "--distortion",
        action=argparse.BooleanOptionalAction,
        help="shapes are (a^2-b^2)/(a^2+b^2) (default: as the survey says)",
    )
    catalog.add_argument("--m", type=float, help="multiplicative bias")
    catalog.add_argument("--c1", type=float, help="additive bias of e1")
    catalog.add_argument("--c2", type=float, help="additive bias of e2")
    catalog.add_argument("--response", type=float, help="shear response to divide by")
    catalog.add_argument(
        "--drop-invalid", action="store_true", help="drop rows that are not finite"
    )
    catalog.add_argument(
        "--shape-noise", type=float, metavar="SIGMA_E", help="per component (default: measured)"
    )
    estimator = parser.add_argument_group("estimator")
    _add_estimator(estimator, num_samples=100)
    estimator.add_argument(
        "--margin", type=_whole, help="masked pixels around the field (default: a quarter of it)"
    )
    _add_prior(parser)
    _add_common(parser)


def _add_estimator(group: Any, num_samples: int) -> None:
    group.add_argument(
        "--num-samples",
        type=_whole,
        default=num_samples,
        help=f"posterior samples (default {num_samples}); ks draws none",
    )
    group.add_argument(
        "--smoothing-arcmin", type=float, default=1.0, help="ks: Gaussian sigma (default 1)"
    )


def _add_prior(parser: argparse.ArgumentParser) -> None:
    prior = parser.add_argument_group("prior", "the power spectrum of the convergence")
    prior.add_argument(
        "--nz", metavar="FILE", help="source redshifts: columns z, n (default COSMOS)"
    )
    prior.add_argument("--spectrum", metavar="FILE", help="instead, a table of ell and C_ell")
    for flag in ("omega-m", "omega-b", "h", "n-s", "sigma8"):
        prior.add_argument(f"--{flag}", type=float, help="(default Planck 2018)")


def _add_demo(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="simulate a survey, map it, and compare with the truth",
        description="Simulate a survey with holes in it, write its catalogue, make the map as "
        "`jaxmap map` would, and say how well it recovers the truth.",
    )
    parser.add_argument("--out", metavar="DIR", default="jaxmap-demo", help="output folder")
    _add_estimator(parser.add_argument_group("estimator"), num_samples=100)
    _add_common(parser)


def _add_benchmark(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "benchmark",
        help="score methods on a case with a known truth",
        description="Solve CASE.npz (convergence, shear, noise_std, mask, pixel_arcmin, optional "
        "power_spectrum) on its own periodic grid with every method, and print how far each is "
        "from the truth: metric A (as in Table 1 of Remy et al.) and C (observed pixels, means "
        "removed).",
    )
    parser.add_argument("case", nargs="?", help="the case, an .npz file")
    parser.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        default=list(METHODS),
        help=f"comma-separated, of {','.join(METHODS)} (default all)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    _add_estimator(parser.add_argument_group("estimator"), num_samples=0)
    _add_prior(parser)
    _add_common(parser)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 0 to {2**32 - 1}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    """``N`` or ``NXxNY`` as ``(ny, nx)``."""
    sides = re.split("[x,]", text.lower())
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}; expected pixels N or NXxNY, each at least 1")
    return int(sides[-1]), int(sides[0])


def _pair(text: str) -> tuple[float, float]:
    try:
        ra, dec = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected RA,DEC in degrees") from None
    return ra, dec


def _mapping(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(role and name for role, _, name in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected ROLE=NAME,..., as in ra=ALPHA,e1=g1")
    return {role.strip(): name for role, _, name in pairs}


def _name_or_number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
