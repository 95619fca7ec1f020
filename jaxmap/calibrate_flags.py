"""Flags of ``jaxmap calibrate``; only the standard library is imported here."""

from __future__ import annotations

from typing import Any

from jaxmap.flags import SAMPLERS, add_common, add_cosmology, size, whole
from jaxmap.simulate_flags import BARYONS, PRESETS

SAMPLING = ("dlposterior", "wiener", "gan")
METHODS = (*SAMPLING, "ks", "ksplus", "glimpse", "mcalens", "deepmass")
SKIES = {"halo": "light-cone", "lognormal": "lognormal", "gaussian": "gaussian"}


def add_calibrate(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="test posterior samples on simulated surveys of known truth",
        description="Simulate surveys, draw posterior samples of each, and report whether the "
        "truth looks like one more sample: coverage of pixels and Fourier bands, TARP, SBC ranks "
        "of band powers, peaks and skewness, chi-squared, spread against error. Writes report.json "
        "and calibration.png. A run that was stopped goes on with the same command; more fields "
        "can be added with a larger --num. With --conformal, for methods without samples too: "
        "learn from the simulated surveys how wide intervals must be to cover the truth, for "
        "`jaxmap map --conformal`.",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="dlposterior",
        help="estimator (default dlposterior); those without samples need --conformal",
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="eps",
        help="dlposterior: sampler (default eps); map needs --conformal",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="trained network: of dlposterior (default: the shipped one), or gan, which needs one",
    )
    parser.add_argument(
        "--num-samples",
        type=whole,
        default=39,
        help="posterior samples of each field, 9 at least (default 39, whose ranks resolve 95 %% "
        "in all pixels; 79 in predicted strata too, which half of them choose)",
    )
    parser.add_argument("--num", type=whole, default=100, help="fields (default 100), 2 at least")
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="jaxmap-calibration",
        help="output folder (default jaxmap-calibration)",
    )
    intervals = parser.add_argument_group("intervals instead of a report")
    intervals.add_argument(
        "--conformal",
        metavar="FILE.npz",
        help="write here how wide intervals must be; fields are then cut from a larger sky, as "
        "with --cut. The promise holds for surveys like the simulated ones: give your own mask and "
        "noise (--mask-from), pixels and sources",
    )
    intervals.add_argument(
        "--level", type=float, default=0.68, help="share of pixels to cover (default 0.68)"
    )
    intervals.add_argument(
        "--per-pixel",
        action="store_true",
        help="a width for every position, for maps of exactly this mask (default: one for all "
        "observed pixels, one for all masked ones)",
    )
    field = parser.add_argument_group("simulated fields")
    field.add_argument(
        "--preset",
        choices=PRESETS,
        default="cosmos",
        help="survey to imitate: pixels, noise, holes, sources (default cosmos)",
    )
    field.add_argument(
        "--mask-from",
        metavar="FILE",
        help="take pixels, mask and noise of a benchmark case (.npz) or shear map (.fits) instead",
    )
    field.add_argument(
        "--size", type=size, help="pixels: N or NXxNY (default 240; with --mask-from, all)"
    )
    field.add_argument(
        "--sky", choices=SKIES, default="halo", help="simulated matter (default halo)"
    )
    field.add_argument(
        "--cut",
        action="store_true",
        help="cut fields from a sky twice as wide, as real ones are; by default they are periodic, "
        "which is a stricter test of the sampler and lets chi-squared be judged",
    )
    field.add_argument(
        "--reduced",
        action="store_true",
        help="galaxies show the reduced shear, which estimators do not model",
    )
    field.add_argument(
        "--threshold",
        type=float,
        help="glimpse, mcalens: of the wavelets, in sigma of the noise (default 5 and 4)",
    )
    field.add_argument(
        "--smoothing-arcmin",
        type=float,
        default=1.0,
        help="Gaussian sigma of ks, and before peaks and skewness (default 1)",
    )
    matter = parser.add_argument_group("matter and sources")
    matter.add_argument(
        "--nz", metavar="FILE", help="source redshifts: columns z, n (default: the preset's)"
    )
    matter.add_argument(
        "--baryons", choices=BARYONS, default="default", help="as in `jaxmap simulate`"
    )
    add_cosmology(matter)
    add_common(parser, "calibrate_command.run_calibrate")
