"""The README's code runs; its figures and the documentation's are those of the experiments."""

import importlib.util
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import jaxmap
from jaxmap.denoiser_files import read_denoiser
from jaxmap.training.settings import SimulatedMaps, training_from

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "explanation" / "how_good.md").read_text()
TEXT = README + PAGE


def test_ten_lines_of_python(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    rng = np.random.default_rng(0)
    table = Table(
        {
            "ra": 150 + rng.uniform(-0.2, 0.2, 4000),
            "dec": 2 + rng.uniform(-0.2, 0.2, 4000),
            "e1": 0.25 * rng.normal(size=4000),
            "e2": 0.25 * rng.normal(size=4000),
        }
    )
    (tmp_path / "jaxmap-demo").mkdir()
    table.write(tmp_path / "jaxmap-demo" / "catalog.fits")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(50, ")
    assert (tmp_path / "mass_map.fits").exists() and (tmp_path / "mass_map.png").exists()


def test_benchmark_table():
    methods = json.loads((ROOT / "experiments/results/table1.json").read_text())["methods"]
    for name, label in (("ks", "Kaiser-Squires"), ("wiener", "Wiener filter")):
        (row,) = (line for line in README.splitlines() if line.startswith(f"| {label}"))
        for metric in "AC":
            rmse, r = methods[name][f"rmse_{metric}"], methods[name][f"r_{metric}"]
            assert f"{rmse * 100:.3f}e-2, {r:.3f}" in row


def test_scatter_between_noise_draws():
    draws = json.loads((ROOT / "experiments/results/table1.json").read_text())["noise_draws"]
    wiener, paired = draws["wiener"], draws["wiener_minus_ks"]
    root = paired["num_draws"] ** 0.5
    assert (
        f"Over {wiener['num_draws']} other draws the Wiener filter scatters by "
        f"{wiener['rmse_C_std'] * 100:.3f}e-2 in RMSE and {wiener['r_C_std']:.3f} in r"
    ) in TEXT
    assert (
        f"{-paired['rmse_C_mean'] * 100:.3f}e-2 ± {paired['rmse_C_std'] / root * 100:.3f}e-2 and "
        f"{paired['r_C_mean']:.3f} ± {paired['r_C_std'] / root:.3f}"
    ) in TEXT


def test_calibration_and_edges():
    folder = ROOT / "experiments/results"
    calibration = json.loads((folder / "gaussian_calibration.json").read_text())
    for name in ("std_observed_ratio", "std_masked_ratio"):
        assert abs(calibration[name]["value"] - 1) < 0.001
    power = calibration["band_power_ratio"]
    assert max(power["standard_error"]) < 0.012
    for value, error in zip(power["value"], power["standard_error"], strict=True):
        assert abs(value - 1) < 3 * error
    edges = json.loads((folder / "edges.json").read_text())
    for by_margin in edges["by_margin"].values():
        at = by_margin[str(edges["default_margin"])]
        assert at["edge_over_interior_rms"]["value"] < 1.04
        largest = at["largest_modes_std_over_error"]
        assert abs(largest["value"] - 1) < 2 * largest["standard_error"]


def test_solvers():
    path = ROOT / "experiments/benchmarks/results/wiener_solvers.json"
    rows = {
        row["solver"]: row
        for row in json.loads(path.read_text())["rows"]
        if row["target_error"] == 1e-4
    }
    messenger = rows["messenger"]
    assert (
        f"in {rows['conjugate gradients']['iterations']} steps, the messenger field in "
        f"{messenger['iterations']} and "
        f"{messenger['time_over_conjugate_gradients']['median']:.0f} times the time"
    ) in TEXT


def test_surveys():
    rows = json.loads((ROOT / "experiments/benchmarks/results/survey.json").read_text())["rows"]
    memory = [row["worker_peak_mib"] for row in rows if row["method"] == "ks"]
    areas = [row["deg2"] for row in rows if row["method"] == "ks"]
    one, two = (
        [
            row["patches_per_hour"]
            for row in rows
            if (row["method"], row["workers"]) == ("wiener", n)
        ]
        for n in (1, 2)
    )
    gains = sorted(b / a for a, b in zip(one, two, strict=True))
    assert (
        f"({min(memory):.0f} to {max(memory):.0f} MiB a worker from {min(areas)} to {max(areas)} "
        f"square degrees), two workers on two cores do {gains[0]:.1f} to {gains[-1]:.1f} times"
    ) in TEXT


def test_training_page_can_be_typed():
    """The configurations of the page are read, with its file of maps and n(z)."""
    page = (ROOT / "docs" / "howto" / "training.md").read_text()
    whole, of_maps = re.findall(r"```toml\n(.*?)```", page, re.S)
    settings = training_from(tomllib.loads(whole))
    assert settings.source == SimulatedMaps(0.5, nz="my_nz.csv")
    given = training_from(tomllib.loads(whole) | tomllib.loads(of_maps)).source
    assert re.search(given.realisation, "maps/cone12/map.npy")[1] == "12"


def test_tables_agree():
    """The tables of the README are those of the documentation, to the letter."""
    tables = [line for line in README.splitlines() if line.startswith("| ")]
    assert len(tables) > 10 and set(tables) <= set(PAGE.splitlines())


def test_papers_index_is_made_anew():
    """`experiments/README.md` says what the results say."""
    done = subprocess.run([sys.executable, ROOT / "experiments" / "index.py", "--check"])
    assert done.returncode == 0, "run python experiments/index.py"


def test_share_of_mutants_tried():
    modules = json.loads((ROOT / "experiments/results/mutation.json").read_text())["modules"]
    tried, possible = (sum(row[n] for row in modules.values()) for n in ("tried", "possible"))
    survived = sum(len(row["survivors"]) for row in modules.values())
    assert (
        f"{tried} of {possible} possible ones ({tried / possible:.1%}) were tried, {survived} "
        "survived"
    ).replace("%", " %") in (ROOT / "experiments" / "README.md").read_text()


def test_learned_mean():
    figures = json.loads((ROOT / "experiments/results/denoiser.json").read_text())
    (row,) = (line for line in README.splitlines() if line.startswith("| Learned posterior mean"))
    for metric in "AC":
        rmse, r = (figures["table1"]["deepmass"][f"{name}_{metric}"] for name in ("rmse", "r"))
        assert f"{rmse * 100:.3f}e-2, {r:.3f}" in row
    for name in ("cosmos", "noise x 0.5", "noise x 2"):
        survey = figures["surveys"][name]
        assert f"{survey['rmse_ratio']:.3f} ± {survey['rmse_ratio_error']:.3f}" in TEXT
    cosmos = figures["surveys"]["cosmos"]
    assert f"On {cosmos['num']} simulated fields" in TEXT
    assert f"error estimate is {cosmos['std_over_error']:.2f} of the actual error" in TEXT
    assert f"{figures['training']['seconds'] / 60:.0f} minutes" in TEXT


def test_reference_is_complete(monkeypatch):
    """Every public name's module is in the reference, and every module there exists."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    made = runpy.run_path(str(ROOT / "docs" / "made.py"))
    modules = {f"jaxmap.{name}" for group in made["REFERENCE"].values() for name in group}
    for name in modules:
        assert importlib.util.find_spec(name), name
    for name in jaxmap.__all__:
        home = getattr(jaxmap, name).__module__
        assert home in modules or not home.startswith("jaxmap"), name


def with_error(found: dict[str, float], digits: int = 3) -> str:
    return f"{found['value']:.{digits}f} ± {found['error']:.{digits}f}"


def test_posterior_samples():
    figures = json.loads((ROOT / "experiments/results/posterior.json").read_text())
    assert not figures["quick"]
    mean = figures["table1"]["mean_of_samples"]
    label = f"| Mean of {figures['num_samples']} posterior samples"
    (row,) = (line for line in README.splitlines() if line.startswith(label))
    for metric in "AC":
        assert f"{mean[f'rmse_{metric}'] * 100:.3f}e-2, {mean[f'r_{metric}']:.3f}" in row
    assert f"spread is {mean['std_over_error']:.2f} of the actual error" in TEXT
    assert f"per observed component {mean['chi2_per_pixel']:.3f}" in TEXT
    evaluations = figures["cost"]["evaluations_per_sample"]
    assert f"{evaluations:.0f} evaluations of the network a sample" in TEXT
    assert figures["cost"]["evaluations_published_over_ours"] > 1e4


def test_calibration_of_the_samples():
    figures = json.loads((ROOT / "experiments/results/calibration.json").read_text())
    assert not figures["quick"]
    assert figures["weights"] == read_denoiser()[2]["sha256"], "run it for the weights shipped now"
    learned, gaussian = (figures[name]["lines"] for name in ("dlposterior", "wiener"))
    for name, label in (
        ("std/error, observed", "spread over error, observed"),
        ("std/error, masked", "spread over error, masked"),
        ("std/error, top 1 %", "spread over error, the 1 %"),
        ("peak height, samples/truth", "height of the highest peak"),
        ("skewness, samples/truth", "skewness"),
    ):
        (row,) = (line for line in README.splitlines() if line.startswith(f"| {label}"))
        assert f"{with_error(learned[name])} | {with_error(gaussian[name])}" in row
    (row,) = (line for line in README.splitlines() if line.startswith("| truth inside"))
    for lines in (learned, gaussian):
        levels = (f"{lines[f'pixels, observed: {n} %']['value']:.3f}" for n in (68, 90, 95))
        assert " / ".join(levels) in row
    for name in ("dlposterior", "wiener"):
        assert with_error(figures[name]["figures"]["rmse of mean / Wiener"]) in TEXT
    told = (
        f"On {figures['dlposterior']['num_fields']} simulated fields of {figures['side']}² pixels"
    )
    assert told in README and figures["dlposterior"]["num_fields"] >= 100
    assert f"({figures['dlposterior']['num_samples']} samples each" in README
    bands = ("207-492", "492-1168", "1168-2776", "2776-6596", "6596-15673", "15673-37241")
    *most, last = (with_error(learned[f"power, ell {band}, samples/truth"]) for band in bands)
    assert f"their power is {', '.join(most)} and {last} of the truth's in six bands" in PAGE
    assert {line["verdict"] for line in learned.values()} == {"pass"}, "what was asked is met"
    rmse = figures["dlposterior"]["figures"]["rmse of mean / Wiener"]["value"]
    one = json.loads((ROOT / "experiments/results/posterior.json").read_text())["table1"]
    mean = one["mean_of_samples"]
    assert f"of the Wiener filter's error, where it has {rmse:.3f}, and on the benchmark" in PAGE
    assert f"where it has {mean['rmse_C'] * 100:.3f}e-2 and {mean['r_C']:.3f};" in PAGE
    ranks = [name for name, line in learned.items() if "error" not in line]
    least = min(ranks, key=lambda name: learned[name]["value"])
    assert len(ranks) == 12 and least == "skewness"
    assert f"the least p of twelve is {learned[least]['value']:.4f}, that of skewness" in PAGE
    pixels, smoothed = (learned[f"TARP, {name}"]["value"] for name in ("pixels", "smoothed"))
    assert f"pixel by pixel (TARP: off by {pixels:.3f}, where chance" in PAGE
    assert f"and on maps smoothed by 1′ ({smoothed:.3f})" in PAGE
    folder = ROOT / "experiments/results"
    overlap = json.loads((folder / "spectral_gain.json").read_text())["overlap"]
    right, trained = (overlap[name]["COSMOS, 0.256"][3] for name in ("with gain", "without"))
    told = f"{with_error(right, 4)} at ℓ 2776 to 6596 ({with_error(trained, 4)} as trained)"
    assert f"state of noise 0.256, the overlap of error and map (below) is {told}" in PAGE


def test_calibration_on_skies_not_looked_at():
    figures = json.loads((ROOT / "experiments/results/calibration_seed_5.json").read_text())
    assert figures["weights"] == read_denoiser()[2]["sha256"] and figures["seed"] == 5
    learned = figures["dlposterior"]
    lines = learned["lines"]
    assert learned["num_fields"] == 100 and figures["wiener"]["verdict"] == "fail"
    missed = {name for name, line in lines.items() if line["verdict"] != "pass"}
    assert missed == {"TARP, pixels", "TARP, smoothed"}, "every line but TARP"
    spread = [with_error(lines[f"std/error, {name}"]) for name in ("observed", "masked", "top 1 %")]
    assert "spread over error is {}, {} and {} in observed, masked".format(*spread) in PAGE
    *most, last = (
        with_error(line)
        for name, line in lines.items()
        if name.startswith("power") and name.endswith("samples/truth")
    )
    told = f"power {', '.join(most)} and {last}, skewness"
    told += f" {with_error(lines['skewness, samples/truth'])} and the height of peaks"
    assert f"{told} {with_error(lines['peak height, samples/truth'])} of the truth's" in PAGE
    mean = with_error(learned["figures"]["rmse of mean / Wiener"])
    assert f"and their mean has {mean} of the Wiener filter's error" in PAGE
    pixels, smoothed = (lines[f"TARP, {name}"]["value"] for name in ("pixels", "smoothed"))
    assert f"TARP is off by {pixels:.3f} pixel by pixel and {smoothed:.3f} on smoothed maps" in PAGE


def test_what_longer_training_gained():
    folder = ROOT / "experiments/results"
    stages = [json.loads((folder / f"denoiser{name}.json").read_text()) for name in ("_first", "")]
    ratios = [stage["surveys"]["cosmos"]["rmse_ratio"] for stage in stages]
    steps = [stage["training"]["steps"] for stage in stages]
    assert f"{ratios[0]:.4f} after {steps[0]} steps and {ratios[1]:.4f} after {steps[1]}" in TEXT
    white = [stage["prior"]["0.006"]["ratio"] for stage in stages]
    assert f"from {white[0]:.3f} to {white[1]:.3f} of the Wiener filter's" in TEXT


def test_table_of_estimators():
    figures = json.loads((ROOT / "experiments/results/estimators.json").read_text())
    assert not figures["quick"] and figures["fields"] >= 50
    labels = {
        "ksplus": "KS+",
        "glimpse": "GLIMPSE",
        "mcalens": "MCALens",
        "deepmass, one survey": "DeepMass as published",
        "gan": "Conditional GAN",
    }
    for name, label in labels.items():
        rows = [line for line in TEXT.splitlines() if line.startswith(f"| {label}")]
        lines = [line for line in rows if "e-2, " in line]
        assert lines
        for metric in "AC":
            rmse, r = (figures["table1"][name][f"{what}_{metric}"] for what in ("rmse", "r"))
            assert all(f"{rmse * 100:.3f}e-2, {r:.3f}" in line for line in lines)
    names = labels | {"ks": "Kaiser-Squires", "deepmass": "Learned mean"}
    names |= {"deepmass, one survey": "DeepMass, one survey"}
    _, table = PAGE.split("| on 50 simulated fields |")
    for name, row in figures["simulated"].items():
        if name == "wiener":
            continue
        (line,) = (one for one in table[:2000].splitlines() if one.startswith(f"| {names[name]}"))
        gain = f"{row['r_gain']:+.3f} ± {row['r_gain_error']:.3f}".replace("-", "−")
        ratio = f"{row['rmse_ratio']:.3f} ± {row['rmse_ratio_error']:.3f}"
        assert f"| {ratio} | {gain} | {row['seconds']:.2g} |" in line
    spread = figures["table1"]["gan"]["std_over_error"]
    assert f"spread over error {spread:.2f} on the benchmark" in TEXT
    freed, plain = (figures["table1"][name] for name in ("glimpse 3", "glimpse 3 plain"))
    assert (
        f"ours has {freed['rmse_A'] * 100:.2f}e-2, {freed['r_A']:.2f} in metric A with its "
        f"coefficients freed and {plain['rmse_A'] * 100:.2f}e-2, {plain['r_A']:.2f} without"
    ) in TEXT


@pytest.mark.skipif(
    not (ROOT / "experiments/results/dynamics.json").exists(), reason="dynamics.py was not run yet"
)
def test_why_the_contaminated_relation_is_flat():
    rows = json.loads((ROOT / "experiments/results/dynamics.json").read_text())["contaminated"]
    pure, cut, all_of_them, lower, published = (
        rows[name]
        for name in (
            "members",
            "members within the velocity cut",
            "all galaxies in the cylinder",
            "the same, fitted above 10^14",
            "published, contaminated",
        )
    )
    for words in (
        f"from {pure['alpha']:.3f} to {cut['alpha']:.3f}",
        f"from {pure['scatter']:.3f} to {cut['scatter']:.3f}",
        f"({all_of_them['alpha']:.3f}, {all_of_them['scatter']:.3f})",
        f"median {published['median']:.3f} and scatter {published['mass_scatter']:.3f}",
        f"slope {lower['alpha']:.3f}, median {lower['median']:.3f} and "
        f"scatter {lower['mass_scatter']:.3f}",
    ):
        assert words in PAGE


def test_masses_from_velocities():
    models = json.loads((ROOT / "experiments/results/dynamics_quick.json").read_text())["models"]
    labels = {
        "m_sigma_pure": "M-sigma, pure",
        "m_sigma_contaminated": "M-sigma, all",
        "sdm1d": "SDM1D",
        "sdm2d": "SDM2D",
        "cnn1d": "CNN1D",
        "cnn2d": "CNN2D",
    }
    assert models.keys() == labels.keys()
    for name, label in labels.items():
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {label}"))
        assert f"| {models[name]['scatter']:.3f} | {models[name]['median']:.3f} |" in row
