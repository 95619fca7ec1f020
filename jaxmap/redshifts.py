"""Source redshifts: n(z) as a table, its reader, and the default of the COSMOS field."""

from __future__ import annotations

import importlib.resources
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

# Column names as they are met in the wild, compared in lower case without punctuation.
_REDSHIFT_NAMES = {"z", "zmid", "zmean", "redshift", "zs", "photoz"}
_DENSITY_NAMES = {"nz", "n", "density", "pz", "pdf", "p", "dndz", "nofz", "pofz"}
# What numpy and astropy raise for damaged files.
_READ_ERRORS = (
    OSError, EOFError, IndexError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RedshiftDistribution:
    r"""Redshift distribution of the sources, linear between the rows of a table and zero outside.

    A table of one row is a single source plane: all galaxies at that redshift.

    Args:
        z: redshifts, ascending, shape ``(n,)``.
        density: n(z) with unit integral, shape ``(n,)``; 1 for a single plane.
    """

    z: jax.Array
    density: jax.Array


def redshift_distribution(z: ArrayLike, density: ArrayLike = 1.0) -> RedshiftDistribution:
    """Check a table of n(z), give it unit integral (trapezoids) and make a `RedshiftDistribution`.

    Args:
        z: redshifts >= 0, ascending, shape ``(n,)``; one number > 0 for a single source plane.
        density: number of sources per unit redshift in any unit, shape ``(n,)``.

    Raises:
        ValueError: for unequal shapes, an empty table, values that are not finite, redshifts that
            are negative or do not ascend, or densities that are negative or vanish everywhere.
    """
    z_host, n_host = np.atleast_1d(np.asarray(z, float)), np.atleast_1d(np.asarray(density, float))
    if z_host.ndim != 1 or z_host.shape != n_host.shape:
        raise ValueError(
            f"n(z) tables have shapes z {z_host.shape} and density {n_host.shape}; expected two "
            "equally long vectors"
        )
    if z_host.size == 0:
        raise ValueError("the n(z) table is empty; expected at least one redshift")
    for name, values in (("redshift", z_host), ("density", n_host)):
        bad = ~np.isfinite(values) | (values < 0)
        if bad.any():
            raise ValueError(
                f"the n(z) table holds the {name} {values[bad][0]:g} in row {np.argmax(bad)}; "
                "expected finite values >= 0"
            )
    if np.any(np.diff(z_host) <= 0):
        row = int(np.argmax(np.diff(z_host) <= 0)) + 1
        raise ValueError(
            f"the n(z) table's redshift falls or repeats in row {row} ({z_host[row - 1]:g}, then "
            f"{z_host[row]:g}); expected ascending redshifts (are the columns z, n(z)?)"
        )
    total = n_host[0] if z_host.size == 1 else np.trapezoid(n_host, z_host)
    if total <= 0:
        raise ValueError("n(z) is zero everywhere; expected some density above 0")
    if z_host[-1] == 0:
        raise ValueError("the single source plane is at redshift 0; expected a redshift above 0")
    return RedshiftDistribution(jnp.asarray(z_host, float), jnp.asarray(n_host / total, float))


def source_quadrature(redshifts: RedshiftDistribution) -> tuple[jax.Array, jax.Array]:
    r"""Nodes and weights of integrals over the sources.

    .. math:: \int n(z) f(z)\,dz \approx \sum_q w_q f(z_q)

    by Gauss-Legendre nodes inside every interval of the table, at least 500 in all, so that a
    coarse table and a narrow bin are integrated equally well. A single plane is one node.

    Returns:
        ``(z, weight)``, shape ``(q,)`` each.
    """
    z, density = redshifts.z, redshifts.density
    num_intervals = z.shape[0] - 1
    if num_intervals == 0:
        return z, density
    nodes, node_weights = np.polynomial.legendre.leggauss(max(2, -(-500 // num_intervals)))
    right = jnp.asarray(0.5 * (1 + nodes), z.dtype)[None, :]
    weights = jnp.asarray(0.5 * node_weights, z.dtype)[None, :]
    width = jnp.diff(z)[:, None]
    z_nodes = z[:-1, None] + width * right
    density_nodes = density[:-1, None] * (1 - right) + density[1:, None] * right
    return z_nodes.ravel(), (width * weights * density_nodes).ravel()


def cosmos_redshifts() -> RedshiftDistribution:
    """n(z) of the COSMOS lensing sources, bright and faint, in bins of 0.05 up to z = 5.

    References:
        Schrabback et al. (2010), A&A 516, A63.
    """
    source = importlib.resources.files("jaxmap") / "data" / "nz_cosmos.ecsv"
    return redshift_distribution(*_columns_of_text(source.read_text("utf-8"), "nz_cosmos.ecsv"))


def read_redshift_distribution(path: str | Path) -> RedshiftDistribution:
    """Read n(z) from a file of two columns.

    Columns called like a redshift (z, z_mid, redshift ...) and a density (nz, n(z), pz, dn/dz ...)
    are taken; when either name is missing, the first two columns.

    Args:
        path: FITS table; ``.npy`` of shape ``(2, n)`` or ``(n, 2)``; ``.npz`` of two vectors;
            anything else is text (ECSV, CSV, white space), with or without a line of names.

    Raises:
        ValueError: for a file that is missing, unreadable or cut short, or an n(z) that
            `redshift_distribution` rejects; the message names the file.
    """
    path = Path(path)
    name = path.name.lower()
    if not path.is_file():
        raise ValueError(
            f"n(z) file {str(path)!r} does not exist; give the path of a table z, n(z)"
        )
    try:
        if name.endswith((".npy", ".npz")):
            columns = _columns_of_numpy(path)
        elif name.endswith((".fits", ".fit", ".fits.gz")):
            columns = _columns_of_fits(path)
        else:
            columns = _columns_of_text(path.read_text("utf-8-sig"), str(path))
        return redshift_distribution(*columns)
    except _READ_ERRORS as error:
        raise ValueError(f"cannot read n(z) from {str(path)!r}: {error}") from error


def _pick_columns(names: list[str]) -> tuple[int, int]:
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    redshift = [i for i, name in enumerate(plain) if name in _REDSHIFT_NAMES]
    density = [i for i, name in enumerate(plain) if name in _DENSITY_NAMES]
    if len(names) < 2:
        raise ValueError(f"the table has the columns {names}; expected two, z and n(z)")
    return (redshift[0], density[0]) if redshift and density else (0, 1)


def _columns_of_text(text: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    rows: list[tuple[int, list[str]]] = []
    comment = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("#"):
            comment = comment if rows else line.strip(" #")
            continue
        rows.append((number, _split(line)))
    if not rows:
        raise ValueError(f"{source} holds no rows; expected two columns, z and n(z)")
    # The line of names is the first one, or (as numpy.savetxt writes it) the last comment before.
    names = [str(i) for i in range(len(rows[0][1]))]
    if not all(_is_number(entry) for entry in rows[0][1]):
        names = rows.pop(0)[1]
    elif len(_split(comment)) == len(names):
        names = _split(comment)
    i, j = _pick_columns(names)
    z, density = np.empty(len(rows)), np.empty(len(rows))
    for row, (number, entries) in enumerate(rows):
        if len(entries) != len(names) or not (_is_number(entries[i]) and _is_number(entries[j])):
            raise ValueError(
                f"line {number} is {' '.join(entries)[:60]!r}; expected numbers in {len(names)} "
                "columns as in the first line (was the file cut short?)"
            )
        z[row], density[row] = float(entries[i]), float(entries[j])
    return z, density


def _split(line: str) -> list[str]:
    parts = line.split(",") if "," in line else line.split()
    return [part.strip().strip("\"'") for part in parts]


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return True


def _columns_of_numpy(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with open(path, "rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if loaded.ndim != 2 or 2 not in loaded.shape:
                raise ValueError(f"the array has shape {loaded.shape}; expected (2, n) or (n, 2)")
            table = loaded if loaded.shape[0] == 2 else loaded.T
            return table[0], table[1]
        i, j = _pick_columns(loaded.files)
        return loaded[loaded.files[i]], loaded[loaded.files[j]]


def _columns_of_fits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from astropy.io import fits

    # Our own handle, since astropy leaves its one open when a header is cut short; and no warnings
    # about the file's style, since what matters is whether the two columns can be read.
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for unit in fits.open(file, memmap=False):
            if isinstance(unit, fits.BinTableHDU | fits.TableHDU):
                names = list(unit.columns.names)
                i, j = _pick_columns(names)
                data = unit.data
                return np.array(data[names[i]], float), np.array(data[names[j]], float)
    raise ValueError("the FITS file holds no table; expected one with the columns z and n(z)")
