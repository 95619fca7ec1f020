"""Is there as much lensing in the data as the prior expects?"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.gaussian_posterior import turned
from jaxmap.grid import Grid
from jaxmap.null_tests.skies import (
    check_realisations,
    observed_skies,
    on_small_grid,
    prior_skies,
    sky_chunk,
    sky_keys,
    wiener_maps,
)
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance


class ShearPower(NamedTuple):
    """Power of the lensing in data over that of the prior.

    Attributes:
        ratio: 1 where the prior is that of the sky.
        error: its standard deviation among Gaussian skies of the prior. Above 0.5, or negative,
            where data tell nothing: of few galaxies, or so far beyond the depth of surveys (noise
            of a pixel below 0.005) that what leaks through a mask is all there is.
        num: skies simulated.
    """

    ratio: float
    error: float
    num: int


def power_test(
    key: jax.Array,
    shear: ShearMap,
    spectrum: PowerSpectrum,
    num: int = 50,
    margin: int | None = None,
) -> ShearPower:
    r"""How large is the power of the lensing in the data, in units of the prior's?

    .. math:: q(\gamma) = \sum_\ell \frac{|\mathrm{WF}[\gamma]_\ell|^2 -
              |\mathrm{WF}[-i\gamma]_\ell|^2}{S_\ell}, \qquad
              \hat A = \frac{q(\gamma)}{\langle q(\gamma_i) \rangle}, \qquad
              \sigma = \frac{\mathrm{std}\, q(\gamma_i)}{\langle q(\gamma_i) \rangle}

    The first term is the quadratic estimator of least variance of the amplitude of S, for Gaussian
    skies that are known to be near it; the second, of the shear turned by 45 degrees, takes off
    what noise adds, whatever the weights say of it, since noise has no preferred mode. The
    :math:`\gamma_i` are skies of the prior with the mask and noise of the data, so that leakage
    between the modes is in both. Skies of haloes scatter half as much again as Gaussian ones
    (``experiments/shear_power.py``).

    A ratio far from 1 tells of another n(z), cosmology or multiplicative bias than the prior's, or
    of an unusual field, such as one about a cluster: `jaxmap.estimators.Wiener`, and networks, then
    expect more or less structure than there is.

    Args:
        key: PRNG key.
        shear: the observed shear.
        spectrum: prior power spectrum of the convergence.
        num: skies.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.

    Raises:
        ValueError: for fewer than 19 skies.

    References:
        Hamilton (1997), MNRAS 289, 285 (quadratic estimators).
    """
    check_realisations(num)
    data = on_small_grid(shear, margin)
    variance = mode_variance(spectrum, data.grid) * _pixel_window(data.grid)
    prior = GaussianPrior(variance)

    def excess(shears: jax.Array) -> np.ndarray:
        found = [
            _whitened_power(wiener_maps(fields, observed, prior), prior)
            for fields, observed in ((shears, data), (-1j * shears, turned(data)))
        ]
        return np.asarray(found[0] - found[1], float)

    skies: list[float] = []
    chunk = sky_chunk()
    for start in range(0, num, chunk):
        key_sky, key_noise, _ = sky_keys(key, start, chunk)
        skies.extend(excess(observed_skies(key_noise, prior_skies(key_sky, prior), data)))
    expected = np.mean(skies[:num])
    return ShearPower(
        ratio=float(excess(data.shear[None])[0] / expected),
        error=float(np.std(skies[:num], ddof=1) / expected),
        num=num,
    )


@jax.jit
def _whitened_power(maps: jax.Array, prior: GaussianPrior) -> jax.Array:
    """Sum over modes of power over the prior's, shape ``(n,)``; modes without a prior left out."""
    known = (prior.variance > 0) & jnp.isfinite(prior.variance)
    share = jnp.where(known, 1 / jnp.where(known, prior.variance, 1), 0)
    return jax.vmap(lambda one: jnp.sum(share * jnp.abs(jnp.fft.fft2(one, norm="ortho")) ** 2))(
        maps
    )


def _pixel_window(grid: Grid) -> jax.Array:
    """Square of what the mean over a pixel leaves of every mode, shape ``(ny, nx)``."""
    rows, columns = (jnp.sinc(jnp.fft.fftfreq(n)) for n in grid.shape)
    return (rows[:, None] * columns[None, :]) ** 2
