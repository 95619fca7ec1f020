"""Clusters and their galaxies in projection: flat arrays, one cluster after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxmap.dynamics.member_checks import check_galaxies, column_of, positive, vector_of

PER_CLUSTER = ("log10_mass", "halo", "line_of_sight", "num_true", "name")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClusterMembers:
    """Galaxies of many clusters; host arrays, made by `cluster_members`, a reader or a mock.

    Cluster i has the galaxies ``offsets[i]`` to ``offsets[i + 1]``.

    Args:
        radius_mpc_h: projected distance from the cluster's centre, comoving Mpc/h, shape ``(n,)``.
        velocity_km_s: along the line of sight, relative to the cluster, shape ``(n,)``.
        offsets: whole numbers from 0 to n, shape ``(num + 1,)``.
        log10_mass: true log10 of M200c / (Msun/h), shape ``(num,)``, or None.
        halo: number of the halo, the same for several lines of sight to it, or None.
        line_of_sight: number of the line of sight, or None.
        num_true: number of galaxies that the halo really has, or None.
        name: what the catalogue calls each cluster, whole numbers or text, or None.
        member: whether a galaxy really belongs to the halo, shape ``(n,)``, or None.
        aperture_mpc_h: radius of the cylinder that galaxies were taken from, or None.
        velocity_cut_km_s: its half length, or None.
        redshift: of all clusters.
    """

    radius_mpc_h: np.ndarray
    velocity_km_s: np.ndarray
    offsets: np.ndarray
    log10_mass: np.ndarray | None = None
    halo: np.ndarray | None = None
    line_of_sight: np.ndarray | None = None
    num_true: np.ndarray | None = None
    name: np.ndarray | None = None
    member: np.ndarray | None = None
    aperture_mpc_h: float | None = field(default=None, metadata={"static": True})
    velocity_cut_km_s: float | None = field(default=None, metadata={"static": True})
    redshift: float = field(default=0.117, metadata={"static": True})

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def richness(self) -> np.ndarray:
        """Number of galaxies of every cluster, shape ``(num,)``."""
        return np.diff(self.offsets)

    @property
    def cluster(self) -> np.ndarray:
        """The cluster of every galaxy, by its position in this catalogue, shape ``(n,)``."""
        return np.repeat(np.arange(len(self)), self.richness)


class Padded(NamedTuple):
    """Clusters as rectangular arrays of shape ``(num, size)``; False in ``mask`` is no galaxy."""

    radius_mpc_h: np.ndarray
    velocity_km_s: np.ndarray
    mask: np.ndarray


def cluster_members(
    radius_mpc_h: ArrayLike,
    velocity_km_s: ArrayLike,
    offsets: ArrayLike,
    *,
    log10_mass: ArrayLike | None = None,
    halo: ArrayLike | None = None,
    line_of_sight: ArrayLike | None = None,
    num_true: ArrayLike | None = None,
    name: ArrayLike | None = None,
    member: ArrayLike | None = None,
    aperture_mpc_h: float | None = None,
    velocity_cut_km_s: float | None = None,
    redshift: float = 0.117,
) -> ClusterMembers:
    """Check galaxies of clusters and make them `ClusterMembers`.

    Clusters may have any number of galaxies, even none: estimators flag those they cannot use.

    Arguments have the names and meaning of the fields of `ClusterMembers`.

    Raises:
        ValueError: for unequal lengths, values that are not finite or beyond all units, negative
            radii, offsets that do not partition the galaxies, or galaxies outside the cylinder that
            is named.
    """
    radius, velocity = vector_of(radius_mpc_h), vector_of(velocity_km_s)
    bounds = np.asarray(offsets)
    if radius.ndim != 1 or radius.shape != velocity.shape:
        raise ValueError(
            f"radii have shape {radius.shape} and velocities {velocity.shape}; expected two "
            "vectors of one length"
        )
    whole = bounds.ndim == 1 and bounds.size > 0 and bounds.dtype.kind in "iu"
    if not whole or bounds[0] != 0 or bounds[-1] != radius.size or (np.diff(bounds) < 0).any():
        raise ValueError(
            f"offsets are {bounds if bounds.size < 6 else f'{bounds[:3]}...{bounds[-1]}'}; expected"
            f" whole numbers that rise from 0 to the number of galaxies, {radius.size}"
        )
    made = ClusterMembers(
        radius_mpc_h=radius,
        velocity_km_s=velocity,
        offsets=bounds.astype(np.int64),
        log10_mass=column_of("log10_mass", log10_mass, len(bounds) - 1, float),
        halo=column_of("halo", halo, len(bounds) - 1, np.int64),
        line_of_sight=column_of("line_of_sight", line_of_sight, len(bounds) - 1, np.int64),
        num_true=column_of("num_true", num_true, len(bounds) - 1, np.int64),
        name=None if name is None else column_of("name", name, len(bounds) - 1, _kind(name)),
        member=column_of("member", member, radius.size, bool),
        aperture_mpc_h=positive("aperture_mpc_h", aperture_mpc_h),
        velocity_cut_km_s=positive("velocity_cut_km_s", velocity_cut_km_s),
        redshift=float(redshift),
    )
    if not (np.isfinite(made.redshift) and made.redshift >= 0):
        raise ValueError(f"the redshift is {redshift}; expected a finite number, 0 or more")
    check_galaxies(
        {"radius_mpc_h": radius, "velocity_km_s": velocity},
        {"radius_mpc_h": made.aperture_mpc_h, "velocity_km_s": made.velocity_cut_km_s},
        made.cluster,
    )
    return made


def clusters_from_lists(
    radius_mpc_h: Sequence[ArrayLike], velocity_km_s: Sequence[ArrayLike], **others: object
) -> ClusterMembers:
    """`cluster_members` from one vector of radii and one of velocities for each cluster."""
    sizes = [np.size(values) for values in radius_mpc_h]
    if sizes != [np.size(values) for values in velocity_km_s]:
        raise ValueError(
            "radii and velocities differ in number; expected one of each for every galaxy"
        )
    empty = [np.zeros(0)]
    return cluster_members(
        np.concatenate([*map(np.atleast_1d, radius_mpc_h), *empty]),
        np.concatenate([*map(np.atleast_1d, velocity_km_s), *empty]),
        np.concatenate([[0], np.cumsum(sizes, dtype=int)]),
        **others,  # type: ignore[arg-type]
    )


def select(members: ClusterMembers, which: ArrayLike) -> ClusterMembers:
    """Some clusters, by number or as a boolean mask, in the order given."""
    chosen = np.arange(len(members))[np.asarray(which)]
    sizes = members.richness[chosen]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.repeat(members.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
    columns: dict[str, Any] = {name: getattr(members, name) for name in PER_CLUSTER}
    return replace(
        members,
        radius_mpc_h=members.radius_mpc_h[rows],
        velocity_km_s=members.velocity_km_s[rows],
        member=None if members.member is None else members.member[rows],
        offsets=offsets,
        **{name: None if v is None else v[chosen] for name, v in columns.items()},  # type: ignore[arg-type]
    )


def keep_galaxies(members: ClusterMembers, keep: np.ndarray) -> ClusterMembers:
    """The same clusters with some of their galaxies, ``keep`` of shape ``(n,)``, True to stay."""
    counts = np.concatenate([[0], np.cumsum(keep)])
    return replace(
        members,
        radius_mpc_h=members.radius_mpc_h[keep],
        velocity_km_s=members.velocity_km_s[keep],
        member=None if members.member is None else members.member[keep],
        offsets=counts[members.offsets],
    )


def cut_cylinder(
    members: ClusterMembers, aperture_mpc_h: float, velocity_cut_km_s: float
) -> ClusterMembers:
    """Galaxies with R <= aperture and |v| <= velocity cut; all clusters stay, if with none.

    Raises:
        ValueError: for a cylinder wider or longer than the one that galaxies were taken from.
    """
    for name, value in (
        ("aperture_mpc_h", aperture_mpc_h),
        ("velocity_cut_km_s", velocity_cut_km_s),
    ):
        positive(name, value)
        taken = getattr(members, name)
        if taken is not None and value > taken * (1 + 1e-6):
            raise ValueError(
                f"these galaxies were taken from a cylinder with {name} {taken:g}, and one of "
                f"{value:g} was asked for; galaxies are missing in between: give a catalogue of at "
                "least that cylinder, or train for the smaller one"
            )
    near = members.radius_mpc_h <= aperture_mpc_h
    keep = near & (np.abs(members.velocity_km_s) <= velocity_cut_km_s)
    return replace(
        keep_galaxies(members, keep),
        aperture_mpc_h=float(aperture_mpc_h),
        velocity_cut_km_s=float(velocity_cut_km_s),
    )


def subsample(key: jax.Array, members: ClusterMembers, rate: float) -> ClusterMembers:
    """A share of every cluster's galaxies, drawn without replacement.

    Cluster i keeps ``round(rate * n_i)`` of its galaxies.

    Raises:
        ValueError: unless 0 <= rate <= 1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"the sampling rate is {rate}; expected a number from 0 to 1")
    chance = numpy_generator(key).random(members.radius_mpc_h.size)
    order = np.lexsort((chance, members.cluster))
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size) - np.repeat(members.offsets[:-1], members.richness)
    wanted = np.rint(rate * members.richness).astype(int)
    return keep_galaxies(members, rank < np.repeat(wanted, members.richness))


