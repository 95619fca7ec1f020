"""Quick runs of the experiments that take small simulations: they tell what full runs tell."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from experimentruns import SCRIPTS, assert_as_full, finite, run

from jaxmap.cli import build_parser
from jaxmap.dynamics.model_files import SHIPPED, read_model, shipped_model


@pytest.mark.release
@pytest.mark.parametrize(
    "name",
    ["gaussian_training", "scaling", "score_toys", "denoiser", "sampler_agreement", "halo_fits"],
)
def test_same_figures_as_full_runs(shared, tmp_path, name):
    """Nothing here is judged but names, numbers and pictures."""
    assert_as_full(name, run(name, shared, tmp_path), tmp_path)


@pytest.mark.release
def test_cluster_detection(shared, tmp_path):
    """Massive haloes are found in most samples, and no halo in few; so says the true sky."""
    figures = run("cluster_detection", shared, tmp_path)
    assert_as_full("cluster_detection", figures, tmp_path)
    nothing, *_, massive = figures["eps"]["by_mass"]
    assert nothing["truth_3_sigma"] == 0 and massive["truth_3_sigma"] == 1
    assert nothing["3_sigma"][0] < 0.4 and massive["3_sigma"][0] > 0.8
    assert (tmp_path / "cluster_detection_stamps.png").stat().st_size > 20_000


@pytest.mark.release
def test_integrator(shared, tmp_path):
    """The error falls with the levels, and with four times as many, the control, is next to 0."""
    figures = run("integrator", shared, tmp_path)
    assert_as_full("integrator", figures, tmp_path)
    off = {n: max(row["square_of_difference"]) for n, row in figures["by_levels"].items()}
    assert off["6"] > off["9"] > off["11"] > off["18"] > 0
    assert off["36"] < off["9"] / 30


@pytest.mark.release
def test_spectral_gain(shared, tmp_path):
    """Without the gain the overlap at low noise is further from none, as in the full run."""
    figures = run("spectral_gain", shared, tmp_path)
    assert_as_full("spectral_gain", figures, tmp_path)
    kept, without = (figures["overlap"][name]["even, 0.032"] for name in ("with gain", "without"))
    assert abs(kept[2]["value"]) < abs(without[2]["value"])
    assert (tmp_path / "spectral_gain.png").stat().st_size > 20_000


@pytest.mark.release
def test_diffusion_start(shared, tmp_path):
    """About the Wiener mean the denoiser's answers are further from those for true skies."""
    figures = run("diffusion_start", shared, tmp_path)
    assert_as_full("diffusion_start", figures, tmp_path)
    off = {
        name: np.mean(np.abs(np.array(row["value"]) - 1))
        for name, row in figures["denoiser_over_ideal"].items()
    }
    assert all(off[f"the learned mean, s = {s}"] < off[f"the Wiener mean, s = {s}"] for s in (1, 3))


@pytest.mark.release
def test_shear_power(shared, tmp_path):
    """Skies of the prior have its power, far from what is left of them with a wrong sign."""
    figures = run("shear_power", shared, tmp_path)
    assert_as_full("shear_power", figures, tmp_path)
    right, wrong = figures["ratio"][0], figures["ratio_flipped"][0]
    assert abs(right - 1) < 3 * figures["quoted_error"] and wrong < right - 0.5


@pytest.mark.release
def test_dynamics(shared, tmp_path):
    """M-sigma of clusters without interlopers has the slope of virialised haloes, 1/3; interlopers
    flatten it, and make it the worst of all methods."""
    figures = run("dynamics", shared, tmp_path)
    assert_as_full("dynamics", figures, tmp_path)
    slopes = {view: row["with_hz"] for view, row in figures["table1"].items()}
    off = {v: (row["alpha"] - 0.335) / row["alpha_std"] for v, row in slopes.items()}
    assert abs(off["pure"]) < 4 and off["contaminated"] < -4
    scatter = {name: row["scatter"] for name, row in figures["table2"].items()}
    assert max(scatter, key=lambda name: scatter[name]) == "m_sigma_contaminated"
    assert (tmp_path / "dynamics.md").read_text().count("|") > 100


@pytest.mark.release
def test_published_prior(tmp_path):
    """The shipped network beats the Gaussian prior; after four steps neither of the others does."""
    figures = run("published_prior", tmp_path, tmp_path)
    assert_as_full("published_prior", figures, tmp_path)
    ratios = {name: row["ratio"]["0.1"]["ratio"] for name, row in figures["rows"].items()}
    shipped = ratios.pop("our network, as shipped")
    assert shipped < 0.95 and all(ratio > shipped for ratio in ratios.values())


