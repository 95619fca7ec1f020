"""Maps on disk: of mass and of shear as FITS with WCS, and posterior samples as NetCDF.

Files are written beside their final name and moved there when whole, so that a name never stands
for half a file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxmap
from jaxmap.arrayfiles import parsed_json, plain_errors
from jaxmap.catalog import ShearMap
from jaxmap.files import atomic_path, reserve
from jaxmap.grid import Grid
from jaxmap.hdf5files import dataset_of, opened_hdf5, text_attribute
from jaxmap.machine import check_memory
from jaxmap.massmap import MassMap

_PLANES = {
    "KAPPA_E": "convergence",
    "KAPPA_B": "b_mode",
    "SIGMA": "std",
    "SNR": "signal_to_noise",
    "MASK": "mask",
    "NGAL": "counts",
    "Q16": "lower",
    "Q84": "upper",
    "SAMPLES": "samples",
}
"""FITS extension of each field of a `MassMap`."""

SAMPLES_SUFFIXES = (".nc", ".h5", ".hdf5")
"""Of files of `write_samples`."""

_CALIBRATED = {"Q16": "LOWER", "Q84": "UPPER"}
"""Names of the limits where they are calibrated, and of any level (`jaxmap.conformal`)."""


def write_mass_map(
    path: str | Path, mass_map: MassMap, provenance: dict[str, Any] | None = None
) -> None:
    """Write a mass map as multi-extension FITS.

    Extensions: ``KAPPA_E`` and, where known, ``KAPPA_B``, ``SIGMA``, ``SNR``, ``MASK`` (1 =
    observed), ``NGAL``, the quantiles ``Q16`` and ``Q84`` of the samples (``LOWER`` and ``UPPER``
    if they are conformal limits, whose level is in the diagnostics) and the cube ``SAMPLES``
    (draw, y, x), each with a TAN world coordinate system when the grid is on the sky; last the
    table ``PROVENANCE`` with three JSON strings: the grid, what the caller knows of the map's
    origin, and the map's diagnostics.

    Args:
        path: file to write; replaced only once the new one is whole.
        mass_map: what to write, in its own precision.
        provenance: anything JSON can hold.
    """
    planes = {name: getattr(mass_map, field) for name, field in _PLANES.items()}
    if "conformal" in mass_map.diagnostics:
        planes = {_CALIBRATED.get(name, name): values for name, values in planes.items()}
    _write_planes(path, planes, mass_map.grid, provenance, mass_map.diagnostics)


def read_mass_map(path: str | Path) -> MassMap:
    """Read a map written by `write_mass_map`, without loss, as arrays on the host.

    Args:
        path: FITS file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not whole or not a jaxmap mass map.
    """
    names = _PLANES | {ours: _PLANES[name] for name, ours in _CALIBRATED.items()}
    optional = names.keys() - {"KAPPA_E", "MASK", "SNR"}
    planes, grid, diagnostics = _read_planes(path, ("KAPPA_E", "MASK"), optional)
    fields: dict[str, Any] = {names[name]: values for name, values in planes.items()}
    fields |= {"mask": fields["mask"].astype(bool), "diagnostics": diagnostics}
    return MassMap(grid=grid, **fields)


def write_shear_map(
    path: str | Path, shear: ShearMap, provenance: dict[str, Any] | None = None
) -> None:
    """Write a shear map as multi-extension FITS, laid out as by `write_mass_map`.

    Extensions: the images ``G1`` and ``G2``, their inverse noise variances ``WEIGHT1`` and
    ``WEIGHT2`` (0 = masked) and, where known, ``NGAL``; ``PROVENANCE``.

    Args:
        path: file to write; replaced only once the new one is whole.
        shear: what to write, in its own precision.
        provenance: anything JSON can hold.
    """
    planes = {
        "G1": shear.shear.real,
        "G2": shear.shear.imag,
        "WEIGHT1": shear.weight[0],
        "WEIGHT2": shear.weight[1],
        "NGAL": shear.counts,
    }
    _write_planes(path, planes, shear.grid, provenance)


def read_shear_map(path: str | Path) -> ShearMap:
    """Read a map written by `write_shear_map`, without loss, as arrays on the host.

    Raises:
        ValueError: if the file is not whole or not a jaxmap shear map.
    """
    planes, grid, _ = _read_planes(path, ("G1", "G2", "WEIGHT1", "WEIGHT2"), ("NGAL",))
    weight: Any = np.stack([planes["WEIGHT1"], planes["WEIGHT2"]])
    shear: Any = planes["G1"] + 1j * planes["G2"]
    counts: Any = planes.get("NGAL")
    return ShearMap(shear, weight, grid, counts)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance stored with a map by `write_mass_map`, or with samples by `write_samples`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not whole or of neither kind.
    """
    if Path(path).suffix in SAMPLES_SUFFIXES:
        with _open_samples(path) as file:
            return parsed_json(text_attribute(file, "provenance"))
    with open_map(path) as hdus:
        return parsed_json(hdus["PROVENANCE"].data["provenance"][0])


