"""Where may the diffusion of `eps` start? About the learned mean of the data, not the Wiener mean.

At a large level of noise s the state of a sky and a state made from a Gaussian posterior are nearly
alike, but the denoiser tells them apart: about the Wiener mean, peaks are too low, and what is
missing grows from level to level. For starts about the truth (the ideal), the learned mean and the
Wiener mean, all with the same noise: power of the denoiser's answer at the level of the start over
that for the ideal, and power of the samples over that of samples which start about the learned mean
at s = 2 (`jaxmap.posterior.sample_diffusion`), by band of multipoles, in observed pixels.
Simulated skies behind the middle of the COSMOS mask with its noise, 360 x 360 pixels.

Writes results/diffusion_start.json.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, save
from cosmos_fields import cosmos_fields

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser
from jaxmap.denoiser_files import read_denoiser
from jaxmap.gaussian_posterior import gaussian_fluctuation, solve_information
from jaxmap.posterior import information_of, learned_mean, posterior_denoiser
from jaxmap.sampler_prior import gaussian_part
from jaxmap.sampling.diffusion import integrate, noise_levels

SIDE, FIELDS, LEVELS = 360, 24, 11
STARTS = (1.0, 2.0, 3.0)
BANDS = np.array([492, 1168, 2776, 6596, 15673, 37241])


def main() -> None:
    options = arguments(
        __doc__,
        seed=11,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
    )
    denoiser, _, header = read_denoiser(options.weights)
    side, num_fields = (64, 2) if options.quick else (SIDE, FIELDS)
    fields = cosmos_fields(options, side)
    answers: dict[str, list[np.ndarray]] = {}
    samples: dict[str, list[np.ndarray]] = {}
    for number in range(num_fields):
        key = jax.random.fold_in(jax.random.key(options.seed), number)
        truth, data = fields(key)
        power = partial(power_by_band, data=data)
        wiener, learned, fluctuation, white = parts(jax.random.fold_in(key, 1), denoiser, data)
        for start in STARTS:
            noise = start * white
            states = {
                "the truth": truth + noise,
                "the learned mean": learned + fluctuation + noise,
                "the Wiener mean": wiener + fluctuation + noise,
            }
            for name, state in states.items():
                answer = answer_to(state, start, denoiser, data)
                answers.setdefault(f"{name}, s = {start:g}", []).append(power(answer))
            for name in ("the learned mean", "the Wiener mean"):
                sample = end(states[name], noise_levels(LEVELS, start), denoiser, data)
                samples.setdefault(f"{name}, s = {start:g}", []).append(power(sample))
        print(f"field {number + 1} of {num_fields}", flush=True)
    figures: dict[str, Any] = {
        "weights": header["sha256"],
        "side": side,
        "fields": num_fields,
        "bands": BANDS.tolist(),
        "denoiser_over_ideal": {
            name: ratio(rows, answers[f"the truth, s = {name.split('= ')[1]}"])
            for name, rows in answers.items()
            if "truth" not in name
        },
        "samples_over_shipped": {
            name: ratio(rows, samples["the learned mean, s = 2"]) for name, rows in samples.items()
        },
    }
    save(options, "diffusion_start", figures)


@jax.jit
def parts(key: jax.Array, denoiser: Denoiser, data: ShearMap) -> tuple[jax.Array, ...]:
    """Wiener mean, learned mean, a fluctuation of the Gaussian posterior, white noise."""
    prior = gaussian_part(denoiser, data.grid)
    information = information_of(data)
    wiener, _ = solve_information(information, data.weight, data.grid, prior)
    learned = learned_mean(denoiser, data.grid)(information, data.weight)
    key_start, key_noise = jax.random.split(key)
    fluctuation, _ = gaussian_fluctuation(key_start, data, prior)
    return wiener, learned, fluctuation, jax.random.normal(key_noise, data.grid.shape)


@jax.jit
def answer_to(state: jax.Array, level: jax.Array, denoiser: Denoiser, data: ShearMap) -> jax.Array:
    return posterior_denoiser(learned_mean(denoiser, data.grid), data)(state, level)


@jax.jit
def end(state: jax.Array, levels: jax.Array, denoiser: Denoiser, data: ShearMap) -> jax.Array:
    power = gaussian_part(denoiser, data.grid).amplitude ** 2
    denoise = posterior_denoiser(learned_mean(denoiser, data.grid), data)
    return integrate(denoise, state, levels, power / (1 + power * jnp.mean(data.weight)))


def power_by_band(field: jax.Array, data: ShearMap) -> np.ndarray:
    """Sums of squares of the modes in every band; 0 in masked pixels, mean of the others 0."""
    observed, values = np.asarray(data.mask), np.asarray(field, float)
    values = np.where(observed, values - values[observed].mean(), 0)
    squares = np.abs(np.fft.fft2(values)) ** 2
    band = np.digitize(np.abs(np.asarray(data.grid.ell())), BANDS) - 1
    return np.array([squares[band == n].sum() for n in range(len(BANDS) - 1)])


def ratio(rows: list[np.ndarray], others: list[np.ndarray]) -> dict[str, list[float]]:
    """Of sums over fields, and its standard error."""
    top, bottom = np.array(rows), np.array(others)
    value = top.sum(axis=0) / bottom.sum(axis=0)
    error = np.sqrt(((top - value * bottom) ** 2).sum(axis=0)) / bottom.sum(axis=0)
    return {"value": value.tolist(), "error": error.tolist()}


if __name__ == "__main__":
    main()
