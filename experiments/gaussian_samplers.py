"""Every sampler on a Gaussian posterior that is known exactly, with the COSMOS mask and noise.

The prior is Gaussian, so that the posterior is N(WF, C), and a sample of a sampler without accept
and reject step is affine in data and random numbers. Its mean is therefore the difference of two
runs with one key, with and without data, and the covariance of `eps` is v^T T (C + s^2) T^T v for
the linear map T of its path, by transposing the program: no Monte Carlo error in either. Variances
are traces over bands of multipoles and over observed and masked pixels, by the same probes v above
and below; for `gibbs`, `hmc` and the controls they are scatter of draws over exact traces. Writes
results/gaussian_samplers.json and .png.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, real_data, save
from gaussian_case import (
    CROP,
    EDGES,
    SMALL,
    WHOLE,
    Case,
    Covariance,
    cosmos_like,
    standard_error,
)
from gaussian_draws import (
    FLOOR,
    eps,
    eps_quotient,
    guided,
    hmc_quotient,
    sweeps,
    unadjusted,
    unguided,
)

from jaxmap.annealed_posterior import AnnealedPosterior, FourierPreconditioner
from jaxmap.catalog import ShearMap
from jaxmap.gaussian_posterior import gaussian_fluctuation
from jaxmap.likelihood import ShearLikelihood
from jaxmap.operators import convergence_from_shear
from jaxmap.sampling.annealing import sample_annealed
from jaxmap.sampling.schedule import PRECONDITIONED

TARGET, BIAS_TARGET = 0.02, 0.05

Draw = Callable[[jax.Array, ShearMap], jax.Array]
Row = dict[str, Any]


def main() -> None:
    options = arguments(__doc__)
    quick = options.quick
    data, prior = cosmos_like(options.seed, real_data(options), SMALL if quick else CROP)
    case = Case(data, prior, options.seed, 2 if quick else 48)
    rows = {
        "eps, 5 evaluations": eps_row(case, 5),
        "eps, 12 evaluations": eps_row(case, 12),
        "gibbs": gibbs_row(case, *((16, 2) if quick else (600, 8))),
        "hmc, chains": hmc_row(case, 8 if quick else 40),
        "hmc, in equilibrium at the floor": exact_row(case, hmc_quotient(data, prior)),
    }
    num_draws = 8 if quick else 48
    controls = {
        "without Metropolis, long steps": drawn_row(case, unadjusted, num_draws),
        "5 % wrong scatter": scaled(rows["eps, 12 evaluations"], 1.05),
        "convolved likelihood as guidance": drawn_row(case, guided, num_draws),
        "the same path, exact denoiser": drawn_row(case, unguided, num_draws // 2),
    }
    figures: dict[str, Any] = {
        "pixels": list(data.grid.shape),
        "observed": float(case.mask.mean()),
        "ell_edges": EDGES.tolist(),
        "samplers": rows,
        "controls": controls,
        "gibbs_from_the_mean": mixing(case, *((4, (1, 2)) if quick else (40, (1, 4, 16, 64)))),
    }
    if not quick:
        case = Case(*cosmos_like(options.seed, real_data(options), WHOLE), options.seed, 3)
        rows["eps, 12 evaluations, 360 x 360"] = eps_row(case, 12)
    for group in (rows, controls):
        for row in group.values():
            row["off_target"] = off_target(row)
    save(options, "gaussian_samplers", figures)
    draw(options.out / "gaussian_samplers.png", figures)


def table_row(ratio: np.ndarray, error: np.ndarray) -> Row:
    """Ratios of variances; of pixels, of standard deviations."""
    return {
        "power_by_band": {"value": ratio[:-2].tolist(), "standard_error": error[:-2].tolist()},
        **{
            f"std_{name}": {"value": np.sqrt(r), "standard_error": e / (2 * np.sqrt(r))}
            for name, r, e in zip(("observed", "masked"), ratio[-2:], error[-2:], strict=True)
        },
    }


def off_target(row: Row) -> list[str]:
    """What lies outside of the targets by more than three standard errors."""
    found = {name: row[name] for name in ("std_observed", "std_masked")}
    power = row["power_by_band"]
    for index, pair in enumerate(zip(power["value"], power["standard_error"], strict=True)):
        found[f"power_{index}"] = dict(zip(("value", "standard_error"), pair, strict=True))
    off = [
        name
        for name, figure in found.items()
        if abs(figure["value"] - 1) > TARGET + 3 * figure["standard_error"]
    ]
    off += [f"bias_{name}" for name, value in row.get("bias", {}).items() if value > BIAS_TARGET]
    return off + [
        f"bias_{name}"
        for name, figure in row.get("square_bias", {}).items()
        if figure["value"] > BIAS_TARGET**2 + 3 * figure["standard_error"]
    ]


def exact_row(case: Case, quotient: Covariance) -> Row:
    """Of a sampler whose law is linear algebra: the errors are those of the probes."""
    found = case.by_probe(quotient, case.probes)
    pairs = list(zip(found, case.exact_by_probe, strict=True))
    ratio = np.asarray([top.mean() / bottom.mean() for top, bottom in pairs])
    error = [
        0.0 if whole else standard_error(top - r * bottom) / bottom.mean()
        for (top, bottom), r, whole in zip(pairs, ratio, case.all_probed, strict=True)
    ]
    return table_row(ratio, np.asarray(error))


def eps_row(case: Case, num_steps: int) -> Row:
    row = exact_row(case, eps_quotient(case.data, case.prior, num_steps))
    return {**row, "bias": mean_error(case, partial(eps, prior=case.prior, num_steps=num_steps))}


def mean_error(case: Case, sampler: Draw) -> dict[str, float]:
    key = jax.random.key(case.seed + 7)
    run = jax.jit(sampler)
    return case.biases(run(key, case.data) - run(key, case.nothing) - case.mean)


def drawn_row(case: Case, sampler: Callable[..., jax.Array], num_draws: int) -> Row:
    """Of an affine sampler, run without data: its draws are about 0."""
    with_prior = partial(sampler, prior=case.prior)
    run = jax.jit(with_prior)
    keys = jax.random.split(jax.random.key(case.seed + 1), num_draws)
    found = case.variances(np.stack([np.asarray(run(key, case.nothing)) for key in keys]))
    row = table_row(*ratio_of_draws(case, found))
    return {**row, "draws": num_draws, "bias": mean_error(case, with_prior)}


def ratio_of_draws(case: Case, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    exact, exact_error = np.asarray(case.exact), np.asarray(case.exact_error)
    ratio = found.mean(axis=0) / exact
    return ratio, np.hypot(standard_error(found) / exact, ratio * exact_error / exact)


def scaled(row: Row, factor: float) -> Row:
    """The row of the same samples with their scatter stretched."""
    scaled_row = {
        name: {key: (np.asarray(value) * factor).tolist() for key, value in row[name].items()}
        for name in ("std_observed", "std_masked")
    }
    power = {k: (np.asarray(v) * factor**2).tolist() for k, v in row["power_by_band"].items()}
    return {"power_by_band": power, **scaled_row, "bias": row["bias"]}


def gibbs_row(case: Case, num_chains: int, num_sweeps: int) -> Row:
    """Chains that start with a draw of the exact posterior: every sweep must keep its law.

    All sweeps count, and what the start happens to have too much or too little of the exact
    variance is taken off as far as the sweeps remember it (a control variate).
    """

    @jax.jit
    def chain(key: jax.Array, data: ShearMap) -> tuple[jax.Array, jax.Array]:
        key_start, key_sweeps = jax.random.split(key)
        start, _ = gaussian_fluctuation(key_start, data, case.prior)
        return start, sweeps(case, key_sweeps, start, num_sweeps, data)

    before, after = [], []
    for key in jax.random.split(jax.random.key(case.seed + 2), num_chains):
        start, states = chain(key, case.nothing)
        before.append(case.variances(np.asarray(start)[None])[0])
        after.append(case.variances(np.asarray(states)).mean(axis=0))
    start_error = np.asarray(before) - np.asarray(case.exact)
    kept = np.asarray(after)
    slope = [
        np.cov(b, a)[0, 1] / np.var(b, ddof=1) for b, a in zip(start_error.T, kept.T, strict=True)
    ]
    row = table_row(*ratio_of_draws(case, kept - np.asarray(slope) * start_error))

    def last(key: jax.Array, data: ShearMap) -> jax.Array:
        start = case.mean * jnp.any(data.shear != 0)
        return sweeps(case, key, start, num_sweeps, data)[-1]

    return {**row, "draws": num_chains, "sweeps": num_sweeps, "bias": mean_error(case, last)}


def mixing(case: Case, num_chains: int, shown: tuple[int, ...]) -> Row:
    """Variances of chains that all start at the mean, after some sweeps."""
    chain = jax.jit(
        lambda key, data: sweeps(case, key, jnp.zeros(data.grid.shape), max(shown), data)
    )
    keys = jax.random.split(jax.random.key(case.seed + 3), num_chains)
    numbers = np.asarray(shown) - 1
    states = np.stack([np.asarray(chain(key, case.nothing))[numbers] for key in keys])
    return {
        str(number): table_row(*ratio_of_draws(case, case.variances(states[:, i])))
        for i, number in enumerate(shown)
    }


def hmc_row(case: Case, num_chains: int) -> Row:
    """Annealed chains with the preconditioner that fits, and the flow to zero noise.

    The step is that of the package's settings for fields of 1000 pixels, shortened as the fourth
    root of the number of pixels.
    """
    data, prior = case.data, case.prior
    step_size = PRECONDITIONED.step_size * (data.grid.num_pixels / 1024) ** -0.25
    settings = replace(PRECONDITIONED, sigma_floor=FLOOR, step_size=step_size, num_leapfrog=9)
    posterior = AnnealedPosterior(ShearLikelihood(data), prior)
    fit = FourierPreconditioner(prior.variance, data.weight)
    rough = convergence_from_shear(jnp.where(data.mask, data.shear, 0), data.grid).real
    began = time.perf_counter()
    samples, infos = [], []
    for first in range(0, num_chains, 4):
        key = jax.random.key(case.seed + 4)
        white = jax.random.normal(jax.random.fold_in(key, 10**6 + first), (4, *data.grid.shape))
        start = rough[None] + settings.sigma_start * white
        maps, info = sample_annealed(key, start, posterior, settings, precondition=fit, first=first)
        samples.append(np.asarray(maps - maps.mean(axis=(1, 2), keepdims=True)))
        infos.append(info)
    errors = np.concatenate(samples) - np.asarray(case.mean)
    n = len(errors)
    centred = (errors - errors.mean(axis=0)) * np.sqrt(n / (n - 1))
    return {
        **table_row(*ratio_of_draws(case, case.variances(centred))),
        "draws": n,
        "finished": int(sum(info.finished.sum() for info in infos)),
        "evaluations": float(np.mean([info.evaluations.mean() for info in infos])),
        "acceptance": float(np.mean([info.statistics.acceptance.mean() for info in infos])),
        "seconds": time.perf_counter() - began,
        "square_bias": square_bias(case, errors),
    }


def square_bias(case: Case, errors: np.ndarray) -> dict[str, dict[str, float]]:
    """Square of the bias in units of the posterior's variance, free of the scatter of the draws."""
    found = {}
    n = len(errors)
    for name, region, variance in zip(
        ("observed", "masked"), (case.mask, ~case.mask), case.exact[-2:], strict=True
    ):
        e = errors[:, region]
        products = e @ e.T / e.shape[1] / variance
        np.fill_diagonal(products, 0)
        without = (products.sum() - 2 * products.sum(axis=0)) / ((n - 1) * (n - 2))
        jackknife = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
        found[name] = {"value": products.sum() / (n * (n - 1)), "standard_error": jackknife}
    return found


def draw(path: Path, figures: dict[str, Any]) -> None:
    figure = new_figure(10, 4.4)
    centres = np.sqrt(np.asarray(EDGES[1:], float) * np.maximum(EDGES[:-1], 500))
    groups = {"samplers": figures["samplers"], "controls": figures["controls"]}
    for number, (title, rows) in enumerate(groups.items()):
        axes = figure.add_subplot(1, 2, number + 1)
        axes.axhspan(0.98, 1.02, color="seagreen", alpha=0.15)
        axes.axhline(1, color="grey", linewidth=1)
        for index, (name, row) in enumerate(rows.items()):
            power = row["power_by_band"]
            shifted = centres * 1.04 ** (index - len(rows) / 2)
            axes.errorbar(
                shifted,
                power["value"],
                power["standard_error"],
                fmt="os^dvPX"[index],
                markersize=4,
                capsize=3,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_xlabel(r"multipole $\ell$")
        axes.set_ylabel("residual power of samples / exact")
        axes.set_title(title, fontsize=10)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.35 * (high - low), high)
        axes.legend(frameon=False, fontsize=7, loc="lower right", ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
