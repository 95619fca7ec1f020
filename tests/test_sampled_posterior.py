"""Posterior samples behind the estimators' call: right, the same however drawn, resumable."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.annealed_posterior import AnnealedPosterior
from jaxmap.catalog import ShearMap
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.diagnostics import gelman_rubin
from jaxmap.estimators import MaximumPosterior, SampledPosterior, Wiener
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.hybrid_prior import HybridPrior
from jaxmap.likelihood import ShearLikelihood
from jaxmap.mapfiles import read_mass_map, read_samples, write_mass_map, write_samples
from jaxmap.massmap import MassMap, quantiles
from jaxmap.methods import build_sampler
from jaxmap.networks.score_unet import ScoreUNet, initialise_score
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.prior import GaussianPrior
from jaxmap.samplers import Annealed, Diffusion, Draw, Draws, Gibbs
from jaxmap.sampling.annealing import sample_annealed
from jaxmap.sampling.schedule import PAPER, PRECONDITIONED
from jaxmap.spectra import mode_variance

KEY = jax.random.key(3)
CHAINS = Annealed(replace(PRECONDITIONED, sigma_floor=0.02, cooling=0.6), precondition=True)
SAMPLERS = [
    pytest.param(Diffusion(6), id="eps"),
    pytest.param(Gibbs(8, Diffusion(6)), id="gibbs", marks=pytest.mark.release),
    pytest.param(CHAINS, id="hmc", marks=pytest.mark.release),
]


@pytest.fixture(scope="module")
def data(masked_case) -> ShearMap:
    return masked_case[1]


@pytest.fixture(scope="module")
def denoiser(spectrum) -> Denoiser:
    """Untrained: the denoiser of a Gaussian prior."""
    network = ResidualUNet((4,))
    params = initialise(network, KEY, NUM_FEATURES, NUM_CONDITIONS)
    return Denoiser(params, spectrum, network)


@pytest.mark.slow
def test_samples_of_a_gaussian_prior_are_wieners(data, spectrum):
    """Mean and variance against the exact posterior's, in standard errors; 5 % wide is noticed."""
    num = 200
    exact = Wiener(spectrum, num_samples=1000, margin=0, chunk=100)(jax.random.key(9), data)
    found = SampledPosterior(spectrum, Diffusion(8), num, margin=0, chunk=100)(KEY, data)
    distance = (np.asarray(found.samples) - np.asarray(exact.convergence)) / np.asarray(exact.std)
    assert np.abs(distance.mean(axis=0)).max() * np.sqrt(num) < 5
    # Pixels correlate, so the scatter of the mean square is taken from the samples.
    squares = np.mean(distance**2, axis=(1, 2))
    error = squares.std() / np.sqrt(num)
    assert abs(squares.mean() - 1) < 5 * error < abs(1.05**2 - 1)
    np.testing.assert_allclose(found.b_mode, exact.b_mode, atol=1e-6)
    assert abs(found.diagnostics["chi2_per_pixel"] - 1) < 0.2
    assert found.diagnostics["network_evaluations_per_sample"] == pytest.approx(7 + 1 / num)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_learned_prior_may_be_sampled_by_all(denoiser, data, spectrum, sampler):
    """Sample i is the same however many are drawn at once; untrained, the prior is Gaussian."""
    together = SampledPosterior(denoiser, sampler, 3, margin=2, chunk=3)(KEY, data)
    alone = SampledPosterior(denoiser, sampler, 2, margin=2, chunk=1)(KEY, data)
    assert together.samples is not None and alone.samples is not None
    assert together.samples is not None and together.std is not None
    np.testing.assert_allclose(together.samples[:2], alone.samples, atol=2e-6)
    assert together.samples.shape == (3, *data.grid.shape) and together.grid == data.grid
    np.testing.assert_allclose(together.convergence, np.mean(together.samples, axis=0), atol=1e-7)
    np.testing.assert_allclose(together.std, np.std(together.samples, axis=0, ddof=1), atol=1e-7)
    assert together.lower is not None and np.all(together.lower <= together.upper)
    exact = Wiener(spectrum, num_samples=100, margin=2, chunk=100)(KEY, data)
    distance = (together.samples - np.asarray(exact.convergence)) / np.asarray(exact.std)
    assert 0.7 < np.sqrt(np.mean(distance**2)) < 1.4


