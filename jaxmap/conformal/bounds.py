"""Calibrated widths: applied to maps, refused for what they say nothing about, kept in files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmap.arrayfiles import json_of, read_arrays
from jaxmap.catalog import ShearMap
from jaxmap.conformal.scores import Floats, Kind, kind_of, median_noise
from jaxmap.files import atomic_path
from jaxmap.massmap import MassMap

PIXEL_TOLERANCE, NOISE_FACTOR = 0.05, 1.25
"""How far a survey may be from those of the calibration: in pixel scale, and beyond their range of
noise."""

_HEADER = "header"
_FORMAT = "jaxmap conformal 1"
_HAS = {
    "interval": "lower and upper limits",
    "std": "a standard deviation without limits",
    "plain": "neither limits nor a standard deviation",
}


@dataclass(frozen=True, eq=False)
class Conformal:
    """Calibrated widths; called with a map, it gives the map its ``lower`` and ``upper``.

    Args:
        level: nominal coverage, between 0 and 1.
        kind: what the widths are built on, see above.
        observed: threshold in observed pixels, shape ``()``, or per position ``(ny, nx)``.
        masked: threshold in masked pixels, shape ``()``; NaN where too few fields had any; not used
            per position.
        num_fields: of the calibration.
        pixel_arcmin: side of their pixels.
        noise_std: least and largest of their medians of the noise of a shear component.
        method: of the maps, as JSON can hold it; of another one intervals mean nothing.
    """

    level: float
    kind: Kind
    observed: Floats
    masked: Floats
    num_fields: int
    pixel_arcmin: float
    noise_std: tuple[float, float]
    method: Mapping[str, Any] = field(default_factory=dict)

    @property
    def per_pixel(self) -> bool:
        return np.ndim(self.observed) == 2

    def __call__(self, result: MassMap) -> MassMap:
        """The map with calibrated ``lower`` and ``upper``; NaN where no interval can be given.

        Raises:
            ValueError: if the map lacks what the widths are built on, or has other pixels.
        """
        self._check_grid(result.grid.shape, result.grid.pixel_arcmin)
        if kind_of(result) != self.kind:
            raise ValueError(
                f"the map has {_HAS[kind_of(result)]}, and the intervals were calibrated on one "
                f"with {_HAS[self.kind]}; make it with the method and settings of the calibration"
            )
        threshold = self.observed
        if not self.per_pixel:
            threshold = np.where(np.asarray(result.mask), self.observed, self.masked)
        width = jnp.asarray(threshold, result.convergence.dtype)
        low, high = result.convergence, result.convergence
        if self.kind == "interval":
            assert result.lower is not None and result.upper is not None
            low, high = jnp.asarray(result.lower), jnp.asarray(result.upper)
        elif self.kind == "std":
            assert result.std is not None
            width = width * result.std
        low, high = low - width, high + width
        # A threshold below 0 shrinks intervals, at the worst to nothing.
        middle = (low + high) / 2
        told = {
            "level": self.level,
            "kind": self.kind,
            "per_pixel": self.per_pixel,
            "calibration_fields": self.num_fields,
        }
        return replace(
            result,
            lower=jnp.where(low > high, middle, low),
            upper=jnp.where(low > high, middle, high),
            diagnostics={**result.diagnostics, "conformal": told},
        )

    def check(self, shear: ShearMap, method: Mapping[str, Any]) -> None:
        """Refuse data or a method that the calibration says nothing about.

        Args:
            shear: the observed shear.
            method: of its map, as given to `calibrate_intervals`.

        Raises:
            ValueError: for another method or other settings of it, another pixel scale, shape (per
                pixel) or noise.
        """
        wanted = json.loads(json.dumps(dict(method)))
        for name in sorted(wanted.keys() | self.method.keys()):
            here, there = wanted.get(name), self.method.get(name)
            if here != there:
                raise ValueError(
                    f"the intervals were calibrated for {name} = {there}, and the map is made with "
                    f"{here}; take the same, or calibrate anew (jaxmap calibrate --conformal)"
                )
        self._check_grid(shear.grid.shape, shear.grid.pixel_arcmin)
        noise = median_noise(shear)
        least, largest = self.noise_std
        if not least / NOISE_FACTOR <= noise <= largest * NOISE_FACTOR:
            raise ValueError(
                f"the noise of a shear component is {noise:.3g} in the median pixel, and was "
                f"{least:.3g} to {largest:.3g} in the fields of the calibration; calibrate on "
                "surveys as deep as this one (jaxmap calibrate --conformal --mask-from)"
            )

    def _check_grid(self, shape: tuple[int, int], pixel_arcmin: float) -> None:
        if abs(pixel_arcmin / self.pixel_arcmin - 1) > PIXEL_TOLERANCE:
            raise ValueError(
                f"the pixels are {pixel_arcmin:g} arcmin wide, and were {self.pixel_arcmin:g} in "
                "the calibration; take the same (--pixel-arcmin), or calibrate anew"
            )
        if self.per_pixel and shape != np.shape(self.observed):
            raise ValueError(
                f"the map has {shape} pixels, and the intervals were calibrated position by "
                f"position on {np.shape(self.observed)}; expected the same, or pooled intervals"
            )


def write_conformal(
    path: str | Path, bounds: Conformal, made_by: dict[str, Any] | None = None
) -> None:
    """Write intervals to ``.npz``: float64 arrays and a JSON header.

    Args:
        path: of the file.
        bounds: to write.
        made_by: anything JSON can hold, kept in the header: settings, seed, versions.
    """
    header = asdict(bounds)
    arrays = {name: np.asarray(header.pop(name), np.float64) for name in ("observed", "masked")}
    about = {"format": _FORMAT, "made_by": made_by or {}}
    text = json.dumps({**about, **header}, allow_nan=False)
    everything: dict[str, Any] = {**arrays, _HEADER: np.frombuffer(text.encode(), np.uint8)}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **everything)


def _require_sound(bounds: Conformal) -> None:
    shapes = np.ndim(bounds.observed), np.ndim(bounds.masked)
    numbers = [bounds.level, bounds.pixel_arcmin, bounds.num_fields, *bounds.noise_std]
    if bounds.kind not in _HAS or not isinstance(bounds.method, dict):
        raise ValueError(f"of kind {bounds.kind!r} and method {bounds.method!r}")
    if shapes not in ((0, 0), (2, 0)) or bounds.observed.dtype.kind != "f":
        raise ValueError(f"thresholds of shapes {shapes}")
    if not (bounds.level < 1 and all(0 < number < math.inf for number in numbers)):
        raise ValueError(f"level, pixels, fields and noise are {numbers}")


def read_conformal(path: str | Path) -> Conformal:
    """Intervals written by `write_conformal`.

    Raises:
        ValueError: for a file that is missing, cut short or of another kind.
    """
    try:
        read = read_arrays(path)
        header = json_of(read[_HEADER])
        arrays: dict[str, Any] = {name: read[name] for name in ("observed", "masked")}
        if header.pop("format") != _FORMAT:
            raise ValueError("of another format")
        header.pop("made_by", None)
        least, largest = map(float, header.pop("noise_std"))
        bounds = Conformal(**arrays, **header, noise_std=(least, largest))
        _require_sound(bounds)
        return bounds
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no file {path}; give one that jaxmap calibrate --conformal wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a whole file of jaxmap conformal intervals ({error}); give one that "
            "jaxmap calibrate --conformal wrote"
        ) from error
