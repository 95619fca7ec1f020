"""Learning a score: the loss, the limit on kernels, stopping and going on, and Gaussian fields."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_score_network import SMALL, as_matrix, kernels

from jaxmap.cli import main
from jaxmap.denoiser_files import read_denoiser
from jaxmap.grid import Grid
from jaxmap.hybrid_prior_files import read_hybrid_prior
from jaxmap.networks.mlp import PointNetwork, initialise_points, point_score
from jaxmap.networks.optimiser import Schedule
from jaxmap.networks.score_unet import ScoreUNet
from jaxmap.networks.unet import ResidualUNet
from jaxmap.prior import GaussianPrior
from jaxmap.simulation.fields import gaussian_field, lognormal_field
from jaxmap.spectra import PowerSpectrum, mode_variance
from jaxmap.training.denoiser_task import denoiser_task
from jaxmap.training.layouts import Layout
from jaxmap.training.loop import train
from jaxmap.training.score_matching import score_loss, score_matching_task
from jaxmap.training.score_task import fresh_hybrid_prior, score_task
from jaxmap.training.settings import (
    ScoreMatching,
    SimulatedMaps,
    Training,
    read_training,
    training_from,
)

PIXEL = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normal:
    """Points of unit variance, and their exact score."""

    centre: jax.Array

    def draw(self, key):
        return self.centre + jax.random.normal(key, self.centre.shape)

    def score(self, x, sigma):
        return (self.centre - x) / (1 + sigma**2)


class Scaled(NamedTuple):
    """A score that is wrong by a factor."""

    exact: Normal
    factor: jax.Array

    def score(self, x, sigma):
        return self.factor * self.exact.score(x, sigma)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learned:
    """A network's score of points."""

    params: Any
    network: PointNetwork = field(default=PointNetwork((16, 16)), metadata={"static": True})

    def score(self, x, sigma):
        return point_score(self.network, self.params, x, sigma)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Maps:
    """Random maps of a known spectrum."""

    spectrum: PowerSpectrum
    gaussian: bool = field(metadata={"static": True})
    rim: int = field(default=0, metadata={"static": True})

    def draw(self, key, side):
        make = gaussian_field if self.gaussian else lognormal_field
        return make(key, self.spectrum, Grid((side, side), PIXEL))


def record_of(num_steps):
    return {"settings": {"schedule": {"num_steps": num_steps}}}


def same(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_loss_of_known_scores():
    """1 for none, sigma^2-dependent and least for the exact one; in Monte Carlo errors."""
    target = Normal(jnp.asarray([0.5, -1.0]))
    keys = jax.random.split(jax.random.key(0), 20_000)
    sigma = 0.7

    @jax.jit
    def losses(factor):
        def one(key):
            key_clean, key_white = jax.random.split(key)
            white = jax.random.normal(key_white, (2,))
            scaled = Scaled(target, factor)
            return score_loss(scaled, target.draw(key_clean), white, jnp.asarray(sigma))

        return jax.vmap(one)(keys)

    none, exact, wrong = (np.asarray(losses(factor)) for factor in (0.0, 1.0, 1.2))
    for values, expected in ((none, 1.0), (exact, 1 / (1 + sigma**2))):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - expected) < 4 * error
    paired = wrong - exact
    assert np.mean(paired) > 5 * np.std(paired) / np.sqrt(len(paired))


class Stop(Exception):
    pass


def stopped(task, at):
    """The same task, killed before a step."""

    def advance(step, state):
        if step == at:
            raise Stop
        return task.advance(step, state)

    return task._replace(advance=advance)


POINT_SCHEDULE = Schedule(150, learning_rate=1e-2, warmup_steps=10, decay_steps=0, averaging=20)
LIMIT = 0.8


def point_task(kernel_norm=LIMIT):
    target = Normal(jnp.asarray([0.5, -1.0]))
    fresh = Learned(initialise_points(PointNetwork((16, 16)), jax.random.key(1), 2))
    return score_matching_task(
        jax.random.key(2),
        fresh,
        target,
        target,
        target,
        batch=64,
        matching=ScoreMatching(0.5, kernel_norm),
        schedule=POINT_SCHEDULE,
        validation_batches=8,
    )


