r"""Tests of accuracy with random points (TARP): coverage of balls around reference maps.

With a reference :math:`\kappa_r`, the rank of the truth's distance among the samples' distances
is uniform where the posterior is right. Were the references independent of the data, the prior
itself would pass as posterior; here they are

.. math:: \kappa_r = \hat\kappa_W(\gamma) + a\, g, \qquad a \sim U(0, 1), \quad
          g \sim N(0, S)

drawn anew for every field: around the Wiener map of its data, of which everybody can make one, at a
random part of the prior's spread. Near references (a of 0) see the width of the posterior in all
pixels at once and a prior that is passed off as posterior; far ones see its shift along one
direction.

References:
    Lemos et al. (2023), ICML, arXiv:2302.03026.
"""

from __future__ import annotations

import jax
import numpy as np
from numpy.typing import NDArray

from jaxmap.calibration.ranks import Floats
from jaxmap.grid import Grid
from jaxmap.simulation.fields import gaussian_field
from jaxmap.spectra import PowerSpectrum

BOUND, SURE = 1.36, 1.82
"""Times 1/sqrt(n): deviations that chance exceeds in 5 % and in 0.27 % of cases (Kolmogorov)."""


def reference_map(
    key: jax.Array, wiener: jax.Array, spectrum: PowerSpectrum, grid: Grid
) -> jax.Array:
    """A reference for one field, shape ``(ny, nx)``.

    Args:
        key: PRNG key of the field.
        wiener: Wiener map of the field's data.
        spectrum: power spectrum of the convergence.
        grid: pixel grid.
    """
    key_size, key_field = jax.random.split(key)
    size = jax.random.uniform(key_size, (), wiener.dtype)
    return wiener + size * gaussian_field(key_field, spectrum, grid)


def distances(maps: Floats, reference: Floats, region: NDArray[np.bool_]) -> Floats:
    """Root mean square distance of maps ``(n, ny, nx)`` from a reference, in a region."""
    return np.array([np.sqrt(np.mean((one[region] - reference[region]) ** 2)) for one in maps])


def expected_coverage(positions: Floats, levels: Floats) -> Floats:
    """Share of fields whose truth is nearer to the reference than a share ``level`` of samples.

    Args:
        positions: ranks of the truth's distance, spread on 0 to 1, one for each field.
        levels: credibility levels, 0 to 1.

    Returns:
        Of the shape of ``levels``; equal to them, but for chance, in a calibrated posterior.
    """
    return np.searchsorted(np.sort(positions), levels, side="right") / len(positions)


def largest_deviation(positions: Floats) -> float:
    r""":math:`\max_\alpha |\mathrm{ECP}(\alpha) - \alpha|`, over all levels."""
    ordered, num = np.sort(positions), len(positions)
    steps = np.arange(num + 1) / num
    return float(max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))
