"""Pictures of a training: its losses, and what the network makes of fields it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.cluster_network import ClusterNetwork
from jaxmap.denoiser import Denoiser, denoise
from jaxmap.generator import Generator, generate
from jaxmap.hybrid_prior import HybridPrior
from jaxmap.networks.hong import BORDER, apply_hong
from jaxmap.plot import new_figure, save_picture
from jaxmap.survey_denoiser import SurveyDenoiser, recover
from jaxmap.training.denoiser_task import draw_batch
from jaxmap.training.hong_task import Example
from jaxmap.training.layouts import Fields
from jaxmap.training.noise import KINDS
from jaxmap.training.observations import Observation, SurveyObservations, draw_observations
from jaxmap.training.settings import Training

_ERROR = "its error"  # the one panel with a scale of its own

Record = Mapping[str, Any] | None
"""How a picture came to be, anything JSON can hold."""

_SPIKE = 2.0  # times the level that nine in ten points are below


def draw_losses(
    path: str | Path, rows: list[dict[str, Any]], over: str = "Wiener", record: Record = None
) -> None:
    """Mean square error against steps, by kind or level of noise.

    A spike, as after a step too long, is cut off: the rest would be a flat line.

    Args:
        path: of the picture.
        rows: of the log.
        over: what the errors are relative to, the Wiener filter's by default.
        record: of the training, kept in the picture as in those below.
    """
    figure = new_figure(6.5, 4.0)
    axes = figure.add_subplot()
    shown = [1.0]
    for number, kind in enumerate(rows[-1]["validation"]["ratio"]):
        for part, style in (("train", "-"), ("validation", "o")):
            points = [(row["step"], row[part]["ratio"][kind]) for row in rows if part in row]
            steps, ratios = np.array([p for p in points if p[1] is not None]).reshape(-1, 2).T
            shown.extend(ratios)
            name = kind if part == "train" else None
            axes.plot(steps, ratios, style, color=f"C{number}", label=name, alpha=0.8)
    axes.axhline(1, color="0.5", lw=1)
    least, usual, highest = np.quantile(shown, (0, 0.9, 1))
    title = "points: validation"
    if highest > _SPIKE * max(usual, 1):
        room = 0.1 * (max(usual, 1) - least)
        axes.set_ylim(least - room, max(usual, 1) + room)
        title += f"; highest, cut off: {highest:.3g}"
    axes.set(xlabel="step", ylabel=f"mean square error / {over}", title=title)
    axes.legend(frameon=False)
    save_picture(path, figure, record or {}, dpi=130, bbox_inches="tight")


_denoise = jax.jit(denoise, static_argnames="grid")


def draw_examples(
    path: str | Path,
    denoiser: Denoiser,
    fields: Fields,
    settings: Training,
    num: int = 4,
    *,
    record: Record = None,
) -> None:
    """Truth, Wiener mean, the network's mean and its error estimate for some fields."""
    layout = settings.layouts[0]
    grid = layout.grid(settings.source.pixel_arcmin)
    key = jax.random.fold_in(jax.random.key(settings.seed), 4)
    keys = jax.random.split(key, layout.batch)
    batch = draw_batch(keys, fields, layout, settings.source.pixel_arcmin, settings.noise)
    pictures = []
    for row in range(min(num, layout.batch)):
        example = jax.tree.map(lambda leaf, at=row: leaf[at], batch)
        result = _denoise(denoiser, example.information, example.precision, grid)
        panels = {
            "truth": example.convergence,
            "Wiener": result.wiener,
            f"network ({KINDS[int(example.kind)]})": result.mean,
            _ERROR: result.std,
        }
        pictures.append(panels)
    _draw_panels(path, pictures, record)


