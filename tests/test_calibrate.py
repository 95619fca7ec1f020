"""Calibration end to end: the exact Gaussian posterior passes, goes on after a stop, and a wrong
prior is found."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap import calibrate_flags, simulate_flags
from jaxmap.calibrate_command import _warn_of_small_skies
from jaxmap.calibration.checkpoint import FIELDS, open_records
from jaxmap.calibration.intervals import score_fields
from jaxmap.calibration.mocks import MockFields, middle_of_survey, shrunk_to
from jaxmap.calibration.report import lines_of
from jaxmap.calibration.run import calibrate
from jaxmap.catalog import shear_map
from jaxmap.cli import main
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.grid import Grid
from jaxmap.mapfiles import write_shear_map
from jaxmap.massmap import MassMap
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field
from jaxmap.simulation.presets import COSMOS_LIKE
from jaxmap.simulation.recipe import map_recipe
from jaxmap.simulation.streaming import MapSimulator

GRID = Grid((24, 20), 1.0)
STD = np.full(GRID.shape, 0.03)
STD[4:11, 5:12] = 0


@pytest.fixture(scope="module")
def setting(spectrum):
    """Estimator, fields and spectrum: Gaussian skies, a hole, the exact posterior."""
    depth = shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=STD)
    draw = jax.jit(partial(gaussian_field, spectrum=spectrum, grid=GRID))
    recipe = map_recipe(GRID, "gaussian", sky_shape=GRID.shape)
    fields = MockFields(MapSimulator(recipe, draw), depth)
    return Wiener(spectrum, num_samples=9, margin=0), fields, spectrum


def run(setting, num, **options) -> dict[str, Any]:
    estimator, fields, spectrum = setting
    return calibrate(estimator, fields, num, spectrum=spectrum, **options)


@pytest.mark.slow
def test_the_exact_posterior_is_calibrated(setting):
    """Every line within 4.5 standard errors (of 30 fields), and none fails; the mean is that of the
    Wiener filter."""
    report = run(setting, 30, smoothing_arcmin=2.0)
    lines = {one["name"]: one for one in lines_of(report)}
    for one in lines.values():
        if one.get("error"):
            assert abs(one["value"] - one["nominal"]) < 4.5 * one["error"], one
    assert report["verdict"] != "fail"
    assert "chi2, samples/truth" in lines and "pixels, masked: 90 %" in lines
    ratio = report["figures"]["rmse of mean / Wiener"]
    assert abs(ratio["value"] - 1) < 4 * ratio["error"] < 0.05


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(setting, tmp_path):
    """Also when the stop came within a line; and fields can be added."""
    whole = run(setting, 4, out=tmp_path / "whole")
    run(setting, 3, out=tmp_path / "parts")
    path = tmp_path / "parts" / FIELDS
    path.write_bytes(path.read_bytes()[:-700])
    assert len(open_records(tmp_path / "whole", header(tmp_path / "whole"))) == 4
    done: list[int] = []

    def count(numbers):
        for number in numbers:
            done.append(number)
            yield number

    assert run(setting, 4, out=tmp_path / "parts", progress=count) == whole
    assert done == [2, 3]
    assert path.read_bytes() == (tmp_path / "whole" / FIELDS).read_bytes()
    assert run(setting, 4, out=tmp_path / "parts", progress=count) == whole and len(done) == 2
    assert run(setting, 4) == whole
    assert run(setting, 4, seed=1) != whole


def header(folder) -> dict[str, Any]:
    return json.loads((folder / FIELDS).read_text().splitlines()[0])["calibration"]


def test_folders_of_other_runs_are_refused(setting, tmp_path):
    run(setting, 2, out=tmp_path, identity={"settings": {"method": "wiener"}})
    with pytest.raises(ValueError, match="were made with method = wiener, not ks; choose another"):
        run(setting, 2, out=tmp_path, identity={"settings": {"method": "ks"}})
    with pytest.raises(ValueError, match="were made with seed = 0, not 5"):
        run(setting, 2, out=tmp_path, seed=5, identity={"settings": {"method": "wiener"}})
    (tmp_path / FIELDS).write_text("what is this?\n")
    with pytest.raises(ValueError, match="does not hold the fields of a calibration"):
        run(setting, 2, out=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot use .*file .*--out"):
        run(setting, 2, out=tmp_path / "file")


def test_fields_of_another_estimator_are_not_taken_for_these(setting, tmp_path):
    """Without an identity, what fields are made of tells; and of an old folder nobody knows."""
    estimator, fields, spectrum = setting
    run(setting, 2, out=tmp_path)
    brighter = replace(spectrum, c_ell=2 * spectrum.c_ell)
    deeper = replace(fields, survey=replace(fields.survey, weight=2 * fields.survey.weight))
    for other in (
        (replace(estimator, num_samples=10), fields, spectrum),
        (replace(estimator, spectrum=brighter), fields, spectrum),
        (estimator, deeper, spectrum),
        (estimator, fields, brighter),
    ):
        with pytest.raises(ValueError, match="with another estimator, other fields or another"):
            run(other, 2, out=tmp_path)


def test_fields_of_an_earlier_version_are_gone_on_from(setting, tmp_path, caplog):
    whole = run(setting, 3, out=tmp_path / "whole")
    run(setting, 2, out=tmp_path / "parts")
    path = tmp_path / "parts" / FIELDS
    first, *others = path.read_text().splitlines()
    old = json.loads(first)
    assert old["calibration"].pop("digest")
    path.write_text("\n".join([json.dumps(old), *others, ""]))
    for _ in range(2):
        assert run(setting, 3, out=tmp_path / "parts") == whole
    assert len(caplog.messages) == 1 and "earlier version" in caplog.messages[0]
    with pytest.raises(ValueError, match="with seed = 0, not 5"):
        run(setting, 3, out=tmp_path / "parts", seed=5)


def test_scores_of_another_estimator_are_not_taken_for_these(setting, tmp_path):
    fields = setting[1]
    score_fields(KaiserSquires(1.0, 0), fields, 1, out=tmp_path)
    with pytest.raises(ValueError, match="with another estimator, other fields"):
        score_fields(KaiserSquires(2.0, 0), fields, 1, out=tmp_path)


def test_bad_input(setting):
    _, fields, spectrum = setting

    def without_samples(key, shear):
        del key
        return MassMap(shear.shear.real, shear.grid, shear.mask)

    with pytest.raises(ValueError, match="gave no posterior samples; expected one that draws"):
        calibrate(without_samples, fields, 2, spectrum=spectrum)
    without_samples.num_samples = 4  # refused before anything is drawn
    with pytest.raises(ValueError, match="num_samples is 4; expected at least 9"):
        calibrate(without_samples, fields, 2, spectrum=spectrum)
    with pytest.raises(ValueError, match="number of fields is 1; expected at least 2"):
        run(setting, 1)
    data = shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=STD)
    with pytest.raises(ValueError, match=r"to be \(32, 20\) pixels and the survey's map has"):
        middle_of_survey(data, (32, 20))
    hidden = replace(data, weight=data.weight.at[:, 11:13, 9:11].set(0))
    with pytest.raises(ValueError, match=r"middle \(2, 2\) pixels .* are masked"):
        middle_of_survey(hidden, (2, 2))


def test_presets_shrink_with_the_field(setting):
    """A field of a tenth of COSMOS keeps a tenth of its rim, a larger one all of it."""
    tenth = shrunk_to(COSMOS_LIKE, Grid((36, 36), 0.29))
    assert tenth.border_arcmin == pytest.approx(1.37)
    assert shrunk_to(COSMOS_LIKE, Grid((720, 720), 0.29)).border_arcmin == 13.7


def test_random_holes_and_counts_differ_from_field_to_field(setting):
    _, fields, _ = setting
    mocks = MockFields(fields.simulator, shrunk_to(COSMOS_LIKE, GRID))
    drawn = [mocks(jax.random.key(n)) for n in range(12)]  # about 2 stars in each field
    truth, first = drawn[0]
    seen = np.asarray(first.mask)
    assert len({np.asarray(data.mask).tobytes() for _, data in drawn}) > 3 and 0 < seen.mean() < 1
    assert bool(jnp.any(first.weight != drawn[1][1].weight))
    residual = np.asarray(first.shear - shear_from_convergence(truth, GRID))[seen]
    pulls = residual.real * np.sqrt(np.asarray(first.weight[0])[seen])
    assert abs(np.mean(pulls**2) - 1) < 4 * np.sqrt(2 / len(pulls))
    # A given survey keeps its mask and noise.
    _, given = fields(jax.random.key(0))
    np.testing.assert_allclose(np.asarray(given.weight[0] > 0), STD > 0)


COMMAND = ["calibrate", "--method", "wiener", "--sky", "gaussian", "--num-samples", "9"]


def test_the_command(tmp_path, capsys):
    """On the mask of a file: what it writes and says; other settings are refused."""
    survey, out = tmp_path / "survey.fits", tmp_path / "out"
    write_shear_map(survey, shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=STD))
    arguments = [*COMMAND, "--mask-from", str(survey), "--out", str(out), "--seed", "2"]
    assert main([*arguments, "--num", "3"]) == 0
    said = capsys.readouterr().out
    assert "3 fields of 9 samples: " in said and "std/error, observed" in said
    report = json.loads((out / "report.json").read_text())
    assert report["num_fields"] == 3 and report["settings"]["sky"] == "gaussian"
    assert report["input"]["path"] == str(survey)
    assert (out / "calibration.png").stat().st_size > 10_000
    assert main([*arguments, "--num", "4", "--num-samples", "11"]) == 2
    assert "were made with num_samples = 9, not 11" in capsys.readouterr().err
    assert main([*arguments, "--size", "99"]) == 2
    assert "a part of it (--size)" in capsys.readouterr().err


def test_flags_agree_with_what_they_name():
    assert set(calibrate_flags.SKIES.values()) == set(simulate_flags.KINDS)


def test_small_skies_judge_networks_unfairly(caplog):
    """Said of skies that repeat within a degree, and of those alone."""
    for sky_shape in ((60, 140), (128, 128)):
        _warn_of_small_skies(map_recipe(Grid((60, 60), 0.5), "lognormal", sky_shape=sky_shape))
    assert [record.getMessage()[:50] for record in caplog.records] == [
        "the simulated skies are periodic after 30 arcmin, "
    ]


@pytest.mark.release
def test_controls_of_the_command(tmp_path):
    """Wiener samples on COSMOS-like fields: right for a Gaussian sky, found wrong for haloes, whose
    peaks they miss (std/error of the top 1 % of predicted pixels far below 1)."""
    common = ["--method", "wiener", "--num-samples", "19", "--num", "12", "--size", "96", "-q"]
    reports = {}
    for sky in ("gaussian", "halo"):
        out = tmp_path / sky
        assert main(["calibrate", *common, "--sky", sky, "--out", str(out)]) == 0
        reports[sky] = json.loads((out / "report.json").read_text())
    assert reports["gaussian"]["verdict"] != "fail" and reports["halo"]["verdict"] == "fail"
    right, wrong = (
        next(one for one in reports[sky]["spread"] if one["name"] == "std/error, top 1 %")
        for sky in ("gaussian", "halo")
    )
    assert abs(right["value"] - 1) < 4 * right["error"]
    assert wrong["value"] < 0.6 and wrong["verdict"] == "fail"


@pytest.mark.release
def test_cut_fields_have_no_chi_squared(tmp_path):
    """Mass outside a cut field acts on its data, so chi-squared is not judged there."""
    arguments = [*COMMAND, "--cut", "--size", "48", "--num", "3", "--out", str(tmp_path), "-q"]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["num_fields"] == 3 and report["spread"]
    assert not any("chi2" in one["name"] for one in lines_of(report))
