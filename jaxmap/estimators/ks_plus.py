"""KS+: Kaiser-Squires with gaps and edges inpainted and the reduced shear undone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.fft import dctn, idctn

from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import inner, pad_shear, require_finite_maps
from jaxmap.massmap import MassMap
from jaxmap.operators import convergence_from_shear, gaussian_smooth, shear_from_convergence
from jaxmap.samplers import Draws
from jaxmap.starlet import from_starlet, most_scales, starlet

LEAST = 3.0
"""Last threshold of the inpainting, in standard deviations of the noise of a cosine."""


@dataclass(frozen=True)
class KSPlus:
    r"""Direct inversion whose gaps hold what makes the map sparsest in cosines.

    Where nothing was observed the shear is that of the current map, and the map's cosine transform
    is thresholded ever more gently, down to the noise,

    .. math::
        \kappa_{n+1} = \mathcal{W}\, \mathcal{D}^t\, \Theta_{\lambda_n} \mathcal{D}\, A^\dagger
        [M \gamma + (1 - M) A \kappa_n]

    with :math:`\Theta` a hard threshold, :math:`\mathcal{D}` the discrete cosine transform and
    :math:`\mathcal{W}` a scaling of the starlet bands that gives gaps the variance of the rest.
    Gaps, and the margin around the field, so keep their share of the signal instead of pulling
    their surroundings to zero; inside them the B mode is set to zero. What was observed is kept
    to the last bit. Smoothed by a Gaussian at the end, as Kaiser-Squires is. The inpainting is no
    estimate of what lies in the gaps, and depends on the data: it has no standard deviation here
    (`jaxmap.estimators.Resampled` gives one).

    Args:
        smoothing_arcmin: standard deviation of the final Gaussian in arcminutes; 0 for none.
        num_iterations: of the inpainting.
        num_corrections: how often to correct the reduced shear, :math:`\gamma = g (1 - \kappa)`,
            with the map found before; 0 to take the data for shear.
        margin: pixels around the field that are inpainted too; None for the default, 0 for a
            periodic field.

    Raises:
        ValueError: for negative numbers.
        FloatingPointError: if the map is not finite.

    References:
        Pires et al. (2020), A&A 638, A141; Pires et al. (2009), MNRAS 395, 1265.
    """

    smoothing_arcmin: float = 1.0
    num_iterations: int = 100
    num_corrections: int = 0
    margin: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing_arcmin < float("inf"):
            raise ValueError(
                f"smoothing is {self.smoothing_arcmin} arcmin; expected 0 (none) or more"
            )
        if self.num_iterations < 1 or self.num_corrections < 0:
            raise ValueError(
                f"num_iterations is {self.num_iterations} and num_corrections "
                f"{self.num_corrections}; expected 1 or more and 0 or more"
            )

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        del key
        padded, margin = pad_shear(shear, self.margin)
        smooth = partial(gaussian_smooth, grid=padded.grid, smoothing_arcmin=self.smoothing_arcmin)
        current = padded.shear
        watched: list[jax.Array] = []
        for correction in range(self.num_corrections + 1):
            data = replace(padded, shear=current)
            convergence, finite = inpaint(data, self.num_iterations)
            watched.append(finite)
            if correction < self.num_corrections:
                current = padded.shear * (1 - smooth(convergence).real)
        convergence = inner(smooth(convergence), margin)
        iterations = {"iteration": jnp.concatenate(watched)[None]}
        where = Draws(convergence.real[None], {}, iterations).broken_at
        require_finite_maps(convergence, where=where)
        return MassMap(
            convergence=convergence.real,
            grid=shear.grid,
            mask=shear.mask,
            b_mode=convergence.imag,
            counts=shear.counts,
        )


@partial(jax.jit, static_argnames="num_iterations")
def inpaint(data: ShearMap, num_iterations: int = 100) -> tuple[jax.Array, jax.Array]:
    r"""Convergence of a masked shear map, its gaps inpainted as `KSPlus` says.

    The last threshold is `LEAST` standard deviations of the noise of a cosine: a lower one would
    continue noise into the gaps.

    Args:
        data: observed shear.
        num_iterations: steps from the largest threshold to the last.

    Returns:
        Complex convergence, E + iB, whose shear is the given one where observed but for a constant;
        and whether it was finite after each step, shape ``(num_iterations,)``.
    """
    grid, mask = data.grid, data.mask
    known = jnp.where(mask, data.shear, 0)
    scales = most_scales(grid.shape, 60.0, grid.pixel_arcmin)
    first = _cosines(convergence_from_shear(known, grid))
    largest = jnp.max(jnp.abs(first))
    observed = data.weight > 0
    variance = jnp.mean(jnp.where(observed, 1 / jnp.where(observed, data.weight, 1), 0))
    least = jnp.minimum(LEAST * jnp.sqrt(variance), largest)

    def advance(convergence: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        filled = jnp.where(mask, known, shear_from_convergence(convergence, grid))
        cosines = _cosines(convergence_from_shear(filled, grid))
        # Falls as in morphological component analysis.
        fall = 1 - jax.scipy.special.erf(2.8 * (step + 1) / num_iterations)
        kept = jnp.where(jnp.abs(cosines) > least + (largest - least) * fall, cosines, 0)
        fields = idctn(kept, axes=(-2, -1), norm="ortho")
        pair = jnp.stack([_even_variance(field, mask, scales) for field in fields])
        after = jax.lax.complex(pair[0], jnp.where(mask, pair[1], 0))
        return after, jnp.all(jnp.isfinite(after))

    last, finite = jax.lax.scan(advance, jnp.zeros_like(known), jnp.arange(num_iterations))
    filled = jnp.where(mask, known, shear_from_convergence(last, grid))
    return convergence_from_shear(filled, grid), finite


def _cosines(convergence: jax.Array) -> jax.Array:
    pair = jnp.stack([convergence.real, convergence.imag])
    return dctn(pair, axes=(-2, -1), norm="ortho")


def _even_variance(field: jax.Array, mask: jax.Array, scales: int) -> jax.Array:
    """Scale the starlet bands in the gaps so that they vary as much as outside them."""
    *bands, smooth = starlet(field, scales)
    waves = jnp.stack(bands)

    def variance(where: jax.Array) -> jax.Array:
        squares = jnp.sum(jnp.where(where, waves**2, 0), axis=(-2, -1))
        return squares / jnp.maximum(jnp.sum(where), 1)

    inside, outside = variance(mask), variance(~mask)
    gain = jnp.sqrt(inside / jnp.where(outside > 0, outside, 1))
    gain = jnp.where(outside > 0, gain, 1)[:, None, None]
    return from_starlet(jnp.concatenate([jnp.where(mask, waves, gain * waves), smooth[None]]))
