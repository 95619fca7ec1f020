"""The spread of point estimators under noise: against exact propagation, and what it is not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import simulated_data

from jaxmap.catalog import shear_map
from jaxmap.estimators import KaiserSquires, Resampled, Wiener
from jaxmap.grid import Grid
from jaxmap.likelihood import draw_noise
from jaxmap.massmap import MassMap
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance

KEY = jax.random.key(0)
NUM = 200


@pytest.fixture(scope="module")
def field(spectrum):
    grid = Grid((17, 24), 1.0)
    truth = GaussianPrior(mode_variance(spectrum, grid)).sample(KEY)
    data = simulated_data(jax.random.key(1), truth, grid)
    return truth, replace(data, weight=data.weight.at[:, -2:].set(0))


def mean_ratio(found, expected):
    return np.mean(np.square(found)) / np.mean(np.square(expected))


@pytest.mark.parametrize("margin", [None, 0])
def test_the_spread_of_a_linear_estimator_is_its_propagated_noise(field, margin):
    """Mean variance within 4 standard errors of the exact one (pixels of a smoothed map are about
    as many as its beams); the control, noise of twice the variance, is far outside."""
    _, data = field
    exact = KaiserSquires(1.0, margin)(KEY, data).std
    found = Resampled(KaiserSquires(1.0, margin), NUM, margin=margin)(KEY, data)
    beams = data.grid.num_pixels / (4 * np.pi)
    tolerance = 4 * np.sqrt(2 / (NUM * beams))
    assert abs(mean_ratio(found.std, exact) - 1) < tolerance < 0.1
    noisier = replace(data, weight=data.weight / 2)
    assert mean_ratio(Resampled(KaiserSquires(1.0, margin), NUM)(KEY, noisier).std, exact) > 1.5
    np.testing.assert_array_equal(
        found.convergence, KaiserSquires(1.0, margin)(KEY, data).convergence
    )
    assert found.diagnostics["noise_realisations"] == NUM and found.samples is None


def test_residuals_tell_the_noise_where_weights_do_not(field):
    """Weights four times too high: drawn from them the noise is half, from the residuals it is
    right within 4 standard errors, but for the few per cent of it that a smooth map holds and of
    the weak signal that it lacks."""
    truth, data = field
    shear = shear_from_convergence(truth / 8, data.grid) + draw_noise(
        jax.random.key(5), data.weight
    )
    right = shear_map(shear, data.grid, weight=data.weight)
    wrong = replace(right, weight=4 * right.weight)
    estimator = KaiserSquires(2.0, 0)
    exact = estimator(KEY, right).std
    by_weights = Resampled(estimator, NUM, margin=0)(KEY, wrong).std
    by_residuals = Resampled(estimator, NUM, "residuals", margin=0)(KEY, wrong).std
    assert mean_ratio(by_weights, exact) < 0.35
    num = int(jnp.sum(data.weight > 0))
    assert abs(mean_ratio(by_residuals, exact) - 1) < 0.1 + 4 * np.sqrt(2 / num)


def test_it_is_not_the_error_of_an_estimator_that_shrinks(field, spectrum):
    """The Wiener filter: its noise is far below its error, most of all in holes."""
    truth, data = field
    spread = Resampled(Wiener(spectrum, num_samples=0, margin=0), 50, margin=0)(KEY, data).std
    wiener = Wiener(spectrum, num_samples=0, margin=0)(KEY, data)
    error = np.asarray(wiener.convergence - truth)
    assert mean_ratio(spread, error) < 0.7
    hidden = ~np.asarray(data.mask)
    assert mean_ratio(np.asarray(spread)[hidden], error[hidden]) < 0.5


@dataclass(frozen=True)
class Absolute:
    """An estimator that is not linear, takes a key and has no std."""

    def __call__(self, key, shear):
        field = jnp.abs(shear.shear) + 0.001 * jax.random.normal(key, shear.grid.shape)
        return MassMap(field, shear.grid, shear.mask)


@pytest.mark.parametrize("noise", ["weights", "residuals"])
def test_any_estimator_in_both_precisions(field, dtype, noise):
    _, data = field
    data = jax.tree.map(
        lambda leaf: leaf.astype(np.result_type(dtype, 1j) if leaf.dtype.kind == "c" else dtype),
        data,
    )
    estimator = Resampled(Absolute(), 5, noise)
    found = estimator(KEY, data)
    assert found.std.shape == data.grid.shape and bool(jnp.all(jnp.isfinite(found.std)))
    again = estimator(KEY, data)
    np.testing.assert_array_equal(found.std, again.std)
    samples = estimator.noise_samples(KEY, data)
    np.testing.assert_allclose(samples.std(axis=0, ddof=1), found.std, rtol=1e-3, atol=1e-6)


def with_samples(key, shear):
    result = Absolute()(key, shear)
    return replace(result, samples=np.zeros((3, *shear.grid.shape)))


def test_what_is_refused(field):
    _, data = field
    with pytest.raises(ValueError, match="realisations is 1; expected 2 or more"):
        Resampled(KaiserSquires(), 1)
    with pytest.raises(ValueError, match="noise is 'poisson'; expected 'weights' or 'residuals'"):
        Resampled(KaiserSquires(), 9, "poisson")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws 3 posterior samples"):
        Resampled(with_samples, 9)(KEY, data)
    with pytest.raises(ValueError, match=r"expected at least 0\.7, since the map holds the noise"):
        whole = shear_map(draw_noise(KEY, data.weight), data.grid, weight=data.weight + 100)
        Resampled(KaiserSquires(0.0, 0), 9, "residuals", margin=0)(KEY, whole)
