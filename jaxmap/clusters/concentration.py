"""Concentration of haloes as a function of mass and redshift, for masses M200c.

Pure, and differentiable in mass and redshift; masses in Msun, not Msun/h.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmap.matter_power import PLANCK18, Cosmology


def duffy08(mass: ArrayLike, z: ArrayLike, cosmology: Cosmology = PLANCK18) -> jax.Array:
    r"""Median :math:`c_{200c}` of all haloes, relaxed or not, in a WMAP5 cosmology.

    .. math:: c = 5.71 \left(\frac{M}{2 \times 10^{12}\, M_\odot / h}\right)^{-0.084}
              (1 + z)^{-0.47}

    Args:
        mass: M200c in Msun; fitted from 1e11 to 1e15 Msun/h.
        z: redshift; fitted from 0 to 2.
        cosmology: its h turns Msun to Msun/h.

    References:
        Duffy et al. (2008), MNRAS 390, L64, Table 1 (NFW, full sample, z = 0 to 2).
    """
    pivot = jnp.asarray(mass) * (cosmology.h / 2e12)
    return 5.71 * pivot**-0.084 * (1 + jnp.asarray(z)) ** -0.47


def dutton14(mass: ArrayLike, z: ArrayLike, cosmology: Cosmology = PLANCK18) -> jax.Array:
    r"""Median :math:`c_{200c}` of haloes in the cosmology of Planck 2013.

    .. math:: \log_{10} c = a + b \log_{10}\frac{M}{10^{12}\, M_\odot / h}, \quad
              a = 0.520 + 0.385\, e^{-0.617 z^{1.21}}, \quad b = -0.101 + 0.026 z

    Args:
        mass: M200c in Msun; fitted from 1e10 to 1e15 Msun/h.
        z: redshift; fitted from 0 to 5.
        cosmology: its h turns Msun to Msun/h.

    References:
        Dutton & Macciò (2014), MNRAS 441, 3359, Eq. 7, 10 and 11.
    """
    z = jnp.asarray(z)
    offset = 0.520 + 0.385 * jnp.exp(-0.617 * z**1.21)
    slope = -0.101 + 0.026 * z
    return 10 ** (offset + slope * jnp.log10(jnp.asarray(mass) * (cosmology.h / 1e12)))
