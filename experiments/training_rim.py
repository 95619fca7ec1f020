"""What windows of given maps gain by keeping from the edges, where an FFT makes the shear wrong.

Cuts of larger Gaussian maps, as users' own maps are, are taken for periodic. Their shear against
that of the larger map, by distance from the edge; and the Wiener filter's mean square error on
windows with the one shear and with the other, by the rim that windows keep. Writes
results/training_rim.json and training_rim.png.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, mean_and_error, new_figure, save

from jaxmap.cosmology import convergence_power
from jaxmap.gaussian_posterior import solve_information
from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.simulation.fields import gaussian_field
from jaxmap.spectra import mode_variance
from jaxmap.training.denoising import information_from_shear
from jaxmap.training.layouts import Layout, cut_field

PIXEL = 0.29
SIDE, SKY = 256, 1024
WINDOW, MARGIN = 128, 32
RIMS = (0, 17, 64)
DISTANCES = (0, 1, 2, 4, 8, 17, 34, 64, 127)
NOISE = {"COSMOS": 0.12, "deep": 0.03}


def main() -> None:
    options = arguments(__doc__)
    spectrum = convergence_power()
    sky = Grid((SKY, SKY), PIXEL)
    draw = jax.jit(lambda key: shears(gaussian_field(key, spectrum, sky), sky))
    layout = Layout(SIDE, 1, window=WINDOW, margin=MARGIN)
    variance = mode_variance(spectrum, layout.grid(PIXEL))
    errors, losses = [], []
    for number in range(3 if options.quick else 24):
        key = jax.random.fold_in(jax.random.key(options.seed), number)
        convergence, true, periodic = draw(key)
        errors.append(by_distance(np.abs(periodic - true) ** 2) / np.mean(np.abs(true) ** 2))
        losses.append(
            [
                [
                    [float(loss(key, convergence, g, variance, noise, layout, rim)) for rim in RIMS]
                    for g in (true, periodic)
                ]
                for noise in NOISE.values()
            ]
        )
    ratio = np.divide(*np.array(losses).transpose(2, 0, 1, 3)[::-1])
    profile = np.sqrt(np.mean(errors, axis=0))
    figures = {
        "side": SIDE,
        "error_over_shear_by_distance_arcmin": {
            f"{PIXEL * d:.2f}": value for d, value in zip(DISTANCES, profile, strict=True)
        },
        "loss_ratio_by_rim_arcmin": {
            name: {
                f"{PIXEL * rim:.2f}": dict(
                    zip(("ratio", "error"), mean_and_error(ratio[:, i, j]), strict=True)
                )
                for j, rim in enumerate(RIMS)
            }
            for i, name in enumerate(NOISE)
        },
    }
    save(options, "training_rim", figures)
    figure = new_figure(5.5, 3.8)
    axes = figure.add_subplot()
    axes.plot(PIXEL * np.array(DISTANCES), profile, "o-")
    axes.set(xlabel="distance from the edge of the cut [arcmin]", ylim=(0, None))
    axes.set_ylabel("error of the shear / shear (rms)")
    figure.savefig(options.out / "training_rim.png", dpi=130, bbox_inches="tight")


def shears(whole, sky: Grid):
    """A cut, and its shear from all of the sky and from itself as if periodic."""
    inside = (slice(0, SIDE),) * 2
    cut = whole[inside] - jnp.mean(whole[inside])
    periodic = shear_from_convergence(cut, Grid((SIDE, SIDE), PIXEL))
    return cut, shear_from_convergence(whole, sky)[inside], periodic


def by_distance(square: np.ndarray) -> np.ndarray:
    """Means over the pixels of a square map at each of the distances from its edge."""
    from_edge = np.minimum(np.arange(SIDE), SIDE - 1 - np.arange(SIDE))
    distance = np.minimum.outer(from_edge, from_edge)
    return np.array([square[distance == d].mean() for d in DISTANCES])


@partial(jax.jit, static_argnums=(4, 5, 6))
def loss(key, convergence, shear, variance, noise: float, layout: Layout, rim: int):
    """Mean square error of the Wiener filter in a window."""
    inside = (slice(rim, rim + WINDOW),) * 2
    truth, _, window = cut_field(convergence, layout, PIXEL, rim)
    grid = layout.grid(PIXEL)
    precision = jnp.broadcast_to(window / noise**2, (2, *grid.shape))
    observed = jnp.pad(shear[inside], MARGIN)
    information = information_from_shear(key, observed, precision, grid)
    prior = GaussianPrior(variance)
    wiener, _ = solve_information(information, precision, grid, prior, tolerance=1e-4)
    return jnp.sum(window * (wiener - truth) ** 2) / jnp.sum(window)


if __name__ == "__main__":
    main()
