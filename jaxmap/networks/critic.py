"""The critic of a Wasserstein GAN: an image and its conditions in, one number out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxmap.networks.layers import PeriodicConv, average_pool, wrap_to_multiple


class Critic(nn.Module):
    """Convolutions, each followed by a halving, and a linear layer on the means of the channels.

    That last mean stands for the fully connected layer of the published critic, and lets one critic
    judge images of any size.

    Args:
        channels: of the convolutions.
    """

    channels: tuple[int, ...] = (16, 32, 64, 64)

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(2 ** len(self.channels))

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Judge images with their conditions, shape ``(batch, ny, nx, k)``; ``(batch,)``."""
        x = images
        for channels in self.channels:
            x = average_pool(nn.leaky_relu(PeriodicConv(channels)(x), 0.2))
        return nn.Dense(1, dtype=x.dtype)(jnp.mean(x, axis=(1, 2)))[:, 0]


def initialise_critic(network: Critic, key: jax.Array, num_conditions: int) -> dict[str, Any]:
    """Fresh parameters, nested dictionaries of arrays."""
    side = network.multiple
    return network.init(key, jnp.zeros((1, side, side, 1 + num_conditions)))["params"]


def judge(network: Critic, params: Any, image: jax.Array, conditions: jax.Array) -> jax.Array:
    """The critic's value of one image, a scalar.

    Args:
        network: its architecture.
        params: from `initialise_critic` or training.
        image: shape ``(ny, nx)``, any size.
        conditions: shape ``(ny, nx, q)``.
    """
    both = jnp.concatenate([image[..., None], conditions], axis=-1)
    value: Any = network.apply({"params": params}, wrap_to_multiple(both, network.multiple)[None])
    return value[0]
