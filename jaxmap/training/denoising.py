"""Examples for a denoiser, and its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.denoiser import Denoised, Denoiser, denoise
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight
from jaxmap.operators import convergence_from_shear


class Example(NamedTuple):
    """A field of known convergence, and what a noisy observation says of it.

    Attributes:
        convergence: the truth, shape ``(ny, nx)``.
        window: 1 where the truth is known, 0 in a margin, shape ``(ny, nx)``.
        information: b, shape ``(ny, nx)``.
        precision: Lambda, shape ``(2, ny, nx)``.
        kind: of noise, a number.
        level: s, for noise with a white part.
    """

    convergence: jax.Array
    window: jax.Array
    information: jax.Array
    precision: jax.Array
    kind: jax.Array
    level: jax.Array


class LossTerms(NamedTuple):
    r"""Of one example, in units of the error expected of the Wiener filter.

    Attributes:
        network: mean square error of the denoiser.
        wiener: that of its Gaussian part; about 1.
        spread: Gaussian log likelihood of the error under the denoiser's ``std``, less a constant.
    """

    network: jax.Array
    wiener: jax.Array
    spread: jax.Array


def information_from_shear(
    key: jax.Array, shear: jax.Array, precision: jax.Array, grid: Grid
) -> jax.Array:
    r"""b of a noisy observation: :math:`\mathrm{Re}\, A^\dagger(\Lambda\gamma + \Lambda^{1/2} n)`.

    Never divides by the precision, which may be 0.
    """
    white = jax.random.normal(key, precision.shape, precision.dtype)
    noise = jax.lax.complex(*(jnp.sqrt(precision) * white))
    return convergence_from_shear(apply_weight(precision, shear) + noise, grid).real


def loss_terms(denoiser: Denoiser, example: Example, grid: Grid) -> LossTerms:
    """How well a denoiser does on an example."""
    result: Denoised = denoise(denoiser, example.information, example.precision, grid)
    area = jnp.sum(example.window)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(example.window * values) / area

    error = (example.convergence - result.mean) / result.scale
    log_std = jnp.log(result.std / result.scale)
    # The spread follows the error but does not steer it.
    fixed = jax.lax.stop_gradient(error)
    return LossTerms(
        network=mean(error**2),
        wiener=mean(((example.convergence - result.wiener) / result.scale) ** 2),
        spread=mean(log_std + 0.5 * (fixed * jnp.exp(-log_std)) ** 2),
    )


def batch_loss(
    params: Any, denoiser: Denoiser, examples: Example, grid: Grid
) -> tuple[jax.Array, LossTerms]:
    """Mean loss of a batch, for ``jax.grad`` with respect to the parameters; and its terms."""
    trained = replace(denoiser, params=params)
    terms = _over_batch(lambda example: loss_terms(trained, example, grid), examples)
    return jnp.mean(terms.network + 0.1 * terms.spread), terms


def _over_batch(function: Callable[[Example], LossTerms], examples: Example) -> LossTerms:
    """``jax.vmap``; on CPUs one example after the other, whose images then stay in the cache.

    The gradient of a batch of 8 fields of 192 x 192 takes half the time so (two cores, measured;
    inside ``jax.lax.map`` it takes six times as long). Not where one CPU stands for several
    devices.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return jax.vmap(function)(examples)

    def of(number: int) -> LossTerms:
        return function(jax.tree.map(lambda leaf: leaf[number], examples))

    terms = map(of, range(examples.kind.size))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *terms)
