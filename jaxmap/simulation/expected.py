"""The power spectrum that maps of the light cone have."""

from __future__ import annotations

import numpy as np

from jaxmap.cosmology import convergence_power
from jaxmap.grid import ARCMIN
from jaxmap.matter_power import PLANCK18, Cosmology, matter_power
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts
from jaxmap.simulation.baryons import Baryons
from jaxmap.simulation.shells import make_shells
from jaxmap.spectra import PowerSpectrum, power_spectrum


def light_cone_power(
    pixel_arcmin: float,
    redshifts: RedshiftDistribution | None = None,
    cosmology: Cosmology = PLANCK18,
    baryons: Baryons | None = Baryons(),  # noqa: B008 (frozen)
) -> PowerSpectrum:
    r"""Non-linear power, times the baryons' suppression, times the pixel window.

    .. math:: C_\ell\, \langle \mathrm{sinc}^2(\ell_1 \theta/2)\, \mathrm{sinc}^2(\ell_2\theta/2)
        \rangle_\mathrm{directions}

    Args:
        pixel_arcmin: side of a pixel; 0 for no window.
        redshifts: n(z) of the sources; of COSMOS by default.
        cosmology: flat LCDM parameters.
        baryons: suppression of small scales; None for dark matter only.

    Returns:
        The spectrum from ell = 10 to 2e5.

    Raises:
        ValueError: for sources beyond the table of P(k, z), or so near that nothing lenses them.
    """
    redshifts = cosmos_redshifts() if redshifts is None else redshifts
    ell, matter = np.geomspace(10, 2e5, 800), matter_power(cosmology)
    c_ell = np.asarray(convergence_power(redshifts, cosmology, ell).c_ell, float)
    if baryons is not None:
        shells = make_shells(matter, redshifts, 150.0, float(matter.z[-1]))
        without = shells.power(matter, ell).sum(axis=0)
        if not without.all():
            raise ValueError(
                "the sources lie so near that there is nothing to lens; expected n(z) to reach "
                f"beyond a distance of {shells.edges[0]:.0f} Mpc/h"
            )
        c_ell = c_ell * shells.power(matter, ell, baryons).sum(axis=0) / without
    angle = np.linspace(0, np.pi / 2, 33)
    turn = ell[:, None] * (pixel_arcmin * ARCMIN) / (2 * np.pi)
    window = (np.sinc(turn * np.cos(angle)) * np.sinc(turn * np.sin(angle))) ** 2
    return power_spectrum(ell, c_ell * window.mean(axis=1))
