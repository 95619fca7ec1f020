"""The matter power spectrum P(k, z) of a cosmology as a table: computed, shipped or cached.

It is Eisenstein & Hu (1998) with the halofit of Takahashi et al. (2012), as coded in jax-cosmo.
That package is touched here only, and only for cosmologies whose table is neither shipped nor
cached: it is imported late, and two of its functions are replaced while a table is traced (see
`_corrected_jax_cosmo`). Lengths are in Mpc/h throughout.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import logging
import math
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.arrayfiles import read_arrays
from jaxmap.files import atomic_path

log = logging.getLogger(__name__)

_TABLE_FORMAT = "1"  # part of the cache key: raise it when the table's grids or physics change
_PATCH_LOCK = threading.RLock()


@jax.tree_util.register_static
@dataclass(frozen=True)
class Cosmology:
    """A flat LCDM cosmology without massive neutrinos; hashable plain numbers.

    Args:
        omega_m: matter density today, baryons included, in units of the critical density.
        omega_b: baryon density today.
        h: Hubble constant in 100 km/s/Mpc.
        n_s: spectral index of the primordial fluctuations.
        sigma8: linear rms of matter in spheres of 8 Mpc/h today.

    Raises:
        ValueError: for values outside 0 < omega_b < omega_m < 1, 0.2 < h < 2, 0 < n_s < 2 and
            0 < sigma8 < 3.
    """

    omega_m: float
    omega_b: float
    h: float
    n_s: float
    sigma8: float

    def __post_init__(self) -> None:
        limits = {
            "omega_m": (0.0, 1.0),
            "omega_b": (0.0, self.omega_m),
            "h": (0.2, 2.0),
            "n_s": (0.0, 2.0),
            "sigma8": (0.0, 3.0),
        }
        for name, (low, high) in limits.items():
            value = float(getattr(self, name))
            if not low < value < high:
                raise ValueError(
                    f"{name} is {value:g}; expected a number between {low:g} and {high:g}"
                    + (" (a Hubble constant in km/s/Mpc? give h = H0 / 100)" * (name == "h"))
                )
            object.__setattr__(self, name, value)


PLANCK18 = Cosmology(omega_m=0.30966, omega_b=0.04897, h=0.6766, n_s=0.9665, sigma8=0.8102)
"""Planck Collaboration (2020), A&A 641, A6, table 2, last column; as in astropy."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MatterPower:
    """The non-linear matter power spectrum as a table.

    Args:
        k: wave numbers in h/Mpc, evenly spaced in the logarithm, shape ``(nk,)``.
        z: redshifts from 0, growing with the square of the index, shape ``(nz,)``.
        power: P(k, z) in (Mpc/h)^3, shape ``(nz, nk)``.
        omega_m: matter density today, shape ``()``.
    """

    k: jax.Array
    z: jax.Array
    power: jax.Array
    omega_m: jax.Array


def matter_power_table(
    omega_m: float | jax.Array,
    omega_b: float | jax.Array,
    h: float | jax.Array,
    n_s: float | jax.Array,
    sigma8: float | jax.Array,
) -> MatterPower:
    """P(k, z) of a flat LCDM cosmology by jax-cosmo; pure, for `jax.jit` and `jax.grad`.

    Args: as for `Cosmology`, but traced values are welcome. Call it inside ``jax.jit``: one by one
    its operations take hundreds of compilations.

    Returns:
        384 wave numbers, 1e-4 to 300 h/Mpc, by 96 redshifts, 0 to 10.

    References:
        Eisenstein & Hu (1998), ApJ 496, 605; Takahashi et al. (2012), ApJ 761, 152.
    """
    k = jnp.geomspace(1e-4, 300.0, 384)
    z = 10.0 * jnp.linspace(0.0, 1.0, 96) ** 2
    with _corrected_jax_cosmo() as jax_cosmo, jax.numpy_rank_promotion("allow"):
        # Made here, not outside: the object keeps what it computes, and would leak tracers.
        cosmo = jax_cosmo.Cosmology(omega_m - omega_b, omega_b, h, n_s, sigma8, 0.0, -1.0, 0.0)
        jax_cosmo.background.growth_factor(cosmo, jnp.ones(1))
        power = jax.vmap(
            lambda a: jax_cosmo.power.halofit(cosmo, k, a, jax_cosmo.transfer.Eisenstein_Hu)
        )(1 / (1 + z))
    return MatterPower(k, z, power, jnp.asarray(omega_m, float))


