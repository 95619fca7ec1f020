"""Every estimator of a convergence map on the public benchmark and on simulated fields, paired.

Fields are of the light cone with keys that no training used, on the benchmark's periodic grid and
with its noise; each estimator sees the same data, and ratios are to the exact Wiener filter of the
same field. GLIMPSE and MCALens are also run for other thresholds on the first fields, which is
where their defaults come from, never on the benchmark. The rows of a field are kept in
`runs/estimators` as they come, so that a stopped run goes on; `--only METHODS` scores these anew
(after a new training), leaves the figures of the others as they are, and makes no picture. The
published DeepMass and the conditional GAN are for one survey each: give their weights, of
``training/deepmass_benchmark.toml`` and ``gan_benchmark.toml``. Writes results/estimators.json,
estimators_g1.png (Remy et al., Fig. G.1).
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import HERE, arguments, mean_and_error, new_figure, real_data, save

from jaxmap.benchmark import Case, read_case, score
from jaxmap.catalog import ShearMap
from jaxmap.demo import sky_power, sky_redshifts
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import (
    ConditionalGAN,
    DeepMass,
    Estimator,
    KaiserSquires,
    KSPlus,
    MCALens,
    SampledPosterior,
    Sparse,
    SurveyDeepMass,
    Wiener,
)
from jaxmap.metrics import accuracy_observed
from jaxmap.operators import shear_from_convergence, spin2_phase, two_map_phase
from jaxmap.samplers import Diffusion
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.spectra import PowerSpectrum, read_power_spectrum
from jaxmap.survey_network_files import read_generator, read_survey_denoiser

PUBLISHED = {
    "ks": (2.40e-2, 0.57),
    "wiener": (2.31e-2, 0.61),
    "glimpse 3": (2.84e-2, 0.42),
    "mcalens": (2.19e-2, 0.67),
    "deepmass": (2.18e-2, 0.68),
    "dlposterior": (2.16e-2, 0.68),
}
"""RMSE and r of Remy et al., Table 1, in metric A."""

HELD_OUT = 9_000_000
THRESHOLDS = {"glimpse": (4.0, 5.0, 6.0), "mcalens": (3.0, 4.0, 5.0)}

simulate = jax.jit(halo_light_cone, static_argnums=2)


def methods_for(spectrum: PowerSpectrum, phase, options) -> dict[str, Estimator]:
    """The estimators of the table; on a periodic grid, but for those trained with a margin."""
    methods: dict[str, Estimator] = {
        "ks": KaiserSquires(1.0, margin=0),
        "ksplus": KSPlus(1.0, margin=0),
        "wiener": Wiener(spectrum, num_samples=0, margin=0, phase=phase),
        "glimpse": Sparse(with_b_mode=False, margin=0, phase=phase),
        "mcalens": MCALens(spectrum, margin=0, phase=phase),
        "deepmass": DeepMass(read_denoiser(None)[0], margin=0),
    }
    if options.survey_deepmass:
        model, survey, _ = read_survey_denoiser(options.survey_deepmass)
        methods["deepmass, one survey"] = SurveyDeepMass(model, survey)
    if options.gan:
        generator, survey, _ = read_generator(options.gan)
        methods["gan"] = ConditionalGAN(generator, survey, num_samples=8)
    return {name: method for name, method in methods.items() if wanted(name, options)}


def wanted(name: str, options) -> bool:
    """Is this method to be scored? The Wiener filter always is, for it is the measure of all."""
    return not options.only or name in {"wiener", *options.only.split(",")}


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 50, "help": "simulated fields (default: %(default)s)"},
        survey_deepmass={"type": Path, "help": "weights of the published DeepMass"},
        gan={"type": Path, "help": "weights of a conditional GAN"},
        only={"default": "", "help": "methods with commas between them; the others stay"},
        runs={"type": Path, "default": HERE.parent / "runs" / "estimators"},
    )
    case = read_case(real_data(options) / "ktng" / "table1.npz")
    kept = options.runs
    kept.mkdir(parents=True, exist_ok=True)
    num = 2 if options.quick else options.num
    rows = [field_rows(number, case, kept, options) for number in range(num)]
    figures: dict[str, Any] = {"fields": num, "simulated": summary(rows)}
    if not options.only:
        figures["thresholds"] = thresholds(case, 1 if options.quick else 2, options)
    figures["table1"] = on_benchmark(case, options)
    if options.only:
        figures = put_into(json.loads((options.out / "estimators.json").read_text()), figures)
    save(options, "estimators", figures)


def put_into(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The figures of an earlier run with the rows of this one in their places."""
    if before["fields"] != now["fields"]:
        raise SystemExit(
            f"the earlier figures are of {before['fields']} fields, these of {now['fields']}; "
            "give that number (--num)"
        )
    return {
        "run_seconds": before["run_seconds"],
        "fields": now["fields"],
        "simulated": before["simulated"] | now["simulated"],
        "thresholds": before["thresholds"],
        "table1": before["table1"] | now["table1"],
    }


