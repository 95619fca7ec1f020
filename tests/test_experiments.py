"""The experiments on real data: they run, and their figures meet what the project promises."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from experimentruns import SCRIPTS, assert_as_full, run


def test_quick_runs_leave_the_results_alone(tmp_path, monkeypatch):
    """By default only full runs write to ``results`` and to their ``--runs``; flags are obeyed."""
    place = tmp_path / "experiments" / "common.py"
    place.parent.mkdir()
    shutil.copy(SCRIPTS / "common.py", place)
    arguments = runpy.run_path(str(place))["arguments"]
    kept = {"type": Path, "default": tmp_path / "runs" / "fields"}
    for flags, out, runs in (
        ([], "experiments/results", "runs/fields"),
        (["--quick"], "runs/quick", "runs/quick/runs/fields"),
        (["--quick", "--out", str(tmp_path / "mine")], "mine", "mine/runs/fields"),
        (["--quick", "--runs", str(tmp_path / "own")], "runs/quick", "own"),
    ):
        monkeypatch.setattr(sys, "argv", ["script.py", *flags])
        options = arguments("What it does.", runs=kept)
        assert options.out == tmp_path / out and options.runs == tmp_path / runs
        assert (tmp_path / out).is_dir()


@pytest.mark.release
def test_cosmos(shared, tmp_path):
    """The published binning to 1e-6, mask exactly; clusters stand above random places."""
    figures = run("cosmos", shared, tmp_path)
    legacy = figures["legacy"]
    assert legacy["pixels_in_mask"] == 69191 and legacy["mask_differs_in_pixels"] == 0
    for name in ("e1", "e2", "noise_std"):
        assert legacy[f"{name}_max_difference"] < 1e-6
    tangent = figures["tangent_against_legacy"]
    # Pixel borders differ a little, so some noise does; the mirror image shares nothing.
    assert tangent["correlation"] > 0.95
    assert abs(tangent["correlation_unmirrored"]) < 0.2
    clusters = figures["clusters"]
    assert clusters["e_mode_excess_sigma"] > 5
    assert abs(clusters["b_mode_excess_sigma"]) < 4
    assert (tmp_path / "cosmos_wiener.png").stat().st_size > 50_000


@pytest.mark.release
def test_table1(shared, tmp_path):
    """Every solver finds the stored map, at a tolerance of 1e-4; the unitary phase does not."""
    figures = run("table1", shared, tmp_path)
    control = figures["solvers"].pop("conjugate_gradient_with_unitary_phase")
    for row in figures["solvers"].values():
        assert row["relative_to_stored"] < 1e-3 < control["relative_to_stored"]
    assert control["relative_to_stored_off_nyquist"] < 1e-3


@pytest.mark.release
def test_gaussian_calibration(shared, tmp_path):
    """Every ratio of sampled to exact spread is 1 within 5 standard errors (40 draws)."""
    figures = run("gaussian_calibration", shared, tmp_path)
    for name in ("std_observed_ratio", "std_masked_ratio"):
        row = figures[name]
        assert abs(row["value"] - 1) < 5 * row["standard_error"] < 0.05
    power = figures["band_power_ratio"]
    for value, error in zip(power["value"], power["standard_error"], strict=True):
        assert abs(value - 1) < 5 * error
    # The small scales are known to a percent: samples 5 % too wide would not pass.
    assert abs(1.05**2 * power["value"][-1] - 1) > 5 * power["standard_error"][-1]


@pytest.mark.release
def test_edges(shared, tmp_path):
    """The default margin meets the target, and no margin is worse."""
    figures = run("edges", shared, tmp_path)
    default = str(figures["default_margin"])
    for by_margin in figures["by_margin"].values():
        at = by_margin[default]["edge_over_interior_rms"]
        without = by_margin["0"]["edge_over_interior_rms"]
        assert at["value"] < 1.1
        assert without["value"] - at["value"] > 2 * without["standard_error"]
        largest = by_margin[default]["largest_modes_std_over_error"]
        assert abs(largest["value"] - 1) < 4 * largest["standard_error"]
        without = by_margin["0"]["largest_modes_std_over_error"]
        assert abs(without["value"] - 1) > 4 * without["standard_error"]


@pytest.mark.release
def test_simulator(shared, tmp_path, monkeypatch):
    """Four maps: power within its scatter, no statistic of kTNG far outside that of the fields."""
    pytest.importorskip("colossus")
    monkeypatch.setenv("JAXMAP_CACHE", str(tmp_path / "cache"))
    figures = run("simulator", shared, tmp_path)
    power = figures["power"]
    for ratio, error in zip(power["mean_over_target"], power["standard_error"], strict=True):
        assert abs(ratio - 1) < 0.1 + 3 * error
    assert figures["ktng"]["light cone"]["rms_z"] < 2.5
    assert figures["ktng"]["lognormal"]["rms_z"] > figures["ktng"]["light cone"]["rms_z"]


@pytest.mark.release
def test_survey_seams(tmp_path):
    """Two small surveys: errors and std at seams as inside, to 5 standard errors; patches that
    hardly overlap err more."""
    figures = run("survey_seams", tmp_path, tmp_path)
    for name in ("error_rms", "std_rms"):
        row = figures[name]
        assert abs(row["ratio"] - 1) < 5 * row["ratio_error"]
    control = figures["surveys"][0]["control_error_rms"]
    assert control["ratio"] > 1 + 3 * control["ratio_error"]
    for row in figures["surveys"]:
        big = row["big_patch"]
        for place in ("seams", "interior"):
            off = big[f"merged_minus_big_over_std_{place}"]
            assert off < big[f"shifted_minus_big_over_std_{place}"] < 1


@pytest.mark.release
def test_annealing(tmp_path):
    """Chains end spread over the points as fresh draws are; without annealing they do not."""
    figures = run("annealing", tmp_path, tmp_path)
    for row in figures.values():
        if isinstance(row, dict) and "energy_distance_z" in row:
            assert row["finished"] == row["num_chains"]
            assert abs(row["energy_distance_z"]) < 5
            assert row["energy_distance_z_without_annealing"] > 50
    moons = figures["two_moons"]
    error = (0.7 * 0.3 / moons["num_chains"]) ** 0.5
    assert abs(moons["share_of_chains_above"] - moons["share_of_points_above"]) < 4 * error


@pytest.mark.release
def test_gaussian_samplers(shared, tmp_path):
    """No sampler is off its targets by more than 3 standard errors; the three controls are, and
    the default is right to 0.5 % at the scales of pixels, with no Monte Carlo error."""
    figures = run("gaussian_samplers", shared, tmp_path)
    for row in figures["samplers"].values():
        assert row["off_target"] == []
    default = figures["samplers"]["eps, 12 evaluations"]
    assert abs(default["power_by_band"]["value"][-1] - 1) < 0.005
    assert max(default["bias"].values()) < 1e-3
    controls = figures["controls"]
    assert controls.pop("the same path, exact denoiser")["off_target"] == []
    for row in controls.values():
        assert row["off_target"]


@pytest.mark.release
def test_halo_posterior(tmp_path):
    """The mean of eps and gibbs within its target to 4 standard errors; controls lose haloes."""
    rows = run("halo_posterior", tmp_path, tmp_path)["samplers"]
    for name, row in rows.items():
        control = name.startswith(("Gaussian", "convolved"))
        gap, bias = row["square_gap"], row["no_halo_bias"]
        if control:
            assert bias["value"] > 3 * bias["standard_error"]
        else:
            assert gap["value"] < 0.05**2 + 4 * gap["standard_error"]
            assert abs(bias["value"]) < 0.02 + 4 * bias["standard_error"]


@pytest.mark.release
def test_gan_ablation(tmp_path):
    """Samples are spread about as much as they err with the reward, and hardly without."""
    rows = run("gan_ablation", tmp_path, tmp_path)["variants"]
    with_reward, without = (rows[name]["spread_over_error"]["value"] for name in rows)
    assert 0.6 < with_reward < 1.5 and without < 0.3
    assert (tmp_path / "gan_ablation.png").stat().st_size > 10_000


@pytest.mark.release
def test_closed_loops(tmp_path):
    """Loops tell the network from a gradient, the Gaussian score from none; Simpson's error and
    rounding are far less than what they tell."""
    for row in run("closed_loops", tmp_path, tmp_path)["by_level"].values():
        circulation = row["circulation"]["rms"]
        assert row["circulation_of_gaussian_score"]["rms"] < 0.01 * circulation
        assert row["change_with_twice_the_nodes"]["rms"] < 0.2 * circulation
        assert circulation < row["side_of_the_network"]["rms"]


@pytest.mark.release
def test_prior_chains(tmp_path):
    """Above sigma = 0.3 chains have the power of the prior with noise, within 5 standard errors (of
    so many Gaussian modes) and the 10 % by which long steps miss. The power of the level before,
    the control, does not pass."""
    figures = run("prior_chains", tmp_path, tmp_path)
    wave = np.abs(np.fft.fftfreq(64)[:, None] + 1j * np.fft.fftfreq(64))
    modes, _ = np.histogram(wave, (0.001, 0.05, 0.15, 0.3, 0.8))
    for rows in figures["power_over_expected"]["64"].values():
        for row in rows:
            ratio = np.array(row["ratio_by_band"])
            limit = 0.1 + 5 * np.sqrt(2 / (modes * row["chains"]))
            assert np.all(np.abs(ratio - 1) < limit)
            assert not np.all(np.abs(ratio / 0.9**2 - 1) < limit)
    assert figures["slope_of_log_density"]["0.2"]["mean"][1] < 0
    assert (tmp_path / "prior_chains.png").stat().st_size > 10_000


@pytest.mark.release
def test_annealed_hmc(tmp_path):
    """Variances by band within 5 standard errors (32 chains) and what the floor costs of exact."""
    figures = run("annealed_hmc", tmp_path, tmp_path)
    for row in figures["chains"].values():
        assert row["finished"] == row["num_chains"]
        values, errors = row["variance_by_band"], row["standard_error_by_band"]
        for value, error in zip(values, errors, strict=True):
            assert abs(value - 1) < 5 * error + 0.03
        assert row["rms_bias"] < 1.2 * row["rms_bias_of_independent_draws"]
    for row in figures["equilibrium"].values():
        assert min(row["variance_by_band"]) > 0.97


@pytest.mark.release
def test_posterior(shared, tmp_path):
    """On the benchmark and on COSMOS: spread of the size of the error, residuals of the size of the
    noise, clusters where X-rays show them."""
    figures = run("posterior", shared, tmp_path)
    mean = figures["table1"]["mean_of_samples"]
    assert 0.8 < mean["std_over_error"] < 1.2 and abs(mean["chi2_per_pixel"] - 1) < 0.05
    one_shot = figures["table1"]["one_shot"]
    assert one_shot["rmse_C"] < 2.231e-2 < mean["rmse_C"]  # 4 samples make a noisy mean
    cosmos = figures["cosmos"]
    assert abs(cosmos["diagnostics"]["chi2_per_pixel"] - 1) < 0.05
    assert cosmos["clusters"]["e_mode_excess_sigma"] > 3
    assert figures["cost"]["evaluations_per_sample"] <= 12


@pytest.mark.release
def test_calibration_of_the_shipped_default(shared, tmp_path):
    """Three fields tell little: figures are there, of the same fields, and the controls' too; and
    what is told of all skies together is told of the kept ones."""
    figures = run("calibration", shared, tmp_path)
    for name in ("wiener", "dlposterior"):
        row = figures[name]["lines"]["std/error, observed"]
        assert 0.8 < row["value"] < 1.2
        assert (tmp_path / f"calibration_{name}.png").stat().st_size > 20_000
    skies = run("sky_response", shared, tmp_path)
    assert_as_full("sky_response", skies, tmp_path)
    assert skies["dlposterior"]["num_skies"] == 3 and skies["weights"] == figures["weights"]


@pytest.mark.release
def test_estimators(shared, tmp_path):
    """Two fields: the sparse solutions are optimal, and nothing is worse than it should be."""
    figures = run("estimators", shared, tmp_path)
    simulated = figures["simulated"]
    assert simulated["mcalens"]["worst_optimality_residual"] <= 1e-3
    assert simulated["mcalens"]["rmse_ratio"] < 1.01 < simulated["ks"]["rmse_ratio"]
    assert simulated["deepmass"]["rmse_ratio"] < 1
    assert (tmp_path / "estimators_g1.png").stat().st_size > 100_000


@pytest.mark.release
def test_remy_figures(shared, tmp_path):
    """The learned denoiser beats the Gaussian one, and the data end at ell = 1e4, as published."""
    figures = run("remy_figures", shared, tmp_path)
    errors = figures["figure_3"]
    assert errors["rms_learned"] < errors["rms_Gaussian"] < errors["rms_of_truth"]
    assert abs(figures["figure_E1"]["as the paper counts"]["ell_of_0.1"] / 1e4 - 1) < 0.1
    for name in ("remy_fig3", "remy_fig4", "remy_figE1"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


@pytest.mark.release
def test_number_of_samples(shared, tmp_path):
    """The error of a mean falls with its samples as it does for samples like the truth."""
    rows = run("number_of_samples", shared, tmp_path)["by_number"]
    for row in rows:
        assert abs(row["rmse"] - row["ideal"]) < 4 * row["rmse_error"]
    assert rows[0]["rmse"] - rows[-1]["rmse"] > 4 * rows[0]["rmse_error"]
    assert (tmp_path / "number_of_samples.png").stat().st_size > 20_000


@pytest.mark.release
def test_ho_figures(tmp_path):
    """Losses on held-out clusters fall, and are below the spread of the masses."""
    figures = run("ho_figures", tmp_path, tmp_path)
    for name in ("cnn1d", "cnn2d"):
        losses = figures[name]["validation_loss"]
        assert losses[-1] < losses[0] and losses[-1] < 1 / 12  # of masses spread evenly
    assert (tmp_path / "ho_figures.png").stat().st_size > 20_000
