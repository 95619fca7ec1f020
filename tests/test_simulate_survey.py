"""``jaxmap simulate survey`` with the galaxies, masks and noise of a user's own."""

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from clicatalogs import make_table

from jaxmap.binning import bin_shear
from jaxmap.cli import build_parser, main
from jaxmap.config import with_config
from jaxmap.footprint import grid_of_catalog
from jaxmap.mapfiles import read_shear_map, write_shear_map
from jaxmap.production.surveys import observed
from jaxmap.reading.readers import read_shear
from jaxmap.simulate_survey import survey_and_field
from jaxmap.simulation.masks import Stars
from jaxmap.simulation.mock_survey import GivenSurvey
from jaxmap.simulation.presets import PRESETS
from jaxmap.simulation.recipe import map_recipe
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.shapes import MeasurementError
from jaxmap.simulation.streaming import build_simulator, stream_skies

COMMAND = ["simulate", "survey", "--kind", "gaussian", "-q"]
COLUMNS = ("ra", "dec", "e1", "e2", "weight")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """Galaxies in a file with names of its own, and a mock of them in ``mocks``."""
    folder = tmp_path_factory.mktemp("own")
    table = make_table(2000)
    table.rename_columns(("ra", "dec"), ("ALPHA", "DELTA"))
    table.write(folder / "galaxies.fits")
    assert main([*COMMAND, *galaxies_of(folder), "--num", "2", "--out", str(folder / "mocks")]) == 0
    return folder


def galaxies_of(folder: Path) -> list[str]:
    flags = ["--galaxies", str(folder / "galaxies.fits"), "--columns", "ra=ALPHA,dec=DELTA"]
    return [*flags, "--pixel-arcmin", "3", "--m", "0.2", "--no-reduced"]


def columns_of(folder: Path, number: int) -> np.ndarray:
    table = Table.read(folder / f"field-{number:08d}" / "catalog.fits")
    return np.stack([np.asarray(table[name]) for name in COLUMNS])


def test_the_galaxies_of_a_catalogue(own) -> None:
    """Each field has their places and weights, mask and noise; its shear is that of its sky."""
    given = Table.read(own / "galaxies.fits")
    catalog = read_shear(own / "galaxies.fits", columns={"ra": "ALPHA", "dec": "DELTA"})
    grid = grid_of_catalog(catalog, 3.0)
    real = bin_shear(catalog, grid)
    survey = GivenSurvey(catalog, ShearResponse(reduced=False, multiplicative=0.2))
    recipe = map_recipe(grid, "gaussian")
    for number, sky in enumerate(stream_skies(build_simulator(recipe), 0, 2)):
        columns = columns_of(own / "mocks", number)
        for name, column in zip(("ALPHA", "DELTA", "weight"), columns[[0, 1, 4]], strict=True):
            np.testing.assert_array_equal(column, given[name])
        expected = observed(recipe, survey, number, sky).catalog.ellipticity
        np.testing.assert_array_equal(columns[2] + 1j * columns[3], expected)
        data = read_shear_map(own / "mocks" / f"field-{number:08d}" / "shear.fits")
        assert data.grid == grid
        np.testing.assert_array_equal(data.counts, real.counts)
        np.testing.assert_allclose(data.weight, real.weight, rtol=0.1)
    first, second = (columns_of(own / "mocks", number) for number in (0, 1))
    assert np.abs(first[2] - second[2]).std() > 0.2


