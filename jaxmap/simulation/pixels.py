"""Mock shear maps made in pixels, without galaxies: the fast path for training networks.

Pure functions of static shape, for ``jax.jit`` and ``jax.vmap`` over keys and maps.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.likelihood import draw_noise
from jaxmap.simulation.counting import draw_poisson
from jaxmap.simulation.geometry import middle
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.response import ShearResponse, lensing_shear, mean_ellipticity


def observe_pixels(
    key: jax.Array,
    convergence: jax.Array,
    grid: Grid,
    data: ShearMap,
    response: ShearResponse = ShearResponse(),  # noqa: B008 (immutable)
) -> ShearMap:
    r"""The shear map of another sky with the mask and the noise of ``data``.

    .. math:: d_a = (1 + m_a)\, \hat g_a + c_a + w_a^{-1/2} n_a, \qquad n_a \sim N(0, 1)

    Against `observe_map`, the noise is Gaussian and does not depend on the shear, and numbers of
    galaxies do not change from draw to draw: those of ``data`` stay.

    Args:
        key: PRNG key.
        convergence: :math:`\kappa` on ``grid``, shape ``(ny, nx)``, periodic.
        grid: pixels of the map.
        data: real data, or a mock of `observe_map` or `draw_depth`, of which all but the shear is
            kept. Its grid is the middle part of ``grid``, or all of it.
        response: linear or reduced shear, multiplicative and additive bias.

    Raises:
        ValueError: if the pixels of ``data`` are not among those of ``grid``.
    """
    expected = mean_ellipticity(lensing_shear(convergence, grid, response), response)
    signal = middle(expected, grid, data.grid)
    shear = jnp.where(data.mask, signal + draw_noise(key, data.weight), 0)
    return replace(data, shear=shear)


def draw_depth(key: jax.Array, survey: MockSurvey, field: Grid) -> ShearMap:
    """Mask, galaxy counts and noise of a survey in pixels, without shear, for `observe_pixels`.

    Counts are Poisson; a pixel is masked where its centre is. Galaxies with measurement errors
    count with their mean inverse variance.

    Raises:
        ValueError: if the survey's mask has another shape than the field, or it has no noise.
    """
    survey.check_field(field)
    if survey.shape_noise == 0 and survey.measurement is None:
        raise ValueError("the survey has no shape noise; expected shape_noise above 0")
    key_counts, key_stars = jax.random.split(key)
    y, x = (field.pixel_arcmin * (jnp.arange(n, dtype=float) - (n - 1) / 2) for n in field.shape)
    x, y = jnp.broadcast_arrays(x[None, :], y[:, None])
    seen = survey.holes.outside(key_stars, x, y, field)
    mean = survey.density_arcmin2 * field.pixel_arcmin**2
    counts = jnp.where(seen, draw_poisson(key_counts, mean, field.shape), 0).astype(x.dtype)
    weight = jnp.broadcast_to(counts * _mean_inverse_variance(survey), (2, *field.shape))
    return ShearMap(jnp.zeros(field.shape, complex), weight, field, counts)


def _mean_inverse_variance(survey: MockSurvey) -> jax.Array:
    """Of a component of a galaxy's ellipticity, shape ``()``."""
    variance = jnp.full(1, survey.shape_noise**2)
    if survey.measurement is not None:
        variance = variance + survey.measurement.std_at((jnp.arange(1000) + 0.5) / 1000) ** 2
    return jnp.mean(1 / variance)
