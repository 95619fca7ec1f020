"""The noise of any point estimator, by estimating again from new noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.diagnostics import chi2_per_pixel
from jaxmap.estimators.finite_field import Estimator, inner, pad_shear
from jaxmap.likelihood import apply_weight, draw_noise
from jaxmap.massmap import MassMap
from jaxmap.operators import shear_from_convergence

LEAST_CHI2 = 0.7
"""Of residuals, per observed component. Half of the noise is B mode, which no map can hold: a map
that holds all of the E mode has 0.5."""


@dataclass(frozen=True)
class Resampled:
    r"""Spread of an estimator under the noise of the survey, by Monte Carlo.

    .. math:: \hat\kappa_i = E[A \hat\kappa + n_i], \quad \hat\kappa = E[\gamma], \qquad
              \mathrm{std}^2 = \frac{1}{N - 1} \sum_i (\hat\kappa_i - \langle\hat\kappa\rangle)^2

    The map is the estimator's own; its ``std`` is replaced. What that is: how much the map would
    scatter, were the same sky observed again with other noise. What it is not: the error against
    the truth. An estimator that smooths, shrinks or fills masks with zero is biased, and the bias
    is not in it: where nothing was observed, the spread tends to nothing while the error does not.
    It is no posterior either, and ``convergence +- std`` covers the truth less often than the
    68 % of a Gaussian error. For intervals that do cover, see `jaxmap.conformal`.

    The spread is that of a sky like :math:`\hat\kappa`, which matters for estimators that are not
    linear in the data. For linear ones, such as Kaiser-Squires, it tends to the noise propagated
    through the estimator, whatever the sky.

    Args:
        estimator: a point estimator: its result has no posterior samples.
        num_realisations: of noise, N, 2 at least; the std is known to :math:`1 / \sqrt{2 (N - 1)}`.
        noise: ``weights``, Gaussian of the variance that the weights tell; ``residuals``, the
            residuals :math:`\gamma - A \hat\kappa`, each component with a random sign: noise of the
            level and the distribution found in the data, pixel by pixel, whatever the weights say.
            Signal that the map lacks is then taken for noise, and noise that it holds is missed.
        margin: masked pixels around the field when A is applied, as in the estimator: 0 for a
            periodic field, None for the default.
        progress: wraps the loop over realisations, e.g. ``tqdm.tqdm``.

    Raises:
        ValueError: for fewer than 2 realisations, noise of another name, an estimator that draws
            posterior samples, or, with ``residuals``, a map that holds so much of the noise that
            they lack it (`LEAST_CHI2`).

    References:
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, Sect. 6.5 and 9.4; Wu (1986),
        Ann. Statist. 14, 1261 (random signs of residuals).
    """

    estimator: Estimator
    num_realisations: int = 100
    noise: Literal["weights", "residuals"] = "weights"
    margin: int | None = None
    progress: Callable[[Iterable[int]], Iterable[int]] = field(
        default=lambda numbers: numbers, compare=False
    )

    def __post_init__(self) -> None:
        if self.num_realisations < 2:
            raise ValueError(
                f"the number of noise realisations is {self.num_realisations}; expected 2 or "
                "more, better 100"
            )
        if self.noise not in ("weights", "residuals"):
            raise ValueError(f"noise is {self.noise!r}; expected 'weights' or 'residuals'")

    def __call__(self, key: jax.Array, shear: ShearMap) -> MassMap:
        key_map, key_noise = jax.random.split(key)
        result = self.estimator(key_map, shear)
        total, squares = np.zeros((2, *shear.grid.shape))
        for draw in self.draws(key_noise, shear, result):
            # About the map itself: sums of small numbers keep their precision.
            difference = np.asarray(draw - result.convergence, float)
            total += difference
            squares += difference**2
        variance = (squares - total**2 / self.num_realisations) / (self.num_realisations - 1)
        std = jnp.asarray(np.sqrt(np.maximum(variance, 0)), result.convergence.dtype)
        told = {
            "std": "noise resampling",
            "noise": self.noise,
            "noise_realisations": self.num_realisations,
        }
        return replace(result, std=std, diagnostics={**result.diagnostics, **told})

    def noise_samples(self, key: jax.Array, shear: ShearMap) -> np.ndarray:
        """Samples of the noise in the map, re-estimates minus their mean, shape ``(n, ny, nx)``.

        With the same key, their standard deviation is the ``std`` of a call.
        """
        key_map, key_noise = jax.random.split(key)
        result = self.estimator(key_map, shear)
        draws = np.stack([np.asarray(one) for one in self.draws(key_noise, shear, result)])
        return draws - draws.mean(axis=0)

    def draws(self, key: jax.Array, shear: ShearMap, result: MassMap) -> Iterator[jax.Array]:
        """Maps estimated again, one by one; number i depends on the key and i alone.

        Args:
            key: PRNG key.
            shear: the observed shear.
            result: the estimator's map of it.
        """
        if result.samples is not None:
            raise ValueError(
                f"the estimator draws {len(result.samples)} posterior samples, whose spread is its "
                "error; expected a point estimator (num_samples=0, --num-samples 0 for wiener)"
            )
        padded, margin = pad_shear(shear, self.margin)
        convergence = jnp.pad(result.convergence, margin)
        if self.noise == "residuals":
            _refuse_overfit(float(_chi2(convergence, padded)))
        again = _without_warnings(self.estimator)
        for number in self.progress(range(self.num_realisations)):
            key_noise, key_map = jax.random.split(jax.random.fold_in(key, number))
            observed = _observe_again(key_noise, convergence, padded, self.noise == "residuals")
            yield again(key_map, replace(shear, shear=inner(observed, margin))).convergence


_chi2 = jax.jit(chi2_per_pixel)


@jax.jit
def _observe_again(
    key: jax.Array, convergence: jax.Array, data: ShearMap, of_residuals: jax.Array | bool
) -> jax.Array:
    """Shear of the map with new noise, 0 where masked."""
    expected = shear_from_convergence(convergence, data.grid)
    key_sign, key_normal = jax.random.split(key)
    gaussian = draw_noise(key_normal, data.weight)
    signs = jax.random.rademacher(key_sign, data.weight.shape, data.weight.dtype)
    residuals = apply_weight(jnp.where(data.weight > 0, signs, 0), data.shear - expected)
    noise = jnp.where(of_residuals, residuals, gaussian)
    return jnp.where(data.mask, expected + noise, 0)


def _refuse_overfit(chi2: float) -> None:
    if chi2 < LEAST_CHI2:
        raise ValueError(
            f"the residuals of the map have a chi-squared of {chi2:.2f} per observed component; "
            f"expected at least {LEAST_CHI2}, since the map holds the noise that they lack: take "
            "noise='weights', or smooth more (smoothing_arcmin, --smoothing-arcmin)"
        )


def _without_warnings(estimator: Any) -> Estimator:
    """The estimator without what it compares the data with to warn of them, once being enough."""
    survey = getattr(estimator, "survey", None)
    if survey is not None:  # which sets the margin as well
        margin = survey.margin if estimator.margin is None else estimator.margin
        estimator = replace(estimator, survey=None, margin=margin)
    if getattr(estimator, "domain", None) is not None:
        estimator = replace(estimator, domain=None)
    return estimator
