"""Public data of the COSMOS field and of the kTNG benchmark: fetched once, checked, and kept.

The files are those of the repository CosmoStat/jax-lensing (MIT licence) at one commit, each with
its sha256. Cite whose data they are: the shapes of galaxies are of Schrabback et al. (2010), the
X-ray clusters of Finoguenov et al. (2007), the simulated map is of kTNG (Osato, Liu & Haiman 2021)
and the benchmark of Remy et al. (2023).

They are kept in ``jaxmap`` in the user's cache directory (``$JAXMAP_CACHE`` if set); fetching needs
the extra ``jaxmap[data]``, files that are there already do not.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.benchmark import Case
from jaxmap.catalog import ShearCatalog, ShearMap, shear_catalog, shear_map
from jaxmap.grid import Grid
from jaxmap.likelihood import noise_std
from jaxmap.matter_power import cache_directory
from jaxmap.operators import shear_from_convergence, two_map_phase
from jaxmap.spectra import power_spectrum

if TYPE_CHECKING:
    from astropy.table import Table

log = logging.getLogger(__name__)

COMMIT = "81da74205678401591fe2d0312ffa7e4902dccb7"
SOURCE = f"https://raw.githubusercontent.com/CosmoStat/jax-lensing/{COMMIT}"

SHA256 = {
    "data/COSMOS/ra.fits": "b47e7e65b36da81fbcbac53d96976a133980a608590ba242a01fbfa8b4e67092",
    "data/COSMOS/dec.fits": "6f8ad325d6603468a1e747afbbb694af448491c7569e35f5966f64378d009622",
    "data/COSMOS/e1.fits": "a335533144ed5d94143d1d2f9b1144ff4af3e6f7d5e85b0d2eee4e8dd56997db",
    "data/COSMOS/e2.fits": "4c68ac134b5c3061b701517b7332df8ed04f045711cf68891015b2964e450fb0",
    "data/COSMOS/nhweight_int.fits": (
        "7d75c1ef1f7e979532a4fe1af2e7c1e9e225b3e63db074ba55735f9c2e827bce"
    ),
    "data/COSMOS/std1.fits": "feaa05d8987ea31177dffffc0f674cf0da1f679cc22c68c3761a431a2a471429",
    "data/COSMOS/std2.fits": "f136edd3293b4f4623a0da34c9bda71374bab4a1f3450dc833ab252f5d296ae3",
    "data/COSMOS/cosmos_full_mask_0.29arcmin360.fits": (
        "d39429caf2a033c2083c176c8c197dcc03fb33464f657af4ed78cacace6d164f"
    ),
    "data/ktng/ktng_kappa360v2.fits": (
        "4a71d2f19569c4b98159c247f0e50fad9a9aa7920dafc0554e28a9a37355ed24"
    ),
    "data/ktng/ktng_PS_theory.npy": (
        "87c4b5a821d5105cd0c2bda4e5658b5ae3b88f22730e057c64de7e503399f0f6"
    ),
    "data/xray.txt": "c9d211f4e965ddff6adb959e65e7d7d852fd113d10b77676b2dea7e4a2d24da5",
}
"""Path in the repository, and the sha256 of its content."""

PIXEL_ARCMIN = 0.29


def cosmos_catalog() -> ShearCatalog:
    """The 417 117 galaxy shapes of COSMOS (Schrabback et al. 2010, A&A 516, A63).

    Raises:
        OSError: if a file is neither in the cache nor to be had; the message says where to put it.
    """
    ra, dec, e1, e2, weight = (
        _numbers(f"data/COSMOS/{name}.fits") for name in ("ra", "dec", "e1", "e2", "nhweight_int")
    )
    return shear_catalog(ra, dec, e1 + 1j * e2, weight)


def cosmos_noise() -> ShearMap:
    """The published mask and noise of COSMOS, 360 x 360 pixels of 0.29 arcmin; its shear is zero.

    Columns run with the right ascension, unlike in maps of jaxmap.

    Raises:
        OSError: as `cosmos_catalog`.
    """
    mask = _numbers("data/COSMOS/cosmos_full_mask_0.29arcmin360.fits") > 0
    std = np.stack([_numbers(f"data/COSMOS/std{component}.fits") for component in (1, 2)])
    grid = Grid(mask.shape, PIXEL_ARCMIN)
    return shear_map(np.zeros(grid.shape, complex), grid, noise_std=np.where(mask, std, 0))


def benchmark_case() -> Case:
    """The public benchmark of Remy et al. (2023, A&A 672, A51), Table 1, and its prior spectrum.

    A kTNG map, its shear, and the published noise: one draw of two seeds of the generator that was
    JAX's default then.

    Raises:
        OSError: as `cosmos_catalog`.
    """
    truth = jnp.asarray(_numbers("data/ktng/ktng_kappa360v2.fits"), jnp.float32)
    noise = cosmos_noise()
    weight = noise.weight
    std = noise_std(weight)
    with jax.threefry_partitionable(False):
        unit = [
            jax.random.normal(jax.random.key(seed, impl="threefry2x32"), truth.shape, jnp.float32)
            for seed in (42, 43)
        ]
    clean = shear_from_convergence(truth, noise.grid, two_map_phase)
    shear = jax.lax.complex(
        clean.real + std[0].astype(jnp.float32) * unit[0],
        clean.imag + std[1].astype(jnp.float32) * unit[1],
    )
    ell, c_ell = np.load(fetch("data/ktng/ktng_PS_theory.npy"), allow_pickle=False)
    return Case(
        truth=jnp.asarray(truth, float),
        shear=shear_map(np.asarray(shear), noise.grid, weight=weight),
        spectrum=power_spectrum(ell, c_ell),
    )


def xray_clusters() -> Table:
    """The 72 X-ray clusters of COSMOS (Finoguenov et al. 2007, ApJS 172, 182, Table 1).

    Returns:
        Columns ``id``, ``ra`` and ``dec`` (ICRS, degrees), ``z``, ``m500_1e13`` (1e13 Msun).

    Raises:
        OSError: as `cosmos_catalog`.
    """
    from astropy.table import Table

    lines = fetch("data/xray.txt").read_text(encoding="utf-8").splitlines()
    # Value and error share a column of the file, set apart by blanks only.
    rows = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    columns = {"id": 0, "ra": 1, "dec": 2, "z": 5, "m500_1e13": 6}
    return Table(
        {
            name: [(int if name == "id" else float)(row[at].split()[0]) for row in rows]
            for name, at in columns.items()
        }
    )


def fetch(name: str) -> Path:
    """A file of the repository: from the cache, or fetched into it.

    Args:
        name: one of `SHA256`.

    Raises:
        OSError: if it is not in the cache and cannot be fetched, with the way to bring it by hand.
        ImportError: if it is not in the cache and pooch is not installed.
    """
    path = cache_directory() / "datasets" / COMMIT[:8] / name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]:
        return path
    url = f"{SOURCE}/{name}"
    by_hand = f"save {url} as {path} (sha256 {SHA256[name]})"
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f'fetching data needs pooch: pip install "jaxmap[data]"; or {by_hand}'
        ) from error
    log.info("fetching %s", url)
    try:
        pooch.retrieve(url, f"sha256:{SHA256[name]}", path.name, path.parent, progressbar=False)
    except (OSError, ValueError) as error:
        raise OSError(f"cannot fetch {url} ({error}); {by_hand}") from error
    return path


def _numbers(name: str) -> np.ndarray:
    """The first array of a FITS file, or the first column of its table, in native byte order."""
    from astropy.io import fits

    path = fetch(name)
    with fits.open(path, memmap=False) as hdus:
        data = next(hdu.data for hdu in hdus if hdu.data is not None)
    values = np.asarray(data if data.dtype.names is None else data[data.dtype.names[0]])
    return values.squeeze().astype(values.dtype.newbyteorder("="))
