"""Null tests: what should vanish in shear that holds lensing and noise alone, for every method.

Pure functions of the data; `run_null_tests` calls them all and gives figures as JSON can hold them,
for `MassMap.diagnostics`. They look for B modes (systematics, a wrong sign of one component), for
noise that the weights do not tell, and for a signal that comes from one place.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators import pad_shear
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight
from jaxmap.massmap import MassMap
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
        margin: masked pixels around the field; None for the default, 0 for a periodic field.

    Raises:
        ValueError: for fewer than 19 skies.

    References:
        Rao (1948), Proc. Camb. Phil. Soc. 44, 50 (score test); Davison & Hinkley (1997), Bootstrap
        Methods and their Application, Sect. 4.2 (p-values by simulation).
    """
    check_realisations(num)
    data = averaged(shear, LARGEST_SIDE)
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
        keys = jax.vmap(partial(jax.random.fold_in, key))(start + jnp.arange(chunk))
        key_sky, key_first, key_second = (one for one in jax.vmap(_three)(keys))
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


def _three(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    first, second, third = jax.random.split(key, 3)
    return first, second, third


@jax.jit
def _skies(keys: jax.Array, prior: GaussianPrior) -> jax.Array:
    return jax.vmap(prior.sample)(keys)


@jax.jit
def _observed(keys: jax.Array, skies: jax.Array, data: ShearMap) -> jax.Array:
    """Shear of skies with the mask and noise of the data, ``(n, ny, nx)``."""
    seen = data.weight > 0
    std = jnp.where(seen, 1 / jnp.sqrt(jnp.where(seen, data.weight, 1)), 0)

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


def averaged(shear: ShearMap, largest: int) -> ShearMap:
    """Shear in larger pixels, so that no side has more than ``largest``; the map itself if it has
    not. Pixels beyond the last whole one are filled up with masked ones."""
    factor = -(-max(shear.grid.shape) // largest)
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


def check_realisations(num: int) -> None:
    """Refuse a number of skies that cannot tell anything."""
    if num < FEWEST_SKIES:
        raise ValueError(
            f"the number of skies for null tests is {num}; expected at least {FEWEST_SKIES}, whose "
            "least p-value is 0.05 (--null-tests; 0 for no null tests)"
        )


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


class Jackknife(NamedTuple):
    """Excess of E over B power with its error from leaving out one block of the field at a time.

    Attributes:
        ell: mean multipole of every band, shape ``(n,)``.
        power: E minus B pseudo-power in steradians, noise and mean gone, ``(n,)``; not corrected
            for the mask.
        error: standard error of ``power``.
        total: excess of all bands over its own error.
        without: that excess without each of the blocks, as a share of the whole, ``(num_blocks,)``;
            one far below the others is where the signal comes from.
    """

    ell: np.ndarray
    power: np.ndarray
    error: np.ndarray
    total: float
    without: np.ndarray


def jackknife(
    shear: ShearMap, num_sides: int = 4, num_bands: int = 4, ell_max: float = 6000.0
) -> Jackknife:
    r"""Is the E mode there all over the field, and how sure is it by the field's own scatter?

    .. math:: P_b = \langle |\tilde E|^2 - |\tilde B|^2 \rangle_b\, \Omega_\mathrm{pix} /
              \langle \bar w^2 \rangle, \qquad
              \mathrm{Var} = \frac{K - 1}{K} \sum_k (P_{(k)} - \bar P)^2

    of the weighted shear (:math:`\bar w` the mean weight of the two components, the weighted mean
    of the shear removed), and of the same without block k. The noise is in E and in B alike and
    drops out; its level is not used. A significantly negative excess is a B mode.

    Args:
        shear: the observed shear.
        num_sides: the field is cut in as many strips of equal observed area, each in as many
            blocks: K is its square.
        num_bands: bands of equal width in log ell.
        ell_max: highest multipole used.

    References:
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, Chap. 11; Norberg et al.
        (2009), MNRAS 396, 19 (blocks: errors tend to be a little too large).
    """
    blocks = _blocks(np.asarray(shear.mask), num_sides)
    ell = np.abs(np.asarray(shear.grid.ell(shear.weight.dtype)))
    highest = min(ell_max, float(np.pi / np.sqrt(shear.grid.pixel_sr)))
    edges = np.geomspace(
        ell[ell > 0].min() * 0.999, max(highest, 1.001 * ell[ell > 0].min()), num_bands + 1
    )
    band = np.digitize(ell, edges) - 1
    band = np.where((band < 0) | (band >= num_bands), num_bands, band)
    count = np.bincount(band.ravel(), minlength=num_bands + 1)[:num_bands]
    used = count > 0
    powers = np.asarray(
        _delete_one(shear, jnp.asarray(blocks), jnp.asarray(band), num_sides**2, num_bands), float
    )
    sums = np.append(powers[:, used], powers[:, used].sum(axis=1, keepdims=True), axis=1)
    left_out = sums[1:]
    num = len(left_out)
    deviations = left_out - left_out.mean(axis=0)
    error = np.sqrt((num - 1) / num * np.sum(deviations**2, axis=0))
    mean_ell = np.bincount(band.ravel(), ell.ravel(), minlength=num_bands + 1)[:num_bands][used]
    whole = sums[0]
    return Jackknife(
        ell=mean_ell / count[used],
        power=whole[:-1] / count[used],
        error=error[:-1] / count[used],
        total=float(whole[-1] / error[-1]) if error[-1] > 0 else 0.0,
        without=left_out[:, -1] / whole[-1] if whole[-1] else np.ones(num),
    )


def _blocks(mask: np.ndarray, num_sides: int) -> np.ndarray:
    """Number of the block of every pixel, blocks of about equal observed area."""

    def strips(observed: np.ndarray) -> np.ndarray:
        share = (np.cumsum(observed) - observed / 2) / max(observed.sum(), 1)
        return np.minimum((share * num_sides).astype(int), num_sides - 1)

    row = strips(mask.sum(axis=1))
    block = np.zeros(mask.shape, int)
    for strip in range(num_sides):
        inside = row == strip
        if inside.any():
            block[inside] = strip * num_sides + strips(mask[inside].sum(axis=0))
    return block


@partial(jax.jit, static_argnums=(3, 4))
def _delete_one(
    shear: ShearMap, blocks: jax.Array, band: jax.Array, num_blocks: int, num_bands: int
) -> jax.Array:
    """Summed band powers of all, then without each block, shape ``(1 + num_blocks, num_bands)``."""
    weight = shear.weight / jnp.max(shear.weight)

    def without(number: jax.Array) -> jax.Array:
        kept = jnp.where(blocks == number, 0, weight)
        means = jnp.sum(apply_weight(kept, shear.shear)) / jnp.mean(jnp.sum(kept, axis=(1, 2)))
        field = apply_weight(kept, jnp.where(shear.mask, shear.shear - means, 0))
        modes = convergence_from_shear(field, shear.grid)
        difference = (
            jnp.abs(jnp.fft.fft2(modes.real, norm="ortho")) ** 2
            - jnp.abs(jnp.fft.fft2(modes.imag, norm="ortho")) ** 2
        )
        area = jnp.mean(jnp.mean(kept, axis=0) ** 2)
        sums = jax.ops.segment_sum(difference.ravel(), band.ravel(), num_bands + 1)[:-1]
        return sums * shear.grid.pixel_sr / area

    return jax.lax.map(without, jnp.arange(-1, num_blocks))


def residual_chi2(result: MassMap, shear: ShearMap, margin: int | None = None) -> float:
    """`jaxmap.diagnostics.chi2_per_pixel` of a map on the field, no mass assumed outside.

    Noise alone leaves 1; a map that smooths leaves signal too, and one that follows the data
    closely takes noise away. For posterior samples, which should leave 1, see the
    ``diagnostics`` of their map.
    """
    padded, taken = pad_shear(shear, margin)
    return float(_chi2(jnp.pad(result.convergence, taken), padded))


_chi2 = jax.jit(chi2_per_pixel)


def run_null_tests(
    key: jax.Array,
    shear: ShearMap,
    result: MassMap,
    spectrum: PowerSpectrum,
    *,
    num: int = 50,
    margin: int | None = None,
    null: ShearMap | None = None,
) -> MassMap:
    """The map with all null tests in its diagnostics, under ``null_tests``.

    Args:
        key: PRNG key.
        shear: the observed shear.
        result: its map, by any method.
        spectrum: prior power spectrum of the convergence.
        num: skies that B modes are compared with.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        null: a map of the same survey without signal (`random_sign_map`), where there is one.
    """
    found = jackknife(shear)
    figures: dict[str, Any] = {
        "b_modes": b_mode_test(key, shear, spectrum, num, margin)._asdict(),
        "jackknife": {
            name: values.tolist() if isinstance(values, np.ndarray) else values
            for name, values in found._asdict().items()
        },
        "residual_chi2": residual_chi2(result, shear, margin),
    }
    if null is not None:
        figures["noise_chi2"] = noise_test(null)._asdict()
    return replace(result, diagnostics={**result.diagnostics, "null_tests": figures})