@pytest.mark.release
def test_training_rim(tmp_path):
    """The shear of a cut is wrong at its edge, and the less so the further from it."""
    figures = run("training_rim", tmp_path, tmp_path)
    assert_as_full("training_rim", figures, tmp_path)
    profile = list(figures["error_over_shear_by_distance_arcmin"].values())
    assert profile == sorted(profile, reverse=True)
    assert profile[0] > 0.5 and profile[-1] < 0.2
    for by_rim in figures["loss_ratio_by_rim_arcmin"].values():
        assert all(abs(row["ratio"] - 1) < 0.02 + 5 * row["error"] for row in by_rim.values())


@pytest.mark.release
def test_particle_mesh(tmp_path):
    """The halo model has the power of the theory, within five of its errors; coarse particles,
    the control, lack the small scales."""
    pytest.importorskip("jaxpm")
    figures = run("particle_mesh", tmp_path, tmp_path)
    assert_as_full("particle_mesh", figures, tmp_path)
    far = {
        name: np.abs(np.array(row["over_theory"]) - 1) / np.array(row["standard_error"])
        for name, row in figures["maps"].items()
        if name != "ell_edges"
    }
    assert far["halo_model"].max() < 5 < far["particle_mesh"][-1]
    planes = figures["planes"]["power_over_halofit"]
    assert planes[-1] < 0.8 < planes[1] < 1.2


@pytest.mark.release
def test_field_sizes(shared, tmp_path):
    """Slopes of the truth on the Wiener filter's map are 1, within five jackknife errors; in little
    noise those of maps too small by a fifth, the control, are not. Those of the denoiser are what
    is measured: on small fields they are not 1."""
    figures = run("field_sizes", shared, tmp_path)
    assert_as_full("field_sizes", figures, tmp_path)
    for by_kind in figures["by_side"].values():
        for kind in ("prior", "data"):
            for level, row in by_kind[kind].items():
                slope, error = (np.array(row["wiener"][name]) for name in ("slope", "error"))
                assert np.all(np.abs(slope - 1) < 5 * error)
                assert float(level) > 0.05 or np.all(np.abs(1.2 * slope - 1) > 5 * error)


@pytest.fixture(scope="module")
def cluster_fields(tmp_path_factory):
    """Where the scripts on fields about clusters find the simulated maps of one another."""
    pytest.importorskip("photutils")
    return tmp_path_factory.mktemp("clusters")


@pytest.mark.release
def test_hong(cluster_fields):
    """Three clusters of simulated maps: Kaiser-Squires smoothes half of their masses away, the
    network does not, and stars before the cluster cost it some; as on 200."""
    figures = run("hong", cluster_fields, cluster_fields)
    assert_as_full("hong", figures, cluster_fields)
    (cnn,) = figures["weights"]
    clear, stars = (
        {name: row["mass_ratio"]["median"] for name, row in figures[kind].items()}
        for kind in ("clear", "stars")
    )
    assert clear["ks"] < 0.6 and clear[cnn] > clear["ks"] + 0.2 and clear[cnn] > stars[cnn]
    assert (cluster_fields / "hong_maps.png").stat().st_size > 20_000


@pytest.mark.release
def test_hong_figures(cluster_fields):
    """The truth is like itself; of its heights the network keeps more than Kaiser-Squires."""
    figures = run("hong_figures", cluster_fields, cluster_fields)
    assert_as_full("hong_figures", figures, cluster_fields)
    assert figures["truth"]["correlation"][0] == figures["truth"]["high"][0] == pytest.approx(1)
    (ks, error), (cnn, other_error) = (figures[name]["high"] for name in ("ks", "cnn"))
    assert cnn - ks > 3 * np.hypot(error, other_error)


@pytest.mark.release
def test_hong_checks(cluster_fields):
    """Kaiser-Squires finds no mass in empty fields, and less than the network on two haloes."""
    figures = run("hong_checks", cluster_fields, cluster_fields)
    assert_as_full("hong_checks", figures, cluster_fields)
    mean, error = figures["null_test"]["ks"]["mean_and_error_by_offset"]["0.0"]
    assert abs(mean) < 5 * error
    merger = figures["el_gordo_like"]
    assert merger["ks"]["highest"] < 0.5 * merger["cnn"]["highest"]
    assert merger["cnn"]["highest"] < 1.5 * merger["truth"]["highest"]
    assert (cluster_fields / "hong_el_gordo.png").stat().st_size > 20_000


@pytest.mark.release
def test_hong_samples(cluster_fields):
    """Two fields, four samples of each: samples hold some of the masses, and differ."""
    figures = run("hong_samples", cluster_fields, cluster_fields)
    assert finite(figures)
    for kind in ("clear", "stars"):
        low, median, high = figures[kind]["mass_ratio"]
        assert 0.1 < low <= median <= high < 1.5
        assert figures[kind]["mass"]["quoted"] > 0
    assert (cluster_fields / "hong_samples.png").stat().st_size > 10_000


