"""Memory of surveys, benchmarks and searches, asked before they start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from surveyruns import small_catalog, small_plan

from jaxmap import machine
from jaxmap.cli import main
from jaxmap.estimators.memory import PARTS, map_memory
from jaxmap.flags import METHODS
from jaxmap.grid import Grid
from jaxmap.mapfiles import write_samples
from jaxmap.massmap import MassMap
from jaxmap.outputs import write_catalog
from jaxmap.survey.forecast import check_workers, forecast
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
