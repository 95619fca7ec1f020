"""Solvers of the Wiener equation at equal accuracy: iterations and time to a given map error.

Run from the repository root: ``python experiments/benchmarks/wiener_solvers.py`` (some minutes).

The map error is the rms difference over the survey's frame from a float64 solution by conjugate
gradients to a residual of 1e-13, relative to that solution's rms; proximal iteration in float64
confirms the solution. Every solver then runs in float32 with ``tolerance=0``: the fewest iterations
that reach a target are found by doubling and bisecting ``max_iterations``, and the jitted solve of
just that many is timed. The messenger's cooling schedule does not depend on ``max_iterations``, so
cutting it short is all that is tuned per target; a schedule that cools about 6 times as fast is a
contender of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    PIXEL_ARCMIN,
    arguments,
    interleaved,
    on_host,
    show,
    spread,
    survey,
    table,
    write_json,
)

from jaxmap.catalog import ShearMap
from jaxmap.estimators import pad_shear
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance
from jaxmap.wiener_solvers import solve_messenger, solve_proximal

SOLVERS: dict[str, Callable[..., Any]] = {
    "conjugate gradients": solve_conjugate_gradient,
    "proximal": solve_proximal,
    "messenger": solve_messenger,
    "messenger, fast cooling": partial(solve_messenger, cooling=0.5, steps_per_level=1),
}
TARGETS = (1e-2, 1e-3, 1e-4)
MOST_ITERATIONS = 20_000


def reference(data: ShearMap, prior: GaussianPrior) -> tuple[np.ndarray, float, float]:
    """The float64 solution, its residual, and its rms difference from the proximal one."""
    with jax.enable_x64(True):
        data, prior = jax.tree.map(jnp.asarray, on_host((data, prior), np.float64))
        exact, info = jax.jit(partial(solve_conjugate_gradient, tolerance=1e-13))(data, prior)
        other, _ = jax.jit(partial(solve_proximal, tolerance=1e-11))(data, prior)
        return np.asarray(exact), float(info.residual), relative_error(other, np.asarray(exact))


def relative_error(convergence: jax.Array, exact: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(convergence, float) - exact) / np.linalg.norm(exact))


def fewest(error_after: Callable[[int], float], target: float, start: int) -> int | None:
    """The least number of steps >= start that reaches the target, by doubling and bisection."""
    below, above = start - 1, start
    while error_after(above) > target:
        if above >= MOST_ITERATIONS:
            return None
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        reached = error_after(middle) <= target
        below, above = (below, middle) if reached else (middle, above)
    return above


def main() -> None:
    args = arguments("wiener_solvers", __doc__ or "")
    size = 32 if args.quick else 360
    rounds = 2 if args.quick else 7
    shear, spectrum = survey(size, args.seed)
    data, margin = pad_shear(shear, None)
    prior = GaussianPrior(mode_variance(spectrum, data.grid))
    frame = (slice(margin, margin + size),) * 2
    exact, residual, difference = reference(data, prior)
    observed = float(jnp.mean(shear.mask))
    print(
        f"{size} x {size} pixels of {PIXEL_ARCMIN} arcmin, {observed:.0%} observed, solved on "
        f"{data.grid.shape[0]} x {data.grid.shape[1]}; reference: residual {residual:.1e}, "
        f"{difference:.1e} from the proximal solution"
    )

    def solve_with(solver: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(
            lambda data, prior, most: solver(data, prior, tolerance=0.0, max_iterations=most)
        )

    def error_after(solve: Callable[..., Any], count: int) -> float:
        return relative_error(solve(data, prior, count)[0][frame], exact[frame])

    solves = {name: solve_with(solver) for name, solver in SOLVERS.items()}
    counts: dict[tuple[str, float], int] = {}
    for name, solve in solves.items():
        count: int | None = 1
        for target in TARGETS:
            count = fewest(partial(error_after, solve), target, count)
            if count is None:
                print(f"{name}: not within {target:g} after {MOST_ITERATIONS} steps")
                break
            counts[name, target] = count
    seconds = interleaved(
        {case: partial(solves[case[0]], data, prior, count) for case, count in counts.items()},
        rounds,
    )
    rows, lines = [], []
    for name, target in sorted(counts, key=lambda case: -case[1]):
        mine = seconds[name, target]
        solution, info = solves[name](data, prior, counts[name, target])
        row = {
            "solver": name,
            "target_error": target,
            "iterations": counts[name, target],
            "seconds": spread(mine),
            "time_over_conjugate_gradients": spread(mine / seconds["conjugate gradients", target]),
            "error": relative_error(solution[frame], exact[frame]),
            "residual": float(info.residual) if np.isfinite(info.residual) else None,
        }
        rows.append(row)
        lines.append(
            (
                name,
                f"{target:.0e}",
                str(row["iterations"]),
                show(row["seconds"], 1e3, 1),
                show(row["time_over_conjugate_gradients"], 1, 1),
                f"{row['error']:.1e}",
                "-" if row["residual"] is None else f"{row['residual']:.1e}",
            )
        )
    print(table(("solver", "target", "steps", "ms", "/ CG", "map error", "residual"), lines))
    write_json(
        args,
        rows,
        size=size,
        solved_size=data.grid.shape[0],
        observed_fraction=observed,
        galaxies_per_pixel=float(jnp.sum(shear.counts) / jnp.sum(shear.mask)),
        reference_residual=residual,
        reference_difference=difference,
    )


if __name__ == "__main__":
    main()
