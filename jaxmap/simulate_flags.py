"""Flags of ``jaxmap simulate``; only the standard library is imported here."""

from __future__ import annotations

import argparse
from typing import Any

from jaxmap.flags import (
    add_action,
    add_common,
    add_cosmology,
    add_reading,
    numbers,
    pair,
    size,
    whole,
)

KINDS = ("light-cone", "lognormal", "gaussian")
BARYONS = ("default", "tng", "none")
PRESETS = ("cosmos", "euclid", "lsst", "kids", "hsc", "cluster")


def add_simulate(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "simulate",
        help="simulate convergence maps and surveys of galaxies",
        description="Simulate convergence maps, or what a survey would see of them.",
    )
    products = parser.add_subparsers(dest="command", metavar="PRODUCT", required=True)
    _add_maps(products)
    _add_survey(products)


def _add_maps(subparsers: Any) -> None:
    parser = add_action(
        subparsers,
        "simulate maps",
        "convergence maps in HDF5",
        "Simulate convergence maps into a folder of HDF5 files. A map depends on the "
        "settings and its number alone, so runs can be interrupted and completed with --resume, "
        "or shared between machines by --first.",
    )
    _add_production(parser, "maps", "jaxmap-maps")
    group = parser.add_argument_group("maps")
    group.add_argument(
        "--size", type=size, default=(360, 360), help="pixels: N or NXxNY (default 360)"
    )
    group.add_argument("--pixel-arcmin", type=float, default=0.29, help="pixel side (default 0.29)")
    _add_sky(group)
    _add_matter(parser)
    add_common(parser, "simulate_command.run_maps")


def _add_survey(subparsers: Any) -> None:
    parser = add_action(
        subparsers,
        "simulate survey",
        "fields of a mock survey: catalogue, convergence, shear",
        "Simulate fields of a survey into a folder, each with catalog.fits (galaxies), "
        "convergence.fits (the truth) and shear.fits. A field depends on the settings and its "
        "number alone, so runs can be interrupted and completed with --resume, or shared between "
        "machines by --first.",
    )
    _add_production(parser, "fields", "jaxmap-survey")
    group = parser.add_argument_group("survey", "defaults are those of the preset")
    group.add_argument("--preset", choices=PRESETS, help="a survey to imitate")
    group.add_argument(
        "--galaxies",
        metavar="CATALOG",
        help="instead of random galaxies those of a catalogue: their places, weights, redshifts "
        "and shapes, each turned at random; in the pixels that `jaxmap map` gives them",
    )
    group.add_argument("--density", type=float, help="galaxies per square arcminute")
    group.add_argument("--shape-noise", type=float, metavar="SIGMA_E", help="per component")
    group.add_argument(
        "--measurement-error",
        type=float,
        metavar="SIGMA_M",
        help="of the faintest galaxies, per component; others by their magnitudes; 0 for none",
    )
    group.add_argument(
        "--magnitudes",
        type=numbers("BRIGHT,PEAK,FAINT"),
        metavar="BRIGHT,PEAK,FAINT",
        help="of the brightest, the most frequent and the faintest galaxies",
    )
    group.add_argument("--m", type=float, help="multiplicative bias")
    group.add_argument("--c1", type=float, help="additive bias of e1")
    group.add_argument("--c2", type=float, help="additive bias of e2")
    group.add_argument(
        "--reduced",
        action=argparse.BooleanOptionalAction,
        help="galaxies show the reduced shear (default), or the shear itself",
    )
    group.add_argument(
        "--size", type=size, help="pixels: N or NXxNY (default: of preset, galaxies or mask; 360)"
    )
    group.add_argument(
        "--pixel-arcmin", type=float, help="pixel side (default: as of the size; 0.29)"
    )
    _add_holes(parser.add_argument_group("holes"))
    add_reading(parser.add_argument_group("reading of --galaxies"))
    wide = parser.add_argument_group(
        "wide survey",
        "one catalogue of any area in parts, behind a Gaussian convergence on the curved sky, "
        "instead of fields",
    )
    wide.add_argument("--area", type=float, metavar="DEG2", help="square degrees")
    wide.add_argument(
        "--lmax", type=whole, default=2000, help="largest multipole with power (default 2000)"
    )
    group.add_argument("--centre", type=pair, metavar="RA,DEC", help="degrees (default 150,2)")
    _add_sky(parser.add_argument_group("simulation"))
    _add_matter(parser)
    add_common(parser, "simulate_command.run_survey")


def _add_holes(group: Any) -> None:
    group.add_argument(
        "--mask-from",
        metavar="FILE",
        help="take pixels and mask of a benchmark case (.npz) or shear map (.fits), instead of the "
        "border and stars of the preset",
    )
    group.add_argument("--border-arcmin", type=float, help="empty rim of the field")
    group.add_argument(
        "--stars",
        type=float,
        metavar="DENSITY",
        help="bright stars per square arcminute, at random places; 0 for none",
    )
    group.add_argument(
        "--star-radius",
        type=numbers("LEAST,MOST"),
        metavar="LEAST,MOST",
        help="of the circles around them, arcminutes (default 0.5,2)",
    )
    group.add_argument(
        "--star-spikes",
        type=numbers("LENGTH,WIDTH"),
        metavar="LENGTH,WIDTH",
        help="length and half width of their spikes, in radii of the star (default: no spikes)",
    )


def _add_production(parser: argparse.ArgumentParser, product: str, out: str) -> None:
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG.toml",
        default=argparse.SUPPRESS,
        help="settings, as --config",
    )
    parser.add_argument("--num", type=whole, help=f"how many {product}")
    parser.add_argument(
        "--first", type=whole, default=0, help="number of the first (default 0), to share the work"
    )
    parser.add_argument("--out", metavar="DIR", default=out, help=f"output folder (default {out})")
    parser.add_argument(
        "--resume", action="store_true", help="complete or extend what the folder holds"
    )


def _add_sky(group: Any) -> None:
    group.add_argument(
        "--kind", choices=KINDS, default="light-cone", help="of simulation (default light-cone)"
    )
    group.add_argument(
        "--sky",
        type=size,
        metavar="N",
        help="pixels of the periodic simulation that maps are cut from (default: twice the size)",
    )
    group.add_argument(
        "--lognormal-shift",
        type=float,
        metavar="KAPPA",
        help="lognormal: minus the lowest convergence (default 0.045)",
    )


def _add_matter(parser: argparse.ArgumentParser) -> None:
    matter = parser.add_argument_group("matter and sources")
    matter.add_argument(
        "--nz",
        metavar="FILE",
        help="source redshifts: columns z, n (default COSMOS)",
    )
    matter.add_argument(
        "--baryons",
        choices=BARYONS,
        default="default",
        help="what gas and stars do to small scales: default (X-ray gas fractions), tng, none",
    )
    add_cosmology(matter)
