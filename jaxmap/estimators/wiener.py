"""The Wiener estimator: mean, B mode, samples and errors of the Gaussian posterior."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import inner, pad_shear
from jaxmap.gaussian_posterior import (
    Solver,
    gaussian_fluctuation,
    solve_conjugate_gradient,
    turned,
)
from jaxmap.massmap import MassMap
from jaxmap.operators import Phase, spin2_phase
from jaxmap.prior import GaussianPrior
from jaxmap.solvers import SolverInfo
from jaxmap.spectra import PowerSpectrum, mode_variance

log = logging.getLogger(__name__)


def _no_progress(chunks: Iterable[int]) -> Iterable[int]:
    return chunks


@dataclass(frozen=True)
class Wiener:
    r"""Mean and samples of the posterior under a Gaussian prior, exact for any mask and noise.

    .. math:: \hat\kappa = (S^{-1} + A^\dagger W A)^{-1} A^\dagger W \gamma

    The mean is the Wiener filter without B mode (`jaxmap.gaussian_posterior`). Samples are mean
    plus constrained-realisation fluctuations, exact and independent draws; the standard
    deviation is their rms about the mean, with a relative error of :math:`1/\sqrt{2 n}`. The B-mode
    map is the same filter on the shear turned by 45 degrees: noise, and near masks and edges also
    what of the signal cannot be told from a B mode there.

    Runs on the host, chunk by chunk; its parts `solve_conjugate_gradient` and
    `gaussian_fluctuation` are pure functions for ``jax.jit``, ``vmap`` and ``grad``.

    Args:
        spectrum: prior power spectrum of the convergence.
        num_samples: posterior samples to draw; 0 for the mean alone (no standard deviation).
        keep_samples: keep them in the result, not only their standard deviation.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        chunk: samples solved at once; 1 by default on a CPU, 8 elsewhere. The draws do not depend
            on it.
        phase: of the shear operator; `jaxmap.operators.two_map_phase` for shear made as two real
            maps on this very grid (with ``margin=0``), as in many simulations.
        solver: solver of the Wiener equation; every new function object is compiled once.
        progress: wraps the loop over chunks, e.g. ``tqdm.tqdm``.

    Raises:
        ValueError: for a negative number of samples or a chunk below 1.
        FloatingPointError: if the solution is not finite.

    References:
        Hoffman & Ribak (1991), ApJ 380, L5 (samples); Remy et al. (2023), A&A 672, A51, Sect. 3.2.
    """

    spectrum: PowerSpectrum
    num_samples: int = 100
    keep_samples: bool = True
    margin: int | None = None
    chunk: int | None = field(default=None, compare=False)
    phase: Phase = spin2_phase
    solver: Solver = solve_conjugate_gradient
    progress: Callable[[Iterable[int]], Iterable[int]] = field(default=_no_progress, compare=False)

    def __post_init__(self) -> None:
        if self.num_samples < 0:
            raise ValueError(f"num_samples is {self.num_samples}; expected 0 (none) or more")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; expected 1 sample or more at once")

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        padded, margin = pad_shear(shear, self.margin)
        _warn_of_short_table(self.spectrum, padded)
        prior = GaussianPrior(mode_variance(self.spectrum, padded.grid))
        mean, info = _solve(padded, prior, self.phase, self.solver)
        b_mode, info_b = _solve(turned(padded), prior, self.phase, self.solver)
        _warn_unless_converged([info, info_b])
        result = MassMap(
            convergence=mean,
            grid=padded.grid,
            mask=padded.mask,
            b_mode=b_mode,
            counts=padded.counts,
        ).cropped(margin)
        if self.num_samples == 0:
            return result
        std, fluctuations = self._fluctuations(key, padded, prior, margin)
        if fluctuations is not None:
            fluctuations += np.asarray(result.convergence)[None]
        return replace(result, std=std, samples=fluctuations)

    def _fluctuations(
        self, key: jax.Array, padded: ShearMap, prior: GaussianPrior, margin: int
    ) -> tuple[jax.Array, np.ndarray | None]:
        """Standard deviation of the cropped posterior, and the draws it comes from if kept."""
        chunk = self.chunk or (1 if jax.default_backend() == "cpu" else 8)
        total = jnp.zeros(padded.grid.padded(-margin).shape, padded.weight.dtype)
        kept: list[np.ndarray] = []
        infos: list[SolverInfo] = []
        for start in self.progress(range(0, self.num_samples, chunk)):
            # A key per sample, so that the draws do not depend on the chunk; the last chunk is
            # filled up so that one compiled program serves all.
            keys = jax.vmap(partial(jax.random.fold_in, key))(start + jnp.arange(chunk))
            draws, info = _draw(keys, padded, prior, self.phase, self.solver)
            draws = inner(draws, margin)[: self.num_samples - start]
            total = total + jnp.sum(draws**2, axis=0)
            infos.append(info)
            if self.keep_samples:
                kept.append(np.asarray(draws))
        _warn_unless_converged(infos)
        std = jnp.sqrt(total / self.num_samples)
        return std, np.concatenate(kept) if kept else None


@partial(jax.jit, static_argnames=("phase", "solver"))
def _solve(
    data: ShearMap, prior: GaussianPrior, phase: Phase, solver: Solver
) -> tuple[jax.Array, SolverInfo]:
    return solver(data, prior, phase)


@partial(jax.jit, static_argnames=("phase", "solver"))
def _draw(
    keys: jax.Array, data: ShearMap, prior: GaussianPrior, phase: Phase, solver: Solver
) -> tuple[jax.Array, SolverInfo]:
    return jax.vmap(lambda key: gaussian_fluctuation(key, data, prior, phase, solver))(keys)


def _warn_unless_converged(infos: list[SolverInfo], limit: float = 1e-3) -> None:
    worst = float(np.max([np.max(info.residual) for info in infos]))
    if not np.isfinite(worst):
        raise FloatingPointError(
            f"the Wiener solution is not finite at step {_most_steps(infos)}: weights or prior are "
            "beyond the range of the precision; use float64 (--x64), or check the units of the "
            "noise"
        )
    if worst > limit:
        log.warning(
            "the Wiener solution stopped at a relative residual of %.1e after %d steps; weights or "
            "prior of extreme range? float64 (--x64) may help",
            worst,
            _most_steps(infos),
        )


def _most_steps(infos: list[SolverInfo]) -> int:
    return max(int(jnp.max(info.iterations)) for info in infos)


def _warn_of_short_table(spectrum: PowerSpectrum, data: ShearMap) -> None:
    last = float(spectrum.ell[-1])
    # Half of the Nyquist multipole: beyond it there is next to no signal.
    needed = 0.5 * float(jnp.max(jnp.abs(data.grid.ell().real)))
    if last < needed:
        log.warning(
            "the power spectrum ends at ell = %.0f and is continued as a power law; pixels of %g "
            "arcmin show structure up to ell = %.0f: give a longer table",
            last,
            data.grid.pixel_arcmin,
            2 * needed,
        )
