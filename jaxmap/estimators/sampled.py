"""The posterior of a learned (or any) prior, by samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.denoiser_files import Domain, warn_of_residuals, warn_outside
from jaxmap.diagnostics import chi2_per_pixel, gelman_rubin
from jaxmap.digests import digest_of
from jaxmap.estimators.finite_field import inner, pad_shear
from jaxmap.gaussian_posterior import wiener_b_mode
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap, quantiles
from jaxmap.prior import GaussianPrior
from jaxmap.sample_store import SampleStore
from jaxmap.sampler_prior import PriorSource, SamplerPrior, gaussian_part, prior_on
from jaxmap.samplers import Diffusion, Draws, Sampler
from jaxmap.spectra import map_power

log = logging.getLogger(__name__)

NUM_BANDS = 16


@dataclass(frozen=True)
class SampledPosterior:
    r"""Samples of the posterior, and from them mean, standard deviation and quantiles.

    .. math:: \kappa_i \sim p(\kappa \mid \gamma) \propto p(\gamma \mid \kappa)\, p(\kappa)

    The map is the mean of the samples, its error their standard deviation (about the mean, with
    :math:`n - 1`), ``lower`` and ``upper`` their 16 and 84 % quantiles. The B-mode map is the
    Wiener filter of the shear turned by 45 degrees. ``diagnostics`` tell the evaluations of the
    prior per sample, the chi-squared of the samples, their power spectrum beside that of the
    prior, and what the sampler knows of its chains.

    Runs on the host, chunk by chunk. Sample i depends on the key and i alone.

    Args:
        prior: a trained denoiser, the spectrum of a Gaussian prior, or a function of the grid.
        sampler: how to draw.
        num_samples: how many.
        domain: what the prior was trained on, to warn of data outside; None for no warnings.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        chunk: samples drawn at once; 1 by default on a CPU, 8 elsewhere.
        folder: where to keep samples while they are drawn, so that a run that is stopped goes on
            from its last chunk, and memory does not grow with their number; None for memory.
        identity: of data and settings, as JSON can hold it: a folder of another one is refused, as
            is that of another key or shape. None to compare a digest of data, prior and sampler
            instead, which may refuse a folder of another machine (last bits differ).
        progress: wraps the loop over chunks, e.g. ``tqdm.tqdm``.

    Raises:
        ValueError: for fewer than 2 samples, a chunk below 1, or a folder of other samples.
        FloatingPointError: if a sample is not finite.
        RuntimeError: if fewer than two chains came to their end.

    References:
        Remy et al. (2023), A&A 672, A51, Sect. 5.3.
    """

    prior: PriorSource
    sampler: Sampler = Diffusion()  # noqa: RUF009 (frozen)
    num_samples: int = 32
    domain: Domain | None = None
    margin: int | None = None
    chunk: int | None = field(default=None, compare=False)
    folder: Path | None = field(default=None, compare=False)
    identity: Any = field(default=None, compare=False)
    progress: Callable[[Iterable[int]], Iterable[int]] = field(
        default=lambda chunks: chunks, compare=False
    )

    def __post_init__(self) -> None:
        if self.num_samples < 2:
            raise ValueError(
                f"num_samples is {self.num_samples}; expected 2 or more (deepmass gives a mean "
                "without samples)"
            )
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; expected 1 sample or more at once")

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        padded, margin = pad_shear(shear, self.margin)
        if self.domain is not None:
            warn_outside(self.domain, shear)
        prior = prior_on(self.prior, padded.grid)
        gaussian = gaussian_part(prior, padded.grid)
        digest = "" if self.folder is None else self._digest(key, prior, padded, margin)
        store = SampleStore(self.num_samples, self.folder, self.identity, digest)
        self._fill(store, key, prior, padded, margin)
        samples, statistics = _finished(store)
        if self.domain is not None:
            chi2 = float(np.mean(statistics["chi2"], dtype=float))
            warn_of_residuals(chi2, int(jnp.sum(shear.weight > 0)), samples=True)
        mean, std = _moments(samples)
        lower, upper = quantiles(samples, (0.16, 0.84))
        return MassMap(
            convergence=jnp.asarray(mean, samples.dtype),
            grid=shear.grid,
            mask=shear.mask,
            std=jnp.asarray(std, samples.dtype),
            b_mode=inner(wiener_b_mode(padded, gaussian), margin),
            samples=samples,
            counts=shear.counts,
            lower=lower,
            upper=upper,
            diagnostics=_diagnostics(statistics, gaussian, padded.grid),
        )

    def _digest(self, key: jax.Array, prior: SamplerPrior, padded: ShearMap, margin: int) -> str:
        """Of all that decides the samples; of its exact part where the caller knows the rest."""
        exact = (key, padded.grid.shape, margin, str(padded.weight.dtype))
        if self.identity is not None:  # the bits of sums over galaxies may differ on a GPU
            return digest_of(exact)
        return digest_of(exact, prior, padded, self.sampler)

    def _fill(
        self,
        store: SampleStore,
        key: jax.Array,
        prior: SamplerPrior,
        padded: ShearMap,
        margin: int,
    ) -> None:
        """Draw what is not there yet."""
        chunk = self.chunk or (1 if jax.default_backend() == "cpu" else 8)
        draw = self.sampler.prepare(prior, padded)
        if store.done:
            log.info("going on after %d samples of an earlier run", store.done)
        for start in self.progress(range(store.done, self.num_samples, chunk)):
            # The last chunk is filled up so that one compiled program serves all.
            draws = draw(key, start + jnp.arange(chunk))
            measured = _measured(draws, padded, margin)
            # Where even the size of the data overflows, solvers end at once, with zeros.
            whole = all(np.isfinite(measured[name]).all() for name in ("samples", "chi2"))
            if not whole or np.isinf(measured["power"]).any():  # NaN: a band without modes
                raise FloatingPointError(
                    f"samples {start} to {start + chunk - 1} are not finite{draws.broken_at()}: "
                    "weights are beyond the range of the precision; check the units of the noise, "
                    "or use float64 (--x64)"
                )
            store.append(measured)


def _measured(draws: Draws, padded: ShearMap, margin: int) -> dict[str, np.ndarray]:
    """Samples cropped to the field, with what can be told of them on the whole grid only."""
    cropped = inner(draws.samples, margin)
    chi2, power = _fit_and_power(draws.samples, padded)
    arrays = {"samples": cropped, "chi2": chi2, "power": power, **draws.statistics}
    return {name: np.asarray(values) for name, values in arrays.items()}


@jax.jit
def _fit_and_power(samples: jax.Array, data: ShearMap) -> tuple[jax.Array, jax.Array]:
    edges = band_edges(data.grid)

    def one(sample: jax.Array) -> tuple[jax.Array, jax.Array]:
        return chi2_per_pixel(sample, data), map_power(sample, data.grid, edges)[1]

    return jax.vmap(one)(samples)


def band_edges(grid: Grid, num: int = NUM_BANDS) -> np.ndarray:
    """Bands evenly spaced in log ell, from the fundamental mode to the Nyquist one."""
    pixel = np.sqrt(grid.pixel_sr)
    return np.geomspace(1.99 * np.pi / (max(grid.shape) * pixel), np.pi / pixel, num + 1)


def _finished(store: SampleStore) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Samples whose chains came to their end, and their figures."""
    arrays = dict(store.arrays)
    finished = arrays.pop("finished", np.ones(store.num, bool))
    if np.sum(finished) < 2:
        raise RuntimeError(
            f"{np.sum(finished)} of {store.num} chains reached the last level; expected 2 or more, "
            "whose spread is the error: lower the step size, or allow more rounds"
        )
    if not finished.all():
        arrays = {name: values[finished] for name, values in arrays.items()}
    arrays["unfinished"] = np.sum(~finished)
    return arrays.pop("samples"), arrays


