"""A U-Net whose every level is told the local noise; local throughout, so any image size works."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxmap.networks.layers import (
    PeriodicConv,
    average_pool,
    depth_to_space,
    space_to_depth,
    through_levels,
    wrap_to_multiple,
)

_BOUND = 3.0  # of the logarithm of the standard deviation


class ModulatedBlock(nn.Module):
    r"""Residual block, scaled and shifted by a map of conditions.

    .. math:: x + C_2\, \phi( C_1\, \phi( (1 + a(e))\, x + b(e) ) )

    with :math:`\phi` = SiLU and linear maps a, b per pixel. :math:`C_2` starts at zero, so that a
    fresh block is the identity; there is no normalisation layer, whose statistics would tie pixels
    of unlike noise together.
    """

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scale, shift = jnp.split(PeriodicConv(2 * channels, 1, zero=True)(condition), 2, axis=-1)
        hidden = PeriodicConv(channels)(nn.silu(x * (1 + scale) + shift))
        return x + PeriodicConv(channels, zero=True)(nn.silu(hidden))


class ResidualUNet(nn.Module):
    """Maps feature images to one image and the logarithm of its error's standard deviation.

    Works on blocks of 2 x 2 pixels from the start (pixels of a shear map are smaller than what the
    data resolve), so one forward pass costs a quarter of a U-Net at full resolution. The outputs
    of a fresh network are zero.

    Args:
        channels: per level; every level halves the resolution, after a first halving.
        blocks: residual blocks per level, on the way down and again on the way up.
        embedding: channels of the embedded conditions.
        half: compute in bfloat16, but for the last layer (GPU, TPU).
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    embedding: int = 16
    half: bool = False

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(2 ** len(self.channels))

    @nn.compact
    def __call__(self, features: jax.Array, condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Apply the network.

        Args:
            features: shape ``(batch, ny, nx, k)``, of order one.
            condition: what the noise is like in every pixel, shape ``(batch, ny, nx, q)``.

        Returns:
            The image and the log standard deviation, shape ``(batch, ny, nx)`` each. Training the
            second changes nothing in the first.
        """
        precise = features.dtype
        if self.half:
            features, condition = features.astype(jnp.bfloat16), condition.astype(jnp.bfloat16)
        embedded = [self._embed(average_pool(condition))]
        for _ in self.channels[1:]:
            embedded.append(average_pool(embedded[-1]))
        x = PeriodicConv(self.channels[0])(
            space_to_depth(jnp.concatenate([features, condition], axis=-1))
        )
        x = through_levels(
            x, self.channels, self.blocks, lambda x, level: ModulatedBlock()(x, embedded[level])
        )
        x = nn.silu(x).astype(precise)
        image = depth_to_space(PeriodicConv(4, zero=True)(x))
        log_std = depth_to_space(PeriodicConv(4, zero=True)(jax.lax.stop_gradient(x)))
        # Bounded, so that no outlier can make the likelihood of an error overflow.
        return image[..., 0], _BOUND * jnp.tanh(log_std[..., 0] / _BOUND)

    def _embed(self, condition: jax.Array) -> jax.Array:
        hidden = nn.silu(PeriodicConv(self.embedding, 1)(condition))
        return nn.silu(PeriodicConv(self.embedding, 1)(hidden))


def initialise(
    network: ResidualUNet, key: jax.Array, num_features: int, num_conditions: int
) -> dict[str, Any]:
    """Fresh parameters, nested dictionaries of arrays; the network's outputs are zero."""
    side = network.multiple
    images = [jnp.zeros((1, side, side, count)) for count in (num_features, num_conditions)]
    return network.init(key, *images)["params"]


def evaluate(
    network: ResidualUNet, params: Any, features: jax.Array, conditions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Apply a network to one periodic image of any size.

    Sides that are no multiple of `ResidualUNet.multiple` are lengthened by wrapping around and cut
    again; the network then sees a seam near the first rows and columns.

    Args:
        network: its architecture.
        params: from `initialise` or training.
        features: shape ``(ny, nx, k)``.
        conditions: shape ``(ny, nx, q)``.

    Returns:
        The image and the log standard deviation, ``(ny, nx)`` each.
    """
    ny, nx = features.shape[:2]
    images = [wrap_to_multiple(image, network.multiple)[None] for image in (features, conditions)]
    outputs: Any = network.apply({"params": params}, *images)
    image, log_std = outputs
    return image[0, :ny, :nx], log_std[0, :ny, :nx]
