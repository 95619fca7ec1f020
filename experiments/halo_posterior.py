"""Samplers on a posterior that is not Gaussian and is known exactly: one halo or none.

Surveys of 32 x 32 pixels, 78 % observed, of uneven noise, of maps of `halo_mixture`, whose exact
denoiser all samplers are given, so that what is wrong is the sampler's. Writes
results/halo_posterior.json and .png.

- gap: rms over pixels and surveys of (mean of samples - exact mean) / exact std; its square is
  estimated from products of different samples, and so is free of their scatter (and may come out
  negative). The same sampler with the same key but no halo in its prior has an exact mean, the
  Wiener filter: samples count by their difference from it, which takes away most of the scatter.
- P(no halo): the exact probability of the component given the sample as a map, which, averaged over
  exact samples, is the probability given the data, since these tell of the halo through the map.
- std: rms over the exact rms, with the Gaussian samples as control variate again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save
from halo_mixture import (
    HaloMixture,
    dense_solver,
    even_halo_mean,
    halo_mean,
    halo_profile,
    posterior_mean,
    posterior_variance,
    probability_of_no_halo,
    sample_prior,
    weights_from,
)

from jaxmap.catalog import ShearMap
from jaxmap.cosmology import convergence_power
from jaxmap.gaussian_posterior import gaussian_fluctuation
from jaxmap.grid import Grid
from jaxmap.likelihood import ShearLikelihood
from jaxmap.operators import shear_from_convergence
from jaxmap.posterior import (
    gibbs_sweep,
    information_of,
    prior_denoiser,
    sample_diffusion,
)
from jaxmap.prior import GaussianPrior
from jaxmap.sampling.diffusion import ancestral, noise_levels
from jaxmap.spectra import mode_variance

GRID = Grid((32, 32), 1.0)
SNR = (1.7, 3.0, 4.7)
"""Of haloes in a matched filter, in the mean over observed pixels."""
NOISE = (0.03, 0.15)
SHARE = 0.5
SWEEPS, GUIDED_STEPS = 8, 120

Sampler = Callable[[jax.Array, HaloMixture, ShearMap], jax.Array]


class Exact(NamedTuple):
    """Of every survey: mean, variance of pixels, variance of the field alone, P(no halo)."""

    mean: jax.Array
    variance: jax.Array
    wiener: jax.Array
    field_variance: jax.Array
    none: jax.Array


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    options = arguments(__doc__)
    num_surveys, num_samples = (6, 8) if options.quick else (192, 24)
    key_layout, key_surveys, key_draws = jax.random.split(jax.random.key(options.seed), 3)
    weight = survey_weight(key_layout)
    mixture = a_mixture(weight)
    surveys, present = make_surveys(key_surveys, mixture, weight, num_surveys)
    exact = exact_posteriors(mixture, surveys, weight)
    keys = jax.random.split(key_draws, (num_surveys, num_samples))
    case = (mixture, surveys, weight, exact, keys)
    rows = {
        f"eps, {n} evaluations": {"evaluations": n, **judged(partial(eps, num_steps=n), *case)}
        for n in (5, 8, 12)
    }
    for n in (5, 12):
        rows[f"gibbs, {SWEEPS} sweeps of {n} from eps"] = {
            "evaluations": 8 + SWEEPS * n,
            **judged(partial(gibbs, num_steps=n), *case),
        }
    rows["Gaussian posterior"] = {"evaluations": 0, **judged(gaussian, *case)}
    rows["convolved likelihood as guidance"] = {
        "evaluations": GUIDED_STEPS,
        **judged(guided, *case),
    }
    rows["exact draws (floor of the errors)"] = {"evaluations": 0, **judged(direct, *case)}
    figures = {
        "pixels": list(GRID.shape),
        "components": 1 + len(SNR) * GRID.num_pixels,
        "observed": float(np.mean(np.asarray(weight[0]) > 0)),
        "amplitudes": np.asarray(mixture.amplitudes).tolist(),
        "std_of_the_field": float(jnp.sqrt(jnp.mean(mixture.gaussian.amplitude**2))),
        "surveys": num_surveys,
        "samples_each": num_samples,
        "surveys_with_a_halo": int(present.sum()),
        "mean_probability_of_no_halo": float(exact.none.mean()),
        "samplers": rows,
    }
    save(options, "halo_posterior", figures)
    draw(options.out / "halo_posterior.png", figures)


def survey_weight(key: jax.Array) -> jax.Array:
    """Noise that differs between pixels by a factor of five, and a hole of 22 %."""
    spread = jax.random.uniform(key, (2, *GRID.shape))
    std = NOISE[0] * (NOISE[1] / NOISE[0]) ** spread
    return (1 / std**2).at[:, 5:20, 4:19].set(0.0)


def a_mixture(weight: jax.Array) -> HaloMixture:
    """Amplitudes by the signal-to-noise ratio that haloes have in these data."""
    gaussian = GaussianPrior(mode_variance(convergence_power(), GRID))
    one = HaloMixture(gaussian, halo_profile(GRID, 1.2), jnp.ones(1), jnp.asarray(SHARE), GRID)
    square = jax.jit(dense_solver)(one, weight).norm
    unit = jnp.sqrt(jnp.mean(square, where=weight[0] > 0))
    return replace(one, amplitudes=jnp.asarray(SNR) / unit)


def make_surveys(
    key: jax.Array, mixture: HaloMixture, weight: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Noisy shear, shape ``(number, ny, nx)``, and whether there is a halo."""
    std = jnp.where(weight > 0, 1 / jnp.sqrt(jnp.where(weight > 0, weight, 1)), 0)

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_map, key_noise = jax.random.split(key)
        convergence, present = sample_prior(key_map, mixture)
        noise = jax.lax.complex(*(std * jax.random.normal(key_noise, std.shape)))
        return shear_from_convergence(convergence, mixture.grid) + noise, present

    return jax.vmap(one)(jax.random.split(key, number))


