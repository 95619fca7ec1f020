r"""Projected NFW profiles, in units of the scale convergence :math:`\kappa_s = \rho_s r_s /
\Sigma_{cr}`, as functions of :math:`x = R / r_s`.

The textbook forms lose all digits in single precision near x = 1 and at small x; those here are
rearranged so that no nearly equal numbers are subtracted. With a truncation the two integrals over
the density are taken as sums of positive terms. All can be differentiated at any x > 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_NEAR, _NUM_TERMS = 0.1, 14  # |1 - x^2| below which the series is used, to 1e-15


def nfw_convergence(x: jax.Array) -> jax.Array:
    r"""Convergence of an NFW halo over :math:`\kappa_s`.

    .. math:: \frac{\kappa(x)}{\kappa_s} = 2\, \frac{1 - F(x)}{x^2 - 1}, \qquad
              F(x) = \frac{\mathrm{artanh} \sqrt{1 - x^2}}{\sqrt{1 - x^2}}

    (with arctan for x > 1). Both have the series :math:`F = \sum_n q^n / (2 n + 1)` in
    :math:`q = 1 - x^2`, which bridges x = 1.

    Args:
        x: radius over scale radius, > 0, any shape.

    References:
        Bartelmann (1996), A&A 313, 697; Wright & Brainerd (2000), ApJ 534, 34, Eq. 11.
    """
    return 2 * _convergence_and_mean(x)[0]


def nfw_shear(x: jax.Array) -> jax.Array:
    r"""Tangential shear of an NFW halo over :math:`\kappa_s`, positive.

    .. math:: \frac{\gamma_t(x)}{\kappa_s} = \frac{4 g(x)}{x^2} - \frac{\kappa(x)}{\kappa_s}, \qquad
              g(x) = \ln\frac{x}{2} + F(x)

    the mean convergence within x less that at x.

    Args:
        x: radius over scale radius, > 0, any shape.

    References:
        Wright & Brainerd (2000), ApJ 534, 34, Eq. 12 to 16.
    """
    convergence, mean = _convergence_and_mean(x)
    return 4 * mean - 2 * convergence


def _convergence_and_mean(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(1 - F) / (x^2 - 1) and g / x^2, each to the precision of x."""
    q = (1 - x) * (1 + x)
    near, inside = jnp.abs(q) < _NEAR, q > 0
    q_near = jnp.where(near, q, 0)
    series = jnp.zeros_like(x)
    for n in reversed(range(_NUM_TERMS)):
        series = series * q_near + 1 / (2 * n + 3)
    # Branches that are not taken see harmless numbers, so that their gradients are finite.
    x_in = jnp.where(near | ~inside, 0.5, x)
    s_in = jnp.sqrt((1 - x_in) * (1 + x_in))
    f_in = (jnp.log((1 + s_in) / x_in) / s_in - 1) / s_in**2
    drop = x_in**2 / (2 * (1 + s_in))
    mean_in = (jnp.log(2 / x_in) / (1 + s_in) + jnp.log1p(-drop) / x_in**2) / s_in
    x_out = jnp.where(near | inside, 2.0, x)
    s_out = jnp.sqrt((x_out - 1) * (x_out + 1))
    bracket = jnp.arctan(s_out) / s_out
    f_out = (1 - bracket) / s_out**2
    mean_out = (jnp.log(x_out / 2) + bracket) / x_out**2
    x_near = jnp.where(near, x, 1.0)
    mean_near = (jnp.log(x_near / 2) + 1 + q_near * series) / x_near**2
    return (
        jnp.where(near, series, jnp.where(inside, f_in, f_out)),
        jnp.where(near, mean_near, jnp.where(inside, mean_in, mean_out)),
    )


def enclosed(c: jax.Array) -> jax.Array:
    r"""Mass within :math:`c\, r_s`, in :math:`4 \pi \rho_s r_s^3`: :math:`\ln(1+c) - c/(1+c)`."""
    return jnp.log1p(c) - c / (1 + c)


# Trapezoids converge geometrically here (the integrand is analytic in a strip of half width pi/2).
_STEP = 0.35
_NUM_STEPS = 60


def truncated_convergence(x: jax.Array, tau: jax.Array) -> jax.Array:
    r"""Convergence of a smoothly truncated NFW halo over :math:`\kappa_s`.

    .. math:: \rho(r) = \frac{\rho_s}{r (1 + r)^2} \left(\frac{\tau^2}{\tau^2 + r^2}\right)^2,
              \qquad \frac{\kappa}{\kappa_s} = 2 \int_0^\infty r\, \rho(r)\, dt, \quad r = x \cosh t

    with lengths in :math:`r_s`: the profile of `jaxmap.simulation.halos`.

    Args:
        x: radius over scale radius, > 0, any shape.
        tau: truncation radius over scale radius, a number.

    References:
        Baltz, Marshall & Oguri (2009), JCAP 01, 015, Eq. A.1 with n = 2.
    """
    t = _STEP * np.arange(_NUM_STEPS)
    weight = np.full(_NUM_STEPS, 2 * _STEP)
    weight[0] = _STEP
    r = x[..., None] * _like(np.cosh(t), x)
    return jnp.sum(_like(weight, x) * _density_times_radius(r, tau), axis=-1)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_W = 2.0 * (1 + _NODES)
