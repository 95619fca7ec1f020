"""Galaxies inside haloes: triaxial, with anisotropic velocities, substructure and mergers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxmap.dynamics.halo_profile import (
    DispersionTable,
    circular_velocity,
    dispersion_table,
    draw_radii,
    radius_200c,
)
from jaxmap.dynamics.mock_recipe import HaloTable, MockRecipe


class Galaxies(NamedTuple):
    """Galaxies around the centres of their haloes; flat arrays.

    Attributes:
        halo: number of the halo, ascending, shape ``(n,)``.
        position: comoving Mpc/h, shape ``(n, 3)``.
        velocity: peculiar, km/s, shape ``(n, 3)``.
    """

    halo: np.ndarray
    position: np.ndarray
    velocity: np.ndarray


def galaxy_counts(
    rng: np.random.Generator, log10_mass: np.ndarray, recipe: MockRecipe
) -> np.ndarray:
    """Numbers of galaxies: Poisson about a lognormal about the mean."""
    scatter = recipe.galaxy_scatter
    factor = np.exp(scatter * rng.standard_normal(log10_mass.shape) - 0.5 * scatter**2)
    return rng.poisson(recipe.mean_galaxies(log10_mass) * factor)


def round_halos(
    rng: np.random.Generator,
    log10_mass: np.ndarray,
    counts: np.ndarray,
    recipe: MockRecipe,
    table: HaloTable,
    dispersion: DispersionTable,
) -> Galaxies:
    """Spherical haloes in Jeans equilibrium.

    Args:
        rng: random numbers.
        log10_mass: of the haloes, shape ``(num,)``.
        counts: galaxies of each, shape ``(num,)``.
        recipe, table: of the mocks.
        dispersion: velocity dispersions in units of V200.
    """
    scatter = recipe.concentration_scatter * rng.standard_normal(log10_mass.shape)
    mean = np.interp(log10_mass, table.log10_mass, table.concentration)
    concentration = mean * recipe.concentration_boost * 10**scatter
    speed = circular_velocity(log10_mass, table.redshift, table.omega_m)
    speed = speed * recipe.velocity_factor
    speed = speed * np.exp(recipe.velocity_scatter * rng.standard_normal(speed.shape))
    halo = np.repeat(np.arange(len(counts)), counts)
    c = concentration[halo]
    x = draw_radii(rng, recipe.galaxy_concentration * c, recipe.virial_radius)
    outward = rng.standard_normal((len(halo), 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    radial = dispersion(c, x) * speed[halo]
    noise = rng.standard_normal((len(halo), 3))
    along = np.sum(noise * outward, axis=1)
    sideways = np.sqrt(1 - recipe.beta)
    velocity = radial[:, None] * (sideways * noise + ((1 - sideways) * along)[:, None] * outward)
    scale = radius_200c(log10_mass, table.redshift, table.omega_m)[halo] * x
    return Galaxies(halo, scale[:, None] * outward, velocity)


def cluster_galaxies(
    rng: np.random.Generator, log10_mass: np.ndarray, recipe: MockRecipe, table: HaloTable
) -> Galaxies:
    """Triaxial clusters with clumps, some of them merging, in random orientation."""
    counts = galaxy_counts(rng, log10_mass, recipe)
    dispersion = dispersion_table(recipe.galaxy_concentration, recipe.beta)
    galaxies = round_halos(rng, log10_mass, counts, recipe, table, dispersion)
    galaxies = _stretched(rng, galaxies, len(log10_mass), recipe)
    size = radius_200c(log10_mass, table.redshift, table.omega_m)
    speed = circular_velocity(log10_mass, table.redshift, table.omega_m)
    galaxies = _with_clumps(rng, galaxies, counts, size, speed, recipe)
    galaxies = _with_mergers(rng, galaxies, size, speed, recipe)
    turn = random_rotations(rng, len(log10_mass))[galaxies.halo]
    turned = (np.einsum("nij,nj->ni", turn, part) for part in galaxies[1:])
    return Galaxies(galaxies.halo, *turned)


def random_rotations(rng: np.random.Generator, num: int) -> np.ndarray:
    """Rotation matrices from random unit quaternions, shape ``(num, 3, 3)``."""
    q = rng.standard_normal((num, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _stretched(
    rng: np.random.Generator, galaxies: Galaxies, num: int, recipe: MockRecipe
) -> Galaxies:
    """Ellipsoids of the spheres' volume; velocities stretched alike, of the same mean square."""
    short = rng.normal(recipe.axis_ratio, recipe.axis_ratio_scatter, num).clip(0.2, 0.95)
    middle = short + (1 - short) * rng.beta(2, 2, num)
    axes = np.stack([np.ones(num), middle, short], axis=1)
    axes /= np.cbrt(np.prod(axes, axis=1, keepdims=True))
    pace = axes**recipe.velocity_shape
    pace /= np.sqrt(np.mean(pace**2, axis=1, keepdims=True))
    halo = galaxies.halo
    return Galaxies(halo, galaxies.position * axes[halo], galaxies.velocity * pace[halo])


def _with_clumps(
    rng: np.random.Generator,
    galaxies: Galaxies,
    counts: np.ndarray,
    size: np.ndarray,
    speed: np.ndarray,
    recipe: MockRecipe,
) -> Galaxies:
    """Some galaxies gather around others of their halo, about four to a clump."""
    halo = galaxies.halo
    clumps = np.ceil(0.25 * recipe.clump_share * counts).astype(int)
    first = np.concatenate([[0], np.cumsum(clumps)])
    start = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(len(counts)), clumps)
    leader = start[owner] + (rng.random(len(owner)) * counts[owner]).astype(int)
    moved = np.flatnonzero(rng.random(len(halo)) < recipe.clump_share)
    own = halo[moved]
    lead = leader[first[own] + (rng.random(len(own)) * clumps[own]).astype(int)]
    position, velocity = galaxies.position.copy(), galaxies.velocity.copy()
    spread = rng.standard_normal((2, len(own), 3))
    position[moved] = galaxies.position[lead] + 0.08 * size[own][:, None] * spread[0]
    velocity[moved] = galaxies.velocity[lead] + 0.13 * speed[own][:, None] * spread[1]
    return Galaxies(halo, position, velocity)


def _with_mergers(
    rng: np.random.Generator,
    galaxies: Galaxies,
    size: np.ndarray,
    speed: np.ndarray,
    recipe: MockRecipe,
) -> Galaxies:
    """In some haloes a quarter to a half of the galaxies belong to an infalling smaller halo."""
    num = len(size)
    share = np.where(rng.random(num) < recipe.merger_share, rng.uniform(0.25, 0.45, num), 0.0)
    place = rng.standard_normal((num, 3))
    place *= (rng.uniform(0.4, 1.2, num) * size / np.linalg.norm(place, axis=1))[:, None]
    motion = 0.65 * speed[:, None] * rng.standard_normal((num, 3))
    halo = galaxies.halo
    moved = (rng.random(len(halo)) < share[halo])[:, None]
    shrink = np.cbrt(share)[halo][:, None]
    position = np.where(moved, place[halo] + shrink * galaxies.position, galaxies.position)
    velocity = np.where(moved, motion[halo] + shrink * galaxies.velocity, galaxies.velocity)
    return Galaxies(halo, position, velocity)
