"""Maps as FITS images."""

from __future__ import annotations

import gzip
import io
import math
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxmap.machine import check_memory
from jaxmap.reading.maps.mapfile import MapFile, choose, only
from jaxmap.reading.tableformats import reading
from jaxmap.texttables import opened


def fits_image(path: Path, dataset: str | None) -> MapFile:
    """The 2-D image of a FITS file, in any extension; plain, tile-compressed, or gzip or xz.

    The pixel scale is that of the world coordinates, or ``PIXSCALE`` (arcsec), or what LensTools
    writes (``ANGLE``, the field's side in degrees).

    Args:
        path: the file.
        dataset: name of the extension, where several could be meant; its number (0 is the
            primary) where the name is not its own.

    Raises:
        ValueError: if the file is not whole or has no such image.
    """
    from astropy.io import fits

    with reading(path), opened(path) as stream, fits.open(stream, memmap=False) as hdus:
        images = {
            label: (position, hdu.shape, _pixel_arcmin(hdu))
            for position, (label, hdu) in enumerate(zip(_labels(hdus), hdus, strict=True))
            if hdu.is_image and hdu.shape and _is_real(hdu.header)
        }
    planes = {name: image for name, image in images.items() if len(image[1]) == 2} or images
    position, shape, pixel_arcmin = planes[only(path, choose(path, planes, dataset))]
    check_memory(
        8 * math.prod(shape),
        f"reading an image of {shape} pixels from {path}",
        "is it what it should be? Fetch it again, or use a larger machine",
        host=True,
    )

    def read(_: Any) -> np.ndarray:
        # Our own handle: astropy leaves its one open when a file is cut short.
        with opened(path) as stream, fits.open(stream, memmap=False) as hdus:
            compressed = isinstance(hdus[position], fits.CompImageHDU)  # the sum may be of before
            if not compressed and hdus[position].verify_datasum() == 0:  # 2 where there is none
                raise ValueError(
                    "its pixels do not match their checksum (DATASUM); fetch it again, or, if they "
                    "were changed on purpose, write it with another sum (astropy: checksum=True)"
                )
            values = hdus[position].data
            if not isinstance(stream, io.BufferedReader):
                _read_on(stream)
            return values

    return MapFile(path, (None,), shape, pixel_arcmin, read)


def _read_on(stream: IO[bytes] | gzip.GzipFile) -> None:
    """To the end of a compressed file, where its checksum stands."""
    while stream.read(2**20):
        pass


def _labels(hdus: Any) -> list[str]:
    names = [hdu.name for hdu in hdus]
    return [
        name if name and names.count(name) == 1 else str(position)
        for position, name in enumerate(names)
    ]


def _is_real(header: Any) -> bool:
    """Whether pixels are fractions; a mask or a count map is not a map of convergence."""
    return header["BITPIX"] < 0 or header.get("BSCALE", 1) != 1


def _pixel_arcmin(hdu: Any) -> float | None:
    header = hdu.header
    if "CDELT1" in header or "CD1_1" in header or "CD1_2" in header:
        return _wcs_pixel_arcmin(header)
    if "PIXSCALE" in header:
        return float(header["PIXSCALE"]) / 60
    if str(header.get("ITYPE")) == "ConvergenceMap" and "ANGLE" in header:
        return float(header["ANGLE"]) * 60 / hdu.shape[-1]
    return None


def _wcs_pixel_arcmin(header: Any) -> float | None:
    """Scale of square pixels on the sky, in degrees where the header gives no unit."""
    from astropy import units
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy comments on each old-fashioned keyword
        wcs = WCS(header, naxis=2)
        scales = proj_plane_pixel_scales(wcs)
    unit = wcs.wcs.cunit[0] if str(wcs.wcs.cunit[0]) else units.deg
    square = np.isclose(scales[0], scales[1], rtol=1e-3)
    if not (square and unit.is_equivalent(units.deg)):
        return None
    return float((scales[0] * unit).to_value(units.arcmin))
