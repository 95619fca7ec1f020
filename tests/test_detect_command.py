"""`jaxmap detect`: what it reads, writes and refuses."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from jaxmap.cli import main
from jaxmap.cosmology import angular_diameter_distance, inverse_critical_density
from jaxmap.grid import ARCMIN, Grid
from jaxmap.mapfiles import write_mass_map, write_samples
from jaxmap.massmap import MassMap

GRID = Grid((40, 48), 0.5, (150.0, 2.0))
PLACE = (30, 14)


def made_map(grid=GRID):
    """Ten skies with a cluster in eight of them."""
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]]
    cluster = 0.2 * np.exp(-((columns - PLACE[0]) ** 2 + (rows - PLACE[1]) ** 2) / 8)
    samples = 0.01 * np.random.default_rng(0).normal(size=(10, *grid.shape))
    samples[:8] += cluster
    mask = np.ones(grid.shape, bool)
    mask[:20] = False
    return MassMap(samples.mean(0), grid, mask, samples.std(0), samples=samples)


@pytest.fixture
def folder(tmp_path):
    """A folder as `jaxmap map` leaves it."""
    result = made_map()
    write_samples(tmp_path / "samples.nc", result)
    write_mass_map(tmp_path / "mass_map.fits", replace(result, samples=None))
    return tmp_path


def test_a_folder_of_samples(folder, capsys):
    clusters = Table({"ra": [10.0, 150.0], "dec": [5.0, 2.0]})
    ra, dec = GRID.wcs().all_pix2world(*PLACE, 0)
    clusters["ra"][1], clusters["dec"][1] = ra, dec + 0.2 / 60
    clusters.write(folder / "known.ecsv")
    flags = ["--threshold", "6", "--z-lens", "0.3", "--z-source", "1.0"]
    flags += ["--match", str(folder / "known.ecsv")]
    assert main(["detect", str(folder), *flags]) == 0
    said = capsys.readouterr().out
    assert "1 peak in 10 posterior samples" in said and "80% of the samples" in said
    assert "Of 2 objects" in said and "1 on the map, 1 lie within" in said
    table = Table.read(folder / "detections.ecsv")
    assert len(table) == 1
    row = table[0]
    assert row["probability"] == 0.8 and not row["observed"] and row["match"] == 1
    assert abs(row["ra"] - ra) * 3600 < 10 and abs(row["dec"] - dec) * 3600 < 10
    np.testing.assert_allclose(row["match_separation"], 12, atol=5)
    assert 0 < row["x_error"] < 10 and table["x_error"].unit == "arcsec"
    radius = 2 * ARCMIN * float(angular_diameter_distance(0.3))
    area = np.pi * radius**2 / float(inverse_critical_density(0.3, 1.0))
    np.testing.assert_allclose(row["mass"], row["contrast"] * area, rtol=1e-4)
    assert row["mass_lower"] < row["mass"] < row["mass_upper"]
    assert table.meta["jaxmap"]["settings"]["threshold"] == 6.0
    regions = (folder / "detections.reg").read_text().splitlines()
    assert regions[3] == "icrs" and regions[4].startswith(f"circle({row['ra']:.7f},")
    assert regions[4].endswith("# text={1 P=0.80}") and len(regions) == 5


def test_sources_are_those_of_the_map(tmp_path, capsys):
    """Without --nz, masses are for the n(z) that the map's record names; COSMOS, if it has none."""
    nz, result = tmp_path / "nz.csv", made_map()
    Table({"z": [0.9, 1.0, 1.1], "nz": [0, 1, 0]}).write(nz)
    path = tmp_path / "samples.nc"
    command = ["detect", str(path), "--threshold", "6", "--z-lens", "0.3"]

    def mass(*flags):
        assert main([*command, *flags]) == 0
        table = Table.read(tmp_path / "detections.ecsv")
        return table["mass"][0], table.meta["jaxmap"]["settings"].get("nz")

    write_samples(path, result)
    of_cosmos = mass()
    assert "n(z) of COSMOS (yours: --nz)" in capsys.readouterr().out
    given = mass("--nz", str(nz))
    write_samples(path, result, {"settings": {"nz": str(nz)}})
    assert mass() == given and given[1] == str(nz)
    assert f"n(z) of {nz}." in capsys.readouterr().out
    assert of_cosmos[1] is None and abs(of_cosmos[0] / given[0] - 1) > 0.01
    plane = mass("--z-source", "1")
    assert plane[1] is None and plane[0] == pytest.approx(given[0], rel=0.01)
    nz.unlink()
    assert main(command) == 2
    assert "no longer there; say where it is now (--nz)" in capsys.readouterr().err


