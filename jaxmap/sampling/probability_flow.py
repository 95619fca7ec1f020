r"""The probability-flow equation: from a sample of a smoothed density to one of the density itself.

.. math:: \frac{dx}{dt} = -\tfrac12 s(x, \sqrt t), \qquad t = \sigma^2

carries samples of the density convolved with :math:`N(0, \sigma^2)` to samples of the density. Both
solvers here integrate in :math:`\sigma`, in which :math:`dx/d\sigma = -\sigma s(x, \sigma)` stays
smooth for modes far narrower than :math:`\sigma` too, from the chain's own level down to a small
fraction of it, and end with the mean that the score tells of what is left,
:math:`x + \sigma^2 s(x, \sigma)`; the score is never asked for at zero.

One chain at a time; ``jax.vmap`` makes many.

References:
    Remy et al., Eq. 22 and B.6 (with a stray square root there); Song et al. (2021),
    arXiv:2011.13456, Eq. 13.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint

from jaxmap.sampling.diffusion import integrate_watched, noise_levels
from jaxmap.sampling.path_integral import Score

NUM_STEPS = 8
LAST_LEVEL = 1e-3
"""Level of the last mean, as a fraction of the first."""


def flow_evaluations(num_steps: int = NUM_STEPS, by_modes: bool = False) -> int:
    """Evaluations of the score that `flow_to_zero`, or `flow_of_modes`, takes."""
    return num_steps if by_modes else 4 * num_steps + 1


def flow_to_zero(
    position: jax.Array,
    sigma: jax.Array,
    score: Score,
    num_steps: int = NUM_STEPS,
    last_level: float = LAST_LEVEL,
) -> jax.Array:
    r"""Carry a sample to zero noise in a fixed number of steps.

    Classical Runge-Kutta of fourth order in :math:`\sigma`, with levels
    spaced evenly in :math:`\sigma^{1/3}`. Eight steps give the variance of a Gaussian mode to
    0.2 % where it is above :math:`\sigma^2 / 100`, and every standard deviation to
    :math:`3 \cdot 10^{-4} \sigma`.

    Args:
        position: a sample at the level ``sigma``, real, any shape.
        sigma: its level, a scalar above 0.
        score: ``score(x, sigma)``.
        num_steps: of four evaluations each; one more follows.
        last_level: level of the last mean, as a fraction of ``sigma``.

    Returns:
        A sample of the density without noise.
    """
    return flow_to_zero_watched(position, sigma, score, num_steps, last_level)[0]


def flow_to_zero_watched(
    position: jax.Array,
    sigma: jax.Array,
    score: Score,
    num_steps: int = NUM_STEPS,
    last_level: float = LAST_LEVEL,
) -> tuple[jax.Array, jax.Array]:
    """`flow_to_zero`, and whether the sample was finite after each step, ``(num_steps + 1,)``."""
    levels = flow_levels(sigma, num_steps, last_level)

    def slope(x: jax.Array, level: jax.Array) -> jax.Array:
        return -level * score(x, level)

    def advance(x: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        level, change = ends[0], ends[1] - ends[0]
        first = slope(x, level)
        second = slope(x + 0.5 * change * first, level + 0.5 * change)
        third = slope(x + 0.5 * change * second, level + 0.5 * change)
        fourth = slope(x + change * third, ends[1])
        after = x + change / 6 * (first + 2 * second + 2 * third + fourth)
        return after, jnp.all(jnp.isfinite(after))

    x, finite = jax.lax.scan(advance, position, (levels[:-1], levels[1:]))
    last = _mean_of_rest(x, levels[-1], score)
    return last, jnp.append(finite, jnp.all(jnp.isfinite(last)))


def flow_of_modes(
    position: jax.Array,
    sigma: jax.Array,
    score: Score,
    variance: jax.Array,
    num_steps: int = NUM_STEPS,
    last_level: float = LAST_LEVEL,
) -> tuple[jax.Array, jax.Array]:
    r"""Carry a periodic field to zero noise in steps that are exact for a Gaussian one.

    The exponential integrator of `jaxmap.sampling.diffusion`. `flow_to_zero` ends with a mean,
    which of a mode of variance V keeps :math:`V / (V + \sigma^2)`: too little where V is not far
    above the last level that a score was made for. The last step here keeps all of it.

    Args:
        position: a field at the level ``sigma``, shape ``(ny, nx)``.
        sigma: its level, a scalar above 0.
        score: ``score(x, sigma)``.
        variance: V per Fourier mode, about that of the density, shape ``(ny, nx)``.
        num_steps: levels, of one evaluation each.
        last_level: the last one, as a fraction of ``sigma``.

    Returns:
        A sample of the density without noise, and whether it was finite after each step,
        ``(num_steps,)``.
    """

    def denoise(field: jax.Array, level: jax.Array) -> jax.Array:
        return field + level**2 * score(field, level)

    levels = flow_levels(sigma, num_steps, last_level, by_modes=True)
    return integrate_watched(denoise, position, levels, variance)


def flow_levels(
    sigma: jax.Array,
    num_steps: int = NUM_STEPS,
    last_level: float = LAST_LEVEL,
    by_modes: bool = False,
) -> jax.Array:
    """Levels between the steps of `flow_to_zero`, from ``sigma`` down, ``(num_steps + 1,)``; or
    those of `flow_of_modes`, ``(num_steps,)``."""
    if by_modes:
        return sigma * noise_levels(num_steps, 1.0, last_level, sigma.dtype)
    fractions = np.linspace(1, last_level ** (1 / 3), num_steps + 1) ** 3
    return sigma * jnp.asarray(fractions, sigma.dtype)


def flow_to_zero_adaptive(
    position: jax.Array,
    sigma: jax.Array,
    score: Score,
    tolerance: float = 1e-4,
    last_level: float = LAST_LEVEL,
) -> jax.Array:
    """Carry a sample to zero noise with steps that the solver chooses.

    Dormand-Prince of fifth order (`jax.experimental.ode.odeint`); about 90 evaluations at the
    default tolerance, where `flow_to_zero` takes 33. A check of the latter for a new score.

    Args:
        position: a sample at the level ``sigma``, real, any shape.
        sigma: its level, a scalar above 0.
        score: ``score(x, sigma)``.
        tolerance: error of a step, relative to the position and to ``sigma``.
        last_level: level of the last mean, as a fraction of ``sigma``.

    Returns:
        A sample of the density without noise.
    """

    # The solver wants time to grow, and errors in one unit: sigma. Levels that fall as the cube of
    # time are passed slowly near zero, and narrow modes are not stepped over.
    def slope(x: jax.Array, time: jax.Array) -> jax.Array:
        level = sigma * (1 - time) ** 3
        return 3 * (1 - time) ** 2 * level * score(sigma * x, level)

    times = jnp.asarray([0, 1 - last_level ** (1 / 3)], position.dtype)
    path = odeint(slope, position / sigma, times, rtol=tolerance, atol=tolerance)
    return _mean_of_rest(sigma * path[-1], sigma * last_level, score)


def _mean_of_rest(x: jax.Array, sigma: jax.Array, score: Score) -> jax.Array:
    """Mean of what x shows through the noise that is left."""
    return x + sigma**2 * score(x, sigma)