def train_points(task, folder):
    return train(task, POINT_SCHEDULE, folder, record_of(150), checkpoint_every=20)


def largest_norm(params):
    return max(np.linalg.norm(as_matrix(leaf), 2) for leaf in kernels(params).values())


@pytest.mark.slow
def test_training_lowers_the_loss_within_the_limit_and_goes_on_bit_for_bit(tmp_path):
    task = point_task()
    whole = train_points(task, tmp_path / "whole")
    before, after = task.validate(task.params), task.validate(whole)
    assert after["baseline"] < after["loss"] < 0.5 * (before["loss"] + after["baseline"])
    assert largest_norm(task.params) <= LIMIT * 1.01
    assert largest_norm(whole) <= LIMIT * 1.01

    with pytest.raises(Stop):
        train_points(stopped(task, 117), tmp_path / "stopped")
    assert same(whole, train_points(point_task(), tmp_path / "stopped"))
    assert not same(whole, task.params)


@pytest.mark.slow
def test_kernels_grow_without_a_limit(tmp_path):
    """The control of the test above."""
    assert largest_norm(train_points(point_task(kernel_norm=0.0), tmp_path)) > 1.2 * LIMIT


def score_settings(**changes):
    defaults = {
        "schedule": Schedule(4, learning_rate=1e-2, warmup_steps=1, decay_steps=0),
        "kind": "score",
        "score_network": SMALL,
        "score": ScoreMatching(0.05),
        "layouts": (Layout(16, 2),),
        "source": SimulatedMaps(pixel_arcmin=PIXEL),
        "validation_batches": 1,
    }
    return Training(**(defaults | changes))


@pytest.mark.release
@pytest.mark.parametrize("make_task", [score_task, denoiser_task])
def test_training_on_maps_goes_on_bit_for_bit(spectrum, tmp_path, make_task):
    settings = score_settings(network=ResidualUNet(channels=(4, 4), embedding=4))
    maps = Maps(spectrum, gaussian=False)
    task = make_task(settings, maps, maps, spectrum)

    def run(name, task):
        return train(task, settings.schedule, tmp_path / name, record_of(4), checkpoint_every=2)

    whole = run("whole", task)
    with pytest.raises(Stop):
        run("stopped", stopped(task, 3))
    assert same(whole, run("stopped", make_task(settings, maps, maps, spectrum)))
    assert not same(whole, task.params)


def learn_maps(folder, spectrum, gaussian, seed):
    schedule = Schedule(200, learning_rate=1e-2, warmup_steps=20, decay_steps=100, averaging=30)
    settings = score_settings(
        schedule=schedule,
        score_network=ScoreUNet(channels=(6, 12), blocks=1),
        layouts=(Layout(32, 8),),
        seed=seed,
    )
    maps = Maps(spectrum, gaussian)
    task = score_task(settings, maps, maps, spectrum)
    params = train(task, schedule, folder, record_of(200), checkpoint_every=200)
    return replace(fresh_hybrid_prior(settings, spectrum), params=params)


@pytest.mark.release
def test_residual_of_gaussian_fields_is_training_noise(spectrum, tmp_path):
    """Two trainings on Gaussian fields find residuals that share little, on others the same one.

    A residual r costs the mean of (sigma r)^2 in loss over the exact Gaussian score. It is small
    for Gaussian fields; trainings on lognormal fields of the same spectrum gain, by more than 5
    standard errors over fields.
    """
    grid = Grid((32, 32), PIXEL)
    exact = GaussianPrior(mode_variance(spectrum, grid))
    keys = jax.random.split(jax.random.key(9), 64)

    def evaluate(prior, maps):
        def one(key):
            key_clean, key_white = jax.random.split(key)
            clean, sigma = maps.draw(key_clean, 32), jnp.asarray(0.05)
            white = jax.random.normal(key_white, clean.shape)
            gain = score_loss(prior, clean, white, sigma) - score_loss(exact, clean, white, sigma)
            x = clean + sigma * white
            return gain, sigma * (prior.score(x, sigma) - exact.score(x, sigma))

        return jax.jit(jax.vmap(one))(keys)

    found = {}
    for gaussian in (True, False):
        maps = Maps(spectrum, gaussian)
        folders = [tmp_path / f"{gaussian}{seed}" for seed in (0, 1)]
        priors = [learn_maps(folder, spectrum, gaussian, n) for n, folder in enumerate(folders)]
        (gain, one), (_, other) = (evaluate(prior, maps) for prior in priors)
        correlation = jnp.sum(one * other) / jnp.linalg.norm(one) / jnp.linalg.norm(other)
        found[gaussian] = (np.asarray(gain), float(jnp.sqrt(jnp.mean(one**2))), float(correlation))
    gain, size, correlation = found[True]
    assert size < 0.02 and correlation < 0.5
    assert abs(np.mean(gain)) < size**2 + 5 * np.std(gain) / np.sqrt(len(gain))
    gain, size, correlation = found[False]
    assert size > 0.1 and correlation > 0.5
    assert np.mean(gain) < -5 * np.std(gain) / np.sqrt(len(gain))


