"""From P(k, z) and n(z) to the convergence power spectrum: distances and the Limber integral.

Lengths are in Mpc/h throughout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.matter_power import PLANCK18, Cosmology, MatterPower, matter_power
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts, source_quadrature
from jaxmap.spectra import PowerSpectrum, power_spectrum

HUBBLE_RADIUS_MPC_H = 2997.92458
"""c / H0 in Mpc/h."""

CRITICAL_SURFACE_DENSITY = 1.66291654e18
"""c^2 / (4 pi G) in Msun/Mpc."""

CRITICAL_DENSITY = 2.77536627e11
"""Critical density today in h^2 Msun/Mpc^3, which is (Msun/h) / (Mpc/h)^3."""


def comoving_distance(z: ArrayLike, omega_m: float | jax.Array) -> jax.Array:
    r"""Comoving distance in flat LCDM (no radiation), in Mpc/h.

    .. math:: \chi(z) = \frac{c}{H_0} \int_0^z \frac{dz'}{E(z')}, \qquad
        E^2 = \Omega_m (1 + z)^3 + 1 - \Omega_m
    """
    # Substituting 1 + z' = exp(t) leaves an integrand that 24 Gauss-Legendre nodes integrate to
    # single precision up to z = 10.
    nodes, node_weights = np.polynomial.legendre.leggauss(24)
    upper = jnp.log1p(jnp.asarray(z, float))
    axes = (1,) * upper.ndim + (-1,)
    t = upper[..., None] * jnp.asarray(0.5 * (1 + nodes), upper.dtype).reshape(axes)
    integrand = jnp.exp(t) / _expansion_rate(jnp.expm1(t), omega_m)
    weights = jnp.asarray(0.5 * node_weights, upper.dtype).reshape(axes)
    return HUBBLE_RADIUS_MPC_H * upper * jnp.sum(weights * integrand, axis=-1)


def lensing_kernel(
    z: jax.Array, redshifts: RedshiftDistribution, omega_m: float | jax.Array
) -> jax.Array:
    r"""Weight of matter at redshift z in the convergence: :math:`\kappa = \int q \delta\, d\chi`.

    .. math:: q = \frac{3 \Omega_m H_0^2}{2 c^2} (1 + z)\, \chi
        \int_z^\infty dz' n(z') \left(1 - \frac{\chi}{\chi'}\right)

    Args:
        z: redshifts, shape ``(n,)``.
        redshifts: n(z') of the sources.
        omega_m: matter density today.

    Returns:
        q in h/Mpc, shape ``(n,)``.
    """
    distance = comoving_distance(z, omega_m)
    z_source, weight = source_quadrature(redshifts)
    ratio = distance[:, None] / comoving_distance(z_source, omega_m)[None, :]
    efficiency = jnp.sum(weight[None, :] * jnp.maximum(1 - ratio, 0), axis=1)
    return 1.5 * omega_m / HUBBLE_RADIUS_MPC_H**2 * (1 + z) * distance * efficiency


def _expansion_rate(z: jax.Array, omega_m: float | jax.Array) -> jax.Array:
    return jnp.sqrt(omega_m * (1 + z) ** 3 + 1 - omega_m)


@jax.jit
def limber_power(matter: MatterPower, redshifts: RedshiftDistribution, ell: ArrayLike) -> jax.Array:
    r"""Convergence power spectrum in the Limber approximation; pure and differentiable.

    .. math::
        C_\ell = \int d\chi\, \frac{q^2(\chi)}{\chi^2}
        P\!\left(\frac{\ell + 1/2}{\chi}, z(\chi)\right), \qquad
        q = \frac{3 \Omega_m H_0^2}{2 c^2} (1 + z)\, \chi
        \int_z^\infty dz' n(z') \left(1 - \frac{\chi}{\chi'}\right)

    Between and beyond the table's wave numbers P is a power law in k, so that multipoles of
    arcsecond pixels continue the table's last slope. Sources beyond the table's last redshift are
    lensed by matter up to there only.

    Args:
        matter: P(k, z).
        redshifts: n(z) with unit integral.
        ell: multipoles >= 0, shape ``(n,)``.

    Returns:
        C_ell in steradians, shape ``(n,)``.

    References:
        LoVerde & Afshordi (2008), PRD 78, 123506; Kilbinger (2015), Rep. Prog. Phys. 78, 086901.
    """
    ell = jnp.asarray(ell, matter.power.dtype)
    # The table's redshifts are quadratic in their index, for which this central difference is
    # exact; trapezoids in the index converge fast because the integrand vanishes at both ends.
    z, dz = matter.z[1:], jnp.asarray(jnp.gradient(matter.z))[1:]
    distance = comoving_distance(z, matter.omega_m)
    kernel = lensing_kernel(z, redshifts, matter.omega_m) / distance
    path = HUBBLE_RADIUS_MPC_H / _expansion_rate(z, matter.omega_m) * dz
    ln_k = jnp.log(ell + 0.5)[None, :] - jnp.log(distance)[:, None]
    ln_power = jax.vmap(
        lambda x, row: jnp.interp(
            x, jnp.log(matter.k), row, left="extrapolate", right="extrapolate"
        )
    )(ln_k, jnp.log(matter.power[1:]))
    return jnp.sum((kernel**2 * path)[:, None] * jnp.exp(ln_power), axis=0)


def convergence_power(
    redshifts: RedshiftDistribution | None = None,
    cosmology: Cosmology = PLANCK18,
    ell: ArrayLike | None = None,
) -> PowerSpectrum:
    """Convergence power spectrum of a survey, as a table; the formula is that of `limber_power`.

    Args:
        redshifts: n(z) of the sources; of COSMOS by default.
        cosmology: flat LCDM parameters; one other than `PLANCK18` costs some seconds once per
            machine (see `matter_power`).
        ell: multipoles, ascending, shape ``(n,)``; by default 1024 from 1 to 2e5, enough for
            pixels of 0.1 arcmin and for linear interpolation to 3e-4.

    Raises:
        ValueError: for multipoles that do not ascend, or sources beyond the table's redshifts.
    """
    redshifts = cosmos_redshifts() if redshifts is None else redshifts
    ell = np.geomspace(1, 2e5, 1024) if ell is None else np.asarray(ell, float)
    if ell.ndim != 1:
        raise ValueError(f"multipoles have shape {ell.shape}; expected a vector, ascending")
    matter = matter_power(cosmology)
    z_last = np.asarray(redshifts.z)[np.asarray(redshifts.density) > 0].max()
    z_table = np.asarray(matter.z)[-1]
    if z_last > z_table:
        raise ValueError(
            f"n(z) reaches redshift {z_last:g}; expected sources below {z_table:g}, where the "
            "table of P(k, z) ends (cut the tail of n(z))"
        )
    return power_spectrum(ell, limber_power(matter, redshifts, ell))


@jax.jit
def angular_diameter_distance(z: ArrayLike, cosmology: Cosmology = PLANCK18) -> jax.Array:
    r"""Angular diameter distance from us, :math:`\chi(z) / (1 + z)`, in Mpc (not Mpc/h)."""
    z = jnp.asarray(z, float)
    return comoving_distance(z, cosmology.omega_m) / (cosmology.h * (1 + z))


def critical_density(z: ArrayLike, cosmology: Cosmology = PLANCK18) -> jax.Array:
    r"""Critical density at redshift z, :math:`3 H^2(z) / (8 \pi G)`, in Msun/Mpc^3 (physical)."""
    rate = _expansion_rate(jnp.asarray(z, float), cosmology.omega_m)
    return CRITICAL_DENSITY * cosmology.h**2 * rate**2


@jax.jit
def inverse_critical_density(
    z_lens: ArrayLike, z_source: ArrayLike, cosmology: Cosmology = PLANCK18
) -> jax.Array:
    r"""Inverse critical surface density of a lens, 0 for sources in front of it.

    .. math:: \Sigma_{cr}^{-1} = \frac{4 \pi G}{c^2} \frac{D_l D_{ls}}{D_s}
              = \frac{4 \pi G}{c^2} D_l \max\left(0,\; 1 - \frac{\chi_l}{\chi_s}\right)

    Args:
        z_lens, z_source: redshifts > 0, broadcast against each other.
        cosmology: flat.

    Returns:
        In Mpc^2/Msun, physical: convergence is this times the surface density.

    References:
        Bartelmann & Schneider (2001), Phys. Rep. 340, 291, Eq. 3.7.
    """
    z_lens, z_source = jnp.asarray(z_lens, float), jnp.asarray(z_source, float)
    ratio = comoving_distance(z_lens, cosmology.omega_m) / comoving_distance(
        z_source, cosmology.omega_m
    )
    efficiency = jnp.maximum(1 - ratio, 0)
    return angular_diameter_distance(z_lens, cosmology) * efficiency / CRITICAL_SURFACE_DENSITY


@jax.jit
def mean_inverse_critical_density(
    z_lens: ArrayLike, redshifts: RedshiftDistribution, cosmology: Cosmology = PLANCK18
) -> tuple[jax.Array, jax.Array]:
    r"""The same averaged over sources, and how much it varies among them.

    Returns:
        :math:`\langle \Sigma_{cr}^{-1} \rangle` in Mpc^2/Msun, foreground counted as 0, and
        :math:`\langle \Sigma_{cr}^{-2} \rangle / \langle \Sigma_{cr}^{-1} \rangle^2 \ge 1`, which
        the mean reduced shear needs.

    References:
        Seitz & Schneider (1997), A&A 318, 687.
    """
    z_source, weight = source_quadrature(redshifts)
    # A source at redshift 0 would divide by its distance.
    density = inverse_critical_density(z_lens, jnp.maximum(z_source, 1e-6), cosmology)
    mean = jnp.sum(weight * density)
    # Relative to the mean: squares of these small numbers vanish in single precision.
    return mean, jnp.sum(weight * (density / mean) ** 2)
