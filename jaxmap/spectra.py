"""Power spectra: C_ell as a table, its variance per Fourier mode, and the spectrum of a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.grid import Grid
from jaxmap.two_columns import read_two_columns

# Column names as they are met in the wild, in lower case without punctuation.
_MULTIPOLE_NAMES = {"ell", "l", "multipole", "ells", "ellmid", "lmid", "elleff", "leff"}
_POWER_NAMES = {
    "cl", "cell", "clkk", "cellkk", "clkappa", "ckappa", "pkappa", "power", "powerspectrum"
}  # fmt: skip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PowerSpectrum:
    """A convergence power spectrum as a table.

    Args:
        ell: multipoles, ascending, shape ``(n,)``.
        c_ell: C_ell in steradians, shape ``(n,)``.
    """

    ell: jax.Array
    c_ell: jax.Array

    def __call__(self, ell: ArrayLike) -> jax.Array:
        """C_ell at any multipole: linear between the table's points.

        Below the table it is constant, above it goes on as a power law through the last two points.
        """
        inside = jnp.interp(ell, self.ell, self.c_ell)
        falling = (self.c_ell[-2] > 0) & (self.c_ell[-1] > 0)
        last = jnp.where(falling, self.c_ell[-2:], 1)
        slope = jnp.log(last[1] / last[0]) / jnp.log(self.ell[-1] / self.ell[-2])
        # A table that rises at its end tells nothing of what follows: then constant.
        beyond = jnp.maximum(jnp.asarray(ell) / self.ell[-1], 1) ** jnp.minimum(slope, 0)
        return inside * beyond


def power_spectrum(ell: ArrayLike, c_ell: ArrayLike) -> PowerSpectrum:
    """Check a table of C_ell and make it a `PowerSpectrum`.

    Args:
        ell: multipoles >= 0, ascending, shape ``(n,)``.
        c_ell: C_ell in steradians, shape ``(n,)``.

    Raises:
        ValueError: unless ``ell`` ascends and ``c_ell`` is finite and not negative.
    """
    ell_host, c_host = np.asarray(ell, float), np.asarray(c_ell, float)
    if ell_host.ndim != 1 or ell_host.shape != c_host.shape or ell_host.size < 2:
        raise ValueError(
            f"power spectrum tables have shapes ell {ell_host.shape} and C_ell {c_host.shape}; "
            "expected two equally long vectors of at least two values"
        )
    if not (np.all(np.isfinite(ell_host)) and np.all(np.diff(ell_host) > 0) and ell_host[0] >= 0):
        raise ValueError("the multipoles of the power spectrum must be finite, >= 0 and ascending")
    bad = ~(np.isfinite(c_host) & (c_host >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"the power spectrum is {c_host[first]:g} at ell = {ell_host[first]:g}; expected "
            "finite values >= 0 (C_ell in steradians, not a correlation function or a logarithm)"
        )
    if not c_host.any():
        raise ValueError("the power spectrum is zero everywhere; expected some values above 0")
    return PowerSpectrum(jnp.asarray(ell_host, float), jnp.asarray(c_host, float))


def read_power_spectrum(path: str | Path) -> PowerSpectrum:
    """Read C_ell from a file of two columns.

    Columns called like a multipole (ell, l, multipole ...) and a power (cl, C_ell, power ...) are
    taken; in a table of two columns without such names, the first is ell. The values are C_ell in
    steradians, not l (l + 1) C_ell / 2 pi; nothing in a file could tell.

    Args:
        path: FITS, ``.npy``, ``.npz`` or text, as for `jaxmap.two_columns.read_two_columns`.

    Raises:
        ValueError: for a file that is missing, unreadable or cut short, or a spectrum that
            `power_spectrum` rejects; the message names the file.
    """
    columns = read_two_columns(path, _MULTIPOLE_NAMES, _POWER_NAMES, "ell and C_ell")
    try:
        return power_spectrum(*columns)
    except ValueError as error:
        raise ValueError(f"cannot use ell and C_ell of {str(path)!r}: {error}") from error


def mode_variance(spectrum: PowerSpectrum, grid: Grid) -> jax.Array:
    r"""Variance of every Fourier mode of a map with the given spectrum.

    .. math:: S_\ell = C_{|\ell|} / \Omega_\mathrm{pix}

    for orthonormal FFTs. The monopole is ``inf``: shear says nothing about the mean (mass sheet),
    so the prior leaves it free.

    Returns:
        Shape ``(ny, nx)``, in FFT order.
    """
    variance = spectrum(jnp.abs(grid.ell(spectrum.c_ell.dtype))) / grid.pixel_sr
    return variance.at[0, 0].set(jnp.inf)


def pixel_variance(spectrum: PowerSpectrum, grid: Grid) -> jax.Array:
    r"""Variance of a pixel of a map with the given spectrum and zero mean.

    .. math:: s^2 = \frac{1}{N} \sum_{\ell \ne 0} S_\ell
    """
    variance = mode_variance(spectrum, grid)
    return jnp.mean(variance.at[0, 0].set(0))


def map_power(
    field: jax.Array, grid: Grid, edges: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Angle-averaged power spectrum of a flat-sky map.

    .. math:: C_b = \Omega_\mathrm{pix} \langle |\hat f(\ell)|^2 \rangle_{\ell \in b}

    Args:
        field: real or complex map, shape ``(ny, nx)``; periodic, no correction for a mask.
        grid: its grid.
        edges: band edges in ell, ascending, shape ``(n + 1,)``.

    Returns:
        Mean ell, C_ell in steradians and number of modes of each band, shape ``(n,)`` each; NaN
        where a band holds no mode.
    """
    edges = jnp.asarray(edges)
    ell = jnp.abs(grid.ell(field.real.dtype)).ravel()
    power = jnp.abs(jnp.fft.fft2(field, norm="ortho")).ravel() ** 2 * grid.pixel_sr
    num_bands = edges.shape[0] - 1
    band = jnp.searchsorted(edges, ell, side="right") - 1
    band = jnp.where((band >= 0) & (band < num_bands), band, num_bands)

    def band_sum(values: jax.Array) -> jax.Array:
        return jnp.zeros(num_bands + 1, values.dtype).at[band].add(values)[:-1]

    count = band_sum(jnp.ones_like(ell))
    return band_sum(ell) / count, band_sum(power) / count, count
