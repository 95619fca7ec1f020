"""The table of the papers' tables and figures in experiments/README.md, from the results' JSON.

``python experiments/index.py`` writes it anew; ``--check`` fails if that would change anything.
Figures of ours are read from ``results/``, never typed; those published are the papers'.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from papers import ho, hong, remy, whitney
from papers.item import Item

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BEGIN, END = "<!-- papers: made by index.py -->\n", "<!-- end of papers -->\n"

UNRECORDED = {
    "dynamics.py": "five seeds of some 25 min on one core, in several sittings: not recorded",
    "gan_ablation.py": "some 23 min: not recorded",
}
"""Run times in words, of results that were made before scripts kept them."""

PAPERS = {paper.TITLE: paper.ITEMS for paper in (remy, ho, hong, whitney)}


def table(items: list[Item], results: Path = RESULTS) -> list[str]:
    """Rows of Markdown; where a result is missing, the reason and how to make it."""
    lines = [
        "| item | command | run time | output | published | ours | why different |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in items:
        command = f"`python experiments/{item.script}`" if item.script else "none"
        if item.script.startswith("-m"):
            command = f"`python {item.script}`"
        if item.before:
            command = f"{item.before}, then {command}"
        there = [name for name in item.outputs if (results / name).exists()]
        ours, took = "none", "none"
        if item.outputs and item.outputs[0] in there:
            figures = json.loads((results / item.outputs[0]).read_text())
            ours, took = item.ours(figures), run_time(figures, item.script)
        elif item.script:
            ours = "not run yet: its results are not committed"
        output = ", ".join(f"[{Path(name).name}](results/{name})" for name in there) or "none"
        cells = (item.name, command, took, output, item.published, ours, item.why)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def run_time(figures: Any, script: str) -> str:
    """What the JSON of an experiment or a benchmark says of the time that its run took."""
    seconds = figures.get("run_seconds", figures.get("environment", {}).get("run_seconds"))
    if seconds is None:
        return UNRECORDED.get(script, "not recorded")
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def section(results: Path = RESULTS) -> str:
    """All papers, as between the marks of the README."""
    parts = []
    for paper, items in PAPERS.items():
        parts += [f"### {paper}", "", *table(items, results), ""]
    return "\n".join(parts)


def renewed(text: str) -> str:
    """The README with the section made anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{section()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say whether it is up to date")
    options = parser.parse_args()
    path = HERE / "README.md"
    text = path.read_text(encoding="utf-8")
    new = renewed(text)
    if options.check:
        return int(text != new)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
