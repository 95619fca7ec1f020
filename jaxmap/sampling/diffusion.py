r"""Reverse diffusion of a real, periodic field by its denoiser.

The noised field :math:`x_s = x + s n` obeys, as s falls,

.. math:: \frac{dx_s}{ds} = -\frac{D(x_s, s) - x_s}{s}, \qquad D(x_s, s) = E[x \mid x_s]

Were the field Gaussian and stationary with power V about a mean m, then :math:`D - x = s^2/(V +
s^2)\,(m - x)` and the solution is known. The integrator here reads m off the denoiser and takes
that solution for each step, so that it is exact for Gaussian fields and needs few evaluations
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""``(field, level) -> mean of the clean field``, shape ``(ny, nx)``."""


_EXPONENT = 7.0


def noise_levels(
    num_steps: int, largest: float = 2.0, least: float = 6e-3, dtype: Any = float
) -> jax.Array:
    r"""Levels from ``largest`` to ``least``, shape ``(num_steps,)``.

    .. math:: s_i = \Big(s_0^{1/7} + \tfrac{i}{n-1} (s_{n-1}^{1/7} - s_0^{1/7})\Big)^7

    Closer together where noise is large, for there peaks take shape: in equal logarithmic steps
    eleven take up to 0.7 % of the power, so at most 0.4 % (`experiments/integrator.py`).

    References:
        Karras et al. (2022), arXiv:2206.00364, Eq. 5.
    """
    roots = jnp.linspace(
        largest ** (1 / _EXPONENT), least ** (1 / _EXPONENT), num_steps, dtype=dtype
    )
    return roots**_EXPONENT


def integrate(
    denoise: Denoise,
    start: jax.Array,
    levels: jax.Array,
    variance: jax.Array,
) -> jax.Array:
    r"""Carry a field from the first level of noise to none.

    .. math::
        m_i = x_i + \frac{V + s_i^2}{s_i^2} (D_i - x_i), \qquad
        x_{i+1} = \bar m_i + \sqrt{\frac{V + s_{i+1}^2}{V + s_i^2}} (x_i - \bar m_i)

    with products in Fourier space, and :math:`\bar m_i` the mean over the step of the parabola in
    :math:`\ln s` through :math:`m_i, m_{i-1}, m_{i-2}`: for equal steps

    .. math:: \bar m_i = m_i + \tfrac12 \nabla m_i + \tfrac5{12} \nabla^2 m_i

    An exponential multistep integrator. Of first order in its first step, which has no predecessor,
    and its last, which leads to 0, and so of second order as a whole; the second difference makes
    its error several times smaller. How large it is: `experiments/integrator.py`.

    Args:
        denoise: the denoiser; evaluated once per level.
        start: a draw of the field at the first level, shape ``(ny, nx)``.
        levels: :math:`s_i`, descending, shape ``(n,)``.
        variance: V per Fourier mode, shape ``(ny, nx)``; 0 leads to the implicit probabilistic
            ("DDIM") step. Only the accuracy depends on it, not the target.

    Returns:
        The clean field, shape ``(ny, nx)``.
    """
    return integrate_watched(denoise, start, levels, variance)[0]


def integrate_watched(
    denoise: Denoise,
    start: jax.Array,
    levels: jax.Array,
    variance: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """`integrate`, and whether the field was finite after each level, shape ``(n,)``."""

    def advance(
        carry: tuple[jax.Array, jax.Array, jax.Array], step: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        field, before, slope_before = carry
        level, lower, rate, of_slope, of_bend = step
        toward = denoise(field, level) - field
        mean = field + _filtered(toward, 1 + variance / level**2)
        slope = rate * (mean - before)
        ahead = mean + of_slope * slope + of_bend * (slope - slope_before)
        shrink = jnp.sqrt((variance + lower**2) / (variance + level**2))
        cleaner = ahead + _filtered(field - ahead, shrink)
        return (cleaner, mean, slope), jnp.all(jnp.isfinite(cleaner))

    steps = (levels, jnp.append(levels[1:], 0), *_extrapolation(levels))
    (field, *_), finite = jax.lax.scan(advance, (start, start, jnp.zeros_like(start)), steps)
    return field, finite


def _extrapolation(levels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Factors that make of :math:`m_i - m_{i-1}` a slope in ln s, and of slope and change of slope
    the mean over the next step; 0 where there are too few predecessors, and in the last step."""
    step = jnp.log(levels[:-1] / levels[1:])
    rate = jnp.concatenate([jnp.zeros(1), 1 / step])
    of_slope = jnp.concatenate([jnp.zeros(1), step[1:] / 2, jnp.zeros(1)])[: levels.size]
    last, now = step[1:-1], step[2:]
    bend = (now**2 / 3 + now * last / 2) / (last + step[:-2])
    of_bend = jnp.concatenate([jnp.zeros(2), bend, jnp.zeros(1)])[: levels.size]
    return rate, of_slope, of_bend


def ancestral(
    key: jax.Array, denoise: Denoise, start: jax.Array, levels: jax.Array, variance: jax.Array
) -> jax.Array:
    r"""Carry a field from the first level of noise to none by a stochastic path.

    .. math:: x_b = r\, x_a + (1 - r)(D_a + C_a^{1/2} e) + b \sqrt{1 - r}\, e', \qquad
        r = b^2 / a^2, \quad C_a = \frac{V a^2}{V + a^2}

    from level a to b, with white e and e': the clean field is drawn with the covariance it would
    have were it Gaussian of power V, and noised again along the bridge. Exact for Gaussian fields.

    Args:
        key: PRNG key.
        denoise: the denoiser; evaluated once per level.
        start: a draw of the field at the first level, shape ``(ny, nx)``.
        levels: descending, shape ``(n,)``; the last step leads to 0.
        variance: V per Fourier mode, shape ``(ny, nx)``.

    Returns:
        The clean field, shape ``(ny, nx)``.
    """

    def advance(
        field: jax.Array, steps: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, None]:
        level, lower, step_key = steps
        key_clean, key_noise = jax.random.split(step_key)
        spread = jnp.sqrt(variance * level**2 / (variance + level**2))
        clean = denoise(field, level)
        clean = clean + _filtered(jax.random.normal(key_clean, field.shape, field.dtype), spread)
        kept = (lower / level) ** 2
        noise = lower * jnp.sqrt(1 - kept) * jax.random.normal(key_noise, field.shape, field.dtype)
        return kept * field + (1 - kept) * clean + noise, None

    lower = jnp.append(levels[1:], 0)
    field, _ = jax.lax.scan(advance, start, (levels, lower, jax.random.split(key, levels.size)))
    return field


def _filtered(field: jax.Array, window: jax.Array) -> jax.Array:
    return jnp.fft.ifft2(window * jnp.fft.fft2(field)).real
