"""Annealing on two moons and a swiss roll with the exact scores of points (Remy et al., Fig. 2).

All chains start at one end of the points and follow their smoothed density as it sharpens; the
probability flow takes off the last noise. They should end spread over the points as fresh draws
from them are. The control makes as many steps at the last level alone. Writes
results/annealing.json and annealing.png.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, save
from jax.tree_util import Partial

from jaxmap.sampling.annealing import anneal, begin, finish, sample_annealed
from jaxmap.sampling.path_integral import closed_loop_integral
from jaxmap.sampling.schedule import AnnealingSettings

SHOWN = (1.0, 0.3, 0.1, 0.03)
"""Levels of the panels."""

WARM = AnnealingSettings(
    sigma_start=1.5,
    sigma_floor=0.03,
    cooling=0.9,
    steps_per_level=12,
    step_size=0.6,
    step_power=1.0,
    chunk=1,
)
COLD = AnnealingSettings(
    sigma_start=WARM.sigma_floor,
    sigma_floor=WARM.sigma_floor,
    steps_per_level=WARM.steps_per_level * len(WARM.sigmas),
    step_size=WARM.step_size * WARM.sigma_floor / WARM.sigma_start,
    num_leapfrog=WARM.num_leapfrog,
)


def main() -> None:
    options = arguments(__doc__)
    num_chains = 200 if options.quick else 1000
    figures, panels = {}, {}
    for name, points in {"two_moons": two_moons(), "swiss_roll": swiss_roll()}.items():
        score = Partial(point_score, jnp.asarray(points))
        start = jnp.tile(points[-1], (num_chains, 1))
        key = jax.random.key(options.seed)
        samples, info, shown = annealed(key, start, score)
        control, _ = sample_annealed(key, start, score, COLD)
        rng = np.random.default_rng(options.seed)
        figures[name] = {
            "num_chains": num_chains,
            "finished": int(info.finished.sum()),
            "steps": float(info.steps.mean()),
            "evaluations": float(info.evaluations.mean()),
            "acceptance": float(info.statistics.acceptance.mean()),
            "largest_distance_to_a_point": float(distance(samples, points).max()),
            "energy_distance_z": against_draws(rng, np.asarray(samples), points),
            "energy_distance_z_without_annealing": against_draws(rng, np.asarray(control), points),
            "circulation_around_unit_square": circulation(score),
        }
        panels[name] = (points, score, {**shown, 0.0: samples})
    figures["two_moons"]["share_of_points_above"] = above(two_moons())
    figures["two_moons"]["share_of_chains_above"] = above(panels["two_moons"][2][0.0])
    save(options, "annealing", figures)
    draw(options.out / "annealing.png", panels)


def two_moons() -> np.ndarray:
    """Two half circles, 350 points in the upper and 150 in the lower."""
    upper, lower = (np.linspace(0, np.pi, number) for number in (350, 150))
    first = np.stack([np.cos(upper) - 0.5, np.sin(upper) + 0.1], axis=1)
    second = np.stack([0.5 - np.cos(lower), -np.sin(lower) - 0.1], axis=1)
    return np.concatenate([first, second])


def swiss_roll() -> np.ndarray:
    """A spiral of one and a half turns, evenly filled in angle."""
    angle = np.linspace(1.5 * np.pi, 4.5 * np.pi, 600)
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 8


def point_score(points: jax.Array, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Score of equal point masses convolved with N(0, sigma^2)."""
    towards = points - x[None]
    weight = jax.nn.softmax(-jnp.sum(towards**2, axis=1) / (2 * sigma**2))
    return weight @ towards / sigma**2


def annealed(key, start, score):
    """Samples, how the chains went, and where they stood at the levels of the panels."""
    state = begin(start, score, WARM)
    shown = {}
    for latest in anneal(key, state, score, WARM):
        for level in SHOWN:
            if jnp.median(state.chain.sigma) > level >= jnp.median(latest.chain.sigma):
                shown[level] = latest.chain.position
        state = latest
    return *finish(state, score, WARM), shown


def distance(samples, points) -> np.ndarray:
    return np.linalg.norm(np.asarray(samples)[:, None] - points, axis=2).min(axis=1)


def above(positions) -> float:
    return float(np.mean(np.asarray(positions)[:, 1] > 0))


def energy_distance(one: np.ndarray, two: np.ndarray) -> float:
    """Of two sets of positions: 0 for equal laws, and else positive (Szekely & Rizzo 2013)."""

    def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
        return np.mean(np.hypot(*(a[:, None] - b).transpose(2, 0, 1)))

    return 2 * mean_distance(one, two) - mean_distance(one, one) - mean_distance(two, two)


def against_draws(rng, samples: np.ndarray, points: np.ndarray) -> float:
    """Energy distance of the samples from the points, in standard deviations of that of as many
    fresh draws, from their mean."""
    reference = [
        energy_distance(points[rng.integers(len(points), size=len(samples))], points)
        for _ in range(20)
    ]
    found = energy_distance(samples, points)
    return float((found - np.mean(reference)) / np.std(reference, ddof=1))


def circulation(score) -> float:
    """The exact score is a gradient; what is left is the error of Simpson's rule."""
    corners = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return float(closed_loop_integral(score, 0.3, corners, num_intervals=128))


def draw(path, panels) -> None:
    figure = new_figure(15, 6.4)
    for row, (points, score, shown) in enumerate(panels.values()):
        for column, (sigma, chains) in enumerate(shown.items()):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + column + 1)
            if sigma > 0:
                background(axes, points, score, sigma)
            else:
                axes.plot(*points.T, ".", color="steelblue", markersize=1)
            axes.plot(*np.asarray(chains)[:200].T, ".", color="darkorange", markersize=3)
            axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
            axes.set_title(rf"$\sigma = {sigma:g}$" if sigma else "after the probability flow")
    figure.tight_layout()
    figure.savefig(path, dpi=75)


def background(axes, points, score, sigma: float) -> None:
    """The smoothed density, and its score as arrows of which only the directions are drawn."""
    fine, coarse = (
        np.stack(np.meshgrid(line, line), axis=-1)
        for line in (np.linspace(-2.4, 2.4, 120), np.linspace(-2.2, 2.2, 16))
    )
    squares = np.sum((fine[:, :, None] - points) ** 2, axis=3)
    axes.imshow(
        np.exp(-squares / (2 * sigma**2)).mean(axis=2) ** 0.5,
        extent=(-2.4, 2.4, -2.4, 2.4),
        origin="lower",
        cmap="Blues",
    )
    arrows = jax.vmap(lambda x: score(x, jnp.asarray(sigma)))(jnp.asarray(coarse.reshape(-1, 2)))
    arrows /= jnp.linalg.norm(arrows, axis=1, keepdims=True)
    axes.quiver(*coarse.reshape(-1, 2).T, *np.asarray(arrows).T, color="0.35", width=0.003)


if __name__ == "__main__":
    main()
