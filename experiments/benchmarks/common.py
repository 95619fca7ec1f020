"""What the benchmarks share: arguments, interleaved timing, a simulated survey, tables and JSON.

Machines are noisy, so contenders are timed in turn within one run, several rounds long, and
compared round by round: a slow moment of the machine then slows both sides of a ratio.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field
from jaxmap.spectra import PowerSpectrum

Name = TypeVar("Name")

BEGAN = time.perf_counter()
SEED = 2025
PIXEL_ARCMIN = 0.29
SHAPE_NOISE = 0.3
GALAXIES_PER_PIXEL = 5.4
RESULTS = Path(__file__).parent / "results"


def arguments(name: str, description: str, **extra: dict[str, Any]) -> argparse.Namespace:
    """Read ``--json``, ``--quick`` and ``--seed``; ``json`` is None where nothing is to be kept.

    Further flags as keywords: their settings for ``add_argument``.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"where to write the figures (default: results/{name}.json; with --quick: nowhere)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and few repeats: does it run at all?"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    for flag, settings in extra.items():
        parser.add_argument(f"--{flag}", **settings)
    args = parser.parse_args()
    if args.json is None and not args.quick:
        args.json = RESULTS / f"{name}.json"
    return args


def write_json(args: argparse.Namespace, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Write the figures with what is needed to compare them with another run's."""
    if args.json is None:
        return
    figures = {"environment": environment(args), **more, "rows": list(rows)}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"wrote {args.json}")


def environment(args: argparse.Namespace) -> dict[str, Any]:
    """Versions, machine, seed, and the time that the run has taken."""
    return {
        **{name: importlib.metadata.version(name) for name in ("jaxmap", "jax", "jaxlib", "numpy")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "seed": args.seed,
        "quick": args.quick,
        "run_seconds": round(time.perf_counter() - BEGAN, 1),
    }


def interleaved(
    contenders: Mapping[Name, Callable[[], Any]], rounds: int, least_seconds: float = 0.02
) -> dict[Name, np.ndarray]:
    """Time the contenders in turn.

    Args:
        contenders: functions without arguments; their results are waited for.
        rounds: times that each is measured; every round starts with the next contender.
        least_seconds: fast contenders are called repeatedly for about this long per round.

    Returns:
        Seconds per call, shape ``(rounds,)`` for each; compilation is not in them.
    """
    calls = {}
    for name, call in contenders.items():
        jax.block_until_ready(call())
        calls[name] = math.ceil(least_seconds / max(_seconds(call, 1), 1e-9))
    names = list(contenders)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for first in range(rounds):
        for name in names[first % len(names) :] + names[: first % len(names)]:
            seconds[name].append(_seconds(contenders[name], calls[name]))
    return {name: np.asarray(values) for name, values in seconds.items()}


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / repeats


def peak_bytes() -> int:
    """Most memory that this process has had: of the GPU if there is one, else resident."""
    if jax.default_backend() != "cpu":
        return int((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_fresh_process(function: Callable[..., Any], *inputs: Any) -> Any:
    """Call a function where its peak of memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *inputs).result()


def spread(values: np.ndarray) -> dict[str, Any]:
    """Median and quartiles."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "quartiles": [float(low), float(high)]}


def show(figure: Mapping[str, Any], scale: float = 1.0, digits: int = 2) -> str:
    """A `spread` as text, ``median [low-high]``."""
    values = (figure["median"], *figure["quartiles"])
    return "{} [{}-{}]".format(*(f"{value * scale:.{digits}f}" for value in values))


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Right-aligned columns."""
    rows = [list(head), *(list(line) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows
    )


def survey(size: int, seed: int) -> tuple[ShearMap, PowerSpectrum]:
    """Shear of a COSMOS-like survey: a rotated square with holes, 53 % of a square frame.

    Args:
        size: pixels on a side; the geometry scales with it, 360 is COSMOS.
        seed: of the mass, the galaxies' numbers and their shapes.

    Returns:
        The shear map, and the spectrum of the mass in it.
    """
    grid = Grid((size, size), PIXEL_ARCMIN)
    spectrum = convergence_power()
    truth = gaussian_field(jax.random.key(seed), spectrum, grid)
    shear = np.asarray(shear_from_convergence(truth, grid))
    rng = np.random.default_rng(seed)
    counts = rng.poisson(GALAXIES_PER_PIXEL, grid.shape) * footprint(size, rng)
    noise = SHAPE_NOISE / np.sqrt(np.maximum(counts, 1))
    shear = shear + noise * (rng.normal(size=grid.shape) + 1j * rng.normal(size=grid.shape))
    return shear_map(shear, grid, weight=counts / SHAPE_NOISE**2, counts=counts), spectrum


def footprint(size: int, rng: np.random.Generator, covered: float = 0.53) -> np.ndarray:
    """True in a square turned by 20 degrees, less 150 round holes (bright stars), about 5 %."""
    y, x = (np.indices((size, size)) - (size - 1) / 2) / size
    angle = math.radians(20)
    across = np.cos(angle) * x + np.sin(angle) * y
    along = np.cos(angle) * y - np.sin(angle) * x
    half = math.sqrt(covered / 0.95) / 2
    inside = (np.abs(across) < half) & (np.abs(along) < half)
    for x0, y0, radius in rng.uniform((-0.5, -0.5, 0.004), (0.5, 0.5, 0.016), (150, 3)):
        inside &= np.hypot(x - x0, y - y0) > radius
    return inside


def on_host(tree: Any, dtype: type) -> Any:
    """The same arrays in another precision (real or complex each), as NumPy arrays."""

    def cast(array: jax.Array) -> np.ndarray:
        wanted = np.result_type(dtype, np.complex64) if jnp.iscomplexobj(array) else dtype
        return np.asarray(array, wanted)

    return jax.tree.map(cast, tree)
