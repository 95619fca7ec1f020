"""The Kaiser-Squires estimator: direct inversion and Gaussian smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import pad_shear, require_finite_maps
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.operators import convergence_from_shear, gaussian_smooth, gaussian_window, spin2_phase


@dataclass(frozen=True)
class KaiserSquires:
    r"""Smoothed direct inversion, :math:`\kappa_E + i\kappa_B = G_\sigma * A^\dagger \gamma`.

    Masked pixels enter as zero shear. The standard deviation is that of the shape noise alone; the
    signal lost in masked pixels is not in it.

    Args:
        smoothing_arcmin: standard deviation (not FWHM) of the Gaussian in arcminutes.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.

    Raises:
        ValueError: for a negative smoothing scale.
        FloatingPointError: if the map is not finite.

    References:
        Kaiser & Squires (1993), ApJ 404, 441.
    """

    smoothing_arcmin: float = 1.0
    margin: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing_arcmin < float("inf"):
            raise ValueError(
                f"smoothing is {self.smoothing_arcmin} arcmin; expected 0 (none) or more"
            )

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        del key
        padded, margin = pad_shear(shear, self.margin)
        convergence = _smoothed_inversion(padded.shear, padded.grid, self.smoothing_arcmin)
        std = _noise_std(padded.weight, padded.grid, self.smoothing_arcmin)
        require_finite_maps(convergence, std)
        result = MassMap(
            convergence=convergence.real,
            grid=padded.grid,
            mask=padded.mask,
            std=std,
            b_mode=convergence.imag,
            counts=padded.counts,
        )
        return result.cropped(margin)


@partial(jax.jit, static_argnames="grid")
def _smoothed_inversion(shear: jax.Array, grid: Grid, smoothing_arcmin: float) -> jax.Array:
    return gaussian_smooth(convergence_from_shear(shear, grid), grid, smoothing_arcmin)


@partial(jax.jit, static_argnames="grid")
def _noise_std(weight: jax.Array, grid: Grid, smoothing_arcmin: float) -> jax.Array:
    r"""Noise of the map by propagation through its kernel :math:`k = F^* [G P^*]`.

    .. math:: \mathrm{Var}\,\kappa_E(x) = \sum_y (\mathrm{Re}\,k)^2_{x-y} \sigma_1^2(y)
              + (\mathrm{Im}\,k)^2_{x-y} \sigma_2^2(y)
    """
    window = gaussian_window(grid, smoothing_arcmin, weight.dtype)
    kernel = jnp.fft.ifft2(window * spin2_phase(grid, weight.dtype).conj())
    observed = weight > 0
    noise = jnp.where(observed, 1 / jnp.where(observed, weight, 1), 0)
    responses = jnp.stack([kernel.real**2, kernel.imag**2])
    modes = jnp.sum(jnp.fft.fft2(responses) * jnp.fft.fft2(noise), axis=0)
    variance = jnp.fft.ifft2(modes).real
    # Far from all data the variance is below what the FFT resolves.
    return jnp.sqrt(jnp.maximum(variance, jnp.finfo(variance.dtype).eps * jnp.max(variance)))
