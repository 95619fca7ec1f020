"""Binning of a catalogue of COSMOS's size against five weighted histograms by NumPy.

Run from the repository root: ``python experiments/benchmarks/binning.py`` (seconds). Target: at
most 3 times ``numpy.bincount`` on indices of pixels known in advance.

Both sum w e1, w e2, w, w^2 and 1 in every pixel. Ours starts from positions, and also makes the
columns, drops galaxies off the grid and divides by the sums (`jaxmap.binning.weighted_mean_shear`,
float32); NumPy's histograms start from the finished columns (float64, which bincount works in).
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from common import (
    PIXEL_ARCMIN,
    SHAPE_NOISE,
    arguments,
    interleaved,
    show,
    spread,
    table,
    write_json,
)

from jaxmap.binning import weighted_mean_shear
from jaxmap.grid import Grid

TARGET = 3.0
LABELS = {
    "jaxmap": "weighted_mean_shear",
    "numpy": "5 bincounts",
    "numpy_with_index": "5 bincounts + index",
    "projection": "tangent-plane projection",
}


def main() -> None:
    args = arguments("binning", __doc__ or "")
    size, num_galaxies = (36, 4_000) if args.quick else (360, 417_000)
    rounds = 3 if args.quick else 21
    grid = Grid((size, size), PIXEL_ARCMIN, (150.0, 2.2))
    rng = np.random.default_rng(args.seed)
    # In no order on the sky, the worst case for memory access.
    half = 0.73 * size * PIXEL_ARCMIN / 60 / 2
    angle = np.radians(20)
    offset = rng.uniform(-half, half, num_galaxies) + 1j * rng.uniform(-half, half, num_galaxies)
    offset = offset * np.exp(1j * angle)
    ra = 150.0 + offset.real / np.cos(np.radians(2.2))
    dec = 2.2 + offset.imag
    ellipticity = SHAPE_NOISE * (rng.normal(size=(2, num_galaxies)))
    weight = rng.uniform(0.2, 1, num_galaxies)
    x, y = grid.pixel_position(ra, dec)

    on_device = (
        jnp.asarray(x, jnp.float32),
        jnp.asarray(y, jnp.float32),
        jnp.asarray(ellipticity[0] + 1j * ellipticity[1], jnp.complex64),
        jnp.asarray(weight, jnp.float32),
        jnp.full(2, SHAPE_NOISE, jnp.float32),
    )
    columns = [weight * ellipticity[0], weight * ellipticity[1], weight, weight**2]
    columns.append(np.ones(num_galaxies))

    def index() -> np.ndarray:
        column, row = np.floor(x + 0.5).astype(np.int64), np.floor(y + 0.5).astype(np.int64)
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        return np.where(inside, row * size + column, size * size)

    def histograms(pixel: np.ndarray) -> list[np.ndarray]:
        return [np.bincount(pixel, weights=w, minlength=size * size + 1) for w in columns]

    known = index()
    ours = weighted_mean_shear(*on_device, grid)
    theirs = histograms(known)[4][:-1].reshape(grid.shape)
    # Rounding to float32 may move a galaxy that lies on a border to the next pixel.
    moved = float(np.abs(np.asarray(ours[2]) - theirs).sum()) / 2
    assert moved <= max(1, 1e-4 * num_galaxies), f"{moved:g} galaxies lie in other pixels"

    seconds = interleaved(
        {
            "jaxmap": partial(weighted_mean_shear, *on_device, grid),
            "numpy": partial(histograms, known),
            "numpy_with_index": lambda: histograms(index()),
            "projection": lambda: grid.pixel_position(ra, dec),
        },
        rounds,
    )
    rows = [
        {
            "step": name,
            "seconds": spread(values),
            "over_numpy": spread(values / seconds["numpy"]),
            "over_numpy_with_index": spread(values / seconds["numpy_with_index"]),
        }
        for name, values in seconds.items()
    ]
    print(f"{num_galaxies} galaxies on {size} x {size} pixels")
    lines = [
        (
            LABELS[row["step"]],
            show(row["seconds"], 1e3),
            show(row["over_numpy"]),
            show(row["over_numpy_with_index"]),
        )
        for row in rows
    ]
    print(table(("", "ms", "/ bincounts", "/ (bincounts + index)"), lines))
    ratio = rows[0]["over_numpy"]["median"]
    print(f"ratio to the bincounts {ratio:.2f}; target at most {TARGET:g}")
    write_json(args, rows, num_galaxies=num_galaxies, size=size, target_ratio=TARGET, ratio=ratio)


if __name__ == "__main__":
    main()
