"""Whole surveys: patches an hour against workers, memory of a worker against area, cost on GPUs.

Mock surveys of 10 to 1000 square degrees (noise alone: what a task costs does not depend on the
signal) are planned and run by `jaxmap.survey`: with Kaiser-Squires for memory, since it is fast,
and with the Wiener filter, whose tasks take about a second, on one worker and two in turn. The
table of costs takes the seconds of a sample as given: nothing was measured on a GPU.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np

from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.cosmology import convergence_power
from jaxmap.production.wide import region_of
from jaxmap.survey.clients import Cluster
from jaxmap.survey.cluster import run_survey
from jaxmap.survey.healpix import FULL_SKY_DEG2
from jaxmap.survey.plan import Plan, make_plan
from jaxmap.survey.results import RESULTS

DENSITY, PIXEL = 1.0, 3.0  # galaxies per square arcminute, arcminutes
SETTINGS: dict[str, Any] = {
    "method": "ks", "smoothing_arcmin": 5.0, "threshold": None, "reduced_shear": 0,
    "sampler": "eps", "num_steps": None, "margin": None, "x64": False, "keep_samples": False,
}  # fmt: skip

ASSUMED = {
    "seconds_per_sample": 1.0,
    "samples": 100,
    "cell_deg2": FULL_SKY_DEG2 / (12 * 16**2),
    "edge_patches": 1.15,
    "utilisation": 0.9,
}
"""Inputs of the projection, not measurements: a posterior sample of a patch takes a second on a
GPU; 15 % more patches than area / cell, for those cut by the survey's edge; 10 % of the time is
lost to starting, compiling and waiting."""


def galaxies(area: float, seed: int) -> Iterator[ShearCatalog]:
    """Noise on a region of an area, a million galaxies at a time."""
    region, rng = region_of(area, (180.0, 0.0)), np.random.default_rng(seed)
    left = int(DENSITY * 3600 * area)
    south, north = np.sin(np.radians(region.dec_deg))
    while left > 1:
        count = min(left, 2**20)
        ra = region.ra_deg[0] + region.ra_deg[1] * rng.uniform(size=count)
        dec = np.degrees(np.arcsin(rng.uniform(south, north, count)))
        shapes = 0.2 * (rng.normal(size=count) + 1j * rng.normal(size=count))
        yield shear_catalog(ra % 360, dec, shapes)
        left -= count


def planned(folder: Path, area: float, seed: int, method: str) -> Plan:
    return make_plan(
        folder,
        galaxies(area, seed),
        convergence_power(),
        SETTINGS | {"seed": seed, "method": method},
        {"area": str(area)},
        patch_deg=1.8,
        pixel_arcmin=PIXEL,
        overlap_arcmin=30.0,
        num_samples=8,
    )


def run(plan: Plan, workers: int) -> dict[str, Any]:
    """Time from the first to the last task, and the largest memory of a worker."""
    peaks: dict[int, int] = {}

    class Bar:
        def __init__(self) -> None:
            self.times: list[float] = []

        def update(self, count: int) -> None:
            self.times += [time.perf_counter()] * count
            for process in workers_of_this_process():
                peaks[process] = max(peaks.get(process, 0), peak_of(process))

        def close(self) -> None:
            pass

    bar = Bar()
    report = run_survey(plan, Cluster(workers=workers, threads=1), progress=lambda *numbers: bar)
    assert not report.failed
    # From the second task of every worker on: the first ones compile.
    steady = bar.times[2 * workers :]
    rate = 3600 * (len(steady) - 1) / (steady[-1] - steady[0]) if len(steady) > 2 else math.nan
    for path in (plan.folder / RESULTS).iterdir():
        path.unlink()
    return {
        "workers": workers,
        "patches": report.done,
        "seconds": report.seconds,
        "patches_per_hour": rate,
        "worker_peak_mib": max(peaks.values()) / 2**20,
    }


def workers_of_this_process() -> list[int]:
    import psutil

    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def peak_of(process: int) -> int:
    """Peak resident memory of a process in bytes; Linux."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def projected() -> list[dict[str, float]]:
    r"""GPU hours of large surveys: :math:`t = N_\mathrm{patch} n t_1 / (N_\mathrm{GPU} u)`."""
    rows = []
    for area in (5000, 15000):
        patches = math.ceil(ASSUMED["edge_patches"] * area / ASSUMED["cell_deg2"])
        gpu_hours = patches * ASSUMED["samples"] * ASSUMED["seconds_per_sample"] / 3600
        for gpus in (1, 8, 64):
            hours = gpu_hours / (gpus * ASSUMED["utilisation"])
            rows.append({"deg2": area, "patches": patches, "gpus": gpus, "hours": hours})
    return rows


def main() -> None:
    args = common.arguments("survey", __doc__ or "")
    areas = (10, 30) if args.quick else (10, 100, 1000)
    # Workers in turn, so that a slow moment of the machine meets both.
    cases = [("ks", area, 1) for area in areas]
    cases += [("wiener", areas[0] if args.quick else 60, count) for count in (1, 2, 1, 2)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for method, area, workers in cases:
            plan = planned(Path(folder) / f"{method}-{area}", area, args.seed, method)
            load = os.getloadavg()[0]
            row = {"method": method, "deg2": area, "galaxies": plan.num_galaxies, "load": load}
            rows.append({**row, **run(plan, workers)})
            print(rows[-1], flush=True)
    names = ("method", "deg2", "workers", "patches", "patches_per_hour", "worker_peak_mib", "load")
    lines = [
        [value if isinstance(value := row[name], str) else f"{value:.0f}" for name in names]
        for row in rows
    ]
    print(common.table(names, lines))
    costs = projected()
    print(f"Assumed, not measured: {ASSUMED}")
    lines = [
        [f"{cost[name]:.4g}" for name in ("deg2", "patches", "gpus", "hours")] for cost in costs
    ]
    print(common.table(["deg2", "patches", "GPUs", "hours"], lines))
    common.write_json(args, rows, assumed=ASSUMED, projected=costs)


if __name__ == "__main__":
    main()
