"""What ``jaxmap map`` does: read, map, measure, write, and say so in plain words."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from dataclasses import dataclass, replace
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
    warn_of_unused,
)
from jaxmap.conformal import Conformal, read_conformal
from jaxmap.diagnostics import check_e2_sign
from jaxmap.estimators import (
    ConditionalGAN,
    Estimator,
    HongCNN,
    Resampled,
    SampledPosterior,
)
from jaxmap.estimators.memory import check_map_memory
from jaxmap.flags import weights_of
from jaxmap.footprint import grid_of_catalog
from jaxmap.galaxies import galaxy_shear
from jaxmap.grid import Grid
from jaxmap.machine import check_disk
from jaxmap.massmap import MassMap
from jaxmap.methods import build_estimator, kept_samples, method_identity
from jaxmap.null_tests import (
    check_realisations,
    data_null_tests,
    random_sign_map,
    residual_chi2,
    with_null_tests,
)
from jaxmap.outputs import (
    ALL_MAPS,
    MAP_FILES,
    also_read,
    check_folder,
    input_files,
    kept_if_interrupted,
    origin,
    partial_folder,
    require_writable,
    settings,
    staged,
    write_config,
    write_map_files,
    write_picture_of_all,
)
from jaxmap.progress import with_bar
from jaxmap.reading.readers import read_shear
from jaxmap.spectra import PowerSpectrum
from jaxmap.summary import (
    compare_maps,
    describe_input,
    describe_map,
    describe_null_tests,
    describe_signs,
    describe_sources,
    map_figures,
)

FILES = (*MAP_FILES, "config.toml")
NULL_KEY = 0x4E554C4C
"""Folded into the seed's key: null tests share no random number with the map."""


@dataclass(frozen=True)
class _Data:
    """What all methods share.

    Args:
        catalog: the galaxies.
        shear: their means in pixels.
        null_tests: figures of `jaxmap.null_tests.data_null_tests`, or None.
        bounds: for calibrated intervals, or None.
        record: how the output of all of them came to be.
    """

    catalog: ShearCatalog
    shear: ShearMap
    null_tests: dict[str, Any] | None
    bounds: Conformal | None
    record: dict[str, Any]


def run_map(options: argparse.Namespace) -> int:
    """``jaxmap map``: from a catalogue to mass maps with errors, one for every method."""
    if options.catalog is None:
        raise ValueError(
            "no catalogue given; expected `jaxmap map CATALOG` (or catalog in --config)"
        )
    out = Path(options.out or default_out(options.catalog))
    if options.null_tests:
        check_realisations(options.null_tests)
    warn_of_unused(options, options.method)
    runs = _runs(options, out)
    for run in runs:
        _check_unbinned(run)
        check_folder(Path(run.out), FILES, [*input_files(run), run.config])
    if len(runs) > 1:
        inputs = [*input_files(options), options.config]
        require_writable([out / ALL_MAPS], inputs, "choose another folder with --out")
    bounds = read_conformal(options.conformal) if options.conformal else None
    spectrum = spectrum_of(options)
    estimators = [
        build_estimator(run.method, spectrum, margin=run.margin, **estimator_settings(run))
        for run in runs
    ]
    catalog = read_shear(options.catalog, **catalog_options(options))
    pixel = _common_pixel(runs, estimators)
    grid = grid_of_catalog(catalog, pixel, shape=options.size, centre_deg=options.centre)
    for run, estimator in zip(runs, estimators, strict=True):
        check_size(run, grid, Path(run.out), len(catalog) if run.unbinned else 0)
        if isinstance(estimator, HongCNN):
            estimator.check_pixels(grid)
        if len(runs) > 1:  # alone, it would have its own
            run.pixel_arcmin = pixel
    shear = bin_shear(catalog, grid, options.shape_noise)
    if bounds is not None:
        for run, estimator in zip(runs, estimators, strict=True):
            bounds.check(shear, _method_identity(run, estimator))
    null_tests = _null_tests(shear, catalog, spectrum, options) if options.null_tests else None
    record = origin(options, Path(options.catalog), len(catalog))
    data = _Data(catalog, shear, null_tests, bounds, record)
    signs = check_e2_sign(shear)
    noise = options.shape_noise or float(np.mean(measured_shape_noise(catalog)))
    said = [
        describe_input(catalog, shear, noise, options.catalog),
        describe_signs(signs),
        describe_sources(options.nz, options.spectrum),
    ]
    if len(runs) > 1:
        code = _map_several(runs, estimators, data, out, said)
    else:
        code = _map_one(runs[0], estimators[0], data, said)
    if signs.looks_flipped:
        flag = "--no-flip-e2" if options.flip_e2 else "--flip-e2"
        print(
            f"jaxmap: warning: E modes stand {signs.flipped:.1f} sigma above B modes with the sign "
            f"of e2 changed, {signs.as_given:.1f} as given: e2 is probably flipped; try {flag}",
            file=sys.stderr,
        )
    return code


