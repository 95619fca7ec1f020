r"""Losses of a conditional Wasserstein GAN whose samples are to be spread as the posterior is.

Maps are in units of their standard deviation, and sums over their n pixels are means, so that no
weight depends on the size of a field: norms are :math:`|x|_1 = \frac1n \sum |x_p|`, and
:math:`|x|_2 = (\frac1n \sum x_p^2)^{1/2}`.

References:
    Bendel, Ahmad & Schniter (2023), NeurIPS, arXiv:2210.13389; Whitney et al. (2024),
    arXiv:2410.24197.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Judge = Callable[[jax.Array], jax.Array]
"""A critic's value of a map, for the data at hand."""


class CriticTerms(NamedTuple):
    """Of one example, scalars.

    Attributes:
        distance: D of the truth less D of the sample; the mean estimates the Wasserstein distance.
        penalty: squared excess of the gradient's norm over 1.
        drift: squared value of the truth.
    """

    distance: jax.Array
    penalty: jax.Array
    drift: jax.Array


class GeneratorTerms(NamedTuple):
    """Of one example, scalars.

    Attributes:
        value: mean of D of the samples.
        absolute: mean absolute error of the samples' mean.
        spread: estimate of the samples' standard deviation.
    """

    value: jax.Array
    absolute: jax.Array
    spread: jax.Array


def critic_terms(judge: Judge, truth: jax.Array, sample: jax.Array, mix: jax.Array) -> CriticTerms:
    r"""What the critic makes of a true map and a sample.

    The critic is to be 1-Lipschitz in :math:`|\cdot|_2`; the penalty is

    .. math:: (\sqrt n\, \|\nabla D(\alpha x + (1 - \alpha) \hat x)\| - 1)^2,
              \qquad \alpha \sim U(0, 1)

    Args:
        judge: D.
        truth: x, shape ``(ny, nx)``.
        sample: :math:`\hat x`, same shape.
        mix: :math:`\alpha`.

    References:
        Gulrajani et al. (2017), NeurIPS, Eq. 3.
    """
    true_value = judge(truth)
    slope = math.sqrt(truth.size) * steepest_slope(judge, mix * truth + (1 - mix) * sample)
    return CriticTerms(true_value - judge(sample), (slope - 1) ** 2, true_value**2)


def steepest_slope(judge: Judge, image: jax.Array) -> jax.Array:
    r"""The norm of the gradient of D, cheap to differentiate by the critic's parameters.

    It is the slope of D along its gradient, and that direction may be held fixed, for

    .. math:: \partial_\theta \|\nabla D\| = \partial_\theta\, (u \cdot \nabla D),
              \qquad u = \nabla D / \|\nabla D\| \text{ fixed.}

    So there is nothing to be differentiated backwards twice, which takes convolutions that GPU
    libraries have no fast program for.
    """
    gradient = jax.lax.stop_gradient(jax.grad(judge)(image))
    # A flat critic has no direction.
    norm = jnp.sqrt(jnp.sum(gradient**2))
    direction = gradient / jnp.where(norm > 0, norm, 1)
    return jax.jvp(judge, (image,), (direction,))[1]


def generator_terms(judge: Judge, truth: jax.Array, samples: jax.Array) -> GeneratorTerms:
    r"""What speaks for and against samples of the same data.

    .. math::
        L_1 = |x - \bar x|_1, \qquad
        L_\mathrm{SD} = \sqrt{\frac{\pi}{2 N (N - 1)}} \sum_{i=1}^N |\hat x_i - \bar x|_1,
        \qquad \bar x = \frac1N \sum_i \hat x_i

    :math:`L_\mathrm{SD}` is an estimate without bias of the standard deviation of samples that are
    Gaussian. The generator minimises
    :math:`-\beta_\mathrm{adv} D + L_1 - \beta_\mathrm{SD} L_\mathrm{SD}`.

    Args:
        judge: D.
        truth: x, shape ``(ny, nx)``.
        samples: :math:`\hat x_i`, shape ``(N, ny, nx)``.

    References:
        Bendel et al. (2023), Sect. 3.1.
    """
    number = len(samples)
    mean = jnp.mean(samples, axis=0)
    factor = math.sqrt(math.pi / (2 * number * (number - 1)))
    return GeneratorTerms(
        value=jnp.mean(jax.vmap(judge)(samples)),
        absolute=jnp.mean(jnp.abs(truth - mean)),
        spread=factor * number * jnp.mean(jnp.abs(samples - mean[None])),
    )


def gaussian_reward(number: int) -> float:
    r"""The weight of the reward that is right for Gaussian posteriors.

    .. math:: \beta_\mathrm{SD}^N = \sqrt{\frac{2}{\pi N (N + 1)}}

    With it, and pixels that are independent and Gaussian given the data, the minimum of
    :math:`L_1 - \beta_\mathrm{SD} L_\mathrm{SD}` is at the mean and the standard deviation of the
    posterior.

    Args:
        number: N, of samples in the loss.

    References:
        Bendel et al. (2023), Prop. 3.1.
    """
    return math.sqrt(2 / (math.pi * number * (number + 1)))


def largest_reward(number: int) -> float:
    r"""The reward, in units of `gaussian_reward`, above which samples spread without end.

    Of samples that are spread by :math:`\sigma \to \infty`, Gaussian, :math:`L_1 \to
    \sqrt{2 / \pi N}\, \sigma` and :math:`L_\mathrm{SD} = \sigma`: the first no longer restrains
    the second if :math:`\beta_\mathrm{SD}` is above :math:`\sqrt{N + 1}\, \beta_\mathrm{SD}^N`.

    Args:
        number: N, of samples in the loss.
    """
    return math.sqrt(number + 1)


def tuned_reward(
    reward: jax.Array, single: jax.Array, averaged: jax.Array, number: int, rate: float, most: float
) -> jax.Array:
    r"""The reward after one look at validation fields, in units of `gaussian_reward`.

    The error of the mean of P samples of the right posterior is :math:`E_P = (1 + 1/P) E_\infty`,
    so that a single sample's is :math:`E_1 / E_P = 2P / (P + 1)` times as large. Where it is
    less, samples are spread too little, and the reward grows:

    .. math:: \beta \leftarrow \beta - \mu \left( \left[ E_1 / E_P \right]_\mathrm{dB}
              - \left[ 2P / (P + 1) \right]_\mathrm{dB} \right),
              \qquad [x]_\mathrm{dB} = 10 \log_{10} x

    Args:
        reward: :math:`\beta`.
        single: :math:`E_1`, mean square error of single samples.
        averaged: :math:`E_P`, that of the mean of P.
        number: P.
        rate: :math:`\mu`.
        most: keeps the reward at or below this (`largest_reward`), and at or above 0.

    References:
        Bendel et al. (2023), Sect. 3.2.
    """
    excess = 10 * (jnp.log10(single / averaged) - math.log10(2 * number / (number + 1)))
    tuned = jnp.clip(reward - rate * excess, 0, most)
    return jnp.where(jnp.isfinite(tuned), tuned, reward)