UNIT_MASS = Annealed(replace(PAPER, cooling=0.3, steps_per_level=2))


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(Diffusion(4), id="eps"),
        pytest.param(Gibbs(8, Diffusion(4)), id="gibbs", marks=pytest.mark.release),
        pytest.param(UNIT_MASS, id="hmc"),
        pytest.param(replace(CHAINS, proxy=False), id="hmc-fast", marks=pytest.mark.release),
    ],
)
def test_no_sampler_tells_a_mean(spectrum, data, sampler):
    """Of the map, which neither data nor prior know."""
    samples = SampledPosterior(spectrum, sampler, 2, margin=0)(KEY, data).samples
    assert samples is not None
    assert np.abs(np.mean(samples, axis=(1, 2))).max() < 1e-6 * np.std(samples)


def test_chains_of_hmc_walk_in_the_mean(spectrum, data):
    """So that their samples must lose it: the control of the test above."""
    prior = GaussianPrior(mode_variance(spectrum, data.grid))
    start = jax.random.normal(KEY, (2, *data.grid.shape))
    posterior = AnnealedPosterior(ShearLikelihood(data), prior)
    samples, _ = sample_annealed(KEY, start, posterior, UNIT_MASS.settings)
    assert np.all(np.abs(np.mean(samples, axis=(1, 2))) > 0.01 * np.std(samples))


@pytest.mark.slow
def test_chains_that_did_not_mix_are_noticed(denoiser, data, caplog):
    """Eight sweeps do not forget where the large scales began; R-hat tells."""
    caplog.set_level(logging.WARNING)
    found = SampledPosterior(denoiser, Gibbs(8, Diffusion(4)), 3, margin=0)(KEY, data)
    rhat = [value for value in found.diagnostics["rhat"] if value is not None]
    assert len(rhat) > 3
    assert ("have not mixed" in caplog.text) == (max(rhat) > 1.1)


def test_r_hat_of_chains_that_agree_and_that_do_not():
    draws = np.random.default_rng(0).normal(size=(4, 500, 2))
    assert np.all(np.abs(gelman_rubin(draws) - 1) < 0.02)
    draws[1, :, 1] += 2.0
    assert gelman_rubin(draws)[1] > 1.1


class Stopped(Exception):
    """Stands for a kill."""


class Counting:
    """A sampler of plain noise that can be stopped, and says what it was asked for."""

    def __init__(self, stop_at: int = 99, finished: Any = None) -> None:
        self.asked: list[int] = []
        self.stop_at, self.finished = stop_at, finished

    def prepare(self, prior: Any, data: ShearMap) -> Draw:
        return partial(self.draw, data)

    def draw(self, data: ShearMap, key: jax.Array, numbers: jax.Array) -> Draws:
        if int(numbers[0]) >= self.stop_at:
            raise Stopped
        self.asked += [int(number) for number in numbers]
        keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
        noise = jax.vmap(lambda k: jax.random.normal(k, data.grid.shape))(keys)
        statistics = {"evaluations": jnp.ones(len(numbers))}
        if self.finished is not None:
            statistics["finished"] = jnp.asarray(self.finished)[numbers]
        return Draws(noise, statistics)


def test_a_stopped_run_loses_a_chunk_at_most(spectrum, data, tmp_path):
    def run(sampler: Any, folder: Any) -> MassMap:
        estimator = SampledPosterior(
            spectrum, sampler, 7, margin=1, chunk=2, folder=folder, identity={"seed": 3}
        )
        return estimator(KEY, data)

    whole = run(Counting(), None)
    with pytest.raises(Stopped):
        run(Counting(stop_at=4), tmp_path / "parts")
    again = Counting()
    parts = run(again, tmp_path / "parts")
    assert again.asked == [4, 5, 6, 7]
    np.testing.assert_array_equal(parts.samples, whole.samples)
    np.testing.assert_array_equal(parts.convergence, whole.convergence)
    # Samples on disk are written to their file as those in memory are.
    write_samples(tmp_path / "samples.nc", parts)
    np.testing.assert_array_equal(read_samples(tmp_path / "samples.nc")[0], whole.samples)
    write_mass_map(tmp_path / "map.fits", parts)
    read = read_mass_map(tmp_path / "map.fits")
    assert read.diagnostics == parts.diagnostics
    np.testing.assert_array_equal(read.upper, parts.upper)


