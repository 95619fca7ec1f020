"""What the experiments share: arguments, where the real data lie, and how figures are kept."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from astropy.table import Table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxmap import datasets
from jaxmap.benchmark import write_case
from jaxmap.catalog import ShearMap
from jaxmap.files import atomic_folder
from jaxmap.matter_power import cache_directory

BEGAN = time.perf_counter()
HERE = Path(__file__).parent
SHARED = Path(os.environ.get("JAXMAP_SHARED", HERE.parents[1] / "shared")) / "data"


def arguments(
    description: str | None, seed: int = 0, **extra: dict[str, Any]
) -> argparse.Namespace:
    """``--out`` for figures and JSON, ``--quick`` for a small run, ``--data``, ``--seed``.

    Further flags as keywords: their settings for ``add_argument``. The folder of ``--out`` is made;
    by default a quick run has another, so that what is kept of full ones stays. So with ``--runs``,
    where a script has it: that of a quick run is below ``--out``.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        help="default: results/ beside the script; with --quick: runs/quick/ of the checkout",
    )
    parser.add_argument("--data", type=Path, default=SHARED, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer draws: does it run at all?")
    parser.add_argument("--seed", type=int, default=seed, help="default: %(default)s")
    for name, settings in extra.items():
        parser.add_argument(f"--{name}", **settings)
    options = parser.parse_args()
    if options.out is None:
        options.out = HERE.parent / "runs" / "quick" if options.quick else HERE / "results"
    options.out.mkdir(parents=True, exist_ok=True)
    runs = parser.get_default("runs")
    if options.quick and runs is not None and options.runs == runs:
        options.runs = options.out / "runs" / runs.name
    return options


def real_data(options: argparse.Namespace) -> Path:
    """The folder of real data: ``--data`` if it is there, else the public files, laid out like it.

    They are fetched once (`jaxmap.datasets`). The published shear maps of COSMOS and the stored
    Wiener map of the benchmark are not among them.
    """
    if options.data.is_dir():
        return options.data
    folder = cache_directory() / "datasets" / "experiments"
    if not folder.is_dir():
        print(f"no data at {options.data}; fetching the public files into {folder}")
        with atomic_folder(folder) as temporary:
            lay_out(temporary)
    return folder


def lay_out(folder: Path) -> None:
    """Write the public data as the files that the experiments read."""
    case, noise, catalog = (
        datasets.benchmark_case(),
        datasets.cosmos_noise(),
        datasets.cosmos_catalog(),
    )
    (folder / "ktng").mkdir()
    (folder / "cosmos").mkdir()
    write_case(folder / "ktng" / "table1.npz", case)
    assert case.spectrum is not None
    spectrum = np.stack([case.spectrum.ell, case.spectrum.c_ell])
    np.save(folder / "ktng" / "power_spectrum.npy", spectrum)
    np.savez(
        folder / "cosmos" / "binned_0.29arcmin_360.npz",
        mask=np.asarray(noise.mask),
        noise_std=noise_std(noise),
    )
    columns = {
        "ra": catalog.ra_deg,
        "dec": catalog.dec_deg,
        "e1": catalog.ellipticity.real,
        "e2": catalog.ellipticity.imag,
        "weight": catalog.weight,
    }
    Table(columns).write(folder / "cosmos" / "s10_shear_catalog.fits")
    datasets.xray_clusters().write(folder / "cosmos" / "xray_clusters.ecsv")


def noise_std(shear: ShearMap) -> np.ndarray:
    """Standard deviation of the noise per component, 0 where masked, float32."""
    weight = np.asarray(shear.weight)
    return np.where(weight > 0, 1 / np.sqrt(np.where(weight > 0, weight, 1)), 0).astype(np.float32)


def save(options: argparse.Namespace, name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to ``name.json`` with seed, versions and the time it took.

    Of a run that goes on after a stop the time is that of its last part.
    """
    versions = {package: importlib.metadata.version(package) for package in ("jaxmap", "jax")}
    record = {
        "seed": options.seed,
        "quick": options.quick,
        "versions": {**versions, "python": platform.python_version()},
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
        "run_seconds": round(time.perf_counter() - BEGAN, 1),
        **figures,
    }
    path = options.out / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, default=float) + "\n")
    print(json.dumps(figures, indent=1, default=float))
    print(f"wrote {path}")


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over the first axis' entries and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
