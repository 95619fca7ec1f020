"""Every entry point with 2000 cases of damage and nonsense: the release tests of ``tests/fuzz/``.

A test whose cases all end in finite numbers or in a documented refusal is kept with its number of
cases (`run_cases` of ``tests/fuzz/cases.py`` fails with fewer) and its time; the first that does
not ends the run with the case. Hours for all of them; those that are kept are not run again.

    python experiments/fuzzing.py --tests damaged masses    # those with one of these in their name
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import arguments, save

ROOT = Path(__file__).parents[1]
FUZZ = ROOT / "tests" / "fuzz"
PYTEST = (sys.executable, "-m", "pytest", "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-q")


def names(mark: str) -> list[str]:
    """Tests of a mark, as ``file.py::test[case]``."""
    command = [*PYTEST, "--collect-only", "-m", mark, str(FUZZ)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^tests/fuzz/(\S+::\S+)$", listed, re.MULTILINE)


def cases() -> int:
    """Of every test in the release tier."""
    found = re.search(r"^ALL = (\d+)$", (FUZZ / "cases.py").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def main() -> None:
    options = arguments(
        __doc__,
        tests={"nargs": "*", "default": [""], "help": "parts of their names"},
        again={"action": "store_true", "help": "those too that are kept"},
    )
    path = options.out / "fuzzing.json"
    kept: dict[str, Any] = json.loads(path.read_text())["tests"] if path.exists() else {}
    known = names("release")
    kept = {name: kept[name] for name in known if name in kept}
    for name in known:
        chosen = any(part in name for part in options.tests)
        if not chosen or (name in kept and not options.again):
            continue
        began = time.perf_counter()
        command = [*PYTEST, "-x", str(FUZZ / name)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}:\n{done.stdout[-8000:]}{done.stderr[-2000:]}")
        kept[name] = {"cases": cases(), "seconds": round(time.perf_counter() - began)}
        left = [other for other in known if other not in kept]
        save(options, "fuzzing", {"tests": kept, "not_run_yet": left})


if __name__ == "__main__":
    main()
