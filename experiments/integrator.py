"""How far are samples of few evaluations from where their path leads? The error of the integrator.

`eps` follows an ordinary differential equation from one draw of noise: with more levels the same
draw leads to the same sample, up to the integrator's error (`jaxmap.sampling.diffusion.integrate`).
Posterior samples with few levels against those with 72, under a learned prior behind the middle of
the COSMOS mask, fields of 192 x 192 pixels: square of the difference and power by band of
multipoles, over the power of the samples with 72; skewness over theirs. Four times the levels, the
control, leave next to no difference.

Writes results/integrator.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import arguments, save
from cosmos_fields import cosmos_fields

from jaxmap.catalog import ShearMap
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import SampledPosterior
from jaxmap.samplers import Diffusion

SIDE, SAMPLES, LEVELS = 192, 3, 72
CASES = (6, 9, 12, 18, 36)
BANDS = np.array([300, 1200, 2400, 4800, 9600, 19200, 38400])


def main() -> None:
    options = arguments(
        __doc__,
        seed=7,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
    )
    denoiser, domain, header = read_denoiser(options.weights)
    side, number = (64, 1) if options.quick else (SIDE, 4)
    fields = cosmos_fields(options, side)
    key = jax.random.key(options.seed)

    def draw(data: ShearMap, num_steps: int) -> np.ndarray:
        posterior = SampledPosterior(
            denoiser, Diffusion(num_steps), SAMPLES, domain=domain, margin=0
        )
        samples = posterior(key, data).samples
        assert samples is not None
        return np.asarray(samples, float)

    sums: dict[int, list[np.ndarray]] = {}
    for count in range(number):
        _, data = fields(jax.random.fold_in(key, count))
        band = np.digitize(np.abs(np.asarray(data.grid.ell())), BANDS) - 1
        exact = draw(data, LEVELS)
        for num_steps in CASES:
            found = draw(data, num_steps)
            maps = (found - exact, found, exact)
            rows = [np.append(power(one, band), third_moment(one)) for one in maps]
            sums.setdefault(num_steps, []).append(np.stack(rows))
        print(f"field {count + 1} of {number}", flush=True)
    totals = {name: np.sum(rows, axis=0) for name, rows in sums.items()}
    figures: dict[str, Any] = {
        "weights": header["sha256"],
        "side": side,
        "samples": number * SAMPLES,
        "bands": list(BANDS),
        "by_levels": {
            str(num_steps): {
                "square_of_difference": list(difference[:-1] / exact[:-1]),
                "power": list(found[:-1] / exact[:-1]),
                "skewness": (found[-1] / found[:-1].sum() ** 1.5)
                / (exact[-1] / exact[:-1].sum() ** 1.5),
            }
            for num_steps, (difference, found, exact) in totals.items()
        },
    }
    save(options, "integrator", figures)


def power(samples: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Sums of squares of the modes in every band, over all samples."""
    squares = (np.abs(np.fft.fft2(samples)) ** 2).sum(axis=0)
    return np.array([squares[band == n].sum() for n in range(len(BANDS) - 1)])


def third_moment(samples: np.ndarray) -> float:
    return float(np.mean((samples - samples.mean(axis=(1, 2), keepdims=True)) ** 3))


if __name__ == "__main__":
    main()