def test_inputs_are_known_by_their_contents(own, tmp_path, capsys) -> None:
    """Provenance, resumption and replay hold to the file of then, wherever it is now."""
    record = json.loads((own / "mocks" / "simulation.json").read_text())
    made_by = record["made_by"]
    digest = hashlib.sha256((own / "galaxies.fits").read_bytes()).hexdigest()
    assert made_by["files"] == {str(own / "galaxies.fits"): digest}
    moved, changed = tmp_path / "moved.fits", tmp_path / "galaxies.fits"
    moved.write_bytes((own / "galaxies.fits").read_bytes())
    table = Table.read(moved)
    table["e1"][0] += 0.1
    table.write(changed)
    more = ["--num", "2", "--out", str(own / "mocks"), "--resume"]
    assert main([*COMMAND, *galaxies_of(tmp_path), *more]) == 2
    assert "made with another survey.catalog.ellipticity.sha256" in capsys.readouterr().err
    nowhere = str(tmp_path / "nowhere.fits")
    made_by["files"], made_by["settings"]["galaxies"] = {nowhere: digest}, nowhere
    (tmp_path / "simulation.json").write_text(json.dumps(record))
    again = ["replay", str(tmp_path), "--out", str(tmp_path / "again"), "-q"]
    assert main(again) == 2
    assert "nowhere.fits is no longer there" in capsys.readouterr().err
    assert main([*again, "--input", str(changed)]) == 2
    assert "is not the input of then" in capsys.readouterr().err
    assert main([*again, "--input", str(changed), "--input", str(moved)]) == 0
    for number in (0, 1):
        before, after = (columns_of(f, number) for f in (own / "mocks", tmp_path / "again"))
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_mask_stars_and_errors(own, tmp_path, capsys) -> None:
    """Random galaxies where the mask and the stars leave room, by flags and by a configuration."""
    mask = own / "mocks" / "field-00000000" / "shear.fits"
    flags = ["--mask-from", str(mask), "--preset", "kids", "--stars", "0.01", "--seed", "3"]
    flags += ["--star-radius", "1,3", "--measurement-error", "0.2", "--magnitudes", "21,24,25"]
    out = [str(tmp_path / name) for name in "ab"]
    assert main([*COMMAND, *flags, "--num", "1", "--out", out[0]]) == 0
    whole = read_shear_map(mask)
    data = read_shear_map(tmp_path / "a" / "field-00000000" / "shear.fits")
    assert data.grid == whole.grid
    assert not np.any(np.asarray(data.mask) & ~np.asarray(whole.mask))
    weight = np.unique(columns_of(tmp_path / "a", 0)[4])
    assert len(weight) > 100 and 1 / weight.min() <= 0.265**2 + 0.2**2 + 1e-6
    survey = json.loads((tmp_path / "a" / "simulation.json").read_text())["survey"]
    assert survey["stars"]["radius_arcmin"] == [1, 3] and survey["border_arcmin"] == 0
    assert survey["measurement"] == {"faintest": 0.2, "magnitudes": [21, 24, 25]}
    assert survey["mask"]["shape"] == list(whole.grid.shape)
    config = tmp_path / "run.toml"
    config.write_text(
        f'mask-from = "{mask}"\npreset = "kids"\nstars = 0.01\nstar-radius = [1, 3]\nseed = 3\n'
        "measurement_error = 0.2\nmagnitudes = [21, 24, 25]\nnum = 1\n"
    )
    assert main([*COMMAND, str(config), "--out", out[1]]) == 0
    np.testing.assert_array_equal(*(columns_of(tmp_path / name, 0) for name in "ab"))
    weight = np.array(whole.weight)
    weight[:, np.nonzero(whole.mask)[0][0]] = 0
    write_shear_map(tmp_path / "other.fits", replace(whole, weight=weight))
    more = ["--mask-from", str(tmp_path / "other.fits"), "--num", "2", "--out", out[0], "--resume"]
    assert main([*COMMAND, *flags, *more]) == 2
    assert "made with another survey.mask.sha256" in capsys.readouterr().err


CASE = {
    "convergence": np.arange(80.0).reshape(8, 10),
    "shear": np.zeros((2, 8, 10)),
    "noise_std": np.full((8, 10), 0.1),
    "mask": np.arange(80).reshape(8, 10) % 10 > 2,
    "pixel_arcmin": 4.0,
}


def described(*flags: str) -> tuple:
    """What flags make of survey and field."""
    return survey_and_field(build_parser().parse_args(["simulate", "survey", *flags]))


