"""The masked, heteroscedastic Gaussian likelihood of a shear map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence


def apply_weight(weight: jax.Array, shear: jax.Array) -> jax.Array:
    r"""Multiply the two components of a spin-2 field by their weights.

    .. math:: (W\gamma)_p = w_{1,p} \gamma_{1,p} + i\, w_{2,p} \gamma_{2,p}

    Args:
        weight: shape ``(2, ny, nx)``.
        shear: complex, shape ``(ny, nx)``.
    """
    return jax.lax.complex(weight[0] * shear.real, weight[1] * shear.imag)


def noise_std(weight: jax.Array) -> jax.Array:
    r"""Noise :math:`w^{-1/2}` of shear components, 0 where masked."""
    seen = weight > 0
    return jnp.where(seen, 1 / jnp.sqrt(jnp.where(seen, weight, 1)), 0)


def draw_noise(key: jax.Array, weight: jax.Array) -> jax.Array:
    r"""Gaussian noise of the weights, :math:`n_a / \sqrt{w_a}`, 0 where masked.

    Args:
        key: PRNG key.
        weight: shape ``(2, ny, nx)``.

    Returns:
        Complex, shape ``(ny, nx)``.
    """
    seen = weight > 0
    white = jax.random.normal(key, weight.shape, weight.dtype)
    noise = jnp.where(seen, white / jnp.sqrt(jnp.where(seen, weight, 1)), 0)
    return jax.lax.complex(noise[0], noise[1])


def weighted_mean(weight: jax.Array, shear: jax.Array) -> jax.Array:
    r"""Mean of a spin-2 field, each component with its own weights; 0 without any.

    .. math:: \bar\gamma_a = \sum_p w_{a,p} \gamma_{a,p} / \sum_p w_{a,p}

    Args:
        weight: shape ``(2, ny, nx)``.
        shear: complex, shape ``(ny, nx)``.

    Returns:
        Complex, a scalar.
    """
    total = jnp.sum(weight, axis=(-2, -1))
    one, two = 1 / jnp.where(total > 0, total, 1)
    weighted = jnp.sum(apply_weight(weight, shear))
    return jax.lax.complex(one * weighted.real, two * weighted.imag)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShearLikelihood:
    r"""Gaussian likelihood of observed shear given a convergence map.

    .. math::
        \log p_\sigma(\gamma \mid \kappa)
        = -\frac12 \sum_{p,a} w_{\sigma} |\gamma_{a,p} - (A\kappa)_{a,p}|^2,
        \qquad w_\sigma = \frac{w}{1 + \sigma^2 w}

    up to a constant; weight 0 (masked) drops out exactly. :math:`\sigma = 0` is the likelihood
    itself; :math:`\sigma > 0` its annealed form, the likelihood convolved with :math:`N(0,
    \sigma^2)`, exact for homogeneous noise and a unitary operator, a proxy otherwise.

    Args:
        data: the observed shear.
        forward: the operator A, ``(convergence, grid) -> shear``; may be non-linear, e.g.
            `jaxmap.operators.reduced_shear`.

    References:
        Remy et al. (2023), A&A 672, A51, Eq. 9 and App. D.
    """

    data: ShearMap
    forward: Callable[[jax.Array, Grid], jax.Array] = field(
        default=shear_from_convergence, metadata={"static": True}
    )

    def log_prob(self, convergence: jax.Array, sigma: float | jax.Array = 0.0) -> jax.Array:
        """Log likelihood up to a constant, a scalar.

        Args:
            convergence: shape ``(ny, nx)``, real, or complex for E + iB.
            sigma: annealing level, a standard deviation.
        """
        weight = self.data.weight / (1 + sigma**2 * self.data.weight)
        residual = self.data.shear - self.forward(convergence, self.data.grid)
        return -0.5 * jnp.sum(weight[0] * residual.real**2 + weight[1] * residual.imag**2)

    def score(self, convergence: jax.Array, sigma: float | jax.Array = 0.0) -> jax.Array:
        r"""Gradient of `log_prob` with respect to the convergence.

        .. math:: \nabla_\kappa \log p_\sigma = A^\dagger W_\sigma (\gamma - A\kappa)

        Returns:
            Shape ``(ny, nx)``; its real part for a real convergence.
        """
        # jax.grad of a real function of a complex field is the conjugate of the steepest ascent.
        return jax.grad(self.log_prob)(convergence, sigma).conj()