def concatenate(parts: Sequence[ClusterMembers]) -> ClusterMembers:
    """Catalogues of the same cylinder and redshift, one after the other; None where one has none.

    Raises:
        ValueError: for no catalogue, or for different cylinders or redshifts.
    """
    if not parts:
        raise ValueError("there is nothing to put together; expected at least one catalogue")
    kinds = {(part.aperture_mpc_h, part.velocity_cut_km_s, part.redshift) for part in parts}
    if len(kinds) > 1:
        raise ValueError(
            f"catalogues differ in aperture, velocity cut or redshift: {sorted(kinds, key=str)}; "
            "cut them alike first (cut_cylinder)"
        )
    sizes = np.concatenate([part.richness for part in parts])

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if any(v is None for v in values) else np.concatenate(values)

    return replace(
        parts[0],
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        **{n: joined(n) for n in ("radius_mpc_h", "velocity_km_s", "member", *PER_CLUSTER)},
    )


def padded(members: ClusterMembers, which: np.ndarray, size: int, num: int) -> Padded:
    """Clusters ``which`` as arrays of shape ``(num, size)``, filled up with no galaxies."""
    columns = np.arange(size)[None, :]
    start = np.zeros(num, int)
    count = np.zeros(num, int)
    start[: len(which)], count[: len(which)] = members.offsets[which], members.richness[which]
    mask = columns < count[:, None]
    rows = np.where(mask, start[:, None] + columns, 0)
    if not members.radius_mpc_h.size:
        empty = np.zeros((num, size))
        return Padded(empty, empty, mask)
    return Padded(
        np.where(mask, members.radius_mpc_h[rows], 0.0),
        np.where(mask, members.velocity_km_s[rows], 0.0),
        mask,
    )


def require_masses(members: ClusterMembers) -> np.ndarray:
    """The true masses, or an error that says how to give them."""
    if members.log10_mass is None:
        raise ValueError(
            "these clusters come without true masses; expected log10_mass of every cluster "
            "(log10 of M200c in Msun/h)"
        )
    return members.log10_mass


def halo_groups(members: ClusterMembers) -> np.ndarray:
    """The halo of every cluster, or clusters as their own halos, shape ``(num,)``."""
    return np.arange(len(members)) if members.halo is None else members.halo


def numpy_generator(key: jax.Array) -> np.random.Generator:
    """A generator of numpy for host arrays, seeded with a jax key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def _kind(names: ArrayLike) -> type:
    return np.int64 if np.asarray(names).dtype.kind in "iu" else str
