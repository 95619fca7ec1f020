"""The published prior's network against the denoiser's, trained alike: losses at every noise level.

Both see the same number of the same kind of fields, for as many steps, with the same schedule of
the optimiser; the published one as published otherwise (white noise only, its own loss, spectral
normalisation). Its learning rate is the best of three, by the loss of short trainings. Then both
denoise the same held-out fields with the same noise. The shipped denoiser, trained for longer, is
beside them. Goes on from checkpoints in ``--runs``. Writes results/published_prior.json and .png.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save
from scaling import SIZES, drawn, settings_of

from jaxmap.denoiser_files import read_denoiser
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import DenoiserPrior, HybridPrior
from jaxmap.networks.score_unet import ScoreUNet
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance
from jaxmap.training.denoiser_task import denoiser_task, fresh_denoiser
from jaxmap.training.loop import LOG, train
from jaxmap.training.score_task import fresh_hybrid_prior, score_task
from jaxmap.training.settings import Training
from jaxmap.training.sources import Source, open_source

LEVELS = (0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4)
RATES = (3e-4, 1e-3, 3e-3)


def main() -> None:
    options = arguments(
        __doc__, runs={"type": Path, "default": Path("runs/published"), "help": "of the trainings"}
    )
    side, steps, short, num = (32, 4, 2, 2) if options.quick else (64, 400, 40, 64)
    channels = (4, 8) if options.quick else SIZES["large"]
    settings = settings_of(channels, steps, side, options.seed)
    rates = RATES
    if options.quick:
        settings, rates = replace(settings, validation_batches=1), RATES[:1]
    source = open_source(settings)
    tried = {rate: loss_of(settings, source, rate, short, options) for rate in rates}
    best = min(tried, key=lambda rate: tried[rate])
    grid = settings.layouts[0].grid(settings.source.pixel_arcmin)
    priors = {
        "published network": published(settings, source, best, steps, options),
        "our network, trained alike": ours(settings, source, options),
        "our network, as shipped": shipped(grid),
    }
    truths = drawn(source.validation, jax.random.fold_in(jax.random.key(options.seed), 8), num)
    gaussian = GaussianPrior(mode_variance(source.spectrum, grid))
    figures: dict[str, Any] = {
        "side": side,
        "steps": steps,
        "fields": num,
        "loss_by_learning_rate": {f"{rate:g}": loss for rate, loss in tried.items()},
        "learning_rate": best,
        "rows": {
            name: {"parameters": size_of(prior), "ratio": ratios(prior, gaussian, truths)}
            for name, prior in priors.items()
        },
    }
    for name, prior in list(priors.items())[1:]:
        figures["rows"][name]["over_published"] = ratios(prior, priors["published network"], truths)
    save(options, "published_prior", figures)
    draw(options.out / "published_prior.png", figures["rows"])


def score_settings(settings: Training, rate: float, steps: int) -> Training:
    """The published prior's training, on the schedule of ours."""
    schedule = replace(
        settings.schedule,
        num_steps=steps,
        learning_rate=rate,
        warmup_steps=steps // 10,
        decay_steps=steps // 2,
        averaging=steps // 20,
    )
    return replace(settings, kind="score", schedule=schedule)


def trained(task: Any, settings: Training, folder: Path) -> Any:
    steps = settings.schedule.num_steps
    return train(
        task,
        settings.schedule,
        folder,
        {"settings": {"schedule": asdict(settings.schedule)}},
        checkpoint_every=max(steps // 20, 1),
        validate_every=steps,
        progress=shown,
    )


def shown(steps: Any) -> Any:
    for step in steps:
        if step % 10 == 0:
            print(f"step {step}", flush=True)
        yield step


def published(settings: Training, source: Source, rate: float, steps: int, options) -> HybridPrior:
    chosen = small(score_settings(settings, rate, steps), options.quick)
    task = score_task(chosen, source.training, source.validation, source.spectrum)
    params = trained(task, chosen, options.runs / f"published-{rate:g}-{steps}")
    return replace(fresh_hybrid_prior(chosen, source.spectrum), params=params)


def loss_of(settings: Training, source: Source, rate: float, steps: int, options) -> float:
    """Validation loss of a short training of the published network."""
    published(settings, source, rate, steps, options)
    log = options.runs / f"published-{rate:g}-{steps}" / LOG
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return float(last["validation"]["loss"])


def small(settings: Training, quick: bool) -> Training:
    network = ScoreUNet(channels=(4, 4), blocks=1)
    return replace(settings, score_network=network) if quick else settings


def ours(settings: Training, source: Source, options) -> DenoiserPrior:
    task = denoiser_task(settings, source.training, source.validation, source.spectrum)
    params = trained(task, settings, options.runs / "ours")
    denoiser = replace(fresh_denoiser(settings, source.spectrum), params=params)
    return DenoiserPrior(denoiser, settings.layouts[0].grid(settings.source.pixel_arcmin))


def shipped(grid: Grid) -> DenoiserPrior:
    return DenoiserPrior(read_denoiser()[0], grid)


def size_of(prior: HybridPrior | DenoiserPrior) -> int:
    params = prior.params if isinstance(prior, HybridPrior) else prior.denoiser.params
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@jax.jit
def squared_error(key: jax.Array, prior: Any, truth: jax.Array, level: jax.Array) -> jax.Array:
    """Of the denoised map; the mean, which shear does not tell, is left out."""
    noisy = truth + level * jax.random.normal(key, truth.shape)
    gap = prior.denoise(noisy, level) - truth
    return jnp.var(gap)


def ratios(prior: Any, other: Any, truths: jax.Array) -> dict[str, dict[str, float]]:
    """Mean square error over that of the other prior, field by field, for white noise."""
    result = {}
    for level in LEVELS:
        rows = [
            [float(squared_error(jax.random.key(n), one, truth, level)) for one in (prior, other)]
            for n, truth in enumerate(truths)
        ]
        mean, other_mean = np.array(rows).T
        pair = mean_and_error(mean / other_mean)
        result[f"{level:g}"] = dict(zip(("ratio", "error"), pair, strict=True))
    return result


def draw(path: Path, rows: dict[str, Any]) -> None:
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    for name, row in rows.items():
        values = row["ratio"].values()
        axes.errorbar(
            LEVELS,
            [one["ratio"] for one in values],
            [one["error"] for one in values],
            fmt="o-",
            ms=3,
            label=name,
        )
    axes.axhline(1, color="0.5", lw=1)
    axes.set(xscale="log", xlabel="noise level", ylabel="mean square error / Gaussian prior")
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
