"""Score matching where the answer is known: two moons and a swiss roll (Remy et al., Figs. 1, C.1).

Small networks learn the score of points in the plane by the package's own loss and training loop,
and are compared with the exact score of the same points smoothed by the noise: near the points,
where training sees examples, and far from them, where it does not. On the two moons the score
denoises. The swiss roll is learned without and with a limit on the kernels' spectral norm, from
noise that reaches far from the points and from noise that does not, several times each; how far
these trainings differ shows what the data leave open. Writes results/score_toys.json and .png.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save

from jaxmap.networks.mlp import PointNetwork, initialise_points, point_score
from jaxmap.networks.optimiser import Schedule
from jaxmap.training.loop import train
from jaxmap.training.score_matching import Score, score_matching_task
from jaxmap.training.settings import ScoreMatching

NUM_POINTS, BATCH = 1000, 128
SPREADS = {"wide": 0.3, "narrow": 0.02}  # of the noise levels in training
LEVELS = (0.1, 0.3)  # of the noise, at which scores are compared
NEAR, FAR = 0.2, 1.0  # distances from the nearest point
HALF_WIDTH, LATTICE = 3.0, 61  # square that they are compared in
KERNEL_NORMS = (0.0, 3.0, 2.0)  # limits on the kernels, 0 for none
MOON_LEVEL = 0.2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Points:
    """A set of points, shape ``(num, 2)``."""

    points: jax.Array

    def draw(self, key: jax.Array) -> jax.Array:
        """One of them."""
        return jax.random.choice(key, self.points)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """The exact score of the set, smoothed by the noise."""
        offset = self.points - x[None]
        weight = jax.nn.softmax(-0.5 * jnp.sum(offset**2, axis=-1) / sigma**2)
        return weight @ offset / sigma**2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PointScore:
    """A learned score."""

    params: Any
    network: PointNetwork = field(default=PointNetwork(), metadata={"static": True})

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        return point_score(self.network, self.params, x, sigma)


def two_moons(rng: np.random.Generator, num: int) -> np.ndarray:
    """Two half circles, one reaching into the other."""
    angle = np.pi * rng.uniform(size=num)
    upper = rng.uniform(size=num) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    return np.stack([x, y], axis=-1) + 0.05 * rng.normal(size=(num, 2))


def swiss_roll(rng: np.random.Generator, num: int) -> np.ndarray:
    """A spiral of one and a half turns."""
    angle = 1.5 * np.pi * (1 + 2 * rng.uniform(size=num))
    roll = 0.1 * angle * np.stack([np.cos(angle), np.sin(angle)])
    return roll.T + 0.05 * rng.normal(size=(num, 2))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Nothing:
    """No score at all: the loss is then 1."""

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)


def learn(
    seed: int, points: Points, matching: ScoreMatching, num_steps: int
) -> tuple[PointScore, dict]:
    """Train a network on a set of points; the score and its last validation."""
    key = jax.random.key(seed)
    fresh = PointScore(initialise_points(PointNetwork(), jax.random.fold_in(key, 1), 2))
    schedule = Schedule(num_steps, warmup_steps=100, decay_steps=num_steps // 4)
    task = score_matching_task(
        key,
        fresh,
        Nothing(),
        points,
        points,
        batch=BATCH,
        matching=matching,
        schedule=schedule,
        validation_batches=32,
    )
    record = {"settings": {"schedule": {"num_steps": num_steps}}}
    with tempfile.TemporaryDirectory() as folder:
        params = train(task, schedule, Path(folder), record, checkpoint_every=num_steps)
    return PointScore(params), task.validate(params)


@jax.jit
def field_of(score: Score, x: jax.Array, sigma: float) -> jax.Array:
    return jax.vmap(lambda point: score.score(point, sigma))(x)


def two_moons_figures(rng: np.random.Generator, learned: PointScore, points: Points) -> dict:
    """Denoising by the learned and by the exact score (Eq. 18), in units of the noise."""
    clean = jnp.asarray(two_moons(rng, 4000), jnp.float32)
    noise = jnp.asarray(rng.normal(size=clean.shape), jnp.float32)
    noisy = clean + MOON_LEVEL * noise

    def error(score: Score) -> tuple[float, float]:
        denoised = noisy + MOON_LEVEL**2 * field_of(score, noisy, MOON_LEVEL)
        return mean_and_error(np.mean((denoised - clean) ** 2, axis=-1) / MOON_LEVEL**2)

    found = {"learned": error(learned), "exact": error(points)}
    return {
        "sigma": MOON_LEVEL,
        **{
            f"square_error_{name}": {"value": value, "standard_error": deviation}
            for name, (value, deviation) in found.items()
        },
    }


def swiss_roll_figures(trained: list[PointScore], points: Points) -> dict:
    """Errors near and far, relative to the exact score's rms, and how trainings differ.

    ``steepness`` is the largest change of sigma times the score between neighbours of the lattice,
    over their distance: what a limit on the kernels is to bound.
    """
    lattice = square()
    distance = jnp.min(jnp.linalg.norm(lattice[:, None] - points.points[None], axis=-1), axis=1)
    rows: dict = {}
    for sigma in LEVELS:
        exact = field_of(points, lattice, sigma)
        found = np.stack([field_of(score, lattice, sigma) for score in trained])
        row = {"steepness": sigma * np.mean([steepness(field) for field in found])}
        for name, chosen in (("near", distance < NEAR), ("far", distance > FAR)):
            a, b = np.asarray(exact[chosen]), found[:, chosen]
            errors = np.sqrt(np.sum((b - a) ** 2, axis=(1, 2)) / np.sum(a**2))
            angles = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
            value, deviation = mean_and_error(errors)
            row[name] = {
                "relative_error": {"value": value, "standard_error": deviation},
                "mean_cosine": angles.mean(),
                "size": np.sqrt(np.mean(np.sum(b**2, axis=(1, 2))) / np.sum(a**2)),
                "scatter_between_trainings": np.sqrt(
                    np.sum(np.var(b, axis=0, ddof=1)) / np.mean(np.sum(b**2, axis=(1, 2)))
                ),
            }
        rows[f"sigma_{sigma}"] = row
    return rows


def steepness(field: np.ndarray) -> float:
    grid = field.reshape(LATTICE, LATTICE, 2)
    step = 2 * HALF_WIDTH / (LATTICE - 1)
    changes = (np.linalg.norm(np.diff(grid, axis=axis), axis=-1).max() for axis in (0, 1))
    return float(max(changes) / step)


def square(num: int = LATTICE) -> jax.Array:
    """Points of a square lattice, shape ``(num * num, 2)``."""
    side = np.linspace(-HALF_WIDTH, HALF_WIDTH, num, dtype=np.float32)
    return jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)


def draw(path: Path, moons: tuple[Points, PointScore], roll: Points, scores: dict) -> None:
    """Fig. 1 of the paper, and Fig. C.1 with the exact score beside it."""
    figure = new_figure(13, 9)
    axes = figure.subplots(2, 3).T.ravel()
    points, learned = moons
    arrows(axes[0], points, learned, MOON_LEVEL, 1.9)
    noisy = jnp.asarray([[-1.1, 1.2], [0.1, -1.1], [1.5, 0.8], [-0.1, 0.35]])
    denoised = noisy + MOON_LEVEL**2 * field_of(learned, noisy, MOON_LEVEL)
    axes[0].quiver(
        *noisy.T, *(denoised - noisy).T, angles="xy", scale_units="xy", scale=1, width=0.008
    )
    axes[0].plot(*noisy.T, "o", color="tab:red", label="noisy")
    axes[0].plot(*denoised.T, "o", color="tab:orange", label="denoised")
    axes[0].legend(loc="lower left")
    axes[0].set_title(rf"two moons, learned, $\sigma$ = {MOON_LEVEL}")
    for axis, (title, score) in zip(axes[1:], scores.items(), strict=True):
        arrows(axis, roll, score, LEVELS[0], HALF_WIDTH)
        axis.set_title(rf"swiss roll, {title}, $\sigma$ = {LEVELS[0]}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def arrows(axis: Any, points: Points, score: Score, sigma: float, half_width: float) -> None:
    """Points, and sigma times the score; long arrows are cut."""
    lattice = square(27) * half_width / HALF_WIDTH
    field = np.asarray(sigma * field_of(score, lattice, sigma))
    length = np.linalg.norm(field, axis=-1, keepdims=True)
    field = field * np.minimum(1, 4 / length)
    axis.plot(*points.points.T, ".", markersize=2, color="tab:blue", alpha=0.6)
    axis.quiver(*lattice.T, *field.T, scale=80, width=0.003)
    axis.set(xlim=(-half_width, half_width), ylim=(-half_width, half_width), aspect="equal")


def main() -> None:
    options = arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    num_steps, repeats = (300, 2) if options.quick else (4000, 3)
    moons, roll = (
        Points(jnp.asarray(make(rng, NUM_POINTS), jnp.float32)) for make in (two_moons, swiss_roll)
    )
    moon_score, _ = learn(options.seed, moons, ScoreMatching(SPREADS["wide"], 0.0), num_steps)
    trained, rows = {}, {}
    for noise, limit in product(SPREADS, KERNEL_NORMS):
        matching = ScoreMatching(SPREADS[noise], limit)
        seeds = range(options.seed + 1, options.seed + 1 + repeats)
        runs = [learn(seed, roll, matching, num_steps) for seed in seeds]
        trained[noise, limit] = [score for score, _ in runs]
        loss, error = mean_and_error(np.asarray([figures["loss"] for _, figures in runs]))
        rows.setdefault(f"{noise}_noise", {})[f"limit_{limit:g}" if limit else "no_limit"] = {
            "loss": {"value": loss, "standard_error": error},
            **swiss_roll_figures(trained[noise, limit], roll),
        }
    figures = {
        "steps": num_steps,
        "trainings": repeats,
        "spread_of_noise": SPREADS,
        "two_moons": two_moons_figures(rng, moon_score, moons),
        "swiss_roll": rows,
    }
    save(options, "score_toys", figures)
    scores: dict[str, Score] = {"exact": roll}
    for noise, limit in product(SPREADS, (KERNEL_NORMS[0], KERNEL_NORMS[-1])):
        kernels = rf"spectral norms $\leq$ {limit:g}" if limit else "no limit"
        scores[f"{noise} noise, {kernels}"] = trained[noise, limit][0]
    draw(options.out / "score_toys.png", (moons, moon_score), roll, scores)


if __name__ == "__main__":
    main()
