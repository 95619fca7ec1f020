"""Source redshifts: n(z) as a table, its reader, and the default of the COSMOS field."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmap.two_columns import read_two_columns

# Column names as they are met in the wild, in lower case without punctuation.
_REDSHIFT_NAMES = {"z", "zmid", "zmean", "redshift", "zs", "photoz"}
_DENSITY_NAMES = {"nz", "n", "density", "pz", "pdf", "p", "dndz", "nofz", "pofz"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RedshiftDistribution:
    r"""Redshift distribution of the sources, linear between the rows of a table and zero outside.

    A table of one row is a single source plane: all galaxies at that redshift. Made by
    `redshift_distribution`, of host arrays in float64, so that it serves in either precision.

    Args:
        z: redshifts, ascending, shape ``(n,)``.
        density: n(z) with unit integral, shape ``(n,)``; 1 for a single plane.
    """

    z: jax.Array | np.ndarray
    density: jax.Array | np.ndarray


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
    return RedshiftDistribution(z_host, n_host / total)


def smail_redshifts(
    alpha: float, beta: float, z0: float, highest_z: float = 4.0, num_rows: int = 400
) -> RedshiftDistribution:
    r"""Smail's analytic redshift distribution as a table.

    .. math:: n(z) \propto z^\alpha\, e^{-(z / z_0)^\beta}

    Args:
        alpha, beta, z0: exponents and scale, all above 0.
        highest_z: where the table ends; the tail beyond is left out.
        num_rows: redshifts in the table, evenly spaced.

    Raises:
        ValueError: for parameters that are not finite numbers above 0.

    References:
        Smail, Ellis & Fitchett (1994), MNRAS 270, 245.
    """
    for name, value in {"alpha": alpha, "beta": beta, "z0": z0, "highest_z": highest_z}.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} of n(z) is {value}; expected a finite number above 0")
    z = np.linspace(0, highest_z, num_rows)
    return redshift_distribution(z, z**alpha * np.exp(-((z / z0) ** beta)))


@partial(jax.jit, static_argnames="num")
def draw_redshifts(key: jax.Array, redshifts: RedshiftDistribution, num: int) -> jax.Array:
    r"""Redshifts of single galaxies, by the inverse of the cumulative n(z); pure.

    Inside an interval of the table the cumulative distribution is a parabola, whose root is

    .. math:: z = z_i + \Delta z \frac{r (n_i + n_{i+1})}
              {n_i + \sqrt{n_i^2 + r (n_{i+1}^2 - n_i^2)}}, \qquad r \sim U(0, 1)

    Returns:
        Shape ``(num,)``.
    """
    z, density = jnp.asarray(redshifts.z), jnp.asarray(redshifts.density)
    if z.shape[0] == 1:
        return jnp.full(num, z[0])
    share = jnp.diff(z) * (density[:-1] + density[1:]) / 2
    key_interval, key_inside = jax.random.split(key)
    interval = jax.random.choice(key_interval, share.shape[0], (num,), p=share)
    low, high = density[:-1][interval], density[1:][interval]
    r = jax.random.uniform(key_inside, (num,), z.dtype)
    root = low + jnp.sqrt(low**2 + r * (high**2 - low**2))
    return z[:-1][interval] + jnp.diff(z)[interval] * r * (low + high) / root


def source_quadrature(redshifts: RedshiftDistribution) -> tuple[jax.Array, jax.Array]:
    r"""Nodes and weights of integrals over the sources.

    .. math:: \int n(z) f(z)\,dz \approx \sum_q w_q f(z_q)

    by Gauss-Legendre nodes inside every interval of the table, at least 500 in all, so that a
    coarse table and a narrow bin are integrated equally well. A single plane is one node.

    Returns:
        ``(z, weight)``, shape ``(q,)`` each.
    """
    z, density = jnp.asarray(redshifts.z), jnp.asarray(redshifts.density)
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
    with importlib.resources.as_file(source) as path:
        return read_redshift_distribution(path)


def read_redshift_distribution(path: str | Path) -> RedshiftDistribution:
    """Read n(z) from a file of two columns.

    Columns called like a redshift (z, z_mid, redshift ...) and a density (nz, n(z), pz, dn/dz ...)
    are taken; in a table of two columns without such names, the first is z.

    Args:
        path: FITS, ``.npy``, ``.npz`` or text, as for `jaxmap.two_columns.read_two_columns`.

    Raises:
        ValueError: for a file that is missing, unreadable or cut short, or an n(z) that
            `redshift_distribution` rejects; the message names the file.
    """
    columns = read_two_columns(path, _REDSHIFT_NAMES, _DENSITY_NAMES, "z and n(z)")
    try:
        return redshift_distribution(*columns)
    except ValueError as error:
        raise ValueError(f"cannot use z and n(z) of {str(path)!r}: {error}") from error
