"""Gaussian posterior samples against the exact posterior, with the real COSMOS mask and noise.

Exact band powers and pixel variances are traces of the posterior covariance C, which acts on a
vector through the identity C v = S v - WF[A S v]; no random sky or noise enters. Samples are
constrained realisations. Writes results/gaussian_calibration.json and .png.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, real_data, save

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.gaussian_posterior import gaussian_fluctuation, solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance

EDGES = np.array([150, 500, 800, 1200, 1800, 2700, 4000, 6000, 9000, 13500, 20000, 37000])


def main() -> None:
    options = arguments(__doc__)
    num_draws, num_probes = (40, 4) if options.quick else (1500, 60)
    data = cosmos_noise(real_data(options))
    prior = GaussianPrior(mode_variance(convergence_power(), data.grid))
    band = np.digitize(np.abs(np.asarray(data.grid.ell())), EDGES) - 1
    mask = np.asarray(data.mask)
    exact = exact_statistics(options.seed, data, prior, band, mask, num_probes)
    drawn = sample_statistics(options.seed, data, prior, band, mask, num_draws)
    figures = {"num_draws": num_draws, "num_probes": num_probes, "ell_edges": EDGES.tolist()}
    for name in exact:
        (top, top_error), (bottom, bottom_error) = moments(drawn[name]), exact[name]
        ratio = top / bottom
        error = ratio * np.hypot(top_error / top, bottom_error / bottom)
        if name != "band_power":
            ratio, error = np.sqrt(ratio), error / 2
        figures[f"{name}_ratio"] = {"value": ratio.tolist(), "standard_error": error.tolist()}
    save(options, "gaussian_calibration", figures)
    draw(options.out / "gaussian_calibration.png", figures)


def cosmos_noise(folder) -> ShearMap:
    """The published mask and noise of the field; the shear plays no role."""
    with np.load(folder / "cosmos" / "binned_0.29arcmin_360.npz") as file:
        mask, std = file["mask"], file["noise_std"]
    grid = Grid(mask.shape, 0.29)
    return shear_map(np.zeros(mask.shape, complex), grid, noise_std=np.where(mask > 0, std, 0))


def band_means(power: np.ndarray, band: np.ndarray) -> np.ndarray:
    inside = (band >= 0) & (band < len(EDGES) - 1)
    count = np.bincount(band[inside], minlength=len(EDGES) - 1)
    return np.bincount(band[inside], power[inside], minlength=len(EDGES) - 1) / count


def exact_statistics(seed, data, prior, band, mask, num_probes) -> dict[str, tuple]:
    """Posterior variance of a mode per band, of a pixel in and out of the mask, with its error.

    Traces of the covariance: over all modes of a band where they are few (no error), else by
    vectors of random phases; over pixels by random signs.
    """

    @jax.jit
    def covariance_times(vector: jax.Array) -> jax.Array:
        coloured = jnp.fft.ifft2(prior.amplitude**2 * jnp.fft.fft2(vector)).real
        simulated = replace(data, shear=shear_from_convergence(coloured, data.grid))
        return coloured - solve_conjugate_gradient(simulated, prior, tolerance=1e-6)[0]

    def quotient(vector: np.ndarray) -> float:
        product = np.asarray(covariance_times(jnp.asarray(vector, float)))
        return float(np.sum(vector * product) / np.sum(vector**2))

    rng = np.random.default_rng(seed)
    powers = []
    for number in range(len(EDGES) - 1):
        inside = band == number
        if inside.sum() <= num_probes * 4:
            powers.append((np.mean([quotient(vector) for vector in real_modes(inside)]), 0.0))
            continue
        probes = []
        for _ in range(num_probes):
            modes = np.fft.fft2(rng.normal(size=mask.shape))
            probes.append(quotient(np.fft.ifft2(modes / np.abs(modes) * inside).real))
        powers.append(moments(probes))
    found = {"band_power": tuple(np.asarray(powers).T)}
    for name, region in (("std_observed", mask), ("std_masked", ~mask)):
        signs = (rng.choice([-1.0, 1.0], mask.shape) * region for _ in range(num_probes))
        found[name] = moments([quotient(vector) for vector in signs])
    return found


def real_modes(inside: np.ndarray) -> Iterator[np.ndarray]:
    """A real wave for every mode: the cosine for one of a pair, the sine for the other."""
    ny, nx = inside.shape
    for row, column in np.argwhere(inside):
        modes = np.zeros(inside.shape, complex)
        first = (row, column) <= ((-row) % ny, (-column) % nx)
        modes[row, column] = 1.0 if first else 1j
        yield np.fft.ifft2(modes).real


def sample_statistics(seed, data, prior, band, mask, num_draws) -> dict[str, list]:
    """The same quantities from every posterior sample's deviation from the mean."""
    draw_one = jax.jit(lambda key: gaussian_fluctuation(key, data, prior)[0])
    found: dict[str, list] = {"band_power": [], "std_observed": [], "std_masked": []}
    for number in range(num_draws):
        key = jax.random.fold_in(jax.random.key(seed), number)
        fluctuation = np.asarray(draw_one(key))
        power = np.abs(np.fft.fft2(fluctuation, norm="ortho")) ** 2
        found["band_power"].append(band_means(power, band))
        found["std_observed"].append(np.mean(fluctuation[mask] ** 2))
        found["std_masked"].append(np.mean(fluctuation[~mask] ** 2))
    return found


def moments(values: list) -> tuple[np.ndarray, np.ndarray]:
    array = np.asarray(values)
    return array.mean(axis=0), array.std(axis=0, ddof=1) / np.sqrt(len(array))


def draw(path, figures) -> None:
    figure = new_figure(6.5, 4)
    axes = figure.add_subplot()
    power = figures["band_power_ratio"]
    centres = np.sqrt(EDGES[1:] * EDGES[:-1])
    axes.errorbar(centres, power["value"], power["standard_error"], fmt="o", capsize=3)
    axes.axhspan(0.98, 1.02, color="seagreen", alpha=0.15, label=r"target $1 \pm 0.02$")
    axes.axhline(1.0, color="grey", linewidth=1)
    axes.axhline(1.05**2, color="firebrick", linestyle="--", label="5 % too wide (control)")
    axes.set_xscale("log")
    axes.set_xlabel(r"multipole $\ell$")
    axes.set_ylabel("power of (sample - mean) / exact")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