def test_what_flags_describe(own, tmp_path) -> None:
    np.savez(tmp_path / "case.npz", **CASE)
    case = ["--mask-from", str(tmp_path / "case.npz")]
    survey, field = described("--preset", "euclid", *case, "--size", "8x6")
    np.testing.assert_array_equal(survey.mask, CASE["mask"][1:-1, 1:-1])
    assert (field.shape, field.pixel_arcmin) == ((6, 8), 4.0) and survey.stars is None
    assert field.centre_deg == PRESETS["euclid"].grid.centre_deg
    survey, _ = described("--preset", "euclid", "--star-spikes", "4,0.2")
    known = PRESETS["euclid"].stars
    assert survey.stars == Stars(known.density_arcmin2, known.radius_arcmin, 4.0, 0.2)
    survey, _ = described("--preset", "cluster", "--measurement-error", "0.1")
    assert survey.measurement == MeasurementError(0.1, (21.5, 25.5, 27.5))
    survey, _ = described("--preset", "cluster", "--measurement-error", "0", "--stars", "0.1")
    assert survey.measurement is None and survey.stars == Stars(0.1)
    assert described("--preset", "kids", "--stars", "0")[0].stars is None
    galaxies = galaxies_of(own)[:4]
    survey, field = described(*galaxies, *case, "--centre", "150,2", "--border-arcmin", "4")
    assert field.centre_deg == (150, 2) and isinstance(survey, GivenSurvey)
    assert survey.holes.border_arcmin == 4 and survey.holes.mask.shape == (8, 10)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["GALAXIES", "--density", "3"], "--density is 3.0, but --galaxies brings"),
        (["GALAXIES", "--preset", "kids"], "leave --preset out, or change that"),
        (["GALAXIES", "--measurement-error", "0.1"], "noise of their own"),
        (["GALAXIES", "--centre", "153,2", "--size", "20"], "0 of the 2000 galaxies lie on"),
        (["GALAXIES", "--border-arcmin", "30"], "narrower border"),
        (["GALAXIES", "CASE"], "does not say where on the sky it is; give its centre"),
        (["GALAXIES", "MASK", "--centre", "150,2"], "has its place on the sky"),
        (["--galaxies", "none.fits"], "none.fits"),
        (["--preset", "kids", "--columns", "ra=A"], "no catalogue is read (--galaxies)"),
        (["--preset", "kids", "MASK", "--pixel-arcmin", "1"], "the pixels are those of"),
        (["--preset", "kids", "CASE", "--size", "12"], "has 10x8; expected its middle"),
        (["--preset", "kids", "CASE", "--size", "5x4"], "an even number of pixels less"),
        (["--preset", "kids", "--mask-from", "none.npz"], "none.npz"),
        (["--preset", "kids", "--stars", "-1"], "expected a density above 0"),
        (["--preset", "kids", "--stars", "0", "--star-radius", "1,2"], "there are no --stars"),
        (["--preset", "kids", "--star-radius", "2,1"], "the smallest and the largest"),
        (["--preset", "kids", "--magnitudes", "1,2,3"], "there is no --measurement-error"),
        (["--preset", "kids", "--measurement-error", "0.1"], "give --magnitudes BRIGHT,PEAK,FAINT"),
        (["--preset", "cluster", "--measurement-error", "-1"], "faintest galaxies is -1.0"),
        (["--area", "10", "--preset", "kids", "--stars", "0.1"], "not a wide survey (--area)"),
        (["--area", "10", "GALAXIES"], "not a wide survey (--area)"),
    ],
)
def test_contradictions_exit_2_and_leave_nothing(own, tmp_path, capsys, flags, message) -> None:
    np.savez(tmp_path / "case.npz", **CASE)
    mask = str(own / "mocks" / "field-00000000" / "shear.fits")
    files = {
        "GALAXIES": galaxies_of(own)[:4],
        "CASE": ["--mask-from", str(tmp_path / "case.npz")],
        "MASK": ["--mask-from", mask],
    }
    given = [part for flag in flags for part in files.get(flag, [flag])]
    assert main([*COMMAND, *given, "--num", "1", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_numbers_joined_by_commas(capsys) -> None:
    for flag, value in (("--star-radius", "1"), ("--magnitudes", "1,2"), ("--star-spikes", "a,b")):
        with pytest.raises(SystemExit):
            main(["simulate", "survey", flag, value])
        assert f"'{value}'; expected numbers " in capsys.readouterr().err


def test_the_page_can_be_typed(tmp_path) -> None:
    """Every command of the how-to, and its configuration, is one that there is."""
    page = (Path(__file__).parents[1] / "docs" / "howto" / "mock_surveys.md").read_text()
    commands = re.findall(r"^jaxmap (.*)$", page, re.M)
    assert len(commands) == 5
    parser = build_parser()
    for command in commands:
        parser.parse_args(shlex.split(command))
    (tmp_path / "mocks.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.S)[1])
    arguments = ["simulate", "survey", str(tmp_path / "mocks.toml")]
    options = parser.parse_args(with_config(arguments, parser))
    assert options.star_radius == (0.5, 2.0) and options.out == "masked"
