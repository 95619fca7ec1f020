"""Training of the network of Hong et al. on fields about clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.cluster_network import PIXEL_ARCMIN, ClusterNetwork, network_images
from jaxmap.grid import Grid
from jaxmap.networks.hong import (
    BORDER,
    POOL,
    apply_hong,
    initialise_hong,
    output_side,
    running_statistics,
    train_hong,
)
from jaxmap.networks.optimiser import Schedule, TrainState, start, update
from jaxmap.simulation.cluster_fields import (
    ClusterSky,
    ClusterSurvey,
    bin_cluster,
    cut_clusters,
    draw_cluster_galaxies,
)
from jaxmap.spectra import PowerSpectrum
from jaxmap.training.layouts import Fields, GivenFields, spin2_symmetry, symmetry
from jaxmap.training.loop import Task
from jaxmap.training.settings import Training

FIELD = Grid((500, 500), PIXEL_ARCMIN)
"""The published field of 32 arcmin, of which the network sees parts."""

_SETTLING = 8
"""Batches that the normalisation of a network to be used is measured on."""


class Example(NamedTuple):
    """Images for the network, shape ``(channels, n, n)``, and the convergence, ``(m, m)``."""

    images: jax.Array
    truth: jax.Array


class HongState(NamedTuple):
    """Everything that the training goes on from.

    Attributes:
        now: of the training; its parameters include the running statistics.
        best: parameters of least validation loss so far.
        least: that loss.
    """

    now: TrainState
    best: Any
    least: jax.Array

    @property
    def step(self) -> jax.Array:
        """Steps made so far."""
        return self.now.step

    @property
    def params(self) -> Any:
        """The parameters."""
        return self.now.params

    @property
    def average(self) -> Any:
        """Their running average."""
        return self.now.average


def fresh_hong(settings: Training, scale: jax.Array) -> ClusterNetwork:
    """An untrained network, whose output of 1 stands for a convergence of ``scale``."""
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    network = settings.hong_network
    return ClusterNetwork(initialise_hong(network, key), scale, network, settings.clusters.side)


def clusters_of(settings: Training, fields: Fields) -> ClusterSky:
    """Squares about the clusters in maps.

    Raises:
        ValueError: for squares smaller than the field, maps that are not given, or no clusters.
    """
    side, pixel = settings.layouts[0].side, settings.source.pixel_arcmin
    survey = survey_of(settings)
    least = int(np.ceil(survey.field_arcmin / pixel)) + 2
    if side < least:
        raise ValueError(
            f"the layout has side {side}; expected {least} pixels of {pixel} arcmin or more, for a "
            f"field of {survey.field_arcmin:g} arcmin: give [[layouts]] with that side"
        )
    assert isinstance(fields, GivenFields)
    how = settings.clusters
    return cut_clusters(
        np.asarray(fields.maps), pixel, side, per_map=how.per_map, least=how.least, rim=fields.rim
    )


def survey_of(settings: Training) -> ClusterSurvey:
    """The galaxies that the settings name."""
    how = settings.clusters
    return ClusterSurvey(
        num_galaxies=how.num_galaxies,
        shape_noise=how.shape_noise,
        faintest_error=how.faintest_error,
    )


@partial(jax.jit, static_argnames="grid")
def truth_of(sky: ClusterSky, grid: Grid) -> jax.Array:
    """Convergence in the output pixels of the network for the images of a grid."""
    # The middle of the first output pixel is two input pixels inside.
    y, x = (
        PIXEL_ARCMIN * (POOL * jnp.arange(output_side(n), dtype=float) + 2 - (n - 1) / 2)
        for n in grid.shape
    )
    x, y = jnp.broadcast_arrays(x[None, :], y[:, None])
    return sky.at(x, y)[0]


@partial(jax.jit, static_argnames=("survey", "side", "channels"))
def draw_example(
    key: jax.Array, skies: ClusterSky, survey: ClusterSurvey, side: int, channels: int
) -> Example:
    """One of many clusters with new galaxies: a part of its field, turned or mirrored.

    Parts begin at multiples of three pixels, so that those of the truth stay whole; all eight
    symmetries of the square are taken, of which the paper has six.
    """
    key_sky, key_galaxies, key_place, key_turn = jax.random.split(key, 4)
    number = jax.random.randint(key_sky, (), 0, skies.convergence.shape[0])
    sky = jax.tree.map(lambda leaf: leaf[number], skies)
    galaxies = draw_cluster_galaxies(key_galaxies, sky, survey)
    images = network_images(bin_cluster(galaxies, FIELD), channels)
    last = (FIELD.shape[0] - side) // POOL
    row, column = jax.random.randint(key_place, (2,), 0, last + 1)
    cut = (channels, side, side)
    images = jax.lax.dynamic_slice(images, (0, POOL * row, POOL * column), cut)
    truth = jax.lax.dynamic_slice(truth_of(sky, FIELD), (row, column), (output_side(side),) * 2)
    return turned(jax.random.randint(key_turn, (), 0, 8), Example(images, truth))


def draw_examples_of(settings: Training, key: jax.Array, skies: ClusterSky) -> Example:
    """As many as in a step."""
    survey, side = survey_of(settings), settings.clusters.side
    channels = settings.hong_network.channels
    rows = [
        draw_example(each, skies, survey, side, channels)
        for each in jax.random.split(key, settings.layouts[0].batch)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def turned(number: jax.Array, example: Example) -> Example:
    """One of the eight symmetries of the square of an example."""
    images = example.images
    shear = spin2_symmetry(number, jax.lax.complex(images[0], images[1]))
    others = [symmetry(number, image) for image in images[2:]]
    return Example(jnp.stack([shear.real, shear.imag, *others]), symmetry(number, example.truth))


@partial(jax.jit, static_argnames="loss")
def inner_loss(found: jax.Array, truth: jax.Array, loss: str) -> jax.Array:
    r"""Mean over pixels inside the border of the weighted square error, shape ``(batch,)``.

    .. math:: L = \langle \omega\, (\hat\kappa - \kappa)^2 \rangle, \qquad
              \omega = 1 \;\text{ or }\; 1 + |\kappa| / \max \kappa

    with the maximum of every map (the paper does not say which).

    Args:
        found, truth: shape ``(batch, m, m)``.
        loss: ``mse`` or ``focal``.
    """
    inside = slice(BORDER, found.shape[-1] - BORDER)
    found, truth = found[:, inside, inside], truth[:, inside, inside]
    square = (found - truth) ** 2
    if loss == "focal":
        largest = jnp.max(truth, axis=(1, 2), keepdims=True)
        square *= 1 + jnp.abs(truth) / jnp.where(largest > 0, largest, 1)
    return jnp.mean(square, axis=(1, 2))


def hong_task(
    settings: Training, training: Fields, validation: Fields, spectrum: PowerSpectrum
) -> Task:
    """Training for `jaxmap.training.loop.train`; its result is the best of all validations.

    Galaxies are drawn anew at every step, where the paper has one catalogue for every cluster.

    Args:
        settings: of the training.
        training: maps with clusters to train on.
        validation: other maps.
        spectrum: not used.

    Raises:
        ValueError: as `clusters_of`.
    """
    del spectrum
    seen, unseen = clusters_of(settings, training), clusters_of(settings, validation)
    how = settings.clusters
    model = fresh_hong(settings, jnp.std(seen.convergence))
    key = jax.random.key(settings.seed)
    train_key, validation_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)
    settling_key = jax.random.fold_in(key, 5)

    def begin(params: Any, schedule: Schedule) -> HongState:
        return HongState(start(params, schedule), params, jnp.asarray(jnp.inf))

    def advance(step: int, state: HongState) -> tuple[HongState, jax.Array]:
        drawn = draw_examples_of(settings, jax.random.fold_in(train_key, step), seen)
        now, losses = _step(drawn, state.now, model, how.loss, settings.schedule)
        return state._replace(now=now), losses

    def settled(params: Any) -> Any:
        keys = jax.random.split(settling_key, _SETTLING)
        batches = (draw_examples_of(settings, key, seen).images for key in keys)
        return settle(replace(model, params=params), batches)

    def validate(params: Any) -> dict[str, Any]:
        chosen = replace(model, params=settled(params))
        keys = jax.random.split(validation_key, settings.validation_batches)
        drawn = (draw_examples_of(settings, key, unseen) for key in keys)
        return _figures([_evaluate(examples, chosen, how.loss) for examples in drawn])

    def select(state: HongState, figures: dict[str, Any]) -> HongState:
        if not figures["loss"] < float(state.least):
            return state
        return state._replace(best=state.average, least=jnp.asarray(figures["loss"]))

    def result(state: HongState) -> Any:
        return settled(state.best)

    return Task(model.params, advance, _figures, validate, begin, select, result)


def settle(model: ClusterNetwork, batches: Iterable[jax.Array]) -> Any:
    """Parameters with the mean statistics of batches of images in place of the running ones.

    Those lag behind the weights, and are not those of averaged weights: with them the error on
    other fields was twice and more that with these.

    References:
        Wu & Johnson (2021), arXiv:2105.07576, Sect. 3.
    """
    found = [_batch_statistics(model, images) for images in batches]
    statistics = jax.tree.map(lambda *each: jnp.mean(jnp.stack(each), axis=0), *found)
    return {**model.params, "statistics": statistics}


@jax.jit
def _batch_statistics(model: ClusterNetwork, images: jax.Array) -> Any:
    return train_hong(model.network, model.params, images)[1]


@partial(jax.jit, static_argnums=(3, 4))
def _step(
    examples: Example, state: TrainState, model: ClusterNetwork, loss: str, schedule: Schedule
) -> tuple[TrainState, jax.Array]:
    def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        found, statistics = train_hong(model.network, params, examples.images)
        losses = inner_loss(found, examples.truth / model.scale, loss)
        return jnp.mean(losses), (losses, statistics)

    gradient, (losses, statistics) = jax.grad(mean_loss, has_aux=True)(state.params)
    # The gradient of the running statistics is zero: they are replaced after the step.
    running = running_statistics(state.params["statistics"], statistics)
    after = update(state, gradient, schedule, lambda params: {**params, "statistics": running})
    return after, jnp.stack([losses, _baseline(examples, model, loss)])


@partial(jax.jit, static_argnums=2)
def _evaluate(examples: Example, model: ClusterNetwork, loss: str) -> jax.Array:
    found = apply_hong(model.network, model.params, examples.images)
    losses = inner_loss(found, examples.truth / model.scale, loss)
    return jnp.stack([losses, _baseline(examples, model, loss)])


def _baseline(examples: Example, model: ClusterNetwork, loss: str) -> jax.Array:
    truth = examples.truth / model.scale
    return inner_loss(jnp.zeros_like(truth), truth, loss)


def _figures(batches: list[jax.Array]) -> dict[str, Any]:
    losses, nothing = np.concatenate([np.asarray(batch) for batch in batches], axis=1)
    ratio = float(losses.sum() / max(nothing.sum(), 1e-12))  # a field may be empty
    return {"loss": float(losses.mean()), "ratio": {"of an empty map": ratio}}
