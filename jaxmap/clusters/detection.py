r"""Mass peaks in posterior samples, each with its probability of being there.

Every sample is a sky that the data allow. It is filtered by the starlet aperture mass, and its
peaks above :math:`\nu\,\sigma_b` are listed, where :math:`\sigma_b` is the standard deviation of
the filtered *background*, skies without the cluster (Remy et al., Eq. 30), not of the filtered mean
map, which is smoother. A detection is a place where many samples have such a peak within a radius;
the share of samples that do is the probability that the true sky has one there, if the samples are
those of the posterior. From a single map without samples it is 1, and means nothing.

Places are chosen where the share is largest, which makes it a little too large when there are few
samples (``experiments/cluster_detection.py`` measures by how much).

References:
    Remy et al. (2023), A&A 672, A51, Sect. 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxmap.clusters.aperture import aperture_contrast, aperture_mass
from jaxmap.clusters.peaks import Peaks, find_peaks
from jaxmap.grid import Grid

QUANTILES = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class Detections:
    r"""Mass peaks, the most probable first; host arrays of one length.

    Args:
        x, y: mean position of the matching peaks in pixels from the first pixel's centre.
        x_std, y_std: their standard deviation, the posterior error; NaN from a single peak.
        probability: share of samples with a peak within the radius.
        probability_std: error of that share from the number of samples,
            :math:`\sqrt{(k + 1)(n - k + 1) / ((n + 2)^2 (n + 3))}`, of a uniform prior.
        height: mean of the filtered samples at the position, in all samples.
        height_std: its standard deviation over samples; NaN from a single map.
        snr: height over the standard deviation of the background.
        contrast: quantiles (16, 50, 84 %) of `jaxmap.clusters.aperture.aperture_contrast`,
            shape ``(3, m)``.
        grid: of the maps.
        num_samples: how many.
        scale: the starlet's.
        background: :math:`\sigma_b`.
        aperture_arcmin: radius of the contrast.
    """

    x: np.ndarray
    y: np.ndarray
    x_std: np.ndarray
    y_std: np.ndarray
    probability: np.ndarray
    probability_std: np.ndarray
    height: np.ndarray
    height_std: np.ndarray
    snr: np.ndarray
    contrast: np.ndarray
    grid: Grid
    num_samples: int
    scale: int
    background: float
    aperture_arcmin: float

    def __len__(self) -> int:
        return len(self.x)


def detect(
    samples: np.ndarray,
    grid: Grid,
    *,
    scale: int,
    threshold: float = 3.0,
    background: float | None = None,
    radius_arcmin: float | None = None,
    least_probability: float = 0.5,
    aperture_arcmin: float = 2.0,
    periodic: bool = False,
) -> Detections:
    r"""Find mass peaks in posterior samples.

    Args:
        samples: convergence, shape ``(n, ny, nx)``; a single map ``(1, ny, nx)`` will do, without
            probabilities.
        grid: pixel grid.
        scale: of the starlet; see `jaxmap.clusters.aperture.scale_of`.
        threshold: :math:`\nu`, least height in standard deviations of the background.
        background: :math:`\sigma_b`; by default that of the samples themselves
            (`background_std`), which are skies too.
        radius_arcmin: peaks this close belong together; by default :math:`2^{j-1}` pixels.
        least_probability: leave out detections below it.
        aperture_arcmin: radius of the aperture contrast.
        periodic: whether the maps are.

    Raises:
        ValueError: for samples that are not finite or not of the grid, or settings out of range.
    """
    samples = np.asarray(samples) if not isinstance(samples, np.ndarray) else samples
    if samples.ndim != 3 or samples.shape[1:] != grid.shape or len(samples) == 0:
        raise ValueError(
            f"samples have shape {samples.shape}; expected (n, ny, nx) with the grid's "
            f"{grid.shape} and n >= 1"
        )
    if not 0 < threshold < np.inf:
        raise ValueError(f"the threshold is {threshold}; expected a number above 0, such as 3")
    if not 0 <= least_probability <= 1:
        raise ValueError(f"the least probability is {least_probability}; expected 0 to 1")
    radius = 2 ** (scale - 1) if radius_arcmin is None else radius_arcmin / grid.pixel_arcmin
    if not 0 < radius < np.inf:
        raise ValueError(f"the radius is {radius_arcmin} arcmin; expected a number above 0")
    filtered = np.asarray(aperture_mass(samples, scale, periodic))
    if not np.all(np.isfinite(filtered)):
        raise ValueError("the samples are not finite everywhere; expected convergence maps")
    sigma = background_std(filtered) if background is None else background
    if not 0 < sigma < np.inf:
        raise ValueError(
            f"the background's standard deviation is {sigma}; expected a number above 0 (is the "
            "map constant?)"
        )
    num = len(samples)
    peaks = find_peaks(filtered, threshold * sigma)
    groups = _groups(peaks, radius, max(1, int(np.ceil(least_probability * num))))
    share = np.array([len(group) / num for group in groups])
    x = np.array([peaks.x[group].mean() for group in groups])
    y = np.array([peaks.y[group].mean() for group in groups])
    at = filtered[:, np.rint(y).astype(int), np.rint(x).astype(int)].astype(float)
    height = at.mean(axis=0)
    order = np.lexsort((-height, -share))
    groups = [groups[number] for number in order]
    x, y, share, height, at = x[order], y[order], share[order], height[order], at[:, order]
    hits = share * num
    contrast = aperture_contrast(samples, grid, x, y, aperture_arcmin)
    return Detections(
        x=x,
        y=y,
        x_std=np.array([_spread(peaks.x[group]) for group in groups]),
        y_std=np.array([_spread(peaks.y[group]) for group in groups]),
        probability=share,
        probability_std=np.sqrt((hits + 1) * (num - hits + 1) / (num + 3.0)) / (num + 2),
        height=height,
        height_std=at.std(axis=0, ddof=1) if num > 1 else np.full(len(x), np.nan),
        snr=height / sigma,
        contrast=np.quantile(contrast, QUANTILES, axis=0),
        grid=grid,
        num_samples=num,
        scale=scale,
        background=float(sigma),
        aperture_arcmin=aperture_arcmin,
    )


def background_std(filtered: np.ndarray) -> float:
    r"""Standard deviation of filtered skies, little moved by a few clusters in them.

    The scaled median absolute deviation, :math:`1.4826\, \mathrm{med}\, |w - \mathrm{med}\, w|`,
    over all pixels of all samples. Filtered skies have a long positive tail; their standard
    deviation is somewhat larger. Give another number to `detect` where it is known.

    Args:
        filtered: shape ``(n, ny, nx)``.
    """
    thin = filtered[:: max(1, len(filtered) // 64)]
    return float(1.4826 * np.median(np.abs(thin - np.median(thin))))


def share_with_peak(
    filtered: np.ndarray, x: np.ndarray, y: np.ndarray, least: float, radius: float
) -> np.ndarray:
    """Share of maps that have a peak above ``least`` within ``radius`` pixels of given places.

    Unlike in `detect` the places are chosen beforehand, so that of posterior samples this is the
    posterior probability and nothing else.

    Args:
        filtered: shape ``(n, ny, nx)``.
        x, y: places in pixels, shape ``(m,)``.

    Returns:
        Shape ``(m,)``.
    """
    peaks = find_peaks(filtered, least)
    found = np.zeros((len(filtered), len(x)), bool)
    for number, (cx, cy) in enumerate(zip(x, y, strict=True)):
        found[peaks.sample[np.hypot(peaks.x - cx, peaks.y - cy) <= radius], number] = True
    return found.mean(axis=0)


def _groups(peaks: Peaks, radius: float, least: int) -> list[np.ndarray]:
    """Peaks of different samples that belong together, at least ``least`` of them in each group.

    The peak with the most samples about it is taken, its group moved once to the mean position;
    then all peaks within the radius are set aside, and so on.
    """
    from scipy.spatial import cKDTree

    places = np.stack([peaks.x, peaks.y], axis=1)
    if len(places) == 0:
        return []
    tree = cKDTree(places)
    near = [np.array(found, int) for found in tree.query_ball_point(places, radius)]
    free = np.ones(len(places), bool)
    count = np.array([len(np.unique(peaks.sample[found])) for found in near])
    groups: list[np.ndarray] = []
    while True:
        best = int(np.argmax(np.where(free, count, -1)))
        if not free[best] or count[best] < least:
            return groups
        group = _nearest(peaks, near[best][free[near[best]]], places[best])
        centre = places[group].mean(axis=0)
        moved = np.array(tree.query_ball_point(centre, radius), int)
        moved = moved[free[moved]]
        again = _nearest(peaks, moved, centre)
        if len(again) >= len(group):
            group = again
        groups.append(group)
        aside = np.union1d(near[best], moved)
        free[aside] = False
        touched = np.unique(np.concatenate([near[index] for index in aside]))
        for index in touched[free[touched]]:
            left = near[index][free[near[index]]]
            count[index] = len(np.unique(peaks.sample[left]))


def _nearest(peaks: Peaks, candidates: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Of every sample, its candidate nearest to a place."""
    distance = np.hypot(peaks.x[candidates] - centre[0], peaks.y[candidates] - centre[1])
    ordered = candidates[np.argsort(distance, kind="stable")]
    return ordered[np.unique(peaks.sample[ordered], return_index=True)[1]]


def _spread(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
