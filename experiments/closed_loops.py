"""How far the score of the shipped denoiser is from a gradient: its circulation around loops.

Metropolis and Hastings with line integrals of a score sample a density as far as the score is a
gradient. Loops are parallelograms spanned by two displacements of the size of a sampler's moves: at
level sigma, differences of draws of a COSMOS-like Gaussian posterior, plus noise of that level;
they begin at a draw of the prior with noise. The circulation, in units of the log density, stands
beside the integrals along the four sides, beside the network's part in them (all but the score of
the denoiser's own Gaussian prior, which is a gradient), beside what Simpson's rule leaves in it,
and beside the circulation of the Gaussian score alone: the rounding. Sides shorter by a half
should have a quarter of it. Writes results/closed_loops.json.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, save

from jaxmap.catalog import ShearMap
from jaxmap.denoiser_files import read_denoiser
from jaxmap.gaussian_posterior import gaussian_fluctuation
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import DenoiserPrior
from jaxmap.prior import GaussianPrior
from jaxmap.sampling.path_integral import Score, closed_loop_integral, log_density_change
from jaxmap.spectra import mode_variance

GRID = Grid((64, 64), 0.29)
NOISE = 0.125
"""Of a pixel's shear component in COSMOS."""
LEVELS = (0.01, 0.03, 0.1, 0.3)
INTERVALS = 4


def main() -> None:
    options = arguments(__doc__)
    denoiser, _, _ = read_denoiser()
    learned = DenoiserPrior(denoiser, GRID)
    gaussian = GaussianPrior(mode_variance(denoiser.spectrum, GRID))
    key = jax.random.key(options.seed)
    num_loops = 2 if options.quick else 16
    levels = LEVELS[1:3] if options.quick else LEVELS
    figures = {
        "pixels": list(GRID.shape),
        "loops": num_loops,
        "intervals": INTERVALS,
        "by_level": {
            str(level): at_level(key, learned, gaussian, level, num_loops) for level in levels
        },
    }
    save(options, "closed_loops", figures)


@jax.jit
def one_loop(
    key: jax.Array, learned: DenoiserPrior, gaussian: GaussianPrior, level: jax.Array
) -> dict[str, jax.Array]:
    loop, half = (corners(key, gaussian, level, size) for size in (1.0, 0.5))
    around = partial(closed_loop_integral, sigma=level, num_intervals=INTERVALS)
    sides = side_integrals(learned.score, level, loop)
    finer = closed_loop_integral(learned.score, level, loop, 2 * INTERVALS)
    circulation = around(learned.score, corners=loop)
    return {
        "circulation": circulation,
        "change_with_twice_the_nodes": finer - circulation,
        "circulation_half_as_wide": around(learned.score, corners=half),
        "circulation_of_gaussian_score": around(gaussian.score, corners=loop),
        "side": sides,
        "side_of_the_network": sides - side_integrals(gaussian.score, level, loop),
    }


def at_level(
    key: jax.Array, learned: DenoiserPrior, gaussian: GaussianPrior, level: float, number: int
) -> dict[str, Any]:
    """Root mean squares over loops."""
    sigma = jnp.asarray(level, float)
    loops = [
        jax.tree.map(np.asarray, one_loop(jax.random.fold_in(key, i), learned, gaussian, sigma))
        for i in range(number)
    ]
    return {
        name: root_mean_square(np.stack([loop[name] for loop in loops]).reshape(number, -1))
        for name in loops[0]
    }


def corners(key: jax.Array, gaussian: GaussianPrior, level: jax.Array, size: float) -> jax.Array:
    """Of a parallelogram, shape ``(4, ny, nx)``."""
    keys = jax.random.split(key, 6)
    data = ShearMap(jnp.zeros(GRID.shape, complex), jnp.full((2, *GRID.shape), 1 / NOISE**2), GRID)

    def move(key_field: jax.Array, key_noise: jax.Array) -> jax.Array:
        white = jax.random.normal(key_noise, GRID.shape)
        # The difference of two draws has the square root of two times the width of one.
        step = gaussian_fluctuation(key_field, data, gaussian)[0] + level * (white - white.mean())
        return size * jnp.sqrt(2.0) * step

    start = gaussian.sample(keys[0]) + level * jax.random.normal(keys[1], GRID.shape)
    first, second = move(keys[2], keys[3]), move(keys[4], keys[5])
    return jnp.stack([start, start + first, start + first + second, start + second])


def side_integrals(score: Score, level: jax.Array, loop: jax.Array) -> jax.Array:
    """Along every side, shape ``(4,)``."""
    scores = jax.lax.map(lambda corner: score(corner, level), loop)
    side = partial(log_density_change, score, level, num_intervals=INTERVALS)

    def along(ends: tuple[jax.Array, ...]) -> jax.Array:
        return side(*ends)

    rolled = jnp.roll(loop, -1, axis=0), jnp.roll(scores, -1, axis=0)
    return jax.lax.map(along, (loop, rolled[0], scores, rolled[1]))


def root_mean_square(values: np.ndarray) -> dict[str, float]:
    """Over loops (and sides), with a standard error from the scatter between loops."""
    square, error = mean_and_error((values**2).mean(axis=1))
    root = np.sqrt(square)
    return {"rms": root, "standard_error": error / (2 * root) if root > 0 else 0.0}


if __name__ == "__main__":
    main()
