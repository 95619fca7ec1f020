r"""Two more solvers of the Wiener equation: the messenger field and forward-backward splitting.

Both update the map in turn where the noise is diagonal (pixels) and where the prior is (Fourier
modes). They share no code with `jaxmap.gaussian_posterior` and check it; it needs fewer steps, and
only it has reverse-mode gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.likelihood import ShearLikelihood, apply_weight
from jaxmap.operators import Phase, convergence_from_shear, shear_from_convergence, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.solvers import SolverInfo


def solve_messenger(
    data: ShearMap,
    prior: GaussianPrior,
    phase: Phase = spin2_phase,
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
        \tilde\kappa = \frac{S P^*}{S |P|^2 + T} \tilde t

    while :math:`\lambda` cools to 1 from the largest prior power over :math:`\tau`.

    Args:
        data: observed shear.
        prior: Gaussian prior on the same grid.
        phase: :math:`P`, of the operator A that made the shear.
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
    transmission = jnp.abs(phase(data.grid, data.shear.dtype)) ** 2

    def window(noise: jax.Array) -> jax.Array:
        return variance / (transmission * variance + noise)

    residual_of = _residual_of_step(data, prior, phase, tau * window(tau))
    hottest = jnp.maximum(jnp.max(variance) / tau, 1)

    def unfinished(state: _Messenger) -> jax.Array:
        return (state.residual > tolerance) & (state.step < max_iterations)

    def advance(state: _Messenger) -> _Messenger:
        convergence, _, step = state
        heat = jnp.maximum(hottest * cooling ** (step // steps_per_level), 1)
        noise = heat * tau
        predicted = shear_from_convergence(convergence, data.grid, phase)
        gain = noise * data.weight / (1 + (noise - tau) * data.weight)
        messenger = predicted + apply_weight(gain, data.shear - predicted)
        raw = convergence_from_shear(messenger, data.grid, phase).real
        new = _filter(raw, window(noise))
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
    phase: Phase = spin2_phase,
    tolerance: float = 1e-5,
    max_iterations: int = 10_000,
) -> tuple[jax.Array, SolverInfo]:
    r"""Wiener filter by accelerated forward-backward splitting.

    .. math::
        \tilde\kappa_{n+1} = \frac{S}{S + \tau} F [x_n + \tau A^\dagger W (\gamma - A x_n)], \qquad
        x_{n+1} = \kappa_{n+1} + \beta_n (\kappa_{n+1} - \kappa_n)

    with :math:`\tau = 1/\max w` and Nesterov's momentum, restarted where it points uphill; for
    any phase with :math:`|P| \le 1`.

    Args:
        data: observed shear.
        prior: Gaussian prior on the same grid.
        phase: as in `solve_messenger`.
        tolerance: as in `solve_messenger`.
        max_iterations: stop here in any case.

    Returns:
        Real convergence of zero mean, shape ``(ny, nx)``, and `SolverInfo`.

    References:
        Beck & Teboulle (2009), SIAM J. Imaging Sci. 2, 183; O'Donoghue & Candes (2015), Found.
        Comput. Math. 15, 715.
    """
    variance, tau = prior.amplitude**2, 1 / jnp.max(data.weight)
    window = variance / (variance + tau)
    residual_of = _residual_of_step(data, prior, phase, tau * window)
    likelihood = ShearLikelihood(data, partial(shear_from_convergence, phase=phase))

    def unfinished(state: _Proximal) -> jax.Array:
        return (state.residual > tolerance) & (state.step < max_iterations)

    def advance(state: _Proximal) -> _Proximal:
        convergence, point, momentum, _, step = state
        new = _filter(point + tau * likelihood.score(point), window)
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
    data: ShearMap, prior: GaussianPrior, phase: Phase, gain: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    r"""The relative residual of the normal equations, read off an undamped step.

    A step from x is :math:`\delta = G r` with a gain G per mode and
    :math:`r = A^\dagger W(\gamma - Ax) - S^{-1} x`; the norm is that of :math:`S^{1/2} r` over
    :math:`S^{1/2} A^\dagger W \gamma`.
    """
    source = convergence_from_shear(apply_weight(data.weight, data.shear), data.grid, phase).real
    target = jnp.linalg.norm(prior.amplitude * jnp.fft.fft2(source))
    moves = gain > 0
    scale = jnp.where(moves, prior.amplitude / jnp.where(moves, gain, 1), 0)

    def relative(delta: jax.Array) -> jax.Array:
        return jnp.linalg.norm(scale * jnp.fft.fft2(delta)) / jnp.where(target > 0, target, 1)

    return relative
