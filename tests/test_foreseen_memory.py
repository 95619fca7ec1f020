"""Memory of surveys, benchmarks and searches, asked before they start."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from surveyruns import small_catalog, small_plan

from jaxmap import machine
from jaxmap.cli import main
from jaxmap.dynamics.memory import training_memory
from jaxmap.estimators import memory as estimators_memory
from jaxmap.estimators.memory import PARTS, check_map_memory, map_memory
from jaxmap.flags import METHODS
from jaxmap.grid import Grid
from jaxmap.mapfiles import write_samples
from jaxmap.massmap import MassMap
from jaxmap.outputs import write_catalog
from jaxmap.survey.forecast import check_workers, forecast
from jaxmap.survey.merge import check_merge_memory
from jaxmap.survey.results import missing_tasks


def test_memory_of_a_survey_is_foreseen_for_all_workers(tmp_path, monkeypatch, capsys):
    """By the numbers of single maps; a plan may be made where no worker would fit."""
    plan = small_plan(tmp_path / "run")
    found = {}
    for method in METHODS:
        settings = {**plan.settings, "method": method}
        found[method] = forecast(replace(plan, settings=settings))["worker_bytes"]
        shape, margin = plan.tiling.shape, plan.settings["margin"]
        assert found[method] > map_memory(method, shape, margin, itemsize=8)
    assert found["hong"] > found["ks"] + PARTS["hong"]
    monkeypatch.setattr(machine, "_free_memory", lambda: int(1.5 * found["ks"]))
    check_workers(forecast(plan), 1)  # the control
    assert main(["survey", "run", str(plan.folder), "--workers", "2", "--gpus", ""]) == 2
    said = capsys.readouterr().err
    assert "work of 2 workers needs about 1.4 GiB" in said and "fewer (--workers)" in said
    assert missing_tasks(plan)  # nothing was begun


@pytest.mark.slow
def test_a_survey_is_planned_where_no_worker_fits(tmp_path, monkeypatch, capsys):
    catalog = small_catalog()
    write_catalog(tmp_path / "sky.fits", catalog)
    np.savetxt(tmp_path / "power.txt", [[2, 3e-7], [300, 1e-7], [1e5, 1e-10]])
    flags = [
        "--method", "ks", "--patch-deg", "1.8", "--pixel-arcmin", "6",
        "--spectrum", str(tmp_path / "power.txt"), "--catalog", str(tmp_path / "sky.fits"),
    ]  # fmt: skip
    monkeypatch.setattr(machine, "_free_memory", lambda: 600 * 2**20)
    assert main(["survey", "plan", *flags, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "not measured: work of 1 worker needs about 0.7 GiB" in said.err
    assert "--patch-deg" in said.err and "Time: " not in said.out


def test_memory_of_a_benchmark_and_a_search_is_foreseen(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(64, 64))
    np.savez(
        tmp_path / "case.npz", convergence=plane, shear=np.stack([plane, plane]),
        noise_std=np.ones((64, 64)), mask=np.ones((64, 64)), pixel_arcmin=1.0,
        power_spectrum=np.array([[10, 1e5], [1e-9, 1e-10]]),
    )  # fmt: skip
    grid = Grid((64, 64), 1.0, (150.0, 2.0))
    samples = rng.normal(size=(20, 64, 64))
    write_samples(
        tmp_path / "samples.nc", MassMap(samples[0], grid, np.ones((64, 64), bool), samples=samples)
    )
    monkeypatch.setattr(machine, "_free_memory", lambda: int(2.5 * samples.nbytes))
    assert main(["benchmark", str(tmp_path / "case.npz"), "--methods", "mcalens"]) == 2
    assert "mcalens map of 64 x 64" in (said := capsys.readouterr().err) and "smaller case" in said
    assert main(["detect", str(tmp_path / "samples.nc")]) == 2
    assert "a search of 20 maps of 64 x 64 pixels" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.npz", "samples.nc"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("m_sigma", "make fewer clusters (--num))"),
        ("cnn2d", "make fewer clusters (--num))"),
        ("sdm1d", "compare with fewer landmarks (--num-landmarks))"),
    ],
)
def test_memory_of_training_for_masses_is_foreseen(tmp_path, monkeypatch, capsys, model, words):
    """Before the mocks are made; and that of a catalogue by the galaxies that it holds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_free_memory", lambda: 400 * 2**20)
    command = ["dynamics", "train", "--model", model]
    assert main([*command, "--num", "100000"]) == 2
    said = capsys.readouterr().err
    assert f"to train {model} on 100,000 clusters of 14,000,000 galaxies needs" in said
    assert words in said and list(tmp_path.iterdir()) == []
    assert main(["dynamics", "mock", "--num", "20", "--out", "some.csv", "-q"]) == 0
    monkeypatch.setattr(machine, "_free_memory", lambda: 250 * 2**20)
    assert main([*command, "some.csv"]) == 2
    assert "clusters of " in (said := capsys.readouterr().err) and "give fewer clusters" in said


def test_a_training_for_masses_holds_what_it_makes():
    """Images, divergences both ways, and columns of galaxies, several times."""
    images = training_memory("cnn2d", 2000, 10) - training_memory("cnn2d", 1000, 10)
    assert images >= 2 * 1000 * 48**2 * 4
    few, many = (training_memory("sdm2d", 1000, 10, landmarks) for landmarks in (100, 5000))
    assert many - few >= 2 * 1000 * 900 * 8  # no more landmarks than clusters
    assert training_memory("m_sigma", 10, 2000) - training_memory("m_sigma", 10, 1000) >= 80_000


def test_memory_of_a_merge_is_foreseen(tmp_path, monkeypatch, capsys):
    """More for finer pixels, larger patches, and samples."""
    plan = small_plan(tmp_path / "run")
    monkeypatch.setattr(machine, "_free_memory", lambda: 400 * 2**20)
    check_merge_memory(plan, 2**9)  # the control
    assert main(["survey", "merge", str(plan.folder), "--nside", str(2**20)]) == 2
    said = capsys.readouterr().err
    assert f"patches at nside {2**20} needs about" in said and "give a smaller --nside" in said
    assert not (plan.folder / "maps").exists()
    large = replace(plan, tiling=replace(plan.tiling, shape=(1200, 1200)))
    with pytest.raises(ValueError, match="smaller patches"):
        check_merge_memory(large, 2**9, num_samples=2)


def test_memory_of_unbinned_galaxies_is_foreseen(catalog, tmp_path, monkeypatch, capsys):
    command = ["map", str(catalog), "--method", "glimpse", "--unbinned", "--margin", "0"]
    map_memory_of = partial(map_memory, "glimpse", (16, 16), 0)
    assert map_memory_of(num_galaxies=3000) > map_memory_of() + 3000 * 12 * 4
    with pytest.raises(ValueError, match="without --unbinned"):
        monkeypatch.setattr(machine, "_free_memory", lambda: 100 * 2**20)
        check_map_memory("glimpse", (100, 100), 0)  # the control
        check_map_memory("glimpse", (100, 100), 0, num_galaxies=10**7)
    monkeypatch.setattr(estimators_memory, "PER_GALAXY", 10**6)
    assert main([*command, "--out", str(tmp_path / "map")]) == 2
    assert "map of 3,000 unbinned galaxies of " in capsys.readouterr().err
    assert not (tmp_path / "map").exists()
