r"""Support distribution machines: masses from divergences between samples of galaxies.

The kernel between clusters is :math:`K = \exp(-D^2 / 2 s^2)`, made symmetric, with the divergence D
of `jaxmap.dynamics.divergence`. It is not positive; its negative eigenvalues are left out. The
regression here is inductive and fast: kernel ridge regression on landmark clusters (Nyström), whose
cost grows with the number of clusters, not with its square. The original, a nu-SVR on all pairs of
training and test clusters, is in `jaxmap.dynamics.sdm_reference`.

References:
    Sutherland et al. (2012), arXiv:1202.0302; Ntampaka et al. (2016), ApJ 831, 135;
    Ho et al. (2019), ApJ 887, 25, section 4.2; Williams & Seeger (2001), NIPS 13 (Nyström).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.dynamics.divergence import Bags, divergences
from jaxmap.dynamics.domain import Domain, domain_of, without_spread
from jaxmap.dynamics.error_model import ErrorModel, fit_errors
from jaxmap.dynamics.estimate import Flag, MassEstimate, flagged
from jaxmap.dynamics.members import (
    ClusterMembers,
    halo_groups,
    numpy_generator,
    require_masses,
    select,
)
from jaxmap.dynamics.samples import random_folds

WIDTHS = tuple(2.0**power for power in range(-4, 6))
"""Kernel widths s that are tried, in units of the median divergence."""
RIDGES = tuple(10.0**power for power in np.arange(-4, 2.1, 0.5))
"""Ridge parameters that are tried, in units of the number of clusters."""


LEAST_LIKENESS = 0.05
"""Kernel value below which a cluster is like no landmark: its mass is little but the offset."""


class FeatureScale(NamedTuple):
    """Mean and standard deviation of the features over the training galaxies, shape ``(d,)``."""

    mean: np.ndarray
    std: np.ndarray


class Divergences(NamedTuple):
    """Divergences between clusters and landmarks, both of shape ``(num, landmarks)``.

    Attributes:
        to: D(cluster || landmark).
        back: D(landmark || cluster).
    """

    to: np.ndarray
    back: np.ndarray


class Regression(NamedTuple):
    """A fitted kernel regression: ``mass = offset + kernel @ weight``.

    Attributes:
        width: s of the kernel, in nats.
        weight: of the landmarks, shape ``(landmarks,)``.
        offset: log10 mass.
    """

    width: float
    weight: np.ndarray
    offset: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SDM:
    """A trained support distribution machine; made by `fit_sdm` or read from a file.

    Args:
        landmarks: the features of the landmark clusters, scaled.
        scale: of the features.
        regression: fitted.
        errors: measured on held-out clusters.
        domain: what it was trained on.
        k: neighbour of the divergences.
        with_radius: SDM2D, on velocities and radii; otherwise SDM1D, on velocities.
    """

    landmarks: Bags
    scale: FeatureScale
    regression: Regression
    errors: ErrorModel
    domain: Domain = field(metadata={"static": True})
    k: int = field(metadata={"static": True})
    with_radius: bool = field(metadata={"static": True})

    def __call__(self, key: jax.Array, members: ClusterMembers) -> MassEstimate:
        """Masses of clusters; flagged where divergences cannot be had, or no landmark is alike."""
        del key
        name = "SDM2D" if self.with_radius else "SDM1D"
        self.domain.check(members, name)
        few, flat = members.richness <= self.k, without_spread(members, self.with_radius)
        good = np.flatnonzero(~few & ~flat)
        mass, strange = np.full(len(members), np.nan), np.zeros(len(members), bool)
        if good.size:
            bags = features(select(members, good), self.scale, self.with_radius)
            between = landmark_divergences(bags, self.landmarks, self.k)
            kernel = symmetric_kernel(between.to, between.back, self.regression.width)
            mass[good] = predict(self.regression, between)
            strange[good] = np.asarray(kernel).max(axis=1) < LEAST_LIKENESS
        known = np.nan_to_num(mass, nan=self.domain.low)
        flag = np.where(few, Flag.TOO_FEW, np.where(flat, Flag.NO_SPREAD, Flag.GOOD))
        flag = flag | self.domain.flags(known, members) | np.where(strange, Flag.OUT_OF_RANGE, 0)
        return flagged(mass, self.errors(known), flag, name)


def features(members: ClusterMembers, scale: FeatureScale, with_radius: bool) -> Bags:
    """Scaled |v| of every galaxy, and R with ``with_radius``."""
    return Bags(((_raw(members, with_radius) - scale.mean) / scale.std), members.offsets)


def feature_scale(members: ClusterMembers, with_radius: bool) -> FeatureScale:
    """The scale that gives the galaxies of these clusters zero mean and unit variance."""
    raw = _raw(members, with_radius)
    return FeatureScale(raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-12))


def landmark_divergences(bags: Bags, landmarks: Bags, k: int = 3) -> Divergences:
    """Divergences both ways, of clusters and landmarks."""
    return Divergences(divergences(bags, landmarks, k), divergences(landmarks, bags, k).T)


@jax.jit
def symmetric_kernel(to: jax.Array, back: jax.Array, width: float | jax.Array) -> jax.Array:
    r"""Kernel :math:`\frac12 [e^{-D(p\|q)^2/2s^2} + e^{-D(q\|p)^2/2s^2}]`; for vmap and grad.

    Args:
        to, back: divergences both ways, of one shape.
        width: s, in nats.
    """
    scale = -0.5 / width**2
    return 0.5 * (jnp.exp(scale * to**2) + jnp.exp(scale * back**2))


def predict(regression: Regression, between: Divergences) -> np.ndarray:
    """log10 masses of clusters from their divergences, shape ``(num,)``."""
    kernel = np.asarray(symmetric_kernel(between.to, between.back, regression.width), float)
    return regression.offset + kernel @ regression.weight


def fit_regression(
    between: Divergences, landmark_rows: np.ndarray, masses: np.ndarray, groups: np.ndarray,
    key: jax.Array, num_folds: int = 3,
) -> tuple[Regression, np.ndarray]:  # fmt: skip
    """Fit the kernel's width, the ridge and the weights.

    Width and ridge are those of the smallest rms error in cross-validation over groups.

    Args:
        between: divergences of the training clusters and the landmarks.
        landmark_rows: which of the training clusters the landmarks are, shape ``(landmarks,)``.
        masses: true log10 masses, shape ``(num,)``.
        groups: halo of every cluster; those of one halo are held out together.
        key: of the folds.
        num_folds: of the cross-validation.

    Returns:
        The regression, and the held-out estimates of the training clusters at its width and ridge.
    """
    to, back = (x.copy() for x in between)
    to[landmark_rows, np.arange(len(landmark_rows))] = 0  # of a cluster from itself
    back[landmark_rows, np.arange(len(landmark_rows))] = 0
    median = float(np.median(to[to > 0]))
    fold = random_folds(key, groups, num_folds)
    best = (np.inf, 0.0, 0.0, np.zeros(0))
    for width in median * np.array(WIDTHS):
        basis, _ = _positive_basis(to, back, landmark_rows, width)
        held_out = np.empty((len(RIDGES), len(masses)))
        for one in range(num_folds):
            train = fold != one
            held_out[:, ~train] = _ridges(basis[train], masses[train], basis[~train])
        rms = np.sqrt(np.mean((held_out - masses[None, :]) ** 2, axis=1))
        i = int(np.argmin(rms))
        if rms[i] < best[0]:
            best = (float(rms[i]), float(width), RIDGES[i], held_out[i])
    _, width, ridge, held_out_best = best
    basis, back_transform = _positive_basis(to, back, landmark_rows, width)
    mean, centred = masses.mean(), basis - basis.mean(axis=0)
    system = centred.T @ centred + ridge * len(masses) * np.eye(basis.shape[1])
    solution = np.linalg.solve(system, centred.T @ (masses - mean))
    offset = float(mean - basis.mean(axis=0) @ solution)
    return Regression(width, back_transform @ solution, offset), held_out_best


def fit_sdm(
    key: jax.Array,
    members: ClusterMembers,
    *,
    with_radius: bool = True,
    num_landmarks: int = 300,
    k: int = 3,
    num_folds: int = 3,
) -> SDM:
    """Train a support distribution machine.

    Args:
        key: of the landmarks and folds.
        members: clusters of known mass, spread evenly over log10 mass if the result shall have no
            preference; those that cannot be used are left out.
        with_radius: SDM2D; False for SDM1D.
        num_landmarks: clusters that all others are compared with, spread over log10 mass; all
            clusters if there are fewer.
        k: neighbour of the divergences.
        num_folds: of the cross-validation that chooses width and ridge.

    Raises:
        ValueError: for fewer than 50 usable clusters.
    """
    members = select(members, (members.richness > k) & ~without_spread(members, with_radius))
    masses = require_masses(members)
    if len(members) < 50:
        raise ValueError(
            f"{len(members)} clusters have more than {k} galaxies; expected 50 or more to train on"
        )
    key_landmarks, key_folds = jax.random.split(key)
    rows = spread_over_mass(key_landmarks, masses, num_landmarks)
    scale = feature_scale(members, with_radius)
    bags = features(members, scale, with_radius)
    landmarks = bags_of(bags, rows)
    between = landmark_divergences(bags, landmarks, k)
    regression, held_out = fit_regression(
        between, rows, masses, halo_groups(members), key_folds, num_folds
    )
    return SDM(
        landmarks=landmarks,
        scale=scale,
        regression=regression,
        errors=fit_errors(held_out, masses),
        domain=domain_of(members),
        k=k,
        with_radius=with_radius,
    )


def spread_over_mass(key: jax.Array, masses: np.ndarray, num: int) -> np.ndarray:
    """Clusters at even ranks of mass, each at random within its stretch of ranks; ascending."""
    num = min(num, len(masses))
    edges = np.linspace(0, len(masses), num + 1)
    place = edges[:-1] + numpy_generator(key).random(num) * np.diff(edges)
    return np.sort(np.argsort(masses, kind="stable")[place.astype(int)])


def bags_of(bags: Bags, which: np.ndarray) -> Bags:
    """Some of the samples, in the order given."""
    parts = [bags.points[bags.offsets[i] : bags.offsets[i + 1]] for i in which]
    sizes = [len(part) for part in parts]
    empty = bags.points[:0]
    return Bags(np.concatenate([*parts, empty]), np.concatenate([[0], np.cumsum(sizes, dtype=int)]))


def _raw(members: ClusterMembers, with_radius: bool) -> np.ndarray:
    speed = np.abs(members.velocity_km_s)
    columns = [speed, members.radius_mpc_h] if with_radius else [speed]
    return np.stack(columns, axis=1)


def _positive_basis(
    to: np.ndarray, back: np.ndarray, landmark_rows: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Nyström coordinates :math:`K_{nm} U \Lambda^{-1/2}`, without negative eigenvalues."""
    kernel = np.asarray(symmetric_kernel(to, back, width), float)
    among = kernel[landmark_rows]
    values, vectors = np.linalg.eigh(0.5 * (among + among.T))
    keep = values > 1e-8 * values[-1]
    transform = vectors[:, keep] / np.sqrt(values[keep])[None, :]
    return kernel @ transform, transform


def _ridges(basis: np.ndarray, masses: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Estimates for ``other`` with every ridge, from one eigendecomposition."""
    mean, centre = masses.mean(), basis.mean(axis=0)
    centred = basis - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)
    right = vectors.T @ (centred.T @ (masses - mean))
    shrunk = right[None, :] / (values[None, :] + len(masses) * np.array(RIDGES)[:, None])
    return mean + shrunk @ ((other - centre) @ vectors).T
