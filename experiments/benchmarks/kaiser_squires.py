"""Kaiser-Squires inversion against the two bare FFTs that it cannot do without.

Run from the repository root: ``python experiments/benchmarks/kaiser_squires.py`` (a minute).
Target: at most 1.5 times the FFTs.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from common import PIXEL_ARCMIN, arguments, interleaved, show, spread, table, write_json

from jaxmap.grid import Grid
from jaxmap.operators import convergence_from_shear

TARGET = 1.5


@jax.jit
def bare_ffts(shear: jax.Array) -> jax.Array:
    return jnp.fft.ifft2(jnp.fft.fft2(shear))


inversion = jax.jit(convergence_from_shear, static_argnames="grid")


def main() -> None:
    args = arguments("kaiser_squires", __doc__ or "")
    sizes = (32, 64) if args.quick else (128, 256, 512, 1024, 2048)
    rounds = 3 if args.quick else 21
    rng = np.random.default_rng(args.seed)
    jax.config.update("jax_enable_x64", True)  # the arrays' own precision decides
    rows, lines = [], []
    for dtype in (np.complex64, np.complex128):
        for size in sizes:
            parts = rng.normal(size=(2, size, size))
            shear = jnp.asarray(parts[0] + 1j * parts[1], dtype)
            grid = Grid(shear.shape, PIXEL_ARCMIN)
            seconds = interleaved(
                {"ffts": partial(bare_ffts, shear), "inversion": partial(inversion, shear, grid)},
                rounds,
            )
            row = {
                "precision": {"complex64": "float32", "complex128": "float64"}[shear.dtype.name],
                "size": size,
                "ffts_s": spread(seconds["ffts"]),
                "inversion_s": spread(seconds["inversion"]),
                "ratio": spread(seconds["inversion"] / seconds["ffts"]),
            }
            rows.append(row)
            milliseconds = (show(row[name], 1e3, 3) for name in ("ffts_s", "inversion_s"))
            lines.append((row["precision"], str(size), *milliseconds, show(row["ratio"])))
    head = ("precision", "pixels", "two FFTs [ms]", "Kaiser-Squires [ms]", "ratio")
    print(table(head, lines))
    worst = max(row["ratio"]["median"] for row in rows)
    print(f"largest ratio {worst:.2f}; target at most {TARGET}")
    write_json(args, rows, target_ratio=TARGET, largest_ratio=worst)


if __name__ == "__main__":
    main()
