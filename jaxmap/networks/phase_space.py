"""A small convolutional network on images of phase space, and its training by epochs.

References:
    Ho et al. (2019), ApJ 887, 25, section 3.2; layer sizes that are in its figure only are those of
    the public code (github.com/McWilliamsCenter/halo_cnn, revision 16e195a).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


class VelocityConv(nn.Module):
    """Convolution along the first axis, zeros beyond its ends, as one matrix product.

    On processors that is several times as fast as XLA's convolution and its gradient.

    Args:
        filters: number of outputs.
        width: of the kernel, odd.
    """

    filters: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply to shape ``(batch, length, channels)``."""
        batch, length, channels = x.shape
        shape = (self.width, channels, self.filters)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.filters,)).astype(x.dtype)
        half = self.width // 2
        wide = jnp.pad(x, ((0, 0), (half, half), (0, 0)))
        taps = [wide[:, i : i + length] for i in range(self.width)]
        rows = jnp.concatenate(taps, axis=2).reshape(batch * length, -1)
        product = rows @ kernel.reshape(-1, self.filters) + bias[None, :]
        return product.reshape(batch, length, self.filters)


class PhaseSpaceCNN(nn.Module):
    """Two convolutions along velocity, max pooling, dropout, and dense layers to one number.

    Args:
        filters: of the convolutions.
        widths: of their kernels.
        pool: width of the max pooling; 1 for none.
        dropout: share of features left out in training.
        dense: hidden dense layers.
    """

    filters: tuple[int, ...] = (24, 10)
    widths: tuple[int, ...] = (5, 3)
    pool: int = 4
    dropout: float = 0.25
    dense: tuple[int, ...] = (128, 64)

    @nn.compact
    def __call__(self, x: jax.Array, training: bool = False) -> jax.Array:
        """Apply to images of shape ``(batch, velocities, radii)``; returns shape ``(batch,)``.

        Its parameters come from `initialise`.
        """
        for filters, width in zip(self.filters, self.widths, strict=True):
            x = nn.relu(VelocityConv(filters, width)(x))
        if self.pool > 1:
            x = nn.max_pool(x, (self.pool,), (self.pool,))
        x = nn.Dropout(self.dropout, deterministic=not training)(x)
        x = x.reshape(len(x), -1)
        for size in self.dense:
            x = nn.relu(nn.Dense(size)(x))
        return nn.Dense(1, name="output")(x)[:, 0]


class Learning(NamedTuple):
    """Settings of the training; hashable.

    Attributes:
        learning_rate: of Adam, divided by ``1 + decay * step``.
        decay: see there.
        batch: images of one step.
        max_norm: of the weights of a filter, or None; applied to all layers but the last.
        l2: factor of the sum of squared weights in the loss.
    """

    learning_rate: float = 1e-3
    decay: float = 1e-6
    batch: int = 100
    max_norm: float | None = 3.0
    l2: float = 0.0


class EpochState(NamedTuple):
    """What the training goes on from.

    Attributes:
        step: epochs made.
        params: of the network.
        average: the same; there is no running average.
        moments: of Adam.
    """

    step: jax.Array
    params: Any
    average: Any
    moments: Any


@partial(jax.jit, static_argnums=(0, 2))
def initialise(network: PhaseSpaceCNN, key: jax.Array, shape: tuple[int, int]) -> dict[str, Any]:
    r"""Fresh parameters for images of a shape: biases of zero, and weights after Glorot.

    Weights are uniform within :math:`\pm\sqrt{6 / (n_i + n_o)}`, with the numbers
    of inputs and outputs of a unit, times the width of a filter. They are drawn all at once, which
    is compiled several times as fast as layer by layer.
    """
    like = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *shape))))
    leaves, structure = jax.tree.flatten(like["params"])
    draws = jax.random.uniform(key, (sum(leaf.size for leaf in leaves),), minval=-1, maxval=1)
    filled, first = [], 0
    for leaf in leaves:
        taps = math.prod(leaf.shape[:-2])
        limit = math.sqrt(6 / (taps * sum(leaf.shape[-2:]))) if leaf.ndim > 1 else 0.0
        filled.append(limit * draws[first : first + leaf.size].reshape(leaf.shape))
        first += leaf.size
    params: dict[str, Any] = jax.tree.unflatten(structure, filled)
    return params


def count_params(params: Any) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def start(params: Any, learning: Learning) -> EpochState:
    """The state before the first epoch."""
    return EpochState(jnp.asarray(0), params, params, _adam(learning).init(params))


@partial(jax.jit, static_argnums=0)
def apply(network: PhaseSpaceCNN, params: Any, images: jax.Array) -> jax.Array:
    """Outputs of the network, shape ``(batch,)``."""
    output: Any = network.apply({"params": params}, images)
    return output


@partial(jax.jit, static_argnums=(0, 1))
def epoch(
    network: PhaseSpaceCNN,
    learning: Learning,
    key: jax.Array,
    state: EpochState,
    images: jax.Array,
    targets: jax.Array,
) -> tuple[EpochState, jax.Array]:
    """Pass once, in random order, through all images and their mirror images in velocity.

    Returns:
        The state afterwards, and the mean loss.
    """
    num = len(images)
    steps = max(2 * num // learning.batch, 1)
    key_order, key_dropout = jax.random.split(key)
    order = jax.random.permutation(key_order, 2 * num)[: steps * learning.batch]
    batches = order.reshape(steps, -1)

    def one(carry: tuple[Any, Any], step: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        params, moments = carry
        rows, key_step = step
        batch = images[rows % num]
        batch = jnp.where((rows < num)[:, None, None], batch, batch[:, ::-1])
        value, gradient = jax.value_and_grad(_loss)(
            params, network, learning, batch, targets[rows % num], key_step
        )
        change, moments = _adam(learning).update(gradient, moments, params)
        params = optax.apply_updates(params, change)
        return (bounded(params, learning.max_norm), moments), value

    keys = jax.random.split(key_dropout, steps)
    (params, moments), losses = jax.lax.scan(one, (state.params, state.moments), (batches, keys))
    return EpochState(state.step + 1, params, params, moments), jnp.mean(losses)


def bounded(params: Any, max_norm: float | None) -> Any:
    """Weights scaled down to a largest norm along their first axis, in all layers but the last.

    That axis holds the inputs of a unit in dense layers, and the taps of a filter in convolutions.
    """
    if max_norm is None:
        return params

    def shrink(weight: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.sum(weight**2, axis=0, keepdims=True))
        return weight * (jnp.minimum(norm, max_norm) / (1e-7 + norm))

    return {
        name: layer if name == "output" else {**layer, "kernel": shrink(layer["kernel"])}
        for name, layer in params.items()
    }


def _loss(
    params: Any,
    network: PhaseSpaceCNN,
    learning: Learning,
    images: jax.Array,
    targets: jax.Array,
    key: jax.Array,
) -> jax.Array:
    output: Any = network.apply({"params": params}, images, True, rngs={"dropout": key})
    error = jnp.mean((output - targets) ** 2)
    if learning.l2:
        error += learning.l2 * sum(jnp.sum(layer["kernel"] ** 2) for layer in params.values())
    return error


def _adam(learning: Learning) -> optax.GradientTransformation:
    return optax.adam(lambda step: learning.learning_rate / (1 + learning.decay * step))
