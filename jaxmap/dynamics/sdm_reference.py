"""The published form of support distribution machines, nu-SVR on all pairs; a slow reference.

It needs scikit-learn (``pip install jaxmap[dynamics]``). Like the published one it is transductive:
the kernel of training and test clusters together is made positive before the regression is
trained, so new test clusters need a new training. Time and memory grow with the square and the cube
of the number of clusters: some thousand are feasible.
"""

from __future__ import annotations

import itertools

import jax
import numpy as np

from jaxmap.dynamics.divergence import divergences
from jaxmap.dynamics.members import ClusterMembers, concatenate, halo_groups, require_masses
from jaxmap.dynamics.samples import random_folds
from jaxmap.dynamics.sdm import feature_scale, features, symmetric_kernel

WIDTHS = tuple(2.0**power for power in range(-2, 5, 2))
PENALTIES = tuple(2.0**power for power in range(-9, 10, 3))
SHARES = (0.3, 0.5, 0.7)


def transductive_masses(
    key: jax.Array,
    train: ClusterMembers,
    test: ClusterMembers,
    *,
    with_radius: bool = True,
    k: int = 3,
    widths: tuple[float, ...] = WIDTHS,
    penalties: tuple[float, ...] = PENALTIES,
    shares: tuple[float, ...] = SHARES,
    num_folds: int = 3,
) -> np.ndarray:
    """log10 masses of test clusters by nu-SVR with the precomputed, projected kernel.

    Args:
        key: of the folds that choose the parameters.
        train: clusters of known mass.
        test: clusters to be estimated; at least ``k + 1`` galaxies each.
        with_radius: SDM2D; False for SDM1D.
        k: neighbour of the divergences.
        widths, penalties, shares: s in median divergences, C and nu of the regression, to choose
            from by cross-validation over halos.
        num_folds: of it.

    Returns:
        Shape ``(len(test),)``.

    References:
        Schölkopf et al. (2000), Neural Comput. 12, 1207 (nu-SVR); Ntampaka et al. (2016).
    """
    from sklearn.svm import NuSVR

    masses = require_masses(train)
    scale = feature_scale(train, with_radius)
    bags = features(concatenate([_bare(train), _bare(test)]), scale, with_radius)
    apart = divergences(bags, bags, k)
    np.fill_diagonal(apart, 0)
    num = len(train)
    fold = random_folds(key, halo_groups(train), num_folds)
    median = np.median(apart[apart > 0])
    best, found = np.inf, np.empty(len(test))
    for width in widths:
        kernel = positive_part(np.asarray(symmetric_kernel(apart, apart.T, width * median), float))
        inside = kernel[:num, :num]
        for penalty, share in itertools.product(penalties, shares):
            machine = NuSVR(kernel="precomputed", C=penalty, nu=share, max_iter=100_000)
            held_out = np.empty(num)
            for one in range(num_folds):
                a, b = fold != one, fold == one
                machine.fit(inside[np.ix_(a, a)], masses[a])
                held_out[b] = machine.predict(inside[np.ix_(b, a)])
            rms = float(np.sqrt(np.mean((held_out - masses) ** 2)))
            if rms < best:
                best = rms
                found = machine.fit(inside, masses).predict(kernel[num:, :num])
    return found


def positive_part(kernel: np.ndarray) -> np.ndarray:
    """A symmetric matrix without its negative eigenvalues."""
    values, vectors = np.linalg.eigh(0.5 * (kernel + kernel.T))
    keep = values > 0
    return (vectors[:, keep] * values[keep][None, :]) @ vectors[:, keep].T


def _bare(members: ClusterMembers) -> ClusterMembers:
    """Without what only one of two catalogues may have."""
    return ClusterMembers(members.radius_mpc_h, members.velocity_km_s, members.offsets)