def write_samples(
    path: str | Path, mass_map: MassMap, provenance: dict[str, Any] | None = None
) -> None:
    """Write posterior samples as NetCDF4 (HDF5), one draw per chunk, with checksums.

    Group ``posterior`` holds ``kappa (chain, draw, y, x)``, the root group ``mean`` and ``std``
    where known and ``diagnostics``, JSON; readable with h5py, xarray and arviz.

    Raises:
        ValueError: if the map has no samples.
    """
    if mass_map.samples is None:
        raise ValueError(
            "this map has no posterior samples; run an estimator that draws them (num_samples > 0)"
        )
    samples = mass_map.samples
    planes = {"mean": mass_map.convergence, "std": mass_map.std}
    found = {name: np.asarray(values) for name, values in planes.items() if values is not None}
    num_bytes = samples.nbytes + sum(values.nbytes for values in found.values())
    with atomic_path(path) as temporary, _hdf5_with_room(temporary, num_bytes) as file:
        file.attrs["grid"] = json.dumps(_grid_to_dict(mass_map.grid))
        file.attrs["provenance"] = json.dumps(provenance or {})
        file.attrs["diagnostics"] = json.dumps(dict(mass_map.diagnostics))
        file.dimensions = {"y": samples.shape[1], "x": samples.shape[2]}
        for name, values in found.items():
            file.create_variable(
                name, ("y", "x"), data=values, chunks=values.shape, fletcher32=True
            )
        group = file.create_group("posterior")
        group.dimensions = {"chain": 1, "draw": samples.shape[0]}
        variable = group.create_variable(
            "kappa",
            ("chain", "draw", "y", "x"),
            samples.dtype,
            chunks=(1, 1, *samples.shape[1:]),
            fletcher32=True,
        )
        for number, sample in enumerate(samples):  # one by one: they may be on disk
            variable[0, number] = np.asarray(sample)


@contextmanager
def _hdf5_with_room(path: Path, num_bytes: int) -> Iterator[Any]:
    """A new NetCDF file, once there is room for it: HDF5 crashes on a full disk."""
    import h5netcdf

    reserve(path, num_bytes + 2**16)
    with h5netcdf.File(path, "w") as file:
        yield file


