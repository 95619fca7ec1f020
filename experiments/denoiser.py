"""What the shipped denoiser gains over the exact Wiener filter, on simulations and a real map.

Simulated fields are of the light cone with keys that no training used; their Wiener filter has the
spectrum they were made with. `--table1` also scores the public benchmark (a test map: run it for a
finished network only). Writes results/denoiser.json, denoiser.png and denoiser_maps.png.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, real_data, save
from gaussian_calibration import cosmos_noise

from jaxmap.benchmark import read_case, score
from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser, denoise
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import DeepMass, Wiener
from jaxmap.grid import Grid
from jaxmap.metrics import accuracy_observed
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.layouts import Layout
from jaxmap.training.settings import training_from
from jaxmap.training.sources import open_source

simulate = jax.jit(halo_light_cone, static_argnums=2)

LEVELS = (0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0)
SKY, FIELD = 540, 360
HELD_OUT = 7_000_000


def main() -> None:
    options = arguments(
        __doc__,
        table1={"action": "store_true", "help": "score the public benchmark too"},
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
    )
    denoiser, _, header = read_denoiser(options.weights)
    settings = replace(
        training_from(header["training"]["settings"]), layouts=(Layout(SKY, 1), Layout(FIELD, 1))
    )
    cones = open_source(settings).training.cones
    key = jax.random.fold_in(jax.random.key(HELD_OUT), options.seed)
    num = 4 if options.quick else 100
    figures: dict[str, Any] = {"cost": cost(denoiser)}
    figures["training"] = length_of(header["training"])
    if options.table1:
        case = read_case(real_data(options) / "ktng" / "table1.npz")
        grid = case.shear.grid
        truth = case.truth - jnp.mean(case.truth)
        figures["ktng_prior"] = {
            f"{level:g}": ratio_of(jax.random.key(0), denoiser, truth, level, grid)
            for level in LEVELS
        }
        methods = {
            "wiener": Wiener(denoiser.spectrum, num_samples=0, margin=0),
            "deepmass": DeepMass(denoiser, margin=0),
        }
        figures["table1"] = score(case, methods, jax.random.key(0))
    save(options, "denoiser", figures)
    figures["prior"] = prior_losses(key, denoiser, cones[FIELD], 3 if options.quick else 16)
    figures["surveys"] = surveys(key, denoiser, cones[SKY], cosmos_noise(real_data(options)), num)
    save(options, "denoiser", figures)
    draw_levels(options.out / "denoiser.png", figures)
    draw_maps(options.out / "denoiser_maps.png", key, denoiser, cones[FIELD])


def length_of(training: dict[str, Any]) -> dict[str, float]:
    """Steps and seconds of a training, with those that it went on from."""
    before = length_of(training["before"]) if "before" in training else {"steps": 0, "seconds": 0}
    return {name: training[name] + before[name] for name in ("steps", "seconds")}


def cost(denoiser: Denoiser) -> dict[str, float]:
    """Parameters, arithmetic of the network and time of a whole pass at 360^2."""
    grid = Grid((FIELD, FIELD), 0.29)
    images = [jnp.zeros((1, FIELD, FIELD, count)) for count in (3, 3)]
    network = jax.jit(lambda params, *x: denoiser.network.apply({"params": params}, *x))
    counted = network.lower(denoiser.params, *images).compile().cost_analysis()
    weight = jnp.full((2, *grid.shape), 60.0)
    apply = jax.jit(denoise, static_argnums=3)
    jax.block_until_ready(apply(denoiser, images[0][0, ..., 0], weight, grid))
    begun = time.perf_counter()
    for _ in range(5):
        jax.block_until_ready(apply(denoiser, images[0][0, ..., 0], weight, grid))
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(denoiser.params)),
        "gflop_360": counted["flops"] / 1e9,
        "seconds_360": (time.perf_counter() - begun) / 5,
    }


@partial(jax.jit, static_argnames="grid")
def losses(key, denoiser, truth, level, grid):
    """Mean square errors of the network and the Wiener filter for white noise."""
    precision = jnp.full((2, *grid.shape), 1 / level**2)
    shear = shear_from_convergence(truth, grid)
    information = information_from_shear(key, shear, precision, grid)
    result = denoise(denoiser, information, precision, grid)
    return jnp.mean((result.mean - truth) ** 2), jnp.mean((result.wiener - truth) ** 2)


def ratio_of(key, denoiser, truth, level, grid) -> float:
    network, wiener = losses(key, denoiser, truth, level, grid)
    return float(network / wiener)


def prior_losses(key, denoiser, cone, num: int) -> dict[str, dict[str, float]]:
    """Ratio of mean square errors for white noise of every level, paired over fields."""
    rows = []
    for number in range(num):
        key_map, key_noise = jax.random.split(jax.random.fold_in(key, number))
        truth = simulate(key_map, cone, cone.grid)
        rows.append([ratio_of(key_noise, denoiser, truth, s, cone.grid) for s in LEVELS])
    return {
        f"{level:g}": dict(zip(("ratio", "error"), mean_and_error(column), strict=True))
        for level, column in zip(LEVELS, np.array(rows).T, strict=True)
    }


def surveys(key, denoiser, cone, cosmos: ShearMap, num: int) -> dict[str, dict[str, float]]:
    """RMSE over that of the exact Wiener filter, paired, for COSMOS and for changed surveys."""
    few = max(num // 8, 2)
    cases = {
        "cosmos": (cosmos, num),
        "noise x 0.5": (with_weight(cosmos, 4 * cosmos.weight), few),
        "noise x 2": (with_weight(cosmos, cosmos.weight / 4), few),
        "no mask": (with_weight(cosmos, filled(cosmos.weight)), few),
        "half the field": (with_weight(cosmos, half(filled(cosmos.weight))), few),
        "stars": (with_weight(cosmos, stars(filled(cosmos.weight))), few),
    }
    return {name: paired(key, denoiser, cone, *case) for name, case in cases.items()}


def with_weight(data: ShearMap, weight) -> ShearMap:
    return replace(data, weight=jnp.asarray(weight))


def filled(weight) -> np.ndarray:
    """Weights of the field's own pixels in random order where there are none."""
    weight = np.array(weight)
    rng = np.random.default_rng(0)
    observed = weight[0] > 0
    source = rng.choice(np.flatnonzero(observed), size=(~observed).sum())
    weight[:, ~observed] = weight.reshape(2, -1)[:, source]
    return weight


