"""Posterior samples of fields about clusters: do their masses and centres cover the truth?

The fields of ``hong.py``, whose maps this needs. Of every sample: the mass within 10 pixels of the
true peak, and the place of the sample's own highest peak in the middle of the field. If the fields
were drawn from the prior, the rank of the true place among those of the samples would be uniform.
They are not: they were chosen for their peaks, the prior is of sources of COSMOS, and the aperture
lies where the truth is highest; so masses are expected to come out low. Kept under ``--runs`` field
by field, so that a run that was stopped goes on. Writes results/hong_samples.json and .png.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import arguments, mean_and_error, new_figure, save
from hong import COARSE, GRIDS, SKIES, each_of, galaxies_of, inner, resampled, truth_of
from hong_maps import HELD_OUT, RUNS, held_out
from hong_pictures import MASS
from hong_pictures import SKIES as SKY_LABELS
from hong_scores import mass_and_place

from jaxmap.clusters.scores import projected_mass
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import SampledPosterior
from jaxmap.files import atomic_path
from jaxmap.simulation.cluster_fields import ClusterSky, bin_cluster

LEVELS = (0.5, 0.68, 0.95)


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 200, "help": "fields (default: %(default)s)"},
        samples={"type": int, "default": 16, "help": "of each (default: %(default)s)"},
        runs={"type": Path, "default": RUNS / "samples"},
        **HELD_OUT,
    )
    options.runs.mkdir(parents=True, exist_ok=True)
    num, samples = (2, 4) if options.quick else (options.num, options.samples)
    denoiser, _, record = read_denoiser()
    estimate = SampledPosterior(denoiser, num_samples=samples)
    rows = [
        sampled_field(number, sky, estimate, options.runs, options.seed, record["sha256"])
        for number, sky in enumerate(each_of(held_out(options, num), num))
    ]
    figures: dict[str, Any] = {"fields": num, "samples": samples, "weights": record["sha256"]}
    figures |= {kind: judged([row[kind] for row in rows]) for kind in SKIES}
    figures["seconds_per_field"] = float(np.median([row["seconds"] for row in rows]))
    save(options, "hong_samples", figures)
    draw([[row[kind] for row in rows] for kind in SKIES], options.out / "hong_samples.png")


def sampled_field(
    number: int, sky: ClusterSky, estimate: SampledPosterior, kept: Path, seed: int, weights: str
) -> dict[str, Any]:
    """Masses and places of the samples of one field beside the true ones; kept in a file."""
    path = kept / f"{weights[:12]}-{estimate.num_samples}-{seed}-{number:04d}.json"
    if path.exists():
        return json.loads(path.read_text())
    begun = time.perf_counter()
    mass, x, y = mass_and_place(truth_of(sky))
    row: dict[str, Any] = {}
    for index, kind in enumerate(SKIES):
        grid = GRIDS["deepmass"]
        data = bin_cluster(galaxies_of(seed, number, sky, kind), grid)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), index)
        found = estimate(key, data).samples
        assert found is not None
        maps = [inner(resampled(one, grid)) for one in found]
        own = [mass_and_place(one) for one in maps]
        row[kind] = {
            "truth": {"mass": mass, "x": x, "y": y},
            "mass": [projected_mass(one, x, y) for one in maps],
            "x": [place[1] for place in own],
            "y": [place[2] for place in own],
        }
    row["seconds"] = time.perf_counter() - begun
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(row))
    print(f"field {number}: {row['seconds']:.0f} s", flush=True)
    return row


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage of the truth by central intervals, and errors in units of the quoted ones."""
    found: dict[str, Any] = {}
    for name in ("mass", "x", "y"):
        truth = np.array([row["truth"][name] for row in rows])
        samples = np.array([row[name] for row in rows])
        n = samples.shape[1]
        # Ties of places in pixels count half.
        below = (samples < truth[:, None]).sum(axis=1)
        below = below + 0.5 * (samples == truth[:, None]).sum(axis=1)
        place = (below + 0.5) / (n + 1)
        mean = samples.mean(axis=1)
        variance = np.maximum(samples.var(axis=1, ddof=1) * (1 + 1 / n), 1e-12)
        found[name] = {
            "coverage": {
                str(level): mean_and_error((np.abs(place - 0.5) <= level / 2).astype(float))
                for level in LEVELS
            },
            "mean_rank": mean_and_error(place),
            "rms_error": float(np.sqrt(np.mean((mean - truth) ** 2))),
            "quoted": float(np.sqrt(np.mean(variance))),
            "mean_error": mean_and_error(mean - truth),
        }
    ratio = np.array([np.mean(row["mass"]) / row["truth"]["mass"] for row in rows])
    found["mass_ratio"] = np.percentile(ratio, (16, 50, 84)).tolist()
    found["centre_error_arcmin"] = COARSE.pixel_arcmin * found["x"]["quoted"]
    return found


def draw(of_skies: list[list[dict[str, Any]]], path: Path) -> None:
    figure = new_figure(9, 4.2)
    for column, (rows, kind) in enumerate(zip(of_skies, SKY_LABELS.values(), strict=True)):
        axes = figure.add_subplot(1, 2, column + 1)
        truth = np.array([row["truth"]["mass"] for row in rows])
        samples = np.array([row["mass"] for row in rows])
        axes.errorbar(
            truth, samples.mean(axis=1), samples.std(axis=1, ddof=1), fmt=".", ms=3, lw=0.6
        )
        axes.plot([0, truth.max()], [0, truth.max()], "k", lw=0.7)
        axes.set(title=kind, xlabel=f"true {MASS}", ylabel="mean and std of posterior samples")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
