"""Checks of what comes in as galaxies of clusters, with errors that say which one is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

_MOST = {"radius_mpc_h": 1e5, "velocity_km_s": 299_792.458}
"""Beyond the horizon, and faster than light."""


def vector_of(values: ArrayLike) -> np.ndarray:
    """Numbers as float64, NaN where masked."""
    return np.asarray(np.ma.filled(np.ma.asarray(values, float), np.nan))


def column_of(name: str, values: ArrayLike | None, size: int, kind: type) -> np.ndarray | None:
    """A column of a type and length, or None.

    Raises:
        ValueError: for another length, or numbers that are not finite.
    """
    if values is None:
        return None
    array: np.ndarray = np.asarray(values, kind)
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}; expected {(size,)}")
    if kind is float and not np.isfinite(array).all():
        raise ValueError(
            f"{name} is {array[~np.isfinite(array)][0]} for cluster "
            f"{int(np.argmin(np.isfinite(array)))}; expected finite numbers (leave {name} out if "
            "it is unknown)"
        )
    return array


def positive(name: str, value: float | None) -> float | None:
    """A finite number above 0, or None.

    Raises:
        ValueError: for any other.
    """
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; expected a finite number above 0")
    return None if value is None else float(value)


def check_galaxies(
    values: Mapping[str, np.ndarray], limits: Mapping[str, float | None], cluster: np.ndarray
) -> None:
    """Refuse galaxies that are none, or that lie outside their cylinder.

    Args:
        values: ``radius_mpc_h`` and ``velocity_km_s``, shape ``(n,)``.
        limits: of the cylinder, by the same names, or None.
        cluster: of every galaxy, shape ``(n,)``.

    Raises:
        ValueError: for values that are not finite, beyond all units or the cylinder, or negative
            radii.
    """
    for name, column in values.items():
        bad = ~np.isfinite(column)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{name} is {column[row]} for galaxy {row} of cluster {cluster[row]} "
                f"({bad.sum()} such values); expected finite numbers: remove these galaxies"
            )
    for name, column in values.items():
        size, most, limit = np.abs(column), _MOST[name], limits[name]
        row = int(np.argmax(size)) if size.size else 0
        if (size > most).any():
            raise ValueError(
                f"{name} is {column[row]:g} for galaxy {row} of cluster {cluster[row]}; expected "
                f"{most:g} at most: check the units"
            )
        if limit is not None and (size > limit * (1 + 1e-6)).any():
            raise ValueError(
                f"{name} is {column[row]:g} for galaxy {row} of cluster {cluster[row]}, beyond the "
                f"cylinder's {limit:g}; leave the cylinder out and apply it with cut_cylinder "
                "(--aperture, --velocity-cut)"
            )
    radius = values["radius_mpc_h"]
    if (radius < 0).any():
        row = int(np.argmin(radius))
        raise ValueError(f"radius_mpc_h is {radius[row]:g} for galaxy {row}; expected 0 or more")