_DW = 2.0 * _WEIGHTS


def truncated_shear(x: jax.Array, tau: jax.Array) -> jax.Array:
    r"""Tangential shear of a smoothly truncated NFW halo over :math:`\kappa_s`.

    A halo is a pile of uniform balls of all radii r, as many as :math:`-\rho'(r)`. A ball's mean
    surface density within x less that at x is positive, and so is every term of

    .. math:: \frac{\gamma_t(x)}{\kappa_s} = \int_0^x (-\rho') \frac{4 r^3}{3 x^2} dr
              + \int_x^\infty (-\rho') \frac{2 x^2}{3 r} \frac{2 + c}{(1 + c)^2} dr, \qquad
              c = \sqrt{1 - x^2 / r^2}

    Args:
        x, tau: as in `truncated_convergence`.
    """
    # r = x exp(-w^2) and x exp(w^2): smooth in w, Gauss-Legendre nodes up to w = 4.
    r_in = x[..., None] * _like(np.exp(-(_W**2)), x)
    r_out = x[..., None] * _like(np.exp(_W**2), x)
    c = np.sqrt(-np.expm1(-2 * _W**2))
    scale = x[..., None] ** 2
    weight_in = _like(4 / 3 * np.exp(-4 * _W**2) * 2 * _W * _DW, x)
    weight_out = _like(2 / 3 * (2 + c) / (1 + c) ** 2 * 2 * _W * _DW, x)
    inside = jnp.sum(weight_in * scale * _minus_slope(r_in, tau), axis=-1)
    return inside + jnp.sum(weight_out * scale * _minus_slope(r_out, tau), axis=-1)


def _density_times_radius(r: jax.Array, tau: jax.Array) -> jax.Array:
    # Far outside nothing is left; the square of a larger number would overflow in single precision.
    r = jnp.minimum(r, 1e4 * tau)
    return 1 / ((1 + r) ** 2 * (1 + (r / tau) ** 2) ** 2)


def _minus_slope(r: jax.Array, tau: jax.Array) -> jax.Array:
    near = jnp.minimum(r, 1e4 * tau)
    slope = 1 / near + 2 / (1 + near) + 4 * near / (tau**2 + near**2)
    return _density_times_radius(r, tau) / near * slope


def elliptical_deflection(
    position: jax.Array, ratio: jax.Array, tau: jax.Array | None, core: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array]:
    r"""Convergence and shear of an NFW halo whose convergence is constant on ellipses.

    :math:`\kappa(\xi)` with :math:`\xi^2 = q\,(x^2 + y^2 / q^2)`, so that an ellipse keeps the
    area and mass of the circle. The second derivatives of the potential are, with
    :math:`D = 1 - (1 - q^2) u` and :math:`s^2(u) = q\,u\,(x^2 + y^2 / D) + s_0^2`,

    .. math::
        \psi_{xx} = q (2 x^2 K_0 + J_0), \quad \psi_{yy} = q (2 y^2 K_2 + J_1), \quad
        \psi_{xy} = 2 q x y K_1, \qquad
        J_n = \int_0^1 \frac{\kappa(s)\, du}{D^{n + 1/2}}, \quad
        K_n = \int_0^1 \frac{u}{D^{n + 1/2}} \frac{d\kappa}{d(s^2/q)} du

    Args:
        position: complex x + iy over the scale radius, major axis along x, any shape; without a
            core not 0.
        ratio: axis ratio :math:`0 < q \le 1`.
        tau: truncation radius over scale radius, or None.
        core: :math:`s_0`, within which the convergence is level.

    Returns:
        Real convergence and complex shear, over :math:`\kappa_s`.

    References:
        Schramm (1990), A&A 231, 19; Keeton (2001), astro-ph/0102341, Sect. 3.
    """
    x, y = position.real, position.imag
    u = _like(np.exp(-2 * _W**2), x)
    du = _like(4 * _W * np.exp(-2 * _W**2) * _DW, x)
    d = 1 - (1 - ratio**2) * u
    plane = x[..., None] ** 2 + y[..., None] ** 2 / d
    square = ratio * u * plane + core**2
    s = jnp.sqrt(square)
    value, slope = jax.jvp(lambda r: _convergence(r, tau), (s,), (s,))  # slope: s d kappa / ds
    half = ratio * u * slope / (2 * square)  # u d kappa / d(s^2 / q)
    root = jnp.sqrt(d)

    def integral(values: jax.Array, power: int) -> jax.Array:
        return jnp.sum(du * values / (root * d**power), axis=-1)

    xx = ratio * (2 * x**2 * integral(half, 0) + integral(value, 0))
    yy = ratio * (2 * y**2 * integral(half, 2) + integral(value, 1))
    xy = ratio * 2 * x * y * integral(half, 1)
    return (xx + yy) / 2, jax.lax.complex((xx - yy) / 2, xy)


def _convergence(x: jax.Array, tau: jax.Array | None) -> jax.Array:
    return nfw_convergence(x) if tau is None else truncated_convergence(x, tau)


def _like(values: np.ndarray, x: jax.Array) -> jax.Array:
    """Constants of a last axis, shaped and typed to meet ``x[..., None]``."""
    return jnp.asarray(values, x.dtype).reshape((1,) * jnp.ndim(x) + (-1,))
