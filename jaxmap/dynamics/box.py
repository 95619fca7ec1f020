"""Clusters from simulated boxes: halo and galaxy catalogues, seen through periodic cylinders."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxmap.arrayfiles import plain_errors
from jaxmap.dynamics.halo_profile import expansion_rate
from jaxmap.dynamics.members import ClusterMembers, cluster_members
from jaxmap.dynamics.observables import OMEGA_M, axes_of_sight, velocities_in_blocks
from jaxmap.machine import host_memory
from jaxmap.texttables import opened

COLUMNS = {
    "id": ("id",),
    "parent": ("upid", "pid", "parent_id"),
    "mass": ("m200c",),
    "stellar_mass": ("obs_sm", "sm"),
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "vx": ("vx",),
    "vy": ("vy",),
    "vz": ("vz",),
}
"""Columns of Rockstar and UniverseMachine tables by role; compared without regard to case."""


_LONGEST_LINE = 2**16


class BoxCatalog(NamedTuple):
    """Haloes or galaxies of a periodic box.

    Attributes:
        identity: number of each, shape ``(n,)``.
        parent: number of the halo that it is a satellite of, -1 for none.
        position: comoving Mpc/h, shape ``(n, 3)``.
        velocity: peculiar, km/s, shape ``(n, 3)``.
        mass: M200c in Msun/h, or NaN.
        stellar_mass: in the unit of the file, or NaN.
    """

    identity: np.ndarray
    parent: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    mass: np.ndarray
    stellar_mass: np.ndarray


def read_box_text(path: str | Path) -> BoxCatalog:
    """Read a text table of Rockstar (hlist, out) or UniverseMachine (sfr_catalog as text).

    The first line names the columns, as ``#ID(0) UPID(2) X(5) ...`` or ``#scale(0) id(1) ...``;
    the file may be compressed (.gz).

    Raises:
        ValueError: for missing columns, lines that do not have all of them or do not end, and more
            rows than a quarter of the memory holds.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path).expanduser()
    try:
        with plain_errors():
            return _read_box_text(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error} (is it cut short? Fetch or write it again)") from error


def _read_box_text(path: Path) -> BoxCatalog:
    with opened(path) as stream:
        header = stream.readline(_LONGEST_LINE).decode("utf-8", "replace")
        words = [re.sub(r"\(\d+\)$", "", word).lower() for word in header.lstrip("#").split()]
        place = {
            role: words.index(name)
            for role, names in COLUMNS.items()
            if (name := next((n for n in names if n in words), None)) is not None
        }
        needed = ("id", "x", "y", "z", "vx", "vy", "vz")
        missing = [role for role in needed if role not in place]
        if not header.startswith("#") or missing:
            raise ValueError(
                f"no column {', '.join(missing) or 'names'}; expected a first line that "
                "begins with # and names the columns, as Rockstar and UniverseMachine write it"
            )
        roles = list(place)
        values = _columns(stream, [place[r] for r in roles], float)
        stream.seek(0)
        whole = [r for r in ("id", "parent") if r in place]
        numbers = _columns(stream, [place[r] for r in whole], np.int64)
    column = {role: values[:, i] for i, role in enumerate(roles)}
    exact = {role: numbers[:, i] for i, role in enumerate(whole)}
    num = len(values)
    unknown = np.full(num, np.nan)
    return BoxCatalog(
        identity=exact["id"],
        parent=exact.get("parent", np.full(num, -1)),
        position=np.stack([column[a] for a in "xyz"], axis=1),
        velocity=np.stack([column[f"v{a}"] for a in "xyz"], axis=1),
        mass=column.get("mass", unknown),
        stellar_mass=column.get("stellar_mass", unknown),
    )


def _columns(stream: IO[bytes] | gzip.GzipFile, places: list[int], kind: Any) -> np.ndarray:
    """Columns of numbers, expected in all lines; shape ``(rows, columns)``."""
    most = host_memory() // (4 * 8 * len(places))

    def lines() -> Iterator[bytes]:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), b"")):
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"a line of {_LONGEST_LINE} bytes or more; expected shorter ones")
            if number > most:
                raise ValueError(
                    f"more than {most} rows, and a quarter of the memory holds no more; give a "
                    "part of it, or use a larger machine"
                )
            yield line

    return np.loadtxt(lines(), usecols=places, ndmin=2, comments="#", dtype=kind)