def draw_score_examples(
    path: str | Path,
    prior: HybridPrior,
    fields: Fields,
    seed: int,
    levels: Sequence[float],
    *,
    record: Record = None,
) -> None:
    """Truth, noisy map, and what the Gaussian part and the whole prior make of it.

    References:
        Remy et al., Fig. 3.
    """
    side = len(prior.gaussian.variance)
    pictures = []
    for number, sigma in enumerate(levels):
        key_field, key_noise = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        truth = fields.draw(key_field, side)
        noisy = truth + sigma * jax.random.normal(key_noise, truth.shape, truth.dtype)
        panels = {
            "truth": truth,
            f"with noise {sigma:g}": noisy,
            "Gaussian part": prior.gaussian.denoise(noisy, sigma),
            "whole prior": prior.denoise(noisy, sigma),
        }
        pictures.append(panels)
    _draw_panels(path, pictures, record)


def draw_survey_examples(
    path: str | Path,
    model: SurveyDenoiser,
    observations: SurveyObservations,
    keys: jax.Array,
    *,
    record: Record = None,
) -> None:
    """Truth, Wiener map, the network's map and its actual error for some fields."""
    find = jax.jit(recover)
    pictures = []
    for truth, data in _examples(keys, observations):
        found = find(model, data)
        mean = observations.field_of(found.mean)
        panels = {
            "truth": truth,
            "Wiener": observations.field_of(found.wiener),
            "network": mean,
            _ERROR: jnp.abs(mean - truth),
        }
        pictures.append(panels)
    _draw_panels(path, pictures, record)


def draw_samples(
    path: str | Path,
    generator: Generator,
    observations: SurveyObservations,
    keys: jax.Array,
    num_samples: int = 16,
    *,
    record: Record = None,
) -> None:
    """Truth, one sample, mean and standard deviation of samples for some fields."""
    draw = jax.jit(generate)
    pictures = []
    for key, (truth, data) in zip(keys, _examples(keys, observations), strict=False):
        whites = jax.random.split(jax.random.fold_in(key, 1), num_samples)
        samples = observations.field_of(jnp.stack([draw(generator, one, data) for one in whites]))
        panels = {
            "truth": truth,
            "one sample": samples[0],
            f"mean of {num_samples}": jnp.mean(samples, axis=0),
            _ERROR: jnp.std(samples, axis=0, ddof=1),
        }
        pictures.append(panels)
    _draw_panels(path, pictures, record)


def draw_cluster_examples(
    path: str | Path, model: ClusterNetwork, examples: Example, *, record: Record = None
) -> None:
    """Truth, the network's map and its actual error for some fields, without their border."""
    found = model.scale * jax.jit(apply_hong, static_argnums=0)(
        model.network, model.params, examples.images
    )
    inside = slice(BORDER, found.shape[-1] - BORDER)
    pictures = []
    for truth, mean in zip(examples.truth, found, strict=True):
        panels = {"truth": truth, "network": mean, _ERROR: jnp.abs(mean - truth)}
        pictures.append({name: field[inside, inside] for name, field in panels.items()})
    _draw_panels(path, pictures[:4], record)


def _examples(
    keys: jax.Array, observations: SurveyObservations, num: int = 3
) -> Iterator[Observation]:
    """Some observations: as many are drawn as in training, whose program is there already."""
    drawn = draw_observations(keys, observations)
    for row in range(min(num, len(keys))):
        yield jax.tree.map(lambda leaf, at=row: leaf[at], drawn)


def _draw_panels(path: str | Path, pictures: list[dict[str, jax.Array]], record: Record) -> None:
    """A row of maps for each picture, on the first one's scale of colours."""
    figure = new_figure(12, 3 * len(pictures))
    for row, panels in enumerate(pictures):
        low, high = np.quantile(np.asarray(next(iter(panels.values()))), [0.005, 0.998])
        for column, (name, field) in enumerate(panels.items()):
            axes = figure.add_subplot(len(pictures), 4, 4 * row + column + 1)
            limits = (0, None) if name == _ERROR else (low, high)
            axes.imshow(field, origin="lower", cmap="magma", vmin=limits[0], vmax=limits[1])
            axes.set(title=name, xticks=[], yticks=[])
    save_picture(path, figure, record or {}, dpi=90, bbox_inches="tight")
