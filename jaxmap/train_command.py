"""What ``jaxmap train`` does: train, keep the weights, show and say how well they do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxmap
from jaxmap.cluster_network import write_cluster_network
from jaxmap.denoiser_files import Domain, read_denoiser, write_denoiser
from jaxmap.hybrid_prior_files import write_hybrid_prior
from jaxmap.outputs import precision, require_writable
from jaxmap.progress import progress_bar
from jaxmap.spectra import pixel_variance
from jaxmap.survey_network_files import write_generator, write_survey_denoiser
from jaxmap.training.denoiser_task import denoiser_task, fresh_denoiser
from jaxmap.training.gain import measure_gain
from jaxmap.training.gan_task import fresh_generator, gan_task
from jaxmap.training.hong_task import clusters_of, draw_examples_of, fresh_hong, hong_task
from jaxmap.training.loop import CHECKPOINT, LOG, Progress, read_log, train
from jaxmap.training.memory import check_training_memory
from jaxmap.training.observations import survey_observations
from jaxmap.training.pictures import (
    draw_cluster_examples,
    draw_examples,
    draw_losses,
    draw_samples,
    draw_score_examples,
    draw_survey_examples,
)
from jaxmap.training.score_task import fresh_hybrid_prior, score_task
from jaxmap.training.settings import Training, read_training
from jaxmap.training.sources import Source, digests_of, open_source, sky_of
from jaxmap.training.survey_denoiser_task import (
    REGION,
    fresh_survey_denoiser,
    survey_denoiser_task,
)

TASKS = {
    "denoiser": denoiser_task,
    "score": score_task,
    "deepmass-survey": survey_denoiser_task,
    "gan": gan_task,
    "hong": hong_task,
}
WEIGHTS = {
    "denoiser": "denoiser.npz",
    "score": "hybrid_prior.npz",
    "deepmass-survey": "deepmass_survey.npz",
    "gan": "gan.npz",
    "hong": "hong.npz",
}
"""Names of what is trained, in the output folder."""

BASELINES = {"gan": "variance", "hong": "empty map"}
"""What errors are divided by, where not by those of the Wiener filter."""

PICTURED = (0.25, 0.75, 1.5)
"""Noise in the pictures of a score training, relative to the spread of its levels."""


class Trained(NamedTuple):
    """What a training ends with, to be kept.

    Attributes:
        out: folder to write into.
        params: of the network.
        settings: of the training.
        source: of the maps.
        record: for the header of the weights.
        progress: wraps what takes long.
    """

    out: Path
    params: Any
    settings: Training
    source: Source
    record: dict[str, Any]
    progress: Progress


def run_train(options: argparse.Namespace) -> int:
    """``jaxmap train``: a network from a configuration."""
    settings, table = read_training(options.settings)
    out = Path(options.out)
    written = (WEIGHTS[settings.kind], CHECKPOINT, LOG, "losses.png", "examples.png")
    inputs = [options.settings, settings.start, getattr(settings.source, "nz", None)]
    remedy = "choose another folder with --out"
    require_writable([out / name for name in written], inputs, remedy)
    say = (lambda text: None) if options.quiet else print
    source = open_source(settings, _bar_of(options, "reading maps", "map"))
    task = TASKS[settings.kind](settings, *source)
    check_training_memory(task, settings)
    size = sum(leaf.size for leaf in jax.tree.leaves(task.params))
    say(f"Training {size:,} parameters for {settings.schedule.num_steps:,} steps into {out}/.")
    try:
        params = train(
            task,
            settings.schedule,
            out,
            {"settings": table, "data": digests_of(settings, source)},
            checkpoint_every=settings.checkpoint_every,
            validate_every=settings.validate_every,
            progress=_bar_of(options, "training", "step"),
        )
    except KeyboardInterrupt:
        if not (out / CHECKPOINT).exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; the checkpoint in {out}/ is whole, and the same command goes on from it"
        ) from None
    rows = read_log(out)
    record = {**_record(table, rows), "sky": sky_of(settings.source)}
    bar = _bar_of(options, "measuring its gain", "field")
    say(KEEP[settings.kind](Trained(out, params, settings, source, record, bar)))
    draw_losses(out / "losses.png", rows, BASELINES.get(settings.kind, "Wiener"), record)
    say(f"Wrote losses.png, examples.png and {LOG}.")
    return 0


def keep_denoiser(trained: Trained) -> str:
    """Write the weights and pictures of a denoiser; what to say about them."""
    out, params, settings, source, record, progress = trained
    path = out / WEIGHTS["denoiser"]
    if settings.start is not None:
        header = read_denoiser(settings.start)[2]
        record = {**record, "before": {"sha256": header["sha256"], **header["training"]}}
    denoiser = replace(fresh_denoiser(settings, source.spectrum), params=params)
    if settings.gain_fields:
        key = jax.random.fold_in(jax.random.key(settings.seed), 5)
        fields, num = source.training, settings.gain_fields
        denoiser = measure_gain(denoiser, fields, settings, key, num, progress)
        record = {**record, "gain_fields": num}
    write_denoiser(path, denoiser, domain_of(settings), record)
    draw_examples(out / "examples.png", denoiser, source.validation, settings, record=record)
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


def keep_score(trained: Trained) -> str:
    """Write the weights and pictures of a hybrid prior; what to say about them."""
    out, params, settings, source, record, _ = trained
    path = out / WEIGHTS["score"]
    prior = replace(fresh_hybrid_prior(settings, source.spectrum), params=params)
    pixel_arcmin = settings.source.pixel_arcmin
    write_hybrid_prior(path, params, prior.network, source.spectrum, pixel_arcmin, record)
    levels = [factor * settings.score.spread for factor in PICTURED]
    draw_score_examples(
        out / "examples.png", prior, source.validation, settings.seed, levels, record=record
    )
    validation = record["validation"]
    return (
        f"Loss over that of the Gaussian prior, on maps not trained on: "
        f"{validation['loss'] / validation['baseline']:.3f}.\nWrote {path}; read it by "
        "`jaxmap.hybrid_prior_files.read_hybrid_prior`."
    )


def keep_survey_denoiser(trained: Trained) -> str:
    """Write the weights and pictures of a DeepMass for one survey; what to say about them."""
    out, params, settings, source, record, _ = trained
    path = out / WEIGHTS["deepmass-survey"]
    model = replace(fresh_survey_denoiser(settings, source.spectrum), params=params)
    observations = survey_observations(settings, source.validation)
    write_survey_denoiser(path, model, observations.trained_survey, record)
    draw_survey_examples(out / "examples.png", model, observations, _keys(settings), record=record)
    return (
        "Mean square error over that of the Wiener filter, on maps not trained on: "
        f"{record['validation']['ratio'][REGION]:.3f}.\n"
        f"Wrote {path}; use it by `jaxmap map CATALOG --method deepmass --weights {path}`."
    )


def keep_gan(trained: Trained) -> str:
    """Write the weights and pictures of a GAN; what to say about them."""
    out, params, settings, source, record, _ = trained
    path = out / WEIGHTS["gan"]
    observations = survey_observations(settings, source.validation)
    scale = jnp.sqrt(pixel_variance(source.spectrum, observations.survey.grid))
    generator = replace(fresh_generator(settings, source.spectrum, scale), params=params)
    write_generator(path, generator, observations.trained_survey, record)
    draw_samples(out / "examples.png", generator, observations, _keys(settings), record=record)
    validation = record["validation"]
    return (
        f"Mean square error of the mean of {settings.adversarial.tune_samples} samples over the "
        f"variance, on maps not trained on: {validation['loss']:.3f}; spread of samples over their "
        f"error (1 if calibrated): {validation['spread_over_error']:.3f}.\n"
        f"Wrote {path}; use it by `jaxmap map CATALOG --method gan --weights {path}`."
    )


def keep_hong(trained: Trained) -> str:
    """Write the weights and pictures of a network for clusters; what to say about them."""
    out, params, settings, source, record, _ = trained
    path = out / WEIGHTS["hong"]
    seen, unseen = (clusters_of(settings, each) for each in (source.training, source.validation))
    model = replace(fresh_hong(settings, jnp.std(seen.convergence)), params=params)
    checked = [row for row in read_log(out) if "validation" in row]
    best = min(checked, key=lambda row: row["validation"]["loss"])
    counts = {"clusters": len(seen.convergence), "validated_with": len(unseen.convergence)}
    record = {**record, **counts, "best_step": best["step"], "validation": best["validation"]}
    write_cluster_network(path, model, record)
    examples = draw_examples_of(
        settings, jax.random.fold_in(jax.random.key(settings.seed), 4), unseen
    )
    draw_cluster_examples(out / "examples.png", model, examples, record=record)
    (ratio,) = best["validation"]["ratio"].values()
    return (
        f"Loss over that of an empty map, on fields of maps not trained on: {ratio:.3f}, the least "
        f"of {len(checked)} validations, after {best['step']:,} steps.\n"
        f"Wrote {path}; use it by `jaxmap map CATALOG --method hong --weights {path}`."
    )


def _keys(settings: Training) -> jax.Array:
    """Of examples to show, as many as in a step."""
    key = jax.random.fold_in(jax.random.key(settings.seed), 4)
    return jax.random.split(key, settings.layouts[0].batch)


KEEP = {
    "denoiser": keep_denoiser,
    "score": keep_score,
    "deepmass-survey": keep_survey_denoiser,
    "gan": keep_gan,
    "hong": keep_hong,
}


def domain_of(settings: Training) -> Domain:
    """What a training covers."""
    galaxies, shape_noise = settings.noise.galaxies, settings.noise.shape_noise
    least, most = shape_noise[0] / galaxies[1] ** 0.5, shape_noise[1] / galaxies[0] ** 0.5
    return Domain(settings.source.pixel_arcmin, (least, most))


def _record(table: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "command": "train",
        "settings": table,
        "steps": rows[-1]["step"],
        "seconds": sum(row["seconds"] for row in rows),
        "validation": rows[-1]["validation"],
        "versions": {"jaxmap": jaxmap.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].device_kind,
        "precision": precision(),
    }


def _bar_of(options: argparse.Namespace, what: str, unit: str) -> Callable[[range], Iterable[int]]:
    def of(numbers: range) -> Iterable[int]:
        places = {"initial": numbers.start, "total": numbers.stop}
        return progress_bar(numbers, what, unit, options.quiet, log_every=60, **places)

    return of
