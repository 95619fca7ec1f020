r"""An NFW halo as a lens: convergence, shear and reduced shear at any positions.

Positions are in arcminutes on the tangent plane, x = west, y = north, as in `jaxmap.grid`; the
shear is in that frame, so that the tangential shear of a halo,
:math:`\gamma_t = -\mathrm{Re}[\gamma e^{-2 i \varphi}]`, is positive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.clusters.nfw import (
    elliptical_deflection,
    enclosed,
    nfw_convergence,
    nfw_shear,
    truncated_convergence,
    truncated_shear,
)
from jaxmap.cosmology import angular_diameter_distance, critical_density
from jaxmap.grid import ARCMIN
from jaxmap.matter_power import PLANCK18, Cosmology

_CORE = 1e-4
"""Least softening in scale radii: the convergence diverges at the centre."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NFWHalo:
    r"""A halo with an NFW profile; made by `nfw_halo`, or directly inside of jit.

    Args:
        mass: :math:`M_{200c}` in Msun, within the radius of a mean density of 200 times critical
            (of the halo without truncation).
        concentration: :math:`c = r_{200c} / r_s`.
        z: redshift.
        x, y: centre in arcminutes.
        ellipticity: complex :math:`\frac{1-q}{1+q} e^{2 i \varphi}` of the isodensity ellipses, q
            their axis ratio and the major axis at the angle :math:`\varphi` from x towards y; None
            for a round halo.
        truncation: truncation radius over :math:`r_{200c}`, or None.
        cosmology: flat; distances and critical density.
    """

    mass: jax.Array
    concentration: jax.Array
    z: jax.Array
    x: jax.Array
    y: jax.Array
    ellipticity: jax.Array | None = None
    truncation: jax.Array | None = None
    cosmology: Cosmology = field(default=PLANCK18, metadata={"static": True})


def nfw_halo(
    mass: float,
    concentration: float,
    z: float,
    x: float = 0.0,
    y: float = 0.0,
    ellipticity: complex | None = None,
    truncation: float | None = None,
    cosmology: Cosmology = PLANCK18,
) -> NFWHalo:
    """Check the numbers of a halo and make it an `NFWHalo`, whose arguments these are.

    Raises:
        ValueError: for a mass, concentration, redshift or truncation that is not a finite number
            above 0, a centre that is not finite, or an ellipticity of modulus 1 or more.
    """
    positive = {"mass": mass, "concentration": concentration, "z": z, "truncation": truncation}
    for name, value in positive.items():
        if value is not None and not 0 < value < np.inf:
            unit = " (in Msun)" if name == "mass" else ""
            raise ValueError(f"{name} is {value}; expected a finite number above 0{unit}")
    if 0 < mass < 1e9:
        raise ValueError(f"mass is {mass:g} Msun; expected M200c in Msun, such as 3e14 (a log10?)")
    if not (np.isfinite(x) and np.isfinite(y)):
        raise ValueError(f"the centre is ({x}, {y}) arcmin; expected finite numbers")
    if ellipticity is not None and not abs(ellipticity) < 1:
        raise ValueError(
            f"ellipticity is {ellipticity} with modulus {abs(ellipticity):g}; expected (1 - q) / "
            "(1 + q) exp(2 i angle) of an axis ratio q above 0, whose modulus is below 1"
        )
    return NFWHalo(
        mass=jnp.asarray(mass, float),
        concentration=jnp.asarray(concentration, float),
        z=jnp.asarray(z, float),
        x=jnp.asarray(x, float),
        y=jnp.asarray(y, float),
        ellipticity=None if ellipticity is None else jnp.asarray(ellipticity, complex),
        truncation=None if truncation is None else jnp.asarray(truncation, float),
        cosmology=cosmology,
    )


def halo_convergence(
    halo: NFWHalo,
    x: ArrayLike,
    y: ArrayLike,
    inverse_critical: ArrayLike,
    softening_arcmin: ArrayLike = 0.0,
) -> jax.Array:
    r"""Convergence :math:`\kappa = \Sigma / \Sigma_{cr}` of a halo.

    Args:
        halo: the lens.
        x, y: positions in arcminutes, broadcast against each other.
        inverse_critical: :math:`\Sigma_{cr}^{-1}` of the sources in Mpc^2/Msun, from
            `jaxmap.cosmology`; broadcast against the positions.
        softening_arcmin: the radius r is taken for :math:`\sqrt{r^2 + s^2}`, and the shear times
            :math:`r^2 / (r^2 + s^2)`, so that neither has a cusp at the centre; at least 1e-4
            scale radii. An elliptical lens has a level core of that size.

    Returns:
        In the precision of the positions.
    """
    return _lensing(halo, x, y, inverse_critical, softening_arcmin)[0]