def field_of(number: int, case: Case, seed: int) -> tuple[jax.Array, ShearMap]:
    """A simulated field and its noisy shear, with the mask and noise of the benchmark."""
    grid = case.shear.grid
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(HELD_OUT), seed), number)
    key_map, key_noise = jax.random.split(key)
    cone = build_light_cone(grid, sky_redshifts(), baryons=TNG_BARYONS)
    truth = simulate(key_map, cone, cone.grid)
    weight = case.shear.weight
    std = jnp.where(weight > 0, 1 / jnp.sqrt(jnp.where(weight > 0, weight, 1)), 0)
    white = jax.lax.complex(*(std * jax.random.normal(key_noise, std.shape)))
    shear = shear_from_convergence(truth, grid) + white
    return truth, replace(case.shear, shear=jnp.where(case.shear.mask, shear, 0))


def field_rows(number: int, case: Case, kept: Path, options) -> dict[str, dict[str, float]]:
    """RMSE, r and seconds of every method on one field; kept in a file."""
    path = kept / f"{options.seed}-{number:04d}.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    rows = {name: row for name, row in rows.items() if name not in options.only.split(",")}
    methods = methods_for(sky_power(), spin2_phase, options)
    if methods.keys() <= rows.keys():
        return rows
    truth, data = field_of(number, case, options.seed)
    for name, method in methods.items():
        if name in rows:
            continue
        begun = time.perf_counter()
        result = jax.block_until_ready(method(jax.random.key(0), data))
        seconds = time.perf_counter() - begun
        accuracy = accuracy_observed(result.convergence, truth, data.mask)
        rows[name] = {
            "rmse": float(accuracy.rmse),
            "r": float(accuracy.r),
            "seconds": seconds,
            "optimality_residual": result.diagnostics.get("optimality_residual", 0.0),
        }
    path.write_text(json.dumps(rows))
    print(f"field {number}: " + ", ".join(f"{k} {v['rmse']:.4e}" for k, v in rows.items()))
    return rows


