"""Noise samples, calibrated intervals and null tests from the command line."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from jaxmap import flags, plot
from jaxmap.catalog import shear_map
from jaxmap.cli import main
from jaxmap.conformal import read_conformal
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain, write_denoiser
from jaxmap.grid import Grid
from jaxmap.mapfiles import read_mass_map, write_shear_map
from jaxmap.networks.unet import ResidualUNet, initialise

MAP = ["--pixel-arcmin", "2", "--size", "20x18", "--margin", "3", "--null-tests", "0"]


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """They are most of the time of a small map, and of no matter here."""

    def missing(*arguments):
        raise ImportError("none")

    monkeypatch.setattr(plot, "plot_mass_map", missing)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    rng = np.random.default_rng(0)
    num = 3000
    path = tmp_path_factory.mktemp("survey") / "galaxies.fits"
    Table(
        {
            "ra": 150 + rng.uniform(-0.3, 0.3, num),
            "dec": 2 + rng.uniform(-0.3, 0.3, num),
            "e1": 0.25 * rng.normal(size=num).clip(-2.5, 2.5),
            "e2": 0.25 * rng.normal(size=num).clip(-2.5, 2.5),
        }
    ).write(path)
    return path


@pytest.fixture(scope="module")
def intervals(tmp_path_factory):
    """Made for Kaiser-Squires behind a survey like the catalogue's; also the arguments."""
    folder = tmp_path_factory.mktemp("calibration")
    grid = Grid((18, 20), 2.0)
    std = np.full(grid.shape, 0.25 / np.sqrt(3000 / 18**2))
    std[:2, :3] = 0
    write_shear_map(
        folder / "survey.fits", shear_map(np.zeros(grid.shape, complex), grid, noise_std=std)
    )
    command = ["calibrate", "--method", "ks", "--sky", "gaussian"]
    command += ["--mask-from", str(folder / "survey.fits"), "--out", str(folder / "fields")]
    target = folder / "bounds.npz"
    assert main([*command, "--num", "8", "--conformal", str(target), "-q"]) == 0
    return command, target


def test_intervals_from_simulations_to_a_map(catalog, intervals, tmp_path, capsys):
    """Goes on with more fields, another level costs nothing, and says what they cover."""
    command, target = intervals
    assert read_conformal(target).num_fields == 8
    wide = tmp_path / "wide.npz"
    flags_ = ["--num", "20", "--level", "0.9", "--conformal", str(wide)]
    assert main([*command, *flags_]) == 0
    said = capsys.readouterr().out
    assert "Intervals of 90% for ks, built on its std, from 20 fields." in said
    assert "Coverage of fields left out" in said and "as it was: " in said
    assert len(list((target.parent / "fields").glob("scores-*.npz"))) == 20
    bounds = read_conformal(wide)
    assert bounds.method == {"method": "ks", "smoothing_arcmin": 1.0}
    assert bounds.observed > read_conformal(target).observed > 1
    out = tmp_path / "out"
    arguments = ["map", str(catalog), "--method", "ks", *MAP, "--out", str(out)]
    assert main([*arguments, "--conformal", str(wide)]) == 0
    assert "hold the truth in 90% of the observed pixels" in capsys.readouterr().out
    result = read_mass_map(out / "mass_map.fits")
    assert result.diagnostics["conformal"]["calibration_fields"] == 20
    half = (result.upper - result.lower)[result.mask] / 2
    np.testing.assert_allclose(half, float(bounds.observed) * result.std[result.mask], rtol=1e-5)
    with fits.open(out / "mass_map.fits") as hdus:
        assert {"LOWER", "UPPER"} <= {hdu.name for hdu in hdus} and "Q16" not in hdus
    assert main(["map", "--config", str(out / "config.toml"), "--out", str(tmp_path / "2")]) == 0


def test_intervals_of_every_position(intervals, tmp_path):
    command, _ = intervals
    target = tmp_path / "placed.npz"
    assert main([*command, "--num", "8", "--per-pixel", "--conformal", str(target), "-q"]) == 0
    assert read_conformal(target).observed.shape == (18, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--method", "wiener", "--num-samples", "2"], "calibrated for method = ks"),
        (["--smoothing-arcmin", "2"], "calibrated for smoothing_arcmin = 1.0"),
        (["--noise-samples", "2"], "calibrated for noise_samples = None"),
        (["--pixel-arcmin", "2.5"], "pixels are 2.5 arcmin wide, and were 2 in the calibration"),
        (["--shape-noise", "0.5"], "calibrate on surveys as deep as this one"),
        (["--conformal", "none.npz"], "there is no file none.npz"),
        (["--conformal", "catalog"], "is not a whole file of jaxmap conformal intervals"),
    ],
)
def test_intervals_of_something_else_are_refused(
    catalog, intervals, tmp_path, capsys, change, message
):
    change = [str(catalog) if word == "catalog" else word for word in change]
    arguments = ["map", str(catalog), "--method", "ks", *MAP, "--conformal", str(intervals[1])]
    assert main([*arguments, *change, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--num", "8", "--level", "1.2"], "the level is 1.2; expected a number between 0 and 1"),
        (["--num", "8", "--level", "0.9"], "number of fields is 8; expected at least 9"),
        (["--num", "8", "--conformal", "bounds.fits"], "expected a file ending in .npz"),
        (["--num", "8", "--smoothing-arcmin", "3"], "made with smoothing_arcmin = 1.0, not 3.0"),
        (["--mask-from=", "--per-pixel", "--size", "20"], "expected a survey's own mask"),
    ],
)
def test_calibrations_that_cannot_be(intervals, capsys, change, message):
    command, target = intervals
    assert main([*command, "--conformal", str(target), *change]) == 2
    assert message in capsys.readouterr().err


