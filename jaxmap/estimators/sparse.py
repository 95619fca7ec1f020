"""GLIMPSE: the convergence that is sparsest in starlets and fits the shear."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import inner, pad_shear, require_finite_maps, taken_margin
from jaxmap.galaxies import GalaxyShear, neighbour_weights, padded_galaxies, read_off
from jaxmap.gaussian_posterior import turned
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.operators import Phase, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.sparse_solver import Components, solve_components
from jaxmap.starlet import most_scales, starlet, starlet_noise

log = logging.getLogger(__name__)

BROADEST_ARCMIN = 20.0
"""Side of the broadest wavelet by default: some of the largest clusters."""


@dataclass(frozen=True)
class Sparse:
    r"""Sparse recovery in starlets, after GLIMPSE, from binned shear or from the galaxies' own.

    .. math::
        \min_\kappa \tfrac12 \| W^{1/2}(\gamma - A\kappa) \|^2
        + \sum_{j,p} \lambda_{jp} |(\Phi^t\kappa)_{jp}|, \qquad
        \lambda_{jp} = \lambda\, \sigma_{jp}\, r_{jp}

    with the noise :math:`\sigma_{jp}` of the back-projected data in every starlet coefficient,
    exact for any mask (`jaxmap.starlet.starlet_noise`); the smooth map at the end of the starlet
    is free. The weights :math:`r` start at 1. Reweighting lowers them to :math:`\lambda / s_{jp}`
    where a coefficient has a significance :math:`s_{jp} > \lambda`; debiasing, last, frees those
    that are active altogether, so that what was detected keeps its height. Every problem is solved
    until the equations of its optimum hold to a tolerance, not for a number of steps.

    Given a `GalaxyShear`, A reads the shear off at the place of every galaxy, as GLIMPSE does, and
    nothing is averaged over pixels.

    The diagnostics hold the steps taken and the residual of the equations. The B-mode map is the
    same estimate of the shear turned by 45 degrees, without positivity.

    Args:
        threshold: :math:`\lambda`, in standard deviations of the noise; 0 for the
            unregularised fit, Kaiser-Squires where all is observed. The default is the best of
            4 to 6 on simulated fields as deep as COSMOS; 3, which the comparison of Remy et al.
            took, lets noise through once it is debiased.
        num_scales: wavelet scales; None for those up to 20 arcminutes.
        positive: whether the convergence must not be negative: clusters on an empty sky.
        num_reweightings: how often the weights follow the last solution.
        debias: whether to free the active coefficients at the end.
        num_corrections: how often to correct the reduced shear with the map found before,
            :math:`\gamma = g(1 - \kappa)`; 0 to take the data for shear.
        with_b_mode: whether to make the B-mode map, which takes as long again.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        phase: of the shear operator.
        tolerance: of the equations of the optimum.
        max_iterations: of every problem; a warning says when they did not suffice.

    Raises:
        ValueError: for negative numbers.
        FloatingPointError: if the map is not finite.

    References:
        Lanusse et al. (2016), A&A 591, A2; Remy et al. (2023), A&A 672, A51, Eq. 16.
    """

    threshold: float = 5.0
    num_scales: int | None = None
    positive: bool = True
    num_reweightings: int = 2
    debias: bool = True
    num_corrections: int = 0
    with_b_mode: bool = True
    margin: int | None = None
    phase: Phase = spin2_phase
    tolerance: float = 1e-3
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        require_settings(
            self.threshold, self.num_scales, self.num_reweightings, self.num_corrections
        )

    def __call__(self, key: jax.Array, shear: ShearMap | GalaxyShear) -> MassMap:
        del key
        padded, margin = _padded(shear, self.margin)
        count = scales_of(padded.grid, self.num_scales)
        noise = _noise(padded, count)
        found, steps = self._solve(padded, noise, self.positive)
        for _ in range(self.num_corrections):
            data = _corrected(padded, found.sparse)
            found, steps = self._solve(data, noise, self.positive)
        b_mode = None
        if self.with_b_mode:
            rotated = _turned(padded)
            b_mode = inner(self._solve(rotated, _noise(rotated, count), False)[0].sparse, margin)
        return MassMap(
            convergence=inner(found.sparse, margin),
            grid=shear.grid,
            mask=shear.mask,
            b_mode=b_mode,
            counts=shear.counts,
            diagnostics=solver_diagnostics(found, steps, self.tolerance),
        )

    def _solve(
        self, data: ShearMap | GalaxyShear, noise: jax.Array, positive: bool
    ) -> tuple[Components, list[int]]:
        plain = (self.threshold * noise).at[-1].set(0)
        return solve_reweighted(
            data,
            plain,
            noise,
            None,
            positive=positive,
            num_reweightings=self.num_reweightings,
            debias=self.debias,
            phase=self.phase,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )


def _padded(
    shear: ShearMap | GalaxyShear, margin: int | None
) -> tuple[ShearMap | GalaxyShear, int]:
    if not isinstance(shear, GalaxyShear):
        return pad_shear(shear, margin)
    taken = taken_margin(shear.grid.shape, margin)
    return padded_galaxies(shear, taken), taken


def _noise(data: ShearMap | GalaxyShear, count: int) -> jax.Array:
    if isinstance(data, ShearMap):
        return starlet_noise(data.weight, data.grid, count)
    neighbours = neighbour_weights(data)
    return starlet_noise(neighbours.pop((0, 0)), data.grid, count, neighbours)


def _corrected(data: ShearMap | GalaxyShear, convergence: jax.Array) -> ShearMap | GalaxyShear:
    """From reduced shear to shear, with its noise, for a convergence found before."""
    if isinstance(data, ShearMap):
        factor = 1 - convergence
        return replace(data, shear=data.shear * factor, weight=data.weight / factor[None] ** 2)
    factor = 1 - read_off(data, convergence)
    weight = data.galaxy_weight / factor[None] ** 2
    return replace(data, shear=data.shear * factor, galaxy_weight=weight)


def _turned(data: ShearMap | GalaxyShear) -> ShearMap | GalaxyShear:
    if isinstance(data, ShearMap):
        return turned(data)
    return replace(data, shear=-1j * data.shear, galaxy_weight=data.galaxy_weight[::-1])


def require_settings(
    threshold: float, num_scales: int | None, num_reweightings: int, num_corrections: int
) -> None:
    if not 0 <= threshold < float("inf"):
        raise ValueError(f"threshold is {threshold} sigma; expected 0 or more")
    if num_scales is not None and not 1 <= num_scales <= 12:
        raise ValueError(f"num_scales is {num_scales}; expected 1 to 12 wavelet scales")
    if num_reweightings < 0 or num_corrections < 0:
        raise ValueError(
            f"num_reweightings is {num_reweightings} and num_corrections {num_corrections}; "
            "expected 0 or more of each"
        )


def scales_of(grid: Grid, num_scales: int | None) -> int:
    """Wavelet scales asked for, or those up to `BROADEST_ARCMIN`."""
    if num_scales is not None:
        return num_scales
    return most_scales(grid.shape, BROADEST_ARCMIN, grid.pixel_arcmin)


def solve_reweighted(
    data: ShearMap | GalaxyShear,
    thresholds: jax.Array,
    noise: jax.Array,
    prior: GaussianPrior | None,
    *,
    num_reweightings: int,
    debias: bool,
    **settings: Any,
) -> tuple[Components, list[int]]:
    r"""Solve, lower the thresholds where coefficients are significant, solve again.

    The significance of a coefficient :math:`\alpha = \Phi^t\kappa` is that of a matched filter:
    back-projected noise of variance :math:`\sigma^2` stands for an error
    :math:`\sigma_\alpha = n^2 / \sigma` of the coefficient, with :math:`n^2` the variance for
    unit weights.

    Args:
        data: observed shear.
        thresholds: of the first solution, shape ``(J + 1, ny, nx)``.
        noise: :math:`\sigma`, of `jaxmap.starlet.starlet_noise`, same shape.
        prior: of the Gaussian component, or None.
        num_reweightings: how often.
        debias: whether to free the active coefficients in one more solution.
        settings: of `jaxmap.sparse_solver.solve_components`.

    Returns:
        The last solution, and the steps that each took.

    Raises:
        FloatingPointError: if a solution is not finite, as soon as it is not.
    """
    count = len(thresholds) - 1
    unit = starlet_noise(jnp.ones_like(data.weight), data.grid, count)[:, :1, :1]
    zero = jnp.zeros_like(thresholds[0])
    found = Components(zero, zero, jnp.zeros_like(thresholds), jnp.asarray(0), zero[0, 0])
    current, steps = thresholds, []
    problems = num_reweightings + 1 + debias
    for number in range(problems):
        if number > num_reweightings:
            active = jnp.abs(found.dual) >= current * (1 - 1e-4)
            current = jnp.where(active, 0, current)
        elif number > 0:
            significance = jnp.abs(starlet(found.sparse, count)) * noise / unit**2
            limit = thresholds / jnp.where(noise > 0, noise, 1)
            lowered = limit / jnp.where(significance > 0, significance, 1)
            current = thresholds * jnp.where(significance > limit, lowered, 1)
        # Freed coefficients settle faster with a shorter dual step.
        step = 0.3 if number > num_reweightings else 1.0
        found = solve_components(data, current, prior, found, dual_step=step, **settings)
        steps.append(int(found.iterations))
        if not np.isfinite(found.residual):
            raise FloatingPointError(
                f"the sparse solution is not finite from step {steps[-1]} of problem {number + 1} "
                f"of {problems} on: shear or weights are beyond the range of the precision; check "
                "the units of the noise, or use float64 (--x64)"
            )
    return found, steps


def solver_diagnostics(found: Components, steps: list[int], tolerance: float) -> dict[str, Any]:
    """What to say of a solution; warns when it stopped short of its tolerance.

    Raises:
        FloatingPointError: if the map is not finite.
    """
    require_finite_maps(found.sparse + found.gaussian)
    residual = float(found.residual)
    if residual > tolerance:
        log.warning(
            "the sparse solution stopped after %d steps with a residual of %.1e, above %.1e; a "
            "higher threshold, more max_iterations, or float64 (--x64) may help",
            steps[-1],
            residual,
            tolerance,
        )
    return {"iterations": steps, "optimality_residual": residual}
