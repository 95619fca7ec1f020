"""The published form of support distribution machines, nu-SVR on all pairs; a slow reference.

It needs scikit-learn (``pip install jaxmap[dynamics]``). Like the published one it is transductive:
the kernel of training and test clusters together is made positive before the regression is
trained, so new test clusters need a new training. Time and memory grow with the square and the cube
of the number of clusters: some thousand are feasible.
"""

from __future__ import annotations

import itertools
import warnings

import jax
import numpy as np

from jaxmap.dynamics.divergence import divergences
from jaxmap.dynamics.members import ClusterMembers, concatenate, halo_groups, require_masses
from jaxmap.dynamics.samples import random_folds
from jaxmap.dynamics.sdm import feature_scale, features, symmetric_kernel

WIDTHS = tuple(2.0**power for power in range(-2, 5, 2))
PENALTIES = tuple(2.0**power for power in range(-9, 4, 3))
SHARES = (0.3, 0.5, 0.7)
MOST_STEPS = 20_000
"""Of the solver, in trials."""


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
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import NuSVR

    masses = require_masses(train)
    scale = feature_scale(train, with_radius)
    bags = features(concatenate([_bare(train), _bare(test)]), scale, with_radius)
    apart = divergences(bags, bags, k)
    np.fill_diagonal(apart, 0)
    num = len(train)
    fold = random_folds(key, halo_groups(train), num_folds)
    median = np.median(apart[apart > 0])
    best = np.inf
    for width in widths:
        kernel = positive_part(np.asarray(symmetric_kernel(apart, apart.T, width * median), float))
        inside = kernel[:num, :num]
        for penalty, share in itertools.product(penalties, shares):
            machine = NuSVR(kernel="precomputed", C=penalty, nu=share, max_iter=MOST_STEPS)
            held_out = np.empty(num)
            with warnings.catch_warnings():
                # As in the published code, trials that stop early are judged as they are.
                warnings.simplefilter("ignore", ConvergenceWarning)
                for one in range(num_folds):
                    a, b = fold != one, fold == one
                    machine.fit(inside[np.ix_(a, a)], masses[a])
                    held_out[b] = machine.predict(inside[np.ix_(b, a)])
            rms = float(np.sqrt(np.mean((held_out - masses) ** 2)))
            if rms < best:
                best, chosen = rms, (kernel, machine)
    kernel, machine = chosen
    machine.set_params(max_iter=100 * MOST_STEPS)  # not reaching its tolerance then is told
    masses_found: np.ndarray = machine.fit(kernel[:num, :num], masses).predict(kernel[num:, :num])
    return masses_found


def positive_part(kernel: np.ndarray) -> np.ndarray:
    """A symmetric matrix without its negative eigenvalues."""
    values, vectors = np.linalg.eigh(0.5 * (kernel + kernel.T))
    keep = values > 0
    return (vectors[:, keep] * values[keep][None, :]) @ vectors[:, keep].T


def _bare(members: ClusterMembers) -> ClusterMembers:
    """Without what only one of two catalogues may have."""
    return ClusterMembers(members.radius_mpc_h, members.velocity_km_s, members.offsets)
