"""The layouts of map files that are known: how they are recognised, and what is known of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxmap.reading.maps.fitsimages import fits_image
from jaxmap.reading.maps.hdf5datasets import hdf5_datasets
from jaxmap.reading.maps.ktngbinary import ktng_binary
from jaxmap.reading.maps.mapfile import MapFile
from jaxmap.reading.maps.numpyarrays import npy_array, npz_array
from jaxmap.reading.maps.simulated import simulated_maps


@dataclass(frozen=True)
class Layout:
    """One layout of map files.

    Args:
        file_name: regular expression for the whole name of a file, without folders.
        look_into: gives the maps of a file, with the ``dataset`` that was asked for.
        realisation: regular expression that finds the simulation in the name of a map.
        source_plane: likewise the source redshift.
        field: pixels and degrees on a side, where the files do not tell.
    """

    file_name: str
    look_into: Callable[[Path, str | None], MapFile]
    realisation: str | None = None
    source_plane: str | None = None
    field: tuple[int, float] | None = None

    def has_name(self, path: Path) -> bool:
        """Whether a file is named as in this layout."""
        return re.fullmatch(self.file_name, path.name, re.IGNORECASE) is not None


# The runs of one LP are rays through the same lens planes; old samples have runs only. The last
# such name in a path counts.
_KTNG_REALISATION = r".*\b(LP\d+)|.*\b(run\d+)"

# The first that fits a file's name is taken: suites before the formats they use.
LAYOUTS = {
    # Maps of one sky are neighbours, and recipes of one seed draw the same skies.
    "jaxmap": Layout(r"maps-\d+-\d+\.h5", simulated_maps, r"\[(seed \d+), (sky \d+),"),
    "ktng-binary": Layout(
        r"(.*_)?kappa\d*\.dat", ktng_binary, _KTNG_REALISATION, r"kappa(\d+)\.dat", (1024, 5.0)
    ),
    "ktng-hdf5": Layout(
        r"LP\d+_run\d+_maps\.hdf5",
        hdf5_datasets,
        _KTNG_REALISATION,
        r"\[(z\d+)/kappa\]",
        (1024, 5.0),
    ),
    # One number is one light cone, for every source redshift and every cosmology.
    "massivenus": Layout(
        r"WLconv_z[\d.]+_\d+r\.fits", fits_image, r"_(\d+)r\.fits", r"WLconv_z([\d.]+)_", (512, 3.5)
    ),
    "fits": Layout(r".*\.(fits|fit|fits\.gz|fit\.gz|fits\.xz|fits\.fz)", fits_image),
    "hdf5": Layout(r".*\.(h5|hdf5)", hdf5_datasets),
    "npz": Layout(r".*\.npz", npz_array),
    "npy": Layout(r".*\.npy", npy_array),
}