def _runs(options: argparse.Namespace, out: Path) -> list[argparse.Namespace]:
    """The options of every method as if it were run alone."""
    weights = weights_of(options.weights, options.method)
    runs = []
    for method in options.method:
        place = out / method if len(options.method) > 1 else out
        own = {"method": method, "weights": weights.get(method), "out": str(place)}
        runs.append(argparse.Namespace(**vars(options) | own))
    return runs


def _common_pixel(runs: list[argparse.Namespace], estimators: list[Estimator]) -> float | None:
    """The pixel scale given, or that of the networks; None for the data's own."""
    pixels = {
        run.method: pixel
        for run, estimator in zip(runs, estimators, strict=True)
        if (pixel := pixel_of_network(estimator, run.pixel_arcmin)) is not None
    }
    if len(set(pixels.values())) > 1:
        trained = ", ".join(f"{pixel:g} arcmin ({method})" for method, pixel in pixels.items())
        raise ValueError(
            f"the networks were trained for pixels of {trained}; expected one size for all maps: "
            "choose it with --pixel-arcmin, or leave methods out"
        )
    return next(iter(pixels.values()), None)


def _map_one(
    options: argparse.Namespace, estimator: Estimator, data: _Data, said: list[str]
) -> int:
    result, written, _ = _make(options, estimator, data)
    if not options.quiet:
        print(*said, describe_map(result, options.method), sep="\n")
        if options.null_tests:
            print(describe_null_tests(result.diagnostics["null_tests"]))
        print(f"Wrote {', '.join(written)}.")
    return 0


def _map_several(
    runs: list[argparse.Namespace],
    estimators: list[Estimator],
    data: _Data,
    out: Path,
    said: list[str],
) -> int:
    """Every method on its own: one that fails is told, and costs no other's map."""
    say = (lambda text: None) if runs[0].quiet else print
    for text in said:
        say(text)
    if data.null_tests is not None:
        say(describe_null_tests(data.null_tests))
    maps: dict[str, MassMap] = {}
    labels: dict[str, str] = {}
    rows: dict[str, dict[str, float]] = {}
    for run, estimator in zip(runs, estimators, strict=True):
        try:
            result, written, seconds = _make(run, estimator, data)
            chi2 = residual_chi2(result, data.shear, run.margin)
            rows[run.method] = map_figures(result, chi2, seconds)
        except KeyboardInterrupt as stop:
            kept = f"; the maps of {', '.join(maps)} are in {out}" if maps else ""
            why = str(stop) or ("interrupted" if maps else "interrupted; nothing was written")
            raise KeyboardInterrupt(why + kept) from None
        except Exception as error:
            logging.getLogger("jaxmap").info("%s failed", run.method, exc_info=True)
            print(
                f"jaxmap: error: {run.method} failed, and the other methods go on: "
                f"{type(error).__name__}: {error}",
                file=sys.stderr,
            )
            rows[run.method] = {}
            continue
        maps[run.method] = MassMap(result.convergence, result.grid, result.mask)
        labels[run.method] = _how(run, result)
        say(f"Wrote {', '.join(written)}.")
    say(compare_maps(rows))
    if maps:
        shown = {labels[method]: each for method, each in maps.items()}
        write_picture_of_all(out, shown, Path(runs[0].catalog).name, data.record)
    if (out / ALL_MAPS).exists():
        say(f"Wrote {out / ALL_MAPS}.")
    return int(len(maps) < len(runs))


