"""Posterior samples of the shipped prior: seconds and memory against size and batch.

Run from the repository root: ``python experiments/benchmarks/posterior_samples.py`` (some minutes).

A COSMOS-like survey is scaled to the map, without margin, so sizes are those of the images that the
network and the FFTs see. ``batch`` is `SampledPosterior.chunk`, the samples drawn at once. Every
measurement has a fresh process, so that its peak of memory is its own (resident, or of the GPU);
the first run, with the compilation, gives the peak, the second one the seconds. On a GPU:
``XLA_PYTHON_CLIENT_PREALLOCATE=false`` and ``--batches 1,16,64``.
"""

from __future__ import annotations

import time
from typing import Any

import jax
from common import arguments, in_fresh_process, peak_bytes, survey, table, write_json

from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import SampledPosterior

SIZES, BATCHES = (128, 256, 360, 512), (1, 4)


def measure(size: int, batch: int, seed: int) -> dict[str, Any]:
    """Time and memory of the samples of one map, in a process of its own."""
    data, _ = survey(size, seed)
    denoiser, _, _ = read_denoiser()
    num = max(2, batch)
    estimator = SampledPosterior(denoiser, num_samples=num, margin=0, chunk=batch)
    before = peak_bytes()
    result = estimator(jax.random.key(seed), data)
    after = peak_bytes()
    start = time.perf_counter()
    jax.block_until_ready(estimator(jax.random.key(seed + 1), data).convergence)
    return {
        "size": size,
        "batch": batch,
        "seconds_per_sample": (time.perf_counter() - start) / num,
        "evaluations_per_sample": result.diagnostics["network_evaluations_per_sample"],
        "peak_bytes": after,
        "peak_bytes_before": before,
    }


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    args = arguments(
        "posterior_samples",
        __doc__ or "",
        sizes={"type": numbers, "default": SIZES, "help": "with commas; default: %(default)s"},
        batches={"type": numbers, "default": BATCHES, "help": "with commas; default: %(default)s"},
    )
    sizes, batches = ((32,), (1, 2)) if args.quick else (args.sizes, args.batches)
    rows = []
    for size in sizes:
        for batch in batches:
            rows.append(in_fresh_process(measure, size, batch, args.seed))
            print(rows[-1], flush=True)
    lines = [
        (
            str(row["size"]),
            str(row["batch"]),
            f"{row['seconds_per_sample']:.3g}",
            f"{row['evaluations_per_sample']:.4g}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{(row['peak_bytes'] - row['peak_bytes_before']) / 1e6:.0f}",
        )
        for row in rows
    ]
    head = ("pixels", "batch", "seconds/sample", "evaluations", "peak [MB]", "of it, the run")
    print(table(head, lines))
    write_json(args, rows)


if __name__ == "__main__":
    main()
