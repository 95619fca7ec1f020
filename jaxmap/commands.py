"""What the commands do: read, map, measure, write, and say so in plain words."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap.benchmark import read_case, score, table
from jaxmap.binning import bin_shear, measured_shape_noise
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.cluster_network import PIXEL_ARCMIN
from jaxmap.conformal import Conformal, read_conformal
from jaxmap.cosmology import convergence_power
from jaxmap.diagnostics import check_e2_sign
from jaxmap.estimators import (
    ConditionalGAN,
    DeepMass,
    Estimator,
    HongCNN,
    MaximumPosterior,
    Resampled,
    SampledPosterior,
    SurveyDeepMass,
)
from jaxmap.estimators.memory import check_map_memory
from jaxmap.files import atomic_path
from jaxmap.flags import COSMOLOGY
from jaxmap.footprint import grid_of_catalog
from jaxmap.galaxies import galaxy_shear
from jaxmap.massmap import MassMap
from jaxmap.matter_power import PLANCK18, Cosmology
from jaxmap.methods import build_estimator, kept_in_memory, method_identity
from jaxmap.null_tests import check_realisations, random_sign_map, run_null_tests
from jaxmap.operators import two_map_phase
from jaxmap.outputs import (
    MAP_FILES,
    kept_if_interrupted,
    origin,
    partial_samples,
    staged,
    write_catalog,
    write_config,
    write_map_files,
)
from jaxmap.reading.readers import read_shear
from jaxmap.reading.surveys import SURVEYS
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.spectra import PowerSpectrum, read_power_spectrum
from jaxmap.summary import describe_input, describe_map, describe_null_tests, describe_signs

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
            **_estimator_settings(options),
        )
        grid = grid_of_catalog(
            catalog,
            pixel_of_network(estimator, options.pixel_arcmin),
            shape=options.size,
            centre_deg=options.centre,
        )
        drawn_here = kept_in_memory(options.method, options.num_samples)
        check_map_memory(options.method, grid.shape, options.margin, drawn_here)
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
            _progress(options, "noise realisations", "map"),
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


def pixel_of_network(estimator: Estimator, given: float | None) -> float | None:
    """The pixel scale given, or that of the estimator's network; None for the data's own."""
    if given is not None:
        return given
    if isinstance(estimator, HongCNN):
        return PIXEL_ARCMIN
    if isinstance(estimator, DeepMass | MaximumPosterior | SampledPosterior):
        return estimator.domain.pixel_arcmin if estimator.domain else None
    if isinstance(estimator, ConditionalGAN | SurveyDeepMass):
        return estimator.survey.pixel_arcmin if estimator.survey else None
    return None


def _estimator_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What `jaxmap.flags.add_estimator` asks for."""
    return {
        "smoothing_arcmin": options.smoothing_arcmin,
        "threshold": options.threshold,
        "reduced_shear": options.reduced_shear,
        "num_samples": options.num_samples,
        "progress": _progress(options),
        "weights": options.weights,
        "sampler": options.sampler,
        "num_steps": options.num_steps,
    }


def default_out(catalog: str) -> str:
    """``galaxies.fits.gz`` is mapped to ``galaxies-map``."""
    name = Path(catalog).name
    for compressed in (".gz", ".xz"):
        name = name.removesuffix(compressed)
    return f"{Path(name).stem}-map"


def catalog_options(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `jaxmap.reading.readers.read_shear` but for the source."""
    names = (
        "columns",
        "flip_e1",
        "flip_e2",
        "distortion",
        "m",
        "c1",
        "c2",
        "response",
        "hdu",
        "group",
        "drop_invalid",
    )
    survey = None if options.survey == "auto" else SURVEYS[options.survey]
    return {"survey": survey, **{name: getattr(options, name) for name in names}}


def run_benchmark(options: argparse.Namespace) -> int:
    """``jaxmap benchmark``: score methods on a case of known truth (see `jaxmap.benchmark`)."""
    if options.case is None:
        raise ValueError("no case given; expected `jaxmap benchmark CASE.npz`")
    case = read_case(options.case)
    spectrum = case.spectrum
    if spectrum is None or options.spectrum or options.nz:
        spectrum = spectrum_of(options)
    estimators = {
        method: build_estimator(
            method,
            spectrum,
            margin=0,
            phase=two_map_phase,
            **_estimator_settings(options),
        )
        for method in options.methods
    }
    key = jax.random.key(options.seed)
    if options.json:
        with _report_path(options) as path:
            methods = score(case, estimators, key)
            report = {"methods": methods, **origin(options, Path(options.case))}
            path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    else:
        methods = score(case, estimators, key)
    if not options.quiet:
        print(table(methods))
    return 0


@contextmanager
def _report_path(options: argparse.Namespace) -> Iterator[Path]:
    """Where to write the report, found unfit before the work rather than after."""
    target = Path(options.json)
    if target.is_dir() or target.resolve() == Path(options.case).resolve():
        raise ValueError(f"cannot write the figures to {target}; give another file with --json")
    stack = ExitStack()
    try:
        path = stack.enter_context(atomic_path(target))
    except OSError as error:
        raise ValueError(
            f"cannot write {target} ({error.strerror}); give another file with --json"
        ) from error
    with stack:
        yield path


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
        "precision": "float64"
        if jax.config.read("jax_enable_x64")
        else "float32 (--x64 for float64)",
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
    from jaxmap.demo import demo, sky_power

    out = Path(options.out)
    with staged(out, (*MAP_FILES, "catalog.fits")) as folder:
        say = (lambda text: None) if options.quiet else print
        say("Simulating a sky and a survey of it ...")
        estimator = build_estimator(options.method, sky_power(), **_estimator_settings(options))
        made = demo(jax.random.key(options.seed), estimator)
        write_catalog(folder / "catalog.fits", made.catalog)
        title = f"simulated survey, {options.method}"
        write_map_files(folder, made.result, origin(options, None), title, made.truth)
    if not options.quiet:
        noise = float(np.mean(measured_shape_noise(made.catalog)))
        print(describe_input(made.catalog, made.shear, noise, "a simulation"))
        print(describe_map(made.result, options.method))
        print(made.verdict)
        print(f"Wrote {out}/. Your own catalogue: jaxmap map CATALOG --out DIR")
    return 0


def cosmology_of(options: argparse.Namespace) -> Cosmology:
    """Planck 2018, but for the parameters that flags give."""
    given = {name: getattr(options, name) for name in COSMOLOGY}
    return replace(PLANCK18, **{name: value for name, value in given.items() if value is not None})


def spectrum_of(options: argparse.Namespace) -> PowerSpectrum:
    cosmology = cosmology_of(options)
    if options.spectrum:
        if cosmology != PLANCK18 or options.nz:
            raise ValueError("--spectrum is complete in itself; leave out --nz and the cosmology")
        return read_power_spectrum(options.spectrum)
    redshifts = read_redshift_distribution(options.nz) if options.nz else None
    return convergence_power(redshifts, cosmology)


def _progress(
    options: argparse.Namespace, what: str = "posterior samples", unit: str = "chunk"
) -> Any:
    from tqdm import tqdm

    def with_bar(chunks: Iterable[int]) -> Iterable[int]:
        return tqdm(
            chunks,
            desc=what,
            unit=unit,
            disable=options.quiet,
            mininterval=0.1 if sys.stderr and sys.stderr.isatty() else 10,
        )

    return with_bar
