"""How far are samples of few evaluations from where their path leads? The error of the integrator.

`eps` follows an ordinary differential equation from one draw of noise: with more levels the same
draw leads to the same sample, up to the integrator's error (`jaxmap.sampling.diffusion.integrate`).
Posterior samples with few levels against those with 72, under a learned prior behind the COSMOS
mask, fields of 360 x 360 pixels: square of the difference and power by band of multipoles, over the
power of the samples with 72; skewness over theirs. Two controls: half the levels of the exact ones
leave next to no difference, and eleven levels in equal logarithmic steps lose more power than
eleven as `jaxmap.sampling.diffusion.noise_levels` puts them.

Writes results/integrator.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, save
from cosmos_fields import cosmos_fields
from diffusion_start import end, parts

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser
from jaxmap.denoiser_files import read_denoiser
from jaxmap.sampling.diffusion import noise_levels

SIDE, FIELDS, SAMPLES = 360, 6, 2
LARGEST, LEAST, EXACT = 2.0, 6e-3, 72
CASES = {str(number): noise_levels(number) for number in (6, 9, 11, 18, 36)} | {
    "11 in equal logarithmic steps": jnp.geomspace(LARGEST, LEAST, 11)
}
BANDS = np.array([300, 1200, 2400, 4800, 9600, 19200, 38400])


def main() -> None:
    options = arguments(
        __doc__,
        seed=7,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
    )
    denoiser, _, header = read_denoiser(options.weights)
    side, num_fields = (64, 1) if options.quick else (SIDE, FIELDS)
    fields = cosmos_fields(options, side)
    key = jax.random.key(options.seed)
    sums: dict[str, list[np.ndarray]] = {}
    for count in range(num_fields):
        _, data = fields(jax.random.fold_in(key, count))
        band = np.digitize(np.abs(np.asarray(data.grid.ell())), BANDS) - 1
        keys = jax.random.split(jax.random.fold_in(key, num_fields + count), SAMPLES)
        starts = [begin(one, denoiser, data) for one in keys]

        def draw(levels: jax.Array) -> np.ndarray:
            found = [end(start, levels, denoiser, data) for start in starts]  # noqa: B023
            return np.stack(found).astype(float)

        exact = draw(noise_levels(EXACT))
        for name, levels in CASES.items():
            found = draw(levels)
            maps = (found - exact, found, exact)
            rows = [np.append(power(one, band), third_moment(one)) for one in maps]
            sums.setdefault(name, []).append(np.stack(rows))
        print(f"field {count + 1} of {num_fields}", flush=True)
    totals = {name: np.sum(rows, axis=0) for name, rows in sums.items()}
    figures: dict[str, Any] = {
        "weights": header["sha256"],
        "side": side,
        "samples": num_fields * SAMPLES,
        "bands": list(BANDS),
        "by_levels": {
            name: {
                "square_of_difference": list(difference[:-1] / exact[:-1]),
                "power": list(found[:-1] / exact[:-1]),
                "skewness": (found[-1] / found[:-1].sum() ** 1.5)
                / (exact[-1] / exact[:-1].sum() ** 1.5),
            }
            for name, (difference, found, exact) in totals.items()
        },
    }
    save(options, "integrator", figures)


def begin(key: jax.Array, denoiser: Denoiser, data: ShearMap) -> jax.Array:
    """Where `jaxmap.posterior.sample_diffusion` starts."""
    _, learned, fluctuation, white = parts(key, denoiser, data)
    return learned + fluctuation + LARGEST * white


def power(samples: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Sums of squares of the modes in every band, over all samples."""
    squares = (np.abs(np.fft.fft2(samples)) ** 2).sum(axis=0)
    return np.array([squares[band == n].sum() for n in range(len(BANDS) - 1)])


def third_moment(samples: np.ndarray) -> float:
    return float(np.mean((samples - samples.mean(axis=(1, 2), keepdims=True)) ** 3))


if __name__ == "__main__":
    main()
