"""Suppression of small-scale matter power by gas and stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Baryons:
    r"""What feedback and star formation do to the matter power spectrum.

    .. math::
        S(k, z) = \left[\frac{B}{1 + (k/k_g)^3} + 1 - B\right] \left[1 + (k/k_s)^2\right], \quad
        B = \frac{0.105 \log_{10} M_c - 1.27}{1 + (z/2.3)^{2.5}}, \quad
        k_g = 0.7\,(1 - B)^4\, \eta_b^{-1.6}

    with wave numbers in h/Mpc. Beyond :math:`k_s`, where the formula was not fitted, the stellar
    term stays at 2.

    Args:
        log10_mass_c: :math:`\log_{10} M_c / (M_\odot/h)`; haloes below it have lost their gas. The
            default is the authors' best guess from X-ray gas fractions.
        ejection: :math:`\eta_b`, reach of the ejected gas.
        stellar_wave_number: :math:`k_s` in h/Mpc, where central galaxies add power.

    Raises:
        ValueError: for values outside 12.1 < log10_mass_c < 17, or the others not above 0.

    References:
        Schneider & Teyssier (2015), JCAP 12, 049, Sect. 4.
    """

    log10_mass_c: float = 14.08
    ejection: float = 0.5
    stellar_wave_number: float = 55.0

    def __post_init__(self) -> None:
        if not 12.1 < self.log10_mass_c < 17:
            raise ValueError(
                f"log10_mass_c is {self.log10_mass_c}; expected a decimal logarithm of Msun/h "
                "between 12.1 and 17 (no baryons? give None in place of Baryons)"
            )
        for name in ("ejection", "stellar_wave_number"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")

    def suppression(self, k: ArrayLike, z: ArrayLike) -> np.ndarray:
        """S(k, z), the ratio of matter power with and without baryons.

        Args:
            k: wave numbers in h/Mpc, broadcast against ``z``.
            z: redshifts.
        """
        k, z = np.asarray(k, float), np.asarray(z, float)
        lost = (0.105 * self.log10_mass_c - 1.27) / (1 + (z / 2.3) ** 2.5)
        gas = lost / (1 + (k / (0.7 * (1 - lost) ** 4 * self.ejection**-1.6)) ** 3) + 1 - lost
        return gas * (1 + np.minimum(k / self.stellar_wave_number, 1) ** 2)


TNG_BARYONS = Baryons(log10_mass_c=13.5, ejection=0.3)
"""About the suppression in IllustrisTNG: 1 % at k = 1 h/Mpc, 13 % at 5 and above.

Set by eye to what Springel et al. (2018), MNRAS 475, 676, report of matter power, and compared with
the band powers of two kTNG maps before it was fixed: a choice made with an eye on kTNG, not an
independent prediction. The default `Baryons()` is.
"""

BARYONS: dict[str, Baryons | None] = {"default": Baryons(), "tng": TNG_BARYONS, "none": None}
"""Suppressions by the names that settings have."""
