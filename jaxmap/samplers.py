"""Samplers of the posterior of a shear map, behind one call.

A sampler draws the samples of the given numbers, each from a key of its own, so that samples depend
neither on how many are drawn at once nor on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxmap.annealed_posterior import (
    AnnealedPosterior,
    ConvolvedPreconditioner,
    FourierPreconditioner,
)
from jaxmap.catalog import ShearMap
from jaxmap.likelihood import ShearLikelihood
from jaxmap.operators import convergence_from_shear
from jaxmap.posterior import (
    gibbs_sweep,
    information_of,
    posterior_variance,
    sample_diffusion_watched,
)
from jaxmap.sampler_prior import (
    ConvolvedPosterior,
    SamplerPrior,
    gaussian_part,
    posterior_mean,
    prior_score,
)
from jaxmap.sampling import hmc
from jaxmap.sampling.annealing import sample_annealed
from jaxmap.sampling.schedule import PAPER, PRECONDITIONED, AnnealingSettings
from jaxmap.spectra import map_power

PRECONDITIONED_LEARNED = replace(PRECONDITIONED, sigma_floor=0.02, step_size=0.15)
"""For preconditioned chains of the paper's proxy under a learned score. That is not quite a
gradient, the less so the lower the level (``experiments/closed_loops.py``): with the long steps and
the floor of `PRECONDITIONED` most proposals are refused there. What the floor costs:
`AnnealedPosterior`."""

CONVOLVED = AnnealingSettings(
    sigma_start=0.5,
    sigma_floor=0.1,
    cooling=0.8,
    steps_per_level=5,
    step_size=0.1,
    step_power=0.0,
    num_leapfrog=15,
    flow_end=0.06,
)
"""For preconditioned chains of the posterior's own convolutions (`ConvolvedPosterior`). These may
end at any level, so the floor is where the learned score is still nearly a gradient; trajectories
are a quarter of a period, and five forget the level above. The flow ends where `eps` does, and with
the same step: a mean there would lose power of the smallest scales."""

NUM_BANDS = 8
"""Bands of multipoles, evenly spaced in their logarithm, whose power is watched along chains."""


class Draws(NamedTuple):
    """Samples on the periodic grid of the data, and figures of each.

    Attributes:
        samples: convergence, shape ``(n, ny, nx)``.
        statistics: arrays of shape ``(n, ...)`` by name; ``evaluations`` of the prior among them,
            those that all samples share counted for sample 0.
        finite: by what a step is called, whether samples were finite after each, ``(n, steps)``.
    """

    samples: jax.Array
    statistics: dict[str, jax.Array]
    finite: dict[str, jax.Array] = {}  # noqa: RUF012 (never changed)

    def broken_at(self) -> str:
        """Where samples ceased to be finite, in words, as far as the sampler knows."""
        for name, finite in self.finite.items():
            lost = ~jnp.all(finite, axis=0)
            if bool(jnp.any(lost)):
                return f" from {name} {int(jnp.argmax(lost)) + 1} of {lost.size} on"
        return ""


Draw = Callable[[jax.Array, jax.Array], Draws]
"""``(key, numbers) -> Draws``: the samples of these numbers, shape ``(n,)``."""


class Sampler(Protocol):
    """Draws samples of a posterior."""

    def prepare(self, prior: SamplerPrior, data: ShearMap) -> Draw:
        """What draws samples, of data on a periodic grid; what they share is computed here."""


@dataclass(frozen=True)
class Diffusion:
    """Reverse diffusion under the exact posterior score of a denoiser (`sample_diffusion`).

    Args:
        num_steps: evaluations of the prior per sample, the first of the data alone, which all
            samples share.
        largest: noise of the start.

    Raises:
        ValueError: for fewer than 2 steps, or a start at no noise.
    """

    num_steps: int = 12
    largest: float = 2.0

    def __post_init__(self) -> None:
        if self.num_steps < 2:
            raise ValueError(f"num_steps is {self.num_steps}; expected 2 or more (12 is right)")
        if not self.largest > 0.1:
            raise ValueError(f"largest is {self.largest}; expected more than 0.1 (2 is right)")

    def prepare(self, prior: SamplerPrior, data: ShearMap) -> Draw:
        """See `Sampler.prepare`."""
        centre = _centre(prior, data)

        def draw(key: jax.Array, numbers: jax.Array) -> Draws:
            samples, finite = _diffusion(_keys(key, numbers), centre, prior, data, self)
            evaluations = jnp.where(numbers == 0, self.num_steps, self.num_steps - 1)
            return Draws(samples, {"evaluations": evaluations}, {"level": finite})

        return draw


@dataclass(frozen=True)
class Gibbs:
    """Messenger Gibbs sampling: exact in the limit of many sweeps and steps (`gibbs_sweep`).

    That holds for an exact prior: errors of a learned one add up along the chain, which is what
    `jaxmap.spectral_gain` is for.

    Every sample is the end of a chain of its own, which starts from a sample of `Diffusion`; the
    power of its maps along the chain tells whether the start is forgotten
    (R-hat over their second half, in the diagnostics of the map).

    Args:
        num_sweeps: of a chain.
        path: the diffusion of the data where a chain starts, and of the messenger in every sweep;
            what it lacks adds up along the chain.

    Raises:
        ValueError: for fewer than 8 sweeps.
    """

    num_sweeps: int = 16
    path: Diffusion = Diffusion()

    def __post_init__(self) -> None:
        if self.num_sweeps < 8:
            raise ValueError(f"num_sweeps is {self.num_sweeps}; expected 8 or more")

    def prepare(self, prior: SamplerPrior, data: ShearMap) -> Draw:
        """See `Sampler.prepare`; draws have the ``log_power`` of their chains too, of shape
        ``(n, num_sweeps, NUM_BANDS)``."""
        centre = _centre(prior, data)
        most = (1 + self.num_sweeps) * self.path.num_steps

        def draw(key: jax.Array, numbers: jax.Array) -> Draws:
            samples, log_power = _gibbs(_keys(key, numbers), centre, prior, data, self)
            evaluations = jnp.where(numbers == 0, most, most - 1)
            return Draws(
                samples,
                {"evaluations": evaluations, "log_power": log_power},
                # A map that is not finite has no finite mode; a band without modes never has any.
                {"sweep": jnp.any(jnp.isfinite(log_power), axis=-1)},
            )

        return draw


@dataclass(frozen=True)
class Annealed:
    """Annealed Hamiltonian Monte Carlo, then the flow to zero noise.

    The paper's chains start from the Kaiser-Squires map with white noise of the first level and
    follow a proxy of the posterior (`AnnealedPosterior`). With ``proxy=False`` they start from the
    mean of the posterior, with noise, and follow its convolutions themselves
    (`ConvolvedPosterior`). Neither data nor prior know the mean of the map, in which chains walk
    at random: it is taken off, so that it is 0 as in the samples of `Diffusion` and `Gibbs`.

    Args:
        settings: schedule; `PAPER`, or `PRECONDITIONED_LEARNED` with ``precondition``, or
            `CONVOLVED` with ``precondition`` and without ``proxy``.
        precondition: take steps in units of the width of a Gaussian posterior.
        proxy: follow the paper's proxy; the published hybrid prior knows no other.
        progress: wraps the run of a chunk of chains, as in `sample_annealed`.

    References:
        Remy et al., Sect. 4.3.
    """

    settings: AnnealingSettings = PAPER
    precondition: bool = False
    proxy: bool = True
    progress: Callable[[Iterable[Any]], Iterable[Any]] = field(
        default=lambda run: run, compare=False, repr=False
    )

    def prepare(self, prior: SamplerPrior, data: ShearMap) -> Draw:
        """See `Sampler.prepare`; draws have ``finished`` and ``sigma`` too, where chains ended,
        and their mean ``acceptance``."""
        return partial(self._draw, prior, data)

    def _draw(
        self, prior: SamplerPrior, data: ShearMap, key: jax.Array, numbers: jax.Array
    ) -> Draws:
        key_start, key_chain = jax.random.split(key)
        gaussian = gaussian_part(prior, data.grid)
        variance: jax.Array | None = None
        score: AnnealedPosterior | ConvolvedPosterior
        if self.proxy:
            score = AnnealedPosterior(ShearLikelihood(data), prior_score(prior, data.grid))
            rough = convergence_from_shear(data.shear, data.grid).real
        else:
            score = ConvolvedPosterior(prior, data)
            rough = _centre(prior, data)
            variance = posterior_variance(gaussian, data)
        white = jax.vmap(lambda k: jax.random.normal(k, rough.shape, rough.dtype))(
            _keys(key_start, numbers)
        )
        precondition: hmc.Preconditioner = hmc.identity
        if self.precondition:
            kind = FourierPreconditioner if self.proxy else ConvolvedPreconditioner
            precondition = kind(gaussian.variance, data.weight)
        samples, info = sample_annealed(
            key_chain,
            rough[None] + self.settings.sigma_start * white,
            score,
            self.settings,
            self.progress,
            precondition,
            int(numbers[0]),
            variance,
        )
        samples = samples - jnp.mean(samples, axis=(1, 2), keepdims=True)
        rounds = info.statistics.rounds
        acceptance = jnp.sum(info.statistics.acceptance * rounds, axis=1) / jnp.sum(rounds, axis=1)
        return Draws(
            samples,
            {
                "evaluations": info.evaluations,
                "finished": info.finished,
                "sigma": info.sigma,
                "acceptance": acceptance,
            },
        )


def _keys(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(partial(jax.random.fold_in, key))(numbers)


@jax.jit
def _centre(prior: SamplerPrior, data: ShearMap) -> jax.Array:
    """The learned mean of the data, about which paths start."""
    return posterior_mean(prior, data.grid)(information_of(data), data.weight)


@partial(jax.jit, static_argnames="sampler")
def _diffusion(
    keys: jax.Array, centre: jax.Array, prior: SamplerPrior, data: ShearMap, sampler: Diffusion
) -> tuple[jax.Array, jax.Array]:
    mean, gaussian = posterior_mean(prior, data.grid), gaussian_part(prior, data.grid)

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return sample_diffusion_watched(
            key, centre, mean, gaussian, data, sampler.num_steps, sampler.largest
        )

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames="sampler")
def _gibbs(
    keys: jax.Array, centre: jax.Array, prior: SamplerPrior, data: ShearMap, sampler: Gibbs
) -> tuple[jax.Array, jax.Array]:
    mean, gaussian = posterior_mean(prior, data.grid), gaussian_part(prior, data.grid)
    ell = data.grid.ell(gaussian.variance.dtype)
    least = jnp.min(jnp.where(jnp.abs(ell) > 0, jnp.abs(ell), jnp.inf))
    edges = jnp.geomspace(0.99 * least, jnp.max(ell.real), NUM_BANDS + 1)
    path = sampler.path.num_steps, sampler.path.largest

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_start, key_chain = jax.random.split(key)
        start, _ = sample_diffusion_watched(key_start, centre, mean, gaussian, data, *path)

        def sweep(field: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
            key_sweep = jax.random.fold_in(key_chain, number)
            field = gibbs_sweep(key_sweep, field, mean, gaussian, data, *path)
            return field, jnp.log(map_power(field, data.grid, edges)[1])

        return jax.lax.scan(sweep, start, jnp.arange(sampler.num_sweeps))

    return jax.vmap(one)(keys)
