"""The result of every estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import Grid


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MassMap:
    """A convergence map with its uncertainty.

    Args:
        convergence: E-mode convergence, real, shape ``(ny, nx)``; its mean is not measured.
        grid: pixel grid.
        mask: True where the shear was observed.
        std: standard deviation of the error per pixel (of `Resampled`, of the noise), or None.
        b_mode: B-mode map of the data, noise and leakage at masks, or None.
        samples: posterior samples, shape ``(n, ny, nx)``, or None; may stay on the host.
        counts: galaxies per pixel, or None.
        lower: 16 % quantile of the samples per pixel, or the lower end of a calibrated interval
            (`jaxmap.conformal`; ``diagnostics["conformal"]`` tells its level), or None.
        upper: 84 % quantile, or the upper end, or None.
        diagnostics: figures by name, as JSON can hold them; what an estimator has to say of how
            well its map and samples fit the data.
    """

    convergence: jax.Array
    grid: Grid = field(metadata={"static": True})
    mask: jax.Array
    std: jax.Array | None = None
    b_mode: jax.Array | None = None
    samples: jax.Array | np.ndarray | None = None
    counts: jax.Array | None = None
    lower: jax.Array | np.ndarray | None = None
    upper: jax.Array | np.ndarray | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def signal_to_noise(self) -> jax.Array | None:
        """Convergence over its standard deviation, or None without one; 0 where the std is 0."""
        if self.std is None:
            return None
        known = self.std > 0
        return jnp.where(known, self.convergence / jnp.where(known, self.std, 1), 0)

    def cropped(self, margin: int) -> MassMap:
        """The map without ``margin`` pixels on every side."""
        ny, nx = self.grid.shape
        if margin < 0 or 2 * margin >= min(ny, nx):
            raise ValueError(f"cannot crop {margin} pixels from every side of a {ny} x {nx} map")
        grid = self.grid.padded(-margin)
        inner = (..., slice(margin, ny - margin), slice(margin, nx - margin))
        maps = replace(self, diagnostics={})
        cropped = jax.tree.map(lambda array: array[inner], maps)
        return replace(cropped, grid=grid, diagnostics=self.diagnostics)


def quantiles(samples: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Quantiles of samples per pixel, row by row, so that samples on disk stay there.

    Args:
        samples: shape ``(n, ny, nx)``.
        levels: from 0 to 1, shape ``(q,)``.

    Returns:
        Shape ``(q, ny, nx)``.
    """
    rows = [np.quantile(samples[:, row], levels, axis=0) for row in range(samples.shape[1])]
    return np.stack(rows, axis=1).astype(samples.dtype)
