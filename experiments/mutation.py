"""Do the tests notice when a formula is changed? Mutants of operators, likelihood and samplers.

`cosmic-ray` (extra ``jaxmap[mutation]``) changes one operator, comparison, number or keyword of a
module at a time, in a copy of the package, and the tests of that module are run until the first
failure. A mutant that none notices survives: the tests have a hole there, or the change makes no
difference; ``SURVIVORS`` says which. Those that were tried are kept: a larger number goes on, and
survivors are tried again, for tests may have been added.

    python experiments/mutation.py --num 30                          # of each module
    python experiments/mutation.py --modules likelihood.py           # one, the others kept
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, save
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).parents[1]
TESTS = {
    "operators.py": ["test_operators.py"],
    "likelihood.py": ["test_likelihood.py"],
    "sampling/diffusion.py": ["test_posterior.py"],
    "sampling/hmc.py": ["test_hmc.py"],
    "sampling/path_integral.py": ["test_hmc.py"],
    "sampling/probability_flow.py": ["test_annealing.py"],
    "sampling/rounds.py": ["test_annealing.py"],
    "sampling/annealing.py": ["test_annealing.py"],
    "sampling/schedule.py": ["test_annealing.py"],
}
"""The quick tests of a module; others that would notice too are not run."""

_START = "unfinished, advance, (start, jnp.inf + 0 * start[0, 0], jnp.asarray(0))"
_POSITIVE = "of weights, which are never negative, the same: no difference"
_TOTAL = "one, two = 1 / jnp.where(total {} 0, total, 1)"
_EVEN = "for an even number of intervals, and no other is allowed, the same: no difference"
_FITTING = "cooling=0.9, steps_per_level={}, step_size=0.35, step_power=0.0, num_leapfrog=6"
_MORE = "more = (number < settings.chunk) {} jnp.any(active_chains(state, settings))"
_ACCEPT = "accepted = jnp.log(jax.random.uniform(key_accept, (), dtype)) {} log_ratio"
SURVIVORS = {
    f"{_START} -> {_START.replace('0 * ', '1 * ')}": "infinite either way, for the iteration "
    "starts from zeros: no difference",
    "seen = weight > 0 -> seen = weight != 0": _POSITIVE,
    f"{_TOTAL.format('>')} -> {_TOTAL.format('!=')}": _POSITIVE,
    "weights = np.ones(num_intervals + 1) -> weights = np.ones(num_intervals ^ 1)": _EVEN,
    "weights[1:-1:2], weights[2:-1:2] = 4, 2 -> weights[1:-1:2], weights[2:~1:2] = 4, 2": _EVEN,
    f"{_FITTING.format(2)} -> {_FITTING.format(' 1')}": "a setting, no formula: half the steps at "
    "every level; experiments/gaussian_samplers.py judges those chosen",
    f"{_MORE.format('&')} -> {_MORE.format('*')}": "of truth values the same: no difference",
    f"{_ACCEPT.format('<')} -> {_ACCEPT.format('<=')}": "differs where the number drawn is 0, once "
    "in 8 million in float32, and a trajectory that diverged would be accepted",
}
"""Why a mutant may survive, by what it changes (the line before and after)."""

NO_CODE = ("BinaryOperator_BitOr", "RemoveDecorator")
"""``|`` stands in type hints alone, which nothing evaluates; without ``jax.jit`` all is the same,
but slower."""


def mutations(path: Path) -> list[MutationSpec]:
    """All that can be changed in a file."""
    tree = get_ast_from_path(path)
    found = []
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments() or any(part in name for part in NO_CODE):
            continue
        change = operator()
        places = (place for node in ast_nodes(tree) for place in change.mutation_positions(node))
        for number, (start, end) in enumerate(places):
            found.append(MutationSpec(path, name, number, start, end))
    return found


def changed_line(diff: str) -> str:
    """``line before -> line after`` of a mutant."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = ([x[1:].strip() for x in lines if x.startswith(sign)] for sign in "-+")
    return f"{' '.join(before)} -> {' '.join(after)}"


def line_of(mutation: MutationSpec) -> str:
    """`changed_line` of a mutant that is not tested."""
    return changed_line(mutate_and_test([mutation], "true", 60.0).diff)


def tested(package: Path, module: str, options: Any, kept: dict[str, Any]) -> dict[str, Any]:
    """Try the mutants of a module of a copy of the package that were not tried yet or survived."""
    path = package / module
    tests = [str(ROOT / "tests" / name) for name in TESTS[module]]
    settings = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not release")
    pytest = (sys.executable, "-m", "pytest", "--rootdir", str(ROOT))
    command = shlex.join([*pytest, *settings, *tests])
    began = time.perf_counter()
    outcome, output = run_tests(command, options.timeout)
    if outcome != TestOutcome.SURVIVED:
        raise SystemExit(f"the tests of {module} fail without any mutant:\n{output[-2000:]}")
    possible = mutations(path)
    random.Random(options.seed).shuffle(possible)
    if kept.get("possible") != len(possible) or kept.get("seed") != options.seed:
        kept = {"tried": 0, "survivors": {}, "seconds": 0}
    before = [one for one in possible[: kept["tried"]] if line_of(one) in kept["survivors"]]
    drawn = before + possible[kept["tried"] : options.num]
    survivors = []
    for mutation in drawn:
        result = mutate_and_test([mutation], command, options.timeout)
        if result.test_outcome == TestOutcome.SURVIVED:
            survivors.append(changed_line(result.diff))
            print(f"{module}: survived: {survivors[-1]}", flush=True)
    print(f"{module}: {len(drawn) - len(survivors)} of {len(drawn)} noticed", flush=True)
    return {
        "seed": options.seed,
        "possible": len(possible),
        "tried": kept["tried"] + len(drawn) - len(before),
        "survivors": survivors,
        "seconds": kept["seconds"] + round(time.perf_counter() - began),
    }


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 6, "help": "mutants of each module, drawn by the seed"},
        modules={"nargs": "*", "default": list(TESTS), "choices": TESTS},
        timeout={"type": float, "default": 300.0, "help": "seconds, after which it is noticed"},
    )
    if options.quick:
        options.num, options.modules = 1, options.modules[:1]
    kept = options.out / "mutation.json"
    found: dict[str, Any] = json.loads(kept.read_text())["modules"] if kept.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "jaxmap"
        shutil.copytree(ROOT / "jaxmap", package)
        # Not in the project's folder, whose package would go before the copy.
        os.chdir(folder)
        os.environ["PYTHONPATH"] = folder
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
        for module in options.modules:
            found[module] = tested(package, module, options, found.get(module, {}))
            for row in found.values():
                row["survivors"] = {
                    line: SURVIVORS.get(line, "not explained") for line in row["survivors"]
                }
            save(options, "mutation", {"modules": {name: found[name] for name in sorted(found)}})


if __name__ == "__main__":
    main()
