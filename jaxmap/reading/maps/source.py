"""Open any number of convergence maps on disk, to be read one at a time."""

from __future__ import annotations

import math
import operator
import os
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from jaxmap.reading.maps.finding import find_files
from jaxmap.reading.maps.layouts import Layout
from jaxmap.reading.maps.mapfile import MapFile
from jaxmap.reading.tableformats import reading
from jaxmap.texttables import require_file


@dataclass(frozen=True)
class MapSource:
    """Convergence maps of one size and pixel scale on disk; made by `open_maps`.

    ``len(source)`` maps, of which ``source[i]`` reads one: float32, shape ``(ny, nx)``.
    """

    files: tuple[MapFile, ...]
    ends: tuple[int, ...]  # number of maps up to the end of each file
    shape: tuple[int, ...]
    pixel_arcmin: float
    stated_arcmin: float | None  # the scale by the first file or its layout, if they tell
    folder: str  # the names of maps within it do not change when the whole is moved
    realisation_pattern: str | None

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> np.ndarray:
        file, key = self._locate(index)
        with reading(file.path):
            values = file.read(key)
        with np.errstate(over="ignore"):  # found below
            values = np.array(values, dtype=np.float32, order="C")
        if values.shape != self.shape:
            raise ValueError(
                f"{file.name(key)} is now of shape {values.shape}, no longer {self.shape}; open "
                "the maps again"
            )
        if num_bad := values.size - np.count_nonzero(np.isfinite(values)):
            raise ValueError(
                f"{file.name(key)}: {num_bad} of {values.size} pixels are not finite numbers; "
                "leave the map out or fill them"
            )
        return values

    def realisation(self, index: int) -> str:
        """The simulation or light cone that a map belongs to; maps that share one are dependent.

        Raises:
            ValueError: if the pattern asked for does not occur in the name of the map.
        """
        file, key = self._locate(index)
        if self.realisation_pattern is None:
            return os.path.relpath(file.name(key), self.folder)
        match = re.search(self.realisation_pattern, file.name(key))
        if match is None:
            raise ValueError(
                f"realisation={self.realisation_pattern!r} does not occur in {file.name(key)!r}; "
                "give a regular expression for the part of the name that tells simulations apart"
            )
        return "-".join(filter(None, match.groups())) or match.group()

    def _locate(self, index: int) -> tuple[MapFile, Any]:
        position = operator.index(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"map {index} of {len(self)}")
        file = self.files[number := bisect_right(self.ends, position)]
        return file, file.keys[position - self.ends[number] + len(file.keys)]


def open_maps(
    path: str | os.PathLike[str],
    format: str = "auto",
    pixel_arcmin: float | None = None,
    *,
    dataset: str | None = None,
    realisation: str | None = None,
) -> MapSource:
    """Find convergence maps on disk; only headers are read.

    ===============  ============================================================================
    format           files
    ===============  ============================================================================
    ``fits``         one image per file, in any extension
    ``npy``          ``(ny, nx)`` or ``(num, ny, nx)`` per file
    ``npz``          the same as field ``convergence`` (or ``kappa``, or the only one)
    ``hdf5``         a dataset ``(num, ny, nx)``, or 2-D datasets
    ``jaxmap``       what ``jaxmap simulate maps`` writes
    ``ktng-binary``  kappaTNG ``LP001/run001/kappa23.dat``
    ``ktng-hdf5``    kappaTNG ``LP001/LP001_run001_maps.hdf5``, with ``dataset="z23/kappa"``
    ``massivenus``   MassiveNuS ``WLconv_z1.00_0001r.fits``
    ===============  ============================================================================

    Args:
        path: a folder (with those inside it), a file, or a pattern with ``*`` or ``**``.
        format: one of the above; by default told from the files' names.
        pixel_arcmin: side of a pixel [arcmin], in place of what the files say.
        dataset: name of the array or FITS extension, where a file holds several.
        realisation: regular expression for the part of a map's name (full path, then ``[dataset]``
            or ``[number]``) that tells independent simulations apart: its groups, or all of it.
            By default the suite's own rule (jaxmap: seed and sky; kappaTNG: ``LP001``, or else
            ``run001``; MassiveNuS: the number); other maps are all taken to be independent.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if there are no maps, a file is not whole, maps differ in size, pixel scale or
            source redshift, or the pixel scale is not known.
    """
    if pixel_arcmin is not None and not 0 < pixel_arcmin < math.inf:
        raise ValueError(f"pixel_arcmin={pixel_arcmin!r}; expected a positive number")
    if realisation is not None:
        _require_pattern(realisation)
    layout, paths = find_files(os.fspath(path), format)
    files: list[MapFile] = []
    for each in paths:
        require_file(each)
        files.append(layout.look_into(each, dataset))
        _require_same_grid(files[0], files[-1], scale_matters=pixel_arcmin is None)
        if layout.source_plane is not None:
            _require_same_source_plane(layout.source_plane, files[0], files[-1])
    stated_arcmin = _stated_arcmin(layout, files[0])
    scale = pixel_arcmin or stated_arcmin
    if scale is None:
        raise ValueError(
            f"{files[0].path} does not tell the scale of its pixels, or they are not square; give "
            "pixel_arcmin=... (side of a pixel in arcmin)"
        )
    return MapSource(
        files=tuple(files),
        ends=tuple(accumulate(len(file.keys) for file in files)),
        shape=files[0].shape,
        pixel_arcmin=scale,
        stated_arcmin=stated_arcmin,
        folder=os.path.commonpath([file.path.parent for file in files]),
        realisation_pattern=realisation or layout.realisation,
    )


def _require_pattern(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(
            f"realisation={text!r} is not a regular expression ({error}); expected one such as "
            r"'cone(\d+)'"
        ) from error


def _require_same_grid(first: MapFile, other: MapFile, scale_matters: bool) -> None:
    if other.shape != first.shape:
        raise ValueError(
            f"{other.path} holds maps of shape {other.shape}, but {first.path} of {first.shape}; "
            "open maps of one shape at a time"
        )
    scales = [file.pixel_arcmin or 0 for file in (first, other)]
    if scale_matters and not math.isclose(*scales, rel_tol=1e-4):
        raise ValueError(
            f"{other.path} has pixels of {other.pixel_arcmin} arcmin, but {first.path} of "
            f"{first.pixel_arcmin}; open maps of one scale at a time, or give pixel_arcmin=... if "
            "the files are wrong"
        )


def _require_same_source_plane(pattern: str, *files: MapFile) -> None:
    names = (file.name(key) for file in files for key in file.keys)
    planes = {match[1] for name in names if (match := re.search(pattern, name))}
    if len(planes) > 1:
        raise ValueError(
            f"these are maps of several source redshifts ({', '.join(sorted(planes))}); choose one "
            'by a pattern, such as "maps/**/kappa23.dat", or for HDF5 by dataset="z23/kappa"'
        )


def _stated_arcmin(layout: Layout, file: MapFile) -> float | None:
    if file.pixel_arcmin is None and layout.field and file.shape == (layout.field[0],) * 2:
        return layout.field[1] * 60 / layout.field[0]
    return file.pixel_arcmin
