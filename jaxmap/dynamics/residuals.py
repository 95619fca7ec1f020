"""How good masses are: bias, scatter, and what their tails do to counts of clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class ResidualStatistics(NamedTuple):
    r"""Moments of the residuals :math:`\epsilon = \log_{10}(M_\mathrm{pred}/M_\mathrm{true})`.

    Attributes:
        num: clusters.
        median: of the residuals in dex.
        low, high: 16th and 84th percentile, less the median.
        scatter: standard deviation in dex.
        skewness, kurtosis: of the residuals; of a Gaussian, 0 and 0.
        count_bias: see `count_bias`.
    """

    num: int
    median: float
    low: float
    high: float
    scatter: float
    skewness: float
    kurtosis: float
    count_bias: float


def residual_statistics(residual: ArrayLike, slope: float = 2.0) -> ResidualStatistics:
    """Statistics of residuals, as in Table 2 of Ho et al. (2019).

    Args:
        residual: in dex, shape ``(n,)``, n >= 2.
        slope: of the mass function, for the count bias.

    Raises:
        ValueError: for fewer than two residuals, any that is not finite, or all of one value.
    """
    eps = np.asarray(residual, float).ravel()
    if eps.size < 2 or not np.isfinite(eps).all():
        raise ValueError(
            f"{eps.size} residuals came, {int((~np.isfinite(eps)).sum())} of them not finite; "
            "expected 2 or more finite ones (take those of MassEstimate.usable)"
        )
    scatter = float(np.std(eps))
    if scatter == 0:
        raise ValueError(f"all residuals are {eps[0]:g}; expected some that differ")
    x = (eps - eps.mean()) / scatter
    low, median, high = np.percentile(eps, [16, 50, 84])
    skewness, kurtosis = float(np.mean(x**3)), float(np.mean(x**4) - 3)
    return ResidualStatistics(
        num=eps.size,
        median=float(median),
        low=float(low - median),
        high=float(high - median),
        scatter=scatter,
        skewness=skewness,
        kurtosis=kurtosis,
        count_bias=count_bias(scatter, skewness, kurtosis, slope),
    )


def count_bias(scatter: float, skewness: float, kurtosis: float, slope: float = 2.0) -> float:
    r"""Relative error of cluster counts if residuals are taken for Gaussian.

    .. math:: \frac{dn}{dn_0} - 1 = \frac{\alpha^3 s^3 \gamma}{6} + \frac{\alpha^4 s^4 \kappa}{24},
        \qquad s = \sigma_\epsilon \ln 10

    for a mass function :math:`dn/d\ln M \propto M^{-\alpha}` and an Edgeworth expansion of the
    residuals with skewness :math:`\gamma` and excess kurtosis :math:`\kappa`.

    References:
        Shaw, Holder & Dudley (2010), ApJ 716, 281; Ho et al. (2019), ApJ 887, 25, equations 9, 10.
    """
    s = slope * scatter * np.log(10)
    return float(s**3 * skewness / 6 + s**4 * kurtosis / 24)


class BinnedResiduals(NamedTuple):
    """Percentiles of residuals in bins of mass; NaN in bins of fewer than five clusters.

    Attributes:
        centre: of the bins, log10 mass, shape ``(n,)``.
        num: clusters, shape ``(n,)``.
        percentiles: 16, 50 and 84, shape ``(n, 3)``.
    """

    centre: np.ndarray
    num: np.ndarray
    percentiles: np.ndarray


def binned_residuals(
    log10_mass: np.ndarray, residual: np.ndarray, edges: np.ndarray
) -> BinnedResiduals:
    """Residuals as a function of true mass (Figure 8 of Ho et al. 2019)."""
    where = np.digitize(log10_mass, edges) - 1
    bins = len(edges) - 1
    found = np.full((bins, 3), np.nan)
    num = np.bincount(where[(where >= 0) & (where < bins)], minlength=bins)
    for i in np.flatnonzero(num >= 5):
        found[i] = np.percentile(residual[where == i], [16, 50, 84])
    return BinnedResiduals(0.5 * (edges[1:] + edges[:-1]), num, found)