def halo_shear(
    halo: NFWHalo,
    x: ArrayLike,
    y: ArrayLike,
    inverse_critical: ArrayLike,
    softening_arcmin: ArrayLike = 0.0,
) -> jax.Array:
    r"""Complex shear :math:`\gamma_1 + i \gamma_2` of a halo; arguments as `halo_convergence`.

    .. math:: \gamma = -\gamma_t\, e^{2 i \varphi}
    """
    return _lensing(halo, x, y, inverse_critical, softening_arcmin)[1]


@jax.jit
def halo_reduced_shear(
    halo: NFWHalo,
    x: ArrayLike,
    y: ArrayLike,
    inverse_critical: ArrayLike,
    spread: ArrayLike = 1.0,
    softening_arcmin: ArrayLike = 0.0,
) -> jax.Array:
    r"""What galaxy shapes estimate: the reduced shear, inside critical curves its inverse.

    .. math:: g = \frac{\gamma}{1 - s \kappa}, \qquad
              \langle e \rangle = g \;\text{ or }\; 1 / g^* \text{ where } |g| > 1

    Args:
        halo, x, y, inverse_critical, softening_arcmin: as for `halo_convergence`.
        spread: s, the second number of `jaxmap.cosmology.mean_inverse_critical_density` where one
            number stands for sources of many redshifts.

    References:
        Seitz & Schneider (1997), A&A 318, 687; Schneider & Seitz (1995), A&A 294, 411 (|g| > 1).
    """
    convergence, shear = _lensing(halo, x, y, inverse_critical, softening_arcmin)
    rest = 1 - spread * convergence
    strong = jnp.abs(rest) ** 2 < shear.real**2 + shear.imag**2
    weak_rest = jnp.where(strong, 1, rest)
    strong_shear = jnp.where(strong, shear, 1)
    return jnp.where(strong, rest / strong_shear.conj(), shear / weak_rest)


def _scale_radius(halo: NFWHalo) -> jax.Array:
    density = 200 * critical_density(halo.z, halo.cosmology)
    return jnp.cbrt(3 * halo.mass / (4 * jnp.pi * density)) / halo.concentration


@jax.jit
def _lensing(
    halo: NFWHalo, x: ArrayLike, y: ArrayLike, inverse_critical: ArrayLike, softening: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Convergence and shear in the precision of the positions."""
    x, y = jnp.broadcast_arrays(jnp.asarray(x), jnp.asarray(y))
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    scale = _scale_radius(halo)
    # Sigma_s = rho_s r_s = M / (4 pi r_s^2 m(c)).
    surface = halo.mass / (4 * jnp.pi * scale**2 * enclosed(halo.concentration))
    strength = (jnp.asarray(inverse_critical) * surface).astype(dtype)
    theta = scale / (angular_diameter_distance(halo.z, halo.cosmology) * ARCMIN)
    core = jnp.maximum(softening / theta, _CORE).astype(dtype)
    tau = None if halo.truncation is None else halo.truncation * halo.concentration
    tau = None if tau is None else tau.astype(dtype)
    along_x = ((x - halo.x) / theta).astype(dtype)
    along_y = ((y - halo.y) / theta).astype(dtype)
    if halo.ellipticity is not None:
        # A little off zero, where the direction of the major axis has no derivative.
        ellipticity = (halo.ellipticity + 1e-7).astype(jnp.promote_types(dtype, jnp.complex64))
        size = jnp.abs(ellipticity)
        axis = jnp.sqrt(ellipticity / size)
        position = jax.lax.complex(along_x, along_y) * axis.conj()
        ratio = ((1 - size) / (1 + size)).astype(dtype)
        convergence, shear = elliptical_deflection(position, ratio, tau, core)
        return strength * convergence, strength * shear * axis**2
    square = along_x**2 + along_y**2 + core**2
    radius = jnp.sqrt(square)
    if tau is None:
        convergence, tangential = nfw_convergence(radius), nfw_shear(radius)
    else:
        convergence, tangential = truncated_convergence(radius, tau), truncated_shear(radius, tau)
    double = jax.lax.complex(along_x**2 - along_y**2, 2 * along_x * along_y) / square
    return strength * convergence, -strength * tangential * double
