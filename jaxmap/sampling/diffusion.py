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


def noise_levels(
    num_steps: int, largest: float = 2.0, least: float = 5e-3, dtype: Any = float
) -> jax.Array:
    """Levels from ``largest`` to ``least``, in equal logarithmic steps, shape ``(num_steps,)``."""
    return jnp.geomspace(largest, least, num_steps, dtype=dtype)


def integrate(
    denoise: Denoise, start: jax.Array, levels: jax.Array, variance: jax.Array
) -> jax.Array:
    r"""Carry a field from the first level of noise to none.

    .. math::
        m_i = x_i + \frac{V + s_i^2}{s_i^2} (D_i - x_i), \qquad
        \bar m_i = m_i + \tfrac12 \frac{h_i}{h_{i-1}} (m_i - m_{i-1}), \qquad
        x_{i+1} = \bar m_i + \sqrt{\frac{V + s_{i+1}^2}{V + s_i^2}} (x_i - \bar m_i)

    with :math:`h_i = \ln s_i / s_{i+1}` and products in Fourier space: an exponential integrator of
    second order, first in its first step and its last, which leads to 0.

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
    denoise: Denoise, start: jax.Array, levels: jax.Array, variance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`integrate`, and whether the field was finite after each level, shape ``(n,)``."""

    def advance(
        carry: tuple[jax.Array, jax.Array], steps: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        field, before = carry
        level, lower, ratio = steps
        toward = denoise(field, level) - field
        mean = field + _filtered(toward, 1 + variance / level**2)
        ahead = mean + 0.5 * ratio * (mean - before)
        shrink = jnp.sqrt((variance + lower**2) / (variance + level**2))
        cleaner = ahead + _filtered(field - ahead, shrink)
        return (cleaner, mean), jnp.all(jnp.isfinite(cleaner))

    step = jnp.log(levels[:-1] / levels[1:])
    # First order where the first step has no predecessor, and the last no finite length.
    ratio = jnp.concatenate([jnp.zeros(1), step[1:] / step[:-1], jnp.zeros(1)])
    lower = jnp.append(levels[1:], 0)
    (field, _), finite = jax.lax.scan(advance, (start, start), (levels, lower, ratio))
    return field, finite


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