@dataclass(frozen=True)
class Noise:
    """A sampler of plain noise whose settings can be told."""

    std: float = 1.0

    def prepare(self, prior: Any, data: ShearMap) -> Draw:
        def draw(key: jax.Array, numbers: jax.Array) -> Draws:
            draws = Counting().draw(data, key, numbers)
            return draws._replace(samples=self.std * draws.samples)

        return draw


def test_samples_of_other_data_are_not_taken_for_these(spectrum, data, tmp_path):
    """With or without an identity: another key or precision; without one, anything else too."""
    steep = replace(spectrum, c_ell=spectrum.c_ell * spectrum.ell**-0.1)
    here = SampledPosterior(spectrum, Noise(), 2, margin=0, folder=tmp_path / "samples")
    first = here(KEY, data)
    other = replace(data, shear=data.shear.at[3, 4].add(1e-3))
    refused = [
        (here, jax.random.key(1), data),
        (here, KEY, other),
        (here, KEY, replace(data, weight=2 * data.weight)),
        (replace(here, prior=steep), KEY, data),
        (replace(here, prior=lambda grid: GaussianPrior(mode_variance(steep, grid))), KEY, data),
        (replace(here, sampler=Noise(2.0)), KEY, data),
        (replace(here, margin=2), KEY, data),
    ]
    for estimator, key, shear in refused:
        with pytest.raises(ValueError, match=r"of another key, data, prior or sampler.*remove"):
            estimator(key, shear)
    np.testing.assert_array_equal(here(KEY, data).samples, first.samples)

    named = replace(here, folder=tmp_path / "named", identity="A")
    named(KEY, data)
    with pytest.raises(ValueError, match="of another key"):
        named(jax.random.key(1), data)
    with pytest.raises(ValueError, match="say what it is by identity"):
        replace(here, sampler=Counting())(KEY, data)
    # What sums over galaxies are in the last bit is not known on a GPU: the identity answers.
    np.testing.assert_array_equal(named(KEY, other).samples, first.samples)


def test_samples_of_an_earlier_version_are_gone_on_from(spectrum, data, tmp_path, caplog):
    """With a warning once; the samples are those without a stop."""
    here = SampledPosterior(spectrum, Noise(), 3, margin=0, folder=tmp_path / "samples")
    whole = replace(here, folder=None)(KEY, data)
    with pytest.raises(Stopped):
        replace(here, progress=stopped_at(2))(KEY, data)
    path = tmp_path / "samples" / "progress.json"
    index = json.loads(path.read_text())
    assert index.pop("digest") and index["done"] == 2
    path.write_text(json.dumps(index))
    for _ in range(2):
        np.testing.assert_array_equal(here(KEY, data).samples, whole.samples)
    assert len(caplog.messages) == 1 and "earlier version" in caplog.messages[0]
    assert "remove" in caplog.messages[0]


def stopped_at(number: int) -> Any:
    def progress(chunks: Any) -> Any:
        for chunk in chunks:
            if chunk == number:
                raise Stopped
            yield chunk

    return progress


def test_chains_that_stopped_on_the_way_are_left_out(spectrum, data):
    finished = [True, False, True, True]
    some = SampledPosterior(spectrum, Counting(finished=finished), 4, margin=0)(KEY, data)
    every = SampledPosterior(spectrum, Counting(), 4, margin=0)(KEY, data)
    assert some.samples is not None and every.samples is not None
    np.testing.assert_array_equal(some.samples, np.asarray(every.samples)[finished])
    assert some.diagnostics["unfinished_chains"] == 1
    for number in (0, 1):  # one chain has no spread, which would look like no error
        few = Counting(finished=[True] * number + [False] * (4 - number))
        with pytest.raises(RuntimeError, match=f"{number} of 4 chains reached the last level"):
            SampledPosterior(spectrum, few, 4, margin=0)(KEY, data)


