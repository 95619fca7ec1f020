"""What to simulate: all that decides how map number n looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18, Cosmology
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts
from jaxmap.simulation.baryons import Baryons
from jaxmap.simulation.geometry import check_flat

KINDS = ("light-cone", "lognormal", "gaussian")
LOGNORMAL_SHIFT = 0.045
"""Minus the lowest convergence of a lognormal map: about right for sources as deep as COSMOS."""


@dataclass(frozen=True, eq=False)
class MapRecipe:
    """What to simulate. Made by `map_recipe`, which checks it.

    Args:
        kind: one of `KINDS`.
        grid: of a map.
        sky: of the periodic simulation that maps are cut from.
        redshifts: n(z) of the sources.
        cosmology: flat LCDM parameters.
        baryons: suppression of small scales; None for dark matter only.
        lognormal_shift: minus the lowest convergence; None unless ``kind`` is lognormal.
        seed: of all maps.
    """

    kind: str
    grid: Grid
    sky: Grid
    redshifts: RedshiftDistribution
    cosmology: Cosmology
    baryons: Baryons | None
    lognormal_shift: float | None
    seed: int

    @property
    def tiles(self) -> tuple[int, int]:
        """How many disjoint maps fit in a sky, along y and x."""
        (ny, nx), (rows, columns) = self.grid.shape, self.sky.shape
        return rows // ny, columns // nx

    @property
    def maps_per_sky(self) -> int:
        """Maps ``n`` with the same ``n // maps_per_sky`` are neighbours in one sky."""
        return self.tiles[0] * self.tiles[1]


def map_recipe(
    grid: Grid,
    kind: str = "light-cone",
    *,
    sky_shape: tuple[int, int] | None = None,
    redshifts: RedshiftDistribution | None = None,
    cosmology: Cosmology = PLANCK18,
    baryons: Baryons | None = Baryons(),  # noqa: B008 (frozen)
    lognormal_shift: float | None = None,
    seed: int = 0,
) -> MapRecipe:
    """Describe simulated maps, and check the description.

    Simulations are periodic, the sky is not: maps are cut from a larger sky, without overlap. In a
    sky of twice a map's sides, the default, no two points of a map are nearer to each other around
    the back than across it, and four maps share one simulation; structure larger than the sky is
    missing. Maps of one sky are neighbours: split them by ``number // maps_per_sky`` where they
    must be independent.

    Args:
        grid: of a map.
        kind: ``light-cone`` (`jaxmap.simulation.lightcone`), or ``lognormal`` or ``gaussian``
            (`jaxmap.simulation.fields`) with the same mean power.
        sky_shape: ``(ny, nx)`` of the periodic sky; by default twice the map's.
        redshifts: n(z) of the sources; of COSMOS by default.
        cosmology: flat LCDM parameters.
        baryons: suppression of small scales; None for dark matter only.
        lognormal_shift: minus the lowest convergence of lognormal maps, `LOGNORMAL_SHIFT` by
            default.
        seed: of all maps, 0 to 2**32 - 1.

    Raises:
        ValueError: for an unknown kind, a sky smaller than the map or too wide to be flat, or a
            shift out of place.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of simulation is {kind!r}; expected one of {', '.join(KINDS)}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"the seed is {seed}; expected a whole number from 0 to {2**32 - 1}")
    sky = _sky(grid, sky_shape)
    if kind == "lognormal":
        lognormal_shift = LOGNORMAL_SHIFT if lognormal_shift is None else float(lognormal_shift)
        if not 0 < lognormal_shift < np.inf:
            raise ValueError(
                f"the lognormal shift is {lognormal_shift:g}; expected a convergence above 0, such "
                f"as {LOGNORMAL_SHIFT:g}"
            )
    elif lognormal_shift is not None:
        raise ValueError(f"a lognormal shift says nothing of {kind} maps; leave it out")
    return MapRecipe(
        kind=kind,
        grid=grid,
        sky=sky,
        redshifts=cosmos_redshifts() if redshifts is None else redshifts,
        cosmology=cosmology,
        baryons=baryons,
        lognormal_shift=lognormal_shift,
        seed=seed,
    )


def _sky(grid: Grid, shape: tuple[int, int] | None) -> Grid:
    if shape is None:
        # Of the map's parity, so that the map can lie in the middle on whole pixels.
        shape = (2 * grid.shape[0] + grid.shape[0] % 2, 2 * grid.shape[1] + grid.shape[1] % 2)
    sky = Grid(shape, grid.pixel_arcmin, grid.centre_deg)
    for side, of_map in zip(sky.shape, grid.shape, strict=True):
        if side < of_map or (side - of_map) % 2:
            raise ValueError(
                f"the sky is {sky.shape} pixels; expected sides at least as long as the map's "
                f"{grid.shape}, and both even or both odd"
            )
    width = max(grid.shape) * grid.pixel_arcmin / 60
    check_flat(sky, f"the periodic sky around maps of {width:.3g} degrees")
    return sky


def recipe_to_dict(recipe: MapRecipe) -> dict[str, Any]:
    """A recipe as JSON can hold it."""
    return {
        "kind": recipe.kind,
        "shape": list(recipe.grid.shape),
        "pixel_arcmin": recipe.grid.pixel_arcmin,
        "centre_deg": None if recipe.grid.centre_deg is None else list(recipe.grid.centre_deg),
        "sky_shape": list(recipe.sky.shape),
        "redshifts": {
            "z": np.asarray(recipe.redshifts.z, float).tolist(),
            "density": np.asarray(recipe.redshifts.density, float).tolist(),
        },
        "cosmology": asdict(recipe.cosmology),
        "baryons": None if recipe.baryons is None else asdict(recipe.baryons),
        "lognormal_shift": recipe.lognormal_shift,
        "seed": recipe.seed,
    }


def recipe_from_dict(stored: dict[str, Any]) -> MapRecipe:
    """The inverse of `recipe_to_dict`.

    Raises:
        ValueError: for values that `map_recipe` refuses.
        KeyError, TypeError: for a dictionary of another layout.
    """
    centre = stored["centre_deg"]
    grid = Grid(
        tuple(stored["shape"]), stored["pixel_arcmin"], None if centre is None else tuple(centre)
    )
    return map_recipe(
        grid,
        stored["kind"],
        sky_shape=tuple(stored["sky_shape"]),
        # As stored: to normalise it once more would change its last bits, and so the maps'.
        redshifts=RedshiftDistribution(
            *(np.asarray(stored["redshifts"][name], float) for name in ("z", "density"))
        ),
        cosmology=Cosmology(**stored["cosmology"]),
        baryons=None if stored["baryons"] is None else Baryons(**stored["baryons"]),
        lognormal_shift=stored["lognormal_shift"],
        seed=stored["seed"],
    )
