"""Detections as an ECSV table and as regions for DS9."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmap.arrayfiles import parsed_json
from jaxmap.clusters.detection import Detections
from jaxmap.cosmology import angular_diameter_distance
from jaxmap.files import atomic_path
from jaxmap.grid import ARCMIN
from jaxmap.matter_power import PLANCK18, Cosmology

if TYPE_CHECKING:
    from astropy.table import Table

_RECORD = "# jaxmap: "
_LONGEST_RECORD = 2**20


def aperture_masses(
    found: Detections, z_lens: float, inverse_critical: float, cosmology: Cosmology = PLANCK18
) -> np.ndarray:
    r"""Lower limits of the mass in the aperture, :math:`\pi R^2 \Sigma_{cr}\, \zeta`.

    Args:
        found: with the aperture contrast :math:`\zeta`.
        z_lens: redshift of all of them.
        inverse_critical: :math:`\Sigma_{cr}^{-1}` in Mpc^2/Msun.
        cosmology: flat.

    Returns:
        Quantiles (16, 50, 84 %) in Msun, shape ``(3, m)``.
    """
    radius = found.aperture_arcmin * ARCMIN * float(angular_diameter_distance(z_lens, cosmology))
    return found.contrast * (math.pi * radius**2 / inverse_critical)


def detection_table(
    found: Detections,
    *,
    mass: np.ndarray | None = None,
    observed: np.ndarray | None = None,
    meta: dict[str, Any] | None = None,
) -> Table:
    """A row for each detection; what a single map cannot tell is masked.

    Columns: ``id``; ``ra``, ``dec`` (ICRS, deg) where the grid is on the sky; ``x``, ``y`` (pixels
    from the first pixel's centre); ``x_error``, ``y_error`` (arcsec along x = west and y = north);
    ``probability`` and its error from the number of samples; ``height`` of the filtered map, its
    error, and ``snr``, the height over the standard deviation of the background; the aperture
    contrast, and with ``mass`` the aperture mass in Msun, each with ``_lower`` and ``_upper`` (16
    and 84 %); ``observed`` with the map's mask.

    Args:
        found: what to write.
        mass: from `aperture_masses`, or None.
        observed: the map's mask, shape ``(ny, nx)``, or None.
        meta: kept with the table.
    """
    from astropy import units
    from astropy.table import MaskedColumn, Table

    table = Table()
    table["id"] = np.arange(1, len(found) + 1)
    if found.grid.centre_deg is not None:
        ra, dec = sky_position(found)
        table["ra"], table["dec"] = ra * units.deg, dec * units.deg
    table["x"], table["y"] = found.x * units.pix, found.y * units.pix
    arcsec = found.grid.pixel_arcmin * 60
    single = found.num_samples == 1
    columns: dict[str, tuple[np.ndarray, Any]] = {
        "x_error": (found.x_std * arcsec, units.arcsec),
        "y_error": (found.y_std * arcsec, units.arcsec),
        "probability": (found.probability, None),
        "probability_error": (found.probability_std, None),
        "height": (found.height, None),
        "height_error": (found.height_std, None),
        "snr": (found.snr, None),
    }
    triples = {"contrast": (found.contrast, None)}
    if mass is not None:
        triples["mass"] = (mass, units.Msun)
    for name, (values, unit) in triples.items():
        for suffix, row in (("_lower", 0), ("", 1), ("_upper", 2)):
            columns[name + suffix] = (values[row], unit)
    for name, (values, unit) in columns.items():
        untold = single and name.endswith(("error", "probability", "_lower", "_upper"))
        mask = np.full(len(found), untold) | ~np.isfinite(values)
        table[name] = MaskedColumn(np.where(mask, 0, values), mask=mask, unit=unit)
    if observed is not None:
        table["observed"] = observed[np.rint(found.y).astype(int), np.rint(found.x).astype(int)]
    table.meta = {
        "scale_pixels": 2**found.scale,
        "background": found.background,
        "aperture_arcmin": found.aperture_arcmin,
        "num_samples": found.num_samples,
        **(meta or {}),
    }
    return table


def sky_position(found: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination in degrees."""
    ra, dec = found.grid.wcs().all_pix2world(found.x, found.y, 0)
    return np.asarray(ra, float), np.asarray(dec, float)


def write_regions(
    path: str | Path,
    found: Detections,
    radius_arcmin: float,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Circles about the detections, with number and probability, in DS9's format.

    On the sky in ICRS, else in image coordinates, whose first pixel is 1.

    Args:
        path: file to write; replaced only once the new one is whole.
        found: detections.
        radius_arcmin: of the circles.
        record: how they came to be, kept in a comment; anything JSON can hold.
    """
    # A semicolon ends a line of this format, comments too.
    about = json.dumps(record or {}).replace(";", "\\u003b")
    lines = ["# Region file format: DS9 version 4.1", f"{_RECORD}{about}", "global color=green"]
    if found.grid.centre_deg is None:
        lines.append("image")
        radius = f"{radius_arcmin / found.grid.pixel_arcmin:.3f}"
        places = [f"{x + 1:.3f},{y + 1:.3f}" for x, y in zip(found.x, found.y, strict=True)]
    else:
        lines.append("icrs")
        radius = f'{radius_arcmin * 60:.3f}"'
        places = [f"{ra:.7f},{dec:.7f}" for ra, dec in zip(*sky_position(found), strict=True)]
    for number, place in enumerate(places):
        label = f"{number + 1}"
        if found.num_samples > 1:
            label += f" P={found.probability[number]:.2f}"
        lines.append(f"circle({place},{radius}) # text={{{label}}}")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def record_of_regions(path: str | Path) -> Any:
    """The record that `write_regions` wrote into a file.

    Raises:
        ValueError: if there is none.
    """
    with open(path, encoding="utf-8") as file:
        for line in (file.readline(_LONGEST_RECORD) for _ in range(2)):
            if line.startswith(_RECORD):
                return parsed_json(line.removeprefix(_RECORD))
    raise ValueError("it holds no record")
