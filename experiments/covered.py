"""Lines and branches that the tests run, by part of the package, from what `make coverage` found.

make coverage                       # quick and longer tests, then this
python experiments/covered.py --found coverage.json
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from common import arguments, save

COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def part_of(path: str) -> str:
    """``jaxmap/sampling`` of a file in a folder of the package, ``jaxmap`` of others."""
    return "/".join(Path(path).parts[:-1])


def share(covered: int, whole: int) -> float | None:
    return round(covered / whole, 4) if whole else None


def main() -> None:
    options = arguments(
        __doc__,
        found={"type": Path, "default": Path("coverage.json"), "help": "default: %(default)s"},
    )
    report = json.loads(options.found.read_text(encoding="utf-8"))
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for path, file in report["files"].items():
        for part in (part_of(path), "all"):
            for name in COUNTS:
                counts[part][name] += file["summary"].get(name, 0)
    parts = {
        part: {
            "lines": share(each["covered_lines"], each["num_statements"]),
            "branches": share(each["covered_branches"], each["num_branches"]),
            **each,
        }
        for part, each in sorted(counts.items())
    }
    measured = {"by": f"coverage {report['meta']['version']}", "at": report["meta"]["timestamp"]}
    save(options, "covered", {"measured": measured, "parts": parts})


if __name__ == "__main__":
    main()
