r"""Convergence maps from particles that fall under their own gravity, by jaxpm.

One periodic box of particles is followed from redshift 9 to today. Whenever it is as old as the
light that comes from a shell of the light cone, it is projected onto a plane, along an axis and
with a shift of its own, and

.. math:: \kappa(\theta) = \sum_i W_i\, \delta_i(\chi_i \theta)

(Born approximation, with the lensing weights of `jaxmap.simulation.shells`). Dark matter only.

**Better than the halo model** (`jaxmap.simulation.lightcone`): the cosmic web. Filaments, walls and
voids, the surroundings of clusters and the shapes of haloes follow from gravity and the initial
conditions; nothing is set by hand.

**Worse:** small scales, and the price. With L the side of the box and n the number of particles
(and of cells) along it, a shell at distance :math:`\chi`

- has no structure below :math:`\ell = 2\pi\chi / L`, and repeats itself across fields wider than
  :math:`L / \chi`;
- lacks a tenth of its power at 0.3 of the mesh's Nyquist multipole, :math:`\pi n \chi / L`, and a
  third at 0.55 of it;
- carries the noise of the particles, :math:`P = (L/n)^3`.

Maps of COSMOS sources lack a tenth of their power at :math:`\ell = 600\,n/L`, a fifth at
:math:`900\,n/L` and half at :math:`2000\,n/L` (L in Mpc/h): at 770, 1150 and 2600 with 256
particles along 200 Mpc/h, at twice that with 512. The cores of haloes, which make the peaks at half
an arcminute, need ten times more: take the halo model for them. Maps are not periodic. On a GPU the
same key gives the same map but for rounding.

These figures are of `experiments/particle_mesh.py`, a small box on a CPU, scaled by n/L; no large
box was run.

References:
    Feng et al. (2016), MNRAS 463, 2273 (steps that keep linear growth exact); Jain, Seljak & White
    (2000), ApJ 530, 547 (planes and their shifts).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxmap.grid import ARCMIN, Grid
from jaxmap.matter_power import Cosmology, import_jax_cosmo, jax_cosmology
from jaxmap.simulation.geometry import check_flat

START = 0.1
"""Scale factor of the initial conditions."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ParticleMesh:
    r"""A simulator: all that depends on cosmology, n(z) and box. Made by `build_particle_mesh`.

    T steps, of which the last S each end at a shell, the farthest first. Lengths in Mpc/h; D is the
    linear growth factor, :math:`G = a^3 E\, dD/da`.

    Args:
        k, power: linear P(k) today, shape ``(nk,)``.
        kick: :math:`\Delta G / D` of the steps, shape ``(T,)``.
        drift: :math:`\Delta D / G` of the steps, shape ``(T,)``.
        distance, z: :math:`\chi_i` of the planes and their redshifts, shape ``(S,)``.
        width: thickness of the shells, shape ``(S,)``.
        weight: :math:`W_i`, shape ``(S,)``.
        cosmology: for the initial conditions.
        box: L in Mpc/h.
        mesh: n, particles and cells along a side.
        plane_mesh: cells along a side of a plane.
    """

    k: jax.Array
    power: jax.Array
    kick: jax.Array
    drift: jax.Array
    distance: jax.Array
    z: jax.Array
    width: jax.Array
    weight: jax.Array
    cosmology: Cosmology = field(metadata={"static": True})
    box: float = field(metadata={"static": True})
    mesh: int = field(metadata={"static": True})
    plane_mesh: int = field(metadata={"static": True})


def particle_mesh_map(key: jax.Array, cone: ParticleMesh, grid: Grid) -> jax.Array:
    """A convergence map, not periodic, from a box of its own; shape ``(ny, nx)``.

    Pure and of static shape: for ``jax.jit`` (``grid`` static) and ``jax.vmap`` over keys. Where
    the box is dear, take several maps of it: `matter_planes` once, `map_of_planes` per map.

    Args:
        key: PRNG key; the same key gives the same map.
        cone: from `build_particle_mesh`.
        grid: pixel grid of the map, at most 20 degrees wide (the sky is flat).

    Raises:
        ValueError: for a wider grid.
    """
    key_box, key_view = jax.random.split(key)
    return map_of_planes(key_view, matter_planes(key_box, cone), cone, grid)


