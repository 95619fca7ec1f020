"""Are there B modes, beyond those that noise and the mask make?"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.likelihood import apply_weight
from jaxmap.null_tests.skies import (
    check_realisations,
    observed_skies,
    on_small_grid,
    prior_skies,
    sky_chunk,
    sky_keys,
    wiener_maps,
)
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance

GENEROUS = 100.0
"""Power of E modes that the filter allows for, in units of the prior's."""


class BModes(NamedTuple):
    """Power of B modes against skies without any.

    Attributes:
        p_value: share of the skies, the data among them, with as much power or more.
        excess: of the data over the skies' mean, in units of the skies' scatter.
        ratio: of the data to the skies' mean.
        num: skies simulated.
    """

    p_value: float
    excess: float
    ratio: float
    num: int


def b_mode_test(
    key: jax.Array,
    shear: ShearMap,
    spectrum: PowerSpectrum,
    num: int = 50,
    margin: int | None = None,
) -> BModes:
    r"""Do the data hold more B modes than noise and leakage make?

    .. math:: q(\gamma) = \sum_\ell S_\ell\, |F\, \mathrm{Im}\, A^\dagger r|^2, \qquad
              r = C^{-1} \gamma = W (\gamma - A\, \mathrm{WF}[\gamma]), \qquad
              C = 100\, A S A^\dagger + W^{-1}

    the score test for B modes with the spectrum of the prior, S, on top of noise and of E modes
    with a hundred times that power (`GENEROUS`): the inverse covariance takes E modes out as far as
    they can be told from B modes in the mask, so that q hardly sees the leakage of E into B,
    whatever the E modes. Its law without B modes is simulated: skies from the Gaussian posterior of
    these very data (prior S), with new noise of the survey's weights, through the same filter,

    .. math:: \gamma_i = A \kappa_i + n_i, \quad \kappa_i \sim p(\kappa \mid \gamma), \qquad
              p = \frac{1 + \#\{i : q(\gamma_i) \ge q(\gamma)\}}{1 + N}

    so that what leakage is left is in the simulations too, of the haloes where they are. If the
    noise is as the weights say, p is uniform on 1/(N + 1) ... 1, up to the difference in leakage
    between true and simulated E modes. Noise larger than the weights tell raises q as well (see
    `noise_test`), and so does mass outside the field with a margin of 0, or shear far from weak.

    Args:
        key: PRNG key.
        shear: the observed shear.
        spectrum: prior power spectrum of the convergence; also where B modes are looked for.
        num: skies N; no p below 1 / (N + 1) can be found.
        margin: masked pixels around the field; None for the default, 0 for a periodic field, which
            is averaged only by as much as divides its sides.

    Raises:
        ValueError: for fewer than 19 skies.

    References:
        Rao (1948), Proc. Camb. Phil. Soc. 44, 50 (score test); Davison & Hinkley (1997), Bootstrap
        Methods and their Application, Sect. 4.2 (p-values by simulation).
    """
    check_realisations(num)
    padded = on_small_grid(shear, margin)
    prior = GaussianPrior(mode_variance(spectrum, padded.grid))
    generous = GaussianPrior(GENEROUS * prior.variance)
    mean = wiener_maps(padded.shear[None], padded, prior)

    def powers(shears: jax.Array) -> np.ndarray:
        wiener = wiener_maps(shears, padded, generous)
        return np.asarray(_b_power(shears, wiener, padded, prior), float)

    observed = float(powers(padded.shear[None])[0])
    found: list[float] = []
    chunk = sky_chunk()
    for start in range(0, num, chunk):
        # Filled up at the end, so that one compiled program serves all.
        key_sky, key_first, key_second = sky_keys(key, start, chunk)
        sky = prior_skies(key_sky, prior)
        sky = mean + sky - wiener_maps(observed_skies(key_first, sky, padded), padded, prior)
        found.extend(powers(observed_skies(key_second, sky, padded)))
    skies = np.array(found[:num])
    return BModes(
        p_value=float(1 + np.sum(skies >= observed)) / (1 + num),
        excess=float((observed - skies.mean()) / skies.std(ddof=1)),
        ratio=float(observed / skies.mean()),
        num=num,
    )


@jax.jit
def _b_power(
    shears: jax.Array, wiener: jax.Array, data: ShearMap, prior: GaussianPrior
) -> jax.Array:
    """The statistic q of `b_mode_test`, from filtered maps, shape ``(n,)``."""

    def one(shear: jax.Array, sky: jax.Array) -> jax.Array:
        residual = apply_weight(data.weight, shear - shear_from_convergence(sky, data.grid))
        b_mode = convergence_from_shear(residual, data.grid).imag
        modes = prior.amplitude * jnp.fft.fft2(b_mode, norm="ortho")
        return jnp.sum(jnp.abs(modes) ** 2)

    return jax.vmap(one)(shears, wiener)