def _moments(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, sample by sample in float64."""
    mean = np.zeros(samples.shape[1:])
    squares = np.zeros_like(mean)
    for number, sample in enumerate(samples, 1):
        change = sample - mean
        mean += change / number
        squares += change * (sample - mean)
    return mean, np.sqrt(squares / max(len(samples) - 1, 1))


def _diagnostics(
    statistics: dict[str, np.ndarray], gaussian: GaussianPrior, grid: Grid
) -> dict[str, Any]:
    ell, prior = _prior_power(gaussian, grid)
    chi2, power = (np.asarray(statistics[name], float) for name in ("chi2", "power"))
    figures: dict[str, Any] = {
        "network_evaluations_per_sample": float(np.mean(statistics["evaluations"])),
        "chi2_per_pixel": float(np.mean(chi2)),
        "power": {
            "ell": _plain(ell),
            "prior": _plain(prior),
            "mean": _plain(np.mean(power, axis=0)),
            "std": _plain(np.std(power, axis=0)),
        },
    }
    if statistics["unfinished"]:
        figures["unfinished_chains"] = int(statistics["unfinished"])
    for name in ("sigma", "acceptance"):
        if name in statistics:
            figures[name] = float(np.mean(statistics[name]))
    if "log_power" in statistics:
        figures["rhat"] = _plain(mixing_of(statistics["log_power"]))
    return figures


def mixing_of(log_power: np.ndarray) -> np.ndarray:
    """R-hat of the power in bands over the second half of chains; warns where it is high.

    Args:
        log_power: of `jaxmap.samplers.Gibbs`, shape ``(num_chains, num_sweeps, num_bands)``.
    """
    rhat = gelman_rubin(log_power[:, log_power.shape[1] // 2 :])
    # NaN where the data leave a band no freedom: all chains are then the same.
    worst = np.max(rhat, initial=0.0, where=~np.isnan(rhat))
    if worst > 1.1:
        log.warning(
            "the chains have not mixed: R-hat of the power in bands is up to %.2f (expected below "
            "1.1); draw with more sweeps",
            worst,
        )
    return rhat


def _prior_power(gaussian: GaussianPrior, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """Mean ell and the prior's power in the bands of the samples."""
    # A field whose every mode has just the prior's rms.
    field = jnp.fft.ifft2(gaussian.amplitude, norm="ortho")
    return map_power(field, grid, band_edges(grid))[:2]


def _plain(values: Any) -> list[float | None]:
    """As JSON can hold them: None where a band is empty."""
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values)]