@pytest.mark.slow
def test_full_runs_on_clusters_say_how_to_make_their_maps(tmp_path):
    """Without maps a full run ends with the command, which ``jaxmap`` knows."""
    command = [sys.executable, str(SCRIPTS / "hong_figures.py"), "--out", str(tmp_path)]
    command += ["--maps", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    words = shlex.split(done.stderr.strip().splitlines()[-1])
    options = build_parser().parse_args(words[1:])
    assert words[0] == "jaxmap" and Path(options.out) == tmp_path / "none"


@pytest.mark.release
def test_hong_runs(cluster_fields, tmp_path):
    """Two trainings of two steps with other seeds are two runs of one network for ``hong.py``."""
    command = [sys.executable, str(SCRIPTS / "hong_runs.py"), "--quick"]
    subprocess.run([*command, "--runs", str(cluster_fields)], check=True, capture_output=True)
    flags = ["--methods", "ks,cnn", "--maps", str(cluster_fields / "maps")]
    flags += ["--weights", str(cluster_fields / "seed-*" / "hong.npz")]
    figures = run("hong", tmp_path, tmp_path, *flags)
    assert [len(of) for of in figures["weights"].values()] == [2]
    for kind in ("clear", "stars"):
        (of_runs,) = (row["runs"] for name, row in figures[kind].items() if name != "ks")
        assert of_runs["number"] == 2 and finite(of_runs)
        assert of_runs["mean_and_std"]["correlation"][1] > 0


@pytest.mark.release
def test_cluster_weights(tmp_path):
    """All shipped estimators are made; M-sigma of 600 clusters is that of 11 600 to 5 errors."""
    command = [sys.executable, str(SCRIPTS / "cluster_weights.py"), "--quick"]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, capture_output=True)
    made = {name: read_model(tmp_path / f"{name}.npz") for name in SHIPPED}
    for name in ("m_sigma_pure", "m_sigma_contaminated"):
        assert abs(made[name].alpha - shipped_model(name).alpha) < 5 * made[name].alpha_std
    pure, contaminated = made["m_sigma_pure"], made["m_sigma_contaminated"]
    assert pure.alpha - contaminated.alpha > 5 * pure.alpha_std


@pytest.mark.release
@pytest.mark.parametrize("name", ["training_memory", "map_memory"])
def test_memory(tmp_path, name):
    """Every process tells what it took."""
    figures = run(name, tmp_path, tmp_path)
    assert_as_full(name, figures, tmp_path)
    rows = figures["kinds"].values() if name == "training_memory" else figures["fields"]
    assert all(row["measured_mib"] > 0 for row in rows)


@pytest.mark.release
def test_bihalofit(tmp_path):
    """Coarser integrals are within 5 % of those of the results; halving them would show."""
    pytest.importorskip("pyccl")
    figures = run("bihalofit", tmp_path, tmp_path)
    assert_as_full("bihalofit", figures, tmp_path)
    full = json.loads((SCRIPTS / "results" / "bihalofit.json").read_text())
    for name in ("sky_dark_matter", "sky_with_baryons", "maps_dark_matter", "maps_with_baryons"):
        for arcmin, skewness in full[name]["skewness"].items():
            assert figures[name]["skewness"][arcmin] == pytest.approx(skewness, rel=0.05)


@pytest.mark.release
def test_wider_network(tmp_path):
    """The shipped network against itself: the same figures but for the size that is counted."""
    figures = run("wider_network", tmp_path, tmp_path)
    assert_as_full("wider_network", figures, tmp_path)
    shipped, again = figures["shipped"], figures["wider"]
    assert again["gflop_360"] > 1.4 * shipped["gflop_360"]
    for name in ("training", "white_noise", "calibration", "table1"):
        assert again[name] == shipped[name]


@pytest.mark.slow
def test_covered(tmp_path):
    """Shares of two made-up files, one of them in a folder of the package."""
    counts = {"num_statements": 4, "covered_lines": 3, "num_branches": 0, "covered_branches": 0}
    files = {
        "jaxmap/grid.py": {"summary": counts},
        "jaxmap/sampling/hmc.py": {"summary": counts | {"covered_lines": 1, "num_branches": 2}},
    }
    found = tmp_path / "coverage.json"
    found.write_text(json.dumps({"meta": {"version": "7", "timestamp": "now"}, "files": files}))
    figures = run("covered", tmp_path, tmp_path, "--found", str(found))
    assert_as_full("covered", figures, tmp_path)
    shares = {part: (row["lines"], row["branches"]) for part, row in figures["parts"].items()}
    assert shares == {"jaxmap": (0.75, None), "jaxmap/sampling": (0.25, 0.0), "all": (0.5, 0.0)}


@pytest.mark.release
def test_mutation(tmp_path):
    """One mutant of the operators, noticed by their tests or told with its line."""
    pytest.importorskip("cosmic_ray")
    figures = run("mutation", tmp_path, tmp_path)
    assert_as_full("mutation", figures, tmp_path)
    row = figures["modules"]["operators.py"]
    assert row["tried"] == 1 and len(row["survivors"]) <= 1 and row["possible"] > 50
