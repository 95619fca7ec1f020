"""Abundance, bias and concentration of haloes as a table: shipped, cached or made by colossus.

colossus is needed only for a cosmology whose table is neither shipped nor cached, and imported
late. Masses are M200m, in Msun/h; lengths are comoving, in Mpc/h.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.arrayfiles import read_arrays
from jaxmap.files import atomic_path
from jaxmap.matter_power import PLANCK18, Cosmology, cache_directory

log = logging.getLogger(__name__)

_TABLE_FORMAT = "1"  # part of the cache key: raise it when the table's grids or models change
_MIN_ABUNDANCE = 1e-60  # stands for none: keeps the logarithm of the abundance finite
_ARRAYS = ("mass", "z", "log_abundance", "bias", "concentration")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HaloTable:
    r"""Haloes of one cosmology on a grid of mass and redshift.

    Args:
        mass: :math:`M_{200m}` in Msun/h, evenly spaced in the logarithm, shape ``(nm,)``.
        z: redshifts from 0, ascending, shape ``(nz,)``.
        log_abundance: :math:`\ln(dn/d\ln M)`, comoving, in (h/Mpc)^3, shape ``(nz, nm)``.
        bias: linear bias, shape ``(nz, nm)``.
        concentration: median :math:`c_{200m}`, shape ``(nz, nm)``.
    """

    mass: jax.Array
    z: jax.Array
    log_abundance: jax.Array
    bias: jax.Array
    concentration: jax.Array


def halo_table(cosmology: Cosmology = PLANCK18) -> HaloTable:
    """Haloes of a cosmology: shipped for `PLANCK18`, else computed once and kept on disk.

    The cache is that of `jaxmap.matter_power.matter_power`.

    Raises:
        ImportError: when the table must be computed and colossus is not installed.
    """
    if cosmology == PLANCK18:
        shipped = importlib.resources.files("jaxmap") / "data" / "planck18_halos.npz"
        with importlib.resources.as_file(shipped) as path:
            table = read_halo_table(path, cosmology)
        if table is not None:
            return table
        log.warning("the shipped table of haloes is missing or damaged; computing it")
    key = hashlib.sha256(repr((_TABLE_FORMAT, astuple(cosmology))).encode()).hexdigest()[:16]
    path = cache_directory() / f"halos_{key}.npz"
    table = read_halo_table(path, cosmology)
    if table is None:
        table = compute_halo_table(cosmology)
        try:
            write_halo_table(path, table, cosmology)
        except OSError as error:
            log.warning("cannot keep the table of haloes in %s (%s)", path.parent, error)
    return table


def compute_halo_table(cosmology: Cosmology) -> HaloTable:
    """Haloes of a cosmology by colossus, about ten seconds.

    Returns:
        97 masses, 1e11 to 10^15.8 Msun/h, by 41 redshifts, 0 to 5. The concentration model turns
        up for haloes too rare to exist; beyond 1e-12 (h/Mpc)^3 it is held constant.

    Raises:
        ImportError: without colossus.

    References:
        Tinker et al. (2008), ApJ 688, 709 (abundance); Tinker et al. (2010), ApJ 724, 878 (bias);
        Diemer & Joyce (2019), ApJ 871, 168 (concentration); Diemer (2018), ApJS 239, 35 (colossus).
    """
    colossus = _import_colossus()
    mass = np.logspace(11, 15.8, 97)
    z = 5 * np.linspace(0, 1, 41) ** 1.5
    log_abundance, bias, concentration = (np.empty((z.size, mass.size)) for _ in range(3))
    previous = colossus.cosmology.current_cosmo
    # Its own cosmology object is global: put back the one the user may have set.
    colossus.cosmology.setCurrent(_colossus_cosmology(colossus, cosmology))
    try:
        for row, redshift in enumerate(z):
            abundance = colossus.mass_function.massFunction(
                mass, redshift, q_in="M", q_out="dndlnM", mdef="200m", model="tinker08"
            )
            log_abundance[row] = np.log(np.maximum(abundance, _MIN_ABUNDANCE))
            bias[row] = colossus.bias.haloBias(mass, redshift, "200m", model="tinker10")
            c = colossus.concentration.concentration(mass, "200m", redshift, model="diemer19")
            last = np.flatnonzero(np.isfinite(c) & (abundance > 1e-12))[-1]
            concentration[row] = np.where(np.arange(mass.size) <= last, c, c[last])
    finally:
        if previous is not None:
            colossus.cosmology.setCurrent(previous)
    arrays = (jnp.asarray(a, float) for a in (mass, z, log_abundance, bias, concentration))
    return HaloTable(*arrays)


def write_halo_table(path: Path, table: HaloTable, cosmology: Cosmology) -> None:
    """Write a table to ``.npz``, whole or not at all."""
    arrays = {name: np.asarray(getattr(table, name), np.float32) for name in _ARRAYS}
    arrays["cosmology"] = np.asarray(astuple(cosmology))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_halo_table(path: Path, cosmology: Cosmology) -> HaloTable | None:
    """A table from ``.npz``; None for a file that is missing, damaged or of another cosmology."""
    try:
        there = read_arrays(path)
        made_for, arrays = there["cosmology"], [there[name] for name in _ARRAYS]
    except FileNotFoundError:
        return None
    except (KeyError, ValueError) as error:
        log.warning("ignoring the damaged table of haloes in %s (%s)", path, error)
        return None
    shape = arrays[1].shape + arrays[0].shape
    whole = all(a.shape == shape for a in arrays[2:]) and all(np.isfinite(a).all() for a in arrays)
    if not whole or tuple(made_for) != astuple(cosmology):
        log.warning("ignoring %s: not the table of haloes expected there", path)
        return None
    return HaloTable(*(jnp.asarray(a, float) for a in arrays))


def _colossus_cosmology(colossus: Any, cosmology: Cosmology) -> Any:
    return colossus.cosmology.Cosmology(
        name="jaxmap",
        flat=True,
        H0=100 * cosmology.h,
        Om0=cosmology.omega_m,
        Ob0=cosmology.omega_b,
        sigma8=cosmology.sigma8,
        ns=cosmology.n_s,
        relspecies=False,
        persistence="",  # no files of its own: ours is the cache
    )


class _Colossus:
    def __init__(self) -> None:
        from colossus.cosmology import cosmology
        from colossus.halo import concentration
        from colossus.lss import bias, mass_function

        self.cosmology, self.concentration = cosmology, concentration
        self.bias, self.mass_function = bias, mass_function


def _import_colossus() -> _Colossus:
    try:
        return _Colossus()
    except ImportError as error:
        raise ImportError(
            "no table of haloes is shipped or cached for this cosmology, and making one needs "
            'colossus: pip install "jaxmap[clusters]" (or use jaxmap.PLANCK18, whose table is '
            "shipped)"
        ) from error