def test_settings_of_the_published_training():
    settings, table = read_training("experiments/training/paper.toml")
    assert settings.kind == "score" and table["kind"] == "score"
    assert settings.score_network == ScoreUNet()
    assert settings.score == ScoreMatching(0.2, 1.0)
    assert settings.schedule.drops == (12500, 25000, 37500)
    assert [layout.batch for layout in settings.layouts] == [32]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "flow"}, "kind is 'flow'"),
        ({"kind": "score", "noise": {}}, "unknown settings \\['noise'\\]"),
        ({"score": {}}, "unknown settings \\['score'\\]"),
        ({"kind": "score", "score": {"spread": -1.0}}, "spread is -1.0"),
        ({"kind": "score", "network": {"embedding": 3}}, "embedding"),
        ({"kind": "score", "start": "x.npz"}, "starts from scratch"),
    ],
)
def test_bad_settings_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        training_from({"schedule": {"num_steps": 10}, **table})


def test_score_training_refuses_windows(spectrum):
    maps = Maps(spectrum, gaussian=True)
    for layouts in ((Layout(16, 2, window=8),), (Layout(16, 2), Layout(32, 2))):
        with pytest.raises(ValueError, match="whole maps of one size"):
            score_task(score_settings(layouts=layouts), maps, maps, spectrum)


@pytest.mark.release
def test_command_trains_a_hybrid_prior(spectrum, tmp_path):
    """From a folder of maps to a file that gives the prior back; better than Gaussian."""
    make = Maps(spectrum, gaussian=False)
    (tmp_path / "maps").mkdir()
    for number in range(20):
        field = make.draw(jax.random.key(number), 24)
        np.save(tmp_path / "maps" / f"map{number:03d}.npy", np.asarray(field, np.float32))
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        kind = "score"
        validation_batches = 4
        [schedule]
        num_steps = 60
        learning_rate = 1e-2
        decay_steps = 0
        warmup_steps = 5
        averaging = 10
        [network]
        channels = [6, 6]
        blocks = 1
        [score]
        spread = 0.05
        [[layouts]]
        side = 16
        batch = 8
        [maps]
        maps = "{tmp_path / "maps"}"
        pixel_arcmin = 1.0
        """
    )
    assert main(["train", str(config), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert {"losses.png", "examples.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    prior, header = read_hybrid_prior(tmp_path / "out" / "hybrid_prior.npz", Grid((16, 20), PIXEL))
    validation = header["training"]["validation"]
    assert validation["loss"] < validation["baseline"]
    x = jnp.zeros((16, 20)).at[4, 5].set(1.0)
    assert np.all(np.isfinite(prior.score(x, 0.05)))
    assert not np.allclose(prior.score(x, 0.05), prior.gaussian.score(x, 0.05))
    with pytest.raises(ValueError, match="arcmin wide"):
        read_hybrid_prior(tmp_path / "out" / "hybrid_prior.npz", Grid((16, 20), 2.0))
    with pytest.raises(ValueError, match="not a denoiser"):
        read_denoiser(tmp_path / "out" / "hybrid_prior.npz")