def half(weight) -> np.ndarray:
    weight[:, :, weight.shape[2] // 2 :] = 0
    return weight


def stars(weight) -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: weight.shape[1], : weight.shape[2]]
    for _ in range(60):
        y0, x0 = rng.uniform(0, weight.shape[1:])
        weight[:, np.hypot(y - y0, x - x0) < rng.uniform(4, 12)] = 0
    return weight


def paired(key, denoiser, cone, noise: ShearMap, num: int) -> dict[str, float]:
    """Both estimators on the same fields, cut from larger ones; default margin."""
    network = DeepMass(denoiser)
    wiener = Wiener(denoiser.spectrum, num_samples=0)
    std = jnp.where(noise.weight > 0, 1 / jnp.sqrt(jnp.where(noise.weight > 0, noise.weight, 1)), 0)
    inner = (slice((SKY - FIELD) // 2, (SKY + FIELD) // 2),) * 2
    rows, pulls = [], []
    for number in range(num):
        key_map, key_noise = jax.random.split(jax.random.fold_in(key, 10_000 + number))
        whole = simulate(key_map, cone, cone.grid)
        truth, shear = whole[inner], shear_from_convergence(whole, cone.grid)[inner]
        white = jax.lax.complex(*(std * jax.random.normal(key_noise, std.shape)))
        data = replace(noise, shear=jnp.where(noise.mask, shear + white, 0))
        learned = network(key_noise, data)
        first = accuracy_observed(learned.convergence, truth, data.mask)
        second = accuracy_observed(wiener(key_noise, data).convergence, truth, data.mask)
        rows.append([*first, *second])
        error = np.asarray(learned.convergence - truth)[np.asarray(data.mask)]
        pulls.append(
            [np.mean(error**2), np.mean(np.asarray(learned.std)[np.asarray(data.mask)] ** 2)]
        )
    rmse, r, rmse_wiener, r_wiener = np.array(rows, float).T
    ratio, error = mean_and_error(rmse / rmse_wiener)
    square, predicted = np.mean(pulls, axis=0)
    return {
        "num": num,
        "rmse_ratio": ratio,
        "rmse_ratio_error": error,
        "rmse": rmse.mean(),
        "rmse_wiener": rmse_wiener.mean(),
        "r": r.mean(),
        "r_wiener": r_wiener.mean(),
        "std_over_error": float(np.sqrt(predicted / square)),
    }


def draw_levels(path, figures) -> None:
    """Mean square error over that of the Wiener filter, against the noise level."""
    figure = new_figure(5.5, 3.8)
    axes = figure.add_subplot()
    rows = figures["prior"].values()
    axes.errorbar(
        LEVELS,
        [row["ratio"] for row in rows],
        [row["error"] for row in rows],
        fmt="o-",
        label="held-out simulations",
    )
    if "ktng_prior" in figures:
        axes.plot(LEVELS, list(figures["ktng_prior"].values()), "s--", label="a kTNG map")
    axes.axhline(1, color="0.5", lw=1)
    axes.set(xscale="log", xlabel=r"noise level $\sigma$", ylabel="mean square error / Wiener")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def draw_maps(path, key, denoiser, cone) -> None:
    """Noisy, Gaussian-denoised and fully denoised (Remy et al., Fig. 3), and the truth."""
    level = 0.1
    key_map, key_noise = jax.random.split(jax.random.fold_in(key, 99))
    truth = simulate(key_map, cone, cone.grid)
    noisy = truth + level * jax.random.normal(key_noise, truth.shape)
    precision = jnp.full((2, *cone.grid.shape), 1 / level**2)
    result = denoise(denoiser, noisy / level**2, precision, cone.grid)
    figure = new_figure(15, 4.2)
    width = cone.grid.shape[0] * cone.grid.pixel_arcmin
    panels = {
        rf"noisy, $\sigma$ = {level:g}": noisy,
        "Gaussian denoiser": result.wiener,
        "learned denoiser": result.mean,
        "truth": truth,
    }
    for number, (name, field) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 4, number + 1)
        image = axes.imshow(
            field, origin="lower", vmin=-0.04, vmax=0.12, cmap="magma", extent=(0, width, 0, width)
        )
        axes.set(title=name, xlabel="arcmin")
    figure.colorbar(image, ax=figure.axes, label=r"$\kappa$", fraction=0.012, pad=0.01)
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
