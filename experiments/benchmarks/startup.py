"""Seconds until a fresh process has imported jaxmap, printed its help, or loaded JAX.

Run from the repository root: ``python experiments/benchmarks/startup.py`` (seconds). Targets:
``import jaxmap`` and ``jaxmap --help`` below 0.5 s; neither loads JAX.
"""

from __future__ import annotations

import subprocess
import sys
import time

from common import arguments, spread, write_json

COMMANDS = {
    "python": ["-c", "pass"],
    "import jaxmap": ["-c", "import jaxmap"],
    "jaxmap --help": ["-m", "jaxmap", "--help"],
    "jaxmap map --help": ["-m", "jaxmap", "map", "--help"],
    "import jax": ["-c", "import jax"],
    "jaxmap.Wiener": ["-c", "import jaxmap; jaxmap.Wiener"],
}


def main() -> None:
    args = arguments("startup", __doc__ or "")
    rounds = 2 if args.quick else 11
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    rows = [{"what": name, "seconds": spread(values)} for name, values in seconds.items()]
    for row in rows:
        print(f"{row['what']:20s} {row['seconds']['median']:.2f} s")
    write_json(args, rows, rounds=rounds)


if __name__ == "__main__":
    main()
