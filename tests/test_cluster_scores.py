"""The figures of Hong et al. on maps where they are known."""

import numpy as np
import pytest

from jaxmap.clusters.scores import centroid, deviation, interval, projected_mass, ratio


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(0).gumbel(size=(4, 30, 30)) * 0.03


def test_deviation_knows_neither_mean_nor_scale(truth):
    found = deviation(3 * truth + 0.2, truth)
    assert found.mean == pytest.approx(0, abs=1e-12) and found.std == pytest.approx(0, abs=1e-12)
    assert deviation(truth[:, ::-1], truth).mean > 1


def test_weights_make_every_level_count_alike():
    """99 pixels of one level and one of another weigh the same."""
    truth = np.zeros((1, 10, 10))
    truth[0, 4, 4] = 1
    found = truth.copy()
    found[0, 4, 4] = 0.5
    assert ratio(found, np.where(truth == 0, 2.0, truth)).mean == pytest.approx(0.25)
    scaled = (truth - 0.01) / truth.std()
    other = (0.5 * scaled.ravel()).reshape(truth.shape)
    # Equal shapes again: only pixels of the rare level differ once one more is added.
    other = truth.copy()
    other[0, 0, 0] = 1
    a, b = ((m - m.mean()) / m.std() for m in (other, truth))
    expected = 0.5 * np.abs(a - b)[truth == 0].mean() + 0.5 * np.abs(a - b)[truth == 1].mean()
    assert deviation(other, truth).mean == pytest.approx(expected)


def test_ratio_of_scaled_maps_and_its_clipping(truth):
    found = 0.4 * truth
    assert ratio(found, truth).mean == pytest.approx(0.4)
    broken = found.copy()
    broken[0, 3, 3] = 1e3 * truth[0, 3, 3]
    assert ratio(broken, truth).mean == pytest.approx(0.4)


def test_mass_of_a_disc():
    y, x = np.indices((61, 61))
    disc = 0.1 * (np.hypot(x - 30, y - 28) <= 10)
    assert projected_mass(disc, 30, 28) == pytest.approx(0.1 * np.sum(disc > 0))
    assert np.sum(disc > 0) == 317  # lattice points in a circle of radius 10
    assert projected_mass(disc, 30, 28, radius=5) == pytest.approx(0.1 * 81)
    assert projected_mass(disc, 5, 5) == 0


@pytest.mark.parametrize("level", [-0.5, 0.0, 0.7])
def test_centroid_between_pixels_on_any_level(level):
    y, x = np.indices((60, 60))
    peak = np.exp(-((x - 31.3) ** 2 + (y - 22.6) ** 2) / (2 * 2.0**2)) + level
    assert centroid(peak) == pytest.approx((31.3, 22.6), abs=0.01)
    assert centroid(peak[:24]) != pytest.approx((31.3, 22.6), abs=0.01)  # cut by the edge
    assert centroid(np.zeros((5, 5))) == (0.0, 0.0)


def test_interval_of_known_quantiles():
    found = interval(np.arange(101.0))
    assert found == pytest.approx((50, 34, 34))
