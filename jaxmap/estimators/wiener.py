"""The Wiener estimator: mean, B-mode null map, samples and errors of the Gaussian posterior."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import pad_shear
from jaxmap.gaussian_posterior import Solver, gaussian_fluctuation, solve_conjugate_gradient
from jaxmap.massmap import MassMap
from jaxmap.prior import GaussianPrior
from jaxmap.solvers import SolverInfo
from jaxmap.spectra import PowerSpectrum, mode_variance

log = logging.getLogger(__name__)


def _no_progress(chunks: Iterable[int]) -> Iterable[int]:
    return chunks


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Wiener:
    r"""Mean and samples of the posterior under a Gaussian prior, exact for any mask and noise.

    The mean is the Wiener filter without B mode (`jaxmap.gaussian_posterior`). Samples are mean
    plus constrained-realisation fluctuations, exact and independent draws; the standard
    deviation is their rms about the mean, with a relative error of :math:`1/\sqrt{2 n}`. The B-mode
    map is the same filter on the shear turned by 45 degrees; where all is well it holds only noise.

    Args:
        spectrum: prior power spectrum of the convergence.
        num_samples: posterior samples to draw; 0 for the mean alone (no standard deviation).
        keep_samples: keep them in the result, not only their standard deviation.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        chunk: samples solved at once; changes speed and memory, not the result's distribution.
        solver: solver of the Wiener equation.
        progress: wraps the loop over chunks, e.g. ``tqdm.tqdm``.
    """

    spectrum: PowerSpectrum
    num_samples: int = field(default=100, metadata={"static": True})
    keep_samples: bool = field(default=True, metadata={"static": True})
    margin: int | None = field(default=None, metadata={"static": True})
    chunk: int = field(default=2, metadata={"static": True})
    solver: Solver = field(default=solve_conjugate_gradient, metadata={"static": True})
    progress: Callable[[Iterable[int]], Iterable[int]] = field(
        default=_no_progress, metadata={"static": True}
    )

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        padded, margin = pad_shear(shear, self.margin)
        prior = GaussianPrior(mode_variance(self.spectrum, padded.grid))
        mean, info = _solve(padded, prior, self.solver)
        b_mode, info_b = _solve(_turned(padded), prior, self.solver)
        for name, solved in (("the map", info), ("the B-mode map", info_b)):
            _warn_unless_converged(name, solved)
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
        samples = None if fluctuations is None else result.convergence[None] + fluctuations
        return replace(result, std=std, samples=samples)

    def _fluctuations(
        self, key: jax.Array, padded: ShearMap, prior: GaussianPrior, margin: int
    ) -> tuple[jax.Array, jax.Array | None]:
        """Standard deviation of the cropped posterior, and the draws it comes from if kept."""
        ny, nx = padded.grid.shape
        inner = (slice(None), slice(margin, ny - margin), slice(margin, nx - margin))
        total = jnp.zeros((ny - 2 * margin, nx - 2 * margin), padded.weight.dtype)
        kept: list[np.ndarray] = []
        for start in self.progress(range(0, self.num_samples, self.chunk)):
            # A key per sample, so that the draws do not depend on the chunk; the last chunk is
            # filled up so that one compiled program serves all.
            keys = jax.vmap(partial(jax.random.fold_in, key))(start + jnp.arange(self.chunk))
            draws, info = _draw(keys, padded, prior, self.solver)
            _warn_unless_converged(f"samples from {start}", info)
            draws = draws[inner][: self.num_samples - start]
            total = total + jnp.sum(draws**2, axis=0)
            if self.keep_samples:
                kept.append(np.asarray(draws))
        std = jnp.sqrt(total / self.num_samples)
        return std, jnp.concatenate(kept) if kept else None


def _turned(shear: ShearMap) -> ShearMap:
    """The shear turned by 45 degrees, -i gamma, in which the B mode stands as an E mode."""
    return replace(shear, shear=-1j * shear.shear, weight=shear.weight[::-1])


@partial(jax.jit, static_argnames="solver")
def _solve(data: ShearMap, prior: GaussianPrior, solver: Solver) -> tuple[jax.Array, SolverInfo]:
    return solver(data, prior)


@partial(jax.jit, static_argnames="solver")
def _draw(
    keys: jax.Array, data: ShearMap, prior: GaussianPrior, solver: Solver
) -> tuple[jax.Array, SolverInfo]:
    return jax.vmap(lambda key: gaussian_fluctuation(key, data, prior, solver))(keys)


def _warn_unless_converged(name: str, info: SolverInfo, limit: float = 1e-3) -> None:
    residual = float(jnp.max(info.residual))
    if not residual <= limit:
        log.warning(
            "the Wiener solution of %s stopped at a relative residual of %.1e after %d steps; "
            "weights or prior of extreme range? float64 (--x64) may help",
            name,
            residual,
            int(jnp.max(info.iterations)),
        )
