"""The notebooks: they run, small, and what is paired says the same."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
TRAINING = FOLDER / "03_train_a_prior.py"

RUN = """
import runpy, sys
for path in sys.argv[1:]:
    print("running", path, flush=True)
    runpy.run_path(path, run_name="__main__")
"""


def run(scripts, folder):
    """All in one process, which so compiles what they share once; in the user's float32."""
    environment = os.environ | {"JAXMAP_FAST": "1", "MPLBACKEND": "Agg"}
    for name in ("JAX_ENABLE_X64", "JAX_NUMPY_RANK_PROMOTION"):
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, scripts)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.stdout.count("running") == len(scripts)
    return done.stdout


@pytest.mark.slow
def test_notebooks_run(tmp_path):
    scripts = [script for script in SCRIPTS if script != TRAINING]
    assert len(scripts) >= 6
    text = run(scripts, tmp_path)
    # The catalogue's signs are found out, and the wrong ones too.
    right, wrong = re.findall(r"SignCheck\(as_given=([-\d.]+)", text)
    assert float(right) > 3 > float(wrong)


@pytest.mark.slow
def test_training_runs(tmp_path):
    """Half a minute of compiling."""
    assert "mean of samples" in run([TRAINING], tmp_path)


def test_pairs_agree():
    """Every script has its notebook, made from it by `make notebooks`, without outputs."""
    jupytext = pytest.importorskip("jupytext")
    for script in SCRIPTS:
        notebook = json.loads(script.with_suffix(".ipynb").read_text())
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
        paired = jupytext.read(script).cells
        assert cells == [(cell.cell_type, cell.source) for cell in paired], script.name
        assert not any(cell.get("outputs") for cell in notebook["cells"]), script.name


def test_public_names_only():
    for script in SCRIPTS:
        text = script.read_text()
        assert not re.search(r"from jaxmap[\w.]*\._|import _|\b\w+\._[a-z]", text), script.name
