"""Synthetic clusters from a halo model, pure and contaminated. These are mocks, not MDPL2.

A stand-in for the catalogue of Ho et al. (2019), which is not public as a whole. The galaxy counts
and the M-sigma relations were tuned by hand to theirs; nothing else was. Where they are known to
differ: less contamination, and too little clumpiness and infall around massive clusters; no
backsplash galaxies and no galaxy-formation physics.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxmap.dynamics.halo_profile import dispersion_table
from jaxmap.dynamics.members import (
    ClusterMembers,
    cluster_members,
    concatenate,
    cut_cylinder,
    keep_galaxies,
    numpy_generator,
    select,
)
from jaxmap.dynamics.mock_halos import Galaxies, cluster_galaxies
from jaxmap.dynamics.mock_neighbours import interlopers
from jaxmap.dynamics.mock_recipe import HaloTable, MockRecipe, halo_table
from jaxmap.dynamics.observables import axes_of_sight, velocities_in_blocks

CHUNK = 2000
"""Haloes made at a time."""


class MockClusters(NamedTuple):
    """The same haloes seen in two ways, each without clusters of too few galaxies.

    Attributes:
        contaminated: all galaxies in the cylinder.
        pure: the halo's own galaxies, all of them.
    """

    contaminated: ClusterMembers
    pure: ClusterMembers


def mock_clusters(
    key: jax.Array,
    log10_mass: ArrayLike,
    num_lines: int | ArrayLike = 1,
    recipe: MockRecipe | None = None,
) -> MockClusters:
    """Synthetic clusters of given masses at redshift 0.117.

    A halo's galaxies are drawn once and seen along `lines_of_sight`; its interlopers are drawn
    anew for every line of sight.

    Args:
        key: of all random numbers.
        log10_mass: log10 of M200c / (Msun/h) of every halo, 13 to 15.5, shape ``(num,)``.
        num_lines: lines of sight, one number or one for every halo.
        recipe: of the halo model.

    Raises:
        ValueError: for masses out of range or not a vector, or fewer than one line of sight.
    """
    recipe = MockRecipe() if recipe is None else recipe
    masses = np.asarray(log10_mass, float)
    if masses.ndim != 1 or not masses.size or not ((masses >= 13) & (masses <= 15.5)).all():
        raise ValueError(
            f"log10_mass has shape {masses.shape}, from {masses.min(initial=99):g} to "
            f"{masses.max(initial=-99):g}; expected a vector of log10 of Msun/h from 13 to 15.5"
        )
    lines = np.broadcast_to(np.asarray(num_lines, int), masses.shape)
    if (lines < 1).any():
        raise ValueError(f"num_lines is {lines.min()}; expected 1 or more lines of sight")
    table = halo_table()
    parts = []
    for first in range(0, len(masses), CHUNK):
        chunk = slice(first, first + CHUNK)
        rng = numpy_generator(jax.random.fold_in(key, first))
        parts.append(_observed(rng, masses[chunk], lines[chunk], first, recipe, table))
    contaminated, pure = (concatenate(views) for views in zip(*parts, strict=True))
    return MockClusters(contaminated, pure)


def _observed(
    rng: np.random.Generator,
    masses: np.ndarray,
    lines: np.ndarray,
    first: int,
    recipe: MockRecipe,
    table: HaloTable,
) -> tuple[ClusterMembers, ClusterMembers]:
    own = cluster_galaxies(rng, masses, recipe, table)
    view_halo = np.repeat(np.arange(len(masses)), lines)
    view_line = np.concatenate([np.arange(num) for num in lines])
    seen = _views(own, view_halo, lines)
    dispersion = dispersion_table(recipe.galaxy_concentration, recipe.beta)
    others = interlopers(rng, masses[view_halo], recipe, table, dispersion)
    counts = np.bincount(own.halo, minlength=len(masses))
    about = {
        "log10_mass": masses[view_halo],
        "halo": first + view_halo,
        "line_of_sight": view_line,
        "num_true": counts[view_halo],
        "redshift": table.redshift,
    }
    galaxies = Galaxies(*(np.concatenate(pair) for pair in zip(seen, others, strict=True)))
    member = np.arange(len(galaxies.halo)) < len(seen.halo)
    order = np.argsort(galaxies.halo, kind="stable")
    galaxies, member = Galaxies(*(part[order] for part in galaxies)), member[order]
    everything = _catalogue(galaxies, member, len(view_halo), about, table)
    cylinder = cut_cylinder(everything, recipe.aperture_mpc_h, recipe.velocity_cut_km_s)
    contaminated, pure = (
        select(one, one.richness > recipe.min_richness)
        for one in (cylinder, keep_galaxies(everything, member))
    )
    return contaminated, pure


def _views(galaxies: Galaxies, view_halo: np.ndarray, lines: np.ndarray) -> Galaxies:
    """Every halo's galaxies once for each line of sight, turned so that it is the third axis."""
    counts = np.bincount(galaxies.halo, minlength=len(lines))
    start = np.concatenate([[0], np.cumsum(counts)])
    sizes = counts[view_halo]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.repeat(start[view_halo] - offsets[:-1], sizes) + np.arange(offsets[-1])
    axes = {num: axes_of_sight(num) for num in np.unique(lines)}
    turn = np.concatenate([axes[num] for num in lines])
    view = np.repeat(np.arange(len(view_halo)), sizes)
    if lines.max() == 1:  # the first line of sight is the third axis
        return Galaxies(view, galaxies.position[rows], galaxies.velocity[rows])
    turned = (
        np.einsum("nij,nj->ni", turn[view], part[rows])
        for part in (galaxies.position, galaxies.velocity)
    )
    return Galaxies(view, *turned)


def _catalogue(
    galaxies: Galaxies, member: np.ndarray, num: int, about: dict, table: HaloTable
) -> ClusterMembers:
    counts = np.bincount(galaxies.halo, minlength=num)
    return cluster_members(
        np.hypot(galaxies.position[:, 0], galaxies.position[:, 1]),
        velocities_in_blocks(
            galaxies.position[:, 2],
            galaxies.velocity[:, 2],
            redshift=table.redshift,
            omega_m=table.omega_m,
        ),
        np.concatenate([[0], np.cumsum(counts)]),
        member=member,
        **about,
    )
