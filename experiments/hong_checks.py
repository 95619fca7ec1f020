"""What a network for clusters does where there is none, in small fields, and on a merging cluster.

Hong et al. (2021): the null test (Sect. 4.3, Fig. 12), the mass sheet (Sect. 4.1) and El Gordo
(Sect. 4.2, Fig. 11; here two NFW haloes of about its masses, not the data). Needs the maps of
``hong.py``; of several networks the first is taken. Masses are kept under ``--runs`` by
network and catalogue, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save
from hong import (
    COARSE,
    PIXEL_ARCMIN,
    SURVEY,
    estimator_of,
    record_of,
    resampled,
    weights_tag,
)
from hong_maps import HELD_OUT, RUNS, SIDE, TRAINED, held_out
from hong_pictures import MASS, label
from tqdm import tqdm

from jaxmap.cluster_network import mosaic, read_cluster_network
from jaxmap.clusters import duffy08, halo_convergence, halo_shear, nfw_halo
from jaxmap.clusters.scores import centroid, projected_mass
from jaxmap.cosmology import inverse_critical_density
from jaxmap.estimators import Estimator
from jaxmap.files import atomic_path
from jaxmap.grid import Grid
from jaxmap.simulation.cluster_fields import (
    ClusterSky,
    ClusterSurvey,
    bin_cluster,
    draw_cluster_galaxies,
)

METHODS = ("ks", "wiener", "deepmass", "cnn")
MERGER = ("ks_fine", "ks", "ks_plus", "wiener", "glimpse", "mcalens", "deepmass", "samples", "cnn")
FIELDS_ARCMIN = (9.0, 16.0, 24.7, 32.0)
OFFSETS_ARCMIN = (0.0, 3.0, 6.0)
Z_LENS, Z_SOURCE = 0.87, 1.2
HALOES = ((9.9e14, -0.9, 0.6), (6.5e14, 0.9, -0.6))
"""M200c of Kim et al. (2021) in Msun, and places in arcminutes, 2.2 arcmin apart."""


def main() -> None:
    options = arguments(
        __doc__,
        empty={"type": int, "default": 1000, "help": "catalogues (default: %(default)s)"},
        num={"type": int, "default": 20, "help": "clusters in small fields (default: 20)"},
        runs={"type": Path, "default": RUNS / "checks"},
        **HELD_OUT,
        **TRAINED,
    )
    options.runs.mkdir(parents=True, exist_ok=True)
    empty, num = (4, 2) if options.quick else (options.empty, options.num)
    nothing = null_test(options, empty)
    sheets = mass_sheets(options, num)
    merger, maps = el_gordo(options)
    figures = {
        "weights": record_of(options.weights[0]),
        "null_test": {name: summary(masses) for name, masses in nothing.items()},
        "mass_ratio_by_field": sheets,
        "el_gordo_like": merger,
    }
    save(options, "hong_checks", figures)
    draw(nothing, sheets, options.out / "hong_checks.png")
    draw_merger(maps, options.out / "hong_el_gordo.png")


def remembered(options: Any, name: str, number: int, measure: Callable[[], Any]) -> Any:
    """What ``measure`` finds, from the kept file of the network and number if there is one."""
    tag = weights_tag(f"cnn:{options.weights[0]}")
    path = options.runs / f"{name}{tag}-{options.seed}-{number:04d}.json"
    if not path.exists():
        text = json.dumps(measure())
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    return json.loads(path.read_text())


def grid_of(name: str, field_arcmin: float) -> Grid:
    of_network = {"cnn": PIXEL_ARCMIN, "deepmass": 0.29, "samples": 0.29}
    pixel = of_network.get(name, COARSE.pixel_arcmin)
    side = round(field_arcmin / pixel)
    return Grid((side, side), pixel)


def map_of(estimate: Estimator, galaxies: Any, grid: Grid) -> np.ndarray:
    """The map of a field in the middle of `COARSE`, 0 around it."""
    found = estimate(jax.random.key(0), bin_cluster(galaxies, grid)).convergence
    around = grid.padded(max(0, -(-round(32 / grid.pixel_arcmin) - grid.shape[0]) // 2))
    padded = jnp.pad(found, (around.shape[0] - grid.shape[0]) // 2)
    return resampled(padded, around)


def null_test(options: Any, num: int) -> dict[str, np.ndarray]:
    """Projected masses of empty fields, in the middle and towards the edge."""
    model = read_cluster_network(options.weights[0])[0]
    nothing = ClusterSky(jnp.zeros((SIDE, SIDE)), jnp.zeros((SIDE, SIDE), complex), 0.4)
    field = Grid((model.side, model.side), PIXEL_ARCMIN)  # one part of a field: no mosaic
    survey = ClusterSurvey(
        num_galaxies=round(SURVEY.num_galaxies * (model.side / 500) ** 2),
        field_arcmin=model.side * PIXEL_ARCMIN,
    )
    coarse = grid_of("ks", survey.field_arcmin)
    ks = estimator_of("ks", options)
    base = jax.random.fold_in(jax.random.key(options.seed), 77)

    def measured(number: int) -> dict[str, list[float]]:
        key = jax.random.fold_in(base, number)
        galaxies = draw_cluster_galaxies(key, nothing, survey)
        found = {
            "ks": np.asarray(ks(key, bin_cluster(galaxies, coarse)).convergence),
            "cnn": np.asarray(mosaic(model, bin_cluster(galaxies, field)).convergence)[2::3, 2::3],
        }
        masses = {}
        for name, field_map in found.items():
            middle = (len(field_map) - 1) / 2
            shifts = [middle + offset / COARSE.pixel_arcmin for offset in OFFSETS_ARCMIN]
            masses[name] = [projected_mass(field_map, x, middle) for x in shifts]
        return masses

    rows = [
        remembered(options, "null", number, partial(measured, number))
        for number in tqdm(range(num), desc="empty fields", unit="catalogue")
    ]
    return {name: np.array([row[name] for row in rows]) for name in ("ks", "cnn")}


def summary(masses: np.ndarray) -> dict[str, Any]:
    middle = masses[:, 0]
    skewness = float(np.mean((middle - middle.mean()) ** 3) / np.std(middle) ** 3)
    return {
        "catalogues": len(middle),
        "mean_and_error_by_offset": dict(
            zip(map(str, OFFSETS_ARCMIN), map(mean_and_error, masses.T), strict=True)
        ),
        "std": float(np.std(middle)),
        "skewness": skewness,
        "skewness_error": float(np.sqrt(6 / len(middle))),
        "percentiles_1_50_99": np.percentile(middle, (1, 50, 99)).tolist(),
    }


def mass_sheets(options: Any, num: int) -> dict[str, Any]:
    """Mass over its truth in the middle of fields of several sizes, and their mean convergence."""
    skies = held_out(options, num)
    fields = FIELDS_ARCMIN[::3] if options.quick else FIELDS_ARCMIN
    estimators = {name: estimator_of(name, options) for name in METHODS}
    at = COARSE.pixel_arcmin * (np.arange(COARSE.shape[0]) - (COARSE.shape[0] - 1) / 2)
    base = jax.random.fold_in(jax.random.key(options.seed), 78)
    sheet = "sheet" + weights_tag("deepmass")

    def measured(number: int) -> dict[str, dict[str, float]]:
        sky = jax.tree.map(lambda leaf: leaf[number], skies)
        truth = resampled(sky.convergence, Grid((SIDE, SIDE), sky.pixel_arcmin))
        near = np.hypot(at[None], at[:, None]) < 2
        row, column = np.unravel_index(np.argmax(np.where(near, truth, -1)), truth.shape)
        mass = projected_mass(truth, column, row)
        ratios: dict[str, dict[str, float]] = {name: {} for name in METHODS}
        for field in fields:
            survey = ClusterSurvey(
                num_galaxies=round(SURVEY.num_galaxies * (field / 32) ** 2), field_arcmin=field
            )
            galaxies = draw_cluster_galaxies(jax.random.fold_in(base, number), sky, survey)
            for name, estimate in estimators.items():
                found = map_of(estimate, galaxies, grid_of(name, field))
                ratios[name][str(field)] = projected_mass(found, column, row) / mass
        return ratios

    rows = [
        remembered(options, sheet, number, partial(measured, number))
        for number in tqdm(range(num), desc="field sizes", unit="cluster")
    ]
    return {
        name: {
            field: median_and_error(np.array([r[name][field] for r in rows]))
            for field in map(str, fields)
        }
        for name in METHODS
    }


def median_and_error(values: np.ndarray) -> list[float]:
    rows = np.random.default_rng(0).integers(0, len(values), (500, len(values)))
    return [float(np.median(values)), float(np.median(values[rows], axis=1).std())]


def el_gordo(options: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Two haloes in 9 arcmin with 95 galaxies per square arcminute, through all estimators."""
    side, pixel, field = 200, 0.05, 9.0
    at = pixel * (jnp.arange(side) - (side - 1) / 2)
    x, y = jnp.broadcast_arrays(at[None, :], at[:, None])
    density = inverse_critical_density(Z_LENS, Z_SOURCE)
    haloes = [nfw_halo(m, float(duffy08(m, Z_LENS)), Z_LENS, hx, hy) for m, hx, hy in HALOES]
    sky = ClusterSky(
        sum(halo_convergence(halo, x, y, density, pixel) for halo in haloes),
        sum(halo_shear(halo, x, y, density, pixel) for halo in haloes),
        pixel,
    )
    survey = ClusterSurvey(num_galaxies=round(95 * field**2), field_arcmin=field)
    galaxies = draw_cluster_galaxies(jax.random.key(options.seed), sky, survey)
    maps = {"truth": resampled(sky.convergence, Grid((side, side), pixel))}
    for name in MERGER:
        maps[name] = map_of(estimator_of(name, options), galaxies, grid_of(name, field))
    inside = slice(83 - 23, 83 + 23)
    maps = {name: one[inside, inside] for name, one in maps.items()}
    figures: dict[str, Any] = {}
    for name, one in maps.items():
        masses, offsets = [], []
        for _, hx, hy in HALOES:
            column, row = (22.5 + a / COARSE.pixel_arcmin for a in (hx, hy))
            masses.append(projected_mass(one, column, row, radius=4))
            away = np.hypot(*(np.indices(one.shape) - np.array([row, column])[:, None, None]))
            top = np.where(away < 5, one, one.min())
            found = centroid(top, half=3)
            offsets.append(COARSE.pixel_arcmin * float(np.hypot(found[0] - column, found[1] - row)))
        between = [one[round(22.5), round(22.5)]]
        figures[name] = {
            "masses_within_0.77_arcmin": masses,
            "peak_offsets_arcmin": offsets,
            "highest": float(one.max()),
            "between_the_haloes": float(between[0]),
        }
    return figures, maps


