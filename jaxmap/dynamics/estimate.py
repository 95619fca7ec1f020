"""The result of every estimator: masses, their errors, and what is wrong with some of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntFlag

import jax
import numpy as np

log = logging.getLogger(__name__)


class Flag(IntFlag):
    """What to know about an estimate; values are or-ed."""

    GOOD = 0
    TOO_FEW = 1
    """Too few galaxies for the method: no estimate, log10_mass is NaN."""
    NO_SPREAD = 2
    """All velocities (or radii) are equal: no estimate, log10_mass is NaN."""
    OUT_OF_RANGE = 4
    """Beyond the masses or galaxies that the method was trained on: an extrapolation."""
    SPARSE = 8
    """Fewer galaxies than in the training: an estimate, with a larger error than it says."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MassEstimate:
    """Masses of clusters.

    Args:
        log10_mass: log10 of M200c / (Msun/h), shape ``(num,)``; NaN only where ``flag`` says why.
        std: of its error in dex, shape ``(num,)``; NaN where the method has no error.
        flag: values of `Flag`, shape ``(num,)``.
    """

    log10_mass: np.ndarray
    std: np.ndarray
    flag: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """True where there is an estimate, shape ``(num,)``."""
        return (self.flag & (Flag.TOO_FEW | Flag.NO_SPREAD)) == 0


def flagged(log10_mass: np.ndarray, std: np.ndarray, flag: np.ndarray, name: str) -> MassEstimate:
    """An estimate with NaN where the flags say that there is none, and a warning that says so."""
    made = MassEstimate(np.array(log10_mass, float), np.array(std, float), flag.astype(int))
    made.log10_mass[~made.usable] = np.nan
    made.std[~made.usable] = np.nan
    words = {
        Flag.TOO_FEW: "have too few galaxies, and no estimate",
        Flag.NO_SPREAD: "have galaxies all at one velocity or radius, and no estimate",
        Flag.OUT_OF_RANGE: "lie beyond what the method was trained on",
        Flag.SPARSE: "have fewer galaxies than any in the training",
    }
    for one, said in words.items():
        count = int(np.sum((made.flag & one) != 0))
        if count:
            log.warning("%s: %d of %d clusters %s", name, count, len(flag), said)
    return made
