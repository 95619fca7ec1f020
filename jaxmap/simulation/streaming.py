"""Simulated maps in any number, one after the other: map ``n`` depends on the recipe and n alone.

So a run that was interrupted, or that several machines share by ranges of n, gives the same maps,
bit for bit on one kind of machine (on GPUs with ``--deterministic``): every map is made by the same
compiled program, never in a batch whose size would change the order of sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.machine import check_memory
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.expected import light_cone_power
from jaxmap.simulation.fields import gaussian_field, lognormal_field
from jaxmap.simulation.geometry import middle
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.simulation.recipe import MapRecipe
from jaxmap.spectra import PowerSpectrum

_light_cone = jax.jit(halo_light_cone, static_argnums=2)
_gaussian = jax.jit(gaussian_field, static_argnums=2)


@partial(jax.jit, static_argnums=2)
def _lognormal(key: jax.Array, spectrum: PowerSpectrum, grid: Grid, shift: float) -> jax.Array:
    """Of zero mean, as the others are: shear tells nothing of a sky's mean."""
    field = lognormal_field(key, spectrum, grid, shift)
    return field - jnp.mean(field)


@dataclass(frozen=True)
class MapSimulator:
    """A recipe, prepared. Made by `build_simulator`.

    Args:
        recipe: what it simulates.
        draw: from a PRNG key to a periodic convergence map on ``recipe.sky``.
    """

    recipe: MapRecipe
    draw: Callable[[jax.Array], jax.Array]


def build_simulator(recipe: MapRecipe) -> MapSimulator:
    """Prepare a recipe: some seconds for a light cone, and some more at its first map (compiling).

    Raises:
        ValueError: if there is too little memory, or for sources too near or beyond the tables.
        ImportError: for a light cone of a cosmology without a table of haloes when colossus is not
            installed.
    """
    sky = Grid(recipe.sky.shape, recipe.sky.pixel_arcmin)
    if recipe.kind == "light-cone":
        cone = build_light_cone(sky, recipe.redshifts, recipe.cosmology, recipe.baryons)
        return MapSimulator(recipe, partial(_light_cone, cone=cone, grid=sky))
    needed = 0.3 * 2**30 + 12 * jnp.zeros(()).dtype.itemsize * sky.num_pixels
    check_memory(needed, f"a {recipe.kind} sky of {sky.shape} pixels", "simulate smaller fields")
    spectrum = light_cone_power(
        sky.pixel_arcmin, recipe.redshifts, recipe.cosmology, recipe.baryons
    )
    if recipe.kind == "gaussian":
        return MapSimulator(recipe, partial(_gaussian, spectrum=spectrum, grid=sky))
    shift = recipe.lognormal_shift
    return MapSimulator(recipe, partial(_lognormal, spectrum=spectrum, grid=sky, shift=shift))


def stream_skies(
    simulator: MapSimulator, start: int = 0, stop: int | None = None
) -> Iterator[jax.Array]:
    """Periodic skies with the maps ``start`` to ``stop`` (excluded; never, by default) in the
    middle, for users who also need the mass around a map.

    Yields:
        Convergence of zero mean, shape ``recipe.sky.shape``. Neighbours share a sky, turned.

    Raises:
        FloatingPointError: if a sky is not finite, which `build_light_cone` makes as unlikely as
            a fluctuation of 8 standard deviations.
    """
    recipe = simulator.recipe
    key = jax.random.key(recipe.seed)
    (rows, columns), (ny, nx) = recipe.sky.shape, recipe.grid.shape
    numbers = itertools.count(start) if stop is None else range(start, stop)
    for sky_number, tiles in itertools.groupby(numbers, lambda n: n // recipe.maps_per_sky):
        sky = simulator.draw(jax.random.fold_in(key, sky_number))
        if not bool(jnp.all(jnp.isfinite(sky))):
            raise FloatingPointError(
                f"sky {sky_number} of seed {recipe.seed} is not finite; leave its maps out, or "
                "take another seed"
            )
        for number in tiles:
            row, column = divmod(number % recipe.maps_per_sky, recipe.tiles[1])
            shift = ((rows - ny) // 2 - row * ny, (columns - nx) // 2 - column * nx)
            yield jnp.roll(sky, shift, axis=(0, 1))


def stream_maps(
    simulator: MapSimulator, start: int = 0, stop: int | None = None
) -> Iterator[jax.Array]:
    """Maps ``start`` to ``stop`` (excluded; never, by default), shape ``recipe.grid.shape``.

    The mean of a map is not zero: that of its sky is.
    """
    recipe = simulator.recipe
    for sky in stream_skies(simulator, start, stop):
        yield middle(sky, recipe.sky, recipe.grid)
