"""Make the shipped table of cluster mocks, `jaxmap/data/cluster_mocks.npz`.

Run from the repository root: ``python experiments/tables/cluster_mocks.py`` (a second; needs
colossus). Needed again when another redshift or cosmology is wanted.
"""

from pathlib import Path

import numpy as np
from colossus.cosmology import cosmology
from colossus.halo import concentration
from colossus.lss import bias, mass_function

REDSHIFT = 0.117

if __name__ == "__main__":
    universe = cosmology.setCosmology("multidark-planck")
    log10_mass = np.arange(11.5, 15.81, 0.05)
    mass = 10**log10_mass
    per_lnm = mass_function.massFunction(
        mass, REDSHIFT, mdef="200c", model="tinker08", q_out="dndlnM"
    )
    radius = np.geomspace(0.1, 150, 80)
    path = Path(__file__).parents[2] / "jaxmap" / "data" / "cluster_mocks.npz"
    np.savez(
        path,
        redshift=REDSHIFT,
        omega_m=universe.Om0,
        log10_mass=log10_mass,
        per_dex=per_lnm * np.log(10),
        bias=bias.haloBias(mass, REDSHIFT, mdef="200c", model="tinker10"),
        concentration=concentration.concentration(mass, "200c", REDSHIFT, model="duffy08"),
        radius_mpc_h=radius,
        correlation=universe.correlationFunction(radius, REDSHIFT),
    )
    print(f"{path}: {path.stat().st_size / 1024:.0f} KB")
