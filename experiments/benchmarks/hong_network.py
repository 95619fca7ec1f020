"""Wide convolutions by FFT against direct ones, in the network of Hong et al. on a CPU.

Run from the repository root: ``python experiments/benchmarks/hong_network.py`` (minutes).
Target: ten times faster at batches of 8 with filters of 49 x 49, gradients too, and right to 1e-5
of the largest value. What is right is told by float64; in float32 the direct sums of a gradient by
the kernels, over all pixels of all images, err by more than that, and FFTs do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, interleaved, show, spread, table, write_json

from jaxmap.networks.hong import HongNetwork, initialise_hong
from jaxmap.networks.wide_convolution import convolve_full, convolve_valid

WIDTHS = (49, 29, 19)
TARGET = 10.0


def pair(images: jax.Array, kernels: list[jax.Array], fft: bool) -> jax.Array:
    """A block of the network: a transposed convolution and one back, 8 channels each."""
    return convolve_valid(jnp.tanh(convolve_full(images, kernels[0], fft)), kernels[1], fft)


def gradient(images: jax.Array, kernels: list[jax.Array], fft: bool) -> tuple:
    """Of a sum of squares, by images and kernels."""
    return jax.grad(lambda *at: jnp.sum(pair(*at, fft) ** 2), argnums=(0, 1))(images, kernels)


def main() -> None:
    args = arguments("hong_network", __doc__ or "")
    batch, side, rounds, widths = (2, 32, 2, (9,)) if args.quick else (8, 128, 3, WIDTHS)
    rows, lines = [], []
    for width in widths:
        params = initialise_hong(HongNetwork(width), jax.random.key(args.seed))
        kernels = [params["weights"][name]["kernel"] for name in ("up1", "down1")]
        images = jax.random.normal(jax.random.key(args.seed + 1), (batch, 8, side, side))
        for name, function in {"forward": pair, "gradient": gradient}.items():
            calls = {
                way: partial(jax.jit(partial(function, fft=way == "fft")), images, kernels)
                for way in ("fft", "direct")
            }
            truth = in_float64(function, images, kernels)
            errors = {way: largest(calls[way](), truth) for way in calls}
            seconds = interleaved(calls, rounds)
            row = {
                "width": width,
                "pass": name,
                "batch": batch,
                "fft_seconds": spread(seconds["fft"]),
                "direct_seconds": spread(seconds["direct"]),
                "times_faster": spread(seconds["direct"] / seconds["fft"]),
                "fft_error": errors["fft"],
                "direct_error": errors["direct"],
            }
            rows.append(row)
            times = (show(row[key], 1, 3) for key in ("fft_seconds", "direct_seconds"))
            told = (f"{errors[way]:.1e}" for way in ("fft", "direct"))
            lines.append((str(width), name, *times, show(row["times_faster"], 1, 1), *told))
    head = ("filter", "pass", "FFT [s]", "direct [s]", "times faster", "FFT off", "direct off")
    print(table(head, lines))
    write_json(args, rows, target=TARGET, parameters=sizes())


def in_float64(function: Callable, images: jax.Array, kernels: list[jax.Array]) -> Any:
    """What float32 should give."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (images, kernels))
        return jax.tree.map(np.asarray, jax.jit(partial(function, fft=True))(*wide))


def largest(found: Any, truth: Any) -> float:
    """Error over the largest value, the largest of all leaves."""
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True)
    return max(float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in leaves)


def sizes() -> dict[int, int]:
    """Trained parameters of the networks with three channels."""
    shapes = (
        jax.eval_shape(partial(initialise_hong, HongNetwork(width)), jax.random.key(0))["weights"]
        for width in WIDTHS
    )
    counts = (sum(leaf.size for leaf in jax.tree.leaves(shape)) for shape in shapes)
    return dict(zip(WIDTHS, counts, strict=True))


if __name__ == "__main__":
    main()
