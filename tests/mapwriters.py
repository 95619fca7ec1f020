"""Writers of every layout of convergence maps that is read, as their authors write them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike


def write_ktng_binary(path: Path, values: ArrayLike, order: str = "<") -> None:
    """kappaTNG, binary: int32 n, float64 in C order, int32 n."""
    values = np.asarray(values)
    marker = np.array(values.shape[0], f"{order}i4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(marker + values.astype(f"{order}f8").tobytes() + marker)


def write_ktng_hdf5(path: Path, planes: dict[str, np.ndarray]) -> None:
    """kappaTNG, HDF5: a group for each source redshift, with more than the convergence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["config/num_grid"] = 1024
        for name, values in planes.items():
            file[f"{name}/kappa"] = values
            file[f"{name}/gamma1"] = np.full_like(values, 9)


def write_massivenus(path: Path, values: np.ndarray, side_deg: float | None = 3.5) -> None:
    """MassiveNuS: the primary image, with the keywords of LensTools."""
    hdu = fits.PrimaryHDU(values)
    if side_deg is not None:
        hdu.header["ANGLE"] = side_deg
        hdu.header["ITYPE"] = "ConvergenceMap"
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu.writeto(path)


def write_fits(path: Path, values: np.ndarray, **keywords: object) -> None:
    """A primary image with the given header."""
    hdu = fits.PrimaryHDU(values)
    hdu.header.update(keywords)
    hdu.writeto(path)


def write_hdf5(path: Path, pixel_arcmin: float | None = None, **datasets: np.ndarray) -> None:
    """Datasets, and the scale as an attribute of the file."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        if pixel_arcmin is not None:
            file.attrs["pixel_arcmin"] = pixel_arcmin


def write_simulated(
    folder: Path, values: np.ndarray, first: int, sky_shape: tuple[int, int], **recipe: object
) -> None:
    """A file of ``jaxmap simulate maps``: a run of maps, some of them from the same sky."""
    recipe = {"seed": 0, "pixel_arcmin": 0.3, "sky_shape": sky_shape, **recipe}
    path = folder / f"maps-{first:08d}-{first + len(values) - 1:08d}.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "convergence", data=values, chunks=(1, *values.shape[1:]), fletcher32=True
        )
        file.attrs["first_map"] = first
        file.attrs["record"] = json.dumps({"format": "jaxmap maps 1", "recipe": recipe})


def write_npy(path: Path, values: np.ndarray) -> None:
    """numpy's own format."""
    np.save(path, values)


def write_npz(path: Path, compressed: bool = False, **arrays: ArrayLike) -> None:
    """A numpy archive."""
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
