"""Is the shipped denoiser right for fields of any size? The slope of the truth on its mean.

For a posterior mean D of the truth x, <x D> = <D D> over fields, in every band of multipoles: an
exact condition that a mean square error hardly feels, and a sampler does, for errors of D along its
way add up in the power of the samples. Above 1, D is too small, and so are the samples.

Fields are periodic, of the light cone, sources and baryons of the shipped prior, of several sizes;
behind the middle of the real COSMOS mask with its noise and with white noise of a level of a
sampler's state (data), and with white noise only (prior). The Gaussian part of D, the Wiener
filter, is the control: its slopes are 1. Small periodic fields lack the long modes of a sky.

Writes results/field_sizes.json and .png.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, save
from cosmos_fields import cosmos_fields

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import Denoiser, denoise
from jaxmap.denoiser_files import read_denoiser
from jaxmap.grid import Grid
from jaxmap.posterior import information_of

SIDES = {128: 270, 192: 120, 360: 36}
"""Pixels of a field, and fields: about the same area."""
LEVELS = {"prior": (0.2, 0.1, 0.05, 0.02), "data": (2.0, 0.2, 0.1, 0.05, 0.02)}
BANDS = 600 * 2.0 ** np.arange(7)


def main() -> None:
    options = arguments(
        __doc__,
        seed=5,
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
    )
    denoiser, _, header = read_denoiser(options.weights)
    sides = {96: 16, 128: 16} if options.quick else SIDES
    figures = {
        "weights": header["sha256"],
        "bands": list(BANDS),
        "by_side": {
            str(side): of_side(options, denoiser, side, number) for side, number in sides.items()
        },
    }
    draw(figures).savefig(options.out / "field_sizes.png", dpi=110)
    save(options, "field_sizes", figures)


def of_side(options: Any, denoiser: Denoiser, side: int, number: int) -> dict[str, Any]:
    """Slopes by kind of noise and level, of the denoiser and of its Gaussian part."""
    fields = cosmos_fields(options, side)
    key = jax.random.fold_in(jax.random.key(options.seed), side)
    sums: dict[tuple[str, float], list[np.ndarray]] = {}
    for count in range(number):
        key_field, key_noise = jax.random.split(jax.random.fold_in(key, count))
        truth, shear = fields(key_field)
        for kind, levels in LEVELS.items():
            for level in levels:
                of_field = products(
                    key_noise, denoiser, truth, shear, level, float(kind == "data"), shear.grid
                )
                sums.setdefault((kind, level), []).append(np.asarray(of_field))
        print(f"{side} x {side} pixels, field {count + 1} of {number}", flush=True)
    return {
        kind: {str(level): slopes(np.stack(sums[kind, level])) for level in levels}
        for kind, levels in LEVELS.items()
    } | {"fields": number}


@partial(jax.jit, static_argnames="grid")
def products(
    key: jax.Array,
    denoiser: Denoiser,
    truth: jax.Array,
    data: ShearMap,
    level: float,
    share: float,
    grid: Grid,
) -> jax.Array:
    """<x D> and <D D> in bands for the denoiser and for its Gaussian part, shape ``(2, 2, n)``."""
    state = truth + level * jax.random.normal(key, truth.shape, truth.dtype)
    information = (state - jnp.mean(state)) / level**2 + share * information_of(data)
    result = denoise(denoiser, information, share * data.weight + 1 / level**2, grid)
    modes = jnp.fft.fft2(truth)
    band = jnp.digitize(jnp.abs(grid.ell()), BANDS) - 1

    def by_band(first: jax.Array, second: jax.Array) -> jax.Array:
        product = (first * second.conj()).real
        return jnp.stack([jnp.sum(product, where=band == n) for n in range(len(BANDS) - 1)])

    means = [jnp.fft.fft2(each) for each in (result.mean, result.wiener)]
    return jnp.stack([jnp.stack([by_band(modes, m), by_band(m, m)]) for m in means])


def slopes(products: np.ndarray) -> dict[str, Any]:
    """Ratios of sums over fields, with jackknife errors; shape of the argument ``(f, 2, 2, n)``."""
    total, number = products.sum(axis=0), len(products)
    without = total - products
    value = total[:, 0] / total[:, 1]
    off = without[:, :, 0] / without[:, :, 1]
    error = np.sqrt((number - 1) * off.var(axis=0))
    return {
        name: {"slope": list(value[row]), "error": list(error[row])}
        for row, name in enumerate(("denoiser", "wiener"))
    }


def draw(figures: dict[str, Any]) -> Any:
    figure = new_figure(11, 4)
    middle = np.sqrt(BANDS[1:] * BANDS[:-1])
    for place, (kind, level) in enumerate((("data", "2.0"), ("data", "0.1"), ("prior", "0.2"))):
        axes = figure.add_subplot(1, 3, place + 1)
        for shift, (side, rows) in enumerate(figures["by_side"].items()):
            row = rows[kind][level]["denoiser"]
            axes.errorbar(
                middle * 1.06 ** (shift - 1),
                row["slope"],
                row["error"],
                fmt="o-",
                label=f"{side} x {side} pixels",
            )
        axes.axhline(1, color="0.5", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_ylim(0.88, 1.2)
        axes.set_xlabel(r"multipole $\ell$")
        what = "COSMOS data" if kind == "data" else "no data"
        axes.set_title(f"{what}, noise {level}")
    figure.axes[0].set_ylabel(r"$\langle xD\rangle / \langle DD\rangle$")
    figure.axes[0].legend()
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
