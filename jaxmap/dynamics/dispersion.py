"""Velocity dispersions of clusters: plain, gapper, biweight, clipped, and their errors."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.dynamics.members import ClusterMembers, keep_galaxies, numpy_generator

Dispersion = Callable[[np.ndarray], float]


def standard_deviation(velocity_km_s: np.ndarray) -> float:
    r"""Root of the unbiased variance, :math:`\sigma^2 = \sum (v_i - \bar v)^2 / (N - 1)`.

    References:
        Ho et al. (2019), ApJ 887, 25, equation 6.
    """
    return float(np.std(velocity_km_s, ddof=1))


def gapper(velocity_km_s: np.ndarray) -> float:
    r"""Dispersion from the gaps between sorted velocities; good for 5 to 20 galaxies.

    .. math:: \sigma = \frac{\sqrt\pi}{N (N - 1)} \sum_{i=1}^{N-1} i (N - i)\,(v_{i+1} - v_i)

    References:
        Beers, Flynn & Gebhardt (1990), AJ 100, 32.
    """
    num = len(velocity_km_s)
    i = np.arange(1, num)
    gaps = np.diff(np.sort(velocity_km_s))
    return float(np.sqrt(np.pi) / (num * (num - 1)) * np.sum(i * (num - i) * gaps))


def biweight(velocity_km_s: np.ndarray) -> float:
    """Biweight scale about the median (astropy), which forgives outliers; for 20 or more galaxies.

    References:
        Beers, Flynn & Gebhardt (1990), AJ 100, 32.
    """
    from astropy.stats import biweight_scale

    return float(biweight_scale(velocity_km_s, modify_sample_size=True))


def masked_dispersion(velocity_km_s: jax.Array, mask: jax.Array) -> jax.Array:
    """`standard_deviation` of the galaxies in a mask; for jit, vmap and grad.

    Args:
        velocity_km_s: shape ``(n,)``.
        mask: True for galaxies, two at least, shape ``(n,)``.
    """
    count = jnp.sum(mask)
    mean = jnp.sum(jnp.where(mask, velocity_km_s, 0)) / count
    square = jnp.where(mask, (velocity_km_s - mean) ** 2, 0)
    return jnp.sqrt(jnp.sum(square) / (count - 1))


def dispersions(members: ClusterMembers, dispersion: Dispersion = standard_deviation) -> np.ndarray:
    """The dispersion of every cluster in km/s; NaN for fewer than two galaxies."""
    found = np.full(len(members), np.nan)
    enough = np.flatnonzero(members.richness >= 2)
    if dispersion is standard_deviation:
        mean = cluster_means(members, members.velocity_km_s)
        square = (members.velocity_km_s - mean[members.cluster]) ** 2
        total = np.bincount(members.cluster, square, len(members))
        found[enough] = np.sqrt(total[enough] / (members.richness[enough] - 1))
        return found
    for i in enough:
        found[i] = dispersion(members.velocity_km_s[members.offsets[i] : members.offsets[i + 1]])
    return found


def cluster_means(members: ClusterMembers, values: np.ndarray) -> np.ndarray:
    """Mean over the galaxies of every cluster; 0 for clusters without any."""
    total = np.bincount(members.cluster, values, len(members))
    return total / np.maximum(members.richness, 1)


def clipped(
    members: ClusterMembers,
    num_sigma: float = 3.0,
    *,
    max_rounds: int = 20,
    dispersion: Dispersion = standard_deviation,
) -> ClusterMembers:
    """Leave out galaxies beyond some dispersions from their cluster's mean, until none is.

    Args:
        members: clusters.
        num_sigma: 3 by custom, 2.7 after Mamon, Biviano & Murante (2010).
        max_rounds: at most.
        dispersion: that the distance is measured in.

    Raises:
        ValueError: unless ``num_sigma`` is above 1.
    """
    if not num_sigma > 1:
        raise ValueError(f"num_sigma is {num_sigma}; expected more than 1, such as 3")
    for _ in range(max_rounds):
        mean, width = (
            cluster_means(members, members.velocity_km_s),
            dispersions(members, dispersion),
        )
        width = np.where(np.isfinite(width), width, np.inf)
        away = np.abs(members.velocity_km_s - mean[members.cluster])
        keep = away <= num_sigma * width[members.cluster]
        if keep.all():
            break
        members = keep_galaxies(members, keep)
    return members


def small_sample_factor(richness: np.ndarray) -> np.ndarray:
    r"""Expected standard deviation of N Gaussian velocities over the true one.

    .. math:: c_4(N) = \sqrt{\frac{2}{N - 1}} \frac{\Gamma(N/2)}{\Gamma((N-1)/2)}
        \approx 1 - \frac{1}{4 (N - 1)}

    Dividing by it makes dispersions of few galaxies unbiased (as in Ferragamo et al. 2020,
    arXiv:2006.05949, who fit a like correction to simulated clusters).
    """
    from scipy.special import gammaln

    num = np.maximum(richness, 2).astype(float)
    return np.sqrt(2 / (num - 1)) * np.exp(gammaln(num / 2) - gammaln((num - 1) / 2))


def bootstrap_errors(
    key: jax.Array,
    members: ClusterMembers,
    num: int = 100,
    dispersion: Dispersion = standard_deviation,
) -> np.ndarray:
    """Standard error of every cluster's dispersion in km/s, by drawing its galaxies anew.

    Args:
        key: of the draws.
        members: clusters; those of fewer than two galaxies get NaN.
        num: draws, 2 at least.
        dispersion: whose error is wanted.
    """
    if num < 2:
        raise ValueError(f"{num} bootstrap draws were asked for; expected 2 or more")
    rng = numpy_generator(key)
    drawn = np.empty((num, len(members)))
    first = members.offsets[:-1][members.cluster]
    size = members.richness[members.cluster]
    for row in drawn:
        rows = first + (rng.random(len(size)) * size).astype(int)
        again = members.velocity_km_s[rows]
        moved = ClusterMembers(members.radius_mpc_h, again, members.offsets)
        row[:] = dispersions(moved, dispersion)
    return np.std(drawn, axis=0, ddof=1)
