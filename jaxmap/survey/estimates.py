"""Estimators as pure functions, on as many devices as there are: a patch on each.

`patch_solver` takes what `jaxmap.methods.build_estimator` builds. Inversion, Wiener filter,
DeepMass and the diffusion and Gibbs samples of the learned posterior are pure. Every device runs
the program of one patch, compiled for itself alone, and they run at the same time, since JAX does
not wait for a result before the next call. So a patch comes out the same bit for
bit (but for ``--no-deterministic``), however many devices there are. One program over all of them
(``shard_map``) would be compiled once instead of once for each, but XLA then also partitions it,
and what it fuses depends on their number: results of the learned posterior differed by 1e-15 of
their size. Other estimators work on the host, one patch after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import denoise_shear
from jaxmap.denoiser_files import warn_of_residuals, warn_outside
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators import DeepMass, Estimator, KaiserSquires, SampledPosterior, Wiener
from jaxmap.estimators.finite_field import inner, pad_shear
from jaxmap.estimators.sampled import mixing_of
from jaxmap.gaussian_posterior import gaussian_fluctuation, turned, wiener_b_mode
from jaxmap.prior import GaussianPrior
from jaxmap.sampler_prior import gaussian_part, prior_on
from jaxmap.samplers import Diffusion, Gibbs
from jaxmap.spectra import mode_variance

Maps = dict[str, jax.Array]
"""``mean``, ``std``, ``b_mode`` and ``samples``, as far as there are, the ``residual`` of an
iterative solver, and what learned estimators warn by: ``chi2`` of their residuals and ``log_power``
along chains."""

Pure = Callable[[Any, jax.Array, ShearMap], Maps]
"""Arrays of the estimator, key and shear in, maps out."""


@dataclass(frozen=True)
class PatchSolver:
    """Makes the maps of patches. Made by `patch_solver`.

    Args:
        estimator: the estimator.
        program: of its arrays, a key and the shear of a patch, compiled; or None.
        arrays: of the estimator.
        devices: to run on.
    """

    estimator: Estimator
    program: Pure | None
    arrays: Any
    devices: tuple[jax.Device, ...]

    def __call__(
        self, keys: Sequence[jax.Array], shears: Sequence[ShearMap]
    ) -> list[dict[str, np.ndarray]]:
        """Maps of every patch, on the host.

        Args:
            keys: one for every patch.
            shears: of one shape.

        Raises:
            FloatingPointError: if a map is not finite.
        """
        pairs = list(zip(keys, shears, strict=True))
        if self.program is None:
            return [_on_host(self.estimator, *pair) for pair in pairs]
        results: list[dict[str, np.ndarray]] = []
        size = len(self.devices)
        for start in range(0, len(pairs), size):
            running = []
            for device, pair in zip(self.devices, pairs[start : start + size], strict=False):
                placed = jax.device_put((self.arrays, *pair), SingleDeviceSharding(device))
                running.append(self.program(*placed))
            results += jax.device_get(running)
        for (_, shear), maps in zip(pairs, results, strict=True):
            _check(self.estimator, shear, maps)
        return results


def patch_solver(
    estimator: Estimator, num_samples: int, devices: Sequence[jax.Device] | None = None
) -> PatchSolver:
    """The estimator on devices.

    Args:
        estimator: one of `jaxmap.methods.build_estimator`.
        num_samples: of the posterior.
        devices: one or more; all local ones by default.
    """
    chosen = tuple(jax.local_devices() if devices is None else devices)
    found = _pure_part(estimator, num_samples)
    if found is None:
        return PatchSolver(estimator, None, None, chosen)
    function, arrays = found
    return PatchSolver(estimator, jax.jit(function), arrays, chosen)


def _pure_part(estimator: Estimator, num_samples: int) -> tuple[Pure, Any] | None:
    """The estimator as a pure function and its arrays; None if it works on the host."""
    if isinstance(estimator, KaiserSquires):
        return partial(_inversion, estimator=estimator), None
    if isinstance(estimator, DeepMass):
        return partial(_deepmass, margin=estimator.margin), estimator.denoiser
    if isinstance(estimator, Wiener):
        return partial(_wiener, estimator=estimator, num=num_samples), estimator.spectrum
    if isinstance(estimator, SampledPosterior) and isinstance(estimator.sampler, Diffusion | Gibbs):
        sampler, margin = estimator.sampler, estimator.margin
        return partial(_sampled, sampler=sampler, margin=margin, num=num_samples), estimator.prior
    return None


def _inversion(arrays: Any, key: jax.Array, shear: ShearMap, *, estimator: KaiserSquires) -> Maps:
    del arrays
    result = estimator(key, shear)
    assert result.std is not None and result.b_mode is not None
    return {"mean": result.convergence, "std": result.std, "b_mode": result.b_mode}


def _deepmass(denoiser: Any, key: jax.Array, shear: ShearMap, *, margin: int | None) -> Maps:
    del key
    padded, taken = pad_shear(shear, margin)
    result = denoise_shear(denoiser, padded)
    b_mode = denoise_shear(denoiser, turned(padded)).wiener
    maps = {"mean": result.mean, "std": result.std, "b_mode": b_mode}
    cropped = {name: inner(values, taken) for name, values in maps.items()}
    return {**cropped, "chi2": chi2_per_pixel(result.mean, padded)}


def _wiener(spectrum: Any, key: jax.Array, shear: ShearMap, *, estimator: Wiener, num: int) -> Maps:
    padded, taken = pad_shear(shear, estimator.margin)
    prior = GaussianPrior(mode_variance(spectrum, padded.grid))
    solution, info = estimator.solver(padded, prior, estimator.phase)
    b_mode, _ = estimator.solver(turned(padded), prior, estimator.phase)

    def fluctuation(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        one = jax.random.fold_in(key, number)
        draw, info = gaussian_fluctuation(one, padded, prior, estimator.phase, estimator.solver)
        return inner(draw, taken), info.residual

    draws, residuals = jax.lax.map(fluctuation, jnp.arange(num))
    mean = inner(solution, taken)
    return {
        "mean": mean,
        "std": jnp.sqrt(jnp.mean(draws**2, axis=0)),
        "b_mode": inner(b_mode, taken),
        "samples": mean[None] + draws,
        "residual": jnp.maximum(info.residual, jnp.max(residuals)),
    }


def _sampled(
    source: Any,
    key: jax.Array,
    shear: ShearMap,
    *,
    sampler: Diffusion | Gibbs,
    margin: int | None,
    num: int,
) -> Maps:
    padded, taken = pad_shear(shear, margin)
    prior = prior_on(source, padded.grid)
    draw = sampler.prepare(prior, padded)

    def sample(number: jax.Array) -> Maps:
        draws = draw(key, number[None])
        whole = draws.samples[0]
        found = {"samples": inner(whole, taken), "chi2": chi2_per_pixel(whole, padded)}
        if "log_power" in draws.statistics:
            found["log_power"] = draws.statistics["log_power"][0]
        return found

    found = jax.lax.map(sample, jnp.arange(num))
    b_mode = inner(wiener_b_mode(padded, gaussian_part(prior, padded.grid)), taken)
    mean = jnp.mean(found["samples"], axis=0)
    std = jnp.std(found["samples"], axis=0, ddof=1)
    return {"mean": mean, "std": std, "b_mode": b_mode, **found}


def _on_host(estimator: Estimator, key: jax.Array, shear: ShearMap) -> dict[str, np.ndarray]:
    result = estimator(key, shear)
    maps = {
        "mean": result.convergence,
        "std": result.std,
        "b_mode": result.b_mode,
        "samples": result.samples,
    }
    return {name: np.asarray(values) for name, values in maps.items() if values is not None}


def _check(estimator: Estimator, shear: ShearMap, maps: dict[str, np.ndarray]) -> None:
    """Refuse maps that are not finite; warn as a call of the estimator does."""
    log_power = maps.pop("log_power", None)
    _require_finite(maps)
    if log_power is not None:
        mixing_of(log_power)
    if isinstance(estimator, DeepMass | SampledPosterior) and estimator.domain is not None:
        warn_outside(estimator.domain, shear)
        chi2, observed = float(np.mean(maps["chi2"], dtype=float)), int(jnp.sum(shear.weight > 0))
        warn_of_residuals(chi2, observed, samples="samples" in maps)


def _require_finite(maps: dict[str, np.ndarray]) -> None:
    if not all(np.isfinite(values).all() for values in maps.values()):
        raise FloatingPointError(
            "the map is not finite: weights are beyond the range of the precision; check the units "
            "of the noise (--shape-noise), or plan with --x64"
        )
