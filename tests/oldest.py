"""Constraints of the oldest versions that pyproject.toml declares: ``python tests/oldest.py``."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest() -> dict[str, str]:
    """Lower bounds of all requirements, by name; the highest where several are given."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    tried = ("plot", "io", "dynamics", "clusters", "test")
    lines = [*project["dependencies"], *(line for name in tried for line in extras[name])]
    found: dict[str, str] = {}
    for line in lines:
        bound = re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?\s*>=\s*([0-9.]+)", line)
        if bound:
            name, version = bound[1].lower(), bound[2]
            found[name] = max(found.get(name, "0"), version, key=_numbers)
    return found


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in oldest().items()))
