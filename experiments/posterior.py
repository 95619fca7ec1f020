"""Posterior samples under the shipped prior: the public benchmark, real COSMOS data, the cost.

1. The benchmark of Remy et al. (Table 1): mean of the samples in metrics A and C beside the
   one-shot mean, spread against error, power of samples and truth (their Fig. 6). No setting was
   tuned on it.
2. COSMOS: mean, sample and error with X-ray clusters (their Fig. 10), power of the samples (their
   Fig. 11).
3. Evaluations of the network and seconds per sample.

Writes results/posterior.json, posterior_table1.png, posterior_cosmos.png and posterior_power.png.
"""

from __future__ import annotations

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table
from common import arguments, new_figure, real_data, save
from cosmos import at_clusters, circle_clusters

from jaxmap.benchmark import Case, read_case
from jaxmap.binning import bin_shear
from jaxmap.denoiser_files import read_denoiser
from jaxmap.diagnostics import chi2_per_pixel, std_over_error
from jaxmap.estimators import DeepMass, SampledPosterior
from jaxmap.estimators.sampled import band_edges
from jaxmap.footprint import grid_of_catalog
from jaxmap.massmap import MassMap
from jaxmap.metrics import accuracy_observed, accuracy_published
from jaxmap.operators import two_map_phase
from jaxmap.plot import plot_mass_map
from jaxmap.reading.readers import read_shear
from jaxmap.samplers import Diffusion
from jaxmap.spectra import map_power

PUBLISHED = {
    "rmse_A": 2.16e-2,
    "r_A": 0.68,
    "rmse_C": 2.141e-2,
    "r_C": 0.692,
    "evaluations": 1.14e5,
}


def main() -> None:
    options = arguments(
        __doc__, weights={"type": Path, "help": "a denoiser's file; default: the shipped one"}
    )
    denoiser, domain, _ = read_denoiser(options.weights)
    key = jax.random.key(options.seed)
    num = 4 if options.quick else 400
    case = read_case(real_data(options) / "ktng" / "table1.npz")
    result = SampledPosterior(denoiser, num_samples=num, domain=domain, margin=0)(key, case.shear)
    benchmark = on_benchmark(case, result)
    one_shot = DeepMass(denoiser, domain, 0)(key, case.shear)
    figures = {
        "num_samples": num,
        "published": PUBLISHED,
        "table1": {
            "mean_of_samples": benchmark,
            "one_shot": accuracy(one_shot.convergence, case),
            "one_shot_from_mean_in_std": distance(one_shot, result),
        },
        "cost": cost(denoiser, case, benchmark["evaluations"]),
    }
    figure = plot_mass_map(result, "kTNG benchmark: posterior under the shipped prior", case.truth)
    figure.savefig(options.out / "posterior_table1.png", dpi=110)
    field, clusters = cosmos(options, denoiser, domain, 4 if options.quick else 32)
    figures["cosmos"] = {
        "grid": [*field.grid.shape, field.grid.pixel_arcmin],
        "diagnostics": field.diagnostics,
        "clusters": at_clusters(options.seed, field, clusters),
    }
    figure = plot_mass_map(field, "COSMOS: learned posterior, X-ray clusters (Finoguenov et al.)")
    circle_clusters(figure, clusters)
    figure.savefig(options.out / "posterior_cosmos.png", dpi=130)
    draw_power(options.out / "posterior_power.png", figures)
    save(options, "posterior", figures)


def accuracy(estimate: jax.Array, case: Case) -> dict[str, float]:
    """Metrics A and C."""
    published = accuracy_published(estimate, case.truth, case.shear.mask)
    observed = accuracy_observed(estimate, case.truth, case.shear.mask)
    return {
        "rmse_A": float(published.rmse),
        "r_A": float(published.r),
        "rmse_C": float(observed.rmse),
        "r_C": float(observed.r),
    }


def on_benchmark(case: Case, result: MassMap) -> dict[str, object]:
    """Accuracy of the mean, spread against error, fit, and power of samples beside the truth's."""
    assert result.samples is not None
    mask = case.shear.mask
    edges = band_edges(case.shear.grid)
    top = np.asarray(result.convergence) >= np.quantile(np.asarray(result.convergence)[mask], 0.99)
    peaks = jnp.asarray(top & np.asarray(mask))
    return {
        **accuracy(result.convergence, case),
        "std_over_error": float(std_over_error(result.samples, case.truth, mask)),
        "std_over_error_in_top_percent": float(std_over_error(result.samples, case.truth, peaks)),
        "chi2_per_pixel": float(
            np.mean([chi2_per_pixel(s, case.shear, two_map_phase) for s in result.samples])
        ),
        "evaluations": result.diagnostics["network_evaluations_per_sample"],
        "power": {
            **result.diagnostics["power"],
            "truth": np.asarray(map_power(case.truth, case.shear.grid, edges)[1]).tolist(),
        },
    }


def distance(one_shot: MassMap, result: MassMap) -> dict[str, float]:
    """Rms of (one-shot mean - mean of samples) over std, and what sampling noise alone gives."""
    assert result.samples is not None and result.std is not None
    gap = (one_shot.convergence - result.convergence) / result.std
    return {
        "rms": float(jnp.sqrt(jnp.mean(gap**2))),
        "expected_of_sampling": 1 / np.sqrt(len(result.samples)),
    }


def cost(denoiser, case: Case, evaluations: float) -> dict[str, float]:
    """Evaluations and seconds of a sample of 360 x 360 pixels, after compilation."""
    draw = Diffusion().prepare(denoiser, case.shear)
    seconds = []
    for number in range(4):
        start = time.perf_counter()
        draws = draw(jax.random.key(1), jnp.asarray([number]))
        jax.block_until_ready(draws.samples)
        seconds.append(time.perf_counter() - start)
    return {
        "evaluations_per_sample": evaluations,
        "evaluations_published_over_ours": PUBLISHED["evaluations"] / evaluations,
        "seconds_per_sample": float(np.median(seconds[1:])),
        "device": jax.devices()[0].platform,
    }


def cosmos(options, denoiser, domain, num: int) -> tuple[MassMap, Table]:
    """The field of the real catalogue, tangent plane, with the default margin."""
    catalog = read_shear(real_data(options) / "cosmos" / "s10_shear_catalog.fits")
    grid = grid_of_catalog(catalog, domain.pixel_arcmin)
    estimator = SampledPosterior(denoiser, num_samples=num, domain=domain)
    result = estimator(jax.random.key(options.seed + 1), bin_shear(catalog, grid))
    return result, Table.read(real_data(options) / "cosmos" / "xray_clusters.ecsv")


def draw_power(path, figures) -> None:
    """Power of the samples over that of the prior, benchmark and COSMOS."""
    figure = new_figure(10, 4)
    rows = (
        ("kTNG benchmark", figures["table1"]["mean_of_samples"]["power"]),
        ("COSMOS", figures["cosmos"]["diagnostics"]["power"]),
    )
    for number, (name, power) in enumerate(rows):
        axes = figure.add_subplot(1, 2, number + 1)
        ell, prior, mean, std = (
            np.array(power[key], float) for key in ("ell", "prior", "mean", "std")
        )
        axes.fill_between(ell, (mean - std) / prior, (mean + std) / prior, alpha=0.3, color="C0")
        axes.plot(ell, mean / prior, color="C0", label="samples, mean and spread")
        if "truth" in power:
            axes.plot(ell, np.array(power["truth"], float) / prior, "k--", label="truth")
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set(xscale="log", xlabel=r"multipole $\ell$", title=name, ylim=(0, 2.5))
        axes.set_ylabel("power over that of the prior")
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
