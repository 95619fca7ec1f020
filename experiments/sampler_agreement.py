"""Do the samplers agree under the shipped prior? `eps`, `gibbs` and preconditioned annealed HMC.

Two simulated fields of 192 and 360 pixels a side with a hole and the depth of COSMOS: on smaller
ones the network is too strong (field_sizes.py), which chains of hundreds of steps add up. The
samplers rest on different approximations: `eps` on the denoiser at the noise of the data, `gibbs`
on that at even noise, `hmc-fast` on the score of the posterior's convolutions. `hmc`, with the
paper's schedule and its proxy of the posterior, takes 20 000 evaluations a sample, and is run on a
third field, of 64 pixels a side. Means differ by the mean square of their difference over the
posterior variance, less what the number of samples makes of it.

Writes results/sampler_agreement.json. An hour on a CPU; fields that are there are not run again.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import jax
import numpy as np
from common import arguments, save

from jaxmap.catalog import shear_map
from jaxmap.demo import sky_redshifts
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import SampledPosterior
from jaxmap.grid import Grid
from jaxmap.methods import build_sampler
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone

FIELDS = ((192, 16), (360, 4), (64, 4))
"""Pixels a side, and samples: spreads are means over pixels, of which the larger has more."""
PUBLISHED = 64
"""Pixels a side of the field on which the paper's schedule is run too."""
PIXEL, NOISE_STD = 0.29, 0.125
HOLE = (slice(10, 42), slice(20, 60))


def main() -> None:
    options = arguments(
        __doc__,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
        again={"action": "store_true", "help": "those fields too that are kept"},
    )
    denoiser, domain, header = read_denoiser(options.weights)
    weights = header["sha256"]
    path = options.out / "sampler_agreement.json"
    kept = json.loads(path.read_text()) if path.exists() and not options.again else {}
    rows = kept["fields"] if kept.get("weights") == weights else []
    known = [row["pixels"][0] for row in rows]
    draw_sky = jax.jit(halo_light_cone, static_argnums=2)
    steps = {"eps": None, "gibbs": 8 if options.quick else 32, "hmc-fast": None}
    # Of a small field the hole is what is left of it inside.
    for number, (side, num) in enumerate(((32, 4),) if options.quick else FIELDS):
        if side in known:
            continue
        grid = Grid((side, side), PIXEL)
        cone = build_light_cone(grid, sky_redshifts(), baryons=TNG_BARYONS)
        key_sky, key_noise, key_map = jax.random.split(
            jax.random.fold_in(jax.random.key(options.seed), number), 3
        )
        std = np.full(grid.shape, NOISE_STD)
        std[HOLE] = 0
        noise = jax.lax.complex(*(std[None] * jax.random.normal(key_noise, (2, *grid.shape))))
        shear = shear_from_convergence(draw_sky(key_sky, cone, cone.grid), grid) + noise
        data = shear_map(shear, grid, noise_std=std)
        found, costs = {}, {}
        for name, count in (steps | ({"hmc": None} if side == PUBLISHED else {})).items():
            start = time.perf_counter()
            sampler = build_sampler(name, count, lambda run: run)
            estimator = SampledPosterior(
                denoiser, sampler, num, domain=domain, margin=0, chunk=min(num, 8)
            )
            result = estimator(key_map, data)
            found[name] = np.asarray(result.samples, float)
            costs[name] = {
                "evaluations_per_sample": result.diagnostics["network_evaluations_per_sample"],
                "chi2_per_pixel": result.diagnostics["chi2_per_pixel"],
                "rhat_largest": max(
                    (v for v in result.diagnostics.get("rhat", []) if v is not None), default=None
                ),
                "acceptance": result.diagnostics.get("acceptance"),
                "seconds": time.perf_counter() - start,
            }
            print(name, costs[name], flush=True)
        rows.append(
            {
                "pixels": list(grid.shape),
                "num_samples": num,
                "samplers": costs,
                "pairs": {
                    f"{one} and {other}": compare(found[one], found[other], np.asarray(data.mask))
                    for one, other in itertools.combinations(found, 2)
                },
            }
        )
        save(options, "sampler_agreement", {"weights": weights, "fields": rows})


def compare(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Squared gap of the means in units of the variance, unbiased, and ratios of the spreads."""
    variance = [samples.var(axis=0, ddof=1) for samples in (one, other)]
    gap = (one.mean(axis=0) - other.mean(axis=0)) ** 2
    expected = variance[0] / len(one) + variance[1] / len(other)
    pooled = (variance[0] + variance[1]) / 2
    figures = {}
    for name, where in (("observed", mask), ("masked", ~mask)):
        figures[f"square_gap_{name}"] = float((gap - expected)[where].sum() / pooled[where].sum())
        figures[f"square_gap_of_chance_{name}"] = float(expected[where].sum() / pooled[where].sum())
        figures[f"std_ratio_{name}"] = float(
            np.sqrt(variance[1][where].sum() / variance[0][where].sum())
        )
    return figures


if __name__ == "__main__":
    main()
