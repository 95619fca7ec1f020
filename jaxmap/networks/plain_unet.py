"""A plain U-Net: feature images in, one image out; periodic, and local, so any image size works."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxmap.networks.layers import (
    PeriodicConv,
    depth_to_space,
    space_to_depth,
    through_levels,
    wrap_to_multiple,
)


class PlainBlock(nn.Module):
    r"""Residual block :math:`x + C_2\, \phi( C_1\, \phi(x) )`, with :math:`\phi` = SiLU.

    :math:`C_2` starts at zero, so that a fresh block is the identity.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = PeriodicConv(x.shape[-1])(nn.silu(x))
        return x + PeriodicConv(x.shape[-1], zero=True)(nn.silu(hidden))


class PlainUNet(nn.Module):
    """Maps feature images to one image, with nothing but convolutions and skips.

    As `jaxmap.networks.unet.ResidualUNet`, it works on blocks of 2 x 2 pixels from the start; it
    has no normalisation layer, and no conditions beside its features. The output of a fresh network
    is zero.

    Args:
        channels: per level; every level halves the resolution, after a first halving.
        blocks: residual blocks per level, on the way down and again on the way up.

    References:
        Ronneberger et al. (2015), MICCAI.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(2 ** len(self.channels))

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Apply the network to features, shape ``(batch, ny, nx, k)``; ``(batch, ny, nx)``."""
        x = PeriodicConv(self.channels[0])(space_to_depth(features))
        x = through_levels(x, self.channels, self.blocks, lambda x, level: PlainBlock()(x))
        return depth_to_space(PeriodicConv(4, zero=True)(nn.silu(x)))[..., 0]


def initialise_plain(network: PlainUNet, key: jax.Array, num_features: int) -> dict[str, Any]:
    """Fresh parameters, nested dictionaries of arrays; the network's output is zero."""
    side = network.multiple
    return network.init(key, jnp.zeros((1, side, side, num_features)))["params"]


def apply_plain(network: PlainUNet, params: Any, features: jax.Array) -> jax.Array:
    """Apply a network to one periodic image of any size.

    Sides that are no multiple of `PlainUNet.multiple` are lengthened by wrapping around and cut
    again; the network then sees a seam near the first rows and columns.

    Args:
        network: its architecture.
        params: from `initialise_plain` or training.
        features: shape ``(ny, nx, k)``.

    Returns:
        Shape ``(ny, nx)``.
    """
    ny, nx = features.shape[:2]
    image = wrap_to_multiple(features, network.multiple)[None]
    output: Any = network.apply({"params": params}, image)
    return output[0, :ny, :nx]
