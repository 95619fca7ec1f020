r"""Posterior samples of the convergence under the prior of a heteroscedastic denoiser.

Shear data of weight W and a state :math:`x_s = \kappa + s n` of a diffusion are together one noisy
observation of :math:`\kappa`, with

.. math:: \Lambda = 1/s^2 + W, \qquad b = x_s / s^2 + \mathrm{Re}\, A^\dagger W \gamma

so that the denoiser of (b, :math:`\Lambda`) is the exact denoiser of the posterior, for any mask
and noise; only the denoiser and the steps approximate. A denoiser is here a function ``(b, Lambda)
-> mean``: that of a network (`learned_mean`), of a Gaussian prior (`gaussian_mean`), or any other.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser, denoise
from jaxmap.gaussian_posterior import gaussian_fluctuation, solve_information
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.sampling.diffusion import Denoise, integrate_watched, noise_levels

Mean = Callable[[jax.Array, jax.Array], jax.Array]
"""``(information b, weight Lambda) -> posterior mean``; ``(ny, nx)``, ``(2, ny, nx)``."""


def learned_mean(denoiser: Denoiser, grid: Grid) -> Mean:
    """The mean under a learned prior."""
    return lambda information, weight: denoise(denoiser, information, weight, grid).mean


def gaussian_mean(prior: GaussianPrior, grid: Grid, tolerance: float = 1e-5) -> Mean:
    """The mean under a Gaussian prior, the Wiener filter."""
    return lambda information, weight: solve_information(
        information, weight, grid, prior, tolerance=tolerance
    )[0]


def information_of(data: ShearMap) -> jax.Array:
    r"""All that data say of a real map: :math:`\mathrm{Re}\, A^\dagger W\gamma`, ``(ny, nx)``."""
    return convergence_from_shear(apply_weight(data.weight, data.shear), data.grid).real


def posterior_denoiser(mean: Mean, data: ShearMap) -> Denoise:
    r""":math:`(x_s, s) \to E[\kappa \mid x_s, \gamma]`; the mean of :math:`x_s` says nothing."""
    information = information_of(data)

    def apply(field: jax.Array, level: jax.Array) -> jax.Array:
        state = (field - jnp.mean(field)) / level**2
        return mean(information + state, data.weight + 1 / level**2)

    return apply


def prior_denoiser(mean: Mean) -> Denoise:
    r""":math:`(x_s, s) \to E[\kappa \mid x_s]`, without data."""

    def apply(field: jax.Array, level: jax.Array) -> jax.Array:
        precision = jnp.full((2, *field.shape), 1 / level**2, field.dtype)
        return mean((field - jnp.mean(field)) / level**2, precision)

    return apply


def sample_diffusion(
    key: jax.Array,
    mean: Mean,
    prior: GaussianPrior,
    data: ShearMap,
    num_steps: int = 12,
    largest: float = 2.0,
) -> jax.Array:
    r"""One posterior sample by reverse diffusion; pure, for ``jax.jit`` and ``jax.vmap`` over keys.

    Starts from a draw of the Gaussian posterior about the learned mean of the data, with white
    noise of the largest level added,

    .. math:: x = E[\kappa \mid \gamma] + \delta_G + s_0 n

    Under so much noise the shape of the posterior cannot be told, but its mean can: about the
    Wiener mean, samples would lose up to 1.6 % of their power (`experiments/diffusion_start.py`).

    Args:
        key: PRNG key.
        mean: of the prior to sample.
        prior: a Gaussian one of about the same power, for start and steps.
        data: shear on a periodic grid (see `jaxmap.estimators.finite_field.pad_shear`).
        num_steps: evaluations of ``mean``, 2 or more: one of the data alone, whatever the key, and
            one at each level of noise.
        largest: level of the start.

    Returns:
        Convergence, shape ``(ny, nx)``.

    References:
        Mammadov et al. (2026), arXiv:2606.17048.
    """
    centre = mean(information_of(data), data.weight)
    return sample_diffusion_watched(key, centre, mean, prior, data, num_steps, largest)[0]


def sample_diffusion_watched(
    key: jax.Array,
    centre: jax.Array,
    mean: Mean,
    prior: GaussianPrior,
    data: ShearMap,
    num_steps: int = 12,
    largest: float = 2.0,
) -> tuple[jax.Array, jax.Array]:
    """`sample_diffusion`, and whether the sample was finite after each level, ``(n - 1,)``.

    ``centre`` is the learned mean of the data, which all samples share.
    """
    key_start, key_noise = jax.random.split(key)
    fluctuation, _ = gaussian_fluctuation(key_start, data, prior)
    white = jax.random.normal(key_noise, data.grid.shape, centre.dtype)
    return integrate_watched(
        posterior_denoiser(mean, data),
        centre + fluctuation + largest * white,
        noise_levels(num_steps - 1, largest, dtype=centre.dtype),
        posterior_variance(prior, data),
    )


def posterior_variance(prior: GaussianPrior, data: ShearMap) -> jax.Array:
    r"""Of every mode of a Gaussian posterior of even noise, :math:`S / (1 + S \langle w \rangle)`,
    shape ``(ny, nx)``; 0 for the mean."""
    power = prior.amplitude**2
    return power / (1 + power * jnp.mean(data.weight))


def most_probable(
    mean: Mean,
    prior: GaussianPrior,
    data: ShearMap,
    levels: jax.Array,
    steps_per_level: int = 4,
    rate: float = 0.7,
) -> tuple[jax.Array, jax.Array]:
    r"""The mode of the posterior convolved with :math:`N(0, s^2)`, by gradient ascent.

    .. math:: x \gets x + \eta\, (V + s^2)\, \nabla\log p_s(x \mid \gamma)
              = x + \eta\, \frac{V + s^2}{s^2}\, (D_\gamma(x, s) - x)

    with products in Fourier space, from the Wiener filter on and at falling levels s, so that the
    ascent is not caught by the first small peak. V is the variance of a Gaussian posterior of even
    noise, a preconditioner: for such a posterior one step with :math:`\eta = 1` arrives.

    Args:
        mean: of the prior.
        prior: a Gaussian one of about the same power.
        data: shear on a periodic grid.
        levels: s, descending, shape ``(n,)``; the mode of which density is found depends on the
            last.
        steps_per_level: evaluations of ``mean`` at each.
        rate: :math:`\eta`; below 1, for masked data are not as the preconditioner thinks.

    Returns:
        Convergence of zero mean, shape ``(ny, nx)``, and whether it was finite after each level,
        shape ``(n,)``.
    """
    start, _ = solve_information(information_of(data), data.weight, data.grid, prior)
    denoise = posterior_denoiser(mean, data)
    variance = posterior_variance(prior, data)

    def step(field: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
        toward = jnp.fft.fft2(denoise(field, level) - field)
        gain = rate * (variance + level**2) / level**2
        field = field + jnp.fft.ifft2(gain * toward).real
        return field, jnp.all(jnp.isfinite(field))

    field, finite = jax.lax.scan(step, start, jnp.repeat(levels, steps_per_level))
    return field - jnp.mean(field), jnp.all(finite.reshape(-1, steps_per_level), axis=1)


def gibbs_sweep(
    key: jax.Array,
    convergence: jax.Array,
    mean: Mean,
    prior: GaussianPrior,
    data: ShearMap,
    num_steps: int = 12,
    largest: float = 2.0,
) -> jax.Array:
    r"""One sweep of messenger Gibbs sampling: exact in the limit, whatever the mask and noise.

    A messenger field t of homogeneous noise :math:`\tau^2 = 1/\max w` stands between data and map,

    .. math::
        t \mid \kappa, \gamma \sim N\big(A\kappa + \tau^2 w (\gamma - A\kappa),\,
            \tau^2 (1 - \tau^2 w)\big), \qquad
        \kappa \mid t: \; \mathrm{Re}\, A^\dagger t = \kappa + N(0, \tau^2)

    and the second draw is a diffusion (`sample_diffusion`) for data of even noise: its denoiser is
    asked at levels from about :math:`\tau` to 0 of homogeneous noise alone, whatever the data. For
    homogeneous noise without a mask every sweep is an independent draw.

    Args:
        key: PRNG key.
        convergence: the last sample, shape ``(ny, nx)``.
        mean: of the prior to sample.
        prior: a Gaussian one of about the same power, for start and steps.
        data: shear on a periodic grid.
        num_steps, largest: of the diffusion; few steps bias the chain, more than one draw.

    Returns:
        The next sample, shape ``(ny, nx)``.

    References:
        Elsner & Wandelt (2013), A&A 549, A111.
    """
    key_messenger, key_path = jax.random.split(key)
    tau2 = 1 / jnp.max(data.weight)
    share = tau2 * data.weight
    predicted = shear_from_convergence(convergence, data.grid)
    white = jax.random.normal(key_messenger, share.shape, share.dtype)
    noise = jnp.sqrt(tau2 * jnp.maximum(1 - share, 0)) * white
    messenger = predicted + apply_weight(share, data.shear - predicted)
    messenger = messenger + jax.lax.complex(*noise)
    even = ShearMap(messenger, jnp.full_like(data.weight, 1 / tau2), data.grid)
    return sample_diffusion(key_path, mean, prior, even, num_steps, largest)
