"""Kaiser-Squires, Wiener, posterior mean and the network of Hong et al. on fields about clusters.

Tables 2 to 4 of Hong et al. (2021) on held-out maps of jaxmap's light cone, without and with masks
of bright stars, beside their published rows. Their fields come from N-body simulations
(MassiveNuS) and these from a halo model: only comparisons within a column mean something. Needs
maps of sources at redshift 1.5 (``experiments/training/hong_clusters.toml`` says how to make the
training maps; held out are ``--num 32 --seed 9015``). Every map is kept under ``--runs``, so that a
run that was stopped goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import HERE, arguments, mean_and_error, new_figure, save

from jaxmap.cluster_network import PIXEL_ARCMIN, read_cluster_network
from jaxmap.clusters.scores import (
    CATASTROPHIC,
    centroid,
    deviation,
    interval,
    projected_mass,
    ratio,
)
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import DeepMass, Estimator, HongCNN, KaiserSquires, Wiener
from jaxmap.grid import Grid
from jaxmap.reading.maps.source import open_maps
from jaxmap.simulation.cluster_fields import (
    ClusterGalaxies,
    ClusterSky,
    ClusterSurvey,
    bin_cluster,
    cut_clusters,
    draw_bright_stars,
    draw_cluster_galaxies,
)
from jaxmap.training.smooth_power import smooth_power

SURVEY = ClusterSurvey()
SIDE = 84
FINE = Grid((500, 500), PIXEL_ARCMIN)
COARSE = Grid((166, 166), 3 * PIXEL_ARCMIN)
COSMOS = Grid((110, 110), 0.29)
RIM = 14
SKIES = ("clear", "stars")
GRIDS = {"cnn": FINE, "deepmass": COSMOS}  # the others work on COARSE

PUBLISHED = {
    "note": "R, D, median mass ratio with 68 %, median offset with 68 % [arcmin]; R is of the "
    "preprint, the rest of the final paper; MassiveNuS skies, other galaxies",
    "clear": {
        "KS93": [0.253, 6.26, [0.484, 0.218, 0.149], [4.27, 8.63, 3.94]],
        "49 MSE": [0.363, 4.59, [0.762, 0.305, 0.266], [0.55, 4.19, 0.36]],
        "49 focal": [0.407, 4.36, [0.867, 0.327, 0.296], [0.60, 4.92, 0.38]],
        "29": [0.359, 4.32, [0.754, 0.305, 0.245], [0.67, 7.31, 0.44]],
        "19": [0.329, 4.09, [0.720, 0.314, 0.238], [0.73, 1.19, 0.40]],
    },
    "stars": {
        "49 MSE": [0.216, 4.22, [0.448, 0.217, 0.182], [2.60, 4.09, 2.12]],
        "49 focal": [0.276, 3.66, [0.554, 0.257, 0.211], [1.53, 4.21, 1.14]],
        "29": [0.209, 4.29, [0.421, 0.188, 0.193], [2.55, 6.09, 2.11]],
        "19": [0.193, 4.91, [0.386, 0.191, 0.149], [6.05, 4.99, 5.48]],
    },
}


def main() -> None:
    runs = HERE.parent / "runs" / "hong"
    options = arguments(
        __doc__,
        num={"type": int, "default": 200, "help": "fields (default: %(default)s)"},
        methods={"default": "ks,ks_fine,wiener,deepmass,cnn"},
        maps={"type": Path, "default": runs / "held_out"},
        training={"type": Path, "default": runs / "maps", "help": "maps that were trained on"},
        weights={"type": Path, "default": runs / "train" / "hong.npz"},
        runs={"type": Path, "default": runs / "fields"},
    )
    num = 3 if options.quick else options.num
    skies = held_out(options.maps, num)
    methods = options.methods.split(",")
    kept = options.out / "runs" if options.quick else options.runs
    kept.mkdir(parents=True, exist_ok=True)
    estimators = {name: estimator_of(name, options) for name in methods}
    for number in range(num):
        sky = jax.tree.map(lambda leaf, at=number: leaf[at], skies)
        for name, estimate in estimators.items():
            path = kept / f"{name}-{options.seed}-{number:04d}.npy"
            if path.exists():
                continue
            maps = [
                on_coarse(estimate, galaxies_of(options.seed, number, sky, kind), GRIDS.get(name))
                for kind in SKIES
            ]
            with open(path, "wb") as stream:
                np.save(stream, np.stack(maps).astype(np.float16))
    truths = np.stack([truth_of(sky) for sky in each_of(skies, num)])
    found = {
        name: np.stack([np.load(kept / f"{name}-{options.seed}-{n:04d}.npy") for n in range(num)])
        for name in methods
    }
    figures: dict[str, Any] = {
        "fields": num,
        "ks_smoothing_arcmin": {"ks": 1.0, "ks_fine": 0.5},
        "weights": record_of(options.weights) if "cnn" in methods else None,
        "mass_of_truth": interval(np.array([mass_and_place(t)[0] for t in truths]))._asdict(),
        "published": PUBLISHED,
    }
    rng = np.random.default_rng(options.seed)
    for index, kind in enumerate(SKIES):
        figures[kind] = {
            name: judged(maps[:, index].astype(float), truths, rng) for name, maps in found.items()
        }
    save(options, "hong", figures)
    draw_masses(found, truths, options.out / "hong.png")
    draw_maps(found, truths, options.out / "hong_maps.png")


def held_out(folder: Path, num: int) -> ClusterSky:
    """Clusters of maps that no network was trained on."""
    source = open_maps(str(folder))
    maps = np.stack([source[n] for n in range(min(len(source), 1 + num // 8))])
    skies = cut_clusters(maps, source.pixel_arcmin, SIDE)
    if len(skies.convergence) < num:
        raise SystemExit(
            f"{folder} has {len(skies.convergence)} clusters, not {num}; make more maps"
        )
    return skies


def each_of(skies: ClusterSky, num: int) -> list[ClusterSky]:
    return [jax.tree.map(lambda leaf, at=n: leaf[at], skies) for n in range(num)]


def galaxies_of(seed: int, number: int, sky: ClusterSky, kind: str) -> ClusterGalaxies:
    """The same galaxies in both kinds of sky, but for those behind stars."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 11_000_000), number)
    key_galaxies, key_stars = jax.random.split(key)
    if kind == "clear":
        return draw_cluster_galaxies(key_galaxies, sky, SURVEY)
    _, x, y = mass_and_place(truth_of(sky))
    half = (COARSE.shape[0] - 1) / 2 - RIM
    place = [COARSE.pixel_arcmin * (axis - half) for axis in (x, y)]
    stars = draw_bright_stars(key_stars, FINE, *place)
    return draw_cluster_galaxies(key_galaxies, sky, SURVEY, stars)


