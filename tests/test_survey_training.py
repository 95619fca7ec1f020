"""Training for one survey: its examples, DeepMass and GAN; settings; train and map by command."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table

from jaxmap.binning import bin_shear
from jaxmap.catalog import shear_map
from jaxmap.cli import main
from jaxmap.footprint import grid_of_catalog
from jaxmap.grid import Grid
from jaxmap.mapfiles import read_mass_map, read_samples, write_shear_map
from jaxmap.reading.readers import read_shear
from jaxmap.spectra import PowerSpectrum
from jaxmap.survey_network_files import read_generator, read_survey_denoiser
from jaxmap.training.gan_task import SampleErrors, error_figures, gan_task
from jaxmap.training.layouts import GivenFields
from jaxmap.training.loop import CHECKPOINT, LOG, Task, train
from jaxmap.training.observations import draw_observations, survey_observations
from jaxmap.training.settings import Training, training_from
from jaxmap.training.smooth_power import smooth_power
from jaxmap.training.survey_denoiser_task import survey_denoiser_task

SIDE, SHAPE, MARGIN = 16, (11, 14), 1
TABLE: dict[str, Any] = {
    "validation_batches": 2,
    "schedule": {"num_steps": 8, "learning_rate": 5e-3, "warmup_steps": 2, "decay_steps": 2},
    "network": {"channels": [4]},
    "maps": {"pixel_arcmin": 1.0},
    "layouts": [{"side": SIDE, "batch": 4}],
}
GAN = {"critic": [4], "tune_every": 3, "tune_samples": 3}


def maps_of(seed: int) -> np.ndarray:
    """Maps in which one pixel of 30 is bright."""
    return 0.2 * (np.random.default_rng(seed).random((40, SIDE, SIDE)) < 0.03)


@pytest.fixture(scope="module")
def survey_file(tmp_path_factory) -> Path:
    std = np.random.default_rng(0).uniform(0.02, 0.05, (2, *SHAPE))
    std[:, 3:6, 2:7] = 0
    path = tmp_path_factory.mktemp("survey") / "survey.fits"
    zero = np.zeros(SHAPE, complex)
    write_shear_map(path, shear_map(zero, Grid(SHAPE, 1.0), noise_std=std))
    return path


def settings_of(kind: str, survey_file: Path, **changes: Any) -> Training:
    own = {"gan": GAN} if kind == "gan" else {}
    survey = {"mask_from": str(survey_file), "margin": MARGIN}
    return training_from({"kind": kind, "survey": survey, **TABLE, **own, **changes})


def sources() -> tuple[GivenFields, GivenFields, PowerSpectrum]:
    training, validation = (GivenFields(jnp.asarray(maps_of(seed), float)) for seed in (0, 1))
    return training, validation, smooth_power(maps_of(0), 1.0)


@pytest.mark.slow
def test_examples_have_the_noise_of_the_survey(survey_file):
    """Data less the shear of the same sky, over the noise: unit variance to 4 standard errors."""
    observations = survey_observations(settings_of("gan", survey_file), sources()[0])
    silent = replace(observations, survey=replace(observations.survey))
    keys = jax.random.split(jax.random.key(0), 200)
    truth, data = draw_observations(keys, observations)
    assert truth.shape == (200, *SHAPE)
    assert data.shear.shape == (200, SHAPE[0] + 2 * MARGIN, SHAPE[1] + 2 * MARGIN)
    loud = replace(silent.survey, weight=jnp.where(observations.survey.weight > 0, 1e12, 0.0))
    clean = draw_observations(keys, replace(observations, survey=loud))
    np.testing.assert_array_equal(clean.truth, truth)
    weight = np.asarray(data.weight)
    noise = np.asarray(data.shear - clean.data.shear)
    for part, w in ((noise.real, weight[:, 0]), (noise.imag, weight[:, 1])):
        pulls = (part * np.sqrt(w))[w > 0]
        assert abs(pulls.var() - 1) < 4 * np.sqrt(2 / pulls.size)
        assert np.all(part[w == 0] == 0)


def finished(task: Task, settings: Training, folder: Path) -> Any:
    return train(
        task,
        settings.schedule,
        folder,
        {"settings": {"schedule": {"num_steps": settings.schedule.num_steps}}},
        checkpoint_every=2,
        validate_every=4,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


class Stopped(Exception):
    """Stands for a kill."""


def stopping(task: Task, at: int) -> Task:
    def advance(step: int, state: Any) -> Any:
        if step == at:
            raise Stopped
        return task.advance(step, state)

    return task._replace(advance=advance)


@pytest.mark.release
def test_a_gan_goes_on_bit_for_bit(survey_file, tmp_path):
    """Stopped after a checkpoint, behind and before a tuning of the reward: all is as without."""
    settings = settings_of("gan", survey_file)
    task = gan_task(settings, *sources())
    finished(task, settings, tmp_path / "whole")
    for at in (3, 7):
        with pytest.raises(Stopped):
            finished(stopping(task, at), settings, tmp_path / "parts")
    finished(task, settings, tmp_path / "parts")
    with (
        np.load(tmp_path / "whole" / CHECKPOINT) as one,
        np.load(tmp_path / "parts" / CHECKPOINT) as other,
    ):
        assert set(one.files) == set(other.files)
        assert any("critic" in name for name in one.files)
        for name in one.files:
            assert one[name].tobytes() == other[name].tobytes(), name
    untimed = [[{**row, "seconds": 0} for row in rows(tmp_path / n)] for n in ("whole", "parts")]
    assert untimed[0] == untimed[1]
    last = untimed[0][-1]
    assert last["train"]["reward"] > 1  # samples of the first steps are alike
    assert last["validation"]["expected_single_over_averaged"] == 1.5
    assert 0 < last["validation"]["spread_over_error"] < 1


@pytest.mark.slow
def test_deepmass_starts_at_the_wiener_filter_and_learns(survey_file, tmp_path):
    schedule = {"num_steps": 80, "learning_rate": 1e-2, "warmup_steps": 5, "decay_steps": 10}
    settings = settings_of("deepmass-survey", survey_file, schedule={**schedule, "averaging": 10})
    task = survey_denoiser_task(settings, *sources())
    before = task.validate(task.params)
    np.testing.assert_allclose(before["ratio"]["survey"], 1, rtol=1e-12)
    params = finished(task, settings, tmp_path)
    after = task.validate(params)
    assert after["wiener"] == before["wiener"] and after["ratio"]["survey"] < 0.985


def test_figures_of_exact_samples():
    batch = SampleErrors(*(np.full(4, value) for value in (2.0, 1.125, 1.0, 4.0)))
    figures = error_figures([batch, batch], 8)
    assert figures["spread_over_error"] == pytest.approx(1)
    assert figures["single_over_averaged"] == pytest.approx(16 / 9)
    assert figures["loss"] == 1.125 / 4


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("gan", {"layouts": [{"side": 8, "batch": 2}]}, r"a side of 8; give .*side of 14 or more"),
        ("gan", {"layouts": [{"side": 32, "batch": 2, "window": 16}]}, "the survey is the window"),
        ("gan", {"maps": {"pixel_arcmin": 1.5}}, "pixels of 1 arcmin, but pixel_arcmin is 1.5"),
    ],
)
def test_surveys_that_do_not_fit(survey_file, kind, changes, message):
    with pytest.raises(ValueError, match=message):
        survey_observations(settings_of(kind, survey_file, **changes), sources()[0])


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        ("gan", {"gan": {"samples": 1}}, "samples is 1; expected 2 or more"),
        ("gan", {"gan": {"critic": []}}, r"critic is \(\); expected one size above 0 or more"),
        ("gan", {"gan": {"reward": -1}}, "reward is -1.0; expected 0 or more"),
        ("gan", {"deepmass": {}}, r"unknown settings \['deepmass'\]"),
        ("gan", {"start": "x.npz"}, "starts from scratch"),
        ("gan", {"survey": {"preset": "moon"}}, "preset is 'moon'; expected cosmos or"),
        ("gan", {"survey": {"mask_from": "a", "catalog": "b"}}, "expected none beside mask_from"),
        ("gan", {"schedule": {"num_steps": 1, "beta1": 1}}, "beta1 is 1.0; expected 0 or more"),
        ("deepmass-survey", {"deepmass": {"first": "mean"}}, "first is 'mean'; expected wiener or"),
        ("deepmass-survey", {"survey": {"size": [4, 9]}}, r"size is \(4, 9\); expected 8 pixels"),
        ("deepmass-survey", {"noise": {}}, r"unknown settings \['noise'\]"),
    ],
)
def test_settings_that_are_wrong(kind, table, message):
    with pytest.raises(ValueError, match=message):
        training_from({"kind": kind, **TABLE, **table})


CONFIG = """
kind = "{kind}"
validation_batches = 1
validate_every = 2
checkpoint_every = 2
[schedule]
num_steps = 2
decay_steps = 1
[network]
channels = [4]
[survey]
catalog = "{folder}/galaxies.fits"
margin = 2
[maps]
maps = "{folder}/maps"
pixel_arcmin = 2.0
realisation = "sim[0-9]+"
rim_arcmin = 0
[[layouts]]
side = 20
batch = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A catalogue of a field of 15 x 18 pixels or so, and maps to train on."""
    folder = tmp_path_factory.mktemp("one_survey")
    rng = np.random.default_rng(0)
    table = Table({name: rng.uniform(-0.3, 0.3, 3000) for name in ("ra", "dec", "e1", "e2")})
    table["ra"], table["dec"] = 150 + table["ra"], 0.8 * table["dec"]
    table.write(folder / "galaxies.fits")
    (folder / "maps").mkdir()
    for number in range(4):
        np.save(folder / "maps" / f"sim{number}.npy", rng.gamma(0.1, 0.1, (2, 22, 20)))
    return folder


@pytest.mark.release
@pytest.mark.parametrize(("kind", "method"), [("deepmass-survey", "deepmass"), ("gan", "gan")])
def test_train_and_map(folder, kind, method, capsys, caplog):
    """From a catalogue to a network for it, and to its map, without a warning; with one for half
    of the galaxies."""
    config = CONFIG.format(kind=kind, folder=folder)
    if kind == "gan":
        config += "[gan]\ncritic = [4]\ntune_samples = 2\n"
    (folder / f"{kind}.toml").write_text(config)
    out = folder / kind
    assert main(["train", str(folder / f"{kind}.toml"), "--out", str(out)]) == 0
    name = "gan.npz" if kind == "gan" else "deepmass_survey.npz"
    assert f"--method {method} --weights {out / name}" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"checkpoint.npz", name, "log.jsonl", "losses.png", "examples.png"}
    read = read_generator if kind == "gan" else read_survey_denoiser
    catalog = read_shear(folder / "galaxies.fits")
    shear = bin_shear(catalog, grid_of_catalog(catalog, 2.0))
    np.testing.assert_allclose(read(out / name)[1].weight, shear.weight, rtol=1e-6)
    flags = ["--method", method, "--weights", str(out / name), "--out", str(folder / "map")]
    if kind == "gan":
        flags += ["--num-samples", "3"]
    caplog.set_level(logging.WARNING)
    assert main(["map", str(folder / "galaxies.fits"), *flags]) == 0
    assert "trained for one survey" not in caplog.text
    result = read_mass_map(folder / "map" / "mass_map.fits")
    assert result.grid.pixel_arcmin == 2.0 and np.isfinite(result.convergence).all()
    if kind == "gan":
        assert "3 posterior samples drawn" in capsys.readouterr().out
        assert read_samples(folder / "map" / "samples.nc")[0].shape == (3, *result.grid.shape)
    half = Table.read(folder / "galaxies.fits")[::2]
    half.write(folder / "half.fits", overwrite=True)
    size = "x".join(map(str, result.grid.shape[::-1]))
    assert main(["map", str(folder / "half.fits"), *flags, "--size", size]) == 0
    assert "trained for one survey" in capsys.readouterr().err + caplog.text


def test_gan_without_weights(folder, capsys):
    assert main(["map", str(folder / "galaxies.fits"), "--method", "gan"]) == 2
    said = capsys.readouterr().err
    assert "jaxmap train experiments/training/gan_cosmos.toml" in said and said.count("\n") == 1
