"""What null tests compare data with: simulated skies of the survey, on a grid that is soon done."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.estimators import pad_shear
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight, noise_std
from jaxmap.operators import shear_from_convergence, spin2_phase
from jaxmap.prior import GaussianPrior

LARGEST_SIDE = 200
"""Pixels of the grid that skies are simulated on; larger maps are averaged to it first."""

FEWEST_SKIES = 19

TOLERANCE = 1e-3
"""Of the Wiener filters here, for data and simulations alike."""


def on_small_grid(shear: ShearMap, margin: int | None) -> ShearMap:
    """The data in pixels as large as `LARGEST_SIDE` asks for, with their margin.

    Args:
        shear: the observed shear.
        margin: masked pixels around the field, of its own size; None for the default, 0 for a
            periodic field, which is averaged only by as much as divides its sides.
    """
    data = averaged(shear, LARGEST_SIDE, periodic=margin == 0)
    if data is not shear and margin:
        margin = -(-margin * data.grid.shape[0] // shear.grid.shape[0])
    return pad_shear(data, margin)[0]


def sky_chunk() -> int:
    """Skies that are simulated at once."""
    return 1 if jax.default_backend() == "cpu" else 10


@partial(jax.jit, static_argnums=2)
def sky_keys(key: jax.Array, start: int, chunk: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Three keys of each of some skies; those of a sky depend on its number alone."""

    def three(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        first, second, third = jax.random.split(jax.random.fold_in(key, number), 3)
        return first, second, third

    return jax.vmap(three)(start + jnp.arange(chunk))


@jax.jit
def prior_skies(keys: jax.Array, prior: GaussianPrior) -> jax.Array:
    """Draws of the prior's convergence, ``(n, ny, nx)``."""
    return jax.vmap(prior.sample)(keys)


@jax.jit
def observed_skies(keys: jax.Array, skies: jax.Array, data: ShearMap) -> jax.Array:
    """Shear of skies with the mask and noise of the data, ``(n, ny, nx)``."""
    std = noise_std(data.weight)

    def one(key: jax.Array, sky: jax.Array) -> jax.Array:
        noise = std * jax.random.normal(key, std.shape, std.dtype)
        shear = shear_from_convergence(sky, data.grid) + jax.lax.complex(noise[0], noise[1])
        return jnp.where(data.mask, shear, 0)

    return jax.vmap(one)(keys, skies)


@jax.jit
def wiener_maps(shears: jax.Array, data: ShearMap, prior: GaussianPrior) -> jax.Array:
    """Wiener maps of shears with the noise of the data, ``(n, ny, nx)``."""

    def one(shear: jax.Array) -> jax.Array:
        observed = replace(data, shear=shear)
        return solve_conjugate_gradient(observed, prior, spin2_phase, TOLERANCE)[0]

    return jax.vmap(one)(shears)


def averaged(shear: ShearMap, largest: int, periodic: bool = False) -> ShearMap:
    """Shear in larger pixels, so that no side has more than ``largest``; the map itself if it has
    not. Pixels beyond the last whole one are filled up with masked ones; a periodic map would not
    be periodic then, and is made as small as whole pixels make it."""
    factor = -(-max(shear.grid.shape) // largest)
    if periodic:
        factor = _dividing(math.gcd(*shear.grid.shape), factor)
    if factor == 1:
        return shear
    rows, columns = (-(-n // factor) for n in shear.grid.shape)
    ny, nx = shear.grid.shape
    around = ((0, rows * factor - ny), (0, columns * factor - nx))

    def sums(field: jax.Array) -> jax.Array:
        filled = jnp.pad(field, around)
        return filled.reshape(rows, factor, columns, factor).sum(axis=(1, 3))

    weight = jnp.stack([sums(plane) for plane in shear.weight])
    weighted = sums(apply_weight(shear.weight, shear.shear))
    safe = jnp.where(weight > 0, weight, 1)
    mean = jax.lax.complex(weighted.real / safe[0], weighted.imag / safe[1])
    return ShearMap(mean, weight, Grid((rows, columns), shear.grid.pixel_arcmin * factor))


def _dividing(side: int, factor: int) -> int:
    """The divisor of a side next above a factor, up to twice as large, or else next below it."""
    divisors = [each for each in range(1, 2 * factor + 1) if side % each == 0]
    return min((each for each in divisors if each >= factor), default=divisors[-1])


def check_realisations(num: int) -> None:
    """Refuse a number of skies that cannot tell anything."""
    if num < FEWEST_SKIES:
        raise ValueError(
            f"the number of skies for null tests is {num}; expected at least {FEWEST_SKIES}, whose "
            "least p-value is 0.05 (--null-tests; 0 for no null tests)"
        )