def matter_planes(key: jax.Array, cone: ParticleMesh) -> jax.Array:
    """Density contrasts of the shells, of one box at their times, the farthest first.

    Returns:
        Periodic, of side ``cone.box``; shape ``(S, plane_mesh, plane_mesh)``.
    """
    key_modes, key_planes = jax.random.split(key)
    num_steps, num_planes = cone.kick.shape[0], cone.distance.shape[0]
    # The few planes before the first shell are made and dropped: one loop compiles faster than two.
    width = jnp.pad(cone.width, (num_steps - num_planes, 0), mode="edge")

    def leap_and_project(state: Any, step: Any) -> tuple[Any, jax.Array]:
        key, width, kick, drift = step
        state = _leap(state, kick, drift)
        return state, _project(key, state[0], width, cone)

    # jaxpm broadcasts arrays of different rank.
    with jax.numpy_rank_promotion("allow"):
        steps = (jax.random.split(key_planes, num_steps), width, cone.kick, cone.drift)
        planes = jax.lax.scan(leap_and_project, _start(key_modes, cone), steps)[1]
    return planes[-num_planes:]


def map_of_planes(key: jax.Array, planes: jax.Array, cone: ParticleMesh, grid: Grid) -> jax.Array:
    """Convergence behind planes, each shifted and mirrored at random; shape ``(ny, nx)``."""
    check_flat(grid, "the light cone")
    ny, nx = grid.shape
    angle = grid.pixel_arcmin * ARCMIN
    y = jnp.broadcast_to(angle * (jnp.arange(ny) - (ny - 1) / 2)[:, None], grid.shape)
    x = jnp.broadcast_to(angle * (jnp.arange(nx) - (nx - 1) / 2)[None, :], grid.shape)

    def add_plane(total: jax.Array, step: Any) -> tuple[jax.Array, None]:
        key, plane, distance, weight = step
        key_shift, key_sign = jax.random.split(key)
        shift = jax.random.uniform(key_shift, (2,), plane.dtype) * cone.plane_mesh
        sign = jax.random.rademacher(key_sign, (2,), plane.dtype)
        scale = distance * cone.plane_mesh / cone.box
        places = [(sign[0] * y * scale + shift[0]), (sign[1] * x * scale + shift[1])]
        return total + weight * map_coordinates(plane, places, order=1, mode="wrap"), None

    keys = jax.random.split(key, planes.shape[0])
    start = jnp.zeros(grid.shape, planes.dtype)
    return jax.lax.scan(add_plane, start, (keys, planes, cone.distance, cone.weight))[0]


def _start(key: jax.Array, cone: ParticleMesh) -> tuple[jax.Array, jax.Array]:
    """Displacements (in cells) and momenta by Lagrangian perturbation theory of second order."""
    pm, _ = import_jaxpm()
    shape, box = (cone.mesh,) * 3, (cone.box,) * 3
    linear = pm.linear_field(shape, box, lambda k: jnp.interp(k, cone.k, cone.power), key)
    with jax_cosmology(cone.cosmology) as (_, cosmo):
        displacement, momentum, _ = pm.lpt(cosmo, linear, a=START, order=2)
    return displacement, momentum


def _leap(
    state: tuple[jax.Array, jax.Array], kick: jax.Array, drift: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Momenta to the middle of the step, positions to its end."""
    displacement, momentum = state
    pm, _ = import_jaxpm()
    force = pm.pm_forces(displacement, displacement.shape[:3], paint_absolute_pos=False)
    momentum = momentum + kick * force
    return displacement + drift * momentum, momentum


def _project(
    key: jax.Array, displacement: jax.Array, width: jax.Array, cone: ParticleMesh
) -> jax.Array:
    """Density contrast of a slab across the box, along a random axis and from a random place."""
    _, lensing = import_jaxpm()
    key_axis, key_shift = jax.random.split(key)
    at = jnp.arange(cone.mesh, dtype=displacement.dtype)
    positions = displacement + jnp.stack(jnp.meshgrid(at, at, at, indexing="ij"), axis=-1)
    axes = jax.random.permutation(key_axis, 3)
    shift = jax.random.uniform(key_shift, (3,), displacement.dtype) * cone.mesh
    positions = jnp.mod(positions[..., axes] + shift, cone.mesh)
    depth = width * cone.mesh / cone.box
    box = (cone.mesh,) * 3
    return lensing.density_plane(positions, box, depth / 2, depth, cone.plane_mesh) - 1


def import_jaxpm() -> tuple[Any, Any]:
    """The modules ``pm`` and ``lensing`` of jaxpm, which need jax-cosmo to be there already."""
    import_jax_cosmo()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes, and old names in jax
            import jaxpm.lensing
            import jaxpm.pm
    except ImportError as error:
        raise ImportError(
            'particle-mesh light cones need jaxpm: pip install "jaxmap[pm]"'
        ) from error
    return jaxpm.pm, jaxpm.lensing