def draw(nothing: dict[str, np.ndarray], sheets: dict[str, Any], path: Path) -> None:
    figure = new_figure(10, 3.8)
    axes = figure.add_subplot(1, 2, 1)
    bins = np.linspace(
        *np.percentile(np.concatenate([m[:, 0] for m in nothing.values()]), (0, 100)), 40
    )
    for name, masses in nothing.items():
        axes.hist(masses[:, 0], bins, histtype="step", label=label(name))
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set(xlabel=f"{MASS} in the middle of empty fields", ylabel="catalogues")
    axes.legend(fontsize=8)
    axes = figure.add_subplot(1, 2, 2)
    for name, each in sheets.items():
        medians, errors = np.array(list(each.values())).T
        axes.errorbar(
            [float(field) for field in each], medians, errors, marker="o", ms=4, label=label(name)
        )
    axes.axhline(1, color="0.6", lw=0.8)
    axes.set(xlabel="side of the field [arcmin]", ylabel="mass over true mass, median")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def draw_merger(maps: dict[str, np.ndarray], path: Path) -> None:
    """Each in its own colours, as heights differ by six times; crosses are the true centres."""
    columns = 5
    figure = new_figure(2.9 * columns, 2.9 * -(-len(maps) // columns))
    half = COARSE.pixel_arcmin * len(next(iter(maps.values()))) / 2
    for number, (name, one) in enumerate(maps.items()):
        axes = figure.add_subplot(-(-len(maps) // columns), columns, number + 1)
        picture = axes.imshow(
            one, origin="lower", cmap="magma", vmin=-0.05, extent=(-half, half, -half, half)
        )
        for _, hx, hy in HALOES:
            axes.plot(hx, hy, "c+")
        axes.set_title(label(name), fontsize=10)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("x [arcmin]", fontsize=8)
        bar = figure.colorbar(picture, ax=axes, shrink=0.8)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("κ", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
