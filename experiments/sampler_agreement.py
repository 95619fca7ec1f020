"""Do the samplers agree under the shipped prior? `eps`, `gibbs`, and annealed HMC of two kinds.

Simulated fields of 192 and 360 pixels a side with a hole and the depth of COSMOS: on smaller ones
the network is too strong (field_sizes.py), which chains of hundreds of steps add up. The samplers
rest on different approximations: `eps` on the denoiser at the noise of the data, `gibbs` on that at
even noise, `hmc-fast` on the score of the posterior's convolutions. `hmc`, with the paper's
schedule and its proxy of the posterior, takes 18 000 evaluations a sample, and is run on the field
of 192 pixels and on a third of 64, with four chains; beside it the same chains under the Gaussian
prior of the same power and exact draws of that posterior, which tell what is the schedule's and
the proxy's. Means differ by the mean square of their difference over the posterior variance, less
what the number of samples makes of it.

Writes results/sampler_agreement.json. Three hours of a CPU core, half of it for `hmc` on 192
pixels; samples are kept in runs/ as they are drawn, so that a run that is stopped goes on, and
``--side`` and ``--sampler`` draw a part.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import HERE, arguments, save

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.demo import sky_redshifts
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import Estimator, SampledPosterior, Wiener
from jaxmap.files import atomic_path
from jaxmap.grid import Grid
from jaxmap.methods import build_sampler
from jaxmap.operators import shear_from_convergence
from jaxmap.sampling.rounds import AnnealingState
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone

FIELDS = {192: 16, 360: 4, 64: 4}
"""Samples by pixels a side: spreads are means over pixels, of which the larger has more."""
PUBLISHED, CHAINS = (192, 64, 32), 4
"""Pixels a side of the fields on which the paper's schedule is run too, and its chains."""
GAUSSIAN, EXACT = " of a Gaussian field", 64
"""What names of samples under a Gaussian prior end with; exact draws of it."""
PIXEL, NOISE_STD = 0.29, 0.125
HOLE = (slice(10, 42), slice(20, 60))


def main() -> None:
    options = arguments(
        __doc__,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
        side={"type": int, "help": "draw the samples of this field only, and compare none"},
        sampler={"help": "draw the samples of this sampler only, and compare none"},
        runs={"type": Path, "default": HERE.parent / "runs" / "sampler_agreement"},
    )
    prior = read_denoiser(options.weights)
    weights = prior[2]["sha256"]
    folder = options.runs / f"{weights[:12]}-{options.seed}"
    # Of a small field the hole is what is left of it inside.
    fields = {32: 4} if options.quick else FIELDS
    rows = []
    for number, (side, num) in enumerate(fields.items()):
        if options.side not in (None, side):
            continue
        key_sky, key_noise, key_map = jax.random.split(
            jax.random.fold_in(jax.random.key(options.seed), number), 3
        )
        data = None
        found, costs = {}, {}
        for name, estimator in estimators(prior, side, num, options.quick).items():
            if options.sampler not in (None, name):
                continue
            path = folder / f"{side}_{name}.npz"
            if not path.exists():
                data = data or observe(key_sky, key_noise, side)
                samples, cost = draw(key_map, data, estimator)
                with atomic_path(path) as temporary:
                    np.savez(temporary, samples=samples, cost=json.dumps(cost))
            with np.load(path) as kept:
                found[name] = kept["samples"].astype(float)
                costs[name] = json.loads(str(kept["cost"]))
            print(name, costs[name], flush=True)
        if options.side is None and options.sampler is None:
            rows.append({"pixels": [side, side], "samplers": costs, **compare_all(found, side)})
    if rows:
        save(options, "sampler_agreement", {"weights": weights, "fields": rows})


def estimators(prior: Any, side: int, num: int, quick: bool) -> dict[str, Estimator]:
    """By name; those of the Gaussian prior end with ``of a Gaussian field``."""
    denoiser, domain, _ = prior
    chunk = min(num, 8)
    learned = partial(SampledPosterior, denoiser, domain=domain, margin=0, chunk=chunk)
    found: dict[str, Estimator] = {}
    for name, steps in {"eps": None, "gibbs": 8 if quick else 32, "hmc-fast": None}.items():
        found[name] = learned(sampler=build_sampler(name, steps, shown), num_samples=num)
    if side in PUBLISHED:
        chains = learned(sampler=build_sampler("hmc", None, shown), num_samples=CHAINS)
        found["hmc"] = chains
        found[f"hmc{GAUSSIAN}"] = replace(chains, prior=denoiser.spectrum, domain=None)
        found[f"exact{GAUSSIAN}"] = Wiener(denoiser.spectrum, EXACT, margin=0, chunk=chunk)
    return found


