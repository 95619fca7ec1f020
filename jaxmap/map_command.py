"""What ``jaxmap map`` does: read, map, measure, write, and say so in plain words."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import bin_shear, measured_shape_noise
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.commands import (
    catalog_options,
    estimator_settings,
    pixel_of_network,
    spectrum_of,
)
from jaxmap.conformal import Conformal, read_conformal
from jaxmap.diagnostics import check_e2_sign
from jaxmap.estimators import (
    Estimator,
    HongCNN,
    Resampled,
)
from jaxmap.estimators.memory import check_map_memory
from jaxmap.footprint import grid_of_catalog
from jaxmap.galaxies import galaxy_shear
from jaxmap.grid import Grid
from jaxmap.machine import check_disk
from jaxmap.massmap import MassMap
from jaxmap.methods import build_estimator, kept_samples, method_identity
from jaxmap.null_tests import check_realisations, random_sign_map, run_null_tests
from jaxmap.outputs import (
    MAP_FILES,
    kept_if_interrupted,
    origin,
    partial_samples,
    staged,
    write_config,
    write_map_files,
)
from jaxmap.progress import with_bar
from jaxmap.reading.readers import read_shear
from jaxmap.spectra import PowerSpectrum
from jaxmap.summary import (
    describe_input,
    describe_map,
    describe_null_tests,
    describe_signs,
    describe_sources,
)

NULL_KEY = 0x4E554C4C
"""Folded into the seed's key: null tests share no random number with the map."""


def run_map(options: argparse.Namespace) -> int:
    """``jaxmap map``: from a catalogue to a mass map with errors."""
    if options.catalog is None:
        raise ValueError(
            "no catalogue given; expected `jaxmap map CATALOG` (or catalog in --config)"
        )
    out = Path(options.out or default_out(options.catalog))
    given = ("catalog", "nz", "spectrum", "weights", "config", "conformal")
    inputs = [getattr(options, name) for name in given]
    if options.null_tests:
        check_realisations(options.null_tests)
    _check_unbinned(options)
    bounds = read_conformal(options.conformal) if options.conformal else None
    with staged(out, (*MAP_FILES, "config.toml"), inputs) as folder:
        spectrum = spectrum_of(options)
        catalog = read_shear(options.catalog, **catalog_options(options))
        record = origin(options, Path(options.catalog), len(catalog))
        drawn = partial_samples(out, record)
        estimator = build_estimator(
            options.method,
            spectrum,
            margin=options.margin,
            folder=drawn,
            identity=record,
            **estimator_settings(options),
        )
        grid = grid_of_catalog(
            catalog,
            pixel_of_network(estimator, options.pixel_arcmin),
            shape=options.size,
            centre_deg=options.centre,
        )
        check_size(options, grid, out)
        shear = bin_shear(catalog, grid, options.shape_noise)
        signs = check_e2_sign(shear)
        if bounds is not None:
            bounds.check(shear, _method_identity(options, estimator))
        key = jax.random.key(options.seed)
        with kept_if_interrupted(drawn):
            if _takes_galaxies(estimator, options):
                of_galaxies: Any = estimator
                result = of_galaxies(key, galaxy_shear(catalog, grid, options.shape_noise))
            else:
                result = _with_errors(estimator, bounds, options)(key, shear)
            result = _null_tested(key, result, shear, catalog, spectrum, options)
        title = f"{Path(options.catalog).name}, {options.method}"
        write_map_files(folder, result, record, title)
        write_config(folder / "config.toml", record["settings"])
        written = sorted(path.name for path in folder.iterdir())
    shutil.rmtree(drawn, ignore_errors=True)
    if not options.quiet:
        noise = options.shape_noise or float(np.mean(measured_shape_noise(catalog)))
        print(describe_input(catalog, shear, noise, options.catalog))
        print(describe_signs(signs))
        print(describe_sources(options.nz, options.spectrum))
        print(describe_map(result, options.method))
        if options.null_tests:
            print(describe_null_tests(result.diagnostics["null_tests"]))
        print(f"Wrote {', '.join(str(out / name) for name in written)}.")
    if signs.looks_flipped:
        flag = "--no-flip-e2" if options.flip_e2 else "--flip-e2"
        print(
            f"jaxmap: warning: E modes stand {signs.flipped:.1f} sigma above B modes with the sign "
            f"of e2 changed, {signs.as_given:.1f} as given: e2 is probably flipped; try {flag}",
            file=sys.stderr,
        )
    return 0


