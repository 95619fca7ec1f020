"""Why annealed chains under the shipped denoiser are too wide: what its score says of high peaks.

Three looks at the score of the prior alone. *Chains*: annealed HMC with no data, under the Gaussian
prior and under the learned one; at every level, the power of those that pass it over that of the
prior with noise. *Amplitude*: the highest peak of held-out simulated fields is made higher or lower
and the score, averaged over noise, projected on it: the slope of the log density, which should be
negative for rare amplitudes. *Mean*: truth minus denoised map where the denoised map is high; zero
for an exact denoiser, however rare the peak. Writes results/prior_chains.json and prior_chains.png.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save

from jaxmap.annealed_posterior import FourierPreconditioner
from jaxmap.demo import sky_redshifts
from jaxmap.denoiser import Denoiser
from jaxmap.denoiser_files import read_denoiser
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import DenoiserPrior
from jaxmap.prior import GaussianPrior, Prior
from jaxmap.samplers import PRECONDITIONED_LEARNED
from jaxmap.sampling.annealing import anneal, begin
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.spectra import mode_variance

PIXEL, STAMP = 0.29, 64
SIDES = {64: 16, 192: 8}
"""Fields without data, in pixels a side, and chains in each: on small ones the network is too
strong (field_sizes.py)."""
FREQUENCIES = (0.001, 0.05, 0.15, 0.3, 0.8)
"""Edges of bands, in cycles per pixel."""
LEVELS = (0.2, 0.1, 0.05, 0.025)
AMPLITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
PEAK_PIXELS = 6
"""Standard deviation of the window that cuts a peak from its field."""
HIGH = (0.1, 0.2, 0.3, 0.5, 2.0)
"""Edges of bins of the denoised convergence."""


def main() -> None:
    options = arguments(
        __doc__,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
    )
    denoiser, _, _ = read_denoiser(options.weights)
    stamp = Grid((STAMP, STAMP), PIXEL)
    key_chains, key_fields = jax.random.split(jax.random.key(options.seed))
    side, number = (128, 2) if options.quick else (360, 8)
    fields = simulated_fields(key_fields, Grid((side, side), PIXEL), number)
    learned = DenoiserPrior(denoiser, Grid((side, side), PIXEL))
    floor = 0.3 if options.quick else PRECONDITIONED_LEARNED.sigma_floor
    sides = {64: 2} if options.quick else SIDES
    levels = LEVELS[:1] if options.quick else LEVELS
    figures = {
        "chains_by_side": {str(side): count for side, count in sides.items()},
        "fields": number,
        "pixels_of_fields": [side, side],
        "amplitudes": list(AMPLITUDES),
        "power_over_expected": {
            str(side): chains_of(denoiser, key_chains, Grid((side, side), PIXEL), count, floor)
            for side, count in sides.items()
        },
        "slope_of_log_density": {
            str(level): slopes(fields, DenoiserPrior(denoiser, stamp), level) for level in levels
        },
        "truth_minus_mean": {str(level): bias(fields, learned, level) for level in levels},
    }
    save(options, "prior_chains", figures)
    draw(figures, options.out / "prior_chains.png")


def simulated_fields(key: jax.Array, grid: Grid, number: int) -> np.ndarray:
    cone = build_light_cone(grid, sky_redshifts(), baryons=TNG_BARYONS)
    simulate = jax.jit(halo_light_cone, static_argnums=2)
    fields = [
        np.asarray(simulate(jax.random.fold_in(key, i), cone, cone.grid)) for i in range(number)
    ]
    return np.stack([field - field.mean() for field in fields])


def chains_of(
    denoiser: Denoiser, key: jax.Array, grid: Grid, count: int, floor: float
) -> dict[str, list[dict[str, Any]]]:
    """Chains under the Gaussian prior and under the learned one."""
    gaussian = GaussianPrior(mode_variance(denoiser.spectrum, grid))
    priors: dict[str, Prior] = {"gaussian": gaussian, "learned": DenoiserPrior(denoiser, grid)}
    return {
        name: chain_power(key, prior, gaussian, grid, count, floor)
        for name, prior in priors.items()
    }


def chain_power(
    key: jax.Array, prior: Prior, gaussian: GaussianPrior, grid: Grid, count: int, floor: float
) -> list[dict[str, Any]]:
    """By level: band powers of the chains that have just passed it over their expectation."""
    settings = replace(PRECONDITIONED_LEARNED, chunk=1, sigma_floor=floor)
    no_data = jnp.zeros((2, *grid.shape))
    start = jax.random.normal(key, (count, *grid.shape)) * settings.sigma_start
    start -= start.mean(axis=(1, 2), keepdims=True)
    variance = np.where(np.isfinite(gaussian.variance), gaussian.variance, 0)
    frequency = np.fft.fftfreq(grid.shape[0])
    wave = np.abs(frequency[:, None] + 1j * frequency[None])
    bands = [(wave >= low) & (wave < high) for low, high in pairwise(FREQUENCIES)]
    first = begin(start, prior.score, settings)
    passed: dict[int, list[np.ndarray]] = {}
    highest: dict[int, float] = {}
    before = np.asarray(first.level)
    for state in anneal(
        key, first, prior.score, settings, FourierPreconditioner(gaussian.variance, no_data)
    ):
        now, maps = np.asarray(state.level), np.asarray(state.chain.position)
        for chain in np.flatnonzero(now > before):
            level = int(now[chain]) - 1
            power = np.abs(np.fft.fft2(maps[chain])) ** 2 / maps[chain].size
            expected = variance + settings.sigmas[level] ** 2
            row = np.array([power[band].mean() / expected[band].mean() for band in bands])
            passed.setdefault(level, []).append(row)
            highest[level] = max(highest.get(level, 0.0), float(maps[chain].max()))
        before = now
    rows = []
    for level in sorted(passed)[:: 1 if len(passed) < 8 else 3]:
        ratio = np.array(passed[level])
        rows.append(
            {
                "sigma": float(settings.sigmas[level]),
                "chains": len(ratio),
                "ratio_by_band": ratio.mean(axis=0).tolist(),
                "standard_error_by_band": (ratio.std(axis=0) / np.sqrt(len(ratio))).tolist(),
                "highest_pixel": highest[level],
            }
        )
    return rows


def slopes(
    fields: np.ndarray, prior: Prior, level: float, draws: int = 8
) -> dict[str, list[float]]:
    """Slope of the log density along the amplitude of a field's highest peak, over fields."""
    half, sigma = STAMP // 2, jnp.asarray(level, float)
    offset = np.arange(-half, half)
    window = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * PEAK_PIXELS**2))
    score = jax.jit(jax.vmap(prior.score, (0, None)))
    rows = []
    for number, field in enumerate(fields):
        inner = field[half:-half, half:-half]
        y, x = np.unravel_index(np.argmax(inner), inner.shape)
        stamp = field[y : y + STAMP, x : x + STAMP]
        peak = window * stamp
        noise = jax.random.normal(jax.random.key(number), (draws, STAMP, STAMP))
        row = []
        for amplitude in AMPLITUDES:
            maps = (stamp + (amplitude - 1) * peak)[None] + level * noise
            # The score of the noise alone is of mean zero; without it, the scatter is less.
            told = score(maps, sigma) + noise / level
            row.append(float(jnp.mean(jnp.sum(told * peak[None], axis=(1, 2)))))
        rows.append(row)
    table = np.array(rows)
    return {
        "mean": table.mean(axis=0).tolist(),
        "standard_error": (table.std(axis=0, ddof=1) / np.sqrt(len(table))).tolist(),
    }


