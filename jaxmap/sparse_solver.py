r"""Sparse and Gaussian components of a convergence map: one convex problem, one solver.

.. math::
    \min_{\kappa_G,\, \kappa_S} \; \tfrac12 \| W^{1/2} (\gamma - A(\kappa_G + \kappa_S)) \|^2
    + \tfrac12 \kappa_G^t S^{-1} \kappa_G + \sum_{j,p} \lambda_{jp} |(\Phi^t \kappa_S)_{jp}|
    \quad (\kappa_S \ge 0 \text{ if asked})

Without a Gaussian component this is the sparse problem of GLIMPSE, with one that of MCALens. It is
solved by the primal-dual proximal method of Condat and Vu: no inner loops, and the dual map
:math:`u` that it finds beside the map proves how near the optimum is. Optimal is

.. math::
    A^\dagger W (\gamma - A\kappa) = S^{-1}\kappa_G = \Phi u, \qquad
    u_{jp} = \lambda_{jp}\, \mathrm{sign}(\Phi^t\kappa_S)_{jp} \text{ or } |u_{jp}| \le \lambda_{jp}

(with :math:`\le \Phi u` where positivity binds), and the solver stops when these equations hold to
a tolerance.

References:
    Lanusse et al. (2016), A&A 591, A2; Starck et al. (2021), A&A 649, A99; Condat (2013), J. Optim.
    Theory Appl. 158, 460; Vu (2013), Adv. Comput. Math. 38, 667.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.galaxies import GalaxyShear, weighted_residual
from jaxmap.likelihood import apply_weight
from jaxmap.operators import Phase, convergence_from_shear, shear_from_convergence, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.starlet import adjoint_starlet, starlet, starlet_windows


class Components(NamedTuple):
    """A solution and how it was found.

    Attributes:
        gaussian: :math:`\\kappa_G`, shape ``(ny, nx)``; zero without a prior.
        sparse: :math:`\\kappa_S`.
        dual: :math:`u`, shape ``(J + 1, ny, nx)``; start of a like problem.
        iterations: how many.
        residual: by how much the equations of the optimum are missed: the largest of their
            relative errors in rms.
    """

    gaussian: jax.Array
    sparse: jax.Array
    dual: jax.Array
    iterations: jax.Array
    residual: jax.Array


class _State(NamedTuple):
    gaussian: jax.Array
    sparse: jax.Array
    dual: jax.Array
    force: jax.Array  # A^t W (shear - A kappa)
    pull: jax.Array  # Phi u
    seen: jax.Array  # Phi^t kappa_S
    step: jax.Array
    residual: jax.Array


@partial(jax.jit, static_argnames=("phase", "max_iterations"))
def solve_components(
    data: ShearMap | GalaxyShear,
    thresholds: jax.Array,
    prior: GaussianPrior | None = None,
    start: Components | None = None,
    *,
    positive: bool | jax.Array = False,
    phase: Phase = spin2_phase,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
    dual_step: float = 1.0,
) -> Components:
    r"""Solve the problem above.

    Args:
        data: observed shear, in pixels or of galaxies.
        thresholds: :math:`\lambda_{jp} \ge 0`, shape ``(J + 1, ny, nx)``.
        prior: Gaussian prior of :math:`\kappa_G`; None to leave that component out.
        start: a solution of a like problem; None for zero.
        positive: whether :math:`\kappa_S \ge 0`.
        phase: :math:`P`, of the operator A that made the shear.
        tolerance: on the equations of the optimum.
        max_iterations: stop here in any case.
        dual_step: step of the dual map relative to that of the map.

    Returns:
        The solution; where a step leaves the finite numbers the solver stops at it, with a residual
        that is not finite.
    """
    num_scales = len(thresholds) - 1
    windows = starlet_windows(data.grid.shape, num_scales, thresholds.dtype)
    curvature = jnp.max(data.weight)  # no map is magnified more
    sigma = dual_step * curvature
    # Condat-Vu converges for 1 / tau - sigma |Phi|^2 >= L / 2 = curvature, where |Phi| = 1.
    tau, tau_gaussian = 1 / (curvature + sigma), 1 / curvature
    if prior is None:
        tau = 1 / (curvature / 2 + sigma)
    power = None if prior is None else prior.amplitude**2

    def force_of(convergence: jax.Array) -> jax.Array:
        shear = shear_from_convergence(convergence, data.grid, phase)
        if isinstance(data, GalaxyShear):
            weighted = weighted_residual(data, shear)
        else:
            weighted = apply_weight(data.weight, data.shear - shear)
        return convergence_from_shear(weighted, data.grid, phase).real

    zero = jnp.zeros(data.grid.shape, thresholds.dtype)
    source = force_of(zero)

    def wiener(field: jax.Array) -> jax.Array:
        assert power is not None
        return jnp.fft.ifft2(power / (power + tau_gaussian) * jnp.fft.fft2(field)).real

    def advance(state: _State) -> _State:
        gaussian = state.gaussian
        if prior is not None:
            gaussian = wiener(gaussian + tau_gaussian * state.force)
        sparse = state.sparse + tau * (state.force - state.pull)
        sparse = jnp.where(jnp.asarray(positive), jnp.maximum(sparse, 0), sparse)
        seen = starlet(sparse, num_scales, windows)
        ahead = state.dual + sigma * (2 * seen - state.seen)
        dual = jnp.clip(ahead, -thresholds, thresholds)
        force = force_of(gaussian + sparse)
        pull = adjoint_starlet(dual, windows)
        # What is missing in the equations of the optimum at the new point.
        missing_sparse = (sparse - state.sparse) / tau + force - state.force - (pull - state.pull)
        missing_seen = seen - state.seen + (state.dual - dual) / sigma
        errors = [
            _ratio(missing_sparse, source),
            _ratio(missing_seen, gaussian + sparse),
        ]
        if prior is not None:
            missing_gaussian = (gaussian - state.gaussian) / tau_gaussian + force - state.force
            errors.append(_ratio(missing_gaussian, source))
        new = (gaussian, sparse, dual, force, pull, seen)
        return _State(*new, state.step + 1, jnp.max(jnp.stack(errors)))

    def unfinished(state: _State) -> jax.Array:
        going = (state.step == 0) | jnp.isfinite(state.residual)
        return going & (state.residual > tolerance) & (state.step < max_iterations)

    if start is None:
        start = Components(zero, zero, jnp.zeros_like(thresholds), jnp.asarray(0), zero[0, 0])
    dual = jnp.clip(start.dual, -thresholds, thresholds)
    first = _State(
        start.gaussian,
        start.sparse,
        dual,
        force_of(start.gaussian + start.sparse),
        adjoint_starlet(dual, windows),
        starlet(start.sparse, num_scales, windows),
        jnp.asarray(0),
        jnp.full_like(curvature, jnp.inf),
    )
    last = jax.lax.while_loop(unfinished, advance, first)
    return Components(last.gaussian, last.sparse, last.dual, last.step, last.residual)


def _ratio(missing: jax.Array, whole: jax.Array) -> jax.Array:
    size = jnp.linalg.norm(whole)
    return jnp.linalg.norm(missing) / jnp.where(size > 0, size, 1)