def of_survey(shear: jax.Array, weight: jax.Array, grid: Grid) -> ShearMap:
    return ShearMap(shear, weight, grid)


@jax.jit
def exact_posteriors(mixture: HaloMixture, surveys: jax.Array, weight: jax.Array) -> Exact:
    solver = dense_solver(mixture, weight)
    alone = replace(mixture, share=jnp.zeros(()))

    def one(shear: jax.Array) -> Exact:
        information = information_of(of_survey(shear, weight, mixture.grid))
        with_halo = weights_from(mixture, information, solver)
        without = weights_from(alone, information, solver)
        return Exact(
            posterior_mean(mixture, information, with_halo, solver),
            posterior_variance(mixture, with_halo, solver),
            posterior_mean(mixture, information, without, solver),
            posterior_variance(mixture, without, solver),
            with_halo.none,
        )

    return jax.lax.map(one, surveys)


def judged(
    sampler: Sampler,
    mixture: HaloMixture,
    surveys: jax.Array,
    weight: jax.Array,
    exact: Exact,
    keys: jax.Array,
) -> dict[str, Any]:
    """Figures of a sampler, with standard errors from the scatter between surveys."""
    began = time.perf_counter()
    samples, alone = drawn(sampler, mixture, surveys, weight, keys)
    none = jax.jit(jax.vmap(jax.vmap(partial(probability_of_no_halo, mixture))))(samples)
    none.block_until_ready()
    seconds = time.perf_counter() - began
    mask = np.asarray(weight[0]) > 0
    mean, wiener, total, field = (
        np.asarray(part)[:, None]
        for part in (exact.mean, exact.wiener, exact.variance, exact.field_variance)
    )
    samples, alone = np.asarray(samples), np.asarray(alone)
    errors = (samples - mean) - (alone - wiener)
    square = square_of_mean(errors / np.sqrt(total)).mean(axis=(1, 2))
    gap, gap_error = mean_and_error(square)
    bias, bias_error = mean_and_error(np.asarray(none).mean(axis=1) - np.asarray(exact.none))
    row = {
        "gap": float(np.sign(gap) * np.sqrt(abs(gap))),
        "square_gap": {"value": gap, "standard_error": gap_error},
        "no_halo_bias": {"value": bias, "standard_error": bias_error},
        "seconds": seconds,
    }
    excess = ((samples - mean) ** 2 - (alone - wiener) ** 2 + field - total).mean(axis=1)
    for name, region in (("observed", mask), ("masked", ~mask)):
        scale = total[:, 0][:, region].mean()
        value, error = mean_and_error(excess[:, region].mean(axis=1) / scale)
        ratio = np.sqrt(1 + value)
        row[f"std_{name}"] = {"value": ratio, "standard_error": error / (2 * ratio)}
    return row


def square_of_mean(errors: np.ndarray) -> np.ndarray:
    """Unbiased, from ``(surveys, samples, ...)``."""
    n = errors.shape[1]
    return (errors.sum(axis=1) ** 2 - (errors**2).sum(axis=1)) / (n * (n - 1))