def _make(
    options: argparse.Namespace, estimator: Estimator, data: _Data
) -> tuple[MassMap, list[str], float]:
    """The map of one method, the files that were written of it, and the seconds it took."""
    out = Path(options.out)
    own = {"settings": settings(options), **also_read(options, Path(options.catalog))}
    record = data.record | own
    drawn = partial_folder(out, "samples", record)
    if isinstance(estimator, SampledPosterior | ConditionalGAN):
        estimator = replace(estimator, folder=drawn, identity=record)
    key = jax.random.key(options.seed)
    with staged(out, FILES, [*input_files(options), options.config]) as folder:
        start = time.perf_counter()
        with kept_if_interrupted(drawn, "samples drawn"):
            if _takes_galaxies(estimator, options):
                of_galaxies: Any = estimator
                galaxies = galaxy_shear(data.catalog, data.shear.grid, options.shape_noise)
                result = of_galaxies(key, galaxies)
            else:
                result = _with_errors(estimator, data.bounds, options)(key, data.shear)
            jax.block_until_ready(result)
        seconds = time.perf_counter() - start
        if data.null_tests is not None:
            result = with_null_tests(result, data.null_tests, data.shear, options.margin)
        title = f"{Path(options.catalog).name}, {_how(options, result)}"
        write_map_files(folder, result, record, title)
        write_config(folder / "config.toml", record["settings"])
        written = sorted(path.name for path in folder.iterdir())
    shutil.rmtree(drawn, ignore_errors=True)
    return result, [str(out / name) for name in written], seconds


def _how(options: argparse.Namespace, result: MassMap) -> str:
    """By which method a map is, for pictures: with its smoothing, sampler and samples."""
    words = [options.method]
    if options.method in ("ks", "ksplus"):
        words.append(f"Gaussian smoothing of {options.smoothing_arcmin:g}′")
    if options.method == "dlposterior":
        words.append(options.sampler)
    if result.samples is not None:
        words.append(f"{len(result.samples)} samples")
    return ", ".join(words)


def check_size(options: argparse.Namespace, grid: Grid, out: Path, num_galaxies: int = 0) -> None:
    """Refuse a map that would not fit into memory, or its samples onto the disk.

    Args:
        options: of the command.
        grid: of the map.
        out: its folder.
        num_galaxies: that are given to the method unbinned.

    Raises:
        ValueError: if they do not, with the flags that make them smaller.
    """
    kept, drawn = kept_samples(options.method, options.num_samples)
    if options.method == "dlposterior" and options.sampler == "map":
        drawn = 0
    check_map_memory(
        options.method, grid.shape, options.margin, kept, drawn, num_galaxies=num_galaxies
    )
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


def _null_tests(
    shear: ShearMap, catalog: ShearCatalog, spectrum: PowerSpectrum, options: argparse.Namespace
) -> dict[str, Any]:
    key = jax.random.fold_in(jax.random.key(options.seed), NULL_KEY)
    key_signs, key_skies = jax.random.split(key)
    null = random_sign_map(key_signs, catalog, shear.grid, options.shape_noise)
    num, margin = options.null_tests, options.margin
    return data_null_tests(key_skies, shear, spectrum, num=num, margin=margin, null=null)


def default_out(catalog: str) -> str:
    """``galaxies.fits.gz`` is mapped to ``galaxies-map``."""
    name = Path(catalog).name
    for compressed in (".gz", ".xz"):
        name = name.removesuffix(compressed)
    return f"{Path(name).stem}-map"