def read_samples(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Posterior samples ``(n, ny, nx)`` and their grid, from a file of `write_samples`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not whole or not of that layout, or a sample not finite.
    """
    with _open_samples(path) as file:
        grid = Grid(**_grid_fields(parsed_json(text_attribute(file, "grid"))))
        stored = dataset_of(file, "posterior/kappa", planes=True)
        samples = np.asarray(stored[0], stored.dtype.newbyteorder("="))
        if samples.ndim != 3 or samples.shape[1:] != grid.shape or samples.dtype.kind != "f":
            raise ValueError(f"samples of {samples.dtype} and shape {samples.shape}")
        if not all(np.isfinite(sample).all() for sample in samples):
            raise ValueError("some values are not finite")
    return samples, grid


@contextmanager
def _open_samples(path: str | Path) -> Iterator[Any]:
    try:
        with opened_hdf5(Path(path)) as file:
            yield file
    except ValueError as error:
        raise ValueError(
            f"{path} is not a whole file of jaxmap posterior samples ({error}); make it again, or "
            "give another"
        ) from error


def _write_planes(
    path: str | Path,
    planes: Mapping[str, ArrayLike | None],
    grid: Grid,
    provenance: dict[str, Any] | None,
    diagnostics: Mapping[str, Any] | None = None,
) -> None:
    from astropy.io import fits

    header = fits.Header()
    if grid.centre_deg is not None:
        header = grid.wcs().to_header()
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header["ORIGIN"] = f"jaxmap {jaxmap.__version__}"
    for extension, values in planes.items():
        if values is None:
            continue
        array = np.asarray(values)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        hdus.append(fits.ImageHDU(array, header=header, name=extension))
        hdus[-1].header["PIXSCALE"] = (grid.pixel_arcmin * 60, "[arcsec]")
    text = {
        "grid": _grid_to_dict(grid),
        "provenance": provenance or {},
        "diagnostics": dict(diagnostics or {}),
    }
    columns = [
        fits.Column(name, format=f"{max(len(encoded), 1)}A", array=[encoded])
        for name, encoded in ((key, json.dumps(value)) for key, value in text.items())
    ]
    hdus.append(fits.BinTableHDU.from_columns(columns, name="PROVENANCE"))
    with atomic_path(path) as temporary:
        hdus.writeto(temporary, overwrite=True, checksum=True)


def _read_planes(
    path: str | Path, required: Collection[str], optional: Collection[str]
) -> tuple[dict[str, np.ndarray], Grid, dict[str, Any]]:
    planes = {}
    with open_map(path) as hdus:
        table = hdus["PROVENANCE"].data
        grid = Grid(**_grid_fields(parsed_json(table["grid"][0])))
        diagnostics = parsed_json(table["diagnostics"][0])
        for name in (*required, *(name for name in optional if name in hdus)):
            data = hdus[name].data
            planes[name] = np.asarray(data, data.dtype.newbyteorder("="))
            if planes[name].shape[-2:] != grid.shape:
                raise ValueError(f"{name} has shape {planes[name].shape}, its grid {grid.shape}")
    return planes, grid, diagnostics


@contextmanager
def open_map(path: str | Path) -> Iterator[Any]:
    """The extensions of a FITS file of jaxmap, all of them whole.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut short, compressed or larger than memory, or does not match
            its checksums.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        # Our own handle: astropy leaves its one open when the file is cut short, which for it is
        # a warning only, as is a wrong checksum.
        with plain_errors(), open(path, "rb") as stream, warnings.catch_warnings():
            if stream.read(1) != b"S":  # which astropy might unpack, into more than memory
                raise ValueError("it does not begin as FITS does")
            stream.seek(0)
            check_memory(
                Path(path).stat().st_size,
                "it",
                "is it what it should be? Fetch it again, or use a larger machine",
                host=True,
            )
            warnings.simplefilter("error", AstropyWarning)
            with fits.open(
                stream, memmap=False, checksum=True, disable_image_compression=True
            ) as hdus:
                yield hdus
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ValueError(
            f"{path} is not a whole jaxmap map ({error}); make it again, or give another"
        ) from error


def _grid_to_dict(grid: Grid) -> dict[str, Any]:
    return {
        "shape": grid.shape,
        "pixel_arcmin": grid.pixel_arcmin,
        "centre_deg": grid.centre_deg,
    }


def _grid_fields(stored: dict[str, Any]) -> dict[str, Any]:
    centre = stored["centre_deg"]
    return {
        "shape": tuple(stored["shape"]),
        "pixel_arcmin": stored["pixel_arcmin"],
        "centre_deg": None if centre is None else tuple(centre),
    }
