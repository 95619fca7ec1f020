"""The jackknife: the E mode without one block of the field after the other."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.likelihood import apply_weight, weighted_mean
from jaxmap.operators import convergence_from_shear


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
        centred = shear.shear - weighted_mean(kept, shear.shear)
        field = apply_weight(kept, jnp.where(shear.mask, centred, 0))
        modes = convergence_from_shear(field, shear.grid)
        difference = (
            jnp.abs(jnp.fft.fft2(modes.real, norm="ortho")) ** 2
            - jnp.abs(jnp.fft.fft2(modes.imag, norm="ortho")) ** 2
        )
        area = jnp.mean(jnp.mean(kept, axis=0) ** 2)
        sums = jax.ops.segment_sum(difference.ravel(), band.ravel(), num_bands + 1)[:-1]
        return sums * shear.grid.pixel_sr / area

    return jax.lax.map(without, jnp.arange(-1, num_blocks))
