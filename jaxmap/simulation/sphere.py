r"""A Gaussian convergence and its shear on the whole curved sky, ring by ring.

.. math::
    \kappa = \sum_{lm} \kappa_{lm} Y_{lm}, \quad \psi_{lm} = -\frac{2\,\kappa_{lm}}{l(l+1)}, \quad
    \gamma = \tfrac12(\psi_{;xx} - \psi_{;yy}) + i\,\psi_{;xy}

with x = west and y = north at every place. The associated Legendre functions come from their
recurrence in l, for all m of some rings at once, in float64 and with an exponent of their own, so
that none is lost to underflow near the poles. The random :math:`\kappa_{lm}` are drawn l by l from
a key, so that they are the same for every ring and none is kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_SPAN = 600  # binary orders of magnitude between two exponents


class Rings(NamedTuple):
    """A field on rings of constant declination, shape ``(num_rings, num_places)`` each.

    Attributes:
        convergence: real.
        shear: complex, in the frame x = west, y = north of every place.
    """

    convergence: np.ndarray
    shear: np.ndarray


def gaussian_rings(
    key: jax.Array, c_ell: np.ndarray, dec_deg: np.ndarray, num_places: int
) -> Rings:
    """A full-sky Gaussian field on some of its rings.

    Args:
        key: PRNG key of the sky; the same for all its rings.
        c_ell: power for l = 0 to lmax, shape ``(lmax + 1,)``; monopole and dipole are left out.
        dec_deg: declinations of the rings, shape ``(num_rings,)``, short of the poles.
        num_places: on a ring, evenly spaced from RA = 0 eastward; more than 2 lmax.

    Raises:
        ValueError: for too few places, or a ring at a pole.
    """
    lmax = len(c_ell) - 1
    if num_places <= 2 * lmax:
        raise ValueError(f"{num_places} places cannot hold l up to {lmax}; give {2 * lmax + 2}")
    if np.abs(dec_deg).max() >= 90:
        raise ValueError("a ring lies at a pole; give declinations between -90 and 90")
    theta = np.radians(90 - np.asarray(dec_deg, float))
    with jax.enable_x64(True):
        data = np.asarray(jax.random.key_data(key))
        sums = _sums(jnp.asarray(data), jnp.asarray(c_ell, float), jnp.asarray(theta))
        kappa, slope, level = (np.asarray(part).T for part in sums)  # (ring, m)
    m = np.arange(lmax + 1)[None]
    sine, cosine = np.sin(theta)[:, None], np.cos(theta)[:, None]
    east = cosine / sine * slope - (m / sine) ** 2 * level  # of psi, second derivatives
    south = 2 * kappa - east
    mixed = 1j * m * (slope / sine - cosine / sine**2 * level)
    fields = [_on_ring(modes, num_places) for modes in (kappa, 0.5 * (east - south), mixed)]
    return Rings(fields[0], fields[1] + 1j * fields[2])


def _on_ring(modes: np.ndarray, num_places: int) -> np.ndarray:
    r""":math:`\mathrm{Re}[F_0 + 2\sum_{m>0} F_m e^{i m \alpha}]` at evenly spaced places."""
    return np.fft.irfft(modes, num_places, axis=1) * num_places


@jax.jit
def _sums(
    key_data: jax.Array, c_ell: jax.Array, theta: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r""":math:`\sum_l \kappa_{lm}\lambda_{lm}`, :math:`\sum_l \psi_{lm}\partial_\theta\lambda_{lm}`
    and :math:`\sum_l \psi_{lm}\lambda_{lm}`, complex, shape ``(lmax + 1, num_rings)`` each."""
    key = jax.random.wrap_key_data(key_data)
    lmax = c_ell.shape[0] - 1
    m = jnp.arange(lmax + 1, dtype=theta.dtype)[:, None]
    sine, cosine = jnp.sin(theta)[None], jnp.cos(theta)[None]
    seed, exponent = _seeds(lmax, sine)
    zero = jnp.zeros(seed.shape)

    def step(state: tuple, degree: jax.Array) -> tuple[tuple, None]:
        current, before, exponent, kappa, slope, level = state
        l = degree.astype(theta.dtype)  # noqa: E741
        inside = jnp.maximum(l**2 - m**2, 1)
        rise = jnp.sqrt((4 * l**2 - 1) / inside)
        keep = jnp.sqrt(jnp.maximum((l - 1) ** 2 - m**2, 0) / jnp.maximum(4 * (l - 1) ** 2 - 1, 1))
        following = rise * (cosine * current - keep * before)
        started = m < l
        value = jnp.where(m == l, seed, jnp.where(started, following, 0))
        lower = jnp.where(started, current, 0)
        seen = exponent == 0
        ratio = (2 * l + 1) / jnp.maximum(2 * l - 1, 1)
        derivative = l * cosine * value - jnp.sqrt(inside * ratio) * lower
        derivative = jnp.where(m == l, l * cosine * value, derivative) / sine
        draw = _coefficients(jax.random.fold_in(key, degree), lmax, jnp.sqrt(c_ell[degree]))
        one = jnp.where((m <= l) & (l >= 2), draw[:, None], 0)
        potential = -2 * one / jnp.maximum(l * (l + 1), 1)
        kappa = kappa + jnp.where(seen, value, 0) * one
        slope = slope + jnp.where(seen, derivative, 0) * potential
        level = level + jnp.where(seen, value, 0) * potential
        large = (jnp.abs(value) > 2.0 ** (_SPAN // 2)) & (exponent < 0)
        shrink = jnp.where(large, 2.0**-_SPAN, 1.0)
        return (
            value * shrink,
            lower * shrink,
            exponent + large.astype(exponent.dtype),
            kappa,
            slope,
            level,
        ), None

    complex_zero = zero.astype(complex)
    start = (zero, zero, exponent, complex_zero, complex_zero, complex_zero)
    end, _ = jax.lax.scan(step, start, jnp.arange(lmax + 1))
    return end[3], end[4], end[5]


def _seeds(lmax: int, sine: jax.Array) -> tuple[jax.Array, jax.Array]:
    r""":math:`\lambda_{mm}` as :math:`p\, 2^{600 e}` with :math:`|\log_2 p| \le 300`."""
    m = np.arange(lmax + 1)
    odd_over_even = np.concatenate(
        [[0.0], np.cumsum(np.log2((2 * m[1:] - 1) / (2.0 * np.maximum(m[1:], 1))))]
    )
    constant = 0.5 * (np.log2((2 * m + 1) / (4 * math.pi)) + odd_over_even)
    size = constant[:, None] + m[:, None] * jnp.log2(sine)
    exponent = jnp.round(size / _SPAN)
    sign = np.where(m % 2, -1.0, 1.0)[:, None]
    return sign * 2.0 ** (size - _SPAN * exponent), exponent.astype(jnp.int32)


def _coefficients(key: jax.Array, lmax: int, amplitude: jax.Array) -> jax.Array:
    r""":math:`\kappa_{lm}` for all m of one l: complex of variance C_l, real for m = 0."""
    real, imaginary = jax.random.normal(key, (2, lmax + 1), jnp.float64) * math.sqrt(0.5)
    first = jnp.arange(lmax + 1) == 0
    real = jnp.where(first, math.sqrt(2) * real, real)
    return amplitude * jax.lax.complex(real, jnp.where(first, 0.0, imaginary))
