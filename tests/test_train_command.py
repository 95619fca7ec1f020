"""`jaxmap train` and what one does with its weights, and those that are shipped."""

import json
import shutil
import tomllib
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table

from jaxmap import train_command
from jaxmap.cli import main
from jaxmap.denoiser_files import read_denoiser
from jaxmap.digests import digest_of
from jaxmap.grid import Grid
from jaxmap.mapfiles import read_mass_map
from jaxmap.matter_power import PLANCK18
from jaxmap.networks.optimiser import update
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import lognormal_field
from jaxmap.training.denoising import Example, information_from_shear, loss_terms
from jaxmap.training.loop import Task
from jaxmap.training.noise import NoiseRanges, draw_precision
from jaxmap.training.settings import training_from
from jaxmap.training.sources import sky_of

SMALL = """
validation_batches = 1
gain_fields = 4
validate_every = 2
checkpoint_every = 2
[schedule]
num_steps = 4
decay_steps = 1
[network]
channels = [4, 8]
[maps]
pixel_arcmin = 2.0
[[layouts]]
side = 16
batch = 2
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    (folder / "small.toml").write_text(SMALL)
    assert main(["train", str(folder / "small.toml"), "--out", str(folder / "out"), "-q"]) == 0
    return folder


@pytest.mark.slow
def test_train_writes_weights_log_and_pictures(trained):
    out = trained / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {"checkpoint.npz", "denoiser.npz", "log.jsonl", "losses.png", "examples.png"}
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4] and all("validation" in row for row in rows)
    denoiser, domain, header = read_denoiser(out / "denoiser.npz")
    assert domain.pixel_arcmin == 2.0 and denoiser.network.channels == (4, 8)
    assert header["training"]["steps"] == 4 and header["training"]["gain_fields"] == 4
    assert denoiser.gain is not None and np.all(np.isfinite(denoiser.gain.gain))
    assert header["training"]["settings"]["maps"]["pixel_arcmin"] == 2.0
    assert header["training"]["sky"]["cosmology"] == asdict(PLANCK18)


@pytest.mark.slow
def test_a_log_that_was_cut_keeps_no_weights_from_being_written(trained, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(trained / "out", out)
    (out / "denoiser.npz").unlink()
    first, second = (out / "log.jsonl").read_bytes().splitlines(keepends=True)
    (out / "log.jsonl").write_bytes(first[:30] + second)
    assert main(["train", str(trained / "small.toml"), "--out", str(out), "-q"]) == 0
    found, _, header = read_denoiser(out / "denoiser.npz")
    before, _, last = read_denoiser(trained / "out" / "denoiser.npz")
    assert digest_of(found.params) == digest_of(before.params)
    assert header["training"]["validation"] == last["training"]["validation"]


@pytest.mark.slow
def test_deepmass_maps_a_catalogue(trained, tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = Table({name: rng.uniform(-0.3, 0.3, 3000) for name in ("ra", "dec", "e1", "e2")})
    table["ra"] += 150
    table.write(tmp_path / "galaxies.fits")
    weights = str(trained / "out" / "denoiser.npz")
    arguments = ["map", str(tmp_path / "galaxies.fits"), "--method", "deepmass"]
    assert main([*arguments, "--weights", weights, "--out", str(tmp_path / "map")]) == 0
    result = read_mass_map(tmp_path / "map" / "mass_map.fits")
    assert result.grid.pixel_arcmin == 2.0  # as trained
    assert np.all(np.isfinite(result.convergence)) and np.all(np.asarray(result.std) > 0)
    assert "deepmass" in capsys.readouterr().out


GIVEN = """
validation_batches = 1
gain_fields = 0
[schedule]
num_steps = 2
[network]
channels = [4]
[noise]
shares = [1, 0, 0]
[[layouts]]
side = 16
batch = 2
[[layouts]]
side = 16
batch = 2
window = 8
margin = 4
[maps]
maps = "FOLDER"
pixel_arcmin = 1.0
realisation = "sim[0-9]+"
rim_arcmin = 3
"""


@pytest.mark.release
def test_train_on_given_maps(tmp_path, capsys):
    for number in range(6):
        maps = np.random.default_rng(number).gamma(0.1, 0.1, (2, 20, 18))
        np.save(tmp_path / f"sim{number}.npy", maps)
    (tmp_path / "given.toml").write_text(GIVEN.replace("FOLDER", str(tmp_path)))
    out = tmp_path / "out"
    assert main(["train", str(tmp_path / "given.toml"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "reading maps" in said.err and "(survey)" in said.out  # of the windows
    denoiser, domain, _ = read_denoiser(out / "denoiser.npz")
    assert domain.pixel_arcmin == 1.0 and float(denoiser.spectrum(jnp.asarray(3000.0))) > 0


def still(settings, training, validation, spectrum):
    """A task that learns nothing, at once."""

    def advance(step, state):
        return update(state, jax.tree.map(jnp.zeros_like, state.params), settings.schedule), 0.0

    def figures(_):
        return {"loss": 1.0}

    return Task({"x": jnp.zeros(3)}, advance, figures, figures)


def test_maps_added_to_the_folder_are_another_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(train_command.TASKS, "denoiser", still)
    monkeypatch.setitem(train_command.KEEP, "denoiser", lambda *_: "Kept.")
    monkeypatch.setattr(train_command, "check_training_memory", lambda *_: None)
    monkeypatch.setattr(train_command, "draw_losses", lambda *_: None)
    rng, maps = np.random.default_rng(0), tmp_path / "maps"
    maps.mkdir()

    def add(number):
        np.save(maps / f"sim{number}.npy", rng.gamma(0.1, 0.1, (2, 20, 18)))

    for number in range(6):
        add(number)
    (tmp_path / "given.toml").write_text(GIVEN.replace("FOLDER", str(maps)))
    command = ["train", str(tmp_path / "given.toml"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == main(command) == 0
    add(6)
    capsys.readouterr()
    assert main(command) == 2
    assert "with other data (maps); give what it was begun with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word"),
    [("[schedule]\nnum_steps = 0", "num_steps"), ("[schedule", "cannot read"), ("", "schedule")],
)
def test_bad_configurations_leave_nothing(tmp_path, capsys, text, word):
    (tmp_path / "bad.toml").write_text(text)
    assert main(["train", str(tmp_path / "bad.toml"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_the_shipped_weights_know_all_their_trainings():
    """One after the other, each by the settings of its file, from the weights of the one before."""
    header, files = read_denoiser()[2], Path(__file__).parents[1] / "experiments" / "training"
    training = header["training"]
    assert training["sky"] == sky_of(training_from(training["settings"]).source)
    for name in ("cosmos_large", "cosmos_last", "cosmos_longer", "cosmos"):
        table = tomllib.loads((files / f"{name}.toml").read_text())
        assert training["settings"] == table
        assert training["steps"] == table["schedule"]["num_steps"]
        assert ("before" in training) == ("start" in table)
        training = training.get("before")


def test_shipped_denoiser_is_small_and_beats_the_wiener_filter():
    """On lognormal fields, which it was not trained on."""
    shipped = resources.files("jaxmap") / "data" / "denoiser_cosmos.npz"
    assert len(shipped.read_bytes()) < 10e6
    denoiser, domain, header = read_denoiser()
    assert header["training"]["steps"] > 0
    grid = Grid((96, 96), domain.pixel_arcmin)

    @jax.jit
    def one(key, denoiser):
        keys = jax.random.split(key, 3)
        truth = lognormal_field(keys[0], denoiser.spectrum, grid, 0.045)
        truth = truth - jnp.mean(truth)
        survey_only = NoiseRanges(shares=(0.0, 0.0, 1.0))
        precision, kind, level = draw_precision(keys[1], grid, survey_only)
        shear = shear_from_convergence(truth, grid)
        information = information_from_shear(keys[2], shear, precision, grid)
        example = Example(truth, jnp.ones(grid.shape), information, precision, kind, level)
        terms = loss_terms(denoiser, example, grid)
        return terms.network / terms.wiener

    ratios = np.array([one(key, denoiser) for key in jax.random.split(jax.random.key(0), 12)])
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    assert ratios.mean() < 1 - 3 * error
