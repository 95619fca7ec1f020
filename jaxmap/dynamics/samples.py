"""Which clusters to train on and which to test on: flat samples and folds of halos."""

from __future__ import annotations

import jax
import numpy as np

from jaxmap.dynamics.members import (
    ClusterMembers,
    halo_groups,
    numpy_generator,
    require_masses,
)


def flat_sample(
    key: jax.Array, members: ClusterMembers, num_per_dex: float, step: float = 0.02
) -> np.ndarray:
    """Numbers of clusters that are spread evenly over log10 mass.

    Bins with more clusters than ``num_per_dex * step`` give a random choice of them, bins with
    fewer give all.

    Args:
        key: of the choice.
        members: clusters with true masses.
        num_per_dex: clusters per dex; the papers' density 10^-5.2 (h/Mpc)^3 per dex is 6310 in a
            box of 1 Gpc/h.
        step: width of the bins in dex.

    Returns:
        Positions in the catalogue, ascending.

    References:
        Ho et al. (2019), ApJ 887, 25, section 2.3.
    """
    masses = require_masses(members)
    per_bin = round(num_per_dex * step)
    if per_bin < 1:
        raise ValueError(
            f"{num_per_dex:g} clusters per dex are {num_per_dex * step:g} per bin of {step:g} dex; "
            "expected at least 1: give a larger num_per_dex or step"
        )
    bins = np.floor((masses - masses.min()) / step).astype(int)
    order = np.lexsort((numpy_generator(key).random(len(members)), bins))
    first = np.searchsorted(bins[order], bins[order])
    return np.sort(order[np.arange(len(order)) - first < per_bin])


def lines_for_flat_sample(
    log10_mass: np.ndarray, num_per_dex: float, window: float = 0.01, fewest: int = 3
) -> np.ndarray:
    r"""How many lines of sight to look at haloes from, so that `flat_sample` finds enough of them.

    .. math:: L_i = \max(\lfloor w\,n / N_i \rfloor + 1,\ L_\mathrm{min}), \qquad
        N_i = N(|\log M - \log M_i| < w / 2)

    Rare haloes are seen often. Directions come from `jaxmap.dynamics.observables.lines_of_sight`.

    Args:
        log10_mass: of all haloes of a box, shape ``(num,)``.
        num_per_dex: n, clusters per dex that are wanted; the papers aim at 10^-5 (h/Mpc)^3 per dex,
            10 000 in a box of 1 Gpc/h.
        window: w, in dex.
        fewest: lines of sight of abundant haloes.

    Returns:
        Whole numbers, shape ``(num,)``.

    References:
        Ho et al. (2019), ApJ 887, 25, section 2.3; their public code.
    """
    masses = np.asarray(log10_mass, float)
    if masses.ndim != 1 or not np.isfinite(masses).all() or not (num_per_dex > 0 and window > 0):
        raise ValueError(
            f"log10_mass has shape {masses.shape}, num_per_dex is {num_per_dex:g} and window "
            f"{window:g}; expected a vector of finite numbers, and numbers above 0"
        )
    ordered = np.sort(masses)
    first = np.searchsorted(ordered, masses - window / 2, "left")
    last = np.searchsorted(ordered, masses + window / 2, "right")
    wanted = np.floor(window * num_per_dex / (last - first)).astype(int) + 1
    return np.maximum(wanted, fewest)


def mass_folds(members: ClusterMembers, num: int = 10) -> np.ndarray:
    """The fold of every cluster: halos by rank in mass, modulo the number of folds.

    All lines of sight to a halo share a fold, and all folds have the same masses.

    Raises:
        ValueError: for fewer halos than folds, or fewer than two folds.
    """
    halos, first, back = np.unique(halo_groups(members), return_index=True, return_inverse=True)
    if not 2 <= num <= len(halos):
        raise ValueError(
            f"{num} folds of {len(halos)} halos were asked for; expected from 2 folds to one a halo"
        )
    rank = np.argsort(np.argsort(require_masses(members)[first], kind="stable"), kind="stable")
    return (rank % num)[back]


def random_folds(key: jax.Array, groups: np.ndarray, num: int) -> np.ndarray:
    """Random folds of about equal size that keep equal ``groups`` together."""
    names, back = np.unique(groups, return_inverse=True)
    if not 2 <= num <= len(names):
        raise ValueError(
            f"{num} folds of {len(names)} halos were asked for; expected from 2 folds to one a halo"
        )
    return (numpy_generator(key).permutation(len(names)) % num)[back]
