"""What the synthetic clusters are made of: the numbers of the recipe and its table of haloes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import jax
import numpy as np

from jaxmap.dynamics.members import numpy_generator


@dataclass(frozen=True)
class MockRecipe:
    """Numbers of the halo model; tuned by hand to the galaxy counts and the M-sigma relations.

    Nothing in it was tuned on learned estimators.

    Args:
        aperture_mpc_h, velocity_cut_km_s: the cylinder of contaminated clusters.
        min_richness: clusters need more galaxies than this.
        galaxies_at_14: mean number of galaxies of a halo of 10^14 Msun/h.
        galaxy_slope: of the number of galaxies with mass.
        galaxy_cutoff: mass in Msun/h below which halos have few galaxies.
        galaxy_scatter: of that number beyond Poisson, natural log.
        concentration_boost: over the mean relation of Duffy et al. (2008).
        concentration_scatter: in dex.
        galaxy_concentration: of the galaxies, in units of the matter's.
        virial_radius: of the galaxies' outer edge, in R200c.
        beta: anisotropy of velocities.
        velocity_factor: of galaxies to matter.
        velocity_scatter: from halo to halo, natural log.
        axis_ratio, axis_ratio_scatter: of the shortest to the longest axis.
        velocity_shape: exponent that makes velocity ellipsoids from spatial ones.
        clump_share: of galaxies in substructures.
        merger_share: of halos with one large substructure.
        neighbour_boost: of the correlation at small separations, and where it ends in Mpc/h.
        neighbour_limit: largest excess of the density of neighbours.
        neighbour_velocity_km_s: random velocity of neighbours per component.
    """

    aperture_mpc_h: float = 1.6
    velocity_cut_km_s: float = 2200.0
    min_richness: int = 10
    galaxies_at_14: float = 32.0
    galaxy_slope: float = 1.0
    galaxy_cutoff: float = 1.5e12
    galaxy_scatter: float = 0.15
    concentration_boost: float = 1.15
    concentration_scatter: float = 0.16
    galaxy_concentration: float = 0.6
    virial_radius: float = 1.28
    beta: float = 0.2
    velocity_factor: float = 0.96
    velocity_scatter: float = 0.04
    axis_ratio: float = 0.55
    axis_ratio_scatter: float = 0.10
    velocity_shape: float = 0.55
    clump_share: float = 0.06
    merger_share: float = 0.06
    neighbour_boost: tuple[float, float] = (4.0, 5.0)
    neighbour_limit: float = 25.0
    neighbour_velocity_km_s: float = 220.0

    def mean_galaxies(self, log10_mass: np.ndarray) -> np.ndarray:
        r"""Mean number of galaxies, :math:`N_{14} (M/10^{14})^{s} e^{-M_c/M}`."""
        mass = 10**log10_mass
        power = self.galaxies_at_14 * (mass / 1e14) ** self.galaxy_slope
        return power * np.exp(-self.galaxy_cutoff / mass)


@dataclass(frozen=True)
class HaloTable:
    """Haloes of the MultiDark Planck cosmology at one redshift; made by colossus.

    Args:
        redshift, omega_m: of the table.
        log10_mass: of haloes (M200c), shape ``(n,)``.
        per_dex: number per (Mpc/h)^3 and dex (Tinker et al. 2008).
        bias: Tinker et al. (2010).
        concentration: c200c, Duffy et al. (2008).
        radius_mpc_h, correlation: linear matter correlation function, comoving.
    """

    redshift: float
    omega_m: float
    log10_mass: np.ndarray
    per_dex: np.ndarray
    bias: np.ndarray
    concentration: np.ndarray
    radius_mpc_h: np.ndarray
    correlation: np.ndarray


def halo_table() -> HaloTable:
    """The shipped table, at redshift 0.117."""
    source = resources.files("jaxmap") / "data" / "cluster_mocks.npz"
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        values: dict[str, Any] = {name: file[name] for name in file.files}
    redshift, omega_m = (float(values.pop(name)) for name in ("redshift", "omega_m"))
    return HaloTable(redshift, omega_m, **values)


def flat_masses(key: jax.Array, num: int, low: float = 13.5, high: float = 15.3) -> np.ndarray:
    """log10 masses spread evenly, as for training, shape ``(num,)``."""
    _check_range(num, low, high)
    return numpy_generator(key).uniform(low, high, num)


def halo_masses(key: jax.Array, num: int, low: float = 14.0, high: float = 15.0) -> np.ndarray:
    """log10 masses as haloes have them (Tinker et al. 2008), as for testing, shape ``(num,)``."""
    _check_range(num, low, high)
    table = halo_table()
    first, last = table.log10_mass[0], table.log10_mass[-1]
    if low < first or high > last:
        raise ValueError(
            f"masses from {low:g} to {high:g} were asked for; expected a range within "
            f"{first:g} to {last:g} (log10 of Msun/h)"
        )
    grid = np.linspace(low, high, 2000)
    density = np.exp(np.interp(grid, table.log10_mass, np.log(table.per_dex)))
    share = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(numpy_generator(key).random(num) * share[-1], share, grid)


def _check_range(num: int, low: float, high: float) -> None:
    if num < 1 or not low < high:
        raise ValueError(
            f"{num} masses from {low:g} to {high:g} were asked for; expected at least 1, and a "
            "lower end below the upper one"
        )
