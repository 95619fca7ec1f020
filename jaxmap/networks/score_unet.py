"""The residual U-Net of the published score-based prior."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxmap.networks.layers import (
    ChannelAffine,
    PeriodicConv,
    average_pool,
    upsample,
    wrap_to_multiple,
)


class ResidualBlock(nn.Module):
    r"""Two convolutions around a shortcut.

    .. math:: \phi( N_2 C_2\, \phi( N_1 C_1 x ) + N_0 C_0 x )

    with :math:`\phi` = ReLU, affine maps N per channel, and :math:`N_0 C_0` the identity but in
    the first block of a group.

    References:
        He et al. (2016), CVPR.
    """

    channels: int
    first: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.relu(ChannelAffine()(PeriodicConv(self.channels, bias=False)(x)))
        hidden = ChannelAffine()(PeriodicConv(self.channels, bias=False)(hidden))
        if self.first:
            x = ChannelAffine()(PeriodicConv(self.channels, 1, bias=False)(x))
        return nn.relu(hidden + x)


class ScoreUNet(nn.Module):
    r"""The residual part :math:`r_\theta(x, \sigma^2 s_G, \sigma)` of a score, divided by |sigma|.

    The layout is that of the published program: 7 x 7 stem, groups of residual blocks with average
    pooling and nearest-neighbour upsampling between them, inputs of groups as skips, sigma as a
    channel of the input and of the bottleneck, 5 x 5 convolution at the end. Three things differ.
    Padding is periodic, as the FFT operators are, where the program pads with zeros. Batch
    normalisation, whose statistics would make the score of one map depend on others, is reduced to
    what it is once training is over, a scale and an offset per channel; the number of parameters
    stays. And the last convolution starts at zero, so that a fresh network adds nothing.

    Args:
        channels: per group; all but the last halve the resolution.
        blocks: residual blocks in a group, on the way down and again on the way up.

    References:
        Remy et al., Sect. 5.2 and App. C.
    """

    channels: tuple[int, ...] = (32, 64, 128, 128)
    blocks: int = 2

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(2 ** (len(self.channels) - 1))

    @nn.compact
    def __call__(self, convergence: jax.Array, increment: jax.Array, sigma: jax.Array) -> jax.Array:
        """Apply the network.

        Args:
            convergence: noisy maps, shape ``(batch, ny, nx)``.
            increment: what Gaussian denoising adds to them, same shape.
            sigma: noise levels, either sign, shape ``(batch,)``.

        Returns:
            Residual scores, shape ``(batch, ny, nx)``.
        """
        x = jnp.stack([convergence, increment, _level_map(sigma, convergence.shape)], axis=-1)
        x = PeriodicConv(self.channels[0], 7, bias=False)(x)
        skips = []
        for level, channels in enumerate(self.channels):
            skips.append(x)
            x = average_pool(x) if level < len(self.channels) - 1 else x
            x = self._group(x, channels)
        x = jnp.concatenate([x, _level_map(sigma, x.shape[:3])[..., None]], axis=-1)
        for level in range(len(self.channels) - 1, -1, -1):
            x = upsample(x) if level < len(self.channels) - 1 else x
            x = jnp.concatenate([self._group(x, self.channels[level]), skips[level]], axis=-1)
        image = PeriodicConv(1, 5, zero=True)(x)[..., 0]
        return image / (jnp.abs(sigma)[:, None, None] + 1e-3)

    def _group(self, x: jax.Array, channels: int) -> jax.Array:
        for number in range(self.blocks):
            x = ResidualBlock(channels, first=number == 0)(x)
        return x


def _level_map(sigma: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(sigma[:, None, None], shape)


def initialise_score(network: ScoreUNet, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters, nested dictionaries of arrays; the network's output is zero."""
    image = jnp.zeros((1, network.multiple, network.multiple))
    return network.init(key, image, image, jnp.zeros(1))["params"]


def residual_score(
    network: ScoreUNet,
    params: Any,
    convergence: jax.Array,
    increment: jax.Array,
    sigma: float | jax.Array,
) -> jax.Array:
    """Apply a network to one periodic map of any size.

    Sides that are no multiple of `ScoreUNet.multiple` are lengthened by wrapping around and cut
    again; the network then sees a seam near the first rows and columns.

    Args:
        network: its architecture.
        params: from `initialise_score` or training.
        convergence: noisy map, shape ``(ny, nx)``.
        increment: what Gaussian denoising adds to it, shape ``(ny, nx)``.
        sigma: noise level.

    Returns:
        Shape ``(ny, nx)``.
    """
    ny, nx = convergence.shape
    images = [wrap_to_multiple(image, network.multiple)[None] for image in (convergence, increment)]
    level = jnp.asarray(sigma, convergence.dtype)[None]
    output: Any = network.apply({"params": params}, *images, level)
    return output[0, :ny, :nx]
