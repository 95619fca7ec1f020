"""Make the shipped table of haloes, `jaxmap/data/planck18_halos.npz`.

Run from the repository root: ``python experiments/tables/halo_model.py`` (some seconds; needs
colossus). Needed again when `jaxmap.simulation.halo_tables.compute_halo_table` changes;
`tests/test_halo_tables.py` then fails.
"""

from pathlib import Path

import jax

from jaxmap.matter_power import PLANCK18
from jaxmap.simulation.halo_tables import compute_halo_table, write_halo_table

if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    path = Path(__file__).parents[2] / "jaxmap" / "data" / "planck18_halos.npz"
    write_halo_table(path, compute_halo_table(PLANCK18), PLANCK18)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KB")