def check_size(options: argparse.Namespace, grid: Grid, out: Path) -> None:
    """Refuse a map that would not fit into memory, or its samples onto the disk.

    Raises:
        ValueError: if they do not, with the flags that make them smaller.
    """
    kept, drawn = kept_samples(options.method, options.num_samples)
    if options.method == "dlposterior" and options.sampler == "map":
        drawn = 0
    check_map_memory(options.method, grid.shape, options.margin, kept, drawn)
    # As they are drawn, and in samples.nc.
    needed = 2.0 * jnp.zeros((), float).dtype.itemsize * drawn * grid.num_pixels
    remedy = "draw fewer (--num-samples), take larger pixels, or choose another disk (--out)"
    check_disk(out, needed, f"{drawn} samples", remedy)


def _takes_galaxies(estimator: Estimator, options: argparse.Namespace) -> bool:
    """Whether it is given galaxies rather than their means in pixels."""
    errors = options.noise_samples or options.conformal
    return options.unbinned or (isinstance(estimator, HongCNN) and not errors)


def _check_unbinned(options: argparse.Namespace) -> None:
    if not options.unbinned:
        return
    if options.method != "glimpse":
        raise ValueError(f"--unbinned is of glimpse, not of {options.method}; leave it out")
    if options.noise_samples or options.conformal:
        raise ValueError(
            "--noise-samples and --conformal are of binned shear; leave them out with --unbinned"
        )


def _with_errors(
    estimator: Estimator, bounds: Conformal | None, options: argparse.Namespace
) -> Estimator:
    """The estimator with the errors that `jaxmap.cli` is asked for."""
    if options.noise_samples:
        estimator = Resampled(
            estimator,
            options.noise_samples,
            options.noise,
            options.margin,
            with_bar("noise realisations", "map", options.quiet),
        )
    if bounds is None:
        return estimator
    return lambda key, shear: bounds(estimator(key, shear))


def _method_identity(options: argparse.Namespace, estimator: Estimator) -> dict[str, Any]:
    chosen = (
        "smoothing_arcmin",
        "threshold",
        "reduced_shear",
        "num_samples",
        "sampler",
        "num_steps",
        "weights",
    )
    identity = method_identity(
        options.method, estimator, **{name: getattr(options, name) for name in chosen}
    )
    if options.noise_samples:
        identity |= {"noise_samples": options.noise_samples}
    return identity


def _null_tested(
    key: jax.Array,
    result: MassMap,
    shear: ShearMap,
    catalog: ShearCatalog,
    spectrum: PowerSpectrum,
    options: argparse.Namespace,
) -> MassMap:
    """The map with null tests in its diagnostics, unless they are not wanted."""
    if not options.null_tests:
        return result
    key_signs, key_skies = jax.random.split(jax.random.fold_in(key, NULL_KEY))
    null = random_sign_map(key_signs, catalog, shear.grid, options.shape_noise)
    return run_null_tests(
        key_skies,
        shear,
        result,
        spectrum,
        num=options.null_tests,
        margin=options.margin,
        null=null,
    )


def default_out(catalog: str) -> str:
    """``galaxies.fits.gz`` is mapped to ``galaxies-map``."""
    name = Path(catalog).name
    for compressed in (".gz", ".xz"):
        name = name.removesuffix(compressed)
    return f"{Path(name).stem}-map"