def test_a_map_tells_no_probabilities(folder, tmp_path, capsys):
    out = tmp_path / "elsewhere"
    command = ["detect", str(folder / "mass_map.fits"), "--out", str(out), "--threshold", "6"]
    assert main(command) == 0 and main([*command, "-q"]) == 0  # our own table is replaced
    assert "A map tells no probabilities" in capsys.readouterr().out
    table = Table.read(out / "detections.ecsv")
    assert len(table) == 1 and table["probability"].mask[0] and table["x_error"].mask[0]
    assert abs(table["x"][0] - PLACE[0]) < 0.5 and "mass" not in table.colnames
    assert "P=" not in (out / "detections.reg").read_text()


def test_off_the_sky(tmp_path):
    write_samples(tmp_path / "samples.nc", made_map(replace(GRID, centre_deg=None)))
    assert main(["detect", str(tmp_path / "samples.nc"), "--threshold", "6", "-q"]) == 0
    table = Table.read(tmp_path / "detections.ecsv")
    assert "ra" not in table.colnames and "observed" not in table.colnames
    regions = (tmp_path / "detections.reg").read_text().splitlines()
    assert regions[3] == "image"
    x, y = (float(part) for part in regions[4].split("(")[1].split(",")[:2])
    np.testing.assert_allclose([x, y], [table["x"][0] + 1, table["y"][0] + 1], atol=1e-3)


def test_nothing_found(folder, capsys):
    assert main(["detect", str(folder), "--background", "10", "--z-lens", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "0 peaks" in said and "--scale-arcmin" in said
    table = Table.read(folder / "detections.ecsv")
    assert len(table) == 0 and "mass" in table.colnames


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scale-arcmin", "0.1"], "a scale of 0.1 arcmin"),
        (["--threshold", "0"], "threshold is 0"),
        (["--background", "-1"], "standard deviation is -1"),
        (["--min-probability", "2"], "probability is 2"),
        (["--aperture-arcmin", "0.1"], "one pixel or more"),
        (["--z-source", "1"], "give the clusters' --z-lens"),
        (["--z-lens", "-1"], "redshift of the lens is -1"),
        (["--z-lens", "2", "--z-source", "1"], "no source lies behind"),
        (["--z-lens", "0.3", "--z-source", "1", "--nz", "n.txt"], "both --nz and --z-source"),
        (["--match", "none.ecsv"], "none.ecsv"),
    ],
)
def test_bad_settings_exit_2_and_leave_nothing(folder, capsys, flags, message):
    before = sorted(folder.iterdir())
    assert main(["detect", str(folder), *flags]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("jaxmap: error:") == 1
    assert captured.out == "" and sorted(folder.iterdir()) == before


def test_the_folders_of_several_methods_are_named(tmp_path, capsys):
    for method in ("ks", "wiener"):
        (tmp_path / "maps" / method).mkdir(parents=True)
        (tmp_path / "maps" / method / "mass_map.fits").touch()
    assert main(["detect", str(tmp_path / "maps")]) == 2
    ks, wiener = (tmp_path / "maps" / method for method in ("ks", "wiener"))
    assert f"wrote, one of those of its methods, {ks}, {wiener}, or" in capsys.readouterr().err


def test_bad_inputs(tmp_path, capsys):
    (tmp_path / "broken.nc").write_text("not NetCDF")
    (tmp_path / "broken.fits").write_text("not FITS")
    for given, message in (
        ([], "expected `jaxmap detect MAP_OR_SAMPLES`"),
        ([str(tmp_path)], "holds neither samples.nc nor mass_map.fits"),
        ([str(tmp_path / "none.nc")], "no file"),
        ([str(tmp_path / "broken.nc")], "broken.nc is not a whole file"),
        ([str(tmp_path / "broken.fits")], "broken.fits is not a whole jaxmap map"),
    ):
        assert main(["detect", *given]) == 2
        assert message in capsys.readouterr().err


def test_nothing_of_the_users_is_overwritten(tmp_path, capsys):
    write_samples(tmp_path / "samples.nc", made_map())
    mine = tmp_path / "detections.ecsv"
    mine.write_text("# mine\nid\n1\n")
    assert main(["detect", str(tmp_path / "samples.nc")]) == 2
    assert "detections.ecsv that jaxmap did not write" in capsys.readouterr().err
    assert mine.read_text().startswith("# mine")
