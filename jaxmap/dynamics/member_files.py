"""Cluster catalogues in files: one row for each galaxy, with what is known of its cluster.

FITS, CSV, ECSV, HDF5 and Parquet hold the same columns. Those that describe clusters repeat one
value in all rows of a cluster, those that describe the catalogue (cylinder, redshift) one value in
all rows, so that every kind of file can hold them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.dynamics.members import PER_CLUSTER, ClusterMembers, cluster_members
from jaxmap.files import atomic_path
from jaxmap.reading.readers import to_numbers
from jaxmap.reading.tablefiles import open_columns
from jaxmap.reading.tableformats import Columns, listed

log = logging.getLogger(__name__)

REDSHIFT = 0.117
ALIASES = {
    "cluster": ("cluster", "cluster_id", "clusterid", "halo_id", "haloid", "group_id"),
    "radius_mpc_h": ("radius_mpc_h", "rproj", "r_proj"),
    "velocity_km_s": ("velocity_km_s", "vlos", "v_los"),
    "log10_mass": ("log10_mass", "logm200c", "log10_m200c"),
    "halo": ("halo",),
    "line_of_sight": ("line_of_sight", "rotation"),
    "num_true": ("num_true",),
    "member": ("member", "memb_halo", "true_memb"),
}
"""Column names by role, the preferred one first; compared without regard to case."""
REQUIRED = ("cluster", "radius_mpc_h", "velocity_km_s")
WHOLE = ("halo", "line_of_sight", "num_true")
OF_CATALOGUE = ("aperture_mpc_h", "velocity_cut_km_s", "redshift")
FORMATS = {
    ".fits": "fits",
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".parquet": "parquet",
}


def read_members(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    aperture_mpc_h: float | None = None,
    velocity_cut_km_s: float | None = None,
    redshift: float | None = None,
    hdu: int | str | None = None,
    group: str | None = None,
) -> ClusterMembers:
    """Read galaxies of clusters from a file or a table in memory.

    Args:
        source: path of a FITS, CSV, ECSV, text, HDF5 or Parquet file, or an astropy ``Table``,
            pandas ``DataFrame``, structured array or dict of arrays; one row for each galaxy.
        columns: names of columns by role (`ALIASES`); velocities relative to the cluster.
        aperture_mpc_h, velocity_cut_km_s: the cylinder that galaxies were taken from, if the file
            does not say.
        redshift: of the clusters, if the file does not say; 0.117, with a warning, if None.
        hdu: FITS extension, if several could be meant.
        group: HDF5 group, likewise.

    Returns:
        Clusters in the order in which they first appear, with their names in the file, unless they
        are only numbered in this order.

    Raises:
        ValueError: for missing columns, values that differ within a cluster, or what
            `cluster_members` refuses.
        FileNotFoundError: if there is no such file.
    """
    given = dict(columns or {})
    if unknown := set(given) - set(ALIASES):
        raise ValueError(
            f"{sorted(unknown)} are no roles of columns; expected some of {', '.join(ALIASES)}"
        )
    table = open_columns(source, lambda names: _has(names, given), hdu=hdu, group=group)
    found = {role: name for role in ALIASES if (name := _find(table, role, given)) is not None}
    if missing := [role for role in REQUIRED if role not in found]:
        raise ValueError(
            f"{table.label}: no column for {', '.join(missing)}; its columns are "
            f"{listed(list(table.names))}; name them, columns={{{missing[0]!r}: 'name'}} "
            f"(--columns {missing[0]}=name)"
        )
    others = {name: name for name in OF_CATALOGUE if name in table.names}
    loaded = table.load([*found.values(), *others])
    rows = {
        role: (_whole if role in WHOLE else to_numbers)(loaded[name], name, role, table.label)
        for role, name in {**found, **others}.items()
        if role != "cluster"
    }
    label = _names(loaded[found["cluster"]], found["cluster"], table.label)
    _, first, back = np.unique(label, return_index=True, return_inverse=True)
    order_of_name = np.argsort(np.argsort(first))
    cluster = order_of_name[back]
    names = label[np.sort(first)]
    order = np.argsort(cluster, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(cluster, minlength=len(first)))])
    sorted_rows = {role: values[order] for role, values in rows.items()}
    about = {
        role: _one_each(sorted_rows[role], offsets, role, table.label)
        for role in PER_CLUSTER
        if role in rows
    }
    chosen = {
        "aperture_mpc_h": aperture_mpc_h,
        "velocity_cut_km_s": velocity_cut_km_s,
        "redshift": redshift,
    }
    for name in OF_CATALOGUE:
        if chosen[name] is None and name in rows and len(order):
            chosen[name] = _one_value(rows[name], name, table.label)
    if chosen["redshift"] is None:
        log.warning(
            "%s says no redshift; %g is taken (redshift=..., --redshift)", table.label, REDSHIFT
        )
    return cluster_members(
        sorted_rows["radius_mpc_h"],
        sorted_rows["velocity_km_s"],
        offsets,
        member=sorted_rows["member"] > 0.5 if "member" in rows else None,
        aperture_mpc_h=chosen["aperture_mpc_h"],
        velocity_cut_km_s=chosen["velocity_cut_km_s"],
        redshift=REDSHIFT if chosen["redshift"] is None else chosen["redshift"],
        name=None if np.array_equal(names, np.arange(len(names))) else names,
        **about,
    )


def write_members(path: str | Path, members: ClusterMembers) -> None:
    """Write clusters to FITS, CSV, ECSV, HDF5 or Parquet, by the name's ending.

    Raises:
        ValueError: for another ending, clusters without galaxies, which rows cannot hold, or two
            of one name.
    """
    from astropy.table import Table

    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"cannot write clusters to {path}; expected a name ending in {', '.join(FORMATS)}"
        )
    if (members.richness == 0).any():
        raise ValueError(
            f"{int((members.richness == 0).sum())} clusters have no galaxies, and a file has one "
            "row for each galaxy; leave them out: select(members, members.richness > 0)"
        )
    cluster = members.cluster
    name = np.arange(len(members)) if members.name is None else members.name
    if len(set(name.tolist())) < len(name):
        raise ValueError(
            "two clusters have one name, and a file tells clusters apart by their names; expected "
            "different ones: replace(members, name=None) numbers them"
        )
    table = Table({"cluster": name[cluster]})
    table["radius_mpc_h"], table["velocity_km_s"] = members.radius_mpc_h, members.velocity_km_s
    if members.member is not None:
        table["member"] = members.member.astype(np.uint8)
    for column in PER_CLUSTER:
        if column != "name" and (values := getattr(members, column)) is not None:
            table[column] = values[cluster]
    for column in OF_CATALOGUE:
        if (value := getattr(members, column)) is not None:
            table[column] = np.full(len(cluster), value)
    kind = FORMATS[path.suffix.lower()]
    extra = {"path": "clusters"} if kind == "hdf5" else {}
    with atomic_path(path) as temporary:
        table.write(temporary, format=kind, overwrite=True, **extra)


def _has(names: Any, given: Mapping[str, str]) -> bool:
    lower = {name.lower() for name in names}
    return all(
        given.get(role, "").lower() in lower or any(alias in lower for alias in ALIASES[role])
        for role in REQUIRED
    )


def _find(table: Columns, role: str, given: Mapping[str, str]) -> str | None:
    by_lower = {name.lower(): name for name in table.names}
    if role in given:
        if given[role].lower() not in by_lower:
            raise ValueError(
                f"{table.label}: there is no column {given[role]!r} ({role}); its columns are "
                f"{listed(list(table.names))}"
            )
        return by_lower[given[role].lower()]
    return next((by_lower[alias] for alias in ALIASES[role] if alias in by_lower), None)


def _whole(column: Any, name: str, role: str, label: str) -> np.ndarray:
    """Whole numbers as they are, since those of haloes can be longer than a float holds."""
    bare = np.asarray(column)
    if bare.dtype.kind in "iu" and not np.any(getattr(column, "mask", False)):
        return bare.astype(np.int64)
    values = to_numbers(column, name, role, label)
    wrong = ~(np.abs(values) < 2**53) | (values != np.rint(values))
    if wrong.any():
        raise ValueError(
            f"{label}: column {name!r} ({role}) holds {values[wrong][0]:g}; expected whole numbers "
            f"(leave {role} out if it is not known)"
        )
    return values.astype(np.int64)


def _names(column: Any, name: str, label: str) -> np.ndarray:
    """What clusters are called: whole numbers, or text."""
    bare = np.asarray(column)
    missing = bool(np.any(getattr(column, "mask", False)))
    if bare.dtype.kind in "iu" and not missing:
        return bare.astype(np.int64)
    if bare.dtype.kind == "f":
        return _whole(column, name, "cluster", label)
    if bare.dtype.kind == "O":
        bare = np.array(
            [x.decode(errors="replace") if isinstance(x, bytes) else x for x in bare], object
        )
        known = (str, int, float, np.integer)
        missing = missing or any(not isinstance(x, known) or x != x for x in bare)
    if missing:
        raise ValueError(
            f"{label}: column {name!r} (cluster) has no value in some rows; expected the cluster "
            "of every galaxy: remove the galaxies that belong to none"
        )
    return np.char.decode(bare, errors="replace") if bare.dtype.kind == "S" else bare.astype(str)


def _one_each(values: np.ndarray, offsets: np.ndarray, role: str, label: str) -> np.ndarray:
    """The value of every cluster, which all of its rows must have."""
    first = values[offsets[:-1]]
    own = np.repeat(first, np.diff(offsets))
    differs = (values != own) & ~(np.isnan(values) & np.isnan(own))  # NaN is refused by its name
    if differs.any():
        row = int(np.argmax(differs))
        raise ValueError(
            f"{label}: {role} is {values[row]:g} in one row and {own[row]:g} in another of the "
            "same cluster; expected one value for each cluster"
        )
    return first


def _one_value(values: np.ndarray, name: str, label: str) -> float:
    if np.ptp(values) > 1e-9 * abs(values[0]):
        raise ValueError(
            f"{label}: {name} goes from {values.min():g} to {values.max():g}; expected one value "
            "for all clusters: give galaxies of one cylinder and redshift in one file"
        )
    return float(values[0])
