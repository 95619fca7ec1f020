r"""A prior that is not Gaussian but has a known posterior: a Gaussian field and at most one halo.

.. math:: \kappa = g + a\, h_p, \qquad g \sim N(0, S)

with the probability of a halo given, and then every pixel p and every amplitude a of a list equally
likely: a mixture of Gaussians of one covariance. For data of information b and weights
:math:`\Lambda` (see `jaxmap.posterior`), with :math:`P = \mathrm{Re}\, A^\dagger \Lambda A`, every
component has the posterior covariance :math:`C = (S^{-1} + P)^{-1}` and

.. math::
    \ln w_j = \ln \pi_j + a\, h_p^T S^{-1} C b - \tfrac12 a^2 q_p, \qquad
    q_p = h_p^T (P - P C P)\, h_p, \qquad
    E[\kappa] = C \Big(b + S^{-1} \sum_j w_j a_j h_{p_j}\Big)

so that one linear solve gives all weights. With the white fields :math:`g_p = S^{-1/2} h_p` and
:math:`M = 1 + S^{1/2} P S^{1/2}`: :math:`C = S^{1/2} M^{-1} S^{1/2}` and
:math:`q_p = g_p^T (1 - M^{-1}) g_p`. Dense matrices of pixels x pixels, for small maps, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.posterior import Mean
from jaxmap.prior import GaussianPrior


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HaloMixture:
    """The prior.

    Args:
        gaussian: of the field without halo.
        profile: a halo of amplitude 1 at the pixel (0, 0), shape ``(ny, nx)``, of zero mean.
        amplitudes: those possible, shape ``(n,)``.
        share: probability that there is a halo.
        grid: periodic pixel grid.
    """

    gaussian: GaussianPrior
    profile: jax.Array
    amplitudes: jax.Array
    share: jax.Array
    grid: Grid = field(metadata={"static": True})


class Weights(NamedTuple):
    """Probability that there is no halo, a scalar, and of every halo, ``(n, ny, nx)``."""

    none: jax.Array
    halo: jax.Array


def halo_profile(grid: Grid, core_pixels: float) -> jax.Array:
    """A core that falls off as the cube of the distance, less its mean."""
    ny, nx = grid.shape
    y, x = jnp.fft.fftfreq(ny, 1 / ny)[:, None], jnp.fft.fftfreq(nx, 1 / nx)[None]
    profile = (1 + (x**2 + y**2) / core_pixels**2) ** -1.5
    return profile - profile.mean()


def sample_prior(key: jax.Array, mixture: HaloMixture) -> tuple[jax.Array, jax.Array]:
    """One map, and whether it holds a halo."""
    keys = jax.random.split(key, 4)
    present = jax.random.uniform(keys[0]) < mixture.share
    amplitude = jax.random.choice(keys[1], mixture.amplitudes)
    shift = jax.random.randint(keys[2], (2,), 0, jnp.asarray(mixture.grid.shape))
    halo = amplitude * jnp.roll(mixture.profile, shift, axis=(0, 1))
    return mixture.gaussian.sample(keys[3]) + jnp.where(present, halo, 0), present


def halo_mean(mixture: HaloMixture) -> Mean:
    """The exact denoiser for any noise and mask."""

    def mean(information: jax.Array, weight: jax.Array) -> jax.Array:
        solver = dense_solver(mixture, weight)
        weights = weights_from(mixture, information, solver)
        return posterior_mean(mixture, information, weights, solver)

    return mean


def halo_weights(mixture: HaloMixture, information: jax.Array, weight: jax.Array) -> Weights:
    """Posterior probabilities of the components."""
    return weights_from(mixture, information, dense_solver(mixture, weight))


def even_halo_mean(mixture: HaloMixture) -> Mean:
    """`halo_mean` where all weights are the same: diagonal in Fourier space."""
    shape = mixture.grid.shape
    amplitude = mixture.gaussian.amplitude
    power = amplitude[:, : shape[1] // 2 + 1] ** 2
    profile = jnp.fft.rfft2(mixture.profile)
    white = jnp.abs(jnp.fft.fft2(mixture.profile) * _inverse(amplitude)) ** 2

    def mean(information: jax.Array, weight: jax.Array) -> jax.Array:
        even = weight[0, 0, 0]
        modes = jnp.fft.rfft2(information)
        share = 1 / (1 + power * even)
        response = jnp.fft.irfft2(profile.conj() * modes * share, shape)
        seen = amplitude**2 * even / (1 + amplitude**2 * even)
        norm = jnp.full(shape, jnp.sum(white * seen) / white.size)
        weights = normalised(mixture, response, norm)
        haloes = profile * jnp.fft.rfft2(expected_haloes(mixture, weights))
        return jnp.fft.irfft2((power * modes + haloes) * share, shape)

    return mean


def probability_of_no_halo(mixture: HaloMixture, convergence: jax.Array) -> jax.Array:
    """Given the map itself: what all data that are noisy views of it can at most tell."""
    amplitude = mixture.gaussian.amplitude
    white_profile = _filtered(mixture.profile, _inverse(amplitude))
    modes = jnp.fft.fft2(_filtered(convergence, _inverse(amplitude)))
    response = jnp.fft.ifft2(jnp.fft.fft2(white_profile).conj() * modes).real
    norm = jnp.full_like(response, jnp.sum(white_profile**2))
    return normalised(mixture, response, norm).none


class DenseSolver(NamedTuple):
    """What weights tell of all data: M^-1, ``(n, n)``, and q of every pixel, ``(ny, nx)``."""

    inverse: jax.Array
    norm: jax.Array


def dense_solver(mixture: HaloMixture, weight: jax.Array) -> DenseSolver:
    """Matrices for the weights of data, whose shape is ``(2, ny, nx)``."""
    grid, size = mixture.grid, mixture.grid.num_pixels
    amplitude = mixture.gaussian.amplitude
    unit = jnp.eye(size).reshape(size, *grid.shape)
    shear = jax.vmap(lambda v: shear_from_convergence(_filtered(v, amplitude), grid))(unit)
    response = jnp.stack([shear.real, shear.imag], axis=1).reshape(size, -1)
    matrix = jnp.eye(size) + (response * weight.ravel()[None]) @ response.T
    inverse = jnp.linalg.inv(matrix)
    inverse = (inverse + inverse.T) / 2
    white = _filtered(mixture.profile, _inverse(amplitude))
    rolled = jax.vmap(lambda v: _convolved(white, v))(unit).reshape(size, -1)
    norm = jnp.sum(rolled * (rolled - rolled @ inverse), axis=1)
    return DenseSolver(inverse, norm.reshape(grid.shape))


def weights_from(mixture: HaloMixture, information: jax.Array, solver: DenseSolver) -> Weights:
    """Posterior probabilities of the components, by one product with the matrix."""
    amplitude = mixture.gaussian.amplitude
    white = _solve(solver, _filtered(information, amplitude))
    seen = jnp.fft.fft2(_filtered(white, _inverse(amplitude)))
    response = jnp.fft.ifft2(jnp.fft.fft2(mixture.profile).conj() * seen).real
    return normalised(mixture, response, solver.norm)


def posterior_mean(
    mixture: HaloMixture, information: jax.Array, weights: Weights, solver: DenseSolver
) -> jax.Array:
    """Mean of the map, shape ``(ny, nx)``."""
    amplitude = mixture.gaussian.amplitude
    haloes = _convolved(mixture.profile, expected_haloes(mixture, weights))
    source = _filtered(information, amplitude) + _filtered(haloes, _inverse(amplitude))
    return _filtered(_solve(solver, source), amplitude)


def posterior_variance(mixture: HaloMixture, weights: Weights, solver: DenseSolver) -> jax.Array:
    """Variance of every pixel, shape ``(ny, nx)``: of the field, and between components."""
    grid, amplitude = mixture.grid, mixture.gaussian.amplitude
    unit = jnp.eye(grid.num_pixels).reshape(-1, *grid.shape)

    def seen(pixel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Variance of a pixel of the field, and what each halo of amplitude 1 adds to its mean."""
        row = _solve(solver, _filtered(pixel, amplitude))
        modes = jnp.fft.fft2(_filtered(row, _inverse(amplitude)))
        halo = jnp.fft.ifft2(jnp.fft.fft2(mixture.profile).conj() * modes).real
        return jnp.sum(pixel * _filtered(row, amplitude)), halo

    field_variance, halo = jax.lax.map(seen, unit)
    first = jnp.sum(expected_haloes(mixture, weights)[None] * halo, axis=(1, 2))
    second = jnp.sum(expected_haloes(mixture, weights, 2)[None] * halo**2, axis=(1, 2))
    return (field_variance + second - first**2).reshape(grid.shape)


