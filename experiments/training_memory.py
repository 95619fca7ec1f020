"""Memory of a training's step: foreseen by `jaxmap.training.memory`, and what it takes.

Every kind of training in a process of its own: the estimate from its operations, what XLA sets
aside for the compiled step, and the growth of resident memory while the step runs (compiling left
out); and what a training asks to be free, which should be no less. A step is compiled as a whole
here; CPU only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, save

from jaxmap.spectra import power_spectrum
from jaxmap.train_command import TASKS
from jaxmap.training.layouts import GivenFields
from jaxmap.training.memory import asked_memory, training_memory
from jaxmap.training.settings import training_from

SIZES = {
    "denoiser": (128, 2),
    "score": (360, 2),
    "deepmass-survey": (128, 2),
    "gan": (384, 2),
    "hong": (386, 4),
}
"""Side and batch. Of ``score`` as in ``experiments/training/paper.toml``, but 2 of its 32 maps, for
memory goes with their number; of ``gan`` as in ``gan_cosmos.toml``, with its critic; of ``hong``
the published side and width, in the batches of ``hong_clusters.toml``. The others are smaller than
they are trained."""

CRITIC = [16, 32, 64, 64, 64, 64]
MIB = 2**20


def settings_of(kind: str, side: int, batch: int) -> dict[str, Any]:
    maps = {"maps": "not read", "pixel_arcmin": 0.29, "rim_arcmin": 0.0}
    layouts = [{"side": side, "batch": batch}]
    table = {"kind": kind, "schedule": {"num_steps": 2}, "maps": maps, "layouts": layouts}
    if kind in ("deepmass-survey", "gan"):
        table["survey"] = {"size": [side // 2, side // 2], "margin": side // 4}
    if kind == "gan":
        table["gan"] = {"critic": CRITIC}
    if kind == "hong":
        maps["pixel_arcmin"] = 0.4
        layouts[0]["side"] = 84
        table["clusters"] = {"side": side}
    return table


def maps_for(kind: str, side: int, seed: int) -> GivenFields:
    """Noise; with a bump in the middle where clusters are looked for."""
    # Wider than the square that is cut out about a cluster.
    side = 128 if kind == "hong" else side
    maps = 0.003 * np.random.default_rng(seed).normal(size=(2, side, side))
    if kind == "hong":
        x = np.arange(side) - side / 2
        maps += 0.5 * np.exp(-(x[:, None] ** 2 + x**2) / 32)
    return GivenFields(jnp.asarray(maps, float))


def resident(name: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measured(kind: str, side: int, batch: int, seed: int) -> dict[str, Any]:
    """Figures of one kind; for a fresh process."""
    settings = training_from(settings_of(kind, side, batch))
    fields = maps_for(kind, side, seed)
    ell = np.geomspace(10, 2e5, 50)
    spectrum = power_spectrum(ell, 5e-8 / (1 + (ell / 300) ** 1.6))
    task = TASKS[kind](settings, fields, fields, spectrum)
    state = task.begin(task.params, settings.schedule)
    began = time.perf_counter()
    foreseen = training_memory(task, settings.schedule) / MIB
    seconds = time.perf_counter() - began
    step = jax.jit(partial(task.advance, task.heaviest)).lower(state).compile()
    forget_peak()
    before = resident("VmRSS")
    jax.block_until_ready(step(state))
    grown = resident("VmHWM") - before
    return {
        "side": side,
        "batch": batch,
        "foreseen_mib": round(foreseen),
        "seconds_to_foresee": round(seconds, 1),
        "xla_mib": round(step.memory_analysis().temp_size_in_bytes / MIB),
        "measured_mib": round(grown),
        "foreseen_over_measured": round(foreseen / grown, 2),
    }


def main() -> None:
    options = arguments(
        __doc__,
        kinds={"nargs": "*", "default": list(SIZES), "choices": SIZES},
        side={"type": int, "help": "default: by kind, SIZES in this script"},
        batch={"type": int, "help": "default: by kind"},
        alone={"action": "store_true", "help": "one kind, in this process"},
    )
    if options.alone:
        (kind,) = options.kinds
        print(json.dumps(measured(kind, options.side, options.batch, options.seed)))
        return
    kept = options.out / "training_memory.json"
    rows = json.loads(kept.read_text())["kinds"] if kept.exists() else {}
    for kind in options.kinds:
        side, batch = (
            given or usual
            for given, usual in zip((options.side, options.batch), SIZES[kind], strict=True)
        )
        if options.quick:  # of Hong et al. a size that their network has parts of
            side = 101 if kind == "hong" else 64
        command = [sys.executable, __file__, "--alone", "--kinds", kind]
        command += ["--seed", str(options.seed), "--side", str(side), "--batch", str(batch)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{kind}: {done.stderr[-2000:]}")
        rows[kind] = json.loads(done.stdout.splitlines()[-1])
        for name, row in rows.items():
            asked = asked_memory(name, row["foreseen_mib"] * MIB) / MIB
            row["asked_mib"] = round(asked)
            row["asked_over_measured"] = round(asked / row["measured_mib"], 2)
        save(options, "training_memory", {"kinds": rows})


if __name__ == "__main__":
    main()
