"""Users' own maps, read into memory to train on."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from jaxmap.machine import check_memory
from jaxmap.reading.maps.source import MapSource, open_maps
from jaxmap.reading.maps.split import split_by_realisation
from jaxmap.training.layouts import Layout
from jaxmap.training.loop import Progress
from jaxmap.training.settings import GivenMaps

_SAME_SCALE = 0.02
"""Relative difference of pixel scales that is let pass: 5 degrees / 1024 are called 0.29 arcmin."""


def read_given_maps(
    settings: GivenMaps, layouts: Iterable[Layout], seed: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Maps to train on and maps to validate with, which share no realisation.

    Where there are more than ``num_maps``, a random choice.

    Args:
        settings: which maps.
        layouts: the cuts that will be taken of them.
        seed: of the split and the choice.
        progress: wraps the loop over maps.

    Returns:
        float32, shapes ``(num, ny, nx)``.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: for maps that `open_maps` or `split_by_realisation` refuse, of another pixel
            scale, smaller than a layout, or too many for the memory; before any map is read.
    """
    source = open_maps(
        settings.maps,
        settings.format,
        settings.pixel_arcmin,
        dataset=settings.dataset,
        realisation=settings.realisation,
    )
    _require_scale(source, settings)
    for layout in layouts:
        _require_room(source, settings, layout)
    fraction = settings.validation_fraction
    training, validation = split_by_realisation(source, fraction, seed)
    rng = np.random.default_rng(seed)
    num_validation = max(round(fraction * settings.num_maps), 1)
    validation = _some(rng, validation, num_validation)
    training = _some(rng, training, settings.num_maps - len(validation))
    chosen = np.concatenate([training, validation])
    # The maps, the array of them, and that in the session's precision.
    needed = 12.0 * len(chosen) * math.prod(source.shape)
    what = f"{len(chosen)} maps of {source.shape[0]} x {source.shape[1]} pixels to train on"
    check_memory(needed, what, "set a lower num_maps in [maps]", host=True)
    maps = np.stack([source[int(chosen[place])] for place in progress(range(len(chosen)))])
    return maps[: len(training)], maps[len(training) :]


def _some(rng: np.random.Generator, numbers: np.ndarray, most: int) -> np.ndarray:
    return np.sort(rng.permutation(numbers)[:most])


def _require_scale(source: MapSource, settings: GivenMaps) -> None:
    stated = (source.stated_arcmin, *(file.pixel_arcmin for file in source.files))
    for scale in filter(None, stated):
        if abs(scale / settings.pixel_arcmin - 1) > _SAME_SCALE:
            raise ValueError(
                f"the maps of {settings.maps} have pixels of {scale:.4g} arcmin, but pixel_arcmin "
                f"is {settings.pixel_arcmin:g}; set pixel_arcmin = {scale:.4g} in [maps], or make "
                "maps of the scale that you want"
            )


def _require_room(source: MapSource, settings: GivenMaps, layout: Layout) -> None:
    smallest = min(source.shape)
    if layout.side > smallest:
        raise ValueError(
            f"a layout has side {layout.side}, but the maps of {settings.maps} have {source.shape} "
            f"pixels; give [[layouts]] with a side of {smallest} or less"
        )
    largest = layout.side - 2 * settings.rim
    if layout.window and layout.window > largest:
        raise ValueError(
            f"a layout has a window of {layout.window} pixels in a side of {layout.side}, of which "
            f"rim_arcmin = {settings.rim_arcmin:g} leaves {max(largest, 0)}; give a larger side, a "
            "smaller window, or rim_arcmin = 0 if the maps are periodic"
        )
