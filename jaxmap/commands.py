"""What the smaller commands do, and what flags mean to several commands."""

from __future__ import annotations

import argparse
import json
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxmap
from jaxmap.benchmark import Case, read_case, score, table
from jaxmap.binning import measured_shape_noise
from jaxmap.cluster_network import PIXEL_ARCMIN
from jaxmap.cosmology import convergence_power
from jaxmap.estimators import (
    ConditionalGAN,
    DeepMass,
    Estimator,
    HongCNN,
    MaximumPosterior,
    SampledPosterior,
    SurveyDeepMass,
)
from jaxmap.estimators.memory import check_map_memory
from jaxmap.files import atomic_path
from jaxmap.flags import COSMOLOGY, unused_flags, weights_of
from jaxmap.matter_power import PLANCK18, Cosmology
from jaxmap.methods import build_estimator, kept_samples
from jaxmap.operators import two_map_phase
from jaxmap.outputs import (
    MAP_FILES,
    input_files,
    origin,
    require_writable,
    staged,
    write_catalog,
    write_map_files,
)
from jaxmap.progress import with_bar
from jaxmap.reading.surveys import SURVEYS
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.spectra import PowerSpectrum, read_power_spectrum
from jaxmap.summary import describe_input, describe_map

log = logging.getLogger(__name__)


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


def estimator_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What `jaxmap.flags.add_estimator` asks for."""
    return {
        "smoothing_arcmin": options.smoothing_arcmin,
        "threshold": options.threshold,
        "reduced_shear": options.reduced_shear,
        "num_samples": options.num_samples,
        "progress": with_bar("posterior samples", "chunk", options.quiet),
        "weights": options.weights,
        "sampler": options.sampler,
        "num_steps": options.num_steps,
    }


def warn_of_unused(options: argparse.Namespace, chosen: Sequence[str]) -> None:
    """Say which flags of the estimators the chosen methods do not know, and so leave aside."""
    for text in unused_flags(options, chosen):
        log.warning("%s: it changes nothing", text)


def catalog_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `jaxmap.flags.add_catalog` asks for, for `jaxmap.reading.readers.read_shear`."""
    names = ("flip_e1", "flip_e2", "m", "c1", "c2")
    return reading_options(options) | {name: getattr(options, name) for name in names}


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `jaxmap.flags.add_reading` asks for."""
    names = ("columns", "hdu", "group", "distortion", "response", "drop_invalid")
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
    warn_of_unused(options, options.methods)
    options.weights = weights_of(options.weights, options.methods)
    common = estimator_settings(options) | {"margin": 0, "phase": two_map_phase}
    estimators = {
        method: build_estimator(
            method, spectrum, **common | {"weights": options.weights.get(method)}
        )
        for method in options.methods
    }
    for method in options.methods:
        remedy = "give a smaller case, or leave the method out (--methods)"
        kept, drawn = kept_samples(method, options.num_samples)
        check_map_memory(method, case.shear.grid.shape, 0, kept, drawn, remedy)
    with _report_path(options) if options.json else nullcontext() as path:
        methods, fault = _scored(case, estimators, jax.random.key(options.seed))
        if fault and not methods:
            raise fault
        if path:
            report = {"methods": methods, **origin(options, Path(options.case))}
            path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    if not options.quiet or fault:
        print(table(methods))
    if isinstance(fault, KeyboardInterrupt):
        raise KeyboardInterrupt("interrupted; what was measured is above") from fault
    if fault:
        raise fault
    return 0


def _scored(
    case: Case, estimators: Mapping[str, Estimator], key: jax.Array
) -> tuple[dict[str, Any], BaseException | None]:
    """Figures of the methods up to the first that fails or is interrupted, and what stopped it."""
    methods: dict[str, Any] = {}
    for name, estimator in estimators.items():
        try:
            methods |= score(case, {name: estimator}, key)
        except (Exception, KeyboardInterrupt) as fault:
            return methods, fault
    return methods, None


@contextmanager
def _report_path(options: argparse.Namespace) -> Iterator[Path]:
    """Where to write the report, found unfit before the work rather than after."""
    target, remedy = Path(options.json), "give another file with --json"
    if target.is_dir():
        raise ValueError(f"{target} is a folder; {remedy}")
    require_writable([target], [*input_files(options), options.config], remedy)
    stack = ExitStack()
    try:
        path = stack.enter_context(atomic_path(target))
    except OSError as error:
        raise ValueError(f"cannot write {target} ({error.strerror}); {remedy}") from error
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
        warn_of_unused(options, [options.method])
        say("Simulating a sky and a survey of it ...")
        estimator = build_estimator(options.method, sky_power(), **estimator_settings(options))
        made = demo(jax.random.key(options.seed), estimator)
        record = origin(options, None)
        write_catalog(folder / "catalog.fits", made.catalog, record)
        title = f"simulated survey, {options.method}"
        write_map_files(folder, made.result, record, title, made.truth)
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
