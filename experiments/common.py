"""What the experiments share: arguments, where the real data lie, and how figures are kept."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("JAXMAP_SHARED", HERE.parents[1] / "shared")) / "data"


def arguments(
    description: str | None, seed: int = 0, **extra: dict[str, Any]
) -> argparse.Namespace:
    """``--out`` for figures and JSON, ``--quick`` for a run of seconds, ``--data``, ``--seed``.

    Further flags as keywords: their settings for ``add_argument``.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results", help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=SHARED, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer draws: does it run at all?")
    parser.add_argument("--seed", type=int, default=seed, help="default: %(default)s")
    for name, settings in extra.items():
        parser.add_argument(f"--{name}", **settings)
    return parser.parse_args()


def save(options: argparse.Namespace, name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to ``name.json`` with seed and versions."""
    versions = {package: importlib.metadata.version(package) for package in ("jaxmap", "jax")}
    record = {
        "seed": options.seed,
        "quick": options.quick,
        "versions": {**versions, "python": platform.python_version()},
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
        **figures,
    }
    options.out.mkdir(parents=True, exist_ok=True)
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
