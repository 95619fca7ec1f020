"""Galaxy shapes (ShearCatalog) and their mean per pixel (ShearMap), checked on the way in."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.grid import Grid

log = logging.getLogger(__name__)

LARGEST_ELLIPTICITY = 100.0
"""One such galaxy would outweigh ten thousand: it is an error, not noise."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShearCatalog:
    """Calibrated shapes of galaxies; host arrays, made by `shear_catalog` or a reader.

    Args:
        ra_deg: right ascension (ICRS) in degrees, float64, shape ``(n,)``.
        dec_deg: declination in degrees, float64.
        ellipticity: complex estimate of the reduced shear, e1 + i e2, x = west, y = north at the
            galaxy.
        weight: relative weight, >= 0.
        z: redshift, or None.
    """

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    ellipticity: np.ndarray
    weight: np.ndarray
    z: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ra_deg)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShearMap:
    """Mean shear per pixel with its noise; made by `jaxmap.binning.bin_shear` or `shear_map`.

    Args:
        shear: complex, shape ``(ny, nx)``, zero where nothing was observed.
        weight: inverse noise variance of the two components, shape ``(2, ny, nx)``; 0 = masked.
        grid: pixel grid.
        counts: number of galaxies per pixel, or None.
    """

    shear: jax.Array
    weight: jax.Array
    grid: Grid = field(metadata={"static": True})
    counts: jax.Array | None = None

    @property
    def mask(self) -> jax.Array:
        """True where the shear was observed, shape ``(ny, nx)``."""
        return jnp.any(self.weight > 0, axis=0)


def require_shear_map(shear: object) -> None:
    """Refuse what is no shear map, such as arguments that were swapped.

    Raises:
        TypeError: with the way to make one.
    """
    if not isinstance(shear, ShearMap):
        raise TypeError(
            f"the shear is of type {type(shear).__name__}; expected a ShearMap, as in "
            "estimator(key, shear): bin_shear(catalog, grid) makes one of a catalogue, "
            "jaxmap.catalog.shear_map of arrays"
        )


def shear_catalog(
    ra_deg: ArrayLike,
    dec_deg: ArrayLike,
    ellipticity: ArrayLike,
    weight: ArrayLike | None = None,
    z: ArrayLike | None = None,
) -> ShearCatalog:
    """Check galaxy shapes and make them a `ShearCatalog`.

    Args:
        ra_deg, dec_deg: ICRS positions in degrees, shape ``(n,)``; any RA branch (360 wraps).
        ellipticity: complex e1 + i e2 that estimates the reduced shear, (a - b)/(a + b) kind, in
            the frame x = west, y = north at the galaxy.
        weight: relative weights, >= 0; equal weights by default.
        z: redshifts, optional.

    Raises:
        ValueError: for unequal lengths, fewer than two galaxies, values that are not finite,
            declinations beyond the poles, negative or vanishing weights, |e| beyond
            `LARGEST_ELLIPTICITY`, or |e| > 1 in more than a fifth of the galaxies (fewer are a
            warning: noisy shapes over a response of 0.7, or of KSB, do scatter beyond 1).
    """
    shapes = _filled(ellipticity)
    columns = {
        "ra": np.asarray(_filled(ra_deg), np.float64),
        "dec": np.asarray(_filled(dec_deg), np.float64),
        "e1": np.asarray(shapes.real, np.float64),
        "e2": np.asarray(shapes.imag, np.float64),
        "weight": np.ones(shapes.shape)
        if weight is None
        else np.asarray(_filled(weight), np.float64),
    }
    if z is not None:
        columns["z"] = np.asarray(_filled(z), np.float64)
    lengths = {name: values.shape for name, values in columns.items()}
    if shapes.ndim != 1 or len(set(lengths.values())) > 1:
        raise ValueError(f"catalogue columns have shapes {lengths}; expected equally long vectors")
    _check_values(columns)
    return ShearCatalog(
        ra_deg=columns["ra"],
        dec_deg=columns["dec"],
        ellipticity=columns["e1"] + 1j * columns["e2"],
        weight=columns["weight"],
        z=columns.get("z"),
    )


def _filled(values: ArrayLike) -> np.ndarray:
    """NaN in place of what a masked array hides."""
    if isinstance(values, np.ma.MaskedArray):
        inexact = values.dtype if values.dtype.kind in "fc" else np.float64
        return np.ma.filled(values.astype(inexact), np.nan)
    return np.asarray(values)


