"""The catalogue of a mock survey of any area, written in bands of declination.

Its galaxies lie behind one Gaussian convergence on the curved sky (`jaxmap.simulation.sphere`):
correlated over the whole area, E modes only, and without power beyond ``lmax``. ``part-00000.h5``
holds the columns ra, dec, e1, e2, weight and kappa, the true convergence at the galaxy, for one
band, and as attribute ``record`` the text of ``simulation.json``. A band depends on the settings
and its number alone, appears under its name when it is whole, and is all that memory holds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np

import jaxmap
from jaxmap.arrayfiles import read_json
from jaxmap.files import atomic_path, remove_leftovers, reserve
from jaxmap.machine import check_disk, check_memory
from jaxmap.production.folder import INDEX, write_index
from jaxmap.production.numbers import Produced
from jaxmap.production.surveys import described
from jaxmap.simulation.counting import poisson_slots
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.response import lensed_ellipticity
from jaxmap.simulation.shapes import draw_ellipticities
from jaxmap.simulation.sphere import gaussian_rings
from jaxmap.spectra import PowerSpectrum

_RINGS = 32
_BYTES_PER_GALAXY = 32
_CHUNK_ROWS = 2**16
_MEMORY_PER_GALAXY = 160  # of a band: places, shear and shapes in double precision
_GALAXIES = 2**32 - 1  # folded into the seed's key: bands of galaxies share none with the sky


@dataclass(frozen=True)
class Region:
    """A part of the sky between two parallels and two meridians.

    Args:
        ra_deg: western and eastern end as a start and a width.
        dec_deg: southern and northern end.
    """

    ra_deg: tuple[float, float]
    dec_deg: tuple[float, float]


def region_of(area_deg2: float, centre_deg: tuple[float, float]) -> Region:
    """A region of an area, about as wide as high, around a place.

    Raises:
        ValueError: for an area that is not positive, or more than the sky.
    """
    sky = 4 * math.pi * math.degrees(1) ** 2
    if not 0 < area_deg2 <= sky * (1 + 1e-9):
        raise ValueError(
            f"the area is {area_deg2:g} square degrees; expected more than 0, and at most the "
            f"whole sky's {sky:.0f}"
        )
    ra, dec = centre_deg
    share = 2 * min(area_deg2 / sky, 1.0)  # of sin(dec), if the region goes all around
    half = math.sqrt(area_deg2) / 2
    south, north = max(dec - half, -90.0), min(dec + half, 90.0)
    height = math.sin(math.radians(north)) - math.sin(math.radians(south))
    width = 360 * share / height
    if width > 360:
        low = min(max(math.sin(math.radians(dec)) - share / 2, -1.0), 1.0 - share)
        south = math.degrees(math.asin(low))
        north = math.degrees(math.asin(min(low + share, 1.0)))
        width = 360.0
    return Region((ra - width / 2, width), (south, north))


def produce_wide_survey(
    survey: MockSurvey,
    spectrum: PowerSpectrum,
    region: Region,
    folder: Path,
    *,
    lmax: int,
    seed: int = 0,
    resume: bool = False,
    made_by: dict[str, Any] | None = None,
    progress: Callable[[Iterable[int], int], Iterable[int]] = lambda bands, total: bands,
) -> Produced:
    """Simulate the bands of a survey that a folder does not hold.

    Galaxies take the convergence and shear of the nearest place of a net of half the smallest wave
    length, 90 deg / lmax.

    Args:
        survey: density, shape noise and response; stars, masks and redshifts are not simulated.
        spectrum: power of the convergence.
        region: of the sky.
        folder: made if need be.
        lmax: of the largest multipole.
        seed: of all.
        resume: whether the folder may hold bands of this survey.
        made_by: what else is known, as JSON holds it.
        progress: wraps the loop over bands.

    Raises:
        ValueError: if the folder holds something else, or disk or memory do not suffice.
    """
    if lmax < 2:
        raise ValueError(f"lmax is {lmax}; expected 2 or more")
    step = 90 / lmax
    num_rings = max(math.ceil((region.dec_deg[1] - region.dec_deg[0]) / step), 1)
    bands = range(-(-num_rings // _RINGS))
    wanted = {
        "holds": "wide survey",
        "jaxmap": jaxmap.__version__,
        "survey": described(survey),
        "spectrum": described(np.asarray(spectrum(np.arange(lmax + 1.0)), np.float32)),
        "region": {"ra_deg": region.ra_deg, "dec_deg": region.dec_deg},
        "lmax": lmax,
        "seed": seed,
    }
    wanted = json.loads(json.dumps(wanted))
    _check_folder(folder, wanted, resume)
    missing = [band for band in bands if not (folder / _name(band)).exists()]
    number = survey.density_arcmin2 * 3600 * _area(region, region.dec_deg)
    needed = _BYTES_PER_GALAXY * number * len(missing) / len(bands)
    check_disk(folder, needed, f"{number:.3g} galaxies", "simulate a smaller area or density")
    edges = np.linspace(*region.dec_deg, num_rings + 1)
    c_ell = np.asarray(spectrum(np.arange(lmax + 1.0)), float)
    most = max(_area(region, tuple(edges[_rings(band, num_rings)][[0, -1]])) for band in bands)
    slots = poisson_slots(survey.density_arcmin2 * 3600 * most)
    remedy = "a larger --lmax makes bands narrower; or simulate a smaller area or density"
    check_memory(_MEMORY_PER_GALAXY * slots, f"a band of {slots:.3g} galaxies", remedy, host=True)
    record = {**wanted, "made_by": made_by or {}}
    write_index(folder, record)
    remove_leftovers(folder, ".h5")
    start = time.perf_counter()
    for band in progress(missing, len(bands)):
        columns = _band(survey, c_ell, region, edges[_rings(band, num_rings)], seed, band, slots)
        with atomic_path(folder / _name(band)) as path:
            num_galaxies = len(columns["ra"])
            # HDF5 crashes on a full disk; the last chunk is as long as the others.
            reserve(path, _BYTES_PER_GALAXY * (num_galaxies + _CHUNK_ROWS) + 2**16)
            chunks = (min(_CHUNK_ROWS, max(num_galaxies, 1)),)
            with h5py.File(path, "w") as file:
                for name, values in columns.items():
                    file.create_dataset(
                        name, data=values, maxshape=(None,), chunks=chunks, fletcher32=True
                    )
                file.attrs["record"] = json.dumps(record)
    made = len(missing)
    return Produced(made, len(bands) - made, time.perf_counter() - start)


def _band(
    survey: MockSurvey,
    c_ell: np.ndarray,
    region: Region,
    edges: np.ndarray,
    seed: int,
    band: int,
    slots: int,
) -> dict[str, np.ndarray]:
    """The galaxies between the first and the last of some edges of rings."""
    root = jax.random.key(seed)
    middles = 0.5 * (edges[1:] + edges[:-1])
    # Filled up to as many rings as other bands have, so that one program serves all.
    filled = np.concatenate([middles, np.repeat(middles[-1:], _RINGS - len(middles))])
    num_places = 4 * (len(c_ell) - 1)
    rings = gaussian_rings(root, c_ell, filled, num_places)
    key = jax.random.fold_in(jax.random.fold_in(root, _GALAXIES), band)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    mean = survey.density_arcmin2 * 3600 * _area(region, (edges[0], edges[-1]))
    number = min(int(rng.poisson(mean)), slots)
    ra = (region.ra_deg[0] + region.ra_deg[1] * rng.uniform(size=number)) % 360
    south, north = np.sin(np.radians(edges[[0, -1]]))
    dec = np.degrees(np.arcsin(rng.uniform(south, north, size=number)))
    row = np.clip(np.searchsorted(edges, dec, side="right") - 1, 0, len(middles) - 1)
    column = np.rint(ra / 360 * num_places).astype(int) % num_places
    kappa, shear = rings.convergence[row, column], rings.shear[row, column]
    seen = shear / (1 - kappa) if survey.response.reduced else shear
    intrinsic = draw_ellipticities(key, slots, survey.shape_noise)[:number]
    shapes = np.asarray(
        lensed_ellipticity(intrinsic, jnp.asarray(seen, intrinsic.dtype), survey.response)
    )
    columns = {"e1": shapes.real, "e2": shapes.imag, "weight": np.ones(number), "kappa": kappa}
    return {"ra": ra, "dec": dec, **{name: v.astype("f4") for name, v in columns.items()}}


def _rings(band: int, num_rings: int) -> slice:
    """Edges of the rings of a band."""
    return slice(band * _RINGS, min((band + 1) * _RINGS, num_rings) + 1)


def _area(region: Region, dec_deg: tuple[float, float]) -> float:
    south, north = np.sin(np.radians(dec_deg))
    return math.degrees(float(north - south)) * region.ra_deg[1]


def _name(band: int) -> str:
    return f"part-{band:05d}.h5"


def _check_folder(folder: Path, wanted: dict[str, Any], resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another folder with --out")
    if not (folder / INDEX).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; choose another folder with --out")
        return
    stored = read_json(folder / INDEX)
    differing = [name for name in wanted if stored.get(name) != wanted[name]]
    if differing:
        raise ValueError(
            f"{folder} holds another simulation ({', '.join(differing)} differ); choose another "
            "folder with --out"
        )
    if not resume:
        raise ValueError(f"{folder} holds this survey; add --resume to complete it")
