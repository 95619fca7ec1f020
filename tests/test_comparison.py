"""What is said of an output that was made again: every plane, column, array and figure counts."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from test_detect_command import made_map

from jaxmap.comparison import compare_files, contents_of
from jaxmap.comparison import differences as differences_of
from jaxmap.mapfiles import write_mass_map, write_samples
from jaxmap.networks.weights import write_weights
from jaxmap.replay_command import compare


def differences(one, two):
    return [found.text for found in differences_of(one, two)]


RECORD = {"command": "map", "settings": {"catalog": "a"}, "versions": {"jaxmap": "0", "jax": "0"}}


@pytest.fixture
def outputs(tmp_path):
    """The folders of two runs of one command; of the second the input lay elsewhere."""
    found = made_map()
    std = np.full(found.grid.shape, 0.5)
    bare = replace(found, samples=None, std=std, b_mode=0 * std, diagnostics={"chi2": 1.0})
    for name in ("one", "two"):
        record = {**RECORD, "input": {"path": name, "sha256": "0"}}
        (tmp_path / name).mkdir()
        write_mass_map(tmp_path / name / "mass_map.fits", bare, record)
        write_samples(tmp_path / name / "samples.nc", found, record)
        (tmp_path / name / "config.toml").write_text("seed = 0\n")
    return tmp_path / "one", tmp_path / "two", bare


def test_outputs_that_are_the_same(outputs):
    one, two, _ = outputs
    assert compare(one, two) == "The same, bit for bit: mass_map.fits, samples.nc."
    assert compare(one / "samples.nc", two) == compare(one, two)


def test_every_plane_counts(outputs):
    one, two, bare = outputs
    changed = replace(bare, std=7 * bare.std, b_mode=bare.b_mode + 1, diagnostics={"chi2": 1.25})
    write_mass_map(two / "mass_map.fits", changed, RECORD)
    said = compare(one, two)
    assert "SIGMA by 3 at most" in said and "KAPPA_B by 1 at most" in said
    assert "diagnostics.chi2 by 0.25" in said and "KAPPA_E" not in said
    assert said.endswith("The same, bit for bit: samples.nc.")
    gaps = np.where(np.arange(bare.std.size).reshape(bare.std.shape) == 3, np.nan, bare.std)
    write_mass_map(two / "mass_map.fits", replace(bare, std=gaps), RECORD)
    assert "SIGMA by 0 at most and where it is finite" in compare(one, two)
    write_mass_map(two / "mass_map.fits", replace(bare, b_mode=None), RECORD)
    assert "KAPPA_B is there only before" in compare(one, two)
    write_mass_map(two / "mass_map.fits", replace(bare, std=bare.std.astype("f4")), RECORD)
    assert "SIGMA by 0 at most (>f4, not >f8)" in compare(one, two)
    (two / "mass_map.fits").write_bytes((one / "mass_map.fits").read_bytes()[:5000])
    assert "mass_map.fits" in compare(one, two).partition("The same")[0]


def test_the_place_on_the_sky_and_planes_of_one_name_count(outputs, tmp_path):
    one, two, _ = outputs
    with fits.open(two / "mass_map.fits") as hdus:
        place = hdus["KAPPA_E"].header["CRPIX1"]
        hdus["KAPPA_E"].header["CRPIX1"] = place + 3
        hdus.writeto(two / "mass_map.fits", overwrite=True, checksum=True)
    assert "mass_map.fits differs: KAPPA_E.CRPIX1 by 3." in compare(one, two)
    for name, value in (("a.fits", 1.0), ("b.fits", 2.0)):
        planes = [fits.ImageHDU(np.full((2, 3), v), name="K") for v in (value, 0.0)]
        fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(tmp_path / name)
    assert differences(tmp_path / "a.fits", tmp_path / "b.fits") == ["K by 1 at most"]


def test_rounding_is_told_from_changes(outputs):
    one, two, bare = outputs
    wide = replace(bare, convergence=np.linspace(-1, 1, bare.std.size).reshape(bare.std.shape))
    write_mass_map(one / "mass_map.fits", wide, RECORD)
    for shift, how in ((5e-5, " by rounding alone"), (2e-4, "")):
        moved = np.asarray(wide.convergence).copy()
        moved[0, 0] += shift
        write_mass_map(two / "mass_map.fits", replace(wide, convergence=moved), RECORD)
        said = compare(one, two)
        assert f"mass_map.fits differs{how}: KAPPA_E by" in said
        assert ("threads round differently" in said) == bool(how)


def test_samples_count(outputs):
    one, two, _ = outputs
    with h5py.File(two / "samples.nc", "r+") as file:
        file["posterior/kappa"][0, 1, 2, 3] += 0.5
    assert "samples.nc differs: posterior/kappa by 0.5 at most." in compare(one, two)
    (two / "samples.nc").unlink()
    assert "samples.nc is there only before." in compare(one, two)
    (one / "samples.nc").rename(two / "samples.nc")
    assert "samples.nc is there only now." in compare(one, two)


def test_figures_count_and_times_do_not(tmp_path):
    one, two = (tmp_path / name for name in ("one.json", "two.json"))
    figures = {**RECORD, "methods": {"ks": {"rmse": 0.5, "seconds": 1.0}}, "lines": [{"p": [1, 2]}]}
    one.write_text(json.dumps(figures))
    figures |= {"device": "gpu", "methods": {"ks": {"rmse": 0.5, "seconds": 2.0}}}
    two.write_text(json.dumps(figures))
    assert differences(one, two) == []
    figures |= {"methods": {"ks": {"rmse": 0.75}}, "lines": [{"p": [1, 5]}], "verdict": "open"}
    two.write_text(json.dumps(figures))
    assert differences(one, two) == [
        "methods.ks.rmse by 0.25",
        "lines.0.p by 3 at most",
        "verdict is there only now",
    ]


def test_texts_that_look_like_numbers_are_texts(tmp_path):
    for name, value in (("a.json", ["1.0", "2"]), ("b.json", ["1", "2.0"])):
        (tmp_path / name).write_text(json.dumps({"of": value}))
    assert differences(tmp_path / "a.json", tmp_path / "b.json") != []


def test_tables_arrays_and_anything_else(tmp_path):
    table = Table({"name": ["a", "b"], "mass": np.ma.masked_array([1.0, 2.0], [False, True])})
    table.meta = {"background": 0.5, "jaxmap": RECORD}
    for suffix, kind in ((".ecsv", "ascii.ecsv"), (".csv", "ascii.csv"), (".fits", "fits")):
        one, two = (tmp_path / f"{name}{suffix}" for name in ("one", "two"))
        meta = {} if suffix == ".fits" else table.meta
        Table(table, meta=meta).write(one, format=kind)
        shutil.copy(one, two)
        assert differences(one, two) == [], suffix
        other = Table(table, meta=meta)
        other["mass"][0], other["name"][1] = 1.5, "c"
        other.write(two, format=kind, overwrite=True)
        assert differences(one, two) == ["name", "mass by 0.5 at most"], suffix
    Table(table[:0], meta=table.meta).write(tmp_path / "none.ecsv", format="ascii.ecsv")
    assert differences(tmp_path / "none.ecsv", tmp_path / "none.ecsv") == []
    assert "mass has shape (0,), not (2,)" in differences(
        tmp_path / "one.ecsv", tmp_path / "none.ecsv"
    )
    Table(table, meta={"background": 0.75}).write(tmp_path / "three.ecsv", format="ascii.ecsv")
    said = differences(tmp_path / "one.ecsv", tmp_path / "three.ecsv")
    assert said == ["background by 0.25"]
    for name, scale in (("one.npz", 1.0), ("two.npz", 1.5)):
        header = {"settings": {"alpha": scale}, "about": {"command": name}}
        write_weights(tmp_path / name, {"a": scale * np.ones(2)}, header)
    said = differences(tmp_path / "one.npz", tmp_path / "two.npz")
    assert said[:2] == ["a by 0.5 at most", "settings.alpha by 0.5"]
    (tmp_path / "one.txt").write_text("x")
    (tmp_path / "two.txt").write_text("y")
    assert differences(tmp_path / "one.txt", tmp_path / "two.txt") == ["its bytes by 1 at most"]


def test_what_cannot_be_read_is_told(tmp_path):
    fits.PrimaryHDU(np.ones((3, 3))).writeto(tmp_path / "one.fits")
    (tmp_path / "two.fits").write_text("?")
    pairs = {"a.fits": (tmp_path / "one.fits", tmp_path / "two.fits")}
    assert compare_files(pairs).startswith("a.fits cannot be compared: ")
    assert compare_files({}) == "There is nothing to compare."
    assert list(contents_of(tmp_path / "one.fits")) == ["PRIMARY"]
