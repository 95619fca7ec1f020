r"""Random noise of all the kinds a denoiser meets: priors, surveys, and states of a sampler.

Every draw is a precision :math:`\Lambda = w + 1/s^2`, per pixel and component, with the weight w of
a survey (depth, counts of galaxies, footprint, stars) and a level s of white noise. A survey alone
has :math:`s = \infty`, the prior :math:`w = 0`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid

_NUM_STARS = 48


class NoiseRanges(NamedTuple):
    """What is drawn. Ranges are (least, most), logarithmically uniform.

    Attributes:
        galaxies: per pixel.
        shape_noise: standard deviation of an ellipticity's component.
        level: s of the states of a sampler and of the prior, in units of convergence.
        star_pixels: radius of a hole around a star.
        shares: how often a field is prior only, state of a sampler, survey only.
    """

    galaxies: tuple[float, float] = (0.7, 40.0)
    shape_noise: tuple[float, float] = (0.2, 0.4)
    level: tuple[float, float] = (0.003, 3.0)
    star_pixels: tuple[float, float] = (2.0, 14.0)
    shares: tuple[float, float, float] = (0.3, 0.3, 0.4)


KINDS = ("prior", "state", "survey")
"""Of noise, in the order of `NoiseRanges.shares`."""


def draw_precision(
    key: jax.Array, grid: Grid, ranges: NoiseRanges, window: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Draw :math:`\Lambda`, shape ``(2, ny, nx)``, with its kind (a number, `KINDS`) and s.

    Args:
        key: PRNG key.
        grid: pixel grid.
        ranges: what to draw from.
        window: 1 in the field, 0 in the margin around it, shape ``(ny, nx)``; the noise is then
            that of a survey, for white noise would need a map in the margin too.
    """
    key_kind, key_level, key_survey = jax.random.split(key, 3)
    shares = jnp.asarray(ranges.shares)
    kind = jax.random.choice(key_kind, 3, p=shares / shares.sum())
    if window is not None:
        kind = jnp.asarray(2)
    level = _log_uniform(key_level, ranges.level)
    survey = draw_survey_weight(key_survey, grid, ranges)
    survey = jnp.where(kind == 0, 0, survey)
    white = jnp.where(kind == 2, 0, 1 / level**2)
    precision = survey + white
    if window is not None:
        precision = precision * window
    return jnp.broadcast_to(precision, (2, *grid.shape)), kind, level


def draw_survey_weight(key: jax.Array, grid: Grid, ranges: NoiseRanges) -> jax.Array:
    r"""Inverse noise variance :math:`N_p / \sigma_e^2` of a random survey, ``(ny, nx)``.

    The depth is even, or varies across the field; counts are Poisson, or even (as in a forecast);
    the footprint is all of the field, or cut by a strip at a random angle; half of the surveys have
    stars.
    """
    keys = jax.random.split(key, 6)
    depth = _log_uniform(keys[0], ranges.galaxies) * _varying(keys[1], grid)
    counts = jnp.where(
        jax.random.bernoulli(keys[2], 0.7),
        jax.random.poisson(keys[3], depth).astype(depth.dtype),
        depth,
    )
    shape_noise = _log_uniform(jax.random.fold_in(keys[3], 1), ranges.shape_noise)
    observed = _footprint(keys[4], grid) & ~_stars(keys[5], grid, ranges.star_pixels)
    return jnp.where(observed, counts / shape_noise**2, 0)


def _log_uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    low, high = jnp.log(jnp.asarray(bounds))
    return jnp.exp(jax.random.uniform(key, minval=low, maxval=high))


def _positions(grid: Grid) -> tuple[jax.Array, jax.Array]:
    """Row and column in units of the sides, -1/2 to 1/2, shapes ``(ny, 1)`` and ``(1, nx)``."""
    ny, nx = grid.shape
    return (jnp.arange(ny)[:, None] + 0.5) / ny - 0.5, (jnp.arange(nx)[None, :] + 0.5) / nx - 0.5


def _varying(key: jax.Array, grid: Grid) -> jax.Array:
    """A smooth factor about one; flat for half of the draws."""
    key_flat, key_phase, key_size = jax.random.split(key, 3)
    y, x = _positions(grid)
    phase = 2 * jnp.pi * jax.random.uniform(key_phase, (2,))
    wave = jnp.cos(2 * jnp.pi * y + phase[0]) + jnp.cos(2 * jnp.pi * x + phase[1])
    size = 0.4 * jax.random.uniform(key_size) * jax.random.bernoulli(key_flat)
    return jnp.exp(size * wave)


def _footprint(key: jax.Array, grid: Grid) -> jax.Array:
    """The whole field for half of the draws, else a strip of a third to all of its width."""
    key_whole, key_angle, key_width, key_centre = jax.random.split(key, 4)
    y, x = _positions(grid)
    angle = jnp.pi * jax.random.uniform(key_angle)
    across = jnp.cos(angle) * y + jnp.sin(angle) * x
    half = jax.random.uniform(key_width, minval=0.17, maxval=0.5)
    centre = jax.random.uniform(key_centre, minval=-0.25, maxval=0.25)
    return (jnp.abs(across - centre) < half) | jax.random.bernoulli(key_whole)


def _stars(key: jax.Array, grid: Grid, radius: tuple[float, float]) -> jax.Array:
    """Where circular holes are, on a periodic grid; none for half of the draws."""
    key_any, key_number, key_place, key_radius = jax.random.split(key, 4)
    y, x = _positions(grid)
    place = jax.random.uniform(key_place, (_NUM_STARS, 2)) - 0.5
    number = jax.random.uniform(key_number) * _NUM_STARS * jax.random.bernoulli(key_any)
    radii = jax.vmap(lambda k: _log_uniform(k, radius))(jax.random.split(key_radius, _NUM_STARS))
    radii = jnp.where(jnp.arange(_NUM_STARS) < number, radii, 0)
    ny, nx = grid.shape

    def add(number: int, holes: jax.Array) -> jax.Array:
        dy, dx = y - place[number, 0], x - place[number, 1]
        dy, dx = ny * (dy - jnp.round(dy)), nx * (dx - jnp.round(dx))
        return holes | (dy**2 + dx**2 < radii[number] ** 2)

    return jax.lax.fori_loop(0, _NUM_STARS, add, jnp.zeros(grid.shape, bool))