def estimator_of(name: str, options: Any) -> Estimator:
    if name in ("ks", "ks_fine"):
        return KaiserSquires(1.0 if name == "ks" else 0.5)
    if name == "wiener":
        source = open_maps(str(options.training))
        spectrum = smooth_power(np.stack([source[n] for n in range(20)]), source.pixel_arcmin)
        return Wiener(spectrum, num_samples=0)
    if name == "deepmass":
        return DeepMass(read_denoiser()[0])
    return HongCNN((read_cluster_network(options.weights)[0],), step=38, with_b_mode=False)


def on_coarse(estimate: Estimator, galaxies: ClusterGalaxies, grid: Grid | None) -> np.ndarray:
    """The map in the pixels of the network's output, without the rim that it does not know."""
    grid = COARSE if grid is None else grid
    found = estimate(jax.random.key(0), bin_cluster(galaxies, grid)).convergence
    if grid is FINE:
        return inner(found[2::3, 2::3][:166, :166])
    if grid is COARSE:
        return inner(found)
    return inner(resampled(found, grid))


def resampled(field: jax.Array, grid: Grid) -> np.ndarray:
    """A map in the pixels of `COARSE`, bilinear."""
    return truth_of(ClusterSky(field, 0j * field, grid.pixel_arcmin), rim=0)


def truth_of(sky: ClusterSky, rim: int = RIM) -> np.ndarray:
    at = COARSE.pixel_arcmin * (jnp.arange(COARSE.shape[0]) - (COARSE.shape[0] - 1) / 2)
    x, y = jnp.broadcast_arrays(at[None, :], at[:, None])
    values = np.asarray(sky.at(x, y)[0])
    return values[rim : len(values) - rim, rim : len(values) - rim]


def inner(values: Any) -> np.ndarray:
    return np.asarray(values)[RIM : len(values) - RIM, RIM : len(values) - RIM]


