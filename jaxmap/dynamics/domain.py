"""What a learned method was trained on, and which clusters lie beyond it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from jaxmap.dynamics.estimate import Flag
from jaxmap.dynamics.members import ClusterMembers, require_masses

log = logging.getLogger(__name__)

REDSHIFT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Domain:
    """Cylinder, redshift, masses and richness of the training clusters.

    Args:
        aperture_mpc_h, velocity_cut_km_s: the cylinder, or None for none.
        redshift: of the clusters.
        low, high: range of log10 mass.
        fewest: smallest richness.
    """

    aperture_mpc_h: float | None
    velocity_cut_km_s: float | None
    redshift: float
    low: float
    high: float
    fewest: int

    def check(self, members: ClusterMembers, name: str) -> None:
        """Refuse clusters of another cylinder; warn of another redshift.

        Raises:
            ValueError: if galaxies lie outside the training's cylinder, or a narrower one is named.
        """
        limits = {
            "aperture_mpc_h": (self.aperture_mpc_h, members.aperture_mpc_h, members.radius_mpc_h),
            "velocity_cut_km_s": (
                self.velocity_cut_km_s,
                members.velocity_cut_km_s,
                np.abs(members.velocity_km_s),
            ),
        }
        for limit, (own, given, sizes) in limits.items():
            if own is None:
                continue
            widest = float(sizes.max(initial=0.0))
            if (given is not None and abs(given - own) > 1e-6 * own) or widest > own * (1 + 1e-6):
                came = f"{limit} {given:g}" if given is not None else f"values up to {widest:g}"
                raise ValueError(
                    f"{name} was trained on clusters with {limit} {own:g}, and these have {came}; "
                    f"expected the same cylinder: use cut_cylinder(members, "
                    f"{self.aperture_mpc_h}, {self.velocity_cut_km_s}), as `jaxmap dynamics "
                    "estimate` does, or train for this one"
                )
        if abs(members.redshift - self.redshift) > REDSHIFT_TOLERANCE:
            log.warning(
                "%s was trained at redshift %.3f, and these clusters are at %.3f; their masses may "
                "be biased",
                name,
                self.redshift,
                members.redshift,
            )

    def flags(self, log10_mass: np.ndarray, members: ClusterMembers) -> np.ndarray:
        """`Flag.OUT_OF_RANGE` and `Flag.SPARSE`, shape ``(num,)``."""
        beyond = (log10_mass < self.low) | (log10_mass > self.high)
        sparse = members.richness < self.fewest
        return np.where(beyond, Flag.OUT_OF_RANGE, 0) | np.where(sparse, Flag.SPARSE, 0)


def domain_of(members: ClusterMembers) -> Domain:
    """The domain of training clusters."""
    masses = require_masses(members)
    return Domain(
        members.aperture_mpc_h,
        members.velocity_cut_km_s,
        members.redshift,
        float(masses.min()),
        float(masses.max()),
        int(members.richness.min()),
    )


def without_spread(members: ClusterMembers, with_radius: bool) -> np.ndarray:
    """Clusters whose galaxies all have one velocity (or one radius), shape ``(num,)``."""
    names = ("velocity_km_s", "radius_mpc_h") if with_radius else ("velocity_km_s",)
    flat = np.zeros(len(members), bool)
    some = members.richness > 0
    first = members.offsets[:-1][some]
    for name in names:
        values = getattr(members, name)
        if first.size:
            width = np.maximum.reduceat(values, first) - np.minimum.reduceat(values, first)
            flat[some] |= width == 0
    return flat
