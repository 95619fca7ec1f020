"""Make the shipped table of P(k, z), `jaxmap/data/planck18_matter_power.npz`.

Run from the repository root: ``python experiments/tables/matter_power.py`` (some seconds). Needed
again when `jaxmap.matter_power.matter_power_table` changes; `tests/test_matter_power.py` then
fails.
"""

from dataclasses import astuple
from pathlib import Path

import jax

from jaxmap.matter_power import PLANCK18, matter_power_table, write_table

if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    path = Path(__file__).parents[2] / "jaxmap" / "data" / "planck18_matter_power.npz"
    write_table(path, jax.jit(matter_power_table)(*astuple(PLANCK18)), PLANCK18)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KB")
