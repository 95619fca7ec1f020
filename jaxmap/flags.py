"""Flags that several commands share, and how their values are read.

Only the standard library is imported here, so that ``jaxmap --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

SHIPPED = ("ks", "ksplus", "wiener", "glimpse", "mcalens", "deepmass", "dlposterior")
METHODS = (*SHIPPED, "gan", "hong")  # weights of the user's own, or pixels of its own
NETWORKS = ("deepmass", "dlposterior", "gan", "hong")
SAMPLERS = ("eps", "gibbs", "hmc", "hmc-fast", "map")
SURVEYS = ("auto", "generic", "cosmos", "des_y3", "kids", "hsc_y1", "hsc", "euclid", "txpipe")
NOISES = ("weights", "residuals")
NUM_SAMPLES = {"wiener": 100, "dlposterior": 32, "gan": 32}
"""Samples that a method draws unless told otherwise."""
COSMOLOGY = ("omega_m", "omega_b", "h", "n_s", "sigma8")

_USERS = {
    "num_samples": (None, tuple(NUM_SAMPLES)),
    "smoothing_arcmin": (1.0, ("ks", "ksplus")),
    "threshold": (None, ("glimpse", "mcalens")),
    "reduced_shear": (0, ("ksplus", "glimpse")),
    "sampler": ("eps", ("dlposterior",)),
    "num_steps": (None, ("dlposterior",)),
}
"""Default of the flags of `add_estimator`, and the methods that know them."""


def add_common(parser: argparse.ArgumentParser, run: str) -> None:
    """Flags of every command, and the function that does its work.

    Args:
        parser: of the command.
        run: ``module.function`` in `jaxmap`, imported when the command is given.
    """
    parser.set_defaults(run=run)
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE.toml", help="settings, named as the flags here")
    general.add_argument("--seed", type=whole, default=0, help="random seed (default 0)")
    general.add_argument("--x64", action="store_true", help="compute in float64")
    add_general(general)


def add_action(
    subparsers: Any, command: str, summary: str, description: str
) -> argparse.ArgumentParser:
    """The parser of a command of two words, such as ``simulate maps``."""
    parser = subparsers.add_parser(command.split()[-1], help=summary, description=description)
    parser.set_defaults(command=command)
    return parser


def add_estimator(group: argparse._ArgumentGroup) -> None:
    """Flags of `jaxmap.methods.build_estimator`."""
    group.add_argument(
        "--num-samples",
        type=whole,
        help="posterior samples (default: 100 of wiener, 32 of dlposterior and gan)",
    )
    group.add_argument(
        "--smoothing-arcmin",
        type=float,
        default=_USERS["smoothing_arcmin"][0],
        help="ks, ksplus: Gaussian sigma (default 1)",
    )
    group.add_argument(
        "--threshold",
        type=float,
        help="glimpse, mcalens: of the wavelets, in sigma of the noise (default 5 and 4)",
    )
    group.add_argument(
        "--reduced-shear",
        type=whole,
        default=0,
        metavar="N",
        help="ksplus, glimpse: take shapes for reduced shear, and correct that N times with the "
        "map found before (default 0: take them for shear)",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="trained network: of deepmass, dlposterior and hong (default: the "
        "shipped one) or gan, which needs one; deepmass takes one for a single survey too, hong "
        "several with commas between them; where several methods take one, METHOD=FILE,...",
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="eps",
        help="dlposterior: eps, diffusion with the exact posterior score (default); gibbs, slow, "
        "exact for a known prior; hmc, annealed HMC with the schedule of Remy et al. (hours on a "
        "CPU); hmc-fast, preconditioned chains of the posterior's own convolutions; map, the most "
        "probable map instead of samples",
    )
    group.add_argument(
        "--num-steps",
        type=whole,
        help="eps: network evaluations per sample, one of them shared by all (default 12); gibbs: "
        "sweeps (default 16)",
    )


def unused_flags(options: argparse.Namespace, chosen: Sequence[str]) -> list[str]:
    """What flags of `add_estimator` say that none of the chosen methods listens to, in words."""
    found = []
    for name, (default, users) in _USERS.items():
        value = getattr(options, name, default)
        if value != default and not set(users) & set(chosen):
            flag = f"--{name.replace('_', '-')}"
            found.append(f"{flag} {value} is for {', '.join(users)}, not {', '.join(chosen)}")
    return found


def add_catalog(parser: argparse.ArgumentParser) -> None:
    """Flags of `jaxmap.reading.readers.read_shear`, and the shape noise."""
    catalog = parser.add_argument_group("catalogue")
    add_reading(catalog)
    for component in ("e1", "e2"):
        catalog.add_argument(
            f"--flip-{component}",
            action=argparse.BooleanOptionalAction,
            help=f"change the sign of {component} (default: as the survey needs)",
        )
    catalog.add_argument("--m", type=float, help="multiplicative bias")
    catalog.add_argument("--c1", type=float, help="additive bias of e1")
    catalog.add_argument("--c2", type=float, help="additive bias of e2")
    catalog.add_argument(
        "--shape-noise", type=float, metavar="SIGMA_E", help="per component (default: measured)"
    )


def add_reading(catalog: argparse._ArgumentGroup) -> None:
    """Flags of the columns of a catalogue, and of what they mean."""
    catalog.add_argument(
        "--survey", choices=SURVEYS, default="auto", help="columns and conventions (default auto)"
    )
    catalog.add_argument(
        "--columns", type=mapping, metavar="ROLE=NAME,...", help="e.g. ra=ALPHA,dec=DELTA,e1=g1"
    )
    catalog.add_argument("--hdu", type=name_or_number, help="FITS extension, name or number")
    catalog.add_argument("--group", help="HDF5 group, e.g. catalog/unsheared")
    catalog.add_argument(
        "--distortion",
        action=argparse.BooleanOptionalAction,
        help="shapes are (a^2-b^2)/(a^2+b^2) (default: as the survey says)",
    )
    catalog.add_argument("--response", type=float, help="shear response to divide by")
    catalog.add_argument(
        "--drop-invalid", action="store_true", help="drop rows that are not finite"
    )


def add_prior(parser: argparse.ArgumentParser) -> None:
    """Flags of the power spectrum of the prior."""
    prior = parser.add_argument_group("prior", "the power spectrum of the convergence")
    prior.add_argument(
        "--nz", metavar="FILE", help="source redshifts: columns z, n (default COSMOS)"
    )
    prior.add_argument("--spectrum", metavar="FILE", help="instead, a table of ell and C_ell")
    add_cosmology(prior)


def add_general(group: argparse._ArgumentGroup) -> None:
    """What every command has."""
    group.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        help="the same bits in every run on one machine (default: on a CPU, where each operation "
        "then has one thread; on a GPU it costs time)",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    group.add_argument("-v", "--verbose", action="store_true", help="say more, with tracebacks")


def add_cosmology(group: argparse._ArgumentGroup) -> None:
    for name in COSMOLOGY:
        flag = name.replace("_", "-")
        group.add_argument(f"--{flag}", type=float, help="(default Planck 2018)")


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 0 to {2**32 - 1}")
    return int(text)


def methods(text: str) -> list[str]:
    """Names of methods with commas between them; ``all`` stands for `SHIPPED`."""
    words = [word.strip() for word in text.split(",")]
    names = [name for word in words for name in (SHIPPED if word == "all" else (word,))]
    if not set(names) <= set(METHODS) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected one or more of {', '.join(METHODS)}, each once with commas "
            f"between them, or all, which is {','.join(SHIPPED)}"
        )
    return names


def weights_of(text: str | None, chosen: Sequence[str]) -> dict[str, str]:
    """Files of trained networks by method, from ``FILE`` or ``METHOD=FILE,...``.

    Args:
        text: value of ``--weights``.
        chosen: methods that are run; a ``FILE`` is of the one of them that takes one.

    Returns:
        Absolute paths (of ``hong`` perhaps several, with commas between them).

    Raises:
        ValueError: where it is not clear which method a file is of, or that method takes none.
    """
    if text is None:
        return {}
    first, *named = re.split(rf"(?:^|,)\s*({'|'.join(METHODS)})=", text)
    names, files = named[::2], named[1::2]
    takers = [name for name in chosen if name in NETWORKS]
    remedy = "leave --weights out"
    if takers:
        remedy = f"write --weights {','.join(f'{name}=FILE' for name in takers)}, or some of it"
    if not names:
        if len(takers) != 1:
            whose = f"{' and '.join(takers)} take weights" if takers else "none takes weights"
            raise ValueError(
                f"--weights {text} does not say of which method it is: of {', '.join(chosen)} "
                f"{whose}; {remedy}"
            )
        names, files = takers, [first]
    elif first or not all(files) or len(set(names)) < len(names):
        raise ValueError(f"--weights is {text!r}; expected a file for a method, once: {remedy}")
    elif stray := sorted(set(names) - set(takers)):
        raise ValueError(
            f"--weights names {', '.join(stray)}; expected methods that are run and take weights, "
            f"{', '.join(takers) or 'of which there are none'}: {remedy}"
        )
    return {name: _absolute(name, file) for name, file in zip(names, files, strict=True)}


def _absolute(method: str, file: str) -> str:
    parts = file.split(",") if method == "hong" else [file]
    return ",".join(os.path.abspath(os.path.expanduser(part)) for part in parts)


def size(text: str) -> tuple[int, int]:
    """``N`` or ``NXxNY`` as ``(ny, nx)``."""
    sides = re.split("[x,]", text.lower())
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}; expected pixels N or NXxNY, each at least 1")
    return int(sides[-1]), int(sides[0])


def pair(text: str) -> tuple[float, float]:
    try:
        ra, dec = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected RA,DEC in degrees") from None
    return ra, dec


def numbers(names: str) -> Callable[[str], tuple[float, ...]]:
    """Reader of numbers with commas between them, as many as names: ``LEAST,MOST``."""

    def read(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != len(names.split(",")):
            raise argparse.ArgumentTypeError(f"{text!r}; expected numbers {names}")
        return values

    return read


def mapping(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(role and name for role, _, name in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected ROLE=NAME,..., as in ra=ALPHA,e1=g1")
    return {role.strip(): name for role, _, name in pairs}


def name_or_number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
