"""Quick runs of the experiments that take small simulations: they tell what full runs tell."""

import numpy as np
import pytest
from experimentruns import assert_as_full, finite, run

pytestmark = pytest.mark.release


@pytest.mark.parametrize(
    "name", ["gaussian_training", "scaling", "score_toys", "denoiser", "sampler_agreement"]
)
def test_same_figures_as_full_runs(shared, tmp_path, name):
    """Nothing here is judged but names, numbers and pictures."""
    assert_as_full(name, run(name, shared, tmp_path), tmp_path)


def test_cluster_detection(shared, tmp_path):
    """Massive haloes are found in most samples, and no halo in few; so says the true sky."""
    figures = run("cluster_detection", shared, tmp_path)
    assert_as_full("cluster_detection", figures, tmp_path)
    nothing, *_, massive = figures["eps"]["by_mass"]
    assert nothing["truth_3_sigma"] == 0 and massive["truth_3_sigma"] == 1
    assert nothing["3_sigma"][0] < 0.4 and massive["3_sigma"][0] > 0.8
    assert (tmp_path / "cluster_detection_stamps.png").stat().st_size > 20_000


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


def test_published_prior(tmp_path):
    """The shipped network beats the Gaussian prior; after four steps neither of the others does."""
    figures = run("published_prior", tmp_path, tmp_path)
    assert_as_full("published_prior", figures, tmp_path)
    ratios = {name: row["ratio"]["0.1"]["ratio"] for name, row in figures["rows"].items()}
    shipped = ratios.pop("our network, as shipped")
    assert shipped < 0.95 and all(ratio > shipped for ratio in ratios.values())


def test_training_rim(tmp_path):
    """The shear of a cut is wrong at its edge, and the less so the further from it."""
    figures = run("training_rim", tmp_path, tmp_path)
    assert_as_full("training_rim", figures, tmp_path)
    profile = list(figures["error_over_shear_by_distance_arcmin"].values())
    assert profile == sorted(profile, reverse=True)
    assert profile[0] > 0.5 and profile[-1] < 0.2
    for by_rim in figures["loss_ratio_by_rim_arcmin"].values():
        assert all(abs(row["ratio"] - 1) < 0.02 + 5 * row["error"] for row in by_rim.values())


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


def test_field_sizes(shared, tmp_path):
    """Slopes of the truth on the denoised map and on the Wiener filter's are 1, within five
    jackknife errors; those of maps too small by a fifth are not."""
    figures = run("field_sizes", shared, tmp_path)
    assert finite(figures)
    for by_kind in figures["by_side"].values():
        for by_level in (by_kind["prior"], by_kind["data"]):
            for row in by_level.values():
                for slopes in row.values():
                    slope, error = np.array(slopes["slope"]), np.array(slopes["error"])
                    assert np.all(np.abs(slope - 1) < 5 * error)
                    assert np.any(np.abs(1.2 * slope - 1) > 5 * error)
    assert (tmp_path / "field_sizes.png").stat().st_size > 10_000


def test_hong(tmp_path):
    """Three clusters of simulated maps: the network's maps are nearer to the truth than those of
    Kaiser-Squires, and stars before the cluster cost it some."""
    pytest.importorskip("photutils")
    figures = run("hong", tmp_path, tmp_path)
    assert_as_full("hong", figures, tmp_path)
    (cnn,) = figures["weights"]
    clear, stars = (
        {name: row["correlation"][0] for name, row in figures[kind].items()}
        for kind in ("clear", "stars")
    )
    assert clear[cnn] > clear["ks"] + 0.1 and clear[cnn] > stars[cnn]