@jax.jit
def linear_power_table(cosmology: Cosmology) -> tuple[jax.Array, jax.Array]:
    """Linear P(k) today, for the initial conditions of simulations; some seconds.

    Returns:
        1024 wave numbers, 1e-4 to 300 h/Mpc, and the power in (Mpc/h)^3.

    References:
        Eisenstein & Hu (1998), ApJ 496, 605.
    """
    k = jnp.geomspace(1e-4, 300.0, 1024)
    with jax_cosmology(cosmology) as (jax_cosmo, cosmo):
        transfer = jax_cosmo.transfer.Eisenstein_Hu
        return k, jax_cosmo.power.linear_matter_power(cosmo, k, 1.0, transfer)


def matter_power(cosmology: Cosmology) -> MatterPower:
    """P(k, z) of a cosmology: shipped for `PLANCK18`, else computed once and kept on disk.

    The directory is ``$JAXMAP_CACHE``, or ``jaxmap`` in the user's cache directory. A damaged file
    there is made anew; a directory that cannot be written to costs a logged warning only.
    """
    shipped = importlib.resources.files("jaxmap") / "data" / "planck18_matter_power.npz"
    if cosmology == PLANCK18:
        with importlib.resources.as_file(shipped) as path:
            table = read_table(path, cosmology)
        if table is not None:
            return table
        log.warning("the shipped table of P(k, z) is missing or damaged; computing it")
    path = cache_directory() / f"matter_power_{_cache_key(cosmology)}.npz"
    table = read_table(path, cosmology)
    if table is None:
        table = jax.jit(matter_power_table)(*astuple(cosmology))
        try:
            write_table(path, table, cosmology)
        except OSError as error:
            log.warning("cannot keep the table of P(k, z) in %s (%s)", path.parent, error)
    return table


