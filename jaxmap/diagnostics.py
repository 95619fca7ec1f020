"""Checks on data and results: ellipticity signs, residuals, spread against error."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.likelihood import ShearLikelihood, apply_weight, weighted_mean
from jaxmap.operators import Phase, convergence_from_shear, shear_from_convergence, spin2_phase


class SignCheck(NamedTuple):
    """Excess of E over B power in standard errors, for the shear as given and with e2 flipped."""

    as_given: float
    flipped: float

    @property
    def looks_flipped(self) -> bool:
        """True where the flipped shear shows lensing (> 3 sigma) and the given one clearly less."""
        return self.flipped > 3 and self.flipped > self.as_given + 2


def check_e2_sign(shear: ShearMap, ell_max: float = 6000.0) -> SignCheck:
    r"""Compare E and B power with and without a flip of the second component.

    Lensing makes E modes only. A wrong sign of e2 (or of the x axis) spreads the signal evenly over
    E and B, so the excess

    .. math:: z = \sum_\ell d_\ell \Big/ \sqrt{\textstyle\sum_\ell d_\ell^2}, \qquad
              d_\ell = |E_\ell|^2 - |B_\ell|^2

    of the weighted shear (its mean, which an additive bias moves, removed) vanishes; flipped back,
    it appears. A mask correlates neighbouring modes, so the error grows by
    :math:`\sqrt{N \sum w^2} / \sum w` over the N pixels. A common sign of both components cannot be
    seen in power.

    Args:
        shear: the observed shear.
        ell_max: highest multipole used; beyond a few thousand there is mostly noise.
    """
    weight = shear.weight
    centred = shear.shear - weighted_mean(weight, shear.shear)
    weighted = apply_weight(weight, jnp.where(shear.mask, centred, 0))
    noise = jnp.sum(weight, axis=0)
    correlated = jnp.sqrt(noise.size * jnp.sum(noise**2)) / jnp.sum(noise)
    as_given, flipped = (
        float(_e_mode_excess(field, shear.grid, ell_max) / correlated)
        for field in (weighted, weighted.conj())
    )
    return SignCheck(as_given, flipped)


def _e_mode_excess(weighted_shear: jax.Array, grid: Grid, ell_max: float) -> jax.Array:
    """The excess in standard errors, were all modes independent."""
    modes = convergence_from_shear(weighted_shear, grid)
    difference = (
        jnp.abs(jnp.fft.fft2(modes.real, norm="ortho")) ** 2
        - jnp.abs(jnp.fft.fft2(modes.imag, norm="ortho")) ** 2
    )
    difference = jnp.where(jnp.abs(grid.ell(difference.dtype)) < ell_max, difference, 0)
    # Modes of a real map come in equal pairs: half of them are independent.
    error = jnp.sqrt(jnp.sum(difference**2) / 2)
    return jnp.sum(difference) / 2 / jnp.where(error > 0, error, 1)


def chi2_per_pixel(
    convergence: jax.Array, shear: ShearMap, phase: Phase = spin2_phase
) -> jax.Array:
    r"""Chi-squared of the residuals per observed component; 1 for a posterior sample that fits.

    .. math:: \chi^2 = N_\mathrm{obs}^{-1} \sum_{p,a} w_{a,p} |\gamma_{a,p} - (A\kappa)_{a,p}|^2

    Args:
        convergence: map or posterior sample on the grid of the shear (a cropped map lacks the
            mass outside and fits worse), shape ``(ny, nx)``.
        shear: the observed shear.
        phase: of the operator A.
    """
    likelihood = ShearLikelihood(shear, partial(shear_from_convergence, phase=phase))
    return -2 * likelihood.log_prob(convergence) / jnp.sum(shear.weight > 0)


def std_over_error(samples: ArrayLike, truth: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Rms posterior spread over rms error of the posterior mean, in a mask; 1 when calibrated.

    .. math:: \sqrt{\frac{S^2}{\langle (\kappa - \bar\kappa)^2 \rangle - S^2 / n}}, \qquad
              S^2 = \frac{1}{n - 1} \sum_s \langle (\kappa_s - \bar\kappa)^2 \rangle

    The sampling noise of the mean of :math:`n` samples, :math:`S^2 / n`, is no error of the
    posterior mean and is taken off, so that few samples do not look overconfident. The mean over
    the mask is removed from both, since shear does not measure it.

    Args:
        samples: at least 2, shape ``(n, ny, nx)``.
        truth: shape ``(ny, nx)``.
        mask: True where to compare.
    """
    fields = jnp.asarray(samples)

    def spread(field: jax.Array) -> jax.Array:
        average = jnp.sum(jnp.where(mask, field, 0), axis=(-2, -1), keepdims=True) / jnp.sum(mask)
        return jnp.mean(jnp.sum(jnp.where(mask, field - average, 0) ** 2, axis=(-2, -1)))

    num = len(fields)
    mean = jnp.mean(fields, axis=0)
    variance = spread(fields - mean[None]) * num / (num - 1)
    return jnp.sqrt(variance / (spread(truth - mean) - variance / num))


def gelman_rubin(chains: ArrayLike) -> np.ndarray:
    r"""Split R-hat: spread among halves of chains over that within them; near 1 when mixed.

    Args:
        chains: shape ``(num_chains, num_draws, ...)``, at least 4 draws.

    Returns:
        Shape ``(...)``; NaN where the draws do not vary.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, Sect. 11.4.
    """
    from numpyro.diagnostics import split_gelman_rubin

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(split_gelman_rubin(np.asarray(chains, float)))
