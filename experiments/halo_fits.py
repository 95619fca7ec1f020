"""Are the fits of haloes calibrated? SBC of NUTS on simulated NFW clusters.

Haloes are drawn from the prior of the fit, seen through 30 galaxies per square arcminute with a
broad n(z) and shape noise 0.26 in pixels of one arcminute, and fitted. The rank of the truth among
the samples must be uniform: of log10 mass, concentration and both coordinates of the centre.
Samples drawn together by 0.7 about their mean are the control that must fail. Fits are kept in
runs/ as they come: a run that is stopped goes on.

Writes results/halo_fits.json, .png.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import HERE, arguments, new_figure, save
from scipy.stats import chi2, kstest

from jaxmap.clusters import (
    FitSettings,
    HaloData,
    HaloPrior,
    NFWHalo,
    fit_halo,
    halo_reduced_shear,
)
from jaxmap.clusters.fit import draw_halo
from jaxmap.cosmology import mean_inverse_critical_density
from jaxmap.files import atomic_path
from jaxmap.redshifts import smail_redshifts

Z_LENS, DENSITY, SHAPE_NOISE = 0.3, 30.0, 0.26
SIDE = 20
PRIOR = HaloPrior(log10_mass=(13.5, 15.5), centre_arcmin=0.5)
SETTINGS = FitSettings(num_warmup=400, num_samples=500, num_chains=2)
NUM_RANKED = 99
NAMES = {
    "log10_mass": "log$_{10}$ mass",
    "concentration": "concentration",
    "x": "centre, x",
    "y": "centre, y",
}


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 300, "help": "clusters (default: %(default)s)"},
        runs={"type": Path, "default": HERE.parent / "runs" / "halo_fits"},
    )
    num = 3 if options.quick else options.num
    kept = options.runs
    kept.mkdir(parents=True, exist_ok=True)
    rows = [fitted(number, options.seed, kept) for number in range(num)]
    figures = {
        "clusters": num,
        "prior": {"log10_mass": PRIOR.log10_mass, "scatter": PRIOR.scatter},
        "sbc": {name: uniformity([row["ranks"][name] for row in rows]) for name in NAMES},
        "control": {name: uniformity([row["narrow"][name] for row in rows]) for name in NAMES},
        "coverage": {name: coverage([row["ranks"][name] for row in rows]) for name in NAMES},
        "error_of_log10_mass": by_mass(rows),
        "worst_rhat": max(row["rhat"] for row in rows),
        "not_mixed": sum(not row["rhat"] < 1.05 for row in rows),
        "least_effective": min(row["effective"] for row in rows),
        "divergences": sum(row["divergences"] for row in rows),
        "median_seconds": float(np.median([row["seconds"] for row in rows])),
    }
    save(options, "halo_fits", figures)
    draw(rows, options.out / "halo_fits.png")


def simulated(number: int, seed: int) -> tuple[NFWHalo, HaloData, jax.Array, jax.Array]:
    """A halo, what is seen of it, and keys of its fit and rank."""
    key = jax.random.fold_in(jax.random.key(seed), number)
    key_halo, key_noise, key_fit, key_rank = jax.random.split(key, 4)
    halo = draw_halo(key_halo, jnp.asarray(Z_LENS), PRIOR)
    mean, spread = mean_inverse_critical_density(Z_LENS, smail_redshifts(2, 1.5, 0.65))
    step = jnp.arange(SIDE, dtype=float) - (SIDE - 1) / 2
    x, y = (axis.ravel() for axis in jnp.meshgrid(step, step))
    std = SHAPE_NOISE / DENSITY**0.5
    noise = std * jax.random.normal(key_noise, (2, x.size))
    soft = jnp.asarray(0.4)
    shapes = halo_reduced_shear(halo, x, y, mean, spread, soft) + jax.lax.complex(*noise)
    weight = jnp.full((2, x.size), 1 / std**2)
    data = HaloData(x, y, shapes, weight, jnp.asarray(Z_LENS), mean, spread, soft)
    return halo, data, key_fit, key_rank


def fitted(number: int, seed: int, kept: Path) -> dict:
    """Ranks of the truth for one cluster; from the kept file if it is there."""
    path = kept / f"{seed}-{number:05d}.json"
    if path.exists():
        return json.loads(path.read_text())
    begun = time.perf_counter()
    halo, data, key_fit, key_rank = simulated(number, seed)
    fit = fit_halo(key_fit, data, PRIOR, SETTINGS)
    truth = {
        "log10_mass": float(jnp.log10(halo.mass)),
        "concentration": float(halo.concentration),
        "x": float(halo.x),
        "y": float(halo.y),
    }
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_rank)))
    row: dict = {"ranks": {}, "narrow": {}, "truth": truth}
    for name in NAMES:
        samples = thinned(fit.samples[name], NUM_RANKED)
        narrow = samples.mean() + 0.7 * (samples - samples.mean())
        row["ranks"][name] = rank(rng, truth[name], samples)
        row["narrow"][name] = rank(rng, truth[name], narrow)
    mass = np.ravel(fit.samples["log10_mass"])
    row |= {
        "mean": float(mass.mean()),
        "std": float(mass.std()),
        "rhat": max(fit.rhat.values()),
        "effective": min(fit.effective.values()),
        "divergences": fit.divergences,
        "seconds": time.perf_counter() - begun,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(row))
    print(f"cluster {number}: {truth['log10_mass']:.2f}, found {row['mean']:.2f}", flush=True)
    return row


def thinned(samples: np.ndarray, num: int) -> np.ndarray:
    flat = samples.T.ravel()  # neighbours of a chain far apart
    return flat[np.linspace(0, len(flat) - 1, num).astype(int)]


def rank(rng: np.random.Generator, truth: float, samples: np.ndarray) -> int:
    """Number of samples below the truth; ties (the limits of a uniform prior) by lot."""
    below, equal = int(np.sum(samples < truth)), int(np.sum(samples == truth))
    return below + int(rng.integers(0, equal + 1))


def uniformity(ranks: list[int]) -> dict[str, float]:
    """Chi-squared over ten bins, and Kolmogorov-Smirnov, of ranks 0 ... NUM_RANKED."""
    values = np.asarray(ranks)
    counts = np.bincount(values * 10 // (NUM_RANKED + 1), minlength=10)
    expected = len(values) / 10
    statistic = float(np.sum((counts - expected) ** 2) / expected)
    spread = (values + np.random.default_rng(0).random(len(values))) / (NUM_RANKED + 1)
    return {
        "chi2_of_9": statistic,
        "p_chi2": float(chi2.sf(statistic, 9)),
        "p_ks": float(kstest(spread, "uniform").pvalue),
        "counts": counts.tolist(),
    }


def coverage(ranks: list[int]) -> dict[str, list[float]]:
    """Share of truths inside central intervals, with the standard error."""
    place = (np.asarray(ranks) + 0.5) / (NUM_RANKED + 1)
    found = {}
    for level in (0.5, 0.68, 0.95):
        share = float(np.mean(np.abs(place - 0.5) <= level / 2))
        found[str(level)] = [share, (level * (1 - level) / len(place)) ** 0.5]
    return found


def by_mass(rows: list[dict]) -> list[dict[str, float]]:
    """Quoted and actual error of log10 mass in four bins of the true mass."""
    truth = np.array([row["truth"]["log10_mass"] for row in rows])
    error = np.array([row["mean"] for row in rows]) - truth
    std = np.array([row["std"] for row in rows])
    found = []
    for low in np.arange(13.5, 15.5, 0.5):
        inside = (truth >= low) & (truth < low + 0.5)
        if inside.any():
            found.append(
                {
                    "log10_mass": float(low + 0.25),
                    "clusters": int(inside.sum()),
                    "mean_error": float(error[inside].mean()),
                    "rms_error": float(np.sqrt(np.mean(error[inside] ** 2))),
                    "quoted": float(np.sqrt(np.mean(std[inside] ** 2))),
                }
            )
    return found


def draw(rows: list[dict], path: Path) -> None:
    """Ranks, with two standard deviations of counts, and masses found against true."""
    figure = new_figure(14, 3.6)
    bins = np.linspace(0, NUM_RANKED + 1, 11)
    half = 2 * np.sqrt(len(rows) / 10 * 0.9)
    for place, (name, label) in enumerate(NAMES.items()):
        axes = figure.add_subplot(1, 5, place + 1)
        axes.axhspan(len(rows) / 10 - half, len(rows) / 10 + half, color="0.85")
        axes.hist([row["ranks"][name] for row in rows], bins, histtype="step", label="NUTS")
        narrow = [row["narrow"][name] for row in rows]
        axes.hist(narrow, bins, histtype="step", label="control: spread × 0.7")
        axes.set(title=label, xlabel=f"rank of the truth among {NUM_RANKED} samples")
        if place == 0:
            axes.set_ylabel("clusters")
            axes.legend(fontsize=7, loc="lower center")
    axes = figure.add_subplot(1, 5, 5)
    truth = [row["truth"]["log10_mass"] for row in rows]
    means, stds = [row["mean"] for row in rows], [row["std"] for row in rows]
    axes.errorbar(truth, means, stds, fmt=".", lw=0.5, ms=2, alpha=0.4)
    axes.plot([13.5, 15.5], [13.5, 15.5], "k", lw=0.7, zorder=3)
    axes.set(title="masses", xlabel="true log$_{10}$ M$_{200c}$/M☉", ylabel="mean and std found")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
