"""Independent trainings of one network of Hong et al., for errors as published (theirs are ten).

Trains CONFIG with seeds 0, 1, 2 ... into ``--runs``/seed-N; a training that was stopped goes on,
one that is done is left alone. Then ``hong.py --weights`` with all files gives the mean and the
standard deviation of every figure over the runs; the command is printed. The spread is of initial
weights, examples and galaxies, on the same maps. ``--quick`` takes two steps on four small maps,
twice, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from common import HERE
from hong_maps import RUNS, small_maps

from jaxmap.cli import main as jaxmap

QUICK = """
kind = "hong"
validation_batches = 1

[schedule]
num_steps = 2
warmup_steps = 1
decay_steps = 1
averaging = 1

[network]
width = 3

[maps]
maps = {maps}
pixel_arcmin = 0.4
rim_arcmin = 0

[[layouts]]
side = 84
batch = 1
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "config", type=Path, nargs="?", default=HERE / "training/hong_clusters.toml"
    )
    parser.add_argument("--num", type=int, default=10, help="runs (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two short trainings of its own")
    parser.add_argument("--runs", type=Path, help="default: runs/hong/seeds of the checkout, "
                        "with --quick runs/quick")  # fmt: skip
    options = parser.parse_args()
    if options.runs is None:
        options.runs = HERE.parent / "runs" / "quick" if options.quick else RUNS / "seeds"
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.quick:
        num, text = 2, QUICK.format(maps=json.dumps(str(small_maps(options.runs))))
    else:
        num, text = options.num, options.config.read_text(encoding="utf-8")
    weights = []
    for seed in range(num):
        folder = options.runs / f"seed-{seed}"
        weights.append(folder / "hong.npz")
        if weights[-1].exists():
            continue
        config = options.runs / f"seed-{seed}.toml"
        # A key at the top comes before the first table.
        config.write_text(f"seed = {seed}\n{text}", encoding="utf-8")
        if status := jaxmap(["train", str(config), "--out", str(folder)]):
            return status
    print(f"python experiments/hong.py --weights {','.join(map(str, weights))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
