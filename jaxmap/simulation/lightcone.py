r"""Convergence maps from a halo-model light cone; everything that depends on the key.

.. math:: \kappa = T * \Big[\sum_i W_i \delta_i
          + \sum_\mathrm{haloes} w_h\, u_h - \Big\langle\sum_\mathrm{haloes} w_h\, u_h
          \Big|\, \delta\Big\rangle\Big]

Shells of matter :math:`\delta_i` are shifted-lognormal fields. Haloes are a Poisson process whose
intensity follows the same fields, smoothed, with the bias of their mass. Their expectation given
the fields is subtracted, so that they add their own scatter and nothing twice: the mean power is
that of the shells plus the one-halo term, exactly. `jaxmap.simulation.build` gives the shells what
the non-linear power leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import Grid
from jaxmap.simulation.halo_drawing import (
    Haloes,
    HaloPopulation,
    HaloScatter,
    draw_haloes,
    population_of_shell,
)
from jaxmap.simulation.halo_painting import (
    NUM_ROUND,
    HaloBasis,
    coefficients,
    convolve_points,
    deposit,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LightCone:
    r"""A simulator: all that depends on cosmology, n(z) and grid. Made by `build_light_cone`.

    S shells, G mass groups, K round and Q quadrupole profile functions; H half-plane modes
    ``(ny, nx // 2 + 1)``.

    Args:
        amplitude: of the modes of the Gaussian fields, shape ``(S, *H)``.
        variance: of the Gaussian fields, shape ``(S,)``.
        weight: :math:`W_i`, shape ``(S,)``.
        edges: nearest and farthest distance of the shells in Mpc/h, shape ``(S, 2)``.
        shift: :math:`\lambda` of the lognormal fields, shape ``()``.
        smoothing: angle in radians over which the fields steer the haloes, shape ``(S,)``.
        smooth_variance: of the Gaussian fields so smoothed, shape ``(S,)``.
        cell_volume: comoving volume behind a cell, shape ``(S,)``.
        population: haloes of the shells.
        scatter: random properties of haloes.
        expected: expected sum of :math:`w a_k` of a cell's haloes, shape ``(S, G, K)``.
        halo_weight: :math:`q(\chi) / (\bar\rho \chi^2 \Omega_\mathrm{pix})` at distances that are
            multiples of ``distance_step``, shape ``(nd,)``.
        distance_step: shape ``()``.
        log_mean_density: :math:`\ln \frac{4\pi}{3} 200 \bar\rho_m`, shape ``()``.
        basis: profiles of haloes.
        profile_modes: the basis on the grid, shape ``(K + Q, *H)``.
        transfer: T, shape ``H``.
        grid: the periodic grid.
        block: side of a cell in pixels.
        capacity: slots for haloes in a shell, and in the whole cone.
    """

    amplitude: jax.Array
    variance: jax.Array
    weight: jax.Array
    edges: jax.Array
    shift: jax.Array
    smoothing: jax.Array
    smooth_variance: jax.Array
    cell_volume: jax.Array
    population: HaloPopulation
    scatter: HaloScatter
    expected: jax.Array
    halo_weight: jax.Array
    distance_step: jax.Array
    log_mean_density: jax.Array
    basis: HaloBasis
    profile_modes: jax.Array
    transfer: jax.Array
    grid: Grid = field(metadata={"static": True})
    block: int = field(metadata={"static": True})
    capacity: tuple[int, int] = field(metadata={"static": True})


class LightConeInfo(NamedTuple):
    """The haloes of a map; their number; how many found no slot and are missing (should be 0)."""

    haloes: Haloes
    num_haloes: jax.Array
    num_lost: jax.Array


def halo_light_cone(key: jax.Array, cone: LightCone, grid: Grid) -> jax.Array:
    """A periodic convergence map of zero mean, shape ``(ny, nx)``.

    Pure and of static shape: for ``jax.jit`` (``grid`` static) and ``jax.vmap`` over keys. To train
    on fields that are not periodic, build the cone on a larger grid and cut.

    Args:
        key: PRNG key; the same key gives the same map.
        cone: from `jaxmap.simulation.build.build_light_cone`.
        grid: the grid that ``cone`` was built for.

    Returns:
        The convergence; NaN everywhere if haloes found no slot, which `build_light_cone` makes
        as unlikely as a fluctuation of 8 standard deviations.

    Raises:
        ValueError: if ``grid`` is another than that of ``cone``.
    """
    convergence, info = light_cone_with_haloes(key, cone, grid)
    return jnp.where(info.num_lost == 0, convergence, jnp.nan)


def light_cone_with_haloes(
    key: jax.Array, cone: LightCone, grid: Grid
) -> tuple[jax.Array, LightConeInfo]:
    """`halo_light_cone` with the haloes behind the map, and without its check for lost ones."""
    if (grid.shape, grid.pixel_arcmin) != (cone.grid.shape, cone.grid.pixel_arcmin):
        raise ValueError(
            f"the light cone was built for {cone.grid.shape} pixels of {cone.grid.pixel_arcmin} "
            f"arcmin, and is asked for {grid.shape} of {grid.pixel_arcmin}; build one for this grid"
        )
    keys = jax.random.split(key, cone.weight.shape[0])
    start = (
        jnp.zeros(grid.shape, cone.weight.dtype),
        jnp.zeros((NUM_ROUND, *_cells(cone)), cone.weight.dtype),
    )

    def add_shell(
        sums: tuple[jax.Array, jax.Array], number: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[Haloes, jax.Array]]:
        shells, expected = sums
        key_field, key_haloes = jax.random.split(keys[number])
        modes = _gaussian_modes(key_field, cone.amplitude[number])
        gaussian = jnp.fft.irfft2(modes, grid.shape)
        matter = cone.shift * jnp.expm1(gaussian - cone.variance[number] / 2)
        population = population_of_shell(cone.population, number)
        density = _biased(_smooth_in_cells(modes, number, cone), population.bias, number, cone)
        intensity = (population.number * cone.cell_volume[number])[:, None, None] * density
        haloes, count = draw_haloes(
            key_haloes,
            intensity,
            population,
            cone.edges[number],
            cone.scatter,
            cone.block,
            cone.capacity[0],
        )
        mean = jnp.einsum("gk,gyx->kyx", cone.expected[number], density, precision="highest")
        return (shells + cone.weight[number] * matter, expected + mean), (haloes, count)

    (shells, expected), (slots, counts) = jax.lax.scan(
        add_shell, start, jnp.arange(cone.weight.shape[0])
    )
    haloes = _first_present(slots, cone.capacity[1])
    points = deposit(haloes.x, haloes.y, _point_values(haloes, cone), grid)
    per_pixel = expected.repeat(cone.block, axis=1).repeat(cone.block, axis=2) / cone.block**2
    points = points.at[:NUM_ROUND].add(-per_pixel)
    modes = jnp.fft.rfft2(shells) + convolve_points(points, cone.profile_modes, grid)
    info = LightConeInfo(haloes, jnp.sum(counts), jnp.sum(counts) - jnp.sum(haloes.present))
    return jnp.fft.irfft2(cone.transfer * modes, grid.shape), info


def _cells(cone: LightCone) -> tuple[int, int]:
    ny, nx = cone.grid.shape
    return ny // cone.block, nx // cone.block


def _gaussian_modes(key: jax.Array, amplitude: jax.Array) -> jax.Array:
    """Modes on the half plane of a real field. Those of the column at 0 (and of the last, for even
    grids) need not be symmetric: irfft2 keeps their symmetric part, and the amplitude of
    `build_light_cone` allows for that."""
    white = jax.random.normal(key, (2, *amplitude.shape), amplitude.dtype)
    return amplitude * jax.lax.complex(white[0], white[1])


def _smooth_in_cells(modes: jax.Array, number: jax.Array, cone: LightCone) -> jax.Array:
    """The Gaussian field, smoothed, at the centres of the cells."""
    rows, columns, ell, phase = cell_modes(cone.grid, cone.block)
    smoothing = jnp.exp(-0.5 * (jnp.asarray(ell, modes.real.dtype) * cone.smoothing[number]) ** 2)
    kept = modes[rows][:, :columns] * (smoothing * jnp.asarray(phase, modes.dtype))
    return jnp.fft.irfft2(kept, _cells(cone)) / cone.block**2


def cell_modes(grid: Grid, block: int) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """How to read a field's modes at the centres of cells of ``block`` x ``block`` pixels.

    Returns:
        Rows and number of columns to take from the half plane, their multipoles, and the phase that
        moves the field from a cell's first pixel to its centre; 0 for the cells' Nyquist modes.
    """
    ny, nx = grid.shape
    cy, cx = ny // block, nx // block
    y, x = np.rint(np.fft.fftfreq(cy) * cy), np.arange(cx // 2 + 1.0)
    at = x[None, :] / nx + 1j * y[:, None] / ny
    phase = np.exp(1j * np.pi * (block - 1) * (at.real + at.imag))
    if block > 1:
        phase = np.where((2 * np.abs(y)[:, None] == cy) | (2 * x[None, :] == cx), 0, phase)
    return y.astype(int) % ny, cx // 2 + 1, 2 * np.pi * np.abs(at) / grid.pixel_sr**0.5, phase


def _biased(gaussian: jax.Array, bias: jax.Array, number: jax.Array, cone: LightCone) -> jax.Array:
    """Density of haloes of every mass group in units of its mean, shape ``(G, cy, cx)``."""
    factor = (cone.shift * bias)[:, None, None]
    return jnp.exp(factor * gaussian[None] - factor**2 * cone.smooth_variance[number] / 2)


def _first_present(slots: Haloes, capacity: int) -> Haloes:
    """The haloes of all shells, without the empty slots between them."""
    flat = jax.tree.map(jnp.ravel, slots)
    (index,) = jnp.nonzero(flat.present, size=capacity, fill_value=flat.present.size)
    filled = jax.tree.map(lambda leaf: leaf.at[index].get(mode="clip"), flat)
    return filled._replace(present=index < flat.present.size)


def _point_values(haloes: Haloes, cone: LightCone) -> jax.Array:
    """Weights of every halo in the maps of `convolve_points`, shape ``(n, K + 2 Q)``."""
    log_radius = (jnp.log(haloes.mass) - cone.log_mean_density) / 3
    log_angle = log_radius - haloes.log_concentration - jnp.log(haloes.distance)
    values = coefficients(cone.basis, log_angle, haloes.log_concentration)
    at = haloes.distance / cone.distance_step
    kernel = jnp.interp(at, jnp.arange(cone.halo_weight.shape[0], dtype=at.dtype), cone.halo_weight)
    values = values * jnp.where(haloes.present, haloes.mass * kernel, 0)[:, None]
    stretch = haloes.log_axis_ratio[:, None] * values[:, NUM_ROUND:]
    angle = 2 * haloes.angle[:, None]
    return jnp.concatenate(
        [values[:, :NUM_ROUND], jnp.cos(angle) * stretch, jnp.sin(angle) * stretch], axis=1
    )