def summary(rows: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means, and paired ratios and differences to the Wiener filter with standard errors."""
    found = {}
    for name in rows[0]:
        rmse = np.array([row[name]["rmse"] for row in rows])
        r = np.array([row[name]["r"] for row in rows])
        ratio, error = mean_and_error(rmse / [row["wiener"]["rmse"] for row in rows])
        gain, gain_error = mean_and_error(r - [row["wiener"]["r"] for row in rows])
        found[name] = {
            "rmse": rmse.mean(),
            "r": r.mean(),
            "rmse_ratio": ratio,
            "rmse_ratio_error": error,
            "r_gain": gain,
            "r_gain_error": gain_error,
            # The first fields compile.
            "seconds": float(np.median([row[name]["seconds"] for row in rows])),
            "worst_optimality_residual": max(row[name]["optimality_residual"] for row in rows),
        }
    return found


def thresholds(case: Case, num: int, options) -> dict[str, dict[str, float]]:
    """Mean RMSE over the Wiener filter's for every threshold, on fields of another seed."""
    spectrum = sky_power()
    wiener = Wiener(spectrum, num_samples=0, margin=0)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in THRESHOLDS}
    for number in range(num):
        truth, data = field_of(number, case, options.seed + 1)
        key = jax.random.key(0)
        exact = accuracy_observed(wiener(key, data).convergence, truth, data.mask).rmse
        for name, levels in THRESHOLDS.items():
            for level in levels[1:2] if options.quick else levels:
                method = (
                    Sparse(level, with_b_mode=False, margin=0)
                    if name == "glimpse"
                    else MCALens(spectrum, level, margin=0)
                )
                made = method(key, data).convergence
                ratio = float(accuracy_observed(made, truth, data.mask).rmse / exact)
                found[name].setdefault(f"{level:g}", []).append(ratio)
    return {
        name: {level: float(np.mean(ratios)) for level, ratios in rows.items()}
        for name, rows in found.items()
    }


def on_benchmark(case: Case, options) -> dict[str, Any]:
    """Table 1 of the paper, and Fig. G.1 with all maps on one scale of colours."""
    spectrum = read_power_spectrum(real_data(options) / "ktng" / "power_spectrum.npy")
    methods = methods_for(spectrum, two_map_phase, options)
    plain = Sparse(
        3.0, num_reweightings=0, debias=False, with_b_mode=False, margin=0, phase=two_map_phase
    )
    if not options.quick and not options.only:
        methods["glimpse 3 plain"] = plain
        methods["glimpse 3"] = replace(plain, num_reweightings=2, debias=True)
    if wanted("dlposterior", options):
        denoiser, domain, _ = read_denoiser(None)
        num_samples = 2 if options.quick else 32
        methods["dlposterior"] = SampledPosterior(
            denoiser, Diffusion(), num_samples, domain=domain, margin=0
        )
    maps: dict[str, np.ndarray] = {}

    def keeping(name: str, method: Estimator) -> Estimator:
        def run(key: jax.Array, shear: ShearMap):
            result = method(key, shear)
            maps[name] = np.asarray(result.convergence)
            if result.samples is not None:
                maps[f"{name}, one sample"] = np.asarray(result.samples[0])
            return result

        return run

    wrapped = {name: keeping(name, method) for name, method in methods.items()}
    rows = score(case, wrapped, jax.random.key(options.seed))
    for name, (rmse, r) in PUBLISHED.items():
        if name in rows:
            rows[name] |= {"published_rmse_A": rmse, "published_r_A": r}
    if not options.only:
        draw_methods(options.out / "estimators_g1.png", case, maps)
    return rows


def draw_methods(path: Path, case: Case, maps: dict[str, np.ndarray]) -> None:
    """All maps and the truth, one colour bar."""
    mask = np.asarray(case.shear.mask)
    panels = {"truth": np.asarray(case.truth), **maps, "observed": None}
    panels.pop("glimpse 3 plain", None)
    columns = 4
    height = -(-len(panels) // columns)
    figure = new_figure(3.4 * columns, 3.4 * height + 0.3)
    image = None
    for number, (name, field) in enumerate(panels.items()):
        axes = figure.add_subplot(height, columns, number + 1)
        axes.set(title=name, xticks=[], yticks=[])
        if field is None:
            axes.imshow(mask, origin="lower", cmap="gray")
            continue
        shown = field - field[mask].mean()
        image = axes.imshow(shown, origin="lower", cmap="magma", vmin=-0.04, vmax=0.12)
    assert image is not None
    bar = figure.colorbar(image, ax=figure.axes, fraction=0.02, pad=0.02)
    bar.set_label("convergence, less its mean over the observed pixels")
    figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