def mass_and_place(truth: np.ndarray) -> tuple[float, float, float]:
    """True projected mass and place of the cluster: the highest peak in the middle of the field."""
    third = len(truth) // 3
    middle = np.full_like(truth, -1)
    middle[third:-third, third:-third] = truth[third:-third, third:-third]
    row, column = np.unravel_index(np.argmax(middle), truth.shape)
    return projected_mass(truth, column, row), float(column), float(row)


def judged(maps: np.ndarray, truths: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """The published figures of one estimator, the usual ones beside, and errors by resampling."""
    true = [mass_and_place(truth) for truth in truths]
    masses = np.array([projected_masses(maps, true), [mass for mass, _, _ in true]]).T
    centres = [np.array([centroid(each) for each in which]) for which in (maps, truths)]
    offsets = np.hypot(*(centres[0] - centres[1]).T)
    rows = rng.integers(0, len(maps), (300, len(maps)))
    quotient = masses[:, 0] / masses[:, 1]
    far = offsets > CATASTROPHIC
    residual = maps - truths
    third = maps.shape[1] // 3
    middle = residual[:, third:-third, third:-third].mean(axis=(1, 2))
    pairs = zip(maps, truths, strict=True)
    correlation = np.array([np.corrcoef(m.ravel(), t.ravel())[0, 1] for m, t in pairs])
    rmse = np.sqrt((residual**2).mean(axis=(1, 2)))
    return {
        "R": ratio(maps, truths)._asdict(),
        "D": deviation(maps, truths)._asdict(),
        "mass_ratio": interval(quotient)._asdict(),
        "mass_ratio_error": float(np.median(quotient[rows], axis=1).std()),
        "mass_scatter_after_scaling": scatter(masses),
        "offset_pixels": interval(offsets)._asdict(),
        "offset_pixels_error": float(np.median(offsets[rows], axis=1).std()),
        "offset_arcmin": interval(COARSE.pixel_arcmin * offsets)._asdict(),
        "catastrophic": [float(far.mean()), float(far[rows].mean(axis=1).std())],
        "rmse": mean_and_error(rmse),
        "correlation": mean_and_error(correlation),
        "mean_error_middle": mean_and_error(middle),
    }


def projected_masses(maps: np.ndarray, true: list[tuple[float, float, float]]) -> list[float]:
    places = zip(maps, true, strict=True)
    return [projected_mass(one, x, y) for one, (_, x, y) in places]


def scatter(masses: np.ndarray) -> float:
    """Rms of the mass about the best straight line, relative to the mean true mass: how well the
    order of masses is known, whatever the calibration."""
    slope, offset = np.polyfit(masses[:, 0], masses[:, 1], 1)
    return float(np.std(masses[:, 1] - slope * masses[:, 0] - offset) / masses[:, 1].mean())


def record_of(path: Path) -> dict[str, Any]:
    header = read_cluster_network(path)[1]
    training = header["training"]
    keys = ("steps", "seconds", "best_step", "clusters", "validation")
    return {"sha256": header["sha256"], **{key: training[key] for key in keys}}


def draw_masses(found: dict[str, np.ndarray], truths: np.ndarray, path: Path) -> None:
    figure = new_figure(3.2 * len(found), 6.2)
    true = [mass_and_place(truth) for truth in truths]
    for column, (name, maps) in enumerate(found.items()):
        for index, kind in enumerate(SKIES):
            axes = figure.add_subplot(2, len(found), index * len(found) + column + 1)
            masses = projected_masses(maps[:, index], true)
            axes.plot([mass for mass, _, _ in true], masses, ".", ms=3)
            axes.plot([0, 60], [0, 60], "k", lw=0.7)
            axes.set(title=f"{name}, {kind}", xlabel="true mass", ylim=(-25, 70), xlim=(0, 65))
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def draw_maps(found: dict[str, np.ndarray], truths: np.ndarray, path: Path, num: int = 2) -> None:
    figure = new_figure(2.6 * (1 + len(found)), 2.7 * 2 * num)
    row = 0
    for number in range(num):
        for index, kind in enumerate(SKIES):
            panels = {"truth": truths[number]} | {n: m[number, index] for n, m in found.items()}
            for column, (name, field) in enumerate(panels.items()):
                axes = figure.add_subplot(2 * num, len(panels), row * len(panels) + column + 1)
                axes.imshow(
                    np.asarray(field, float), vmin=-0.05, vmax=0.15, origin="lower", cmap="magma"
                )
                axes.set(title=f"{name}, {kind}", xticks=[], yticks=[])
            row += 1
    figure.tight_layout()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    main()
