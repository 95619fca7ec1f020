"""What happens to masses when a share of the galaxies was not observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxmap.dynamics.estimate import MassEstimate
from jaxmap.dynamics.members import ClusterMembers, subsample

ClusterEstimator = Callable[[jax.Array, ClusterMembers], MassEstimate]


def subsampled_deviation(
    key: jax.Array,
    estimator: ClusterEstimator,
    members: ClusterMembers,
    rates: Sequence[float],
    num_draws: int = 10,
) -> np.ndarray:
    r"""Drift of masses with the share of galaxies that was observed.

    .. math:: \epsilon^{(r)} = \log_{10} \frac{\bar M^{(r)}}{M^{(1)}}

    with the mean mass over several random subsamples of each cluster. Where no estimate is
    possible for any subsample the deviation is NaN.

    Args:
        key: of the subsamples.
        estimator: to judge.
        members: clusters with all their galaxies.
        rates: r, each from 0 to 1.
        num_draws: subsamples averaged over.

    Returns:
        Deviations in dex, shape ``(rates, num)``.

    References:
        Ho et al. (2019), ApJ 887, 25, equation 14 and section 5.4.
    """
    whole = estimator(key, members).log10_mass
    drift = np.full((len(rates), len(members)), np.nan)
    for i, rate in enumerate(rates):
        total, count = np.zeros(len(members)), np.zeros(len(members))
        for draw in range(num_draws):
            one = jax.random.fold_in(jax.random.fold_in(key, i), draw)
            found = estimator(one, subsample(one, members, rate))
            total += np.where(found.usable, 10 ** np.nan_to_num(found.log10_mass), 0)
            count += found.usable
        some = (count > 0) & np.isfinite(whole)
        drift[i, some] = np.log10(total[some] / count[some]) - whole[some]
    return drift
