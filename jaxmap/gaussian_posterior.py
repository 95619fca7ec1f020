r"""The exact Gaussian posterior of a shear map: its mean (the Wiener filter) and its samples.

The posterior of a Gaussian prior and the likelihood of `jaxmap.likelihood` is Gaussian. Its mean,
the Wiener filter with no B mode, solves, over real maps,

.. math:: (S^{-1} + \mathrm{Re}\, A^\dagger W A)\, \kappa = \mathrm{Re}\, A^\dagger W \gamma

for any mask and noise. A solver is a function ``(data, prior) -> (convergence, info)``; two more,
independent of the one here, are in `jaxmap.wiener_solvers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.likelihood import apply_weight
from jaxmap.operators import shear_from_convergence, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.solvers import SolverInfo, conjugate_gradient

Solver = Callable[[ShearMap, GaussianPrior], tuple[jax.Array, SolverInfo]]


def solve_conjugate_gradient(
    data: ShearMap, prior: GaussianPrior, tolerance: float = 1e-5, max_iterations: int = 1000
) -> tuple[jax.Array, SolverInfo]:
    r"""Wiener filter by preconditioned conjugate gradients.

    With :math:`\tilde\kappa = S^{1/2} u` the system becomes, over the Fourier modes of real maps,

    .. math:: (1 + S^{1/2} P^* F W F^* P S^{1/2})\, u = S^{1/2} P^* F W \gamma

    which never divides by :math:`S`; the preconditioner :math:`1/(1 + \bar w S)` is its inverse
    for homogeneous noise. Two FFTs per step. Differentiable in the data, weights and prior.

    Args:
        data: observed shear.
        prior: Gaussian prior on the same grid.
        tolerance: on the residual of the system above, relative to its right-hand side.
        max_iterations: stop here in any case.

    Returns:
        Real convergence of zero mean, shape ``(ny, nx)``, and `SolverInfo`.
    """
    amplitude = prior.amplitude
    phase = amplitude * spin2_phase(data.grid, data.shear.dtype)

    def adjoint(shear: jax.Array) -> jax.Array:
        return _of_real_map(phase.conj() * jnp.fft.fft2(shear, norm="ortho"))

    def normal(u: jax.Array) -> jax.Array:
        shear = jnp.fft.ifft2(phase * u, norm="ortho")
        return u + adjoint(apply_weight(data.weight, shear))

    # The operator is linear and symmetric over the reals only, so the solver sees real pairs.
    inverse = (1 / (1 + jnp.mean(data.weight) * amplitude**2))[None]
    pair, info = conjugate_gradient(
        lambda u: _to_pair(normal(jax.lax.complex(*u))),
        _to_pair(adjoint(apply_weight(data.weight, data.shear))),
        lambda residual: inverse * residual,
        tolerance,
        max_iterations,
    )
    return jnp.fft.ifft2(amplitude * jax.lax.complex(*pair), norm="ortho").real, info


def _to_pair(modes: jax.Array) -> jax.Array:
    return jnp.stack([modes.real, modes.imag])


def _of_real_map(modes: jax.Array) -> jax.Array:
    """The Fourier modes of the real part of a map, from the modes of the complex map."""
    mirrored = jnp.roll(jnp.flip(modes, (-2, -1)), 1, (-2, -1))
    return 0.5 * (modes + mirrored.conj())


def gaussian_fluctuation(
    key: jax.Array, data: ShearMap, prior: GaussianPrior, solver: Solver = solve_conjugate_gradient
) -> tuple[jax.Array, SolverInfo]:
    r"""One draw of (posterior sample - posterior mean), by constrained realisation.

    .. math:: \delta = \kappa_s - \mathrm{WF}[A\kappa_s + n_s], \qquad
              \kappa_s \sim \mathcal N(0, S), \; n_s \sim \mathcal N(0, W^{-1})

    The error of the filter on a simulated field has exactly the posterior's covariance, whatever
    the data were.

    Args:
        key: PRNG key.
        data: the observed shear; only its weights and grid are used.
        prior: Gaussian prior on the same grid.
        solver: solver of the Wiener equation.

    Returns:
        Real field of zero mean, shape ``(ny, nx)``, and `SolverInfo`.

    References:
        Hoffman & Ribak (1991), ApJ 380, L5.
    """
    key_field, key_noise = jax.random.split(key)
    truth = prior.sample(key_field)
    observed = data.weight > 0
    noise_std = jnp.where(observed, 1 / jnp.sqrt(jnp.where(observed, data.weight, 1)), 0)
    white = jax.random.normal(key_noise, data.weight.shape, data.weight.dtype)
    noise = jax.lax.complex(*(noise_std * white))
    simulated = replace(data, shear=shear_from_convergence(truth, data.grid) + noise)
    filtered, info = solver(simulated, prior)
    return truth - filtered, info
