"""What haloes add up to on average: the power of maps that is theirs, without making any."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxmap.simulation.halo_drawing import HaloPopulation, HaloScatter
from jaxmap.simulation.halo_painting import NUM_ROUND, HaloBasis, coefficients
from jaxmap.simulation.shells import Shells


def halo_moments(
    shells: Shells,
    population: HaloPopulation,
    basis: HaloBasis,
    scatter: HaloScatter,
    density: float,
    log_mean_density: float,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Expected sums over the haloes of a steradian of :math:`w a_k` and :math:`w^2 a_k a_m`.

    Averages over mass, distance, concentration and (for the quadrupoles, whose orientations leave
    no mean) axis ratio.

    Returns:
        Mean, shape ``(S, G, K)``; square, shape ``(S, K + Q, K + Q)``, without the products of
        round and quadrupole, whose average is zero.
    """
    num_shells, num_groups, num_bins = population.decay.shape
    until = np.asarray(population.until_bin, float)
    fraction = np.diff(until, axis=-1, prepend=0.0)
    decay = np.asarray(population.decay, float)
    # Masses at quantiles of a bin, as `draw_haloes` finds them.
    quantile = (np.arange(4) + 0.5) / 4
    part = -np.log1p(quantile * np.expm1(-decay)[..., None]) / decay[..., None]
    log_mass = np.asarray(population.log_mass, float)
    width = log_mass[1] - log_mass[0]
    mass = log_mass[:-1].reshape(num_groups, num_bins)[None, ..., None] + width * part
    log_c = np.asarray(population.log_concentration, float)
    low = log_c[:, :-1].reshape(num_shells, num_groups, num_bins, 1)
    high = log_c[:, 1:].reshape(num_shells, num_groups, num_bins, 1)
    median = low * (1 - part) + high * part
    deviate, probability = np.polynomial.hermite_e.hermegauss(7)
    probability = probability / probability.sum()
    stretch = _mean_square_stretch(scatter)
    num_functions = basis.functions.shape[0]
    mean = np.zeros((num_shells, num_groups, NUM_ROUND))
    square = np.zeros((num_shells, num_functions, num_functions))
    number = np.asarray(population.number, float)[..., None] * fraction
    for node in range(shells.distance.shape[1]):
        distance = shells.distance[:, node].reshape(-1, 1, 1, 1)
        volume = (shells.node_weight[:, node] * shells.distance[:, node] ** 2).reshape(-1, 1, 1, 1)
        kernel = shells.kernel[:, node].reshape(-1, 1, 1, 1)
        weight = kernel * np.exp(mass) / (density * distance**2)
        log_radius = (mass - log_mean_density) / 3 - np.log(distance)
        for x, p in zip(deviate, probability, strict=True):
            concentration = median + scatter.log_concentration * x
            values = np.asarray(
                coefficients(
                    basis,
                    jnp.asarray(log_radius - concentration, float),
                    jnp.asarray(concentration, float),
                ),
                float,
            )
            values = values * weight[..., None]
            count = number[..., None] * volume * (p / quantile.size)
            mean += np.einsum("sgbq,sgbqk->sgk", count, values[..., :NUM_ROUND])
            values = values * np.sqrt(count)[..., None]
            flat = values.reshape(num_shells, -1, num_functions)
            product = np.matmul(flat.transpose(0, 2, 1), flat)
            square[:, :NUM_ROUND, :NUM_ROUND] += product[:, :NUM_ROUND, :NUM_ROUND]
            # Half for the mean square of the cosine, a quarter for the factor 1/2 squared.
            square[:, NUM_ROUND:, NUM_ROUND:] += stretch / 8 * product[:, NUM_ROUND:, NUM_ROUND:]
    return mean, square


def _mean_square_stretch(scatter: HaloScatter) -> float:
    """Mean of eta^2 over the clipped normal distribution of axis ratios."""
    x, weight = np.polynomial.hermite_e.hermegauss(40)
    ratio = np.clip(scatter.axis_ratio + scatter.axis_ratio_spread * x, 0.3, 1.0)
    return float(np.sum(weight * np.log(ratio) ** 2) / weight.sum())
