"""The benchmark scripts run and write what they promise; their figures are not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "experiments" / "benchmarks"

ROW_KEYS = {
    "kaiser_squires": {"precision", "size", "ffts_s", "inversion_s", "ratio"},
    "wiener_solvers": {
        "solver",
        "target_error",
        "iterations",
        "seconds",
        "time_over_conjugate_gradients",
        "error",
        "residual",
    },
    "deterministic": {
        "method",
        "maps",
        "different_maps",
        "different_maps_of_one_thread",
        "difference_over_rms",
        "seconds",
        "times_slower",
    },
    "hong_network": {
        "width",
        "pass",
        "batch",
        "fft_seconds",
        "direct_seconds",
        "times_faster",
        "fft_error",
        "direct_error",
    },
    "dynamics": {
        "what",
        "jaxmap_microseconds",
        "plain_microseconds",
        "times_faster",
        "largest_difference",
        "published_microseconds",
    },
    "networks": {"network", "size", "parameters", "gflop", "seconds", "over_published"},
    "binning": {"step", "seconds", "over_numpy", "over_numpy_with_index"},
    "startup": {"what", "seconds"},
    "simulation": {"simulator", "seconds_per_map", "maps_per_second", "cpu_seconds_per_map"},
    "posterior_samples": {
        "size",
        "batch",
        "seconds_per_sample",
        "evaluations_per_sample",
        "peak_bytes",
        "peak_bytes_before",
    },
    "survey": {
        "method",
        "deg2",
        "galaxies",
        "load",
        "workers",
        "patches",
        "seconds",
        "patches_per_hour",
        "worker_peak_mib",
    },
    "map_size": {
        "method",
        "size",
        "seconds",
        "iterations",
        "residual",
        "peak_bytes",
        "peak_bytes_before",
        "program_bytes",
    },
}


LONG = (
    "deterministic",
    "dynamics",
    "posterior_samples",
    "simulation",
    "survey",
    "networks",
    "map_size",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.release if name in LONG else pytest.mark.slow)
        for name in ROW_KEYS
    ],
)
def test_script_writes_figures(name: str, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    # The settings of the tests' own process (float64, strict promotion) are not the scripts'.
    settings = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("JAX_") or "CACHE" in key
    }
    done = subprocess.run(
        [sys.executable, SCRIPTS / f"{name}.py", "--quick", "--json", target],
        capture_output=True,
        text=True,
        env=settings,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(target.read_text())
    assert {"jaxmap", "jax", "platform", "cpus", "seed", "quick"} <= figures["environment"].keys()
    assert figures["rows"]
    for row in figures["rows"]:
        assert row.keys() == ROW_KEYS[name]
    assert str(target) in done.stdout
    assert target.with_suffix(".png").is_file() == (name == "map_size")
