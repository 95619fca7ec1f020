"""What the commands do: read, map, measure, write, and say so in plain words."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap.benchmark import read_case, score, table
from jaxmap.catalog import ShearCatalog, ShearMap, bin_shear, measured_shape_noise
from jaxmap.cosmology import PLANCK18, Cosmology, convergence_power
from jaxmap.diagnostics import SignCheck, check_e2_sign
from jaxmap.field import grid_of_catalog
from jaxmap.mapfiles import atomic_path, write_mass_map, write_samples
from jaxmap.massmap import MassMap
from jaxmap.methods import build_estimator
from jaxmap.readers import read_shear
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.spectra import PowerSpectrum
from jaxmap.surveys import SURVEYS

OUTPUTS = ("mass_map.fits", "mass_map.png", "samples.nc", "config.toml")


def run_map(options: argparse.Namespace) -> int:
    """``jaxmap map``: from a catalogue to a mass map with errors."""
    if options.catalog is None:
        raise ValueError(
            "no catalogue given; expected `jaxmap map CATALOG` (or catalog in --config)"
        )
    out = Path(options.out or f"{Path(options.catalog).name.split('.')[0]}-map")
    _check_out(out)
    spectrum = _spectrum(options)
    catalog = read_shear(
        options.catalog,
        survey=None if options.survey == "auto" else SURVEYS[options.survey],
        columns=options.columns,
        flip_e1=bool(options.flip_e1),
        flip_e2=options.flip_e2,
        distortion=options.distortion,
        m=options.m,
        c1=options.c1,
        c2=options.c2,
        response=options.response,
        hdu=options.hdu,
        group=options.group,
        drop_invalid=options.drop_invalid,
    )
    grid = grid_of_catalog(catalog, options.pixel_arcmin, options.size, options.centre)
    shear = bin_shear(catalog, grid, options.shape_noise)
    signs = check_e2_sign(shear)
    estimator = build_estimator(
        options.method,
        spectrum,
        smoothing_arcmin=options.smoothing_arcmin,
        num_samples=options.num_samples,
        margin=options.margin,
        progress=_progress(options),
    )
    result = estimator(jax.random.key(options.seed), shear)
    provenance = _provenance(options, Path(options.catalog), len(catalog))
    written = _write(out, result, provenance, options)
    if not options.quiet:
        noise = options.shape_noise or np.mean(measured_shape_noise(catalog))
        print(_describe_input(catalog, shear, noise, options.catalog))
        print(_describe_signs(signs))
        print(_describe_map(result, options.method))
        print(f"Wrote {', '.join(str(out / name) for name in written)}.")
    if signs.looks_flipped:
        flag = "--no-flip-e2" if options.flip_e2 else "--flip-e2"
        print(
            f"jaxmap: warning: E modes stand {signs.flipped:.1f} sigma above B modes with the sign "
            f"of e2 changed, {signs.as_given:.1f} as given: e2 is probably flipped; try {flag}",
            file=sys.stderr,
        )
    return 0


def run_benchmark(options: argparse.Namespace) -> int:
    """``jaxmap benchmark``: score methods on a case of known truth."""
    if options.case is None:
        raise ValueError("no case given; expected `jaxmap benchmark CASE.npz`")
    case = read_case(options.case)
    spectrum = case.spectrum
    if spectrum is None or options.spectrum or options.nz:
        spectrum = _spectrum(options)
    estimators = {
        method: build_estimator(
            method,
            spectrum,
            smoothing_arcmin=options.smoothing_arcmin,
            num_samples=options.num_samples,
            margin=0,
            progress=_progress(options),
        )
        for method in options.methods
    }
    methods = score(case, estimators, jax.random.key(options.seed))
    if options.json:
        report = {"methods": methods, **_provenance(options, Path(options.case))}
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
    if not options.quiet:
        print(table(methods))
    return 0


def run_info(options: argparse.Namespace) -> int:
    """``jaxmap info``: versions, devices and defaults, for a bug report."""
    del options
    import astropy

    devices = ", ".join(str(device) for device in jax.devices())
    lines = {
        "jaxmap": jaxmap.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "astropy": astropy.__version__,
        "python": platform.python_version(),
        "devices": devices,
        "precision": "float64" if jax.config.jax_enable_x64 else "float32 (--x64 for float64)",
        "cosmology": f"Planck 2018, {PLANCK18}",
        "source redshifts": "COSMOS, unless --nz is given",
        "signs": "x = west, y = north; shear = P convergence, P = (l1 + i l2)^2 / l^2",
        "surveys": ", ".join(SURVEYS),
    }
    for name, value in lines.items():
        print(f"{name:<17}{value}")
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """``jaxmap demo``: simulate a survey, map it, compare with the truth."""
    from jaxmap.demo import demo

    out = Path(options.out)
    _check_out(out)
    spectrum = convergence_power()
    estimator = build_estimator(
        "wiener",
        spectrum,
        smoothing_arcmin=options.smoothing_arcmin,
        num_samples=options.num_samples,
        margin=None,
        progress=_progress(options),
    )
    result, catalog, shear, verdict = demo(jax.random.key(options.seed), spectrum, estimator)
    with _staged(out) as folder:
        _write_catalog(folder / "catalog.fits", catalog)
        _write_map_files(folder, result, _provenance(options, None), "simulated survey, Wiener")
    if not options.quiet:
        print(_describe_input(catalog, shear, np.mean(measured_shape_noise(catalog)), "simulation"))
        print(_describe_map(result, "wiener"))
        print(verdict)
        print(f"Wrote {out}/. Your own catalogue: jaxmap map CATALOG --out DIR")
    return 0


def _spectrum(options: argparse.Namespace) -> PowerSpectrum:
    changes = {
        name: value
        for name in ("omega_m", "omega_b", "h", "n_s", "sigma8")
        if (value := getattr(options, name)) is not None
    }
    if options.spectrum:
        if changes or options.nz:
            raise ValueError("--spectrum is complete in itself; leave out --nz and the cosmology")
        from jaxmap.spectra import read_power_spectrum

        return read_power_spectrum(options.spectrum)
    redshifts = read_redshift_distribution(options.nz) if options.nz else None
    defaults = {
        name: getattr(PLANCK18, name) for name in ("omega_m", "omega_b", "h", "n_s", "sigma8")
    }
    return convergence_power(redshifts, Cosmology(**{**defaults, **changes}))


def _progress(options: argparse.Namespace) -> Any:
    from tqdm import tqdm

    def with_bar(chunks: Iterable[int]) -> Iterable[int]:
        return tqdm(chunks, desc="posterior samples", disable=options.quiet, unit="chunk")

    return with_bar


def _check_out(out: Path) -> None:
    """Refuse an output folder that cannot be, before any work is done."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; expected a folder for --out")
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise ValueError(f"cannot write in {parent}; choose another folder with --out")


