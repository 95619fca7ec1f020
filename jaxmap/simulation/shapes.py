"""Noise of galaxy shapes: intrinsic ellipticities and errors of their measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

LARGEST_ELLIPTICITY = 0.95
"""Of an unlensed galaxy: short of 1, where shapes no longer respond to shear."""

LARGEST_SHAPE_NOISE = 0.45
"""Per component; near 0.475 the ellipticities would fill their disc evenly."""


@partial(jax.jit, static_argnames=("num_galaxies", "shape_noise"))
def draw_ellipticities(key: jax.Array, num_galaxies: int, shape_noise: float) -> jax.Array:
    r"""Intrinsic ellipticities: Gaussian, cut at the largest one, of exactly the given spread.

    .. math:: p(e_s) \propto e^{-|e_s|^2 / 2 s^2} \; (|e_s| < 0.95), \qquad
              \langle e_{s,a}^2 \rangle = \sigma_e^2

    Args:
        key: PRNG key.
        num_galaxies: how many.
        shape_noise: :math:`\sigma_e`, per component, below `LARGEST_SHAPE_NOISE`.

    Returns:
        Complex, shape ``(num_galaxies,)``.
    """
    square, inside = _gaussian_before_cut(shape_noise)
    uniform = jax.random.uniform(key, (2, num_galaxies))
    radius = jnp.sqrt(-2 * square * jnp.log1p(-inside * uniform[0]))
    angle = 2 * math.pi * uniform[1]
    return jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))


def _gaussian_before_cut(shape_noise: float) -> tuple[float, float]:
    """Variance s^2 whose cut Gaussian has the given spread, and the fraction inside the cut."""
    limit = LARGEST_ELLIPTICITY**2 / 2
    low = square = shape_noise**2
    if square == 0:
        return 0.0, 1.0
    high = 100 * low
    while high - low > 1e-12 * high:
        square = (low + high) / 2
        inside = -math.expm1(-limit / square)
        # Mean square of a component of the Gaussian cut at |e|^2 = 2 limit.
        if square - limit * (1 - inside) / inside < shape_noise**2:
            low = square
        else:
            high = square
    return square, -math.expm1(-limit / square)


@jax.tree_util.register_static
@dataclass(frozen=True)
class MeasurementError:
    r"""Errors of measured ellipticities, larger for fainter galaxies.

    .. math:: \sigma_m = \sigma_\mathrm{faint}\, 10^{0.4 (M - M_\mathrm{faint})}

    as for noise of the sky, with magnitudes M of triangular distribution.

    Args:
        faintest: :math:`\sigma_\mathrm{faint}`, error per component of the faintest galaxies.
        magnitudes: of the brightest, the most frequent and the faintest galaxies.

    Raises:
        ValueError: for an error that is not positive, or magnitudes that do not ascend.
    """

    faintest: float
    magnitudes: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.faintest) and self.faintest > 0):
            raise ValueError(
                f"the measurement error of the faintest galaxies is {self.faintest}; expected a "
                "number above 0 (for none, leave it out of the survey)"
            )
        brightest, peak, faint = self.magnitudes
        if not brightest < peak < faint:
            raise ValueError(
                f"the magnitudes are {self.magnitudes}; expected those of the brightest, the most "
                "frequent and the faintest galaxies, ascending"
            )

    @partial(jax.jit, static_argnames="num_galaxies")
    def draw(self, key: jax.Array, num_galaxies: int) -> jax.Array:
        """Standard deviation per component of every galaxy's error, shape ``(n,)``."""
        return self.std_at(jax.random.uniform(key, (num_galaxies,)))

    def std_at(self, quantile: jax.Array) -> jax.Array:
        """Standard deviation at quantiles of the magnitudes, 0 the brightest; same shape."""
        low, peak, high = self.magnitudes
        below = low + jnp.sqrt((high - low) * (peak - low) * quantile)
        above = high - jnp.sqrt((high - low) * (high - peak) * (1 - quantile))
        magnitude = jnp.where(quantile < (peak - low) / (high - low), below, above)
        return self.faintest * 10 ** (0.4 * (magnitude - high))
