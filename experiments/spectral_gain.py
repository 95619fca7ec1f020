"""Why chains grew too strong, and what puts it right: the strength of the network's correction.

*Overlap*: of the error of the denoised map with that map, mode by mode, over the square of the map:
0 for an exact denoiser; in bands, for even noise and for that of COSMOS with a state of the
sampler. *Chains*: sweeps of `gibbs` from the truth, which an exact denoiser leaves alone; power and
skewness (of maps smoothed by 1 arcmin) over those of the truths, sweep by sweep. *Paths*: the same
where one diffusion ends that starts from the truth in even noise, without data. All with the
spectral gain and without it, on simulated skies of 360 x 360 pixels that neither the training nor
calibration.py draws. Writes results/spectral_gain.json and spectral_gain.png.

A gain that the denoiser does not have is measured first, as `jaxmap train` does after a training,
on fields like those of the last training of the shipped one; ``--write FILE`` keeps the denoiser
with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import HERE, arguments, mean_and_error, new_figure, save
from cosmos_fields import cosmos_fields

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser
from jaxmap.denoiser_files import read_denoiser, write_denoiser
from jaxmap.grid import Grid
from jaxmap.operators import gaussian_smooth, shear_from_convergence
from jaxmap.posterior import gibbs_sweep, learned_mean, prior_denoiser
from jaxmap.progress import progress_bar
from jaxmap.sampler_prior import gaussian_part
from jaxmap.samplers import Gibbs
from jaxmap.sampling.diffusion import integrate, noise_levels
from jaxmap.spectra import map_power
from jaxmap.spectral_gain import TABLES
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.gain import measure_gain, moments_of
from jaxmap.training.settings import read_training
from jaxmap.training.sources import open_source

SIDE, QUICK_SIDE = 360, 192
APART = 0x6A14
"""Folded into the seed's key: skies of this script alone."""
EDGES = (207.0, 492.0, 1168.0, 2776.0, 6596.0, 15674.0, 37247.0)
BANDS = [f"power {low:.0f} to {high:.0f}" for low, high in pairwise(EDGES)]
EVEN = (0.016, 0.032, 0.064, 0.128, 0.256)
WITH_DATA = (0.064, 0.256, np.inf)
SHOWN = ("even, 0.016", "even, 0.032", "even, 0.064", "COSMOS, 0.256")
PATH_FROM, PATH_LEVELS = 0.064, 12
MEASURED_ON = 128


def main() -> None:
    options = arguments(
        __doc__,
        write={"type": Path, "help": "write the denoiser with its gain into this file"},
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
        num={"type": int, "default": 32, "help": "skies for the overlap (default: %(default)s)"},
        chains={"type": int, "default": 8, "help": "skies for chains (default: %(default)s)"},
    )
    denoiser, domain, header = read_denoiser(options.weights)
    if denoiser.gain is None:
        denoiser = measured(denoiser, 2 if options.quick else MEASURED_ON)
    if options.write:
        training = {**header["training"], "gain_fields": MEASURED_ON}
        write_denoiser(options.write, denoiser, domain, training)
    cases = {"with gain": denoiser, "without": replace(denoiser, gain=None)}
    fields = cosmos_fields(options, QUICK_SIDE if options.quick else SIDE)
    num, chains = (2, 2) if options.quick else (options.num, options.chains)
    key = jax.random.fold_in(jax.random.key(options.seed), APART)
    weight = jnp.asarray(fields.survey.weight, float)
    noises = [(0 * weight, level) for level in EVEN] + [(weight, level) for level in WITH_DATA]
    names = [f"even, {level:g}" for level in EVEN] + [f"COSMOS, {level:g}" for level in WITH_DATA]
    looks = {name: overlap_of(one, fields.survey.grid) for name, one in cases.items()}
    paths = {name: path_of(one, fields.survey.grid) for name, one in cases.items()}
    found: dict[str, list[Any]] = {name: [] for name in cases}
    ended: dict[str, list[Any]] = {name: [] for name in cases}
    for number in range(num):
        sky = fields.simulator.draw(jax.random.fold_in(key, number))
        for name, look in looks.items():
            found[name].append([look(jax.random.key(number), sky, *noise) for noise in noises])
            ended[name].append(paths[name](jax.random.key(number), sky))
        print(f"overlap: sky {number}", flush=True)
    overlap = {
        name: dict(zip(names, map(in_bands, np.array(each).swapaxes(0, 1)), strict=True))
        for name, each in found.items()
    }
    sweep = {name: sweeps_of(one) for name, one in cases.items()}
    truths, followed = [], {name: [] for name in cases}
    for number in range(chains):
        truth, data = fields(jax.random.fold_in(key, 10_000 + number))
        truths.append(summaries(truth, data.grid))
        for name, run in sweep.items():
            followed[name].append(run(jax.random.key(number), truth, data))
        print(f"chains: sky {number}", flush=True)
    grown = {name: growth(np.array(each), np.array(truths)) for name, each in followed.items()}
    paths_end = {name: np.array(each) for name, each in ended.items()}
    after = {name: growth(each[:, 1:], each[:, 0]) for name, each in paths_end.items()}
    figures = {
        "weights": header["sha256"],
        "side": fields.survey.grid.shape[0],
        "gain": {name: np.asarray(getattr(denoiser.gain, name)).tolist() for name in TABLES},
        "num_skies": num,
        "num_chains": chains,
        "num_sweeps": Gibbs.num_sweeps,
        "overlap": overlap,
        "after_one_path": {name: row(each[0]) for name, each in after.items()},
        "after_one_sweep": {name: row(each[1]) for name, each in grown.items()},
        "after_all_sweeps": {name: row(each[-1]) for name, each in grown.items()},
    }
    save(options, "spectral_gain", figures)
    picture(options, overlap, grown)


