"""Building a light cone: everything that depends on cosmology, n(z) and grid, computed once."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxmap.cosmology import CRITICAL_DENSITY, limber_power
from jaxmap.grid import Grid
from jaxmap.machine import check_memory
from jaxmap.matter_power import PLANCK18, Cosmology, matter_power
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts
from jaxmap.simulation.baryons import Baryons
from jaxmap.simulation.geometry import check_flat
from jaxmap.simulation.halo_drawing import HaloScatter, halo_population
from jaxmap.simulation.halo_moments import halo_moments
from jaxmap.simulation.halo_painting import half_plane_ell, halo_basis, modes_of_basis
from jaxmap.simulation.halo_tables import halo_table
from jaxmap.simulation.halos import OVERDENSITY
from jaxmap.simulation.lightcone import LightCone, cell_modes
from jaxmap.simulation.shells import Shells, lognormal_modes, make_shells

_MIN_RESIDUAL = 0.02  # of a shell's power stays with the lognormal matter, whatever haloes take


def build_light_cone(
    grid: Grid,
    redshifts: RedshiftDistribution | None = None,
    cosmology: Cosmology = PLANCK18,
    baryons: Baryons | None = Baryons(),  # noqa: B008 (frozen)
    *,
    min_mass: float = 1e12,
    shift: float = 0.75,
    smoothing: float = 0.5,
    truncation: float = 1.5,
    thickness: float = 150.0,
    scatter: HaloScatter = HaloScatter(),  # noqa: B008 (immutable)
    pixel_window: bool = True,
) -> LightCone:
    r"""Prepare `halo_light_cone` for a grid, sources and a cosmology; some seconds.

    The mean power of the maps is the non-linear power, times the baryons' suppression, times the
    pixel window: the shells get what the one-halo term leaves, and the last deviations (a shell
    without room, modes that no lognormal field can have) are divided out by a transfer function
    that follows from the same formulas; no map is measured.

    Args:
        grid: periodic grid of the maps; the simulator is flat, so at most 20 degrees wide.
        redshifts: n(z) of the sources; of COSMOS by default.
        cosmology: other ones than `PLANCK18` need colossus once (see `halo_table`).
        baryons: suppression of small scales, applied to whole maps as the ratio of the two Limber
            integrals; None for dark matter only.
        min_mass: least massive halo, Msun/h; lighter ones stay in the lognormal matter.
        shift: :math:`\lambda`, minus the lowest density contrast of a shell. It sets the skewness
            above the scale of haloes. The default, with that of ``smoothing``, was set so that the
            skewness of maps smoothed by 0.5 to 4 arcmin follows BiHalofit (Takahashi et al. 2020,
            ApJ 895, 113), for shells of 150 Mpc/h: no independent check of that skewness.
        smoothing: radius in Mpc/h (Gaussian) over which matter steers the haloes.
        truncation: of haloes, in units of r200m, where the profile leaves NFW.
        thickness: of the shells in Mpc/h.
        scatter: spread of concentrations (0.16 dex: Diemer & Kravtsov 2015) and of axis ratios.
        pixel_window: whether a pixel holds the mean over its area or the value at its centre.

    Raises:
        ValueError: for a grid too wide to be flat or too large for the memory, masses or lengths
            out of range, or sources beyond the tables or too near.
        ImportError: for a cosmology without a table of haloes when colossus is not installed.

    References:
        Baltz, Marshall & Oguri (2009), JCAP 01, 015; Hilbert, Hartlap & Schneider (2011), A&A 536,
        A85; Cooray & Sheth (2002), Phys. Rep. 372, 1.
    """
    redshifts = cosmos_redshifts() if redshifts is None else redshifts
    _check(grid, min_mass, shift, smoothing, truncation, thickness)
    matter, table = matter_power(cosmology), halo_table(cosmology)
    _check_redshifts(redshifts, float(matter.z[-1]))
    shells = make_shells(matter, redshifts, thickness, float(table.z[-1]))
    if not np.all(shells.lensing_weight > 0):
        raise ValueError(
            "the sources lie so near that a shell has nothing to lens; expected n(z) to reach "
            f"beyond a distance of {shells.edges[-2]:.0f} Mpc/h"
        )
    middle_distance, middle_z = shells.middle
    population = halo_population(table, middle_z, min_mass)
    ell_modes = half_plane_ell(grid)
    max_ell = float(np.abs(ell_modes).max())
    basis = halo_basis(max_ell, truncation)

    density = CRITICAL_DENSITY * cosmology.omega_m
    step = float(np.diff(shells.edges).min() / 16)
    nodes = step * np.arange(1, int(shells.edges[-1] / step) + 3)
    kernel = np.interp(nodes, shells.distance.ravel(), shells.kernel.ravel())
    halo_weight = np.append(0, kernel / (density * nodes**2 * grid.pixel_sr))
    log_mean_density = math.log(4 * math.pi / 3 * OVERDENSITY * density)
    mean, square = halo_moments(shells, population, basis, scatter, density, log_mean_density)

    min_ell = float(np.abs(ell_modes[ell_modes != 0]).min())
    ell = np.geomspace(0.5 * min_ell, 1.01 * max_ell, 400)
    functions = np.stack(
        [np.interp(np.log(ell), basis.log_ell, row) for row in np.asarray(basis.functions, float)]
    )
    one_halo = np.einsum("kl,skm,ml->sl", functions, square, functions)
    power = shells.power(matter, ell)
    residual = np.maximum(power - one_halo, _MIN_RESIDUAL * power)
    amplitude, variance, achieved = _matter_modes(shells, ell, residual, shift, grid)

    target = np.asarray(limber_power(matter, redshifts, ell), float)
    if baryons is not None:
        target = target * shells.power(matter, ell, baryons).sum(axis=0) / power.sum(axis=0)
    expected = achieved + _at_modes(ell, one_halo.sum(axis=0), ell_modes)
    transfer = np.sqrt(_at_modes(ell, target, ell_modes) / expected)
    if pixel_window:
        half = grid.pixel_sr**0.5 / (2 * np.pi)
        transfer = transfer * np.sinc(half * ell_modes.real) * np.sinc(half * ell_modes.imag)
    transfer[0, 0] = 0

    block = 2 if grid.shape[0] % 2 == grid.shape[1] % 2 == 0 and grid.pixel_arcmin < 0.5 else 1
    angle = smoothing / middle_distance
    volume = np.diff(shells.edges**3) / 3 * grid.pixel_sr * block**2
    count = np.asarray(population.number, float).sum(axis=1) * volume * (grid.num_pixels / block**2)
    return LightCone(
        amplitude=jnp.asarray(amplitude, float),
        variance=jnp.asarray(variance, float),
        weight=jnp.asarray(shells.lensing_weight, float),
        edges=jnp.asarray(np.stack([shells.edges[:-1], shells.edges[1:]], axis=1), float),
        shift=jnp.asarray(shift, float),
        smoothing=jnp.asarray(angle, float),
        smooth_variance=jnp.asarray(_smooth_variance(amplitude, angle, grid, block), float),
        cell_volume=jnp.asarray(volume, float),
        population=population,
        scatter=scatter,
        expected=jnp.asarray(mean * block**2, float),
        halo_weight=jnp.asarray(halo_weight, float),
        distance_step=jnp.asarray(step, float),
        log_mean_density=jnp.asarray(log_mean_density, float),
        basis=basis,
        profile_modes=modes_of_basis(basis, grid),
        transfer=jnp.asarray(transfer, float),
        grid=Grid(grid.shape, grid.pixel_arcmin),
        block=block,
        capacity=(_slots(count.max()), _slots(count.sum())),
    )


def _slots(mean: float) -> int:
    """Room for a mean number of haloes: 8 Poisson deviations, and a fifth for their clustering."""
    return math.ceil(1.2 * mean + 8 * math.sqrt(mean) + 100)


def _matter_modes(
    shells: Shells, ell: np.ndarray, residual: np.ndarray, shift: float, grid: Grid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amplitudes and variances of the Gaussian fields, and the convergence power of all shells."""
    modes = half_plane_ell(grid)
    amplitude = np.empty((len(residual), *modes.shape), np.float32)
    variance = np.empty(len(residual))
    total = np.zeros(modes.shape)
    # White modes of unit variance per part: 1/2 of the modes' variance each, and twice that in the
    # columns whose antisymmetric part irfft2 drops.
    scale = np.full(modes.shape[1], 0.5)
    scale[0] = 1.0
    if grid.shape[1] % 2 == 0:
        scale[-1] = 1.0
    for number, weight in enumerate(shells.lensing_weight):
        power = _at_modes(ell, residual[number] / weight**2, modes)
        gaussian, achieved = lognormal_modes(power, shift, grid.pixel_sr, grid.shape)
        amplitude[number] = np.sqrt(gaussian * scale * grid.num_pixels)
        variance[number] = np.fft.irfft2(gaussian, grid.shape)[0, 0]
        total += weight**2 * achieved
    return amplitude, variance, total