def normalised(mixture: HaloMixture, response: jax.Array, norm: jax.Array) -> Weights:
    """Weights from h_p^T S^-1 C b and q_p, shape ``(ny, nx)``."""
    a = mixture.amplitudes[:, None, None]
    log_halo = a * response[None] - 0.5 * a**2 * norm[None]
    log_halo = log_halo + jnp.log(mixture.share / log_halo.size)
    log_none = jnp.log(1 - mixture.share)
    total = jnp.logaddexp(jax.nn.logsumexp(log_halo), log_none)
    return Weights(jnp.exp(log_none - total), jnp.exp(log_halo - total))


def expected_haloes(mixture: HaloMixture, weights: Weights, moment: int = 1) -> jax.Array:
    """Expected amplitude, to a power, of a halo in every pixel, shape ``(ny, nx)``."""
    return jnp.sum(weights.halo * mixture.amplitudes[:, None, None] ** moment, axis=0)


def _solve(solver: DenseSolver, white: jax.Array) -> jax.Array:
    return (solver.inverse @ white.ravel()).reshape(white.shape)


def _inverse(amplitude: jax.Array) -> jax.Array:
    return jnp.where(amplitude > 0, 1 / jnp.where(amplitude > 0, amplitude, 1), 0)


def _filtered(field: jax.Array, window: jax.Array) -> jax.Array:
    return jnp.fft.ifft2(window * jnp.fft.fft2(field)).real


def _convolved(one: jax.Array, two: jax.Array) -> jax.Array:
    return jnp.fft.ifft2(jnp.fft.fft2(one) * jnp.fft.fft2(two)).real
