"""What ``jaxmap detect`` does: read a map or samples, find peaks, write them, and say so."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from jaxmap.clusters.aperture import scale_of
from jaxmap.clusters.detection import Detections, detect
from jaxmap.clusters.matching import match_positions
from jaxmap.clusters.tables import aperture_masses, detection_table, write_regions
from jaxmap.commands import cosmology_of
from jaxmap.cosmology import mean_inverse_critical_density
from jaxmap.grid import Grid
from jaxmap.machine import check_memory
from jaxmap.mapfiles import SAMPLES_SUFFIXES, read_mass_map, read_provenance, read_samples
from jaxmap.outputs import DETECTION_FILES, input_files, origin, staged
from jaxmap.redshifts import (
    RedshiftDistribution,
    cosmos_redshifts,
    read_redshift_distribution,
    redshift_distribution,
)
from jaxmap.two_columns import read_two_columns

_COPIES = 3
"""Of the samples, held at once beside them: on the device as given and filtered, and room."""

_SEARCHED = ("samples.nc", "mass_map.fits")

_RA_NAMES = {"ra", "raj2000", "alphaj2000", "radeg", "raicrs", "rightascension", "alpha"}
_DEC_NAMES = {
    "dec",
    "decj2000",
    "dej2000",
    "deltaj2000",
    "decdeg",
    "deicrs",
    "declination",
    "delta",
}


def run_detect(options: argparse.Namespace) -> int:
    """``jaxmap detect``: clusters in a map or in posterior samples."""
    if options.map is None:
        raise ValueError(
            "nothing given to search; expected `jaxmap detect MAP_OR_SAMPLES` (samples.nc, "
            "mass_map.fits or their folder)"
        )
    source = _source(Path(options.map))
    if options.z_lens is not None and options.z_source is None:
        options.nz = options.nz or _nz_of_map(source)
    out = Path(options.out) if options.out else source.parent
    inputs = [source, *input_files(options), options.config]
    with staged(out, DETECTION_FILES, inputs) as folder:
        in_folder = Path(options.map).is_dir()
        samples, grid, observed = _read(source, in_folder)
        check_memory(
            _COPIES * samples.nbytes,
            f"a search of {len(samples)} maps of {grid.shape[1]} x {grid.shape[0]} pixels",
            "search fewer samples, or use a larger machine",
        )
        scale = scale_of(options.scale_arcmin, grid)
        critical = _inverse_critical(options)
        wanted = _catalogue(options, grid)
        found = detect(
            samples,
            grid,
            scale=scale,
            threshold=options.threshold,
            background=options.background,
            radius_arcmin=options.radius_arcmin,
            least_probability=options.min_probability,
            aperture_arcmin=options.aperture_arcmin,
            periodic=options.periodic,
        )
        mass = None
        if critical is not None:
            mass = aperture_masses(found, options.z_lens, critical, cosmology_of(options))
        record = origin(options, source, others=_beside(source) if in_folder else ())
        table = detection_table(found, mass=mass, observed=observed, meta={"jaxmap": record})
        matched = None
        if wanted is not None:
            limit = options.match_arcmin / grid.pixel_arcmin
            partner, separation = match_positions(found.x, found.y, *wanted, limit)
            table["match"] = np.ma.masked_less(partner, 0)
            table["match_separation"] = np.ma.masked_invalid(separation * grid.pixel_arcmin * 60)
            table["match_separation"].unit = "arcsec"
            matched = int(np.sum(partner >= 0))
        table.write(folder / "detections.ecsv", format="ascii.ecsv")
        write_regions(folder / "detections.reg", found, options.scale_arcmin, record)
    if not options.quiet:
        print(describe_detections(found))
        if mass is not None and options.z_source is None:
            print(f"Masses: for sources with the n(z) of {options.nz or 'COSMOS (yours: --nz)'}.")
        if wanted is not None:
            inside = int(np.sum(_on_map(*wanted, grid)))
            print(
                f"Of {len(wanted[0])} objects in {options.match}, {inside} on the map, {matched} "
                f"lie within {options.match_arcmin:g} arcmin of a detection."
            )
        print(f"Wrote {', '.join(str(out / name) for name in DETECTION_FILES)}.")
    return 0


def describe_detections(found: Detections) -> str:
    """What was found, in plain words."""
    size = 2**found.scale * found.grid.pixel_arcmin
    from_what = f"{found.num_samples} posterior samples" if found.num_samples > 1 else "one map"
    lines = [
        f"{len(found)} peak{'s' * (len(found) != 1)} in {from_what}, filtered at {size:.2g} arcmin "
        f"(2^{found.scale} pixels); standard deviation of the background {found.background:.4g}."
    ]
    if found.num_samples == 1:
        lines.append("A map tells no probabilities; posterior samples do (samples.nc).")
    elif len(found):
        lines.append(
            f"Most probable: {found.probability[0]:.0%} of the samples, S/N {found.snr[0]:.1f}; "
            f"{int(np.sum(found.probability >= 0.95))} with 95 % or more, "
            f"{np.sum(found.probability):.1f} expected to be there in all."
        )
    if not len(found):
        lines.append("Wider or narrower ones: --scale-arcmin; less certain ones: --threshold.")
    return "\n".join(lines)


def _source(given: Path) -> Path:
    if not given.is_dir():
        return given
    for name in _SEARCHED:
        if (given / name).is_file():
            return given / name
    inside = sorted({str(path.parent) for name in _SEARCHED for path in given.glob(f"*/{name}")})
    which = f"one of those of its methods, {', '.join(inside)}" if inside else "of one method"
    raise ValueError(
        f"{given} holds neither {' nor '.join(_SEARCHED)}; expected a folder that `jaxmap map` "
        f"wrote, {which}, or a file of either kind"
    )


def _beside(samples: Path) -> list[Path]:
    """The map beside samples, from which the mask is taken."""
    return [samples.with_name("mass_map.fits")]


def _read(source: Path, in_folder: bool) -> tuple[np.ndarray, Grid, np.ndarray | None]:
    """Samples or the map as one, their grid, and the mask where it is known."""
    if not source.is_file():
        raise FileNotFoundError(f"no file {source}; expected samples.nc, mass_map.fits or a folder")
    if source.suffix in SAMPLES_SUFFIXES:
        samples, grid = read_samples(source)
        (beside,) = _beside(source)
        mask = None
        if in_folder and beside.is_file():
            result = read_mass_map(beside)
            mask = np.asarray(result.mask) if result.grid == grid else None
        return samples, grid, mask
    result = read_mass_map(source)
    maps = result.convergence[None] if result.samples is None else result.samples
    return np.asarray(maps), result.grid, np.asarray(result.mask)


def _nz_of_map(source: Path) -> str | None:
    """The n(z) that a map was made for, where its record names one.

    Raises:
        ValueError: if that file is no longer there.
    """
    try:
        named = read_provenance(source)["settings"].get("nz")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(named, str):
        return None
    if not Path(named).is_file():
        raise ValueError(
            f"the map was made for the n(z) of {named}, which is no longer there; say where it is "
            "now (--nz), or give one redshift (--z-source)"
        )
    return named


def _inverse_critical(options: argparse.Namespace) -> float | None:
    if options.z_lens is None:
        if options.nz or options.z_source is not None:
            raise ValueError("source redshifts without a lens; give the clusters' --z-lens too")
        return None
    if options.nz and options.z_source is not None:
        raise ValueError("both --nz and --z-source are given; expected one of them")
    if not 0 < options.z_lens < np.inf:
        raise ValueError(f"the redshift of the lens is {options.z_lens}; expected one above 0")
    redshifts: RedshiftDistribution
    if options.z_source is not None:
        redshifts = redshift_distribution(options.z_source)
    else:
        redshifts = read_redshift_distribution(options.nz) if options.nz else cosmos_redshifts()
    mean = float(mean_inverse_critical_density(options.z_lens, redshifts, cosmology_of(options))[0])
    if not mean > 0:
        raise ValueError(
            f"no source lies behind the lens at redshift {options.z_lens}; expected some (--nz, "
            "--z-source)"
        )
    return mean


def _catalogue(options: argparse.Namespace, grid: Grid) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions to match in pixels."""
    if options.match is None:
        return None
    if grid.centre_deg is None:
        raise ValueError("the map is not on the sky; expected one with a centre for --match")
    if not 0 < options.match_arcmin < np.inf:
        raise ValueError(f"--match-arcmin is {options.match_arcmin}; expected a number above 0")
    ra, dec = read_two_columns(options.match, _RA_NAMES, _DEC_NAMES, "RA and Dec in degrees")
    if np.any(~np.isfinite(ra) | (np.abs(dec) > 90) | ~np.isfinite(dec)):
        raise ValueError(
            f"{options.match} holds positions that are not on the sky; expected degrees, finite, "
            "Dec from -90 to 90"
        )
    x, y = grid.pixel_position(ra, dec)
    return x, y


def _on_map(x: np.ndarray, y: np.ndarray, grid: Grid) -> np.ndarray:
    ny, nx = grid.shape
    with np.errstate(invalid="ignore"):
        return (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
