"""Drawing haloes from a mass function where a matter field is dense.

Masses are sorted into G groups with one bias each; a group's B bins follow the mass function as
power laws, so that only the bias is coarse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.simulation.halo_tables import HaloTable


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HaloPopulation:
    r"""Haloes of the shells of a light cone, before they are placed; leading axis: shells.

    Args:
        number: expected haloes of a group per comoving Mpc^3/h^3, shape ``(S, G)``.
        until_bin: fraction of a group's haloes up to the end of a bin, shape ``(S, G, B)``.
        bias: mean over each group, shape ``(S, G)``.
        decay: :math:`-d\ln n/d\ln M` times the bin's width, shape ``(S, G, B)``.
        log_concentration: :math:`\ln c` at the borders of bins, shape ``(S, G B + 1)``.
        log_mass: :math:`\ln M` at the borders of bins, shape ``(G B + 1,)``.
    """

    number: jax.Array
    until_bin: jax.Array
    bias: jax.Array
    decay: jax.Array
    log_concentration: jax.Array
    log_mass: jax.Array


def population_of_shell(population: HaloPopulation, number: int | jax.Array) -> HaloPopulation:
    """One shell's haloes: the same without the leading axis."""
    return HaloPopulation(
        number=population.number[number],
        until_bin=population.until_bin[number],
        bias=population.bias[number],
        decay=population.decay[number],
        log_concentration=population.log_concentration[number],
        log_mass=population.log_mass,
    )


class Haloes(NamedTuple):
    """Drawn haloes, in ``n`` slots.

    ``x``, ``y`` in pixels from the first pixel's centre; ``mass`` M200m in Msun/h; comoving
    ``distance`` in Mpc/h; ``log_concentration`` ln c200m, scatter included; ``log_axis_ratio``
    eta = -ln(b/a); ``angle`` of the long axis in radians from x; ``present`` false for empty slots.
    """

    x: jax.Array
    y: jax.Array
    mass: jax.Array
    distance: jax.Array
    log_concentration: jax.Array
    log_axis_ratio: jax.Array
    angle: jax.Array
    present: jax.Array


class HaloScatter(NamedTuple):
    """Random properties of haloes: spread of ln c; mean and spread of the projected axis ratio."""

    log_concentration: float | jax.Array = 0.37
    axis_ratio: float | jax.Array = 0.7
    axis_ratio_spread: float | jax.Array = 0.13


def halo_population(
    table: HaloTable, z: np.ndarray, min_mass: float, num_groups: int = 8, num_bins: int = 8
) -> HaloPopulation:
    """Sort the mass function at the redshifts of shells into bins.

    Args:
        table: of the cosmology.
        z: redshifts of the shells, shape ``(S,)``.
        min_mass: smallest halo in Msun/h.
        num_groups, num_bins: G and B.
    """
    mass = np.log(np.asarray(table.mass, float))
    log_mass = np.linspace(np.log(min_mass), mass[-1], num_groups * num_bins + 1)
    rows = np.asarray(table.z, float)

    def at_shells(values: jax.Array) -> np.ndarray:
        host = np.asarray(values, float)
        in_mass = np.stack([np.interp(log_mass, mass, row) for row in host])
        return np.stack([np.interp(z, rows, column) for column in in_mass.T], axis=1)

    abundance = at_shells(table.log_abundance)
    width = log_mass[1] - log_mass[0]
    # A power law inside the bin; kept off zero, where the formulas turn into 0/0.
    decay = np.maximum(-np.diff(abundance, axis=1), 1e-3)
    number = np.exp(abundance[:, :-1]) * width * -np.expm1(-decay) / decay
    bias = at_shells(table.bias)
    bias = 0.5 * (bias[:, 1:] + bias[:, :-1])
    shape = (len(z), num_groups, num_bins)
    number, bias = number.reshape(shape), bias.reshape(shape)
    total = np.sum(number, axis=-1)
    return HaloPopulation(
        number=jnp.asarray(total, float),
        until_bin=jnp.asarray(np.cumsum(number, -1) / total[..., None], float),
        bias=jnp.asarray(np.sum(number * bias, -1) / total, float),
        decay=jnp.asarray(decay.reshape(shape), float),
        log_concentration=jnp.asarray(np.log(at_shells(table.concentration)), float),
        log_mass=jnp.asarray(log_mass, float),
    )


