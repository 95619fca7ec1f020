"""What is compared between truth and samples besides pixels: modes, band powers, peaks, skewness.

All are the same function of a map for truth and samples, chosen by grid and mask alone, so that
ranks are exact. Maps come with their mean over the observed pixels removed: shear does not measure
it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jaxmap.calibration.ranks import Floats
from jaxmap.grid import Grid
from jaxmap.operators import gaussian_window
from jaxmap.spectra import PowerSpectrum, mode_variance

NUM_BANDS = 6
THRESHOLDS = (2.0, 3.0, 4.0)
"""Of counted peaks, in units of the standard deviation of the smoothed convergence."""


@dataclass(frozen=True, eq=False)
class Summaries:
    """How to summarise maps of one grid; made by `build_summaries`.

    Args:
        window: of the smoothing, on the half plane of modes, shape ``(ny, nx // 2 + 1)``.
        bands: indices of the modes of every band in the flattened half plane. Only columns are
            used whose modes are independent of one another.
        edges: band edges in ell, shape ``(num_bands, 2)``.
        thresholds: convergence above which peaks are counted.
        shape: of the maps.
    """

    window: Floats
    bands: tuple[NDArray[np.integer], ...]
    edges: Floats
    thresholds: tuple[float, ...]
    shape: tuple[int, int]

    @property
    def band_names(self) -> list[str]:
        return [f"ell {low:.0f}-{high:.0f}" for low, high in self.edges]


def build_summaries(grid: Grid, spectrum: PowerSpectrum, smoothing_arcmin: float) -> Summaries:
    """Prepare the summaries of maps.

    Args:
        grid: of the maps.
        spectrum: about that of the convergence; it sets the scale of the peaks' thresholds.
        smoothing_arcmin: standard deviation of the Gaussian before peaks and skewness.

    Raises:
        ValueError: for a smoothing of 0 or less.
    """
    if not 0 < smoothing_arcmin < np.inf:
        raise ValueError(
            f"smoothing is {smoothing_arcmin} arcmin; expected more than 0, such as 1, since the "
            "peaks of unsmoothed maps are those of single pixels"
        )
    window = np.asarray(gaussian_window(grid, smoothing_arcmin), float)
    variance = np.array(mode_variance(spectrum, grid), float)
    variance[0, 0] = 0
    spread = float(np.sqrt(np.mean(variance * window**2)))
    ny, nx = grid.shape
    ell = np.abs(np.asarray(grid.ell(), complex))[:, : nx // 2 + 1]
    fundamental = 2 * np.pi / (max(ny, nx) * np.sqrt(grid.pixel_sr))
    nyquist = np.pi / np.sqrt(grid.pixel_sr)
    edges = np.geomspace(fundamental * (1 - 1e-6), nyquist, NUM_BANDS + 1)
    column = np.arange(nx // 2 + 1)
    independent = np.broadcast_to((column > 0) & (2 * column < nx), ell.shape)
    found = [
        (np.flatnonzero(independent & (ell >= low) & (ell < high)), (low, high))
        for low, high in itertools.pairwise(edges)
    ]
    filled = [(modes, limits) for modes, limits in found if len(modes)]
    return Summaries(
        window=window[:, : nx // 2 + 1],
        bands=tuple(modes for modes, _ in filled),
        edges=np.array([limits for _, limits in filled]).reshape(-1, 2),
        thresholds=tuple(factor * spread for factor in THRESHOLDS),
        shape=(ny, nx),
    )


def centred(maps: Floats, observed: NDArray[np.bool_]) -> Floats:
    """Maps ``(..., ny, nx)`` less their mean over the observed pixels."""
    return maps - np.mean(maps[..., observed], axis=-1)[..., None, None]


def smoothed(maps: Floats, summaries: Summaries) -> Floats:
    """Gaussian smoothing on the periodic grid, shape ``(..., ny, nx)``."""
    return np.fft.irfft2(np.fft.rfft2(maps) * summaries.window, summaries.shape)


def band_modes(
    maps: Floats, observed: NDArray[np.bool_], summaries: Summaries
) -> dict[str, Floats]:
    """Real and imaginary parts of the modes of maps that are set to zero where not observed.

    Args:
        maps: centred, shape ``(n, ny, nx)``.
        observed: shape ``(ny, nx)``.
        summaries: of this grid.

    Returns:
        For every band, shape ``(n, number of parts)``.
    """
    modes = np.fft.rfft2(np.where(observed, maps, 0), norm="ortho").reshape(len(maps), -1)
    chosen = (modes[:, index] for index in summaries.bands)
    return {
        name: np.concatenate([part.real, part.imag], axis=1)
        for name, part in zip(summaries.band_names, chosen, strict=True)
    }


def scalars(smooth: Floats, observed: NDArray[np.bool_], summaries: Summaries) -> dict[str, Floats]:
    r"""Height and number of peaks, and skewness, of smoothed maps in their observed pixels.

    .. math:: \mathrm{skewness} = \langle \kappa_\theta^3 \rangle \big/
              \langle \kappa_\theta^2 \rangle^{3/2}

    Args:
        smooth: centred and smoothed maps, shape ``(n, ny, nx)``.
        observed: shape ``(ny, nx)``.
        summaries: of this grid.

    Returns:
        Shape ``(n,)`` for every name.
    """
    inside = centred(smooth, observed)[:, observed]
    skewness = np.mean(inside**3, axis=1) / np.mean(inside**2, axis=1) ** 1.5
    named = {"skewness": skewness, "peak height": np.max(inside, axis=1)}
    peak = _is_peak(smooth) & observed
    for factor, threshold in zip(THRESHOLDS, summaries.thresholds, strict=True):
        counts = np.sum(peak & (smooth > threshold), axis=(1, 2))
        named[f"peaks above {factor:g} sigma"] = counts.astype(float)
    return named


def _is_peak(smooth: Floats) -> NDArray[np.bool_]:
    """Where maps exceed their eight neighbours."""
    peak = np.ones(smooth.shape, bool)
    for shift in itertools.product((-1, 0, 1), repeat=2):
        if any(shift):
            peak &= smooth > np.roll(smooth, shift, axis=(1, 2))
    return peak
