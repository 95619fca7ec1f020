"""Parts of mock surveys: numbers, stars, presets, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import shear_catalog
from jaxmap.grid import Grid
from jaxmap.simulation.counting import draw_poisson, poisson_slots
from jaxmap.simulation.masks import Holes, StarField, Stars, draw_stars, outside_stars
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.presets import PRESETS
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.shapes import MeasurementError
from jaxmap.simulation.survey import observe, observe_catalog

# Far from the equator, where the frames of grid and sky differ.
GRID = Grid((128, 128), 1.0, (30.0, 60.0))
SHARP = MockSurvey(density_arcmin2=10.0, shape_noise=1e-4)
KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 100)


@pytest.mark.parametrize("mean", [0.7, 5.0, 3000.0])
def test_poisson_numbers(mean):
    """Mean and variance in 4 standard errors, and the probability of none."""
    drawn = np.asarray(draw_poisson(KEY, mean, (40_000,)))
    error = np.sqrt(mean / drawn.size)
    assert abs(drawn.mean() - mean) < 4 * error
    assert abs(drawn.var() / mean - 1) < 4 * np.sqrt((2 + 1 / mean) / drawn.size)
    assert abs(np.mean(drawn == 0) - np.exp(-mean)) <= 4 * np.sqrt(np.exp(-mean) / drawn.size)
    assert drawn.max() < poisson_slots(mean)


def test_stars_cover_circles_and_spikes():
    stars = Stars(1.0, (1.0, 2.0), spike_length=3.0, spike_width=0.2)
    star = StarField(*(jnp.asarray([value]) for value in (4.0, -2.0, 2.0)))
    places = [(4, -2), (5.9, -2), (6.1, -2.39), (6.1, -2.41), (9.9, -2), (10.1, -2), (5.5, -0.5)]
    x, y = (jnp.asarray(values, float) for values in zip(*places, strict=True))
    free = outside_stars(x, y, star, stars).tolist()
    assert free == [False, False, False, True, False, True, True]
    assert outside_stars(x, y, star, replace(stars, spike_length=0.0)).tolist()[2]


def test_stars_mask_the_expected_fraction():
    """Over 100 skies, in 4 standard errors; at the border as inside."""
    stars, field = Stars(0.02, (1.0, 3.0)), Grid((40, 40), 1.0)
    x, y = np.meshgrid(np.arange(40.0) - 19.5, np.arange(40.0) - 19.5)
    skies = [outside_stars(x, y, draw_stars(key, stars, field), stars) for key in KEYS]
    masked = ~np.array(skies)
    for part in (masked, masked[:, :1], masked[:, :, -1:]):
        fraction = part.mean(axis=(1, 2))
        error = fraction.std() / np.sqrt(len(skies))
        assert abs(fraction.mean() - stars.masked_fraction) < 4 * error
        assert error < 0.1 * stars.masked_fraction


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    """Each has a place on the sky, some galaxies in a pixel and redshifts in the tables' range."""
    survey = PRESETS[name]
    assert survey.grid.centre_deg is not None
    assert 3 < survey.expected_number(survey.grid) / survey.grid.num_pixels < 10
    assert 0 <= survey.redshifts.z.min() <= survey.redshifts.z.max() <= 5


def test_preset_redshifts():
    """Medians and means that the sources quote; the COSMOS-like mask is the published one's."""

    def mean(name):
        redshifts = PRESETS[name].redshifts
        return float(np.trapezoid(redshifts.z * redshifts.density, redshifts.z))

    euclid = PRESETS["euclid"].redshifts
    below = np.trapezoid(np.where(euclid.z < 0.9, euclid.density, 0), euclid.z)
    assert below == pytest.approx(0.5, abs=0.01)
    assert mean("kids") == pytest.approx(0.637, abs=0.001)
    assert mean("hsc") == pytest.approx(0.80, abs=0.005)
    assert PRESETS["kids"].stars.masked_fraction == pytest.approx(0.227, abs=0.001)
    cosmos = PRESETS["cosmos"]
    side = cosmos.grid.shape[0] * cosmos.grid.pixel_arcmin
    inside = (1 - 2 * cosmos.border_arcmin / side) ** 2 * (1 - cosmos.stars.masked_fraction)
    assert inside == pytest.approx(0.5339, abs=0.002)
    assert inside * cosmos.expected_number(cosmos.grid) == pytest.approx(417_117, rel=0.005)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density_arcmin2": -1.0}, "has -1.0 galaxies per square arcminute"),
        ({"density_arcmin2": np.nan}, "expected a number above 0"),
        ({"shape_noise": 0.6}, "shape noise per component is 0.6"),
        ({"border_arcmin": -1.0}, "border is -1.0 arcmin"),
        ({"mask": np.zeros((4, 4))}, "hides the whole field"),
    ],
)
def test_impossible_surveys(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SHARP, **change)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stars(-0.1), "expected a density above 0"),
        (lambda: Stars(0.1, spike_length=np.inf), "finite lengths"),
        (lambda: Stars(0.1, (2.0, 1.0)), "the smallest and the largest"),
        (lambda: MeasurementError(0.0, (20, 21, 22)), "faintest galaxies is 0.0"),
        (lambda: MeasurementError(0.1, (20, 23, 22)), "ascending"),
        (lambda: ShearResponse(multiplicative=-1.5), "multiplicative bias is -1.5"),
        (lambda: ShearResponse(multiplicative=(0.0, np.nan)), "multiplicative bias is"),
        (lambda: ShearResponse(additive=complex("inf")), "additive bias is"),
    ],
)
def test_impossible_parts(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("grid", "survey", "field", "message"),
    [
        (replace(GRID, shape=(64, 64)), SHARP, None, "convergence has shape"),
        (replace(GRID, centre_deg=None), SHARP, None, "not on the sky"),
        (replace(GRID, pixel_arcmin=10.0), SHARP, None, "21.3 degrees wide"),
        (GRID, SHARP, replace(GRID, shape=(130, 20)), "20 x 130 arcmin and the simulated"),
        (GRID, SHARP, replace(GRID, centre_deg=(1.0, 2.0)), "expected one centre"),
        (GRID, replace(SHARP, border_arcmin=64.0), None, "leaves nothing"),
        (GRID, replace(SHARP, mask=np.ones((4, 4))), None, "mask has shape"),
        (GRID, replace(SHARP, density_arcmin2=1e9), None, "GiB of memory"),
        (GRID, replace(SHARP, border_arcmin=63.999), None, "sees 0 galaxies"),
    ],
)
def test_what_does_not_fit_is_refused(grid, survey, field, message):
    with pytest.raises(ValueError, match=message):
        observe(KEY, jnp.zeros(GRID.shape), grid, survey, field)


def test_bad_maps_and_empty_grids_are_refused():
    with pytest.raises(ValueError, match="not finite everywhere"):
        observe(KEY, jnp.full(GRID.shape, jnp.nan), GRID, SHARP)
    catalog = shear_catalog(np.linspace(29, 31, 50), np.full(50, 60.0), np.full(50, 0.1j))
    elsewhere = replace(GRID, centre_deg=(200.0, 0.0))
    with pytest.raises(ValueError, match="0 of the 50 galaxies"):
        observe_catalog(KEY, jnp.zeros(GRID.shape), elsewhere, catalog)


def test_a_wide_border_is_told(caplog):
    field = Grid((96, 96), 0.29)
    Holes(border_arcmin=6.0).check_field(field)
    assert not caplog.text
    Holes(border_arcmin=13.7).check_field(field)
    assert "leaves 0.0% of a field of 27.84 x 27.84 arcmin" in caplog.text