def draw_haloes(
    key: jax.Array,
    intensity: jax.Array,
    population: HaloPopulation,
    edges: jax.Array,
    scatter: HaloScatter,
    block: int,
    capacity: int,
) -> tuple[Haloes, jax.Array]:
    """Haloes of one shell: a Poisson process with the given intensity.

    Args:
        key: PRNG key.
        intensity: expected haloes of every group in every cell, shape ``(G, cy, cx)``.
        population: of this shell alone (no leading axis).
        edges: nearest and farthest distance of the shell, shape ``(2,)``.
        scatter: random properties.
        block: side of a cell in pixels.
        capacity: number of slots.

    Returns:
        The haloes, ``capacity`` slots, and how many there were, which may be more.
    """
    num_groups, rows, columns = intensity.shape
    key_number, key_uniform, key_normal = jax.random.split(key, 3)
    uniform = jax.random.uniform(key_uniform, (9, capacity), intensity.dtype)
    normal = jax.random.normal(key_normal, (2, capacity), intensity.dtype)

    # Cell: first the row, then the column within it, so that float32 sums stay short.
    in_row = jnp.cumsum(jnp.sum(intensity, axis=0), axis=1)
    until_row = jnp.cumsum(in_row[:, -1])
    number = jax.random.poisson(key_number, until_row[-1])
    row = jnp.searchsorted(until_row, uniform[0] * until_row[-1])
    row = jnp.minimum(row, rows - 1)
    column = _first_above(in_row, row, uniform[1] * in_row[row, columns - 1])
    until_group = jnp.cumsum(intensity[:, row, column], axis=0)
    group = jnp.sum(until_group < (uniform[2] * until_group[-1])[None], axis=0)
    group = jnp.minimum(group, num_groups - 1)
    x = column * block + (block - 1) / 2 + block * (uniform[3] - 0.5)
    y = row * block + (block - 1) / 2 + block * (uniform[4] - 0.5)

    num_bins = population.decay.shape[-1]
    in_group = jnp.sum(population.until_bin[group] < uniform[5][:, None], axis=-1)
    in_group = jnp.minimum(in_group, num_bins - 1)
    decay = population.decay[group, in_group]
    part = -jnp.log1p(uniform[6] * jnp.expm1(-decay)) / decay
    index = group * num_bins + in_group
    width = population.log_mass[1] - population.log_mass[0]
    median = population.log_concentration
    cubes = edges**3
    axis_ratio = scatter.axis_ratio + scatter.axis_ratio_spread * normal[1]
    haloes = Haloes(
        x=x,
        y=y,
        mass=jnp.exp(population.log_mass[index] + width * part),
        distance=jnp.cbrt(cubes[0] + uniform[7] * (cubes[1] - cubes[0])),
        log_concentration=median[index] * (1 - part)
        + median[index + 1] * part
        + scatter.log_concentration * normal[0],
        log_axis_ratio=-jnp.log(jnp.clip(axis_ratio, 0.3, 1.0)),
        angle=jnp.pi * uniform[8],
        present=jnp.arange(capacity) < number,
    )
    return haloes, number


def _first_above(ascending: jax.Array, row: jax.Array, value: jax.Array) -> jax.Array:
    """First column of ``ascending[row]`` that is not below ``value``, by bisection."""
    low = jnp.zeros_like(row)
    high = jnp.full_like(row, ascending.shape[1] - 1)
    for _ in range(int(ascending.shape[1]).bit_length()):
        middle = (low + high) // 2
        below = ascending[row, middle] < value
        low, high = (
            jnp.where(below, jnp.minimum(middle + 1, high), low),
            jnp.where(below, high, middle),
        )
    return low
