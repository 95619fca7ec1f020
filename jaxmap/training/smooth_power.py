"""The power spectrum of given maps, smooth, as the prior of a Wiener filter."""

from __future__ import annotations

import numpy as np

from jaxmap.grid import Grid
from jaxmap.spectra import PowerSpectrum, power_spectrum

_EDGE = 0.125  # of a side, where maps fade out
_STEP = 1.1  # from one band in ell to the next
_FLOOR = 1e-12  # of the largest power: maps may have none at all beyond some multipole


def smooth_power(maps: np.ndarray, pixel_arcmin: float) -> PowerSpectrum:
    r"""Mean power of maps in logarithmic bands.

    .. math:: C_b = \frac{\Omega_\mathrm{pix}}{\sum_p t_p^2}
              \Big\langle \Big| \sum_p t_p (\kappa_p - \bar\kappa)\, e^{-i \ell x_p} \Big|^2
              \Big\rangle_{\ell \in b}

    with a taper t that fades out over an eighth of the side: the edges of a map that is not
    periodic do not meet, and the jump would spill large-scale power over all small scales. The
    table has many points between the bands (a power law from each to the next), for
    `PowerSpectrum` is linear between its points; it stays constant below the largest mode of the
    maps, and reaches their smallest.

    Args:
        maps: shape ``(num, ny, nx)``.
        pixel_arcmin: side of a pixel.

    Raises:
        ValueError: if all maps are flat.
    """
    grid = Grid(maps.shape[1:], pixel_arcmin)
    taper = np.multiply.outer(*map(_fading, grid.shape))
    total = np.zeros(grid.shape)
    for field in maps:
        fluctuation = field - np.average(field, weights=taper)
        total += np.abs(np.fft.fft2(taper * fluctuation)) ** 2
    power = grid.pixel_sr * total.ravel() / (len(maps) * np.sum(taper**2))
    ell = np.abs(np.asarray(grid.ell())).ravel()

    low, high = ell[ell > 0].min(), ell.max()
    edges = low * _STEP ** np.arange(-0.5, np.log(high / low) / np.log(_STEP) + 1)
    band = np.digitize(ell, edges)  # 0 is the mean of the maps
    count = np.bincount(band)
    there = np.flatnonzero(count[1:]) + 1
    mean_ell = np.bincount(band, ell)[there] / count[there]
    mean_power = np.bincount(band, power)[there] / count[there]
    if not mean_power.max() > 0:
        raise ValueError("the maps are flat: all their pixels are equal; give maps of convergence")
    mean_power = np.maximum(mean_power, _FLOOR * mean_power.max())
    at = np.geomspace(mean_ell[0], mean_ell[-1], 8 * len(there))
    return power_spectrum(at, np.exp(np.interp(np.log(at), np.log(mean_ell), np.log(mean_power))))


def _fading(size: int) -> np.ndarray:
    """1 inside, and down to 0 as a squared cosine over the outer `_EDGE` on both sides."""
    from_edge = np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size))
    return np.sin(0.5 * np.pi * np.minimum(from_edge / (_EDGE * size), 1)) ** 2
