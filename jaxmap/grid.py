"""The pixel grid: shape, pixel scale, multipoles and the tangent plane it lies on.

Conventions (stated once, here): arrays have axis order ``(ny, nx)``; ``x`` (columns) grows towards
the west, ``y`` (rows) towards the north, so an array shown with the origin at the lower left looks
like the sky (north up, east left). Spin-2 fields are one complex array ``g1 + i g2`` in that frame:
``g1 > 0`` stretches along x (east-west), ``g2 > 0`` along the north-west diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from astropy.wcs import WCS

ARCMIN = math.pi / (180 * 60)
"""One arcminute in radians."""

WIDEST_FIELD_DEG = 20.0
"""Beyond this a tangent plane stretches lengths at its rim by more than three per cent."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Grid:
    """A flat, periodic grid of square pixels, optionally placed on the sky.

    Hashable and without arrays, so that it can be a static argument of ``jax.jit``.

    Args:
        shape: ``(ny, nx)``, number of pixels.
        pixel_arcmin: side of a pixel in arcminutes.
        centre_deg: (right ascension, declination) of the grid's centre in degrees (ICRS), or None
            for a grid that is not on the sky.

    Raises:
        ValueError: if the shape or the pixel scale is not positive, or the centre not on the sky.
    """

    shape: tuple[int, int]
    pixel_arcmin: float
    centre_deg: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or any(int(n) != n or n < 1 for n in self.shape):
            raise ValueError(f"grid shape is {self.shape}; expected two positive integers (ny, nx)")
        if not (math.isfinite(self.pixel_arcmin) and self.pixel_arcmin > 0):
            raise ValueError(
                f"pixel scale is {self.pixel_arcmin} arcmin; expected a finite number above 0"
            )
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "pixel_arcmin", float(self.pixel_arcmin))
        if self.centre_deg is None:
            return
        ra, dec = (float(angle) for angle in self.centre_deg)
        if not (math.isfinite(ra) and abs(dec) <= 90):
            raise ValueError(
                f"grid centre is (RA, Dec) = ({ra}, {dec}) deg; expected a finite RA and a Dec "
                "between -90 and 90"
            )
        object.__setattr__(self, "centre_deg", (ra, dec))

    @property
    def num_pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def pixel_sr(self) -> float:
        """Pixel area in steradians."""
        return (self.pixel_arcmin * ARCMIN) ** 2

    def ell(self, dtype: Any = float) -> jax.Array:
        r"""Multipole of every Fourier mode as one complex number.

        .. math:: \ell = \ell_1 + i \ell_2, \qquad \ell_a = 2\pi f_a / \theta_\mathrm{pix}

        Returns:
            Shape ``(ny, nx)``, in inverse radians and in FFT order; ``ell_1`` along x, ``ell_2``
            along y.
        """
        ny, nx = self.shape
        dtype = jnp.zeros((), dtype).real.dtype
        step = 2 * math.pi / (self.pixel_arcmin * ARCMIN)
        ell_x = jnp.asarray(step * np.fft.fftfreq(nx), dtype)
        ell_y = jnp.asarray(step * np.fft.fftfreq(ny), dtype)
        return jax.lax.complex(*jnp.broadcast_arrays(ell_x[None, :], ell_y[:, None]))

    def padded(self, margin: int) -> Grid:
        """The same grid with ``margin`` more pixels on every side."""
        ny, nx = self.shape
        return Grid((ny + 2 * margin, nx + 2 * margin), self.pixel_arcmin, self.centre_deg)

    def wcs(self) -> WCS:
        """Gnomonic (TAN, ICRS) world coordinates of the grid, as ``astropy.wcs.WCS``.

        Raises:
            ValueError: if the grid has no centre on the sky.
        """
        if self.centre_deg is None:
            raise ValueError(
                "this grid is not on the sky; give Grid(..., centre_deg=(ra, dec)) to place it"
            )
        from astropy.wcs import WCS

        ny, nx = self.shape
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = list(self.centre_deg)
        wcs.wcs.crpix = [(nx + 1) / 2, (ny + 1) / 2]
        wcs.wcs.cdelt = [-self.pixel_arcmin / 60, self.pixel_arcmin / 60]
        wcs.wcs.radesys = "ICRS"
        return wcs

    def frame_rotation(self, ra_deg: np.ndarray) -> np.ndarray:
        r"""Spin-2 phase that turns ellipticities from the local sky frame to the grid's.

        .. math:: e_\mathrm{grid} = e_\mathrm{sky}\, (n / |n|)^2, \qquad
                  n = \cos\Delta\alpha - i \sin\delta_0 \sin\Delta\alpha

        Catalogues refer shapes to the north at every galaxy, the grid to the north at its centre;
        meridians converge, by much near a pole. :math:`i n` is the direction of local north in the
        tangent plane.

        Args:
            ra_deg: right ascension in degrees, shape ``(n,)``; the declination does not matter,
                since meridians are straight lines in a gnomonic plane.

        Returns:
            Complex, modulus 1; its conjugate turns back.
        """
        assert self.centre_deg is not None
        ra0, dec0 = np.radians(self.centre_deg)
        delta = np.radians(np.asarray(ra_deg, float)) - ra0
        north = np.cos(delta) - 1j * np.sin(dec0) * np.sin(delta)
        size = np.abs(north)
        # On the equator a quarter turn away, outside any tangent plane, n vanishes.
        return np.where(size > 0, north / np.where(size > 0, size, 1), 1) ** 2

    def pixel_position(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[Any, Any]:
        """Tangent-plane position of sky coordinates, in pixels from the first pixel's centre.

        Args:
            ra_deg: right ascension in degrees, any shape.
            dec_deg: declination in degrees, same shape.

        Returns:
            ``(x, y)`` in float64; NaN for positions on the far hemisphere, which a tangent plane
            cannot show.
        """
        ra, dec = (
            np.atleast_1d(np.asarray(ra_deg, float)),
            np.atleast_1d(np.asarray(dec_deg, float)),
        )
        x, y = self.wcs().all_world2pix(ra, dec, 0)
        assert self.centre_deg is not None
        ra0, dec0 = np.radians(self.centre_deg)
        ra, dec = np.radians(ra), np.radians(dec)
        cos_distance = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
        behind = cos_distance <= 1e-3
        return np.where(behind, np.nan, x), np.where(behind, np.nan, y)