def _provenance(
    options: argparse.Namespace, source: Path | None, num_galaxies: int | None = None
) -> dict[str, Any]:
    """What made this output: settings, versions, and the hash of the input."""
    provenance: dict[str, Any] = {
        "command": options.command,
        "settings": _settings(options),
        "versions": {"jaxmap": jaxmap.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].platform,
    }
    if source is not None:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        provenance["input"] = {"path": str(source.absolute()), "sha256": digest}
    if num_galaxies is not None:
        provenance["num_galaxies"] = num_galaxies
    return provenance


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that, given as a configuration, repeat this run."""
    aside = ("command", "config", "quiet", "verbose", "out", "json")
    settings = {}
    for name, value in vars(options).items():
        if value is None or name in aside:
            continue
        if name in ("catalog", "case", "nz", "spectrum"):
            value = str(Path(value).absolute())
        elif name == "size":
            value = f"{value[1]}x{value[0]}"
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, dict):
            value = ",".join(f"{role}={column}" for role, column in value.items())
        settings[name] = value
    return settings


def _write(
    out: Path, result: MassMap, provenance: dict[str, Any], options: argparse.Namespace
) -> list[str]:
    with _staged(out) as folder:
        _write_map_files(
            folder, result, provenance, f"{Path(options.catalog).name}, {options.method}"
        )
        # JSON values of these kinds are TOML values too.
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in provenance["settings"].items())
        (folder / "config.toml").write_text("".join(lines))
        return sorted(path.name for path in folder.iterdir())


def _write_map_files(folder: Path, result: MassMap, provenance: dict[str, Any], title: str) -> None:
    from dataclasses import replace

    # The samples go to a file of their own, where one can be read without the others.
    write_mass_map(folder / "mass_map.fits", replace(result, samples=None), provenance)
    if result.samples is not None:
        write_samples(folder / "samples.nc", result, provenance)
    try:
        from jaxmap.plot import plot_mass_map

        plot_mass_map(result, title).savefig(folder / "mass_map.png", dpi=130)
    except ImportError as error:
        print(f"jaxmap: no picture: {error}", file=sys.stderr)


def _write_catalog(path: Path, catalog: ShearCatalog) -> None:
    from astropy.table import Table

    columns = {
        "ra": catalog.ra_deg,
        "dec": catalog.dec_deg,
        "e1": catalog.ellipticity.real,
        "e2": catalog.ellipticity.imag,
        "weight": catalog.weight,
    }
    Table(columns).write(path)


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder to write in, whose files move to ``out`` together once all are whole."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}-"))
    try:
        yield folder
        out.mkdir(exist_ok=True)
        new = {path.name for path in folder.iterdir()}
        for stale in set(OUTPUTS) - new:
            (out / stale).unlink(missing_ok=True)
        for name in new:
            os.replace(folder / name, out / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _describe_input(catalog: ShearCatalog, shear: ShearMap, shape_noise: float, source: str) -> str:
    ny, nx = shear.grid.shape
    assert shear.counts is not None and shear.grid.centre_deg is not None
    counts = np.asarray(shear.counts)
    observed = counts > 0
    ra, dec = shear.grid.centre_deg
    density = counts.sum() / (observed.sum() * shear.grid.pixel_arcmin**2)
    return (
        f"{len(catalog):,} galaxies from {source}, {int(counts.sum()):,} of them in the field "
        f"({density:.1f} per arcmin2 observed, shape noise {shape_noise:.3f} per component).\n"
        f"Field: {nx} x {ny} pixels of {shear.grid.pixel_arcmin:g} arcmin around RA {ra:.4f}, "
        f"Dec {dec:+.4f}; {observed.mean():.0%} of the pixels hold galaxies."
    )


def _describe_signs(signs: SignCheck) -> str:
    return (
        f"Signs: E modes exceed B modes by {signs.as_given:.1f} sigma as given, "
        f"{signs.flipped:.1f} sigma with e2 flipped."
    )


def _describe_map(result: MassMap, method: str) -> str:
    mask = np.asarray(result.mask)
    convergence = np.asarray(result.convergence)
    lines = [f"Convergence ({method}): rms {convergence[mask].std():.4f}"]
    if result.b_mode is not None:
        lines[0] += f", B mode {np.asarray(result.b_mode)[mask].std():.4f}"
    if result.std is not None:
        std, snr = np.asarray(result.std), np.asarray(result.signal_to_noise)
        row, column = np.unravel_index(np.argmax(np.where(mask, snr, -np.inf)), mask.shape)
        place = ""
        if result.grid.centre_deg is not None:
            ra, dec = result.grid.wcs().all_pix2world(column, row, 0)
            place = f" at RA {float(ra):.4f}, Dec {float(dec):+.4f}"
        lines[0] += f", error {np.sqrt(np.mean(std[mask] ** 2)):.4f} per pixel"
        lines.append(
            f"Highest S/N: {snr[row, column]:.1f}{place} "
            f"(convergence {convergence[row, column]:.3f} +- {std[row, column]:.3f})."
        )
    lines[0] += "."
    if result.samples is not None:
        lines.append(f"{len(result.samples)} posterior samples drawn.")
    return "\n".join(lines)
