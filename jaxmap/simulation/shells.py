"""Matter shells of a light cone: their borders, lensing weights and angular power spectra.

Float64 on the host: done once when a simulator is built. Lengths are comoving, in Mpc/h.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxmap.cosmology import comoving_distance, lensing_kernel
from jaxmap.matter_power import MatterPower
from jaxmap.redshifts import RedshiftDistribution
from jaxmap.simulation.baryons import Baryons

NUM_NODES = 5
_NEAREST = 15.0  # Mpc/h; nearer matter adds under 0.01 % of the power and no one's halo
_REMAINDER = 1e-3  # of the power, left out beyond the last shell


@dataclass(frozen=True)
class Shells:
    r"""Shells of matter, S of them, with N Gauss-Legendre nodes of distance in each.

    Args:
        edges: borders in distance, ascending, shape ``(S + 1,)``.
        distance, z, kernel, node_weight: :math:`\chi`, redshift, :math:`q(\chi)` in h/Mpc and
            weight :math:`d\chi` of the nodes, shape ``(S, N)``.
    """

    edges: np.ndarray
    distance: np.ndarray
    z: np.ndarray
    kernel: np.ndarray
    node_weight: np.ndarray

    @property
    def lensing_weight(self) -> np.ndarray:
        r""":math:`W_i = \int_i q\,d\chi`: a shell adds :math:`W_i \delta_i`; shape ``(S,)``."""
        return np.sum(self.kernel * self.node_weight, axis=1)

    @property
    def middle(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance and redshift of each shell's middle, shape ``(S,)`` each."""
        middle = NUM_NODES // 2
        return self.distance[:, middle], self.z[:, middle]

    def power(
        self, matter: MatterPower, ell: np.ndarray, baryons: Baryons | None = None
    ) -> np.ndarray:
        r"""Contribution of every shell to the convergence power spectrum (Limber).

        .. math:: C_i(\ell) = \int_i d\chi\, \frac{q^2}{\chi^2} P\!\left(\frac{\ell + 1/2}{\chi},
                  z\right) S

        Returns:
            Shape ``(S, num_ell)``, in steradians.
        """
        k = (ell + 0.5) / self.distance[..., None]
        power = interpolated_power(matter, k, self.z[..., None])
        if baryons is not None:
            power = power * baryons.suppression(k, self.z[..., None])
        weight = self.node_weight * (self.kernel / self.distance) ** 2
        return np.sum(weight[..., None] * power, axis=1)


def make_shells(
    matter: MatterPower, redshifts: RedshiftDistribution, thickness: float, max_z: float
) -> Shells:
    """Cut the light cone into shells of equal thickness, the nearest one in two.

    The last shell is the one before which all but a thousandth of the power at ell = 1000 lies.

    Args:
        matter: P(k, z).
        redshifts: n(z) of the sources.
        thickness: of a shell in Mpc/h.
        max_z: no shell begins beyond this redshift.
    """
    z = max_z * np.linspace(0, 1, 4001)[1:] ** 1.5
    distance = np.asarray(comoving_distance(z, matter.omega_m), float)
    kernel = np.asarray(lensing_kernel(jnp.asarray(z, float), redshifts, matter.omega_m), float)
    integrand = (kernel / distance) ** 2 * interpolated_power(matter, 1000 / distance, z)
    total = np.cumsum(integrand * np.gradient(distance))
    end = distance[np.searchsorted(total, (1 - _REMAINDER) * total[-1])]
    num = int(np.ceil(max(end - thickness, 0) / thickness))
    edges = thickness * np.arange(1, num + 2)
    edges = np.concatenate([[_NEAREST, 0.4 * thickness], edges])
    nodes, weights = np.polynomial.legendre.leggauss(NUM_NODES)
    width = np.diff(edges)[:, None]
    at = edges[:-1, None] + width * 0.5 * (1 + nodes)
    return Shells(
        edges=edges,
        distance=at,
        z=np.interp(at, distance, z),
        kernel=np.interp(at, distance, kernel, right=0.0),
        node_weight=width * 0.5 * weights,
    )


def interpolated_power(matter: MatterPower, k: np.ndarray, z: np.ndarray) -> np.ndarray:
    """P(k, z) from the table: power laws in k, also beyond its ends; ln P linear between rows.

    Args:
        k: wave numbers in h/Mpc, > 0, broadcast against ``z``.
        z: redshifts.
    """
    k, z = np.broadcast_arrays(k, z)
    log_k, log_power = np.log(np.asarray(matter.k)), np.log(np.asarray(matter.power, float))
    rows = np.asarray(matter.z)
    last = rows.size - 1
    row = np.interp(z, rows, np.arange(last + 1.0))
    below = np.minimum(row.astype(int), last - 1)
    step = (log_k[-1] - log_k[0]) / (log_k.size - 1)
    column = (np.log(k) - log_k[0]) / step
    left = np.clip(column.astype(int), 0, log_k.size - 2)
    part_row, part = row - below, column - left  # the part leaves [0, 1] beyond the table's ends
    low = log_power[below, left] * (1 - part) + log_power[below, left + 1] * part
    high = log_power[below + 1, left] * (1 - part) + log_power[below + 1, left + 1] * part
    return np.exp(low * (1 - part_row) + high * part_row)


def lognormal_modes(
    power: np.ndarray, shift: float, pixel_sr: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    r"""Spectrum of the Gaussian field behind a shifted-lognormal one, on a periodic grid.

    .. math:: \xi_g = \ln(1 + \xi_\delta / \lambda^2)

    Modes that would need negative power are left empty.

    Args:
        power: wanted :math:`C_\ell` of :math:`\delta` at the modes of `jax.numpy.fft.rfft2`,
            shape ``(ny, nx // 2 + 1)``.
        shift: :math:`\lambda`.
        pixel_sr: pixel area.
        shape: ``(ny, nx)``.

    Returns:
        Variance of the modes of g (orthonormal FFT), and the power that :math:`\delta` will have
        in fact, both of the shape of ``power``.

    References:
        Hilbert, Hartlap & Schneider (2011), A&A 536, A85.
    """
    variance = power / pixel_sr
    variance[0, 0] = 0
    correlation = np.fft.irfft2(variance, shape)
    gaussian = np.fft.rfft2(np.log1p(np.maximum(correlation / shift**2, -0.999))).real
    gaussian = np.maximum(gaussian, 0)
    gaussian[0, 0] = 0
    achieved = np.fft.rfft2(shift**2 * np.expm1(np.fft.irfft2(gaussian, shape))).real
    return gaussian, achieved * pixel_sr
