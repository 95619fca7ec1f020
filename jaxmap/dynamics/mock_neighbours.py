r"""Interlopers: satellites of the haloes around and behind a cluster.

Haloes of mass M' at distance r from a cluster of mass M have the density

.. math:: n(M')\,[1 + \min(b\,b'\,\tilde\xi(r), B)], \qquad
    \tilde\xi(r) = \xi(r)\,(1 + A e^{-(r/r_0)^2})

outside the virial radii of both, and fall towards the cluster. Positions are drawn by thinning, so
that this density is exact. The third axis is the line of sight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxmap.dynamics.halo_profile import DispersionTable, expansion_rate, radius_200c
from jaxmap.dynamics.mock_halos import Galaxies, galaxy_counts, round_halos
from jaxmap.dynamics.mock_recipe import HaloTable, MockRecipe
from jaxmap.simulation.halos import CRITICAL_DENSITY

CLASSES = ((11.8, 13.3), (13.3, 15.5))
"""Ranges of log10 mass, each drawn in a cylinder that is wide enough for its haloes."""
SLICES = (0.0, 3.0, 8.0, 18.0)
"""Where slices along the line of sight begin, in Mpc/h; the closer, the more neighbours."""
ALLOWANCE_KM_S = 1500.0
"""Peculiar velocities up to this bring galaxies into the cylinder."""


@dataclass(frozen=True)
class _Haloes:
    """Neighbours: the cluster they belong to, masses, positions in Mpc/h."""

    cluster: np.ndarray
    log10_mass: np.ndarray
    position: np.ndarray


def interlopers(
    rng: np.random.Generator,
    log10_mass: np.ndarray,
    recipe: MockRecipe,
    table: HaloTable,
    dispersion: DispersionTable,
) -> Galaxies:
    """Satellites of other haloes around every cluster; ``halo`` is the cluster's number.

    Args:
        rng: random numbers.
        log10_mass: of the clusters, shape ``(num,)``.
        recipe, table: of the mocks.
        dispersion: as for the clusters' own galaxies.
    """
    found = []
    for bounds in CLASSES:
        near = _accepted(rng, log10_mass, bounds, recipe, table)
        counts = galaxy_counts(rng, near.log10_mass, recipe)
        rich = counts > 0
        near = _Haloes(near.cluster[rich], near.log10_mass[rich], near.position[rich])
        inside = round_halos(rng, near.log10_mass, counts[rich], recipe, table, dispersion)
        moving = _bulk_velocity(rng, near, log10_mass, recipe, table)
        found.append(
            Galaxies(
                near.cluster[inside.halo],
                near.position[inside.halo] + inside.position,
                moving[inside.halo] + inside.velocity,
            )
        )
    every = Galaxies(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    order = np.argsort(every.halo, kind="stable")
    return Galaxies(*(part[order] for part in every))


def depth_mpc_h(velocity_km_s: float, table: HaloTable) -> float:
    """Comoving distance along the line of sight that has this Hubble velocity."""
    rate = 100 * expansion_rate(table.redshift, table.omega_m)
    return velocity_km_s / rate * (1 + table.redshift)


def _accepted(
    rng: np.random.Generator,
    log10_mass: np.ndarray,
    bounds: tuple[float, float],
    recipe: MockRecipe,
    table: HaloTable,
) -> _Haloes:
    """Neighbours of one class of masses: a uniform background, and the clustered excess."""
    masses = np.linspace(*bounds, 200)
    density = np.exp(np.interp(masses, table.log10_mass, np.log(table.per_dex)))
    bias = np.interp(masses, table.log10_mass, table.bias)
    width = recipe.virial_radius * radius_200c(bounds[1], table.redshift, table.omega_m)
    radius = recipe.aperture_mpc_h + float(width)
    end = depth_mpc_h(recipe.velocity_cut_km_s + ALLOWANCE_KM_S, table)
    own_bias = np.interp(log10_mass, table.log10_mass, table.bias)
    edge = recipe.virial_radius * radius_200c(log10_mass, table.redshift, table.omega_m)
    step = masses[1] - masses[0]

    rate = np.full(len(log10_mass), np.sum(density) * step * 2 * np.pi * radius**2 * end)
    parts = [_proposals(rng, rate, masses, density, radius, 0.0, end)]
    for low, high in zip(SLICES, (*SLICES[1:], end), strict=True):
        bound = _correlation(np.maximum(low, edge), recipe, table)
        volume = 2 * np.pi * radius**2 * (high - low)
        rate = own_bias * bound * np.sum(density * bias) * step * volume
        near = _proposals(rng, rate, masses, density * bias, radius, low, high)
        distance = np.linalg.norm(near.position, axis=1)
        product = own_bias[near.cluster] * np.interp(near.log10_mass, table.log10_mass, table.bias)
        excess = product * _correlation(distance, recipe, table)
        chance = np.minimum(excess, recipe.neighbour_limit) / (product * bound[near.cluster])
        parts.append(_kept(near, rng.random(len(chance)) < chance))
    near = _Haloes(
        np.concatenate([part.cluster for part in parts]),
        np.concatenate([part.log10_mass for part in parts]),
        np.concatenate([part.position for part in parts]),
    )
    own_edge = recipe.virial_radius * radius_200c(near.log10_mass, table.redshift, table.omega_m)
    outside = np.linalg.norm(near.position, axis=1) > np.maximum(edge[near.cluster], own_edge)
    return _kept(near, outside)


def _proposals(
    rng: np.random.Generator,
    rate: np.ndarray,
    masses: np.ndarray,
    weight: np.ndarray,
    radius: float,
    low: float,
    high: float,
) -> _Haloes:
    """Haloes evenly in the two slices low < |z| < high of a cylinder."""
    cluster = np.repeat(np.arange(len(rate)), rng.poisson(rate))
    share = np.concatenate([[0], np.cumsum(0.5 * (weight[1:] + weight[:-1]))])
    mass = np.interp(rng.random(len(cluster)) * share[-1], share, masses)
    distance, angle = radius * np.sqrt(rng.random(len(cluster))), rng.random(len(cluster))
    depth = rng.uniform(low, high, len(cluster)) * rng.choice([-1, 1], len(cluster))
    turn = 2 * np.pi * angle
    place = np.stack([distance * np.cos(turn), distance * np.sin(turn), depth], axis=1)
    return _Haloes(cluster, mass, place)


def _kept(haloes: _Haloes, keep: np.ndarray) -> _Haloes:
    return _Haloes(haloes.cluster[keep], haloes.log10_mass[keep], haloes.position[keep])


def _correlation(r: np.ndarray, recipe: MockRecipe, table: HaloTable) -> np.ndarray:
    boost, end = recipe.neighbour_boost
    linear = np.interp(r, table.radius_mpc_h, table.correlation)
    return np.maximum(linear, 1e-6) * (1 + boost * np.exp(-((r / end) ** 2)))


def _bulk_velocity(
    rng: np.random.Generator,
    near: _Haloes,
    log10_mass: np.ndarray,
    recipe: MockRecipe,
    table: HaloTable,
) -> np.ndarray:
    r"""Infall :math:`-\frac13 f H r\,\bar\delta (1 + \bar\delta)^{-1/4}` (Yahil 1985), plus noise.

    The mean overdensity is that of the cluster's own mass and of what is correlated with it.
    """
    distance = np.linalg.norm(near.position, axis=1)
    mean_density = CRITICAL_DENSITY * table.omega_m
    own = 10 ** log10_mass[near.cluster] / (4 / 3 * np.pi * mean_density * distance**3)
    bias = np.interp(log10_mass, table.log10_mass, table.bias)[near.cluster]
    delta = own + bias * np.interp(distance, table.radius_mpc_h, _mean_correlation(table))
    expansion = expansion_rate(table.redshift, table.omega_m)
    growth = (table.omega_m * (1 + table.redshift) ** 3 / expansion**2) ** 0.55
    rate = 100 * expansion / (1 + table.redshift)
    speed = -growth * rate * distance * delta / (3 * (1 + delta) ** 0.25)
    noise = recipe.neighbour_velocity_km_s * rng.standard_normal(near.position.shape)
    return speed[:, None] * near.position / distance[:, None] + noise


def _mean_correlation(table: HaloTable) -> np.ndarray:
    """Mean of the correlation function within a radius."""
    r, xi = table.radius_mpc_h, table.correlation
    shells = 0.5 * (xi[1:] + xi[:-1]) * np.diff(r**3)
    return (np.concatenate([[0], np.cumsum(shells)]) + xi[0] * r[0] ** 3) / r**3
