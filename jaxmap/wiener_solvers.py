r"""Two more solvers of the Wiener equation: the messenger field and forward-backward splitting.

Both update the map in turn where the noise is diagonal (pixels) and where the prior is (Fourier
modes). They share no code with `jaxmap.gaussian_posterior` and check it; it needs fewer steps, and
only it has reverse-mode gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.likelihood import ShearLikelihood, apply_weight
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.solvers import SolverInfo


def solve_messenger(
    data: ShearMap,
    prior: GaussianPrior,
    tolerance: float = 1e-5,
    max_iterations: int = 10_000,
    cooling: float = 0.7,
    steps_per_level: int = 3,
) -> tuple[jax.Array, SolverInfo]:
    r"""Wiener filter by the messenger field.

    A field :math:`t` of homogeneous noise :math:`T = \lambda\tau`, :math:`\tau = 1 / \max w`,
    stands between map and data; the two are updated in turn,

    .. math::
        t = A\kappa + \frac{T w}{1 + (T - \tau) w} (\gamma - A\kappa), \qquad
        \tilde\kappa = \frac{S}{S + T} P^* \tilde t

    while :math:`\lambda` cools to 1 from the largest prior power over :math:`\tau`.

    Args:
        data: observed shear.
        prior: Gaussian prior on the same grid.
        tolerance: on the residual of the normal equations relative to their right-hand side, the
            measure of `solve_conjugate_gradient`; tested once cooled.
        max_iterations: stop here in any case.
        cooling: factor from one level of :math:`\lambda` to the next.
        steps_per_level: iterations on each level.

    Returns:
        Real convergence of zero mean, shape ``(ny, nx)``, and `SolverInfo`.

    References:
        Elsner & Wandelt (2013), A&A 549, A111.
    """
    variance, tau = prior.amplitude**2, 1 / jnp.max(data.weight)
    residual_of = _residual_of_step(data, variance, tau)
    hottest = jnp.maximum(jnp.max(variance) / tau, 1)

    def unfinished(state: _Messenger) -> jax.Array:
        return (state.residual > tolerance) & (state.step < max_iterations)

    def advance(state: _Messenger) -> _Messenger:
        convergence, _, step = state
        heat = jnp.maximum(hottest * cooling ** (step // steps_per_level), 1)
        noise = heat * tau
        predicted = shear_from_convergence(convergence, data.grid)
        gain = noise * data.weight / (1 + (noise - tau) * data.weight)
        messenger = predicted + apply_weight(gain, data.shear - predicted)
        raw = convergence_from_shear(messenger, data.grid).real
        new = _filter(raw, variance / (variance + noise))
        residual = jnp.where(heat > 1, jnp.inf, residual_of(new - convergence))
        return _Messenger(new, residual, step + 1)

    zero = jnp.zeros_like(data.shear.real)
    start = _Messenger(zero, jnp.full_like(tau, jnp.inf), jnp.asarray(0))
    final = jax.lax.while_loop(unfinished, advance, start)
    return final.convergence, SolverInfo(final.step, final.residual)


class _Messenger(NamedTuple):
    convergence: jax.Array
    residual: jax.Array
    step: jax.Array


def solve_proximal(
    data: ShearMap,
    prior: GaussianPrior,
    tolerance: float = 1e-5,
    max_iterations: int = 10_000,
) -> tuple[jax.Array, SolverInfo]:
    r"""Wiener filter by accelerated forward-backward splitting.

    .. math::
        \tilde\kappa_{n+1} = \frac{S}{S + \tau} F [x_n + \tau A^\dagger W (\gamma - A x_n)], \qquad
        x_{n+1} = \kappa_{n+1} + \beta_n (\kappa_{n+1} - \kappa_n)

    with :math:`\tau = 1/\max w` and Nesterov's momentum, restarted where it points uphill.

    Args:
        data: observed shear.
        prior: Gaussian prior on the same grid.
        tolerance: as in `solve_messenger`.
        max_iterations: stop here in any case.

    Returns:
        Real convergence of zero mean, shape ``(ny, nx)``, and `SolverInfo`.

    References:
        Beck & Teboulle (2009), SIAM J. Imaging Sci. 2, 183; O'Donoghue & Candes (2015), Found.
        Comput. Math. 15, 715.
    """
    variance, tau = prior.amplitude**2, 1 / jnp.max(data.weight)
    residual_of = _residual_of_step(data, variance, tau)
    likelihood = ShearLikelihood(data)

    def unfinished(state: _Proximal) -> jax.Array:
        return (state.residual > tolerance) & (state.step < max_iterations)

    def advance(state: _Proximal) -> _Proximal:
        convergence, point, momentum, _, step = state
        new = _filter(point + tau * likelihood.score(point), variance / (variance + tau))
        uphill = jnp.sum((point - new) * (new - convergence)) > 0
        momentum = jnp.where(uphill, 1, momentum)
        grown = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / grown * (new - convergence)
        return _Proximal(new, ahead, grown, residual_of(new - point), step + 1)

    zero, unknown = jnp.zeros_like(data.shear.real), jnp.full_like(tau, jnp.inf)
    start = _Proximal(zero, zero, jnp.ones_like(tau), unknown, jnp.asarray(0))
    final = jax.lax.while_loop(unfinished, advance, start)
    return final.convergence, SolverInfo(final.step, final.residual)


class _Proximal(NamedTuple):
    convergence: jax.Array
    point: jax.Array
    momentum: jax.Array
    residual: jax.Array
    step: jax.Array


def _filter(field: jax.Array, window: jax.Array) -> jax.Array:
    return jnp.fft.ifft2(window * jnp.fft.fft2(field)).real


def _residual_of_step(
    data: ShearMap, variance: jax.Array, tau: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    r"""The relative residual of the normal equations, read off an undamped step.

    A step from x is :math:`\delta = S\tau/(S + \tau)\, r` with
    :math:`r = A^\dagger W(\gamma - Ax) - S^{-1} x`; the norm is that of :math:`S^{1/2} r` over
    :math:`S^{1/2} A^\dagger W \gamma`.
    """
    amplitude = jnp.sqrt(variance)
    source = convergence_from_shear(apply_weight(data.weight, data.shear), data.grid).real
    target = jnp.linalg.norm(amplitude * jnp.fft.fft2(source))
    known = amplitude > 0
    scale = jnp.where(known, (variance + tau) / (tau * jnp.where(known, amplitude, 1)), 0)

    def relative(delta: jax.Array) -> jax.Array:
        return jnp.linalg.norm(scale * jnp.fft.fft2(delta)) / jnp.where(target > 0, target, 1)

    return relative