def _check_values(columns: dict[str, np.ndarray]) -> None:
    count = len(columns["ra"])
    if count < 2:
        raise ValueError(
            f"the catalogue has {count} galaxies; expected at least 2, since the shape noise is "
            "measured from their scatter (was a cut too strict, or the wrong file given?)"
        )
    for name, values in columns.items():
        bad = ~np.isfinite(values)
        if bad.any():
            raise ValueError(
                f"column {name!r} holds {bad.sum()} values that are not finite (first: "
                f"{values[bad][0]} in row {np.argmax(bad)}); remove these rows, or read with "
                "drop_invalid=True (--drop-invalid)"
            )
    off_sky = np.abs(columns["dec"]) > 90
    if off_sky.any():
        raise ValueError(
            f"column 'dec' holds {columns['dec'][off_sky][0]:g} in row {np.argmax(off_sky)}; "
            "expected declinations between -90 and 90 degrees (are RA and Dec swapped?)"
        )
    weight = columns["weight"]
    if (weight < 0).any():
        raise ValueError(
            f"column 'weight' holds {(weight < 0).sum()} negative values (first: "
            f"{weight[weight < 0][0]:g} in row {np.argmax(weight < 0)}); expected weights >= 0"
        )
    if np.count_nonzero(weight) < 2:
        raise ValueError(
            f"only {np.count_nonzero(weight)} of {count} galaxies have a weight above 0; expected "
            "at least 2 (is the weight column the right one?)"
        )
    size = np.hypot(columns["e1"], columns["e2"])
    if size.max() > LARGEST_ELLIPTICITY:
        raise ValueError(
            f"|e| is {size.max():g} in row {np.argmax(size)}; expected at most "
            f"{LARGEST_ELLIPTICITY:g}, which no noise explains: remove such rows"
        )
    beyond = int(np.sum(size > 1))
    if beyond > 0.2 * count:
        raise ValueError(
            f"|e| exceeds 1 for {beyond} of {count} galaxies ({beyond / count:.1%}); expected "
            "ellipticities (a - b)/(a + b) (are these other columns, or percentages?)"
        )
    if beyond:
        log.warning(
            "|e| exceeds 1 for %d of %d galaxies (largest %.3g); they are kept",
            beyond,
            count,
            size.max(),
        )


def shear_map(
    shear: ArrayLike,
    grid: Grid,
    *,
    weight: ArrayLike | None = None,
    noise_std: ArrayLike | None = None,
    counts: ArrayLike | None = None,
) -> ShearMap:
    """Check gridded shear and its noise and make them a `ShearMap`.

    Args:
        shear: complex ``(ny, nx)``, or the two components ``(2, ny, nx)``; ignored where masked.
        grid: pixel grid.
        weight: inverse noise variance per component, ``(ny, nx)``, ``(1, ny, nx)`` or
            ``(2, ny, nx)``; 0 = masked.
        noise_std: instead of the weight, the noise standard deviation; not finite or <= 0 = masked.
        counts: galaxies per pixel, optional.

    Raises:
        ValueError: for shapes that do not match the grid, negative or infinite weights, shear that
            is not finite where it has weight, or a map that is masked everywhere.
    """
    if (weight is None) == (noise_std is None):
        raise ValueError("give either weight or noise_std, and not both")
    if noise_std is not None:
        std = np.asarray(_filled(noise_std), float)
        observed = np.isfinite(std) & (std > 0)
        weight = np.where(observed, 1 / np.where(observed, std, 1) ** 2, 0)
    values, weights = _filled(shear), np.asarray(np.ma.filled(np.asanyarray(weight), 0), float)
    if not np.iscomplexobj(values):
        if values.shape != (2, *grid.shape):
            raise ValueError(
                f"shear has shape {values.shape} and is real; expected the two components "
                f"{(2, *grid.shape)}, or a complex {grid.shape}"
            )
        values = values[0] + 1j * values[1]
    if counts is not None and np.shape(counts) != grid.shape:
        raise ValueError(f"counts have shape {np.shape(counts)}; expected {grid.shape}")
    if values.shape != grid.shape or weights.shape[-2:] != grid.shape or weights.ndim > 3:
        raise ValueError(
            f"shear has shape {np.shape(shear)} and its weight or noise {weights.shape}; expected "
            f"the grid's (ny, nx) = {grid.shape}, or two such planes"
        )
    if weights.ndim == 3 and len(weights) not in (1, 2):
        raise ValueError(f"weight has {len(weights)} planes; expected 1 or 2 (one per component)")
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
        raise ValueError(
            f"weights hold {wrong.size} values that are no inverse variance (first: {wrong[0]:g}); "
            "expected them finite and >= 0, with 0 for a masked pixel"
        )
    weights = np.array(np.broadcast_to(weights, (2, *grid.shape)))
    observed = (weights > 0).any(axis=0)
    if not observed.any():
        raise ValueError("every pixel is masked; expected some with a weight above 0")
    bad = observed & ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"the shear is not finite in {bad.sum()} observed pixels (first: row, column "
            f"{np.argwhere(bad)[0].tolist()}); mask them by weight 0"
        )
    with np.errstate(over="ignore"):  # found below
        weight = jnp.asarray(weights, float)
        seen = jnp.asarray(np.where(observed, values, 0), complex)
    require_finite(weight)
    require_finite(seen, "the shear")
    return ShearMap(
        shear=seen,
        weight=weight,
        grid=grid,
        counts=None if counts is None else jnp.asarray(counts, float),
    )


def require_finite(values: jax.Array, what: str = "the inverse noise variance") -> None:
    """Refuse values that do not fit into the precision."""
    if not bool(jnp.all(jnp.isfinite(values))):
        raise ValueError(
            f"{what} is beyond the range of the precision; check the units of the noise "
            "(--shape-noise), or use float64 (--x64)"
        )
