"""What the reward for spread does to a conditional GAN: samples with it and without.

Gaussian fields behind a mask with uneven noise, whose posterior is known: two trainings of the same
generator and critic on the same examples, one with the reward of Bendel et al. (tuned on validation
fields), one without. Writes results/gan_ablation.json and .png.

- spread over error: rms of samples about their mean, against the rms error of that mean (1 if the
  truth is one more sample); without the reward the generator learns to leave its white images out,
  and it goes to 0.
- error over Wiener: rms error of the mean of 16 samples over that of the exact posterior mean.
- std over exact: rms over pixels of the samples' standard deviation over the posterior's.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save

from jaxmap.catalog import shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.estimators import ConditionalGAN, Wiener
from jaxmap.grid import Grid
from jaxmap.mapfiles import write_shear_map
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance, pixel_variance
from jaxmap.training.gan_task import fresh_generator, gan_task
from jaxmap.training.loop import LOG, train
from jaxmap.training.observations import draw_observations, survey_observations
from jaxmap.training.settings import Training, training_from

PIXEL_ARCMIN = 2.0
NOISE = (0.01, 0.04)
REWARDS = {"with the reward": 1.0, "without": 0.0}
NUM_SAMPLES = 16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianFields:
    """Periodic Gaussian maps."""

    prior: GaussianPrior

    @property
    def rim(self) -> int:
        return 0

    def draw(self, key: jax.Array, side: int) -> jax.Array:
        assert side == len(self.prior.variance)
        return self.prior.sample(key)


def main() -> None:
    options = arguments(__doc__)
    side, steps, num = (16, 120, 8) if options.quick else (32, 2500, 64)
    spectrum = convergence_power()
    rows, logs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        survey = Path(folder) / "survey.fits"
        write_survey(survey, side, options.seed)
        for name, reward in REWARDS.items():
            table = settings_of(side, steps, reward, survey, options)
            rows[name], logs[name] = trained(table, spectrum, Path(folder) / name, num)
    figures = {"pixels": [side, side], "steps": steps, "fields": num, "variants": rows}
    save(options, "gan_ablation", figures)
    draw(options.out / "gan_ablation.png", logs)


def write_survey(path: Path, side: int, seed: int) -> None:
    """Noise that differs between pixels by a factor of four, and a hole of a sixth of the field."""
    grid = Grid((side, side), PIXEL_ARCMIN)
    std = NOISE[0] * (NOISE[1] / NOISE[0]) ** np.random.default_rng(seed).random(grid.shape)
    std[side // 8 : side // 2, side // 4 : 3 * side // 5] = 0
    zero = np.zeros(grid.shape, complex)
    write_shear_map(path, shear_map(zero, grid, noise_std=std))


def settings_of(side: int, steps: int, reward: float, survey: Path, options: Any) -> dict[str, Any]:
    """Of a training, as the tables of its configuration."""
    channels = [8, 16] if options.quick else [24, 48]
    critic = [8, 16] if options.quick else [16, 32, 32]
    tune_every = 10 if options.quick else 50
    return {
        "kind": "gan",
        "seed": options.seed,
        "validation_batches": 2,
        "validate_every": max(steps // 10, 1),
        "checkpoint_every": max(steps // 10, 1),
        "schedule": {
            "num_steps": steps,
            "learning_rate": 4e-3 if options.quick else 2e-3,
            "beta1": 0.0,
            "warmup_steps": 20,
            "decay_steps": steps // 4,
            "averaging": steps // 20,
        },
        "network": {"channels": channels},
        "gan": {"critic": critic, "reward": reward, "tune_every": tune_every},
        "survey": {"mask_from": str(survey), "margin": 0},
        "maps": {"pixel_arcmin": PIXEL_ARCMIN},
        "layouts": [{"side": side, "batch": 8 if options.quick else 16}],
    }


def trained(
    table: dict[str, Any], spectrum: PowerSpectrum, folder: Path, num: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of a generator, and the log of its training."""
    settings = training_from(table)
    side = settings.layouts[0].side
    fields = GaussianFields(
        GaussianPrior(mode_variance(spectrum, Grid((side, side), PIXEL_ARCMIN)))
    )
    began = time.perf_counter()
    task = gan_task(settings, fields, fields, spectrum)
    params = train(
        task,
        settings.schedule,
        folder,
        {"settings": table},
        checkpoint_every=settings.checkpoint_every,
        validate_every=settings.validate_every,
    )
    seconds = time.perf_counter() - began
    log = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    row = judged(settings, params, fields, spectrum, num)
    return {**row, "reward": log[-1]["train"]["reward"], "seconds": seconds}, log


def judged(
    settings: Training, params: Any, fields: GaussianFields, spectrum: PowerSpectrum, num: int
) -> dict[str, Any]:
    """Samples of fields not trained on, beside the exact posterior; errors of the means between."""
    observations = survey_observations(settings, fields)
    scale = jnp.sqrt(pixel_variance(spectrum, observations.survey.grid))
    generator = replace(fresh_generator(settings, spectrum, scale), params=params)
    gan = ConditionalGAN(generator, num_samples=NUM_SAMPLES, margin=0, chunk=NUM_SAMPLES)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 100), num)
    truths, datas = draw_observations(keys, observations)
    mean_only = Wiener(spectrum, num_samples=0, margin=0)
    squares: dict[str, list[float]] = {"spread": [], "error": [], "wiener": []}
    variance = []
    for number, key in enumerate(keys):
        data = jax.tree.map(lambda leaf, at=number: leaf[at], datas)
        truth = truths[number]
        found = gan(key, data)
        assert found.std is not None
        variance.append(np.asarray(found.std) ** 2)
        squares["spread"].append(float(np.mean(variance[-1])))
        squares["error"].append(float(jnp.mean((found.convergence - truth) ** 2)))
        wiener = mean_only(key, data).convergence
        squares["wiener"].append(float(jnp.mean((wiener - truth) ** 2)))
    exact = Wiener(spectrum, num_samples=200, margin=0, chunk=20)(keys[0], data)
    mask = np.asarray(data.mask)
    ratio = {
        name: float(np.sqrt(np.mean(variance, axis=0)[region].mean() / exact_square))
        for name, region in (("observed", mask), ("masked", ~mask))
        for exact_square in [np.mean(np.asarray(exact.std)[region] ** 2)]
    }
    return {
        "spread_over_error": root_ratio(
            (1 + 1 / NUM_SAMPLES) * np.array(squares["spread"]), np.array(squares["error"])
        ),
        "error_over_wiener": root_ratio(np.array(squares["error"]), np.array(squares["wiener"])),
        "std_over_exact": ratio,
    }


def root_ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float]:
    """Root of the ratio of means over fields, with its standard error."""
    value = np.sqrt(above.mean() / below.mean())
    _, error = mean_and_error(above - value**2 * below)
    return {"value": float(value), "standard_error": float(error / (2 * value * below.mean()))}


def draw(path: Path, logs: dict[str, list[dict[str, Any]]]) -> None:
    figure = new_figure(8, 3.4)
    for place, (name, label) in enumerate(
        (
            ("spread_over_error", "spread of samples / error"),
            ("loss", "error of the mean / variance"),
        )
    ):
        axes = figure.add_subplot(1, 2, place + 1)
        for variant, rows in logs.items():
            points = [(row["step"], row["validation"][name]) for row in rows if "validation" in row]
            axes.plot(*zip(*points, strict=True), "o-", label=variant)
        axes.set(xlabel="step", ylabel=label, ylim=(0, None))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
