"""Masses from velocity dispersions by a power law, fitted or from the literature."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import numpy as np

from jaxmap.dynamics.dispersion import (
    Dispersion,
    clipped,
    dispersions,
    small_sample_factor,
    standard_deviation,
)
from jaxmap.dynamics.domain import Domain, domain_of, without_spread
from jaxmap.dynamics.error_model import FEWEST, ErrorModel, fit_errors
from jaxmap.dynamics.estimate import Flag, MassEstimate, flagged
from jaxmap.dynamics.halo_profile import expansion_rate
from jaxmap.dynamics.members import ClusterMembers, numpy_generator, require_masses
from jaxmap.dynamics.observables import OMEGA_M


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MSigma:
    r"""The M-sigma relation as an estimator.

    .. math:: \sigma_v = \sigma_{15} \left(\frac{h(z)\,M_{200c}}{10^{15} M_\odot/h}\right)^\alpha

    The error of an estimate is measured on the clusters of the fit, of all masses, if there are
    enough. Otherwise it is :math:`\sqrt{s^2 + [\ln 10]^{-2} / (2 (N - 1))} / \alpha` with the
    intrinsic scatter s of the relation and the sampling error of a Gaussian's dispersion, which is
    too small where interlopers take over.

    Args:
        sigma15_km_s, alpha: of the relation.
        scatter: of log10 sigma about the relation in dex, all told (a fit's Table 1 figure).
        intrinsic: of it, what sampling does not explain.
        sigma15_std, alpha_std: bootstrap errors of a fit, or 0.
        errors: of masses, measured; or None.
        dispersion: how velocities become a dispersion.
        num_sigma: clip galaxies beyond this many dispersions; None for no clipping.
        small_sample: divide standard deviations by `small_sample_factor`.
        with_hz: False leaves h(z) out of the relation, as some fits do.
        omega_m: matter density for h(z).
        domain: what a relation was fitted to. One for galaxies in a cylinder refuses other
            cylinders; masses beyond the fit are flagged. None for relations from the literature.

    References:
        Ho et al. (2019), ApJ 887, 25, equation 5; Evrard et al. (2008), ApJ 672, 122.
    """

    sigma15_km_s: float
    alpha: float
    scatter: float
    intrinsic: float
    sigma15_std: float = 0.0
    alpha_std: float = 0.0
    errors: ErrorModel | None = None
    dispersion: Dispersion = field(default=standard_deviation, metadata={"static": True})
    num_sigma: float | None = field(default=None, metadata={"static": True})
    small_sample: bool = field(default=False, metadata={"static": True})
    with_hz: bool = field(default=True, metadata={"static": True})
    omega_m: float = field(default=OMEGA_M, metadata={"static": True})
    domain: Domain | None = field(default=None, metadata={"static": True})

    def __call__(self, key: jax.Array, members: ClusterMembers) -> MassEstimate:
        """Masses of clusters; those of fewer than two galaxies, or of one velocity, are flagged.

        Raises:
            ValueError: for clusters of another cylinder than those of the fit.
        """
        del key
        if self.domain is not None and self.domain.aperture_mpc_h is not None:
            self.domain.check(members, "M-sigma")
        members = members if self.num_sigma is None else clipped(members, self.num_sigma)
        few = members.richness < 2
        sigma = measured_dispersions(members, self.dispersion, self.small_sample)
        # Rounding leaves a tiny dispersion of equal velocities.
        flat = ~few & (~(sigma > 0) | without_spread(members, False))
        good = np.where(few | flat, self.sigma15_km_s, sigma)
        offset = _log_hz(members, self.with_hz, self.omega_m)
        mass = 15 - offset + np.log10(good / self.sigma15_km_s) / self.alpha
        sampling = np.log(10) ** -2 / (2 * np.maximum(members.richness - 1, 1))
        std = np.sqrt(self.intrinsic**2 + sampling) / self.alpha
        std = std if self.errors is None else self.errors(mass)
        flag = np.where(few, Flag.TOO_FEW, np.where(flat, Flag.NO_SPREAD, Flag.GOOD))
        if self.domain is not None:
            flag = flag | self.domain.flags(mass, members)
        return flagged(mass, std, flag, "M-sigma")


EVRARD2008 = MSigma(1082.9, 0.3361, 0.0426 / np.log(10), 0.0426 / np.log(10), 4.0, 0.0026)
"""The relation of dark matter in simulations (Evrard et al. 2008); its scatter is intrinsic."""


def fit_m_sigma(
    key: jax.Array,
    members: ClusterMembers,
    *,
    min_log10_mass: float = 14.5,
    dispersion: Dispersion = standard_deviation,
    num_sigma: float | None = None,
    small_sample: bool = False,
    with_hz: bool = True,
    omega_m: float = OMEGA_M,
    num_bootstrap: int = 100,
) -> MSigma:
    r"""Fit the M-sigma relation to clusters of known mass.

    Ordinary least squares of :math:`\log_{10} \sigma_v` on :math:`\log_{10} [h(z) M]`, above a
    mass; the relation is extrapolated to smaller ones. Errors by drawing clusters anew.

    Args:
        key: of the bootstrap.
        members: clusters with true masses, those that the relation shall describe: pure or
            contaminated ones.
        min_log10_mass: of clusters that are fitted.
        dispersion, num_sigma, small_sample, with_hz, omega_m: as in `MSigma`.
        num_bootstrap: draws.

    Raises:
        ValueError: for fewer than three usable clusters, or masses all alike.

    References:
        Ho et al. (2019), ApJ 887, 25, section 4.1 and Table 1.
    """
    masses = require_masses(members)
    kept = members if num_sigma is None else clipped(members, num_sigma)
    sigma = measured_dispersions(kept, dispersion, small_sample)
    some = (np.nan_to_num(sigma) > 0) & ~without_spread(kept, False)
    use = (masses >= min_log10_mass) & some
    if use.sum() < 3 or np.ptp(masses[use]) == 0:
        raise ValueError(
            f"{use.sum()} clusters of log10 mass {min_log10_mass:g} and more have a dispersion; "
            "expected 3 or more, of different masses (lower min_log10_mass, or give more clusters)"
        )
    x = masses[use] - 15 + _log_hz(members, with_hz, omega_m)
    y = np.log10(sigma[use])
    alpha, level = _line(x, y)
    rng = numpy_generator(key)
    draws = rng.integers(0, len(x), (num_bootstrap, len(x)))
    again = np.array([_line(x[rows], y[rows]) for rows in draws if np.ptp(x[rows]) > 0])
    slopes, levels = again.T
    scatter = float(np.std(y - level - alpha * x))
    sampling = np.log(10) ** -2 / (2 * (kept.richness[use] - 1))
    estimate = 15 - _log_hz(members, with_hz, omega_m) + (np.log10(sigma[some]) - level) / alpha
    return MSigma(
        sigma15_km_s=float(10**level),
        alpha=alpha,
        scatter=scatter,
        intrinsic=float(np.sqrt(max(scatter**2 - sampling.mean(), 0))),
        sigma15_std=float(np.std(10**levels)),
        alpha_std=float(np.std(slopes)),
        errors=fit_errors(estimate, masses[some]) if some.sum() >= 2 * FEWEST else None,
        dispersion=dispersion,
        num_sigma=num_sigma,
        small_sample=small_sample,
        with_hz=with_hz,
        omega_m=omega_m,
        domain=domain_of(members),
    )


def measured_dispersions(
    members: ClusterMembers, dispersion: Dispersion, small_sample: bool
) -> np.ndarray:
    """Dispersions in km/s, made unbiased for few galaxies if asked for; NaN for fewer than two.

    Raises:
        ValueError: if another dispersion than the standard deviation shall be corrected.
    """
    if small_sample and dispersion is not standard_deviation:
        name = getattr(dispersion, "__name__", repr(dispersion))
        raise ValueError(
            f"small_sample corrects the standard deviation, and the dispersion is {name}; expected "
            "small_sample=False with it (the gapper has no bias for Gaussian velocities)"
        )
    sigma = dispersions(members, dispersion)
    return sigma / small_sample_factor(members.richness) if small_sample else sigma


def _log_hz(members: ClusterMembers, with_hz: bool, omega_m: float) -> float:
    return float(np.log10(expansion_rate(members.redshift, omega_m))) if with_hz else 0.0


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(level)