def bias(fields: np.ndarray, prior: Prior, level: float) -> list[dict[str, float]]:
    """Truth minus denoised map in bins of the denoised map, errors over fields."""
    sigma = jnp.asarray(level, float)
    denoise = jax.jit(lambda noisy: noisy + sigma**2 * prior.score(noisy, sigma))
    means = []
    for number, field in enumerate(fields):
        noise = jax.random.normal(jax.random.key(number), field.shape)
        means.append(np.asarray(denoise(jnp.asarray(field) + level * noise)))
    denoised = np.stack(means)
    rows = []
    for low, high in pairwise(HIGH):
        chosen = (denoised >= low) & (denoised < high)
        gaps = [
            (f - d)[c].mean() for f, d, c in zip(fields, denoised, chosen, strict=True) if c.any()
        ]
        if len(gaps) > 1:
            value, error = mean_and_error(np.array(gaps))
            rows.append(
                {
                    "from": low,
                    "to": high,
                    "pixels": int(chosen.sum()),
                    "fields": len(gaps),
                    "gap": value,
                    "standard_error": error,
                }
            )
    return rows


def draw(figures: dict[str, Any], path: Path) -> None:
    figure = new_figure(9.5, 3.8)
    left, right = figure.subplots(1, 2)
    shades = iter([f"C{number}" for number in range(10)])
    for side, chains in figures["power_over_expected"].items():
        for name, rows in chains.items():
            sigmas, colour = [row["sigma"] for row in rows], next(shades)
            for band, style in ((0, "o-"), (2, "s--")):
                low, high = FREQUENCIES[band : band + 2]
                label = f"{name}, {side}², {low:g} to {high:g} per pixel"
                ratio = [row["ratio_by_band"][band] for row in rows]
                left.plot(sigmas, ratio, style, color=colour, label=label)
    left.axhline(1, color="grey", lw=0.8)
    left.set(xscale="log", yscale="log", xlabel=r"level $\sigma$", ylabel="power / (prior + noise)")
    left.invert_xaxis()
    left.set_title("Chains without data", fontsize=10)
    left.legend(fontsize=7)
    for level, row in figures["slope_of_log_density"].items():
        right.errorbar(
            figures["amplitudes"],
            row["mean"],
            row["standard_error"],
            fmt="o-",
            label=rf"$\sigma = {level}$",
        )
    right.axhline(0, color="grey", lw=0.8)
    right.set(
        xlabel="amplitude of the highest peak / true amplitude", ylabel="slope of the log density"
    )
    right.set_title("Learned score along a peak", fontsize=10)
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
