"""Cost of the published network and of the denoiser's: parameters, arithmetic, time for a map.

Run from the repository root: ``python experiments/benchmarks/networks.py`` (a minute).
Target: at most 15 GFLOP for the denoiser's network on a map of 360 x 360 pixels, where the
published one takes 56.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from common import arguments, interleaved, show, spread, table, write_json

from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES
from jaxmap.networks.score_unet import ScoreUNet, initialise_score, residual_score
from jaxmap.networks.unet import ResidualUNet, evaluate, initialise

TARGET = 15.0


def published(key: jax.Array, size: int) -> tuple[Any, Callable[..., Any], list[jax.Array]]:
    """Parameters, function and inputs of the residual score of Remy et al."""
    network = ScoreUNet()
    params = initialise_score(network, key)
    image = jnp.zeros((size, size))
    return params, lambda p, *x: residual_score(network, p, *x, 0.1), [image, image]


def denoiser(key: jax.Array, size: int) -> tuple[Any, Callable[..., Any], list[jax.Array]]:
    """Those of the network in the default `jaxmap.denoiser.Denoiser`."""
    network = ResidualUNet()
    params = initialise(network, key, NUM_FEATURES, NUM_CONDITIONS)
    inputs = [jnp.zeros((size, size, count)) for count in (NUM_FEATURES, NUM_CONDITIONS)]
    return params, lambda p, *x: evaluate(network, p, *x), inputs


def main() -> None:
    args = arguments("networks", __doc__ or "")
    size, rounds = (48, 2) if args.quick else (360, 7)
    rows, calls = [], {}
    for name, build in {"published": published, "denoiser": denoiser}.items():
        params, function, inputs = build(jax.random.key(args.seed), size)
        compiled = jax.jit(function).lower(params, *inputs).compile()
        calls[name] = lambda run=compiled, p=params, x=inputs: run(p, *x)
        rows.append(
            {
                "network": name,
                "size": size,
                "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
                "gflop": compiled.cost_analysis()["flops"] / 1e9,
            }
        )
    seconds = interleaved(calls, rounds)
    lines = []
    for row in rows:
        ratio = seconds[row["network"]] / seconds["published"]
        row |= {"seconds": spread(seconds[row["network"]]), "over_published": spread(ratio)}
        size_and_work = (f"{row['parameters']:,}", f"{row['gflop']:.2f}")
        times = (show(row["seconds"], 1, 3), show(row["over_published"]))
        lines.append((row["network"], *size_and_work, *times))
    print(table(("network", "parameters", "GFLOP", "seconds", "over published"), lines))
    write_json(args, rows, target_gflop=TARGET)


if __name__ == "__main__":
    main()