def measured(denoiser: Denoiser, num: int) -> Denoiser:
    """The denoiser with a gain measured on so many fields."""
    settings, _ = read_training(HERE / "training" / "cosmos_large.toml")
    fields = open_source(settings).training
    key = jax.random.fold_in(jax.random.key(settings.seed), 5)
    bar = partial(progress_bar, what="measuring the gain", unit="field", quiet=False, log_every=60)
    return measure_gain(denoiser, fields, settings, key, num, bar)


def overlap_of(denoiser: Denoiser, grid: Grid) -> Callable[..., jax.Array]:
    """``(key, sky, weight, level) -> (overlap, square of the map)``, sums over the bands."""
    bands = np.digitize(np.abs(np.asarray(grid.ell())), EDGES) - 1
    bands[bands < 0] = len(BANDS)

    @jax.jit
    def look(key: jax.Array, sky: jax.Array, weight: jax.Array, level: jax.Array) -> jax.Array:
        precision = weight + 1 / level**2
        shear = shear_from_convergence(sky, grid)
        information = information_from_shear(key, shear, precision, grid)
        one = moments_of(denoiser, sky, information, precision, grid, bands)
        square = one.wiener + 2 * one.leakage + one.correction
        return jnp.stack([one.overlap - one.leakage - one.correction, square])

    return look


def in_bands(sums: np.ndarray) -> list[dict[str, float]]:
    """Mean and error over skies of overlap over square, of sums of shape (skies, 2, bands)."""
    rows = []
    for overlap, square in np.moveaxis(sums, -1, 0).swapaxes(1, 2):
        value, error = mean_and_error(overlap / square.mean())
        rows.append({"value": value, "error": error})
    return rows


def summaries(field: jax.Array, grid: Grid) -> jax.Array:
    """Power in bands, and skewness of the smoothed map."""
    smooth = gaussian_smooth(field - jnp.mean(field), grid, 1.0)
    skewness = jnp.mean(smooth**3) / jnp.mean(smooth**2) ** 1.5
    return jnp.append(map_power(field, grid, jnp.asarray(EDGES))[1], skewness)


def sweeps_of(denoiser: Denoiser) -> Callable[..., jax.Array]:
    """``(key, truth, data) -> summaries`` at the truth and after each sweep."""

    @jax.jit
    def run(key: jax.Array, truth: jax.Array, data: ShearMap) -> jax.Array:
        mean, prior = learned_mean(denoiser, data.grid), gaussian_part(denoiser, data.grid)
        path = Gibbs().path

        def sweep(field: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
            key_sweep = jax.random.fold_in(key, number)
            field = gibbs_sweep(key_sweep, field, mean, prior, data, path.num_steps, path.largest)
            return field, summaries(field, data.grid)

        _, found = jax.lax.scan(sweep, truth, jnp.arange(Gibbs.num_sweeps))
        return jnp.concatenate([summaries(truth, data.grid)[None], found])

    return run


def path_of(denoiser: Denoiser, grid: Grid) -> Callable[..., jax.Array]:
    """``(key, sky) -> summaries`` of the sky, and of where a path from it in even noise ends."""

    @jax.jit
    def run(key: jax.Array, sky: jax.Array) -> jax.Array:
        mean, prior = learned_mean(denoiser, grid), gaussian_part(denoiser, grid)
        start = sky + PATH_FROM * jax.random.normal(key, sky.shape, sky.dtype)
        levels = noise_levels(PATH_LEVELS, PATH_FROM)
        end = integrate(prior_denoiser(mean), start, levels, prior.amplitude**2)
        return jnp.stack([summaries(sky, grid), summaries(end, grid)])

    return run


def growth(followed: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Mean and error over skies of the growth, in units of the mean of the truths; shape
    (sweeps, summaries, 2)."""
    relative = (followed - truths[:, None]) / truths.mean(axis=0)
    return np.moveaxis(
        [relative.mean(axis=0), relative.std(axis=0, ddof=1) / len(truths) ** 0.5], 0, -1
    )


def row(grown: np.ndarray) -> dict[str, dict[str, float]]:
    """Of one sweep, by the name of the summary."""
    return {
        name: {"value": float(value), "error": float(error)}
        for name, (value, error) in zip([*BANDS, "skewness"], grown, strict=True)
    }


def picture(options: argparse.Namespace, overlap: Any, grown: dict[str, np.ndarray]) -> None:
    figure = new_figure(11, 5)
    left, right = figure.subplots(1, 2)
    places = np.arange(len(BANDS))
    for (name, levels), style in zip(overlap.items(), ("-", ":"), strict=True):
        for level, colour in zip(SHOWN, ("C0", "C1", "C2", "C3"), strict=True):
            value, error = np.array([(one["value"], one["error"]) for one in levels[level]]).T
            left.errorbar(places, value, error, ls=style, color=colour, label=f"{level}; {name}")
        for which, colour in ((1, "C0"), (2, "C1"), (6, "C3")):
            value, error = grown[name][:, which].T
            label = f"{[*BANDS, 'skewness'][which]}; {name}"
            right.plot(value, ls=style, color=colour, label=label)
            right.fill_between(
                np.arange(len(value)), value - error, value + error, color=colour, alpha=0.12
            )
    left.set_xticks(places, [f"{low:.0f}" for low in EDGES[:-1]])
    left.set(xlabel="lower end of the band [ell]", ylabel="overlap of error and map / map squared")
    right.set(xlabel="sweep of gibbs from the truth", ylabel="growth / mean of the truths")
    for axes in (left, right):
        axes.axhline(0, color="0.6", lw=0.8)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
    figure.savefig(options.out / "spectral_gain.png", dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
