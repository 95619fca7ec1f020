"""From settings to maps and their spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmap.digests import digest_of
from jaxmap.files import sha256_of
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18
from jaxmap.redshifts import (
    RedshiftDistribution,
    cosmos_redshifts,
    read_redshift_distribution,
    redshift_distribution,
)
from jaxmap.simulation.baryons import TNG_BARYONS, Baryons
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.expected import light_cone_power
from jaxmap.spectra import PowerSpectrum
from jaxmap.training.given_maps import read_given_maps
from jaxmap.training.layouts import Fields, GivenFields, Layout, SimulatedFields
from jaxmap.training.loop import Progress
from jaxmap.training.settings import GivenMaps, SimulatedMaps, Training
from jaxmap.training.smooth_power import smooth_power

_BARYONS = {"tng": TNG_BARYONS, "default": Baryons(), "none": None}
_LAST_REDSHIFT = 5.0  # of the matter tables


class Source(NamedTuple):
    """Maps for training and validation, and their power spectrum."""

    training: Fields
    validation: Fields
    spectrum: PowerSpectrum


def open_source(settings: Training, progress: Progress = lambda steps: steps) -> Source:
    """Build the simulator, or read the maps, that the settings name.

    Args:
        settings: of a training.
        progress: wraps the loop over given maps as they are read.

    Raises:
        FileNotFoundError: if there are no such maps.
        ValueError: for settings, or maps, that do not fit.
    """
    source = settings.source
    if isinstance(source, GivenMaps):
        return _given(source, settings, progress)
    return _simulated(source, settings.layouts)


def digests_of(settings: Training, source: Source) -> dict[str, str]:
    """Digests of what a training reads: its maps, and files by the names of their settings."""
    files = {
        "start": settings.start,
        "mask_from": settings.survey.mask_from,
        "catalog": settings.survey.catalog,
    }
    maps = {}
    if isinstance(settings.source, GivenMaps):
        maps["maps"] = digest_of(source.training, source.validation)
    else:
        files["nz"] = settings.source.nz
    return {**maps, **{name: sha256_of(path) for name, path in files.items() if path}}


def sky_of(source: SimulatedMaps | GivenMaps) -> dict[str, Any]:
    """What skies the maps are of, as plain values: for the record in a file of weights.

    Of simulated maps the cosmology, n(z) and baryons (the simulator has the version of jaxmap); of
    given maps what the settings say of them.
    """
    if isinstance(source, GivenMaps):
        return {"simulator": None, **asdict(source)}
    redshifts = _redshifts(source)
    return {
        "simulator": "halo light cone",
        "cosmology": asdict(PLANCK18),
        "baryons": source.baryons,
        "redshifts": {
            name: np.asarray(getattr(redshifts, name), float).round(6).tolist()
            for name in ("z", "density")
        },
    }


def _simulated(source: SimulatedMaps, layouts: Sequence[Layout]) -> Source:
    """Maps that never repeat: training and validation share the simulator and differ by keys."""
    redshifts, pixel = _redshifts(source), source.pixel_arcmin
    baryons = _BARYONS[source.baryons]
    cones = {
        side: build_light_cone(Grid((side, side), pixel), redshifts, PLANCK18, baryons)
        for side in sorted({layout.side for layout in layouts})
    }
    fields = SimulatedFields(cones)
    return Source(fields, fields, light_cone_power(pixel, redshifts, baryons=baryons))


def _given(source: GivenMaps, settings: Training, progress: Progress) -> Source:
    """Maps in memory; the spectrum is that of those to train on."""
    maps = read_given_maps(source, settings.layouts, settings.seed, progress)
    training, validation = (GivenFields(jnp.asarray(each, float), source.rim) for each in maps)
    return Source(training, validation, smooth_power(maps[0], source.pixel_arcmin))


def _redshifts(settings: SimulatedMaps) -> RedshiftDistribution:
    given = read_redshift_distribution(settings.nz) if settings.nz else cosmos_redshifts()
    if settings.redshift_stretch == 1:
        return given
    z, density = settings.redshift_stretch * np.asarray(given.z), np.asarray(given.density)
    inside = z <= _LAST_REDSHIFT
    return redshift_distribution(z[inside], density[inside])
