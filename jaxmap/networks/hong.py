r"""The network of Hong et al. (2021) for clusters: ellipticities in, convergence out.

.. math:: A &= \mathrm{pool}_3 \tanh(C^{(3)} x), \qquad
          P_0 = A \\
          M_i &= \tanh(C_i \tanh(T_i P_{i-1})) \cdot S_i, \qquad P_i = \mathrm{norm}_i(M_i),
          \qquad i = 1 \dots 4 \\
          y &= C_5 \tanh(T_5 P_4)

with convolutions C and transposed convolutions T of width k (49 as published), neither padded, and
batch normalisation. The factors are :math:`S = (A, P_1, P_2, P_1)` as their Table 1 has it, or
:math:`P_3` for the last as the pattern and the text have it. Of 386 x 386 pixels come 128 x 128 of
three times their side.

Not stated there and chosen here: a factor is taken behind its normalisation, and the output is
linear. Initial weights, normalisation (:math:`\epsilon = 10^{-3}`, running means over about 100
steps) are the defaults of Keras, which they used.

References:
    Hong et al. (2021), ApJ 923, 266, Table 1 and Sect. 2.3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxmap.networks.wide_convolution import convolve_full, convolve_valid

POOL, FIRST_WIDTH, NUM_BLOCKS, FEATURES = 3, 3, 4, 8
SIDE = 386
"""Pixels of the published input."""

BORDER = 14
"""Pixels of the output that training leaves out on every side."""

LEAST_SIDE = FIRST_WIDTH - 1 + POOL * (2 * BORDER + 1)
"""Pixels of the input whose output reaches over its border."""

_EPSILON, _MOMENTUM = 1e-3, 0.99


@dataclass(frozen=True)
class HongNetwork:
    """Architecture.

    Args:
        width: k, 49 in the paper's best network; it tried 29 and 19 too.
        channels: of the input: two of ellipticity, its error, and 4 with the number density.
        skip4: what the fourth product takes: ``m1`` as printed, ``m3`` as in the other products.
        skip: multiply at all.
        fft: how the wide convolutions are computed; no matter of the weights.

    Raises:
        ValueError: for a value out of range.
    """

    width: int = 49
    channels: int = 3
    skip4: str = "m1"
    skip: bool = True
    fft: bool = True

    def __post_init__(self) -> None:
        if self.width < 2:
            raise ValueError(f"width is {self.width}; expected 2 or more (published: 49, 29, 19)")
        if self.channels not in (3, 4):
            raise ValueError(f"channels is {self.channels}; expected 3, or 4 with the density")
        if self.skip4 not in ("m1", "m3"):
            raise ValueError(f"skip4 is {self.skip4!r}; expected 'm1' or 'm3'")


def output_side(side: int) -> int:
    """Pixels of the output for an input of so many."""
    return (side - FIRST_WIDTH + 1) // POOL


@partial(jax.jit, static_argnames="network")
def initialise_hong(network: HongNetwork, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters: ``weights``, which are trained, and ``statistics`` of the normalisation."""
    layers = {"first": (FIRST_WIDTH, network.channels, FEATURES)}
    for block in range(1, NUM_BLOCKS + 1):
        layers[f"up{block}"] = layers[f"down{block}"] = (network.width, FEATURES, FEATURES)
    layers |= {"up5": (network.width, FEATURES, 16), "down5": (network.width, 16, 1)}
    shapes = {name: (k, k, inputs, outputs) for name, (k, inputs, outputs) in layers.items()}
    # One draw for all: every further one would have to be compiled.
    drawn = jax.random.uniform(key, (sum(map(math.prod, shapes.values())),), minval=-1)
    weights: dict[str, Any] = {}
    for name, (width, _, inputs, outputs) in shapes.items():
        limit = (6 / (width**2 * (inputs + outputs))) ** 0.5
        size = math.prod(shapes[name])
        kernel, drawn = limit * drawn[:size].reshape(shapes[name]), drawn[size:]
        weights[name] = {"kernel": kernel, "bias": jnp.zeros(outputs)}
    statistics: dict[str, Any] = {}
    for block in range(1, NUM_BLOCKS + 1):
        ones, zeros = jnp.ones(FEATURES), jnp.zeros(FEATURES)
        weights[f"norm{block}"] = {"scale": ones, "offset": zeros}
        statistics[f"norm{block}"] = {"mean": zeros, "variance": ones}
    return {"weights": weights, "statistics": statistics}


def apply_hong(network: HongNetwork, params: Any, images: jax.Array) -> jax.Array:
    """Apply a trained network.

    Args:
        network: its architecture.
        params: of `initialise_hong` or training.
        images: shape ``(batch, channels, ny, nx)``.

    Returns:
        Shape ``(batch, (ny - 2) // 3, (nx - 2) // 3)``.
    """
    return _forward(network, params, images, training=False)[0]


def train_hong(network: HongNetwork, params: Any, images: jax.Array) -> tuple[jax.Array, Any]:
    """As `apply_hong`, but normalised by the batch; with the statistics of the batch."""
    return _forward(network, params, images, training=True)


def running_statistics(known: Any, batch: Any) -> Any:
    """The running statistics after another batch."""
    return jax.tree.map(lambda old, new: _MOMENTUM * old + (1 - _MOMENTUM) * new, known, batch)


def _forward(
    network: HongNetwork, params: Any, images: jax.Array, training: bool
) -> tuple[jax.Array, Any]:
    weights, statistics = params["weights"], {}

    def valid(x: jax.Array, name: str, fft: bool = network.fft) -> jax.Array:
        return _biased(convolve_valid(x, weights[name]["kernel"], fft), weights[name])

    def full(x: jax.Array, name: str) -> jax.Array:
        return _biased(convolve_full(x, weights[name]["kernel"], network.fft), weights[name])

    x = _pooled(jnp.tanh(valid(images, "first", fft=False)))
    factors = [x]
    for block in range(1, NUM_BLOCKS + 1):
        x = jnp.tanh(valid(jnp.tanh(full(x, f"up{block}")), f"down{block}"))
        if network.skip:
            x = x * factors[1 if block == NUM_BLOCKS and network.skip4 == "m1" else block - 1]
        name = f"norm{block}"
        known = None if training else params["statistics"][name]
        x, statistics[name] = _normalised(x, weights[name], known)
        factors.append(x)
    return valid(jnp.tanh(full(x, "up5")), "down5")[:, 0], statistics


def _biased(x: jax.Array, layer: Any) -> jax.Array:
    return x + layer["bias"][None, :, None, None]


def _pooled(x: jax.Array) -> jax.Array:
    ny, nx = (side // POOL for side in x.shape[-2:])
    blocks = x[..., : ny * POOL, : nx * POOL].reshape(*x.shape[:2], ny, POOL, nx, POOL)
    return blocks.mean(axis=(3, 5))


def _normalised(x: jax.Array, layer: Any, known: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """By known statistics, or else by those of the batch; and these, without gradient."""
    if known is None:
        mean = jnp.mean(x, axis=(0, 2, 3))
        known = {"mean": mean, "variance": jnp.mean((x - _per_channel(mean)) ** 2, axis=(0, 2, 3))}
    factor = layer["scale"] * jax.lax.rsqrt(known["variance"] + _EPSILON)
    normal = (x - _per_channel(known["mean"])) * _per_channel(factor)
    return normal + _per_channel(layer["offset"]), jax.lax.stop_gradient(known)


def _per_channel(values: jax.Array) -> jax.Array:
    return values[None, :, None, None]
