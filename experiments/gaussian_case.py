"""A Gaussian posterior with the COSMOS mask and noise, and its exact mean and variances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from gaussian_calibration import real_modes

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.gaussian_posterior import solve_information
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.posterior import information_of
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance, read_power_spectrum

EDGES = np.array([100, 1300, 2700, 5000, 9000, 16000, 37000])
CROP = (slice(32, 160), slice(30, 158))
SMALL = (slice(32, 96), slice(30, 94))
WHOLE = (slice(None), slice(None))

Covariance = Callable[[jax.Array], jax.Array]


def cosmos_like(seed: int, folder: Path, crop: tuple) -> tuple[ShearMap, GaussianPrior]:
    """Shear of a Gaussian map on a periodic grid, with a crop of the real mask and noise."""
    with np.load(folder / "ktng" / "table1.npz") as file:
        mask, std = file["mask"][crop] > 0, file["noise_std"][:, crop[0], crop[1]]
    grid = Grid(mask.shape, 0.29)
    spectrum = read_power_spectrum(folder / "ktng" / "power_spectrum.npy")
    prior = GaussianPrior(mode_variance(spectrum, grid))
    key_truth, key_noise = jax.random.split(jax.random.key(seed))
    std = jnp.asarray(np.where(mask, std, 0), float)
    noise = jax.lax.complex(*(std * jax.random.normal(key_noise, std.shape)))
    shear = shear_from_convergence(prior.sample(key_truth), grid) + noise
    return shear_map(shear, grid, noise_std=std), prior


class Case:
    """A posterior with its exact mean, and its exact variances by probes."""

    def __init__(self, data: ShearMap, prior: GaussianPrior, seed: int, num_probes: int) -> None:
        self.data, self.prior, self.seed = data, prior, seed
        self.nothing = replace(data, shear=jnp.zeros_like(data.shear))
        self.rng = np.random.default_rng(seed)
        self.mask = np.asarray(data.mask)
        self.band = np.digitize(np.abs(np.asarray(data.grid.ell())), EDGES) - 1
        self.band[0, 0] = -1
        self.covariance = covariance_of(data.weight, prior, data.grid)
        self.mean = self.covariance(information_of(data))
        self.probes = self.make_probes(num_probes)
        self.exact_by_probe = self.by_probe(self.variance_along, self.probes)
        # Where all modes of a band are probed the trace has no error.
        counts = [(self.band == index).sum() for index in range(len(EDGES) - 1)]
        self.all_probed = [len(v) == n for v, n in zip(self.probes, [*counts, 0, 0], strict=True)]
        # A sampler of known law is compared probe by probe, draws with the trace itself: of pixels
        # that takes more probes.
        more = [self.signs(region, 8 * num_probes) for region in (self.mask, ~self.mask)]
        values = self.exact_by_probe[:-2] + self.by_probe(self.variance_along, more)
        self.exact = [float(np.mean(v)) for v in values]
        self.exact_error = [
            0.0 if whole else float(standard_error(v))
            for v, whole in zip(values, self.all_probed, strict=True)
        ]

    def variance_along(self, vector: jax.Array) -> jax.Array:
        return jnp.sum(vector * self.covariance(vector))

    def signs(self, region: np.ndarray, number: int) -> jax.Array:
        """Unit vectors of random signs in a region."""
        signs = self.rng.choice([-1.0, 1.0], (number, *region.shape)) * region
        return jnp.asarray(signs / np.sqrt(region.sum()), float)

    def make_probes(self, number: int) -> list[jax.Array]:
        """Unit vectors whose mean quadratic form is the mean variance in a band, or region."""
        probes = []
        for index in range(len(EDGES) - 1):
            inside = self.band == index
            if inside.sum() <= 4 * number:
                vectors = np.stack(list(real_modes(inside)))
            else:
                modes = np.fft.fft2(self.rng.normal(size=(number, *self.mask.shape)))
                vectors = np.fft.ifft2(modes / np.abs(modes) * inside).real
            probes.append(vectors)
        norms = [np.sqrt(np.sum(v**2, axis=(1, 2), keepdims=True)) for v in probes]
        bands = [jnp.asarray(v / n, float) for v, n in zip(probes, norms, strict=True)]
        return bands + [self.signs(region, number) for region in (self.mask, ~self.mask)]

    def by_probe(self, quotient: Covariance, probes: list[jax.Array]) -> list[np.ndarray]:
        compiled = jax.jit(lambda vectors: jax.lax.map(quotient, vectors))
        return [np.asarray(compiled(vectors)) for vectors in probes]

    def variances(self, fluctuations: np.ndarray) -> np.ndarray:
        """Of fields about their mean: power by band, variance observed and masked."""
        power = np.abs(np.fft.fft2(fluctuations, norm="ortho")) ** 2
        bands = [power[:, self.band == index].mean(axis=1) for index in range(len(EDGES) - 1)]
        pixels = [(fluctuations[:, r] ** 2).mean(axis=1) for r in (self.mask, ~self.mask)]
        return np.stack([*bands, *pixels], axis=1)

    def biases(self, error: np.ndarray) -> dict[str, float]:
        """Rms of an error of the mean, in units of the posterior's std."""
        return {
            name: float(np.sqrt(np.mean(np.asarray(error)[region] ** 2) / variance))
            for name, region, variance in zip(
                ("observed", "masked"), (self.mask, ~self.mask), self.exact[-2:], strict=True
            )
        }


def covariance_of(weight: jax.Array, prior: GaussianPrior, grid: Grid) -> Covariance:
    solve = partial(solve_information, weight=weight, grid=grid, prior=prior, tolerance=1e-6)
    return jax.jit(lambda vector: solve(vector)[0])


def standard_error(values: np.ndarray) -> np.ndarray:
    return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
