"""Quick runs of the scripts in ``experiments/``, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

SCRIPTS = Path(__file__).parents[1] / "experiments"


def run(name: str, shared: Path, out: Path, *flags: str) -> dict[str, Any]:
    """The figures of a quick run."""
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), "--quick", *flags]
    command += ["--out", str(out), "--data", str(shared)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{name}.py:\n{done.stderr[-4000:]}"
    return json.loads((out / f"{name}.json").read_text())


def finite(value: Any) -> bool:
    """Whether every number in a JSON value is finite."""
    if isinstance(value, dict | list):
        return all(finite(each) for each in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or bool(np.isfinite(value))


def assert_as_full(name: str, figures: dict[str, Any], out: Path) -> None:
    """The same figures under the same names as in the results, all of them finite, and pictures."""
    full = json.loads((SCRIPTS / "results" / f"{name}.json").read_text())
    assert figures["quick"] and not full["quick"]
    left_out = {"run_seconds", "ktng_prior", "table1"}  # newer than some results; asked for apart
    assert figures.keys() - left_out == full.keys() - left_out
    assert finite(figures)
    picture = f"{name}.png"
    assert (out / picture).exists() or not (SCRIPTS / "results" / picture).exists()
