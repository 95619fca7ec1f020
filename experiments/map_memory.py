"""Memory of a map of a cluster field by the network of Hong et al.: foreseen, and what it takes.

`jaxmap.estimators.memory` counts planes of the field and what a part takes in the network. Both
from the growth of resident memory, a process for each size, with the B mode: planes from two fields
and a tiny network (the larger less the smaller, over the pixels between), the parts from the
shipped network on a field of four, which it takes at once, less the planes of that field. CPU only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, save
from training_memory import MIB, forget_peak, resident

from jaxmap.catalog import shear_map
from jaxmap.cluster_network import PIXEL_ARCMIN, ClusterNetwork, read_cluster_network
from jaxmap.estimators import HongCNN
from jaxmap.estimators.memory import PARTS, PLANES
from jaxmap.grid import Grid
from jaxmap.networks.hong import HongNetwork, initialise_hong

SIDES = (900, 2400)
FOUR_PARTS = 620


def tiny() -> ClusterNetwork:
    network = HongNetwork(width=3)
    params = initialise_hong(network, jax.random.key(0))
    return ClusterNetwork(params, jnp.asarray(0.1), network, side=101)


def measured(side: int, seed: int) -> dict[str, float]:
    """MiB that a map takes beside its data, which are counted; for a fresh process."""
    rng = np.random.default_rng(seed)
    model = tiny() if side != FOUR_PARTS else read_cluster_network()[0]
    before = resident("VmRSS")
    forget_peak()
    shape = (side, side)
    shear = np.empty(shape, complex)
    shear.real, shear.imag = rng.normal(size=(2, *shape))
    data = shear_map(shear, Grid(shape, PIXEL_ARCMIN), weight=np.ones((2, *shape)))
    del shear
    jax.block_until_ready(HongCNN((model,), step=50)(jax.random.key(0), data).convergence)
    return {"side": side, "measured_mib": round(resident("VmHWM") - before)}


def main() -> None:
    options = arguments(__doc__, alone={"type": int, "help": "one side, in this process"})
    if options.alone:
        print(json.dumps(measured(options.alone, options.seed)))
        return
    rows: list[dict[str, Any]] = []
    for side in (FOUR_PARTS, *(n // (3 if options.quick else 1) for n in SIDES)):
        command = [sys.executable, __file__, "--alone", str(side), "--seed", str(options.seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"side {side}: {done.stderr[-2000:]}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    parts, small, large = rows
    pixels = large["side"] ** 2 - small["side"] ** 2
    planes = (large["measured_mib"] - small["measured_mib"]) * MIB / 4 / pixels
    figures = {
        "fields": rows,
        "planes": round(planes, 1),
        "planes_foreseen": PLANES["hong"],
        "parts_mib": round(parts["measured_mib"] - planes * 4 * FOUR_PARTS**2 / MIB),
        "parts_foreseen_mib": round(PARTS["hong"] / MIB),
    }
    save(options, "map_memory", figures)


if __name__ == "__main__":
    main()
