"""``jaxmap simulate``: what it writes, what it refuses, how it ends."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits

from jaxmap import simulate_flags
from jaxmap.binning import bin_shear
from jaxmap.cli import main
from jaxmap.grid import Grid
from jaxmap.mapfiles import read_mass_map, read_provenance, read_shear_map
from jaxmap.reading.maps.source import open_maps
from jaxmap.reading.readers import read_shear
from jaxmap.records import read_record
from jaxmap.simulation.baryons import BARYONS
from jaxmap.simulation.presets import PRESETS
from jaxmap.simulation.recipe import KINDS, map_recipe
from jaxmap.simulation.streaming import build_simulator, stream_maps

SMALL = ["--kind", "gaussian", "--size", "24x20", "--pixel-arcmin", "1.5"]


def test_maps_and_what_is_said_of_them(tmp_path, capsys) -> None:
    out = str(tmp_path / "deep" / "maps")
    arguments = ["simulate", "maps", *SMALL, "--out", out, "--seed", "3"]
    assert main([*arguments, "--num", "6"]) == 0
    said = capsys.readouterr().out
    assert "6 maps (0 to 5) of 24 x 20 pixels of 1.5 arcmin, 0.6 x 0.5 degrees" in said
    assert "Made in" in said and f"open_maps({out!r})" in said
    assert main([*arguments, "--num", "9", "--resume"]) == 0
    assert "6 were there, 3 were made in" in capsys.readouterr().out
    assert main([*arguments, "--num", "9", "--resume"]) == 0
    assert "All of them were there." in capsys.readouterr().out
    source = open_maps(out)
    assert len(source) == 9 and source.shape == (20, 24) and source.pixel_arcmin == 1.5
    made_by = json.loads((tmp_path / "deep" / "maps" / "simulation.json").read_text())["made_by"]
    assert made_by["settings"]["num"] == 6 and made_by["command"] == "simulate maps"
    assert main([*arguments, "--num", "9"]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*arguments, "--num", "9", "--resume", "--baryons", "none"]) == 2
    assert "were made with recipe.baryons = " in capsys.readouterr().err


def test_configurations_say_what_flags_say(tmp_path) -> None:
    nz = tmp_path / "nz.txt"
    z = np.linspace(0.1, 2, 100)
    np.savetxt(nz, np.stack([z, z * np.exp(-2 * z)], axis=1))
    config = tmp_path / "run.toml"
    config.write_text(
        f'kind = "gaussian"\nsize = [24, 20]\npixel-arcmin = 1.5\nnum = 5\nnz = "{nz}"\n'
        'baryons = "tng"\nquiet = true\nsky = [48, 40]\n'
    )
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert main(["simulate", "maps", str(config), "--out", a]) == 0
    assert main(["simulate", "maps", "--out", b, "--config", str(config), "--num", "4"]) == 0
    flags = [*SMALL, "--num", "5", "--nz", str(nz), "--baryons", "tng", "--sky", "48x40", "-q"]
    assert main(["simulate", "maps", *flags, "--out", c]) == 0
    a, b, c = (open_maps(folder) for folder in (a, b, c))
    assert [len(source) for source in (a, b, c)] == [5, 4, 5]
    for number in range(5):
        np.testing.assert_array_equal(a[number], c[number])
    np.testing.assert_array_equal(b[3], c[3])
    assert a.realisation(4) == "seed 0-sky 1"


SURVEY = ["simulate", "survey", "--preset", "cluster", "--density", "3", *SMALL, "--seed", "4"]
SURVEY += ["--no-reduced", "--c1=-0.01"]


def test_fields_of_a_survey(tmp_path, capsys) -> None:
    """Each field is of its number alone: catalogue, truth and shear agree with one another."""
    out = tmp_path / "survey"
    assert main([*SURVEY, "--num", "3", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "3 fields (0 to 2) of 24 x 20 pixels" in said and "around 3,240 galaxies" in said
    preset = PRESETS["cluster"]
    recipe = map_recipe(Grid((20, 24), 1.5), "gaussian", redshifts=preset.redshifts, seed=4)
    field = Grid((20, 24), 1.5, preset.grid.centre_deg)
    for number, convergence in enumerate(stream_maps(build_simulator(recipe), 0, 3)):
        folder = out / f"field-{number:08d}"
        truth, shear = read_mass_map(folder / "convergence.fits"), read_shear_map(folder / SHEAR)
        np.testing.assert_array_equal(truth.convergence, convergence)
        assert truth.grid == shear.grid == field
        again = bin_shear(read_shear(folder / "catalog.fits"), field)
        np.testing.assert_allclose(again.shear, shear.shear, atol=1e-6)
        np.testing.assert_array_equal(again.counts, shear.counts)
        assert abs(np.sum(shear.counts) - 3240) < 5 * 3240**0.5
    # The preset holds but for what was changed.
    record = json.loads((out / "simulation.json").read_text())
    assert read_provenance(out / "field-00000001" / SHEAR) == record
    for name in ("catalog.fits", "convergence.fits", SHEAR):
        assert read_record(out / "field-00000001" / name) == record["made_by"]
    survey = record["survey"]
    assert survey["density_arcmin2"] == 3 and survey["shape_noise"] == preset.shape_noise
    expected = {"reduced": False, "multiplicative": 0.0, "additive": [-0.01, 0.0]}
    assert survey["response"] == expected
    # Fields made alone, and again where one is gone, are the same.
    whole = {path: columns_of(path) for path in out.rglob("*.fits")}
    shutil.rmtree(out / "field-00000001")
    again = [*SURVEY, "--out", str(out), "-q", "--resume"]
    assert main([*again[:-2], "--num", "1", "--first", "1", "--resume"]) == 0
    assert "1 field (number 1) of 24 x 20 pixels" in capsys.readouterr().out
    assert {path: columns_of(path) for path in out.rglob("*.fits")} == whole
    assert main([*again, "--num", "3", "--m", "0.2"]) == 2
    assert "survey.response.multiplicative = 0.0, not 0.2" in capsys.readouterr().err
    assert main(["simulate", "maps", *SMALL, "--num", "3", "--out", str(out), "--resume"]) == 2
    assert "were made with holds = surveys, not maps" in capsys.readouterr().err


SHEAR = "shear.fits"


def columns_of(path) -> bytes:
    """What a FITS file holds, but for what is said of its making."""
    with fits.open(path) as hdus:
        kept = [hdu for hdu in hdus[1:] if hdu.name != "PROVENANCE"]
        return b"".join(np.asarray(hdu.data).tobytes() for hdu in kept)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "expected --preset, --galaxies, or --density and --shape-noise"),
        (["--density", "3"], "expected --preset, --galaxies, or --density and --shape-noise"),
        (["--preset", "euclid", "--density", "-3"], "has -3.0 galaxies per square arcminute"),
        (["--preset", "euclid", "--shape-noise", "0.9"], "shape noise per component is 0.9"),
        (["--preset", "cosmos", "--border-arcmin", "60"], "larger field or a narrower border"),
        (["--preset", "euclid", "--m", "-2"], "multiplicative bias is -2"),
        (["--preset", "euclid", "--sigma8", "0"], "sigma8 is 0"),
        (["--preset", "euclid", "--size", "5000"], "degrees wide"),
        (["--preset", "euclid", "--num", "100000"], "make fewer with --num"),
        (["--preset", "euclid", "--density", "1e9"], "galaxies needs about"),
    ],
)
def test_bad_surveys_exit_2_and_leave_nothing(tmp_path, capsys, flags, message) -> None:
    refused(tmp_path, capsys, flags, message, "survey")


NZ = {
    "empty": ("", "nz.txt"),
    "negative": ("0.1 1\n0.5 -2\n", "-2"),
    "zero": ("0.1 0\n0.5 0\n", "zero everywhere"),
    "descending": ("0.5 1\n0.1 1\n", "falls or repeats"),
    "beyond the tables": ("0.5 1\n1100 1\n", "n(z) reaches redshift 1100"),
    "near": ("0.002 1\n0.003 1\n", "sources lie so near"),
}


@pytest.mark.parametrize("name", NZ)
@pytest.mark.parametrize("kind", ["gaussian", "lognormal"])
def test_bad_redshifts_exit_2_and_leave_nothing(tmp_path, capsys, name, kind) -> None:
    text, message = NZ[name]
    (tmp_path / "nz.txt").write_text(text)
    refused(tmp_path, capsys, ["--kind", kind, "--nz", str(tmp_path / "nz.txt")], message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sigma8", "0"], "sigma8 is 0; expected a number between 0 and 3"),
        (["--sigma8", "-0.8"], "sigma8 is -0.8"),
        (["--omega-m", "0.01"], "omega_b is 0.04897; expected a number between 0 and 0.01"),
        (["--h", "67"], "give h = H0 / 100"),
        (["--pixel-arcmin", "0"], "pixel scale is 0"),
        (["--pixel-arcmin", "nan"], "pixel scale is nan"),
        (["--size", "1000", "--pixel-arcmin", "1"], "maps of 16.7 degrees is 33.3 degrees wide"),
        (["--size", "400", "--sky", "399"], "the sky is (399, 399) pixels"),
        (["--size", "60000", "--pixel-arcmin", "0.004", "--num", "1"], "GiB of memory"),
        (["--num", "4000000000"], "make fewer with --num"),
        (["--num", "0"], "--num is 0"),
        (["--first", "4294967295"], "take another --seed"),
        (["--lognormal-shift", "0.05"], "says nothing of light-cone maps"),
        (["--kind", "lognormal", "--lognormal-shift", "-1"], "lognormal shift is -1"),
        (["--nz", "none.txt"], "none.txt"),
    ],
)
def test_bad_settings_exit_2_and_leave_nothing(tmp_path, capsys, flags, message) -> None:
    refused(tmp_path, capsys, flags, message)


def refused(tmp_path, capsys, flags, message, product="maps") -> None:
    before = sorted(tmp_path.rglob("*"))
    arguments = ["simulate", product, "--num", "8", *flags, "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""
    assert captured.err.startswith("jaxmap: error: ") and captured.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_number_of_maps_is_asked_for(tmp_path, capsys) -> None:
    assert main(["simulate", "maps", "--out", str(tmp_path / "out")]) == 2
    assert "--num is missing; expected the number of maps, at least 1" in capsys.readouterr().err


def test_usage_errors_exit_2(capsys) -> None:
    for arguments in (
        ["simulate"],
        ["simulate", "galaxies"],
        ["simulate", "maps", "--kind", "fractal"],
        ["simulate", "maps", "--num", "many"],
        ["simulate", "maps", "--size", "0"],
        ["simulate", "maps", "a.toml", "b.toml"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("jaxmap: error: ") and said.count("\n") == 1


def test_choices_are_those_of_the_package() -> None:
    assert simulate_flags.KINDS == KINDS
    assert set(simulate_flags.BARYONS) == set(BARYONS)
    assert set(simulate_flags.PRESETS) == set(PRESETS)


@pytest.mark.slow
def test_interrupted_runs_say_what_they_leave(tmp_path) -> None:
    command = [sys.executable, "-m", "jaxmap", "simulate", "maps", *SMALL, "--num", "1000000"]
    command += ["--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("out/maps-*.h5"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "is whole, and --resume completes it" in said and "Traceback" not in said
    assert len(open_maps(tmp_path / "out")) % 256 == 0
    assert not list((tmp_path / "out").glob(".*"))
