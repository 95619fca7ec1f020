"""Kaiser-Squires, Wiener, posterior mean and the network of Hong et al. on fields about clusters.

Tables 2 to 4 of Hong et al. (2021) on held-out maps of jaxmap's light cone, without and with masks
of bright stars, beside their published rows. Their fields come from N-body simulations
(MassiveNuS) and these from a halo model: only comparisons within a column mean something. Needs
maps of sources at redshift 1.5, and says how to make them (`hong_maps.py`). Every map is kept under
``--runs``, so that a run that was stopped goes on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, save
from hong_maps import HELD_OUT, RUNS, TRAINED, held_out, spectrum_of
from hong_pictures import draw_maps, draw_masses
from hong_scores import PUBLISHED, gain_over_runs, judged, mass_and_place, scatter_of_runs
from tqdm import tqdm

from jaxmap.catalog import ShearMap
from jaxmap.cluster_network import PIXEL_ARCMIN, read_cluster_network
from jaxmap.clusters.scores import interval
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import (
    DeepMass,
    Estimator,
    HongCNN,
    KaiserSquires,
    KSPlus,
    MCALens,
    SampledPosterior,
    Sparse,
    Wiener,
)
from jaxmap.files import atomic_path
from jaxmap.grid import Grid
from jaxmap.simulation.cluster_fields import (
    ClusterGalaxies,
    ClusterSky,
    ClusterSurvey,
    bin_cluster,
    draw_bright_stars,
    draw_cluster_galaxies,
)
from jaxmap.training.survey_settings import Clusters

SURVEY = ClusterSurvey()
FINE = Grid((500, 500), PIXEL_ARCMIN)
COARSE = Grid((166, 166), 3 * PIXEL_ARCMIN)
COSMOS = Grid((110, 110), 0.29)
RIM = 14
SKIES = ("clear", "stars")
GRIDS = {"cnn": FINE, "deepmass": COSMOS}  # the others work on COARSE


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 200, "help": "fields (default: %(default)s)"},
        methods={"default": "ks,ks_fine,wiener,deepmass,cnn"},
        name={"default": "hong", "help": "of the files in --out (default: %(default)s)"},
        runs={"type": Path, "default": RUNS / "fields"},
        **HELD_OUT,
        **TRAINED,
    )
    options.runs.mkdir(parents=True, exist_ok=True)
    num = 3 if options.quick else options.num
    skies, kept = held_out(options, num), options.runs
    variants = variants_of(options.weights)
    groups = {name: [name] for name in options.methods.split(",") if name != "cnn"}
    if "cnn" in options.methods.split(","):
        groups |= {variant: [f"cnn:{path}" for path in of] for variant, of in variants.items()}
    keep_maps([one for members in groups.values() for one in members], num, skies, kept, options)
    found = {
        name: np.stack([maps_of(one, num, skies, kept, options) for one in members])
        for name, members in groups.items()
    }
    truths = np.stack([truth_of(sky) for sky in each_of(skies, num)])
    true = [mass_and_place(truth) for truth in truths]
    figures: dict[str, Any] = {
        "fields": num,
        "ks_smoothing_arcmin": {"ks": 1.0, "ks_fine": 0.5},
        "weights": {v: [record_of(path) for path in of] for v, of in variants.items()},
        "mass_of_truth": interval(np.array([mass for mass, _, _ in true]))._asdict(),
        "published": PUBLISHED,
    }
    rng = np.random.default_rng(options.seed)
    means = {name: maps.mean(axis=0) for name, maps in found.items()}
    repeated = [name for name, maps in found.items() if len(maps) > 1]
    for index, kind in enumerate(SKIES):
        figures[kind] = {name: judged(maps[:, index], truths, rng) for name, maps in means.items()}
        for name in repeated:
            runs = found[name][:, :, index]
            figures[kind][name]["runs"] = scatter_of_runs(runs, truths, rng) | {
                "others_gain_in_correlation": {
                    other: gain_over_runs(maps[:, index], runs, truths)
                    for other, maps in means.items()
                }
            }
    save(options, options.name, figures)
    shown = {
        f"{name} mean of {len(maps)}" if len(maps) > 1 else name: means[name]
        for name, maps in found.items()
    }
    draw_masses(shown, truths, true, COARSE.pixel_arcmin, options.out / f"{options.name}.png")
    draw_maps(shown, truths, options.out / f"{options.name}_maps.png")


def variants_of(weights: tuple[Path, ...]) -> dict[str, list[Path]]:
    """Files of weights by architecture and loss; among others the shipped one is one by itself."""
    found: dict[str, list[Path]] = {}
    shipped = read_cluster_network()[1]["sha256"]
    for path in weights:
        header = read_cluster_network(path)[1]
        network, training = header["network"], header["training"]
        loss = training["settings"].get("clusters", {}).get("loss", Clusters.loss)
        more = " 4 channels" * (network["channels"] == 4) + " no skip" * (not network["skip"])
        more += " m3" * (network["skip4"] == "m3")
        more += " shipped" * (len(weights) > 1 and header["sha256"] == shipped)
        found.setdefault(f"cnn {network['width']} {loss}{more}", []).append(path)
    return found


def maps_of(name: str, num: int, skies: ClusterSky, kept: Path, options: Any) -> np.ndarray:
    """Maps of one method in all fields, without and with stars; those that are kept are read."""
    keep_maps([name], num, skies, kept, options)
    read = [np.load(kept_path(name, n, kept, options.seed)) for n in range(num)]
    return np.stack(read).astype(float)


def keep_maps(names: list[str], num: int, skies: ClusterSky, kept: Path, options: Any) -> None:
    """Make the maps that are not there yet, all methods in one field after the other."""
    files = {
        (n, name): kept_path(name, n, kept, options.seed) for n in range(num) for name in names
    }
    missing = {at: path for at, path in files.items() if not path.exists()}
    estimates = {name: estimator_of(name, options) for name in {name for _, name in missing}}
    for number in tqdm(sorted({n for n, _ in missing}), "fields", disable=None):
        sky = jax.tree.map(lambda leaf, at=number: leaf[at], skies)
        galaxies = [galaxies_of(options.seed, number, sky, kind) for kind in SKIES]
        binned: dict[Grid, list[ShearMap]] = {}
        for name in (name for n, name in missing if n == number):
            grid = grid_of(name)
            if grid not in binned:
                binned[grid] = [bin_cluster(each, grid) for each in galaxies]
            maps = [on_coarse(estimates[name], data) for data in binned[grid]]
            with atomic_path(missing[number, name]) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.stack(maps).astype(np.float16))


def kept_path(name: str, number: int, kept: Path, seed: int) -> Path:
    return kept / f"{name.partition(':')[0]}{weights_tag(name)}-{seed}-{number:04d}.npy"


@cache
def weights_tag(name: str) -> str:
    """Of trained methods the first digits of their weights' sha256: others make other maps."""
    if name.startswith("cnn:"):
        return "-" + read_cluster_network(Path(name[4:]))[1]["sha256"][:12]
    return "-" + read_denoiser()[2]["sha256"][:12] if name == "deepmass" else ""


