"""The COSMOS field from the real shape catalogue.

1. The recipe of the published maps (plain RA and Dec, e2 flipped since columns run with RA)
   reproduces them.
2. The default tangent-plane map agrees with it once that is mirrored back.
3. Wiener map with the X-ray clusters of Finoguenov et al.; its mean S/N at their places against
   random places, E mode and B mode.

Writes results/cosmos.json and cosmos_wiener.png.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table
from common import arguments, real_data, save

from jaxmap.binning import bin_shear, weighted_mean_shear
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.cosmology import convergence_power
from jaxmap.diagnostics import check_e2_sign
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.footprint import grid_of_catalog
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.plot import plot_mass_map
from jaxmap.reading.readers import read_shear


def main() -> None:
    options = arguments(__doc__)
    jax.config.update("jax_enable_x64", True)
    catalog = read_shear(real_data(options) / "cosmos" / "s10_shear_catalog.fits")
    legacy, legacy_figures = legacy_check(catalog, real_data(options))
    grid = grid_of_catalog(catalog, 0.29)
    shear = bin_shear(catalog, grid)
    estimator = Wiener(convergence_power(), num_samples=20 if options.quick else 400)
    result = estimator(jax.random.key(options.seed), shear)
    clusters = Table.read(real_data(options) / "cosmos" / "xray_clusters.ecsv")
    signs = check_e2_sign(shear)
    save(
        options,
        "cosmos",
        {
            "num_galaxies": len(catalog),
            "grid": [*grid.shape, grid.pixel_arcmin],
            "legacy": legacy_figures,
            "tangent_against_legacy": compare(catalog, legacy),
            "e_mode_excess_sigma": {"as_given": signs.as_given, "e2_flipped": signs.flipped},
            "clusters": at_clusters(options.seed, result, clusters),
        },
    )
    draw_clusters(options.out / "cosmos_wiener.png", result, clusters)


def legacy_check(catalog: ShearCatalog, folder) -> tuple[ShearMap, dict[str, float]]:
    """Bin by the published recipe and compare with the published maps."""
    side = 360
    positions = []
    for angle in (catalog.ra_deg, catalog.dec_deg):
        edges = np.linspace(np.median(angle) - 0.87, np.median(angle) + 0.87, side + 1)
        # Where a galaxy falls in numpy's histogram; its last bin includes the upper edge.
        pixel = np.searchsorted(edges, angle, side="right") - 1.0
        positions.append(jnp.asarray(np.where(angle == edges[-1], side - 1, pixel)))
    flipped = jnp.asarray(catalog.ellipticity.conj())
    noise = jnp.asarray([np.std(catalog.ellipticity.real), np.std(catalog.ellipticity.imag)])
    grid = Grid((side, side), 0.29)
    shear, _, counts = weighted_mean_shear(
        *positions, flipped, jnp.asarray(catalog.weight), noise, grid
    )
    weight = counts[None] / noise[:, None, None] ** 2
    with np.load(folder / "cosmos" / "binned_0.29arcmin_360.npz") as file:
        published = {name: file[name] for name in file.files}
    observed = np.asarray(counts > 0)
    std = np.asarray(1 / jnp.sqrt(jnp.where(observed[None], weight, 1)))
    figures = {
        "pixels_in_mask": int(observed.sum()),
        "mask_differs_in_pixels": int(np.sum(observed != (published["mask"] > 0))),
        "noise_std_max_difference": float(
            np.abs((std - published["noise_std"]) * observed[None]).max()
        ),
    }
    for name, part in (("e1", shear.real), ("e2", shear.imag)):
        if name in published:  # not among the public files that are fetched
            figures[f"{name}_max_difference"] = float(
                np.abs(np.asarray(part) - published[name]).max()
            )
    return ShearMap(shear=shear, weight=weight, grid=grid, counts=counts), figures


def compare(catalog: ShearCatalog, legacy: ShearMap) -> dict[str, float]:
    """Correlation of Kaiser-Squires maps (1') of the two binnings, over pixels observed in both.

    The legacy columns run eastwards: mirrored, they run as ours. Unmirrored is the control.
    """
    centre = (float(np.median(catalog.ra_deg)), float(np.median(catalog.dec_deg)))
    tangent = bin_shear(catalog, Grid(legacy.grid.shape, 0.29, centre))
    ours, theirs = (KaiserSquires(1.0)(jax.random.key(0), shear) for shear in (tangent, legacy))

    def correlation(theirs: jax.Array, mask: jax.Array) -> float:
        both = np.asarray(ours.mask & mask)
        return float(
            np.corrcoef(np.asarray(ours.convergence)[both], np.asarray(theirs)[both])[0, 1]
        )

    return {
        "correlation": correlation(theirs.convergence[:, ::-1], theirs.mask[:, ::-1]),
        "correlation_unmirrored": correlation(theirs.convergence, theirs.mask),
    }


def at_clusters(seed: int, result: MassMap, clusters: Table) -> dict[str, float]:
    """Mean S/N of the map at the clusters, and how far above random places in the mask it is."""
    mask = np.asarray(result.mask)
    x, y = result.grid.pixel_position(clusters["ra"], clusters["dec"])
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    ny, nx = mask.shape
    inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    column, row = column[inside], row[inside]
    rng = np.random.default_rng(seed)
    places = np.argwhere(mask)
    figures: dict[str, float] = {"num_clusters": len(column)}
    for name, field in (("e_mode", result.convergence), ("b_mode", result.b_mode)):
        snr = np.asarray(field / result.std)
        random = [
            snr[tuple(places[rng.integers(len(places), size=len(column))].T)].mean()
            for _ in range(10_000)
        ]
        at = float(snr[row, column].mean())
        figures |= {
            f"{name}_mean_snr_at_clusters": at,
            f"{name}_mean_snr_at_random": float(np.mean(random)),
            f"{name}_scatter_of_random_means": float(np.std(random)),
            f"{name}_excess_sigma": float((at - np.mean(random)) / np.std(random)),
        }
    return figures


def draw_clusters(path, result: MassMap, clusters: Table) -> None:
    """The map and its S/N with circles of growing size for growing cluster mass."""
    figure = plot_mass_map(result, "COSMOS: Wiener filter, X-ray clusters (Finoguenov et al.)")
    circle_clusters(figure, clusters)
    figure.savefig(path, dpi=130)


def circle_clusters(figure, clusters: Table) -> None:
    """Circles on the panels of a mass map and its S/N."""
    for axes in figure.axes:
        if axes.get_title().startswith(("convergence", "signal")):
            axes.scatter(
                clusters["ra"],
                clusters["dec"],
                s=12 * np.asarray(clusters["m500_1e13"]) ** 0.8 + 15,
                transform=axes.get_transform("icrs"),
                facecolors="none",
                edgecolors="cyan" if axes.get_title().startswith("conv") else "black",
                linewidths=1.0,
            )


if __name__ == "__main__":
    main()
