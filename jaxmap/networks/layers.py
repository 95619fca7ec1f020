"""Layers on periodic images, shape ``(batch, ny, nx, channels)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn


class PeriodicConv(nn.Module):
    """Convolution that wraps around the edges, as the FFT operators do.

    The image is lengthened by its own other edge, convolved to its full size, and cut. XLA on a CPU
    is several times slower at a convolution that gives the inner part alone (``VALID``).

    Args:
        channels: of the output.
        width: side of the kernel, odd.
        zero: start from zero weights.
        bias: add a number to every channel.
    """

    channels: int
    width: int = 3
    zero: bool = False
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        half = self.width // 2
        ny, nx = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), mode="wrap")
        kernel = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        x = nn.Conv(
            self.channels,
            (self.width, self.width),
            padding="SAME",
            use_bias=self.bias,
            kernel_init=kernel,
            dtype=x.dtype,
        )(x)
        return x[:, half : half + ny, half : half + nx]


class ChannelAffine(nn.Module):
    """A scale, from one, and an offset, from zero, for every channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)
        offset = self.param("offset", nn.initializers.zeros, x.shape[-1:]).astype(x.dtype)
        return x * scale[None, None, None] + offset[None, None, None]


def space_to_depth(x: jax.Array, factor: int = 2) -> jax.Array:
    """Fold blocks of pixels into channels: ``(b, ny, nx, c) -> (b, ny/f, nx/f, c f^2)``."""
    batch, ny, nx, channels = x.shape
    blocks = x.reshape(batch, ny // factor, factor, nx // factor, factor, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, ny // factor, nx // factor, -1)


def depth_to_space(x: jax.Array, factor: int = 2) -> jax.Array:
    """The inverse of `space_to_depth`."""
    batch, ny, nx, _ = x.shape
    blocks = x.reshape(batch, ny, nx, factor, factor, -1).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, ny * factor, nx * factor, -1)


def average_pool(x: jax.Array) -> jax.Array:
    """Means over blocks of 2 x 2 pixels."""
    batch, ny, nx, channels = x.shape
    return x.reshape(batch, ny // 2, 2, nx // 2, 2, channels).mean(axis=(2, 4))


def upsample(x: jax.Array) -> jax.Array:
    """Every pixel repeated to a block of 2 x 2."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def through_levels(
    x: jax.Array,
    channels: Sequence[int],
    blocks: int,
    block: Callable[[jax.Array, int], jax.Array],
) -> jax.Array:
    """The U of a U-Net: down the levels and up again, each at half the resolution of the last.

    For the ``compact`` method of a module, whose parameters these become.

    Args:
        x: of the first level, with as many channels as it has.
        channels: per level.
        blocks: per level, on the way down and again on the way up.
        block: makes and applies a block of a level.
    """
    skips = []
    for level, width in enumerate(channels):
        if level:
            skips.append(x)
            x = PeriodicConv(width, 1)(average_pool(x))
        for _ in range(blocks):
            x = block(x, level)
    for level in range(len(channels) - 1, -1, -1):
        if level < len(channels) - 1:
            x = jnp.concatenate([upsample(x), skips[level]], axis=-1)
            x = PeriodicConv(channels[level], 1)(x)
        for _ in range(blocks):
            x = block(x, level)
    return x


def wrap_to_multiple(image: jax.Array, multiple: int) -> jax.Array:
    """Lengthen the sides of ``(ny, nx, ...)`` to multiples by going on from the other edge."""
    around = [(0, -side % multiple) for side in image.shape[:2]]
    return jnp.pad(image, around + [(0, 0)] * (image.ndim - 2), mode="wrap")
