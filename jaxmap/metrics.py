"""How far a map is from the truth; names and definitions as in the papers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Accuracy(NamedTuple):
    """Root mean square error and correlation coefficient of a map."""

    rmse: jax.Array
    r: jax.Array


def accuracy_observed(estimate: jax.Array, truth: jax.Array, mask: jax.Array) -> Accuracy:
    r"""Metric C: over observed pixels, each map's own mean over them removed.

    .. math:: \mathrm{RMSE} = \sqrt{\langle (a - b)^2 \rangle_m}, \qquad
              r = \langle a b \rangle_m / \sqrt{\langle a^2 \rangle_m \langle b^2 \rangle_m}

    Does not change when a constant is added to a map (mass sheet).

    Args:
        estimate, truth: convergence maps, shape ``(ny, nx)``.
        mask: True where observed.
    """
    a, b = (_centred(field, mask) for field in (estimate, truth))
    num_observed = jnp.sum(mask)
    rmse = jnp.sqrt(jnp.sum((a - b) ** 2) / num_observed)
    return Accuracy(rmse, jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2)))


def _centred(field: jax.Array, mask: jax.Array) -> jax.Array:
    mean = jnp.sum(jnp.where(mask, field, 0)) / jnp.sum(mask)
    return jnp.where(mask, field - mean, 0)


def accuracy_published(estimate: jax.Array, truth: jax.Array, mask: jax.Array) -> Accuracy:
    r"""Metric A, that of Table 1 of Remy et al., kept to compare with published figures.

    For the RMSE, over observed pixels, each map is shifted by :math:`N_\mathrm{pix}^{-1} \sum m\,
    \kappa`; r is over all pixels of the zero-filled maps :math:`m\,\kappa`, not shifted, with a
    covariance normalised by :math:`N - 1` and standard deviations normalised by :math:`N`. Both
    move when a constant is added to a map; jaxmap's maps have zero mean over their (padded) grid.

    Args:
        estimate, truth: convergence maps, shape ``(ny, nx)``.
        mask: True where observed.
    """
    a, b = (jnp.where(mask, field, 0) for field in (estimate, truth))
    difference = jnp.where(mask, (a - a.mean()) - (b - b.mean()), 0)
    rmse = jnp.sqrt(jnp.sum(difference**2) / jnp.sum(mask))
    covariance = jnp.sum((a - a.mean()) * (b - b.mean())) / (a.size - 1)
    return Accuracy(rmse, covariance / (jnp.std(a) * jnp.std(b)))
