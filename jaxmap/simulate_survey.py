"""The survey that flags of ``jaxmap simulate survey`` describe, and the field that it sees."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from jaxmap.benchmark import read_survey_map
from jaxmap.commands import reading_options
from jaxmap.footprint import grid_of_catalog
from jaxmap.grid import Grid
from jaxmap.reading.readers import read_shear
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.simulation.geometry import middle
from jaxmap.simulation.masks import Holes, Stars
from jaxmap.simulation.mock_survey import GivenSurvey, MockSurvey
from jaxmap.simulation.presets import PRESETS
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.shapes import MeasurementError

FIELD = Grid((360, 360), 0.29, (150.0, 2.0))

_HOLES = ("mask_from", "border_arcmin", "stars", "star_radius", "star_spikes")
_READING = ("columns", "hdu", "group", "distortion", "response")
_DRAWN = ("preset", "density", "shape_noise", "measurement_error", "magnitudes")


def survey_and_field(options: argparse.Namespace) -> tuple[MockSurvey | GivenSurvey, Grid]:
    """What observes the simulated sky, and its pixels.

    Raises:
        ValueError: for flags that contradict one another, values out of range, or files that hold
            no survey.
        FileNotFoundError: if there is no such file.
    """
    if options.galaxies is None:
        return _drawn(options)
    _refuse(options, _DRAWN, "--galaxies brings galaxies with noise of their own")
    catalog = read_shear(options.galaxies, **reading_options(options))
    if options.mask_from is None:
        pixel, size, centre = options.pixel_arcmin, options.size, options.centre
        field, mask = grid_of_catalog(catalog, pixel, shape=size, centre_deg=centre), None
    else:
        field, mask = _masked_field(options, None)
    holes = Holes(_stars(options, None), options.border_arcmin or 0.0, mask)
    return GivenSurvey(catalog, _response(options, ShearResponse()), holes), field


def wide_survey(options: argparse.Namespace) -> MockSurvey:
    """What observes the curved sky: a survey without holes.

    Raises:
        ValueError: for flags that only fields have, or values out of range.
    """
    fields_only = ("galaxies", *_HOLES, "measurement_error", "magnitudes", "size", "pixel_arcmin")
    _refuse(options, fields_only, "only fields have that, not a wide survey (--area)")
    return _drawn(options)[0]


def _drawn(options: argparse.Namespace) -> tuple[MockSurvey, Grid]:
    """The preset, but for what flags give."""
    _refuse(options, _READING, "no catalogue is read (--galaxies)")
    given: dict[str, Any] = {
        "density_arcmin2": options.density,
        "shape_noise": options.shape_noise,
        "border_arcmin": options.border_arcmin,
        "redshifts": read_redshift_distribution(options.nz) if options.nz else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.preset is None:
        if not {"density_arcmin2", "shape_noise"} <= given.keys():
            raise ValueError(
                "no survey given; expected --preset, --galaxies, or --density and --shape-noise"
            )
        survey = MockSurvey(**given)
    elif options.mask_from is None:
        survey = replace(PRESETS[options.preset], **given)
    else:
        survey = replace(PRESETS[options.preset], stars=None, **{"border_arcmin": 0.0, **given})
    field, mask = _field(options, survey.grid or FIELD), None
    if options.mask_from is not None:
        field, mask = _masked_field(options, field.centre_deg)
    survey = replace(
        survey,
        measurement=_measurement(options, survey.measurement),
        response=_response(options, survey.response),
        stars=_stars(options, survey.stars),
        mask=mask,
    )
    return survey, field


def _field(options: argparse.Namespace, suited: Grid) -> Grid:
    pixel = suited.pixel_arcmin if options.pixel_arcmin is None else options.pixel_arcmin
    return Grid(options.size or suited.shape, pixel, options.centre or suited.centre_deg)


def _masked_field(
    options: argparse.Namespace, centre_deg: tuple[float, float] | None
) -> tuple[Grid, np.ndarray]:
    """Pixels and mask of a file, or their middle; elsewhere on the sky, if need be."""
    _refuse(options, ("pixel_arcmin",), f"the pixels are those of {options.mask_from}")
    given = read_survey_map(options.mask_from)
    (ny, nx), size = given.grid.shape, options.size or given.grid.shape
    if any(n < m or (n - m) % 2 for n, m in zip((ny, nx), size, strict=True)):
        raise ValueError(
            f"the field is to be {size[1]}x{size[0]} pixels (--size) and {options.mask_from} has "
            f"{nx}x{ny}; expected its middle, with an even number of pixels less"
        )
    if options.galaxies is not None and given.grid.centre_deg is not None:
        _refuse(options, ("centre",), f"{options.mask_from} has its place on the sky")
    centre = options.centre or given.grid.centre_deg or centre_deg
    if centre is None:
        raise ValueError(
            f"{options.mask_from} does not say where on the sky it is; give its centre, or the "
            "shear map of a catalogue (--centre RA,DEC)"
        )
    pixels = Grid((ny, nx), given.grid.pixel_arcmin, centre)
    field = Grid(size, given.grid.pixel_arcmin, centre)
    return field, np.asarray(middle(given.mask, pixels, field))


def _stars(options: argparse.Namespace, known: Stars | None) -> Stars | None:
    density = options.stars
    if density is None and known is not None:
        density = known.density_arcmin2
    if not density:
        _refuse(options, ("star_radius", "star_spikes"), "there are no --stars")
        return None
    given = {"radius_arcmin": options.star_radius} if options.star_radius else {}
    if options.star_spikes:
        given |= dict(zip(("spike_length", "spike_width"), options.star_spikes, strict=True))
    return replace(known or Stars(density), **{"density_arcmin2": density, **given})


def _measurement(
    options: argparse.Namespace, known: MeasurementError | None
) -> MeasurementError | None:
    faintest = options.measurement_error
    if faintest is None and known is not None:
        faintest = known.faintest
    if not faintest:
        _refuse(options, ("magnitudes",), "there is no --measurement-error")
        return None
    magnitudes = options.magnitudes or (known.magnitudes if known else None)
    if magnitudes is None:
        raise ValueError(
            f"the measurement error of the faintest galaxies is {faintest}, and there are no "
            "magnitudes for that of the others; give --magnitudes BRIGHT,PEAK,FAINT"
        )
    return MeasurementError(faintest, magnitudes)


def _response(options: argparse.Namespace, known: ShearResponse) -> ShearResponse:
    additive = complex(known.additive)
    return ShearResponse(
        known.reduced if options.reduced is None else options.reduced,
        known.multiplicative if options.m is None else options.m,
        complex(
            additive.real if options.c1 is None else options.c1,
            additive.imag if options.c2 is None else options.c2,
        ),
    )


def _refuse(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse flags that say nothing, or the contrary of others."""
    for name in names:
        value = getattr(options, name)
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} is {value!r}, but {why}; leave {flag} out, or change that")
