"""What one thread for each operation gives and costs on a CPU: maps that differ, seconds of a map.

All commands have one. Kaiser-Squires, the Wiener filter and two posterior samples of the shipped
prior, each several times in fresh processes, with XLA's flag and without in turn: for their bits on
a machine that other processes keep busy, since then threads come and go, for their time on a quiet
one. The price depends on how many processors there are. Run from the repository root:
``python experiments/benchmarks/deterministic.py`` (minutes).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from common import arguments, in_fresh_process, show, spread, survey, table, write_json

from jaxmap.cli import ONE_THREAD
from jaxmap.estimators import Estimator, KaiserSquires, SampledPosterior, Wiener
from jaxmap.methods import build_estimator

SIZE, SMALL = 336, 48
"""Pixels; with the margin 504, a number with factors of 7 and 9."""
ROUNDS, MAPS = 3, 5
METHODS = ("ks", "wiener", "dlposterior")

Run = tuple[float, list[np.ndarray]]
"""Seconds of the fastest map, and all."""


def main() -> None:
    args = arguments("deterministic", __doc__ or "")
    size, rounds, maps = (SMALL, 1, 2) if args.quick else (SIZE, ROUNDS, MAPS)
    runs: dict[tuple[str, bool, bool], list[Run]] = {}
    before = os.environ.get("XLA_FLAGS", "")
    for _ in range(rounds):
        for method, busy, flag in itertools.product(METHODS, (False, True), (False, True)):
            os.environ["XLA_FLAGS"] = f"{before} {ONE_THREAD}" if flag else before
            with other_work(busy):
                run = in_fresh_process(made, method, size, args.seed, maps)
            runs.setdefault((method, busy, flag), []).append(run)
    rows = [
        row(method, *(runs[method, busy, flag] for busy in (False, True) for flag in (False, True)))
        for method in METHODS
    ]
    print(
        table(
            (
                "method",
                "different maps",
                "with one thread",
                "differ by, of the rms",
                "times slower",
            ),
            [
                (
                    each["method"],
                    f"{each['different_maps']} of {each['maps']}",
                    f"{each['different_maps_of_one_thread']} of {each['maps']}",
                    f"{each['difference_over_rms']:.1e}",
                    show(each["times_slower"]),
                )
                for each in rows
            ],
        )
    )
    write_json(args, rows, size=size, flags=ONE_THREAD)


@contextmanager
def other_work(busy: bool) -> Iterator[None]:
    """As many idle loops as there are processors, if so."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range((os.cpu_count() or 1) * busy)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def made(method: str, size: int, seed: int, maps: int) -> Run:
    """Maps of one field by one method, made again and again."""
    data, spectrum = survey(size, seed)
    estimator: Estimator = KaiserSquires()
    if method == "wiener":
        estimator = Wiener(spectrum, num_samples=1)
    elif method == "dlposterior":
        shipped = build_estimator(method, spectrum)
        assert isinstance(shipped, SampledPosterior)
        estimator = SampledPosterior(shipped.prior, num_samples=2)
    seconds, found = [], []
    for _ in range(maps + 1):  # the first compiles
        start = time.perf_counter()
        found.append(np.asarray(estimator(jax.random.key(seed), data).convergence))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]), found[1:]


def row(
    method: str, quiet: list[Run], quiet_fixed: list[Run], free: list[Run], fixed: list[Run]
) -> dict[str, Any]:
    """Figures of one method; ratios of times are of runs that followed each other."""
    some, same = ([one for _, maps in runs for one in maps] for runs in (free, fixed))
    difference = max(np.abs(one - some[0]).max() for one in some)
    pairs = zip(quiet, quiet_fixed, strict=True)
    slower = np.array([after[0] / before[0] for before, after in pairs])
    return {
        "method": method,
        "maps": len(some),
        "different_maps": len({one.tobytes() for one in some}),
        "different_maps_of_one_thread": len({one.tobytes() for one in same}),
        "difference_over_rms": float(difference / some[0].std()),
        "seconds": min(one[0] for one in quiet),
        "times_slower": spread(slower),
    }


if __name__ == "__main__":
    main()
