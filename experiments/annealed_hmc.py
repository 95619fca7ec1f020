"""Annealed HMC on a masked Gaussian posterior whose exact mean and covariance are known.

The paper's schedule with unit mass, at 12 and at 25 steps per level (its release needs about 25),
against a Fourier preconditioner, and how much of the error is due to the floor alone: chains in
perfect equilibrium there, by dense algebra. Writes results/annealed_hmc.json and .png.
"""

from __future__ import annotations

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, save

from jaxmap.annealed_posterior import AnnealedPosterior, FourierPreconditioner
from jaxmap.catalog import shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.grid import Grid
from jaxmap.likelihood import ShearLikelihood
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.sampling.annealing import sample_annealed
from jaxmap.sampling.hmc import identity
from jaxmap.sampling.probability_flow import flow_to_zero
from jaxmap.sampling.schedule import PAPER, PRECONDITIONED
from jaxmap.spectra import mode_variance

GRID = Grid((24, 24), 0.58)
SMALLEST_NOISE = 0.045
NUM_BANDS = 5


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    options = arguments(__doc__)
    posterior = a_posterior(options.seed)
    exact = gaussian_law(posterior, 0.0)
    fit = FourierPreconditioner(posterior.prior.variance, posterior.likelihood.data.weight)
    low = SMALLEST_NOISE / 10
    runs = {
        "preconditioned": (replace(PRECONDITIONED, sigma_floor=PAPER.sigma_floor), fit, 512),
        "preconditioned, floor at a tenth of the noise": (
            replace(PRECONDITIONED, sigma_floor=low),
            fit,
            512,
        ),
        "paper, 12 steps per level": (PAPER, identity, 64),
        "paper, 25 steps per level": (replace(PAPER, steps_per_level=25), identity, 64),
    }
    if options.quick:
        runs = {name: (*run[:2], 32) for name, run in list(runs.items())[:2]}
    figures = {
        "pixels": list(GRID.shape),
        "noise": [SMALLEST_NOISE, 2 * SMALLEST_NOISE],
        "ell_of_bands": band_centres(),
        "equilibrium": {
            str(floor): compare_laws(gaussian_law(posterior, floor), exact, posterior)
            for floor in (PAPER.sigma_floor, low)
        },
        "chains": {
            name: sampled(options.seed, posterior, exact, *run) for name, run in runs.items()
        },
    }
    save(options, "annealed_hmc", figures)
    draw(options.out / "annealed_hmc.png", figures)


def a_posterior(seed: int) -> AnnealedPosterior:
    """A COSMOS-like spectrum and noise, with a hole, on a small field."""
    truth_key, std_key, noise_key = jax.random.split(jax.random.key(seed), 3)
    prior = GaussianPrior(mode_variance(convergence_power(), GRID))
    std = SMALLEST_NOISE * (1 + jax.random.uniform(std_key, (2, *GRID.shape)))
    std = std.at[:, 4:12, 6:16].set(0.0)
    noise = jax.lax.complex(*(std * jax.random.normal(noise_key, std.shape)))
    shear = shear_from_convergence(prior.sample(truth_key), GRID) + noise
    return AnnealedPosterior(ShearLikelihood(shear_map(shear, GRID, noise_std=std)), prior)


