r"""The exact Gaussian posterior of a shear map: its mean (the Wiener filter) and its samples.

The posterior of a Gaussian prior and the likelihood of `jaxmap.likelihood` is Gaussian. Its mean,
the Wiener filter with no B mode, solves, over real maps,

.. math:: (S^{-1} + \mathrm{Re}\, A^\dagger W A)\, \kappa = \mathrm{Re}\, A^\dagger W \gamma

for any mask and noise. A solver is a function ``(data, prior, phase) -> (convergence, info)``,
where the phase says how A makes shear (`jaxmap.operators.Phase`); two more, independent of the one
here, are in `jaxmap.wiener_solvers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight, noise_std
from jaxmap.operators import (
    Phase,
    convergence_from_shear,
    mirrored,
    shear_from_convergence,
    spin2_phase,
)
from jaxmap.prior import GaussianPrior
from jaxmap.solvers import SolverInfo, conjugate_gradient

Solver = Callable[[ShearMap, GaussianPrior, Phase], tuple[jax.Array, SolverInfo]]


def solve_conjugate_gradient(
    data: ShearMap,
    prior: GaussianPrior,
    phase: Phase = spin2_phase,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> tuple[jax.Array, SolverInfo]:
    r"""Wiener filter by preconditioned conjugate gradients.

    With :math:`\tilde\kappa = S^{1/2} u` the system becomes, over the Fourier modes of real maps,

    .. math:: (1 + S^{1/2} P^* F W F^* P S^{1/2})\, u = S^{1/2} P^* F W \gamma

    which never divides by :math:`S`; the preconditioner :math:`1/(1 + \bar w S |P|^2)` is its
    inverse for homogeneous noise. Two FFTs per step. Differentiable in the data, weights and prior.

    Args:
        data: observed shear.
        prior: Gaussian prior on the same grid.
        phase: :math:`P`, of the operator that made the shear.
        tolerance: on the residual of the system above, relative to its right-hand side.
        max_iterations: stop here in any case.

    Returns:
        Real convergence of zero mean, shape ``(ny, nx)``, and `SolverInfo`.
    """
    weighted = apply_weight(data.weight, data.shear)
    information = convergence_from_shear(weighted, data.grid, phase).real
    return solve_information(
        information, data.weight, data.grid, prior, phase, tolerance, max_iterations
    )


def solve_information(
    information: jax.Array,
    weight: jax.Array,
    grid: Grid,
    prior: GaussianPrior,
    phase: Phase = spin2_phase,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> tuple[jax.Array, SolverInfo]:
    r"""`solve_conjugate_gradient` for what the posterior knows of the data.

    Shear enters the posterior of a real map only through :math:`b = \mathrm{Re}\, A^\dagger W
    \gamma` and the weights.

    Args:
        information: :math:`b`, real, shape ``(ny, nx)``.
        weight: W, shape ``(2, ny, nx)``.
        grid: pixel grid.
        prior: Gaussian prior on the same grid.
        phase: as in `solve_conjugate_gradient`.
        tolerance: as in `solve_conjugate_gradient`.
        max_iterations: stop here in any case.

    Returns:
        Real convergence of zero mean, shape ``(ny, nx)``, and `SolverInfo`.
    """
    amplitude = prior.amplitude
    response = amplitude * phase(grid, information.dtype)

    def normal(u: jax.Array) -> jax.Array:
        shear = jnp.fft.ifft2(response * u, norm="ortho")
        weighted = jnp.fft.fft2(apply_weight(weight, shear), norm="ortho")
        return u + _of_real_map(response.conj() * weighted)

    # The operator is linear and symmetric over the reals only, so the solver sees real pairs.
    inverse = (1 / (1 + jnp.mean(weight) * (response * response.conj()).real))[None]
    pair, info = conjugate_gradient(
        lambda u: _to_pair(normal(jax.lax.complex(*u))),
        _to_pair(amplitude * jnp.fft.fft2(information, norm="ortho")),
        lambda residual: inverse * residual,
        tolerance,
        max_iterations,
    )
    return jnp.fft.ifft2(amplitude * jax.lax.complex(*pair), norm="ortho").real, info


def turned(data: ShearMap) -> ShearMap:
    r"""The shear turned by 45 degrees, :math:`-i\gamma`, in which the B mode is an E mode."""
    return replace(data, shear=-1j * data.shear, weight=data.weight[::-1])


@jax.jit
def wiener_b_mode(data: ShearMap, prior: GaussianPrior) -> jax.Array:
    """The B-mode map of other estimators: the Wiener filter of the turned shear, ``(ny, nx)``."""
    return solve_conjugate_gradient(turned(data), prior)[0]


def _to_pair(modes: jax.Array) -> jax.Array:
    return jnp.stack([modes.real, modes.imag])


def _of_real_map(modes: jax.Array) -> jax.Array:
    """The Fourier modes of the real part of a map, from the modes of the complex map."""
    return 0.5 * (modes + mirrored(modes).conj())


def gaussian_fluctuation(
    key: jax.Array,
    data: ShearMap,
    prior: GaussianPrior,
    phase: Phase = spin2_phase,
    solver: Solver = solve_conjugate_gradient,
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
        phase: of the operator A, in the simulation and in the filter.
        solver: solver of the Wiener equation.

    Returns:
        Real field of zero mean, shape ``(ny, nx)``, and `SolverInfo`.

    References:
        Hoffman & Ribak (1991), ApJ 380, L5.
    """
    key_field, key_noise = jax.random.split(key)
    truth = prior.sample(key_field)
    white = jax.random.normal(key_noise, data.weight.shape, data.weight.dtype)
    noise = jax.lax.complex(*(noise_std(data.weight) * white))
    simulated = replace(data, shear=shear_from_convergence(truth, data.grid, phase) + noise)
    filtered, info = solver(simulated, prior, phase)
    return truth - filtered, info
