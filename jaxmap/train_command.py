"""What ``jaxmap train`` does: train, keep the weights, show and say how well they do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

import jaxmap
from jaxmap.denoiser_files import Domain, write_denoiser
from jaxmap.hybrid_prior_files import write_hybrid_prior
from jaxmap.training.denoiser_task import denoiser_task, fresh_denoiser
from jaxmap.training.loop import CHECKPOINT, LOG, train
from jaxmap.training.pictures import draw_examples, draw_losses, draw_score_examples
from jaxmap.training.score_task import fresh_hybrid_prior, score_task
from jaxmap.training.settings import Training, read_training
from jaxmap.training.sources import Source, open_source

TASKS = {"denoiser": denoiser_task, "score": score_task}
PICTURED = (0.25, 0.75, 1.5)
"""Noise in the pictures of a score training, relative to the spread of its levels."""


def run_train(options: argparse.Namespace) -> int:
    """``jaxmap train``: a network from a configuration."""
    settings, table = read_training(options.settings)
    out = Path(options.out)
    say = (lambda text: None) if options.quiet else print
    source = open_source(settings, _progress(options, "reading maps", "map"))
    task = TASKS[settings.kind](settings, *source)
    size = sum(leaf.size for leaf in jax.tree.leaves(task.params))
    say(f"Training {size:,} parameters for {settings.schedule.num_steps:,} steps into {out}/.")
    try:
        params = train(
            task,
            settings.schedule,
            out,
            {"settings": table},
            checkpoint_every=settings.checkpoint_every,
            validate_every=settings.validate_every,
            progress=_progress(options, "training", "step"),
        )
    except KeyboardInterrupt:
        if not (out / CHECKPOINT).exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; the checkpoint in {out}/ is whole, and the same command goes on from it"
        ) from None
    rows = [json.loads(line) for line in (out / LOG).read_text(encoding="utf-8").splitlines()]
    keep = keep_score if settings.kind == "score" else keep_denoiser
    draw_losses(out / "losses.png", rows)
    say(keep(out, params, settings, source, _record(table, rows)))
    say(f"Wrote losses.png, examples.png and {LOG}.")
    return 0


def keep_denoiser(
    out: Path, params: Any, settings: Training, source: Source, record: dict[str, Any]
) -> str:
    """Write the weights and pictures of a denoiser; what to say about them."""
    path = out / "denoiser.npz"
    denoiser = replace(fresh_denoiser(settings, source.spectrum), params=params)
    write_denoiser(path, denoiser, domain_of(settings), record)
    draw_examples(out / "examples.png", denoiser, source.validation, settings)
    ratios = ", ".join(
        f"{ratio:.3f} ({kind})"
        for kind, ratio in record["validation"]["ratio"].items()
        if ratio is not None
    )
    return (
        "Mean square error over that of the Wiener filter, on maps not trained on, by kind of "
        f"noise: {ratios}.\n"
        f"Wrote {path}; use it by `jaxmap map CATALOG --method deepmass --weights {path}`."
    )


def keep_score(
    out: Path, params: Any, settings: Training, source: Source, record: dict[str, Any]
) -> str:
    """Write the weights and pictures of a hybrid prior; what to say about them."""
    path = out / "hybrid_prior.npz"
    prior = replace(fresh_hybrid_prior(settings, source.spectrum), params=params)
    pixel_arcmin = settings.source.pixel_arcmin
    write_hybrid_prior(path, params, prior.network, source.spectrum, pixel_arcmin, record)
    levels = [factor * settings.score.spread for factor in PICTURED]
    draw_score_examples(out / "examples.png", prior, source.validation, settings.seed, levels)
    validation = record["validation"]
    return (
        f"Loss over that of the Gaussian prior, on maps not trained on: "
        f"{validation['loss'] / validation['baseline']:.3f}.\nWrote {path}; read it by "
        "`jaxmap.hybrid_prior_files.read_hybrid_prior`."
    )


def domain_of(settings: Training) -> Domain:
    """What a training covers."""
    galaxies, shape_noise = settings.noise.galaxies, settings.noise.shape_noise
    least, most = shape_noise[0] / galaxies[1] ** 0.5, shape_noise[1] / galaxies[0] ** 0.5
    return Domain(settings.source.pixel_arcmin, (least, most))


def _record(table: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "settings": table,
        "steps": rows[-1]["step"],
        "seconds": sum(row["seconds"] for row in rows),
        "validation": rows[-1]["validation"],
        "versions": {"jaxmap": jaxmap.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].device_kind,
    }


def _progress(
    options: argparse.Namespace, what: str, unit: str
) -> Callable[[range], Iterable[int]]:
    from tqdm import tqdm

    def with_bar(numbers: range) -> Iterable[int]:
        return tqdm(
            numbers,
            desc=what,
            unit=unit,
            initial=numbers.start,
            total=numbers.stop,
            disable=options.quiet,
            mininterval=0.5 if sys.stderr and sys.stderr.isatty() else 60,
        )

    return with_bar
