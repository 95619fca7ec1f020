"""Is the noise what the weights say? From a map without signal, and from residuals."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators import pad_shear
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap


class Estimated(NamedTuple):
    """A value with its standard error."""

    value: float
    error: float


def random_sign_map(
    key: jax.Array,
    catalog: ShearCatalog,
    grid: Grid,
    shape_noise: float | tuple[float, float] | None = None,
) -> ShearMap:
    r"""Half the difference of two random halves of the galaxies, weighted as the map is.

    .. math:: \gamma_p = \frac{\sum_{i \in p} s_i w_i e_i}{\sum_{i \in p} w_i}, \qquad s_i = \pm 1

    Lensing and every other mean drop out, and noise of the variance that the weights tell stays.

    Args:
        key: PRNG key of the signs.
        catalog, grid, shape_noise: as in `jaxmap.binning.bin_shear`.
    """
    signs = np.asarray(jax.random.rademacher(key, (len(catalog),)), float)
    return bin_shear(replace(catalog, ellipticity=signs * catalog.ellipticity), grid, shape_noise)


def noise_test(null: ShearMap) -> Estimated:
    r"""Chi-squared per observed component of a map without signal; 1 if the weights are right.

    .. math:: N_\mathrm{obs}^{-1} \sum_{p,a} w_{a,p} \gamma_{a,p}^2

    Args:
        null: of `random_sign_map`, or another that holds noise alone.

    Returns:
        The value, and its error from the scatter over the components (of few galaxies each, they
        need not be Gaussian).
    """
    weight = np.asarray(null.weight, float)
    parts = np.stack([np.asarray(null.shear.real), np.asarray(null.shear.imag)])
    squares = (weight * parts**2)[weight > 0]
    return Estimated(float(squares.mean()), float(squares.std() / np.sqrt(len(squares))))


def residual_chi2(result: MassMap, shear: ShearMap, margin: int | None = None) -> float:
    """`jaxmap.diagnostics.chi2_per_pixel` of a map on the field, no mass assumed outside.

    Noise alone leaves 1; a map that smooths leaves signal too, and one that follows the data
    closely takes noise away. For posterior samples, which should leave 1, see the
    ``diagnostics`` of their map.
    """
    padded, taken = pad_shear(shear, margin)
    return float(_chi2(jnp.pad(result.convergence, taken), padded))


_chi2 = jax.jit(chi2_per_pixel)