def noise_levels(side: int) -> np.ndarray:
    """Standard deviation of the noise per component, 0 in the hole."""
    std = np.full((side, side), NOISE_STD)
    std[HOLE] = 0
    return std


def observe(key_sky: jax.Array, key_noise: jax.Array, side: int) -> ShearMap:
    """A noisy sky of the light cone, periodic, with a hole."""
    grid = Grid((side, side), PIXEL)
    cone = build_light_cone(grid, sky_redshifts(), baryons=TNG_BARYONS)
    draw_sky = jax.jit(halo_light_cone, static_argnums=2)
    std = noise_levels(side)
    noise = jax.lax.complex(*(std[None] * jax.random.normal(key_noise, (2, *grid.shape))))
    shear = shear_from_convergence(draw_sky(key_sky, cone, cone.grid), grid) + noise
    return shear_map(shear, grid, noise_std=std)


def draw(key: jax.Array, data: ShearMap, estimator: Estimator) -> tuple[np.ndarray, dict[str, Any]]:
    """Samples of an estimator, and what they cost."""
    start = time.perf_counter()
    result = estimator(key, data)
    assert result.samples is not None
    told = result.diagnostics
    rhat = [value for value in told.get("rhat", []) if value is not None]
    cost = {
        "num_samples": len(result.samples),
        "evaluations_per_sample": told.get("network_evaluations_per_sample"),
        "chi2_per_pixel": told.get("chi2_per_pixel"),
        "rhat_largest": max(rhat, default=None),
        "acceptance": told.get("acceptance"),
        "seconds": time.perf_counter() - start,
    }
    return np.asarray(result.samples), cost


def shown(run: Iterable[AnnealingState]) -> Iterator[AnnealingState]:
    """Tell how far chains are."""
    for state in run:
        print(f"levels of the chains: {state.level.tolist()}", flush=True)
        yield state


def compare_all(found: dict[str, np.ndarray], side: int) -> dict[str, dict[str, Any]]:
    """Every pair under the learned prior, and the chains of a Gaussian field with exact draws."""
    learned = [name for name in found if not name.endswith(GAUSSIAN)]
    pairs = list(itertools.combinations(learned, 2))
    if len(learned) < len(found):
        pairs.append((f"exact{GAUSSIAN}", f"hmc{GAUSSIAN}"))
    mask = noise_levels(side) > 0
    return {
        "pairs": {
            f"{one} and {other}": compare(found[one], found[other], mask) for one, other in pairs
        }
    }


def compare(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Squared gap of the means in units of the variance, unbiased, and ratios of the spreads."""
    gap = (one.mean(axis=0) - other.mean(axis=0)) ** 2
    expected = one.var(axis=0, ddof=1) / len(one) + other.var(axis=0, ddof=1) / len(other)
    figures = {}
    for name, where in (("observed", mask), ("masked", ~mask)):
        (first, first_error), (second, second_error) = (
            mean_variance(samples[:, where]) for samples in (one, other)
        )
        pooled = (first + second) / 2
        figures[f"square_gap_{name}"] = (gap - expected)[where].mean() / pooled
        figures[f"square_gap_of_chance_{name}"] = expected[where].mean() / pooled
        ratio = np.sqrt(second / first)
        figures[f"std_ratio_{name}"] = ratio
        error = np.hypot(first_error / first, second_error / second) / 2
        figures[f"std_ratio_{name}_error"] = ratio * error
    return {name: float(value) for name, value in figures.items()}


def mean_variance(samples: np.ndarray) -> tuple[float, float]:
    """Over pixels, shape ``(n, pixels)``, and its jackknife error."""
    without = [
        np.delete(samples, i, axis=0).var(axis=0, ddof=1).mean() for i in range(len(samples))
    ]
    error = np.sqrt((len(samples) - 1) * np.var(without))
    return samples.var(axis=0, ddof=1).mean(), error


if __name__ == "__main__":
    main()
