"""The mass profile of a halo: NFW with a smooth truncation, in Fourier space.

Float64 on the host: these functions fill tables when a simulator is built. Lengths are comoving and
in Mpc/h, masses in Msun/h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxmap.cosmology import CRITICAL_DENSITY

OVERDENSITY = 200.0
"""Mean density of a halo within its radius, in units of the mean matter density."""


def halo_radius(mass: ArrayLike, omega_m: float) -> np.ndarray:
    r"""Comoving :math:`r_{200m}` in Mpc/h: :math:`M = \frac{4\pi}{3} 200 \bar\rho_m r^3`."""
    volume = np.asarray(mass, float) / (OVERDENSITY * CRITICAL_DENSITY * omega_m)
    return np.cbrt(3 / (4 * np.pi) * volume)


def halo_transform(y: ArrayLike, concentration: ArrayLike, truncation: float) -> np.ndarray:
    r"""Fourier transform of a halo's mass profile, in units of :math:`M_{200m}`.

    .. math:: u(y) = \frac{1}{m(c)} \int_0^\infty \frac{\sin(y x)}{y (1 + x)^2}
              \left(\frac{\tau^2}{\tau^2 + x^2}\right)^2 dx, \qquad
              m(c) = \ln(1 + c) - \frac{c}{1 + c}, \quad \tau = t\,c

    The projected profile has the same transform at :math:`y = \ell r_s / \chi` (small angles). Well
    inside the truncation the halo is the NFW halo of its mass; as :math:`y \to 0` the transform
    tends to the total mass over :math:`M_{200m}`, close to 1 for t = 1.5 (what is smoothed away
    inside the radius is made up outside). The integral is taken along the diagonal of the complex
    plane, where it decays instead of oscillating; the integrand has no pole before the imaginary
    axis.

    Args:
        y: wave number times scale radius, > 0.
        concentration: :math:`c = r_{200m}/r_s`, broadcast against ``y``.
        truncation: :math:`t = r_t / r_{200m}`.

    References:
        Baltz, Marshall & Oguri (2009), JCAP 01, 015.
    """
    y, c = np.broadcast_arrays(np.asarray(y, float), np.asarray(concentration, float))
    tau = (truncation * c)[..., None]
    log_s, step = np.linspace(np.log(1e-9), np.log(1e7), 700, retstep=True)
    s = np.exp(log_s)
    x = s * np.exp(0.25j * np.pi)
    integrand = np.exp(1j * y[..., None] * x) / (1 + x) ** 2 / (1 + (x / tau) ** 2) ** 2
    integral = np.exp(0.25j * np.pi) * np.sum(integrand * s, axis=-1) * step
    return integral.imag / y / (np.log1p(c) - c / (1 + c))
