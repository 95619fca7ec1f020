"""Peaks and their probabilities: on made-up samples, and calibrated on an exact posterior."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.clusters import aperture_contrast, aperture_mass, detect, match_positions, scale_of
from jaxmap.clusters.detection import share_with_peak
from jaxmap.clusters.peaks import find_peaks
from jaxmap.grid import Grid
from jaxmap.spectra import mode_variance
from jaxmap.starlet import starlet

GRID = Grid((48, 56), 0.5)


def bump(x, y, width=2.0, height=0.2, shape=GRID.shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))


def test_aperture_mass_is_a_compensated_starlet_scale(dtype):
    field = np.random.default_rng(0).normal(size=GRID.shape).astype(dtype)
    found = aperture_mass(jnp.asarray(field)[None], 2, periodic=True)
    assert found.dtype == dtype and found.shape == (1, *GRID.shape)
    np.testing.assert_allclose(found[0], starlet(jnp.asarray(field), 3)[1], atol=2e-6)
    shifted = aperture_mass(field + dtype(3), 2)
    np.testing.assert_allclose(shifted, aperture_mass(field, 2), atol=1e-5)
    # Without wrapping, opposite borders do not see each other; inside nothing changes.
    edge = np.zeros(GRID.shape, dtype)
    edge[:, 0] = 1
    wrapped, mirrored = aperture_mass(edge, 2, periodic=True), aperture_mass(edge, 2)
    assert np.abs(wrapped[:, -1]).max() > 0.01 and np.abs(mirrored[:, -1]).max() < 1e-6
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(aperture_mass(field, 2)[inner], found[0][inner], atol=2e-6)


def test_scales():
    assert scale_of(2.0, GRID) == 2 and scale_of(1.2, GRID) == 1 and scale_of(4.0, GRID) == 3
    for bad, message in ((0.0, "scale is 0"), (0.4, "pixels"), (400.0, "800 pixels")):
        with pytest.raises(ValueError, match=message):
            scale_of(bad, GRID)
    with pytest.raises(ValueError, match="starlet scale is 0"):
        aperture_mass(np.zeros((8, 8)), 0)


def test_peaks_between_pixels():
    maps = np.stack([bump(20.3, 11.6) + bump(40, 30.25, height=0.1), np.zeros(GRID.shape)])
    peaks = find_peaks(maps, 0.05)
    assert peaks.sample.tolist() == [0, 0]
    np.testing.assert_allclose(peaks.x, [20.3, 40], atol=0.03)
    np.testing.assert_allclose(peaks.y, [11.6, 30.25], atol=0.03)
    np.testing.assert_allclose(peaks.height, [0.2, 0.1], rtol=0.01)
    assert len(find_peaks(maps, 0.15).x) == 1 and len(find_peaks(maps, 0.3).x) == 0
    plateau = np.zeros((1, 9, 9))
    plateau[0, 4, 3:6] = 1
    plateau[0, 0, 8] = 5  # at the border: no peak
    assert len(find_peaks(plateau, 0.5).x) == 1


def test_probability_is_the_share_of_samples():
    """A cluster in 24 of 30 skies, its place scattered; another in all; a third in 6."""
    rng = np.random.default_rng(1)
    offset = 0.7 * rng.normal(size=(30, 2))
    samples = 0.003 * rng.normal(size=(30, *GRID.shape))
    for number in range(30):
        samples[number] += bump(15, 33)
        if number % 5:
            samples[number] += bump(40 + offset[number, 0], 12 + offset[number, 1])
        else:
            samples[number] += bump(44, 36)
    found = detect(samples, GRID, scale=2, threshold=5, least_probability=0.5)
    np.testing.assert_array_equal(found.probability, [1, 0.8])
    moved = offset[np.arange(30) % 5 > 0]
    np.testing.assert_allclose(found.x, [15, 40 + moved[:, 0].mean()], atol=0.1)
    np.testing.assert_allclose(found.y, [33, 12 + moved[:, 1].mean()], atol=0.1)
    np.testing.assert_allclose(found.x_std[1], moved[:, 0].std(ddof=1), rtol=0.15)
    assert found.x_std[0] < 0.1
    np.testing.assert_allclose(found.snr, found.height / found.background)
    assert found.contrast.shape == (3, 2) and found.contrast[1, 0] > 0.02
    rarer = detect(samples, GRID, scale=2, threshold=5, least_probability=0.1)
    np.testing.assert_array_equal(rarer.probability, [1, 0.8, 0.2])
    known = detect(samples, GRID, scale=2, background=1.0)
    assert len(known) == 0 and known.contrast.shape == (3, 0)


def test_one_map_has_no_errors():
    field = bump(20, 20) + 0.001 * np.random.default_rng(2).normal(size=GRID.shape)
    found = detect(field[None], GRID, scale=2, threshold=10)
    assert len(found) == 1 and found.probability[0] == 1
    assert np.isnan(found.x_std[0]) and np.isnan(found.height_std[0])


def test_aperture_contrast():
    """Of a uniform disc its height, whatever the mean of the map; beyond the map, nothing."""
    rows, columns = np.mgrid[: GRID.shape[0], : GRID.shape[1]]
    disc = 0.1 * (np.hypot(columns - 20, rows - 15) <= 5)
    maps = np.stack([disc, disc + 7])
    found = aperture_contrast(maps, GRID, np.array([20.0, 40.0]), np.array([15.0, 40.0]), 2.5)
    np.testing.assert_allclose(found, [[0.1, 0], [0.1, 0]], atol=1e-12)
    assert np.isnan(aperture_contrast(maps, GRID, [500.0], [500.0], 2.5)).all()
    with pytest.raises(ValueError, match="one pixel or more"):
        aperture_contrast(maps, GRID, [20.0], [15.0], 0.1)


def test_matching_is_one_to_one():
    partner, distance = match_positions(
        np.array([0.0, 1.0, 50.0]), np.zeros(3), np.array([0.9, 10.0, np.nan]), np.zeros(3), 2.0
    )
    assert partner.tolist() == [-1, 0, -1]
    np.testing.assert_allclose(distance, [np.nan, 0.1, np.nan])
    with pytest.raises(ValueError, match="radius is 0"):
        match_positions(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), 0.0)


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        (np.zeros((3, 8, 8)), {}, "samples have shape"),
        (np.zeros((1, *GRID.shape)), {}, "background's standard deviation is 0"),
        (np.full((1, *GRID.shape), np.nan), {}, "not finite"),
        (np.ones((1, *GRID.shape)), {"threshold": -1.0}, "threshold is -1"),
        (np.ones((1, *GRID.shape)), {"least_probability": 2.0}, "least probability is 2"),
        (np.ones((1, *GRID.shape)), {"radius_arcmin": 0.0}, "radius is 0"),
    ],
)
def test_bad_samples_and_settings(samples, settings, message):
    with pytest.raises(ValueError, match=message):
        detect(samples, GRID, scale=2, **settings)


def test_probabilities_are_calibrated(spectrum):
    """Predicted against true over 240 places chosen beforehand, in skies with known posterior.

    Gaussian skies in white noise, whose posterior is independent in Fourier space. Excess of
    events, and its correlation with the prediction, within 3.5 standard errors; samples with a
    third of the spread, and those of another field, must fail.
    """
    grid, num, scale, radius, noise = Grid((48, 40), 1.0), 40, 1, 2.0, 0.05
    variance = np.array(mode_variance(spectrum, grid))
    variance[0, 0] = 0  # the mean, to which the filter is blind
    gain = variance / (variance + noise**2)
    rng = np.random.default_rng(4)

    def gaussian(of_modes, *shape):
        white = np.fft.fft2(rng.normal(size=(*shape, *grid.shape)))
        return np.fft.ifft2(np.sqrt(of_modes) * white).real

    x, y = (axis.ravel().astype(float) for axis in np.meshgrid(range(3, 40, 7), range(4, 48, 9)))
    skies = gaussian(variance, 8)
    data = skies + noise * rng.normal(size=skies.shape)
    mean = np.fft.ifft2(gain * np.fft.fft2(data)).real
    spread = gaussian(variance * (1 - gain), 8, num)
    filtered = np.asarray(aperture_mass(skies, scale, periodic=True))
    least = 1.5 * np.std(filtered)

    def shares(maps):
        stack = np.asarray(aperture_mass(maps, scale, periodic=True))
        return np.concatenate([share_with_peak(one, x, y, least, radius) for one in stack])

    event = shares(skies[:, None])
    scores = {
        "posterior": scores_of(shares(mean[:, None] + spread), event, num),
        "narrow": scores_of(shares(mean[:, None] + spread / 3), event, num),
        "other": scores_of(shares(np.roll(mean[:, None] + spread, 1, axis=0)), event, num),
    }
    assert 0.1 < event.mean() < 0.6 and len(event) >= 240
    assert np.all(np.abs(scores["posterior"]) < 3.5), scores
    for control in ("narrow", "other"):
        assert np.any(np.abs(scores[control]) > 3.5), scores


def scores_of(predicted, event, num):
    """Excess of events and its covariance with the prediction, in standard errors."""
    variance = np.maximum(predicted * (1 - predicted), 0.5 / num)
    tilt = predicted - predicted.mean()
    # The sampling error of the predictions tilts the regression; this is its mean.
    noise = np.sum(predicted * (1 - predicted)) / (num - 1)
    excess = np.sum(event - predicted) / np.sqrt(np.sum(variance))
    slope = (np.sum((event - predicted) * tilt) + noise) / np.sqrt(np.sum(variance * tilt**2))
    return np.array([excess, slope])
