"""MCALens: a Gaussian field and a sparse one, both fitted to the shear at once."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import inner, pad_shear
from jaxmap.estimators.sparse import (
    require_settings,
    scales_of,
    solve_reweighted,
    solver_diagnostics,
)
from jaxmap.gaussian_posterior import wiener_b_mode
from jaxmap.massmap import MassMap
from jaxmap.operators import Phase, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance
from jaxmap.starlet import starlet_noise


@dataclass(frozen=True)
class MCALens:
    r"""Sum of a Gaussian component with a known spectrum and a component sparse in starlets.

    .. math::
        \min_{\kappa_G, \kappa_S} \tfrac12 \| W^{1/2}(\gamma - A(\kappa_G + \kappa_S)) \|^2
        + \tfrac12 \kappa_G^t S^{-1} \kappa_G + \sum_{j,p} \lambda_{jp} |(\Phi^t\kappa_S)_{jp}|

    The first component is the Wiener filter's, the second holds the peaks that no Gaussian field
    has. Both are updated in turn by proximal steps until the equations of the optimum hold
    (`jaxmap.sparse_solver`), where the published algorithm takes a fixed number. Its support, the
    coefficients detected above :math:`N\sigma`, is found in the same way: thresholds of
    :math:`N\sigma_{jp}` decide first which coefficients are active, and these are then freed. Where
    none is, the map is the exact Wiener filter.

    The diagnostics hold the steps and the residual of the equations. The B-mode map is the Wiener
    filter of the shear turned by 45 degrees.

    Args:
        spectrum: prior power spectrum of the convergence.
        threshold: :math:`N`, in standard deviations of the noise; the default is the best of 3 to 5
            on simulated fields as deep as COSMOS.
        num_scales: wavelet scales; None for those up to 20 arcminutes.
        positive: whether the sparse component must not be negative.
        num_reweightings: how often the thresholds follow the last solution before the active
            coefficients are freed.
        debias: whether to free them.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        phase: of the shear operator.
        tolerance: of the equations of the optimum.
        max_iterations: of every problem.

    Raises:
        ValueError: for negative numbers.
        FloatingPointError: if the map is not finite.

    References:
        Starck et al. (2021), A&A 649, A99; Remy et al. (2023), A&A 672, A51, Sect. 3.3.
    """

    spectrum: PowerSpectrum
    threshold: float = 4.0
    num_scales: int | None = None
    positive: bool = True
    num_reweightings: int = 0
    debias: bool = True
    margin: int | None = None
    phase: Phase = spin2_phase
    tolerance: float = 1e-3
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        require_settings(self.threshold, self.num_scales, self.num_reweightings, 0)

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        del key
        padded, margin = pad_shear(shear, self.margin)
        prior = GaussianPrior(mode_variance(self.spectrum, padded.grid))
        noise = starlet_noise(padded.weight, padded.grid, scales_of(padded.grid, self.num_scales))
        found, steps = solve_reweighted(
            padded,
            self.threshold * noise,
            noise,
            prior,
            positive=self.positive,
            num_reweightings=self.num_reweightings,
            debias=self.debias,
            phase=self.phase,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        return MassMap(
            convergence=inner(found.gaussian + found.sparse, margin),
            grid=shear.grid,
            mask=shear.mask,
            b_mode=inner(wiener_b_mode(padded, prior), margin),
            counts=shear.counts,
            diagnostics=solver_diagnostics(found, steps, self.tolerance),
        )