def grid_of(name: str) -> Grid:
    """Of the fields that a method takes."""
    return GRIDS.get(name.partition(":")[0], COARSE)


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
        return Wiener(spectrum_of(options), num_samples=0)
    if name == "deepmass":
        return DeepMass(read_denoiser()[0])
    if name == "ks_plus":
        return KSPlus(0.5)
    if name == "glimpse":
        return Sparse(with_b_mode=False)
    if name == "mcalens":
        return MCALens(spectrum_of(options))
    if name == "samples":
        return SampledPosterior(read_denoiser()[0], num_samples=16)
    path = name.partition(":")[2] or options.weights[0]
    return HongCNN((read_cluster_network(path)[0],), step=38, with_b_mode=False)


def on_coarse(estimate: Estimator, data: ShearMap) -> np.ndarray:
    """The map in the pixels of the network's output, without the rim that it does not know."""
    found = estimate(jax.random.key(0), data).convergence
    if data.grid == FINE:
        return inner(found[2::3, 2::3][:166, :166])
    if data.grid == COARSE:
        return inner(found)
    return inner(resampled(found, data.grid))


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


def record_of(path: Path) -> dict[str, Any]:
    header = read_cluster_network(path)[1]
    training = header["training"]
    keys = ("steps", "seconds", "best_step", "clusters", "validation")
    return {"sha256": header["sha256"], **{key: training[key] for key in keys}}


if __name__ == "__main__":
    main()
