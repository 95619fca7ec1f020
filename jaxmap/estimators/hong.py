"""Mass maps of clusters by trained networks of Hong et al."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap, require_shear_map
from jaxmap.cluster_network import (
    PIXEL_ARCMIN,
    ClusterNetwork,
    Mosaic,
    mosaic,
    warn_of_depth,
)
from jaxmap.denoiser_files import warn_of_residuals
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.galaxies import GalaxyShear, pixel_mean
from jaxmap.gaussian_posterior import turned
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap

_SAME_SCALE = 0.02


@dataclass(frozen=True)
class HongCNN:
    r"""Convergence of cluster fields by one network, or by the mean of several.

    The map keeps its mean, as far as a network can know it from the edges of a field; the other
    estimators set it to zero. It has an error only of several networks, the spread of their maps,
    which is how well training converged and not the error of a map. The B-mode map is what the
    networks make of the shear turned by 45 degrees.

    Pixels are those of the data, 0.064 arcmin; three by three of them share a value. Along the
    edges of fields wider than a network's (24.7 arcmin) 14 such values are missing, and masked.
    Data of another depth than the training's are told of, and residuals larger than the noise; not
    sources at other redshifts, which the file of a network does not say.

    Args:
        models: trained networks, e.g. of `jaxmap.cluster_network.read_cluster_network`.
        step: pixels of the networks' output between overlapping parts of a field, at most; parts
            of small networks are put as near as it takes to leave no gaps.
        with_b_mode: make that map, which takes as long again.

    Raises:
        ValueError: without a model, for a step that is not 1 to 50, and, when called, for pixels
            of another size.
        FloatingPointError: if the map is not finite.

    References:
        Hong et al. (2021), ApJ 923, 266.
    """

    models: tuple[ClusterNetwork, ...]
    step: int = 19
    with_b_mode: bool = True

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("no network given; expected one or more")
        if not 1 <= self.step <= 50:
            raise ValueError(f"step is {self.step}; expected 1 to 50 output pixels")

    def __call__(self, key: jax.Array, shear: ShearMap | GalaxyShear) -> MassMap:
        del key
        data = pixel_mean(shear) if isinstance(shear, GalaxyShear) else shear
        require_shear_map(data)
        self.check_pixels(data.grid)
        warn_of_depth(data)
        found = [mosaic(model, data, self.step) for model in self.models]
        maps = np.stack([each.convergence for each in found])
        convergence = jnp.asarray(maps.mean(axis=0))
        chi2 = float(chi2_per_pixel(convergence, data))
        if not (np.isfinite(maps).all() and np.isfinite(chi2)):
            raise FloatingPointError(
                "the map is not finite: weights are beyond the range of the precision; check the "
                "units of the noise, or use float64 (--x64)"
            )
        warn_of_residuals(chi2, int(jnp.sum(data.weight > 0)), samples=False)
        return MassMap(
            convergence=convergence,
            grid=data.grid,
            mask=found[0].covered,
            std=jnp.asarray(maps.std(axis=0, ddof=1)) if len(maps) > 1 else None,
            b_mode=self._b_mode(data) if self.with_b_mode else None,
            counts=data.counts,
            diagnostics={"chi2_per_pixel": chi2},
        )

    def check_pixels(self, grid: Grid) -> None:
        """Refuse pixels of another size than the networks'."""
        scale = grid.pixel_arcmin
        if abs(scale / PIXEL_ARCMIN - 1) > _SAME_SCALE:
            raise ValueError(
                f"the pixels are {scale:g} arcmin wide; expected {PIXEL_ARCMIN} arcmin (3.84 "
                f"arcsec), which the network was trained for: bin the galaxies in such pixels"
            )

    def _b_mode(self, data: ShearMap) -> jax.Array:
        found: list[Mosaic] = [mosaic(model, turned(data), self.step) for model in self.models]
        return jnp.mean(jnp.stack([each.convergence for each in found]), axis=0)
