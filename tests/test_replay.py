"""Outputs say how they were made, well enough to be made again."""

import argparse
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from test_detect_command import made_map

from jaxmap.cli import build_parser, main
from jaxmap.flags import size
from jaxmap.mapfiles import read_mass_map, write_mass_map, write_samples
from jaxmap.outputs import precision, settings
from jaxmap.replay_command import precision_of, read_record


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A map of Kaiser-Squires, made with a relative path from the folder it lies in."""
    rng = np.random.default_rng(0)
    ra, dec = 150 + 0.3 * rng.random(400), 2 + 0.3 * rng.random(400)
    e1, e2 = 0.2 * rng.normal(size=(2, 400))
    monkeypatch.chdir(tmp_path)
    Table({"ra": ra, "dec": dec, "e1": e1, "e2": e2}).write("galaxies.fits")
    flags = ["--method", "ks", "--smoothing-arcmin", "2.5", "--size", "9x8", "--null-tests", "0"]
    assert main(["map", "galaxies.fits", *flags, "--seed", "7", "--out", "first"]) == 0
    return tmp_path


def test_a_map_comes_again_bit_for_bit(made, capsys, monkeypatch):
    monkeypatch.chdir("/")
    assert main(["replay", str(made / "first"), "--out", str(made / "again")]) == 0
    said = capsys.readouterr().out
    assert "`jaxmap map`" in said and "same, bit for bit" in said
    first, again = (read_mass_map(made / name / "mass_map.fits") for name in ("first", "again"))
    np.testing.assert_array_equal(first.convergence, again.convergence)
    records = [read_record(made / name) for name in ("first", "again")]
    assert records[0]["settings"] == records[1]["settings"]


@pytest.mark.parametrize("out", ["first", "first/../first/mass_map.fits", "."])
def test_an_output_is_not_written_over_before_it_is_compared(made, capsys, out):
    before = (made / "first" / "mass_map.fits").read_bytes()
    assert main(["replay", "first", "--out", out]) == 2
    assert "choose another place" in capsys.readouterr().err
    assert (made / "first" / "mass_map.fits").read_bytes() == before


def test_files_of_other_settings_and_earlier_replays_beside_are_told_or_left(made, capsys):
    flags = ["--method", "ks", "--smoothing-arcmin", "1", "--size", "9x8", "--null-tests", "0"]
    assert main(["map", "galaxies.fits", *flags, "--out", "changed", "-q"]) == 0
    shutil.copy(made / "changed" / "mass_map.png", made / "first" / "sharper.png")
    shutil.copytree(made / "first", made / "first" / "earlier")
    assert main(["replay", "first", "--out", "again"]) == 0
    said = capsys.readouterr().out
    assert "same, bit for bit: mass_map.fits, mass_map.png." in said and "earlier" not in said
    assert "Not compared, for made with other settings: sharper.png." in said


def test_a_changed_output_says_that_it_was_changed(made, capsys):
    """Saved anew by another program, with the checksums of before."""
    path = made / "first" / "mass_map.fits"
    with fits.open(path) as hdus:
        hdus["KAPPA_E"].data[2, 3] += 1
        hdus.writeto(made / "new.fits")
    (made / "new.fits").replace(path)
    assert main(["replay", "first/mass_map.fits", "--out", "again"]) == 2
    assert "hecksum verification failed for HDU ('KAPPA_E', 1)" in capsys.readouterr().err


def test_a_map_that_differs_is_told(made, capsys):
    """The control: a record that was tampered with gives another map, and that is said."""
    shutil.copytree(made / "first", made / "other")
    flags = ["--method", "ks", "--smoothing-arcmin", "1", "--size", "9x8", "--null-tests", "0"]
    assert main(["map", "galaxies.fits", *flags, "--out", "changed"]) == 0
    (made / "changed" / "mass_map.fits").replace(made / "other" / "mass_map.fits")
    record = read_record(made / "other")
    assert record["settings"]["smoothing_arcmin"] == 1
    assert main(["replay", str(made / "other"), "--out", str(made / "again")]) == 0
    assert "bit for bit" in capsys.readouterr().out
    from jaxmap.replay_command import compare

    said = compare(made / "first", made / "again")
    assert said.startswith("mass_map.fits differs: KAPPA_E by ") and "bit for bit" not in said


def test_an_input_that_moved_or_changed(made, capsys):
    moved = made / "elsewhere.fits"
    (made / "galaxies.fits").rename(moved)
    again = ["replay", str(made / "first"), "--out", str(made / "again")]
    assert main(again) == 2
    assert "no longer there; say where it is now with --input FILE" in capsys.readouterr().err
    assert main([*again, "--input", str(moved)]) == 0
    table = Table.read(moved)
    table["e1"][0] += 0.1
    table.write(moved, overwrite=True)
    assert main([*again, "--input", str(moved)]) == 2
    assert "is not the input of then" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", [["--size", "16"], ["--size", "10x8", "--sky", "24x16"]])
def test_simulated_maps_come_again(tmp_path, sizes):
    flags = ["simulate", "maps", "--kind", "gaussian", *sizes, "--pixel-arcmin", "2"]
    assert main([*flags, "--num", "3", "--out", str(tmp_path / "a"), "-q"]) == 0
    (file,) = (tmp_path / "a").glob("maps-*.h5")
    assert read_record(file) == read_record(tmp_path / "a")
    assert main(["replay", str(file), "--out", str(tmp_path / "b"), "-q"]) == 0
    (other,) = (tmp_path / "b").glob("maps-*.h5")
    import h5py

    with h5py.File(file) as one, h5py.File(other) as two:
        np.testing.assert_array_equal(one["convergence"], two["convergence"])


def test_sides_of_a_field_keep_their_order():
    """Of every flag that takes one, in every command; argparse reads them as NX x NY."""

    def parsers(parser):
        nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        inner = [p for action in nested for each in action.choices.values() for p in parsers(each)]
        return inner or [parser]

    found = [
        (parser, action)
        for parser in parsers(build_parser())
        for action in parser._actions
        if action.type is size
    ]
    assert {action.dest for _, action in found} >= {"size", "sky"}
    for parser, action in found:
        chosen = settings(argparse.Namespace(**{action.dest: size("600x400")}))
        assert size(str(chosen[action.dest])) == (400, 600), (parser.prog, action.dest)


def test_detections_come_again(made):
    flags = ["--method", "ks", "--pixel-arcmin", "0.6", "--size", "32", "--null-tests", "0"]
    assert main(["map", "galaxies.fits", *flags, "--out", "fine"]) == 0
    assert main(["detect", "fine/mass_map.fits", "--threshold", "0.5", "--out", "found"]) == 0
    assert main(["replay", "found", "--out", "again", "-q"]) == 0
    one, other = (Table.read(made / name / "detections.ecsv") for name in ("found", "again"))
    assert len(one) > 0 and one.colnames == other.colnames
    np.testing.assert_array_equal(one["snr"], other["snr"])


def test_what_has_no_record(tmp_path, capsys):
    for name, text in (("a.json", json.dumps({"command": "rm"})), ("b.fits", ""), ("c.txt", "?")):
        (tmp_path / name).write_text(text)
        assert main(["replay", str(tmp_path / name), "--out", str(tmp_path / "x")]) == 2
        assert "does not say how it was made" in capsys.readouterr().err
    assert main(["replay", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "holds none of mass_map.fits" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 2
    assert "there is no" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_all_files_that_were_read_are_checked(made, capsys):
    """Not only the catalogue; a file that moved is known by its content."""
    power = made / "power.txt"
    np.savetxt(power, [[10, 1e-9], [1e5, 1e-10]])
    flags = ["--method", "ks", "--size", "9x8", "--null-tests", "0", "--spectrum", str(power), "-q"]
    assert main(["map", "galaxies.fits", *flags, "--out", "whole"]) == 0
    again = ["replay", "whole", "--out", "again", "-q"]
    np.savetxt(power, [[10, 2e-9], [1e5, 1e-10]])
    assert main(again) == 2
    said = capsys.readouterr().err
    assert "power.txt is not the input of then (sha256" in said and "--input FILE" in said
    np.savetxt(made / "moved.txt", [[10, 1e-9], [1e5, 1e-10]])
    assert main([*again, "--input", "moved.txt"]) == 0
    assert read_record(made / "again")["settings"]["spectrum"] == str(made / "moved.txt")
    power.unlink()
    assert main(again) == 2
    assert "power.txt is no longer there" in capsys.readouterr().err


@pytest.mark.parametrize("then", ["float32", "float64"])
def test_the_precision_is_set(then):
    before = jax.config.read("jax_enable_x64")
    with precision_of({"precision": then}):
        assert precision() == then
    assert jax.config.read("jax_enable_x64") == before
    with precision_of({}):  # an older output, which does not say
        assert jax.config.read("jax_enable_x64") == before


@pytest.mark.release
def test_the_precision_is_that_of_then(made):
    before = jax.config.read("jax_enable_x64")
    flags = ["--method", "ks", "--size", "9x8", "--null-tests", "0", "-q"]
    try:
        jax.config.update("jax_enable_x64", False)
        assert main(["map", "galaxies.fits", *flags, "--out", "single"]) == 0
        jax.config.update("jax_enable_x64", True)
        assert main(["replay", "single", "--out", "again", "-q"]) == 0
        assert jax.config.read("jax_enable_x64")
    finally:
        jax.config.update("jax_enable_x64", before)
    single, again = (read_mass_map(made / name / "mass_map.fits") for name in ("single", "again"))
    assert single.convergence.dtype == np.float32
    np.testing.assert_array_equal(single.convergence, again.convergence, strict=True)


def test_outputs_of_older_versions_come_again(made, capsys):
    record = read_record(made / "first")
    old = {name: value for name, value in record.items() if name not in ("precision", "files")}
    (made / "old").mkdir()
    write_mass_map(made / "old" / "mass_map.fits", read_mass_map("first/mass_map.fits"), old)
    assert main(["replay", "old", "--out", "again"]) == 0
    assert "same, bit for bit" in capsys.readouterr().out


def test_detections_of_a_folder_come_again_with_its_mask(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = made_map()
    (tmp_path / "fine").mkdir()
    write_samples("fine/samples.nc", found)
    write_mass_map("fine/mass_map.fits", replace(found, samples=None))
    assert main(["detect", "fine", "--threshold", "0.5", "--out", "found", "-q"]) == 0
    (tmp_path / "fine").rename(tmp_path / "moved")
    assert main(["replay", "found", "--out", "again", "-q"]) == 2
    assert "say where it is now" in capsys.readouterr().err
    assert main(["replay", "found", "--out", "again", "--input", "moved"]) == 0
    said = capsys.readouterr().out
    assert "The same, bit for bit: detections.ecsv, detections.reg." in said
    table = Table.read(tmp_path / "again" / "detections.ecsv")
    assert "observed" in table.colnames and len(table) > 0
    write_mass_map("moved/mass_map.fits", replace(found, samples=None), {"changed": True})
    assert main(["replay", "found", "--out", "third", "--input", "moved"]) == 2
    assert "mass_map.fits is not the input of then" in capsys.readouterr().err