def _smooth_variance(
    amplitude: np.ndarray, angle: np.ndarray, grid: Grid, block: int
) -> np.ndarray:
    """Variance of the Gaussian fields in cells, smoothed over an angle; shape ``(S,)``."""
    rows, columns, ell, phase = cell_modes(grid, block)
    # Every column stands for its mirror image too, but for the first (and an even grid's last),
    # whose amplitudes are larger by sqrt(2): the sum is the same.
    kept = amplitude[:, rows, :columns].astype(float) ** 2 * np.abs(phase) ** 2
    last = columns - 1 if block == 1 and grid.shape[1] % 2 == 0 else None
    share = np.full(columns, 4.0)
    share[0] = 1.0
    if last is not None:
        share[last] = 1.0
    window = np.exp(-((ell[None] * angle[:, None, None]) ** 2))
    return np.sum(kept * share * window, axis=(1, 2)) / grid.num_pixels**2


def _at_modes(ell: np.ndarray, values: np.ndarray, modes: np.ndarray) -> np.ndarray:
    """A positive table of multipoles, log-log, at the modes; the monopole gets the lowest one's."""
    at = np.log(np.maximum(np.abs(modes), ell[0]))
    return np.exp(np.interp(at, np.log(ell), np.log(values)))


def _check(
    grid: Grid, min_mass: float, shift: float, smoothing: float, truncation: float, thickness: float
) -> None:
    check_flat(grid, "the grid")
    # Measured; most of it are the amplitudes of some 35 shells and as many maps of points.
    needed = 0.7 * 2**30 + 118 * jnp.zeros(()).dtype.itemsize * grid.num_pixels
    check_memory(
        needed,
        f"a light cone of {grid.shape} pixels",
        "simulate smaller fields, or larger pixels",
    )
    limits = {
        "min_mass": (min_mass, 1e11, 1e15),
        "shift": (shift, 0.1, 2.0),
        "smoothing": (smoothing, 0.05, 20.0),
        "truncation": (truncation, 0.3, 10.0),
        "thickness": (thickness, 40.0, 500.0),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ValueError(f"{name} is {value:g}; expected a number from {low:g} to {high:g}")


def _check_redshifts(redshifts: RedshiftDistribution, end: float) -> None:
    last = float(np.asarray(redshifts.z)[np.asarray(redshifts.density) > 0].max())
    if last > end:
        raise ValueError(
            f"n(z) reaches redshift {last:g}; expected sources up to {end:g}, where the table of "
            "P(k, z) ends (cut the tail of n(z))"
        )