def observe_box(
    clusters: BoxCatalog,
    galaxies: BoxCatalog,
    box_mpc_h: float,
    *,
    num_lines: int | ArrayLike = 3,
    aperture_mpc_h: float = 1.6,
    velocity_cut_km_s: float = 2200.0,
    redshift: float = 0.117,
    omega_m: float = OMEGA_M,
    min_log10_mass: float = 13.5,
    min_log10_stellar_mass: float = 9.5,
    satellites_only: bool = True,
    pure: bool = False,
) -> ClusterMembers:
    """Every cluster along several lines of sight, with all galaxies in its cylinder.

    The box is continued periodically around each cluster, as far as the fastest galaxies can come
    from. A galaxy is a true member if its parent is the cluster's halo.

    Args:
        clusters: haloes; satellites among them are left out.
        galaxies: of the same box.
        box_mpc_h: its side.
        num_lines: lines of sight (`lines_of_sight`), one number or one for each of `hosts_of`
            (`lines_for_flat_sample`).
        aperture_mpc_h, velocity_cut_km_s: the cylinder.
        redshift: that clusters are put at.
        omega_m: for distances and Hubble velocities.
        min_log10_mass: of host haloes; those without a mass are all taken.
        min_log10_stellar_mass: of galaxies, in the unit of their file; likewise.
        satellites_only: leave out galaxies that are no satellites, as the published mocks do.
        pure: only the halo's own galaxies, and all of them, in the cylinder or not.

    Returns:
        Clusters by halo, then line of sight; some may have few galaxies, or none: leave out those
        of ten or fewer as the published mocks do, ``select(members, members.richness > 10)``.

    Raises:
        ValueError: for a box that is smaller than twice the length of the cylinder, or no host.

    References:
        Ho et al. (2019), ApJ 887, 25, sections 2.2, 2.3 and the appendix.
    """
    from scipy.spatial import cKDTree

    fastest = np.abs(galaxies.velocity).max(initial=0) + np.abs(clusters.velocity).max(initial=0)
    rate = 100 * expansion_rate(redshift, omega_m) / (1 + redshift)
    reach = float(1.1 * (velocity_cut_km_s + np.sqrt(3) * fastest) / rate + aperture_mpc_h)
    if 2 * np.hypot(reach, aperture_mpc_h) > box_mpc_h:
        raise ValueError(
            f"the box is {box_mpc_h:g} Mpc/h, and galaxies up to {reach:.0f} Mpc/h away can be in "
            "a cylinder; expected a box of twice that (or a smaller velocity cut)"
        )
    hosts = hosts_of(clusters, min_log10_mass)
    if not hosts.size:
        raise ValueError(
            f"none of {len(clusters.identity)} haloes is a host of log10 mass {min_log10_mass:g} "
            "or more; expected some: lower min_log10_mass, or give a larger box"
        )
    with np.errstate(divide="ignore", invalid="ignore"):  # log10 of a galaxy without stars
        keep = ~(np.log10(galaxies.stellar_mass) < min_log10_stellar_mass)
    if satellites_only:
        keep &= galaxies.parent >= 0
    galaxies = BoxCatalog(*(column[keep] for column in galaxies))
    lines = np.broadcast_to(np.asarray(num_lines), hosts.shape)
    tree = cKDTree(np.mod(galaxies.position, box_mpc_h), boxsize=box_mpc_h)
    axes = {num: axes_of_sight(num) for num in np.unique(lines).tolist()}
    parts: list[tuple[np.ndarray, ...]] = []
    about: list[tuple[float, int, int, int]] = []
    for host, num in zip(hosts, lines, strict=True):
        centre = np.mod(clusters.position[host], box_mpc_h)
        near = np.array(tree.query_ball_point(centre, np.hypot(reach, aperture_mpc_h)), int)
        apart = galaxies.position[near] - centre
        apart -= box_mpc_h * np.rint(apart / box_mpc_h)
        own = galaxies.parent[near] == clusters.identity[host]
        for line, frame in enumerate(axes[num]):
            place = apart @ frame.T
            inside = own if pure else np.hypot(place[:, 0], place[:, 1]) <= aperture_mpc_h
            place, moving = place[inside], galaxies.velocity[near[inside]] @ frame[2]
            frame_speed = np.full(len(moving), clusters.velocity[host] @ frame[2])
            parts.append((place, moving, frame_speed, own[inside]))
            about.append((clusters.mass[host], clusters.identity[host], line, int(own.sum())))
    place, moving, frame_speed, member = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    velocity = velocities_in_blocks(place[:, 2], moving, frame_speed, redshift, omega_m)
    offsets = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])])
    keep = np.full(len(velocity), True) if pure else np.abs(velocity) <= velocity_cut_km_s
    kept = np.concatenate([[0], np.cumsum(keep)])
    mass, identity, line_number, num_true = zip(*about, strict=True)
    known = np.isfinite(mass).all()
    return cluster_members(
        np.hypot(place[:, 0], place[:, 1])[keep],
        velocity[keep],
        kept[offsets],
        log10_mass=np.log10(mass) if known else None,
        halo=identity,
        line_of_sight=line_number,
        num_true=num_true,
        member=member[keep],
        aperture_mpc_h=None if pure else aperture_mpc_h,
        velocity_cut_km_s=None if pure else velocity_cut_km_s,
        redshift=redshift,
    )


def hosts_of(clusters: BoxCatalog, min_log10_mass: float = 13.5) -> np.ndarray:
    """Which haloes are no satellites, and heavy enough or of unknown mass; positions, ascending."""
    with np.errstate(divide="ignore", invalid="ignore"):
        light = np.log10(clusters.mass) < min_log10_mass
    return np.flatnonzero((clusters.parent < 0) & ~light)
