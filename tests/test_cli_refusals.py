"""The command line: what it refuses, warns of, and how it ends then."""

import re

import numpy as np
import pytest
from clicatalogs import QUICK, make_table

from jaxmap.cli import main


def with_column(name, values):
    def change(table):
        table[name] = values(np.asarray(table[name]))
        return table

    return change


def first_row(value):
    def change(column):
        column = column.copy()
        column[0] = value
        return column

    return change


BAD_TABLES = {
    "missing column": (lambda t: t["ra", "dec", "e1"], "e2"),
    "non-numeric": (with_column("e1", lambda c: c.astype(str)), "e1"),
    "nan": (with_column("ra", first_row(np.nan)), "'ra' holds 1"),
    "infinite": (with_column("weight", first_row(np.inf)), "'weight' holds 1"),
    "large ellipticities": (with_column("e1", lambda c: 20 * c), "exceeds 1 for"),
    "negative weight": (with_column("weight", first_row(-2.0)), "negative"),
    "zero weights": (with_column("weight", np.zeros_like), "weight above 0"),
    "empty": (lambda t: t[:0], "0 galaxies"),
    "one galaxy": (lambda t: t[:1], "1 galaxies"),
    "declination": (with_column("dec", first_row(91.0)), "holds 91 in row 0"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_catalogues_exit_2_and_leave_nothing(tmp_path, capsys, name):
    change, message = BAD_TABLES[name]
    change(make_table()).write(tmp_path / "galaxies.fits")
    refused(tmp_path, capsys, ["map", str(tmp_path / "galaxies.fits"), *QUICK], message)


def refused(tmp_path, capsys, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err and captured.err.count("jaxmap: error:") == 1
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pixel-arcmin", "0"], "pixel scale is 0"),
        (["--pixel-arcmin", "-1"], "pixel scale is -1"),
        (["--pixel-arcmin", "1e-4"], "on a side"),
        (["--centre", "152,2"], "none of the 3000 galaxies falls on the grid"),
        (["--shape-noise", "0"], "shape noise"),
        (["--sigma8", "-1"], "sigma8 is -1"),
        (["--nz", "none.txt"], "none.txt"),
        (["--spectrum", "none.txt"], "none.txt"),
        (["--columns", "e1=nothing"], "nothing"),
        (["--columns", "colour=e1"], "colour"),
        (["--smoothing-arcmin", "-1", "--method", "ks"], "smoothing is -1"),
        (["--smoothing-arcmin", "inf", "--method", "ks"], "smoothing is inf"),
        (["--margin", "3000000"], "margin is 3000000"),
        (["--pixel-arcmin", "30", "--size", "300"], "deg wide"),
        (["--pixel-arcmin", "inf"], "pixel scale is inf"),
        (["--centre", "330,-2", "--shape-noise", "1"], "no galaxy lies within"),
        (["--unbinned"], "--unbinned is of glimpse, not of"),
        (["--weights", "a.npz"], "of wiener none takes weights; leave --weights out"),
        (["--unbinned", "--method", "glimpse", "--noise-samples", "9"], "of binned shear"),
    ],
)
def test_bad_settings_exit_2_and_leave_nothing(catalog, tmp_path, capsys, flags, message):
    size = [] if "--pixel-arcmin" in flags else ["--pixel-arcmin", "1.5"]
    if "--centre" in flags:
        size += ["--size", "20"]
    refused(tmp_path, capsys, ["map", str(catalog), *size, *flags], message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--smooth", "2"],
            "--smooth 2; did you mean --smoothing-arcmin?; see `jaxmap map --help`",
        ),
        (["--treshold=3"], "--treshold=3; did you mean --threshold?; see"),
        (["another.fits"], "unrecognized arguments: another.fits; see `jaxmap map --help`"),
    ],
)
def test_flags_are_written_in_full(catalog, capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        main(["map", str(catalog), *flags])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_flags_that_change_nothing_and_odd_numbers_are_told(tmp_path, capsys):
    table = make_table()
    table["ra"], table["dec"] = np.radians(table["ra"]), np.radians(table["dec"])
    table.write(tmp_path / "radians.fits")
    flags = ["--threshold", "3", "--num-samples", "5", "--sampler", "hmc", "--m", "5"]
    command = ["map", str(tmp_path / "radians.fits"), "--method", "ks", *flags]
    out = ["--out", str(tmp_path / "out"), "--pixel-arcmin", "0.1", "--null-tests", "0"]
    assert main([*command, *out]) == 0
    said = capsys.readouterr().err
    assert "--threshold 3.0 is for glimpse, mcalens, not ks: it changes nothing" in said
    assert "--num-samples 5 is for wiener, dlposterior, gan, not ks" in said
    assert "--sampler hmc is for dlposterior, not ks" in said
    assert "shapes are divided by 1 + m = 6; expected about 1: check --m" in said
    assert "galaxies per square arcminute; are RA and Dec in degrees?" in said
    assert main(["map", *command[1:2], "--method", "ks,mcalens", *flags[:2], *out]) == 0
    said = capsys.readouterr().err
    assert "changes nothing" not in said and "divided by" not in said


def test_bad_spectrum_files(catalog, tmp_path, capsys):
    path = tmp_path / "cl.txt"
    np.savetxt(path, [[10, 1e-9], [100, -1e-9], [1000, 1e-10]])
    arguments = ["map", str(catalog), "--spectrum", str(path)]
    refused(tmp_path, capsys, arguments, "power spectrum is -1e-09 at ell = 100")
    path.write_text("z,nz\n0.1,1\n0.2,-3\n")
    refused(tmp_path, capsys, ["map", str(catalog), "--nz", str(path)], "-3")


@pytest.mark.parametrize("keep", [0, 2000, 20_000])
def test_truncated_catalogues(catalog, tmp_path, capsys, keep):
    catalog.write_bytes(catalog.read_bytes()[:keep])
    refused(tmp_path, capsys, ["map", str(catalog)], "galaxies.fits")


def test_files_that_are_not_there_or_in_the_way(catalog, tmp_path, capsys):
    refused(tmp_path, capsys, ["map", str(tmp_path / "none.fits")], "none.fits")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for bad in (catalog, catalog / "child", tmp_path / "dangling", tmp_path / ("x" * 300)):
        assert main(["map", str(catalog), "--out", str(bad), *QUICK]) == 2
        assert "choose another folder with --out" in capsys.readouterr().err


def test_nothing_of_the_users_is_overwritten(catalog, tmp_path, capsys):
    """Files of our names that we did not write, and inputs that have such a name, stay."""
    mine = tmp_path / "config.toml"
    mine.write_text("num_samples = 3  # mine\n")
    assert main(["map", str(catalog), "--out", str(tmp_path), *QUICK]) == 2
    assert "config.toml that jaxmap did not write" in capsys.readouterr().err
    assert mine.read_text() == "num_samples = 3  # mine\n"
    out = tmp_path / "out"
    assert main(["map", str(catalog), "--out", str(out), *QUICK, "-q"]) == 0
    config = out / "config.toml"
    assert main(["map", "--config", str(config), "--out", str(out)]) == 2
    assert "config.toml would be overwritten" in capsys.readouterr().err
    # An older map of ours is replaced.
    assert main(["map", str(catalog), "--out", str(out), *QUICK, "-q", "--seed", "1"]) == 0


def test_meaningless_results_are_failures(catalog, tmp_path, capsys):
    """Noise beyond single precision is refused, in the precision that cannot hold it."""
    arguments = ["map", str(catalog), *QUICK, "--shape-noise", "1e-200"]
    refused(tmp_path, capsys, arguments, "beyond the range of the precision")


def test_radians_are_noticed(tmp_path, capsys):
    table = make_table()
    for name in ("ra", "dec"):
        table[name] = np.radians(table[name])
    table.write(tmp_path / "radians.fits")
    main(["map", str(tmp_path / "radians.fits"), "--out", str(tmp_path / "out"), "--method", "ks"])
    assert "in degrees?" in capsys.readouterr().err


def test_failing_work_exits_1_and_leaves_nothing(catalog, tmp_path, capsys, monkeypatch):
    from jaxmap import outputs

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_samples", full)
    before = sorted(tmp_path.rglob("*"))
    assert main(["map", str(catalog), "--out", str(tmp_path / "out"), *QUICK]) == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_sample = 3", "did you mean 'num_samples'"),
        ("colour = 3", "'colour' is no setting of `jaxmap map`"),
        ("num_samples = ", "cannot read the configuration"),
        ("quiet = 3", "quiet is 3; expected true or false"),
        ("seed = true", "seed is True; expected a value"),
        ("help = true", "'help' is no setting"),
        ("[size]\nnx = 3", "expected pixels N or NXxNY"),
    ],
)
def test_bad_configurations(catalog, tmp_path, capsys, text, message):
    config = tmp_path / "run.toml"
    config.write_text(text)
    try:
        code = main(["map", str(catalog), "--config", str(config), "--out", str(tmp_path / "out")])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_flipped_signs_are_noticed(shared, tmp_path, capsys):
    source = str(shared / "cosmos" / "s10_shear_catalog.fits")
    flags = ["--method", "ks", "--pixel-arcmin", "0.6", "--out", str(tmp_path / "out")]
    flags += ["--null-tests", "0"]
    assert main(["map", source, *flags]) == 0
    assert "probably flipped" not in capsys.readouterr().err
    assert main(["map", source, *flags, "--flip-e2"]) == 0
    assert "try --no-flip-e2" in capsys.readouterr().err


def test_usage_errors_exit_2(capsys):
    for arguments in (
        ["paint"],
        ["map", "a.fits", "--method", "magic"],
        ["demo", "--seed", "-3"],
        ["demo", "--seed", str(2**70)],
        ["map", "a.fits", "--size", "ax3"],
        ["map", "a.fits", "--centre", "10"],
        ["map", "a.fits", "--centre", "-10,2"],
        ["map", "a.fits", "--columns", "ra"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("jaxmap: error: ") and said.count("\n") == 1
    assert main([]) == 2
    assert main(["map"]) == 2
    capsys.readouterr()
