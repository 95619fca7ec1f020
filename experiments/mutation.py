"""Do the tests notice when a formula is changed? Mutants of operators, likelihood and samplers.

One operator, comparison or number of a module is changed at a time, in a copy of the package, and
the tests of that module are run until the first failure. A mutant that none notices survives: the
tests have a hole there, or the change makes no difference.

    python experiments/mutation.py --num 8      # of each module, drawn by a seed; minutes each
"""

from __future__ import annotations

import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, save

ROOT = Path(__file__).parents[1]
TESTS = {
    "operators.py": ["test_operators.py"],
    "likelihood.py": ["test_likelihood.py"],
    "sampling/diffusion.py": ["test_posterior.py"],
    "sampling/hmc.py": ["test_hmc.py"],
}
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
}


def places(tree: ast.Module) -> list[int]:
    """Numbers, in the order of `ast.walk`, of the nodes that can be changed."""
    return [number for number, node in enumerate(ast.walk(tree)) if _kind(node) is not None]


def _kind(node: ast.AST) -> str | None:
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        return "operator"
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        return "comparison"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return "number"
    return None


def mutant(tree: ast.Module, place: int) -> tuple[ast.Module, str]:
    """The module with one node changed, and what was changed."""
    changed = copy.deepcopy(tree)
    node = next(node for number, node in enumerate(ast.walk(changed)) if number == place)
    before = ast.unparse(node)
    if isinstance(node, ast.BinOp):
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare):
        node.ops = [SWAPS[type(node.ops[0])]()]
    elif isinstance(node, ast.Constant):
        node.value = node.value + 1  # type: ignore[operator]
    line = getattr(node, "lineno", 0)
    return changed, f"line {line}: {before} -> {ast.unparse(node)}"


def survives(module: str, changed: ast.Module) -> bool:
    """Whether the module's tests pass with it."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "jaxmap"
        shutil.copytree(ROOT / "jaxmap", package)
        (package / module).write_text(ast.unparse(changed), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "not slow and not release", "--rootdir", str(ROOT)]
        command += [str(ROOT / "tests" / name) for name in TESTS[module]]
        environment = {**os.environ, "PYTHONPATH": folder, "JAX_COMPILATION_CACHE_DIR": folder}
        # Not in the project's folder, whose package would go before the copy.
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True)
        return done.returncode == 0


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 8, "help": "mutants of each module"},
        modules={"nargs": "*", "default": list(TESTS), "choices": TESTS},
    )
    found: dict[str, Any] = {}
    for module in options.modules:
        tree = ast.parse((ROOT / "jaxmap" / module).read_text(encoding="utf-8"))
        if not survives(module, tree):
            raise SystemExit(f"the tests of {module} fail without any mutant")
        all_of = places(tree)
        drawn = random.Random(options.seed).sample(all_of, min(options.num, len(all_of)))
        began, survivors = time.perf_counter(), []
        for place in sorted(drawn):
            changed, text = mutant(tree, place)
            if survives(module, changed):
                survivors.append(text)
                print(f"{module}: survived: {text}", flush=True)
        found[module] = {
            "possible": len(all_of),
            "tried": len(drawn),
            "survivors": survivors,
            "seconds": round(time.perf_counter() - began),
        }
        print(f"{module}: {len(drawn) - len(survivors)} of {len(drawn)} noticed", flush=True)
        save(options, "mutation", {"modules": found})


if __name__ == "__main__":
    main()
