"""Pixels, multipoles and the tangent plane."""

import numpy as np
import pytest

from jaxmap.grid import ARCMIN, Grid


def test_fundamental_multipole_of_each_axis():
    grid = Grid((8, 20), 2.0)
    ell = np.asarray(grid.ell())
    assert ell[0, 1] == pytest.approx(2 * np.pi / (20 * 2 * ARCMIN))
    assert ell[1, 0] == pytest.approx(2j * np.pi / (8 * 2 * ARCMIN))
    assert ell.shape == (8, 20)


def test_east_is_left_and_north_is_up():
    grid = Grid((11, 11), 1.0, (150.0, 2.0))
    x, y = grid.pixel_position([150.0, 150.05, 150.0], [2.0, 2.0, 2.05])
    np.testing.assert_allclose([x[0], y[0]], [5, 5], atol=1e-9)
    assert x[1] < 5 and y[1] == pytest.approx(5, abs=1e-2)
    assert y[2] > 5 and x[2] == pytest.approx(5, abs=1e-9)


@pytest.mark.parametrize("centre", [(0.0, 10.0), (359.999, -30.0), (123.0, 90.0), (20.0, -89.99)])
def test_right_ascension_wrap_and_poles(centre):
    """Galaxies a known distance away land at that distance, whatever the RA branch."""
    grid = Grid((101, 101), 0.5, centre)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    x, y = 50 + 30 * np.cos(angle), 50 + 30 * np.sin(angle)
    ra, dec = grid.wcs().all_pix2world(x, y, 0)
    for branch in (ra, ra - 360, ra + 360):
        found = grid.pixel_position(branch, dec)
        np.testing.assert_allclose(found, [x, y], atol=1e-6)


def test_far_hemisphere_is_not_projected():
    x, y = Grid((4, 4), 1.0, (10.0, 20.0)).pixel_position([190.0, 10.0], [-20.0, 20.0])
    assert np.isnan(x[0]) and np.isnan(y[0]) and np.isfinite(x[1])


@pytest.mark.parametrize("dec0", [0.0, 60.0, -55.0, 89.9])
def test_frame_rotation_follows_local_north(dec0):
    """The direction of north at every galaxy, by a small step through the projection."""
    grid = Grid((64, 64), 5.0, (40.0, dec0))
    x, y = np.random.default_rng(0).uniform(0, 63, (2, 50))
    ra, dec = grid.wcs().all_pix2world(x, y, 0)
    step = 1e-5
    ahead, behind = (grid.pixel_position(ra, dec + s) for s in (step / 2, -step / 2))
    north = (ahead[0] - behind[0]) + 1j * (ahead[1] - behind[1])
    expected = (north / np.abs(north) / 1j) ** 2
    np.testing.assert_allclose(grid.frame_rotation(ra), expected, atol=1e-6)
    if dec0 == 0:
        assert np.abs(grid.frame_rotation(ra) - 1).max() < 1e-12


def test_margin_keeps_the_pixels_on_the_sky():
    grid = Grid((10, 14), 0.7, (40.0, -10.0))
    x, y = grid.pixel_position([40.02], [-10.03])
    wide_x, wide_y = grid.padded(5).pixel_position([40.02], [-10.03])
    np.testing.assert_allclose([wide_x - 5, wide_y - 5], [x, y])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 4), 1.0), "grid shape"),
        (((4, 4), 0.0), "pixel scale is 0.0"),
        (((4, 4), float("nan")), "pixel scale is nan"),
        (((4, 4), 1.0, (10.0, 91.0)), "Dec"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_a_grid_off_the_sky_says_so():
    with pytest.raises(ValueError, match="not on the sky"):
        Grid((4, 4), 1.0).wcs()
