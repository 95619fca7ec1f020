"""Posterior samples from a conditional GAN."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap, require_shear_map
from jaxmap.denoiser_files import warn_of_residuals
from jaxmap.estimators.sampled import SampledPosterior
from jaxmap.generator import Generator, generate
from jaxmap.massmap import MassMap
from jaxmap.sampler_prior import SamplerPrior
from jaxmap.samplers import Draw, Draws
from jaxmap.trained_survey import TrainedSurvey, warn_of_survey


@dataclass(frozen=True)
class GeneratorSampler:
    """One evaluation of a generator for every sample.

    Args:
        generator: the trained network; a prior has no part in what it draws.
    """

    generator: Generator

    def prepare(self, prior: SamplerPrior, data: ShearMap) -> Draw:
        """See `jaxmap.samplers.Sampler.prepare`."""
        del prior

        def draw(key: jax.Array, numbers: jax.Array) -> Draws:
            samples = _generate(self.generator, key, numbers, data)
            return Draws(samples, {"evaluations": jnp.ones(numbers.shape)})

        return draw


@dataclass(frozen=True)
class ConditionalGAN:
    r"""Posterior samples of the convergence by a generator trained for one survey.

    .. math:: \kappa_i = s\, G_\theta(z_i, \gamma), \qquad z_i \sim N(0, 1)

    with `jaxmap.generator`; the map is their mean, its error their standard deviation, ``lower``
    and ``upper`` their 16 and 84 % quantiles. No likelihood enters: that samples fit the data, and
    are spread as the posterior is, is learned, and holds for the survey of the training at best.
    ``diagnostics`` tell the chi-squared of the samples and their power beside that of the training
    maps; ``jaxmap calibrate --method gan`` judges more.

    Sample i depends on the key and i alone.

    Args:
        generator: a trained one, e.g. of `jaxmap.survey_network_files.read_generator`.
        survey: that it was trained for, to warn of other data; None for no warnings.
        num_samples: how many.
        margin: masked pixels around the field; None for as many as in training (the default
            margin without a ``survey``), 0 for a periodic field.
        chunk, folder, identity, progress: as of `SampledPosterior`.

    Raises:
        ValueError: for fewer than 2 samples, a chunk below 1, or a folder of other samples.
        FloatingPointError: if a sample is not finite.

    References:
        Whitney et al. (2024), arXiv:2410.24197; Bendel, Ahmad & Schniter (2023), NeurIPS,
        arXiv:2210.13389.
    """

    generator: Generator
    survey: TrainedSurvey | None = None
    num_samples: int = 32
    margin: int | None = None
    chunk: int | None = field(default=None, compare=False)
    folder: Path | None = field(default=None, compare=False)
    identity: Any = field(default=None, compare=False)
    progress: Callable[[Iterable[int]], Iterable[int]] = field(
        default=lambda chunks: chunks, compare=False
    )

    def __post_init__(self) -> None:
        self._posterior()  # which refuses what cannot be

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        require_shear_map(shear)
        if self.survey is not None:
            warn_of_survey(self.survey, shear)
        result = self._posterior()(key, shear)
        if self.survey is not None:
            chi2 = result.diagnostics["chi2_per_pixel"]
            warn_of_residuals(chi2, int(jnp.sum(shear.weight > 0)), samples=True)
        return result

    def _posterior(self) -> SampledPosterior:
        margin = self.margin
        if margin is None and self.survey is not None:
            margin = self.survey.margin
        return SampledPosterior(
            self.generator.spectrum,
            GeneratorSampler(self.generator),
            self.num_samples,
            margin=margin,
            chunk=self.chunk,
            folder=self.folder,
            identity=self.identity,
            progress=self.progress,
        )


@jax.jit
def _generate(
    generator: Generator, key: jax.Array, numbers: jax.Array, data: ShearMap
) -> jax.Array:
    keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
    return jax.vmap(lambda each: generate(generator, each, data))(keys)
