"""Flags of ``jaxmap detect``; only the standard library is imported here."""

from __future__ import annotations

from typing import Any

from jaxmap.flags import add_common, add_cosmology


def add_detect(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "detect",
        help="find clusters in a mass map or its posterior samples",
        description="Filter posterior samples (samples.nc, or a folder that `jaxmap map` wrote) by "
        "the starlet aperture mass, find their peaks, and write detections.ecsv (positions with "
        "errors, probability of being there, S/N, convergence and mass in an aperture) and "
        "detections.reg (for DS9). A map without samples (mass_map.fits) is searched too, but "
        "tells no probabilities and no errors.",
    )
    parser.add_argument(
        "map",
        nargs="?",
        metavar="MAP_OR_SAMPLES",
        help="samples.nc, mass_map.fits, or the folder of both",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="output folder (default: that of the map or samples)"
    )
    peaks = parser.add_argument_group("peaks")
    peaks.add_argument(
        "--scale-arcmin",
        type=float,
        default=2.0,
        help="size of the starlet filter, to the nearest 2, 4, 8 ... pixels (default 2)",
    )
    peaks.add_argument(
        "--threshold",
        type=float,
        default=3.0,
        help="least height, in standard deviations of the background (default 3)",
    )
    peaks.add_argument(
        "--background",
        type=float,
        metavar="SIGMA",
        help="standard deviation of filtered skies without clusters (default: the robust one of "
        "the samples)",
    )
    peaks.add_argument(
        "--radius-arcmin",
        type=float,
        help="peaks of samples this close belong together (default: half the filter's size)",
    )
    peaks.add_argument(
        "--min-probability",
        type=float,
        default=0.5,
        help="leave out detections that are less probable (default 0.5)",
    )
    peaks.add_argument(
        "--periodic", action="store_true", help="the map is periodic, as simulated ones may be"
    )
    mass = parser.add_argument_group("mass")
    mass.add_argument(
        "--aperture-arcmin",
        type=float,
        default=2.0,
        help="radius of the aperture for convergence and mass (default 2)",
    )
    mass.add_argument(
        "--z-lens", type=float, help="redshift of the clusters, for masses in solar masses"
    )
    mass.add_argument(
        "--nz",
        metavar="FILE",
        help="source redshifts: columns z, n (default: those the map was made for, or COSMOS)",
    )
    mass.add_argument("--z-source", type=float, help="instead, one redshift of all sources")
    add_cosmology(mass)
    match = parser.add_argument_group("catalogue")
    match.add_argument(
        "--match",
        metavar="FILE",
        help="clusters to look for among the detections: columns ra, dec in degrees",
    )
    match.add_argument(
        "--match-arcmin", type=float, default=1.0, help="largest separation (default 1)"
    )
    add_common(parser, "detect_command.run_detect")
