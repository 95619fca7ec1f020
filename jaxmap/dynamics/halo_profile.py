"""A spherical halo for the mocks: where its galaxies are and how fast they move. Host tables.

Masses are M200c in Msun/h; radii are in units of R200c unless their name has a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from jaxmap.simulation.halos import CRITICAL_DENSITY

NEWTON = 4.30091e-9
"""Newton's constant in Mpc (km/s)^2 / Msun."""


def expansion_rate(redshift: float, omega_m: float) -> float:
    r"""Dimensionless Hubble rate :math:`h(z) = \sqrt{\Omega_m (1+z)^3 + 1 - \Omega_m}`."""
    return float(np.sqrt(omega_m * (1 + redshift) ** 3 + 1 - omega_m))


def radius_200c(log10_mass: ArrayLike, redshift: float, omega_m: float) -> np.ndarray:
    r"""Comoving :math:`R_{200c}` in Mpc/h, :math:`M = \frac{4\pi}{3} 200 \rho_c(z) R^3`."""
    density = CRITICAL_DENSITY * expansion_rate(redshift, omega_m) ** 2
    mass = 10 ** np.asarray(log10_mass, float)
    return (1 + redshift) * np.cbrt(3 * mass / (4 * np.pi * 200 * density))


def circular_velocity(log10_mass: ArrayLike, redshift: float, omega_m: float) -> np.ndarray:
    r""":math:`V_{200} = \sqrt{G M / R_{200c}}` in km/s (R proper)."""
    proper = radius_200c(log10_mass, redshift, omega_m) / (1 + redshift)
    return np.sqrt(NEWTON * 10 ** np.asarray(log10_mass, float) / proper)


def nfw_mass(x: ArrayLike) -> np.ndarray:
    r"""Mass within x scale radii, :math:`m(x) = \ln(1 + x) - x / (1 + x)`."""
    x = np.asarray(x, float)
    return np.log1p(x) - x / (1 + x)


def draw_radii(
    rng: np.random.Generator, concentration: np.ndarray, outer: float, num: int = 512
) -> np.ndarray:
    """Radii of galaxies that follow NFW profiles out to ``outer``, one for each concentration."""
    y = np.geomspace(1e-4, 80 * outer, num)
    share = rng.random(concentration.shape) * nfw_mass(concentration * outer)
    return np.interp(share, nfw_mass(y), y) / concentration


@dataclass(frozen=True)
class DispersionTable:
    r"""Radial velocity dispersion in units of V200, from the Jeans equation.

    .. math:: \sigma_r^2(r) = \frac{1}{\nu r^{2\beta}}
        \int_r^\infty \nu(s) s^{2\beta} \frac{G M(s)}{s^2} ds

    for NFW matter of concentration c and NFW galaxies of a share of it, beta constant.

    Args:
        log_concentration, log_radius: axes, evenly spaced.
        values: sigma_r / V200, shape ``(concentrations, radii)``.
    """

    log_concentration: np.ndarray
    log_radius: np.ndarray
    values: np.ndarray

    def __call__(self, concentration: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Bilinear interpolation, held constant beyond the edges."""
        row, i = _place(self.log_concentration, np.log(concentration))
        column, j = _place(self.log_radius, np.log(np.maximum(radius, 1e-9)))
        table = self.values
        low = table[i, j] * (1 - column) + table[i, j + 1] * column
        high = table[i + 1, j] * (1 - column) + table[i + 1, j + 1] * column
        return low * (1 - row) + high * row


def dispersion_table(galaxy_share: float, beta: float) -> DispersionTable:
    """The table for galaxies whose concentration is ``galaxy_share`` of the matter's."""
    log_c, log_r = (
        np.linspace(np.log(0.7), np.log(40), 25),
        np.linspace(np.log(1e-3), np.log(4), 60),
    )
    s = np.geomspace(1e-3, 300, 1200)
    values = np.empty((len(log_c), len(log_r)))
    for i, c in enumerate(np.exp(log_c)):
        tracer = 1 / (s * (1 + galaxy_share * c * s) ** 2)
        pull = nfw_mass(c * s) / nfw_mass(c) / s**2
        integrand = tracer * s ** (2 * beta) * pull
        steps = 0.5 * (integrand[1:] + integrand[:-1]) * np.diff(s)
        outside = np.concatenate([np.cumsum(steps[::-1])[::-1], [0]])
        squared = outside / (tracer * s ** (2 * beta))
        values[i] = np.sqrt(np.interp(log_r, np.log(s), squared))
    return DispersionTable(log_c, log_r, values)


def _place(axis: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fraction and number of the cell of an even axis."""
    where = np.clip((x - axis[0]) / (axis[1] - axis[0]), 0, len(axis) - 1 - 1e-9)
    cell = where.astype(int)
    return where - cell, cell