@pytest.mark.slow
def test_the_published_prior_takes_annealed_chains_only(spectrum, data):
    network = ScoreUNet((4,), blocks=1)
    params = jax.tree.map(jnp.zeros_like, initialise_score(network, KEY))

    def prior(grid: Any) -> HybridPrior:
        return HybridPrior(GaussianPrior(mode_variance(spectrum, grid)), params, network)

    estimator = SampledPosterior(prior, CHAINS, 2, margin=0)
    assert np.all(np.isfinite(estimator(KEY, data).samples))
    with pytest.raises(ValueError, match="choose --sampler hmc"):
        replace(estimator, sampler=Diffusion())(KEY, data)
    fast = build_sampler("hmc-fast", None, lambda run: run)
    with pytest.raises(ValueError, match="choose --sampler hmc"):
        replace(estimator, sampler=fast)(KEY, data)
    assert build_sampler("hmc-fast", None, lambda run: run, hybrid=True).proxy


def test_what_cannot_be(spectrum, data):
    with pytest.raises(ValueError, match="num_samples is 1; expected 2 or more"):
        SampledPosterior(spectrum, num_samples=1)
    with pytest.raises(ValueError, match="chunk is 0"):
        SampledPosterior(spectrum, chunk=0)
    with pytest.raises(ValueError, match="num_steps is 1"):
        Diffusion(1)
    with pytest.raises(ValueError, match="largest is 0"):
        Diffusion(largest=0)
    with pytest.raises(ValueError, match="num_sweeps is 4"):
        Gibbs(4)
    with pytest.raises(ValueError, match="expected none with hmc"):
        build_sampler("hmc", 3, lambda run: run)
    with pytest.raises(ValueError, match="sampler is 'nuts'"):
        build_sampler("nuts", None, lambda run: run)
    huge = replace(data, shear=1e200 * data.shear)
    with pytest.raises(FloatingPointError, match=r"not finite.*units of the noise"):
        SampledPosterior(spectrum, Diffusion(2), 2, margin=0)(KEY, huge)


def test_quantiles_row_by_row():
    samples = np.random.default_rng(1).normal(size=(9, 4, 5)).astype(np.float32)
    found = quantiles(samples, (0.16, 0.5))
    np.testing.assert_allclose(found, np.quantile(samples, (0.16, 0.5), axis=0), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.slow
def test_the_most_probable_map_of_a_gaussian_posterior_is_its_mean(data, denoiser, spectrum):
    """For the spectrum and for an untrained network; the first step is not yet there."""
    exact = Wiener(spectrum, num_samples=0, margin=2)(KEY, data).convergence
    for prior in (spectrum, replace(denoiser, iterations=60)):
        found = MaximumPosterior(prior, margin=2)(KEY, data)
        np.testing.assert_allclose(found.convergence, exact, atol=1e-4)
        assert found.samples is None and found.std is None
    # Data of no finite size the solver answers with zeros, which fit nothing; a network's NaN goes
    # through all levels.
    for factor in (1e200, jnp.nan):
        with pytest.raises(FloatingPointError, match="not finite: "):
            MaximumPosterior(spectrum, margin=0)(KEY, replace(data, shear=factor * data.shear))
    broken = replace(denoiser, params=jax.tree.map(lambda leaf: leaf * jnp.nan, denoiser.params))
    with pytest.raises(FloatingPointError, match="not finite from level 1 of 10 on"):
        MaximumPosterior(broken, margin=2)(KEY, data)


@pytest.mark.slow
def test_exact_mean_of_the_gaussian_part(data, spectrum):
    """The B mode is the Wiener filter of the shear turned by 45 degrees, as everywhere."""
    turned = replace(data, shear=-1j * data.shear, weight=data.weight[::-1])
    prior = GaussianPrior(mode_variance(spectrum, data.grid))
    expected = solve_conjugate_gradient(turned, prior)[0]
    found = SampledPosterior(spectrum, Diffusion(2), 2, margin=0)(KEY, data)
    np.testing.assert_allclose(found.b_mode, expected, atol=1e-9)