@partial(jax.jit, static_argnames="sampler")
def drawn(
    sampler: Sampler,
    mixture: HaloMixture,
    surveys: jax.Array,
    weight: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Samples of every survey, shape ``(surveys, samples, ny, nx)``, and those without haloes.

    The weights are no part of the batch, so that their matrices are made once a level.
    """

    def one(share: jax.Array, shear: jax.Array, key: jax.Array) -> jax.Array:
        data = of_survey(shear, weight, mixture.grid)
        return sampler(key, replace(mixture, share=share), data)

    of_keys = jax.vmap(one, in_axes=(None, None, 0))
    of_surveys = jax.vmap(of_keys, in_axes=(None, 0, 0))
    shares = jnp.stack([mixture.share, jnp.zeros_like(mixture.share)])
    both = jax.vmap(of_surveys, in_axes=(0, None, None))(shares, surveys, keys)
    return both[0], both[1]


def eps(key: jax.Array, mixture: HaloMixture, data: ShearMap, num_steps: int = 8) -> jax.Array:
    return sample_diffusion(key, halo_mean(mixture), mixture.gaussian, data, num_steps)


def gibbs(key: jax.Array, mixture: HaloMixture, data: ShearMap, num_steps: int) -> jax.Array:
    key_start, key_sweeps = jax.random.split(key)
    mean = even_halo_mean(mixture)

    def sweep(sample: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return gibbs_sweep(key, sample, mean, mixture.gaussian, data, num_steps), None

    start = eps(key_start, mixture, data)
    return jax.lax.scan(sweep, start, jax.random.split(key_sweeps, SWEEPS))[0]


def gaussian(key: jax.Array, mixture: HaloMixture, data: ShearMap) -> jax.Array:
    """A sample of the posterior as if there never were a halo."""
    alone = replace(mixture, share=jnp.zeros_like(mixture.share))
    mean = halo_mean(alone)(information_of(data), data.weight)
    return mean + gaussian_fluctuation(key, data, mixture.gaussian)[0]


def guided(key: jax.Array, mixture: HaloMixture, data: ShearMap) -> jax.Array:
    """The control: the prior's score plus that of the convolved likelihood."""
    keys = jax.random.split(key, 3)
    prior = prior_denoiser(even_halo_mean(mixture))
    likelihood = ShearLikelihood(data)

    def denoise(field: jax.Array, level: jax.Array) -> jax.Array:
        return prior(field, level) + level**2 * likelihood.score(field, level)

    levels = noise_levels(GUIDED_STEPS)
    start = mixture.gaussian.sample(keys[0]) + levels[0] * jax.random.normal(
        keys[1], mixture.grid.shape
    )
    power = mixture.gaussian.amplitude**2
    variance = power / (1 + power * jnp.mean(data.weight))
    sample = ancestral(keys[2], denoise, start, levels, variance)
    return sample - jnp.mean(sample)


def direct(key: jax.Array, mixture: HaloMixture, data: ShearMap) -> jax.Array:
    """An exact draw: a component, then the field around its mean."""
    key_component, key_field = jax.random.split(key)
    solver = dense_solver(mixture, data.weight)
    information = information_of(data)
    weights = weights_from(mixture, information, solver)
    probability = jnp.append(weights.halo.ravel(), weights.none)
    chosen = jax.random.categorical(key_component, jnp.log(probability))
    picked = jax.nn.one_hot(chosen, probability.size, dtype=probability.dtype)
    one = weights._replace(none=picked[-1], halo=picked[:-1].reshape(weights.halo.shape))
    mean = posterior_mean(mixture, information, one, solver)
    return mean + gaussian_fluctuation(key_field, data, mixture.gaussian)[0]


def draw(path: Path, figures: dict[str, Any]) -> None:
    figure = new_figure(10, 3.6)
    rows = figures["samplers"]
    names, places = list(rows), np.arange(len(rows))
    panels = (
        ("square_gap", "squared gap of the mean [variances]", (-(0.05**2), 0.05**2)),
        ("no_halo_bias", "bias of P(no halo)", (-0.02, 0.02)),
        ("std_observed", "std / exact, observed", (0.98, 1.02)),
    )
    for number, (field, label, target) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        values = [rows[name][field]["value"] for name in names]
        errors = [rows[name][field]["standard_error"] for name in names]
        axes.axvspan(*target, color="seagreen", alpha=0.15)
        axes.errorbar(values, places, xerr=errors, fmt="o", capsize=3)
        axes.set_yticks(places, names if number == 0 else [""] * len(names), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(label)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
