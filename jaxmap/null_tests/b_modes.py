"""Are there B modes, beyond those that noise and the mask make?"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.estimators import pad_shear
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight, noise_std
from jaxmap.operators import convergence_from_shear, shear_from_convergence, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance

LARGEST_SIDE = 200
"""Pixels of the grid that B modes are looked for on; larger maps are averaged to it first."""

GENEROUS = 100.0
"""Power of E modes that the filter allows for, in units of the prior's."""

FEWEST_SKIES = 19

TOLERANCE = 1e-3
"""Of the Wiener filters here, for data and simulations alike."""


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
    data = averaged(shear, LARGEST_SIDE, periodic=margin == 0)
    if data is not shear and margin:
        margin = -(-margin * data.grid.shape[0] // shear.grid.shape[0])
    padded, _ = pad_shear(data, margin)
    prior = GaussianPrior(mode_variance(spectrum, padded.grid))
    generous = GaussianPrior(GENEROUS * prior.variance)
    mean = _filter(padded.shear[None], padded, prior)

    def powers(shears: jax.Array) -> np.ndarray:
        wiener = _filter(shears, padded, generous)
        return np.asarray(_b_power(shears, wiener, padded, prior), float)

    observed = float(powers(padded.shear[None])[0])
    found: list[float] = []
    chunk = 1 if jax.default_backend() == "cpu" else 10
    for start in range(0, num, chunk):
        # Filled up at the end, so that one compiled program serves all.
        key_sky, key_first, key_second = _keys(key, start, chunk)
        sky = _skies(key_sky, prior)
        sky = mean + sky - _filter(_observed(key_first, sky, padded), padded, prior)
        found.extend(powers(_observed(key_second, sky, padded)))
    skies = np.array(found[:num])
    return BModes(
        p_value=float(1 + np.sum(skies >= observed)) / (1 + num),
        excess=float((observed - skies.mean()) / skies.std(ddof=1)),
        ratio=float(observed / skies.mean()),
        num=num,
    )


@partial(jax.jit, static_argnums=2)
def _keys(key: jax.Array, start: int, chunk: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Three keys of each of some skies; those of a sky depend on its number alone."""

    def three(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        first, second, third = jax.random.split(jax.random.fold_in(key, number), 3)
        return first, second, third

    return jax.vmap(three)(start + jnp.arange(chunk))


@jax.jit
def _skies(keys: jax.Array, prior: GaussianPrior) -> jax.Array:
    return jax.vmap(prior.sample)(keys)


@jax.jit
def _observed(keys: jax.Array, skies: jax.Array, data: ShearMap) -> jax.Array:
    """Shear of skies with the mask and noise of the data, ``(n, ny, nx)``."""
    std = noise_std(data.weight)

    def one(key: jax.Array, sky: jax.Array) -> jax.Array:
        noise = std * jax.random.normal(key, std.shape, std.dtype)
        shear = shear_from_convergence(sky, data.grid) + jax.lax.complex(noise[0], noise[1])
        return jnp.where(data.mask, shear, 0)

    return jax.vmap(one)(keys, skies)


@jax.jit
def _filter(shears: jax.Array, data: ShearMap, prior: GaussianPrior) -> jax.Array:
    """Wiener maps of shears with the noise of the data, ``(n, ny, nx)``."""

    def one(shear: jax.Array) -> jax.Array:
        observed = replace(data, shear=shear)
        return solve_conjugate_gradient(observed, prior, spin2_phase, TOLERANCE)[0]

    return jax.vmap(one)(shears)


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


def averaged(shear: ShearMap, largest: int, periodic: bool = False) -> ShearMap:
    """Shear in larger pixels, so that no side has more than ``largest``; the map itself if it has
    not. Pixels beyond the last whole one are filled up with masked ones; a periodic map would not
    be periodic then, and is made as small as whole pixels make it."""
    factor = -(-max(shear.grid.shape) // largest)
    if periodic:
        factor = _dividing(math.gcd(*shear.grid.shape), factor)
    if factor == 1:
        return shear
    rows, columns = (-(-n // factor) for n in shear.grid.shape)
    ny, nx = shear.grid.shape
    around = ((0, rows * factor - ny), (0, columns * factor - nx))

    def sums(field: jax.Array) -> jax.Array:
        filled = jnp.pad(field, around)
        return filled.reshape(rows, factor, columns, factor).sum(axis=(1, 3))

    weight = jnp.stack([sums(plane) for plane in shear.weight])
    weighted = sums(apply_weight(shear.weight, shear.shear))
    safe = jnp.where(weight > 0, weight, 1)
    mean = jax.lax.complex(weighted.real / safe[0], weighted.imag / safe[1])
    return ShearMap(mean, weight, Grid((rows, columns), shear.grid.pixel_arcmin * factor))


def _dividing(side: int, factor: int) -> int:
    """The divisor of a side next above a factor, up to twice as large, or else next below it."""
    divisors = [each for each in range(1, 2 * factor + 1) if side % each == 0]
    return min((each for each in divisors if each >= factor), default=divisors[-1])


def check_realisations(num: int) -> None:
    """Refuse a number of skies that cannot tell anything."""
    if num < FEWEST_SKIES:
        raise ValueError(
            f"the number of skies for null tests is {num}; expected at least {FEWEST_SKIES}, whose "
            "least p-value is 0.05 (--null-tests; 0 for no null tests)"
        )
