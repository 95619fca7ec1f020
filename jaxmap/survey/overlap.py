r"""How far away galaxies act on a map: what patches must overlap by.

A linear estimator is a convolution with a kernel; where it is cut off, the map lacks what lies
beyond. For noise as even as the mean depth,

.. math:: k = F^{-1}[f_\ell\, P^*_\ell], \qquad
          f_\ell = e^{-\ell^2\sigma^2/2} \quad\text{or}\quad \frac{C_\ell}{C_\ell + N}

and the radius asked for holds all but 1 % of :math:`\sum |k|^2`, so that white noise beyond it adds
a tenth of the map's rms at most. A learned estimator reaches as far as its Wiener part or its
network, whichever is farther.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmap.estimators import ConditionalGAN, HongCNN, SurveyDeepMass
from jaxmap.grid import Grid
from jaxmap.networks.unet import ResidualUNet
from jaxmap.operators import gaussian_window, spin2_phase
from jaxmap.spectra import PowerSpectrum, mode_variance

LEFT_OUT = 0.01
_SIDE = 512


def kernel_radius(
    pixel_arcmin: float,
    *,
    smoothing_arcmin: float | None = None,
    spectrum: PowerSpectrum | None = None,
    noise_std: float = 0.0,
) -> float:
    """Radius, in arcminutes, that holds all but `LEFT_OUT` of a linear estimator's kernel.

    Args:
        pixel_arcmin: side of a pixel.
        smoothing_arcmin: of a smoothed inversion; or
        spectrum, noise_std: of a Wiener filter, and the noise of a shear component in a pixel.
    """
    grid = Grid((_SIDE, _SIDE), pixel_arcmin)
    if spectrum is None:
        window = gaussian_window(grid, smoothing_arcmin or 0.0, jnp.zeros(()).dtype)
    else:
        variance = mode_variance(spectrum, grid)
        window = jnp.where(jnp.isinf(variance), 0, variance / (variance + noise_std**2))
    kernel = jnp.fft.ifft2(window * spin2_phase(grid, window.dtype).conj())
    return _radius(np.asarray(jnp.abs(kernel) ** 2), pixel_arcmin)


def network_radius(network: ResidualUNet, pixel_arcmin: float) -> float:
    """Farthest that a U-Net sees, in arcminutes: the sum of its kernels' half widths."""
    sides = [2 ** (level + 1) for level in range(len(network.channels))]
    blocks = sum(side * 2 * 2 * network.blocks for side in sides)
    return pixel_arcmin * (2 * sides[0] + blocks + sum(sides))


def least_overlap(
    estimator: Any, pixel_arcmin: float, spectrum: PowerSpectrum, noise: float
) -> float:
    """Overlap, in arcminutes, for an estimator of `jaxmap.methods.build_estimator`.

    Args:
        estimator: what will make the maps.
        pixel_arcmin: side of a pixel.
        spectrum: prior power, for estimators without one of their own.
        noise: standard deviation of a shear component in a pixel of mean depth.

    Raises:
        ValueError: for a network that is not ours to look into.
    """
    smoothing = getattr(estimator, "smoothing_arcmin", None)
    if smoothing is not None:
        return kernel_radius(pixel_arcmin, smoothing_arcmin=smoothing)
    if isinstance(estimator, ConditionalGAN | HongCNN | SurveyDeepMass):
        raise ValueError(
            f"how far {type(estimator).__name__} sees is not known; say how far patches reach "
            "beyond their cells (--overlap-arcmin)"
        )
    learned = getattr(estimator, "denoiser", None) or getattr(estimator, "prior", None)
    own = getattr(learned, "spectrum", spectrum)
    radius = kernel_radius(pixel_arcmin, spectrum=own, noise_std=noise)
    network = getattr(learned, "network", None)
    if isinstance(network, ResidualUNet):
        radius = max(radius, network_radius(network, pixel_arcmin))
    return radius


def _radius(energy: np.ndarray, pixel_arcmin: float) -> float:
    offsets = np.fft.fftfreq(_SIDE, 1 / _SIDE)
    distance = np.hypot(*np.meshgrid(offsets, offsets)).ravel()
    order = np.argsort(distance, kind="stable")
    inside = np.cumsum(energy.ravel()[order]) / energy.sum()
    return float(distance[order][np.searchsorted(inside, 1 - LEFT_OUT)] * pixel_arcmin)