def gaussian_law(posterior: AnnealedPosterior, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance at a level, after the probability flow; at 0 the exact posterior's."""
    size, level = GRID.num_pixels, jnp.asarray(sigma)

    def score(flat: jax.Array, level: jax.Array) -> jax.Array:
        return posterior(flat.reshape(GRID.shape), level).ravel()

    def flow(flat: jax.Array) -> jax.Array:
        return flow_to_zero(flat, level, score) if sigma > 0 else flat

    def matrix(function) -> jax.Array:
        return jax.vmap(function)(jnp.eye(size)).T

    at_zero, origin = score(jnp.zeros(size), level), flow(jnp.zeros(size))
    precision = at_zero[:, None] - matrix(lambda flat: score(flat, level))
    covariance = jnp.linalg.pinv(precision, rtol=1e-10, hermitian=True)
    transport = matrix(lambda flat: flow(flat) - origin)
    mean = transport @ covariance @ at_zero + origin
    return np.asarray(mean), np.asarray(transport @ covariance @ transport.T)


def bands() -> np.ndarray:
    """The band of every mode, of about equal width in log ell; -1 for the mean of the map."""
    ell = np.abs(np.asarray(GRID.ell()))
    edges = np.geomspace(ell[ell > 0].min(), ell.max(), NUM_BANDS + 1)
    return np.where(ell > 0, np.clip(np.digitize(ell, edges) - 1, 0, NUM_BANDS - 1), -1)


def band_centres() -> list[float]:
    ell, band = np.abs(np.asarray(GRID.ell())), bands()
    return [float(ell[band == number].mean()) for number in range(NUM_BANDS)]


def band_power(covariance: np.ndarray) -> np.ndarray:
    """Variance of the modes of maps of a covariance, summed by band."""
    size = GRID.num_pixels
    waves = np.fft.fft2(np.eye(size).reshape(size, *GRID.shape), norm="ortho").reshape(size, size)
    power = np.einsum("ik,ij,jk->k", waves.conj(), covariance, waves, optimize=True).real
    band = bands().ravel()
    return np.bincount(band[band >= 0], power[band >= 0])


def compare_laws(found, exact, posterior) -> dict:
    """Variances over the exact ones and bias in units of the posterior's std, rms over axes."""
    mask = np.asarray(posterior.likelihood.data.mask).ravel()
    std, axes = principal_axes(exact[1])
    bias = (found[0] - found[0].mean() - exact[0] + exact[0].mean()) @ axes / std
    ours, theirs = np.diag(found[1]), np.diag(exact[1])
    return {
        "variance_by_band": (band_power(found[1]) / band_power(exact[1])).tolist(),
        "std_observed": np.sqrt(ours[mask].sum() / theirs[mask].sum()),
        "std_masked": np.sqrt(ours[~mask].sum() / theirs[~mask].sum()),
        "rms_bias": np.sqrt(np.mean(bias**2)),
    }


def principal_axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, axes = np.linalg.eigh(covariance)
    proper = values > 1e-9 * values.max()
    return np.sqrt(values[proper]), axes[:, proper]


def sampled(seed, posterior, exact, settings, precondition, num_chains) -> dict:
    data = posterior.likelihood.data
    rough = convergence_from_shear(jnp.where(data.mask, data.shear, 0), GRID).real
    key, start_key = jax.random.split(jax.random.key(seed + 1))
    white = jax.random.normal(start_key, (num_chains, *GRID.shape))
    start = rough[None] + settings.sigma_start * white
    began = time.perf_counter()
    maps, info = sample_annealed(key, start, posterior, settings, precondition=precondition)
    maps = np.asarray(maps).reshape(num_chains, -1)
    seconds = time.perf_counter() - began
    maps = maps - maps.mean(axis=1, keepdims=True)
    deviations = maps - exact[0]
    # About the exact mean, which is known: no degree of freedom is lost.
    second_moment = deviations.T @ deviations / num_chains
    return {
        "num_chains": num_chains,
        "finished": int(info.finished.sum()),
        "evaluations": float(info.evaluations.mean()),
        "evaluations_per_step": float(np.mean(info.evaluations / info.steps)),
        "acceptance": float(info.statistics.acceptance.mean()),
        "lowest_acceptance_of_a_level": float(info.statistics.acceptance.mean(axis=0).min()),
        "seconds_with_compilation": seconds,
        **compare_laws((maps.mean(axis=0), second_moment), exact, posterior),
        "rms_bias_of_independent_draws": 1 / np.sqrt(num_chains),
        "standard_error_by_band": band_errors(deviations, exact).tolist(),
    }


def band_errors(deviations: np.ndarray, exact) -> np.ndarray:
    """Of the variance by band, from the scatter between chains."""
    maps = deviations.reshape(-1, *GRID.shape)
    power = np.abs(np.fft.fft2(maps, norm="ortho")).reshape(len(maps), -1) ** 2
    band = bands().ravel()
    by_chain = np.stack([np.bincount(band[band >= 0], one[band >= 0]) for one in power])
    return by_chain.std(axis=0, ddof=1) / np.sqrt(len(maps)) / band_power(exact[1])


def draw(path, figures) -> None:
    figure = new_figure(7.5, 4.2)
    axes = figure.add_subplot()
    centres = np.asarray(figures["ell_of_bands"])
    for number, (name, row) in enumerate(figures["chains"].items()):
        label = f"{name}: {row['evaluations']:.0f} evaluations"
        shifted = centres * 1.03 ** (number - 1.5)
        values, errors = row["variance_by_band"], row["standard_error_by_band"]
        axes.errorbar(shifted, values, errors, fmt="o", capsize=3, label=label)
    for floor, row in figures["equilibrium"].items():
        label = rf"equilibrium at $\sigma$ = {float(floor):g}"
        axes.plot(centres, row["variance_by_band"], "--", label=label)
    axes.axhline(1.0, color="grey", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel(r"multipole $\ell$")
    axes.set_ylabel("variance of samples / exact")
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
