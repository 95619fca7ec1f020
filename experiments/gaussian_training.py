"""Trained on a Gaussian field, the denoiser has nothing to add to the exact Wiener filter.

Two small denoisers are trained alike: on maps of a Gaussian random field, and, the control, on maps
of the halo light cone with the same power spectrum. Mean square errors over the Wiener filter's on
fields that neither has seen, for white noise: 1 for the first, below 1 for the second. Also the rms
of what the network adds, in units of the error of the Wiener filter. Needs no data. Writes
results/gaussian_training.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, save
from scaling import settings_of

from jaxmap.denoiser import denoise
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field
from jaxmap.spectra import PowerSpectrum
from jaxmap.training.denoiser_task import denoiser_task, fresh_denoiser
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.loop import train
from jaxmap.training.sources import Source, open_source

LEVELS = (0.012, 0.025, 0.05, 0.1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianFields:
    """Periodic maps of a Gaussian random field."""

    spectrum: PowerSpectrum
    pixel_arcmin: float = field(metadata={"static": True})
    rim: int = field(default=0, metadata={"static": True})

    def draw(self, key: jax.Array, side: int) -> jax.Array:
        """One map, shape ``(side, side)``."""
        return gaussian_field(key, self.spectrum, Grid((side, side), self.pixel_arcmin))


def main() -> None:
    options = arguments(
        __doc__, runs={"type": Path, "default": Path("runs/gaussian"), "help": "of the trainings"}
    )
    side, steps, num = (32, 4, 2) if options.quick else (64, 400, 200)
    settings = settings_of((4, 8) if options.quick else (8, 16, 32), steps, side, options.seed)
    skies = open_source(settings)
    gaussian = GaussianFields(skies.spectrum, settings.source.pixel_arcmin)
    sources = {"Gaussian": Source(gaussian, gaussian, skies.spectrum), "light cone": skies}
    grid = settings.layouts[0].grid(settings.source.pixel_arcmin)
    rows: dict[str, Any] = {}
    for name, source in sources.items():
        task = denoiser_task(settings, source.training, source.validation, source.spectrum)
        params = train(
            task,
            settings.schedule,
            options.runs / name.replace(" ", "_"),
            {"settings": {"schedule": asdict(settings.schedule)}},
            validate_every=steps,
        )
        denoiser = replace(fresh_denoiser(settings, source.spectrum), params=params)
        rows[name] = {}
        for level in LEVELS:
            ratio, added = gains(denoiser, source, grid, level, num, options.seed)
            pair = zip(("ratio", "error"), mean_and_error(ratio), strict=True)
            rows[name][f"{level:g}"] = {**dict(pair), "added_over_wiener_error": float(added)}
    save(options, "gaussian_training", {"side": side, "steps": steps, "fields": num, "rows": rows})


def gains(denoiser, source: Source, grid: Grid, level: float, num: int, seed: int):
    """Ratios of mean square errors by field, and the rms of what the network adds."""
    weight = jnp.full((2, *grid.shape), 1 / level**2)

    @jax.jit
    def errors(key: jax.Array, truth: jax.Array):
        shear = shear_from_convergence(truth, grid)
        found = denoise(denoiser, information_from_shear(key, shear, weight, grid), weight, grid)
        added = jnp.mean((found.mean - found.wiener) ** 2)
        return jnp.var(found.mean - truth), jnp.var(found.wiener - truth), added

    draw = jax.jit(lambda key: source.validation.draw(key, grid.shape[0]))
    rows = []
    for number in range(num):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 8), number)
        truth = draw(key)
        rows.append(errors(jax.random.fold_in(key, 1), truth - jnp.mean(truth)))
    network, wiener, added = np.array(rows).T
    return network / wiener, np.sqrt(added.mean() / wiener.mean())


if __name__ == "__main__":
    main()