def test_samples_are_judged_only_where_there_are_some(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["calibrate", "--method", "ks", *out]) == 2
    assert "or intervals for any method (--conformal FILE.npz)" in capsys.readouterr().err
    assert main(["calibrate", "--sampler", "map", *out]) == 2


@pytest.mark.parametrize("noise", flags.NOISES)
def test_noise_samples_of_a_point_estimator(catalog, tmp_path, capsys, noise):
    """About the std that Kaiser-Squires propagates (12 samples: 21 % each pixel, 3 % their rms)."""
    common = ["map", str(catalog), "--method", "ks", "--smoothing-arcmin", "3", *MAP]
    flags_ = ["--noise-samples", "12", "--noise", noise]
    assert main([*common, "--out", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    assert main([*common, *flags_, "--out", str(tmp_path / "b")]) == 0
    assert "noise 0." in (said := capsys.readouterr().out) and "of 12 realisations" in said
    exact, found = (read_mass_map(tmp_path / name / "mass_map.fits") for name in "ab")
    np.testing.assert_array_equal(exact.convergence, found.convergence)
    assert np.mean(found.std**2) / np.mean(exact.std**2) == pytest.approx(1, abs=0.3)
    assert found.diagnostics["noise"] == noise
    assert np.any(found.std != exact.std)


def test_noise_samples_of_a_sampler_are_refused(catalog, tmp_path, capsys):
    arguments = ["map", str(catalog), *MAP, "--num-samples", "2", "--noise-samples", "5"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "draws 2 posterior samples, whose spread is its error" in capsys.readouterr().err
    arguments[arguments.index("--num-samples") + 1] = "0"
    assert main([*arguments, "--out", str(tmp_path / "out"), "-q"]) == 0
    assert read_mass_map(tmp_path / "out" / "mass_map.fits").std is not None


@pytest.mark.parametrize("method", ["ks", "wiener"])
def test_null_tests_are_told_and_kept(catalog, tmp_path, capsys, method):
    """Shapes of noise alone: no B mode (p above its least value), noise as the weights say."""
    arguments = ["map", str(catalog), "--method", method, "--num-samples", "2", *MAP[:-2]]
    assert main([*arguments, "--null-tests", "19", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "among 19 simulated skies" in said and "jackknife of 16 blocks" in said
    assert "random signs of the shapes: " in said and "chi2" in said
    found = read_mass_map(tmp_path / "mass_map.fits").diagnostics["null_tests"]
    assert found["b_modes"]["num"] == 19 and found["b_modes"]["p_value"] > 0.05
    noise = found["noise_chi2"]
    assert abs(noise["value"] - 1) < 4 * noise["error"] < 0.5
    assert abs(found["jackknife"]["total"]) < 4
    assert main([*arguments, "--null-tests", "5", "--out", str(tmp_path)]) == 2
    assert "number of skies for null tests is 5; expected at least 19" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("deepmass", "std"),
        pytest.param("dlposterior", "interval", marks=pytest.mark.release),
        ("map", "plain"),
    ],
)
def test_intervals_of_learned_methods(catalog, intervals, spectrum, tmp_path, capsys, method, kind):
    """On what each method has to tell; of another network or number of samples they are refused."""
    network = ResidualUNet((4,))
    params = initialise(network, jax.random.key(0), NUM_FEATURES, NUM_CONDITIONS)
    paths = [str(tmp_path / f"{name}.npz") for name in ("first", "second")]
    for path, scale in zip(paths, (1.0, 2.0), strict=True):
        scaled = jax.tree.map(lambda leaf, scale=scale: scale * leaf, params)
        write_denoiser(path, Denoiser(scaled, spectrum, network), Domain(2.0, (0.01, 0.3)), {})
    flags_ = ["--method", method]
    if method == "map":
        flags_ = ["--method", "dlposterior", "--sampler", "map"]
    survey = str(intervals[1].parent / "survey.fits")
    target = tmp_path / "bounds.npz"
    common = [*flags_, "--weights", paths[0], "--num-samples", "9"]
    command = ["calibrate", *common, "--mask-from", survey, "--sky", "gaussian", "--num", "4"]
    assert main([*command, "--out", str(tmp_path / "f"), "--conformal", str(target), "-q"]) == 0
    assert read_conformal(target).kind == kind
    arguments = ["map", str(catalog), *common, *MAP, "--conformal", str(target)]
    assert main([*arguments, "--out", str(tmp_path / "a"), "-q"]) == 0
    result = read_mass_map(tmp_path / "a" / "mass_map.fits")
    assert np.all((result.upper > result.lower)[result.mask])
    assert main([*arguments, "--weights", paths[1], "--out", str(tmp_path / "b"), "-q"]) == 2
    assert "calibrated for network = " in capsys.readouterr().err
    if method == "dlposterior":
        assert main([*arguments, "--num-samples", "8", "--out", str(tmp_path / "b"), "-q"]) == 2
        assert "calibrated for num_samples = 9, and the map" in capsys.readouterr().err