def cache_directory() -> Path:
    """Where computed tables are kept: ``$JAXMAP_CACHE``, or ``jaxmap`` in the user's cache."""
    if os.environ.get("JAXMAP_CACHE"):
        return Path(os.environ["JAXMAP_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "jaxmap"


def _cache_key(cosmology: Cosmology) -> str:
    made_by = (_TABLE_FORMAT, importlib.metadata.version("jax-cosmo"), astuple(cosmology))
    return hashlib.sha256(repr(made_by).encode()).hexdigest()[:16]


def write_table(path: Path, table: MatterPower, cosmology: Cosmology) -> None:
    """Write P(k, z) to ``.npz``, whole or not at all (other processes may be reading it)."""
    # Opened here: numpy would append ".npz" to a name without it.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            k=np.asarray(table.k, np.float64),
            z=np.asarray(table.z, np.float64),
            power=np.asarray(table.power, np.float32),
            cosmology=np.asarray(astuple(cosmology)),
        )


def read_table(path: Path, cosmology: Cosmology) -> MatterPower | None:
    """P(k, z) from ``.npz``; None for a file that is missing, damaged or of another cosmology."""
    try:
        arrays_there = read_arrays(path)
        k, z, power, made_for = (arrays_there[name] for name in ("k", "z", "power", "cosmology"))
    except FileNotFoundError:
        return None
    except (KeyError, ValueError) as error:
        log.warning("ignoring the damaged table of P(k, z) in %s (%s)", path, error)
        return None
    whole = power.shape == z.shape + k.shape and np.all(power > 0) and np.all(np.isfinite(power))
    if not whole or tuple(made_for) != astuple(cosmology):
        log.warning("ignoring %s: not the table of P(k, z) expected there", path)
        return None
    arrays = (jnp.asarray(values, float) for values in (k, z, power, cosmology.omega_m))
    return MatterPower(*arrays)


@contextlib.contextmanager
def jax_cosmology(cosmology: Cosmology) -> Iterator[tuple[Any, Any]]:
    """jax-cosmo and its object of a cosmology; for use inside ``jax.jit`` only.

    The object keeps what it computes, and would leak tracers: it must not outlast the context.
    """
    with _corrected_jax_cosmo() as jax_cosmo, jax.numpy_rank_promotion("allow"):
        omega_m, omega_b, *others = astuple(cosmology)
        yield jax_cosmo, jax_cosmo.Cosmology(omega_m - omega_b, omega_b, *others, 0.0, -1.0, 0.0)


@contextlib.contextmanager
def _corrected_jax_cosmo() -> Iterator[Any]:
    """jax-cosmo with two functions of version 0.1.0 replaced while the context lasts.

    ``sigmasqr`` takes log10 for ln in its limits and puts P(k) 0.35 % too high (upstream issue
    109); ``interp`` expects ascending abscissae where halofit, in search of the radius at which the
    variance is 1, hands descending ones, and spoils derivatives by per cents. The variance is close
    to a power law, so its logarithm is what we interpolate: else the kinks between 256 radii cost
    0.2 % in derivatives. The originals come back afterwards, for the user's other code.
    """
    jax_cosmo = import_jax_cosmo()
    power, background = jax_cosmo.power, jax_cosmo.background
    if importlib.metadata.version("jax-cosmo") != "0.1.0":
        log.warning("jax-cosmo is not version 0.1.0; using it without the known corrections")
        yield jax_cosmo
        return
    with _PATCH_LOCK:
        originals = power.sigmasqr, power.interp, background.interp
        power.sigmasqr = _variance_in_spheres
        power.interp = _interp_descending_positive
        background.interp = jnp.interp  # same values; the original warns in single precision
        try:
            yield jax_cosmo
        finally:
            power.sigmasqr, power.interp, background.interp = originals


def _interp_descending_positive(x: jax.Array, xp: jax.Array, fp: jax.Array) -> jax.Array:
    return jnp.interp(jnp.log(x), jnp.log(xp[::-1]), fp[::-1])


def _variance_in_spheres(cosmo: Any, radius: float, transfer_fn: Any, **kwargs: Any) -> jax.Array:
    """Unnormalised linear variance of matter in spheres, by Simpson's rule in ln k."""
    ln_k, step = np.linspace(math.log(1e-4), math.log(1e3), 1025, retstep=True)
    weights = np.r_[1, np.tile([4, 2], 511), 4, 1] * step / 3
    x = np.exp(ln_k) * radius
    window = 3 * (np.sin(x) - x * np.cos(x)) / x**3  # in float64 on the host: it cancels
    k = jnp.asarray(np.exp(ln_k), float)
    power = k**cosmo.n_s * transfer_fn(cosmo, k, **kwargs) ** 2
    factor = jnp.asarray(weights * np.exp(3 * ln_k) * window**2 / (2 * math.pi**2), float)
    return jnp.sum(factor * power)


def import_jax_cosmo() -> Any:
    """Import jax-cosmo without setuptools, whose ``pkg_resources`` it asks for its own version."""
    if "jax_cosmo" in sys.modules:
        return sys.modules["jax_cosmo"]
    stand_in: Any = types.ModuleType("pkg_resources")
    stand_in.DistributionNotFound = importlib.metadata.PackageNotFoundError
    stand_in.get_distribution = importlib.metadata.distribution
    absent = "pkg_resources" not in sys.modules
    sys.modules.setdefault("pkg_resources", stand_in)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in its docstrings
            import jax_cosmo
    finally:
        if absent:
            del sys.modules["pkg_resources"]
    return jax_cosmo
