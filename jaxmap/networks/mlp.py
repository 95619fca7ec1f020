"""A score network for points of few dimensions, to try things out where the answer is known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class PointNetwork(nn.Module):
    r"""Dense layers with a noise level, :math:`r_\theta(x, \sigma)`, divided by |sigma|.

    Args:
        widths: of the hidden layers.
    """

    widths: tuple[int, ...] = (128, 128, 128)

    @nn.compact
    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Apply the network to a point, shape ``(n,)``, at a noise level of either sign."""
        hidden = jnp.concatenate([x, sigma[None]])
        for width in self.widths:
            hidden = nn.leaky_relu(nn.Dense(width)(hidden))
        return nn.Dense(x.shape[-1])(hidden) / (jnp.abs(sigma) + 1e-3)


def initialise_points(network: PointNetwork, key: jax.Array, dimensions: int) -> dict[str, Any]:
    """Fresh parameters, nested dictionaries of arrays."""
    return network.init(key, jnp.zeros(dimensions), jnp.zeros(()))["params"]


def point_score(
    network: PointNetwork, params: Any, x: jax.Array, sigma: float | jax.Array
) -> jax.Array:
    """Apply a network to one point, shape ``(n,)``."""
    output: Any = network.apply({"params": params}, x, jnp.asarray(sigma, x.dtype))
    return output
