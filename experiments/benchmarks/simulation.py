"""Simulated maps per second, and memory against their number.

Run from the repository root: ``python experiments/benchmarks/simulation.py`` (some minutes).

Fields of 360 x 360 pixels of 0.29 arcmin, four cut from every periodic sky of 720 x 720, n(z) of
COSMOS. The shell lognormal is what GLASS (Tessore et al. 2023) does on the sphere, here on the flat
sky, which GLASS does not have: Gaussian fields with the spectra of the shells, exponentiated and
summed with their lensing weights; no map of GLASS itself is timed. It has the light cone's own
shells and nothing for the haloes, once in numpy, as GLASS is, and once in JAX. All are in single
precision. Time to build a simulator and to compile is given apart; memory is the peak of a fresh
process that writes N maps.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    PIXEL_ARCMIN,
    arguments,
    in_fresh_process,
    interleaved,
    peak_bytes,
    show,
    spread,
    table,
    write_json,
)

from jaxmap.grid import Grid
from jaxmap.production.maps import produce_maps
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import LightCone
from jaxmap.simulation.recipe import KINDS, map_recipe
from jaxmap.simulation.streaming import build_simulator


@jax.jit
def shells_in_jax(key: jax.Array, cone: LightCone) -> jax.Array:
    """The light cone without its haloes."""

    def add(total: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        amplitude = cone.amplitude[number]
        white = jax.random.normal(jax.random.fold_in(key, number), (2, *amplitude.shape))
        gaussian = jnp.fft.irfft2(amplitude * jax.lax.complex(white[0], white[1]), cone.grid.shape)
        matter = cone.shift * jnp.expm1(gaussian - cone.variance[number] / 2)
        return total + cone.weight[number] * matter, None

    numbers = jnp.arange(cone.weight.shape[0])
    return jax.lax.scan(add, jnp.zeros(cone.grid.shape, cone.amplitude.dtype), numbers)[0]


def shells_in_numpy(
    rng: np.random.Generator, cone: LightCone, amplitudes: np.ndarray
) -> np.ndarray:
    """The same by numpy's FFT and random numbers."""
    shape = cone.grid.shape
    total = np.zeros(shape, np.float32)
    weights, variances, shift = np.asarray(cone.weight), np.asarray(cone.variance), cone.shift
    for weight, variance, amplitude in zip(weights, variances, amplitudes, strict=True):
        modes = np.empty(amplitude.shape, np.complex64)
        modes.real = amplitude * rng.standard_normal(amplitude.shape, np.float32)
        modes.imag = amplitude * rng.standard_normal(amplitude.shape, np.float32)
        gaussian = np.fft.irfft2(modes, shape)
        total += weight * float(shift) * np.expm1(gaussian - variance / 2)
    return total


def cpu_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Of all threads, per call."""
    start = time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.process_time() - start) / repeats


def peak_of_production(kind: str, size: int, num_maps: int, seed: int) -> int:
    """Peak memory of a process that writes maps."""
    recipe = map_recipe(Grid((size, size), PIXEL_ARCMIN), kind, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        produce_maps(recipe, folder, range(num_maps))
    return peak_bytes()


def main() -> None:
    args = arguments("simulation", __doc__ or "")
    size = 48 if args.quick else 360
    rounds = 2 if args.quick else 9
    numbers = (4, 8) if args.quick else (8, 128, 256)
    field = Grid((size, size), PIXEL_ARCMIN)
    sky = Grid((2 * size, 2 * size), PIXEL_ARCMIN)
    key, rng = jax.random.key(args.seed), np.random.default_rng(args.seed)

    # First, while this process is small: a child begins with its parent's peak.
    memory = []
    for kind in ("light-cone", "lognormal"):
        for num_maps in numbers:
            peak = in_fresh_process(peak_of_production, kind, size, num_maps, args.seed)
            memory.append({"kind": kind, "num_maps": num_maps, "peak_bytes": peak})
            print(f"{kind:>10}, {num_maps:>3} maps written: peak {peak / 1e6:.0f} MB", flush=True)

    start = time.perf_counter()
    cone = build_light_cone(sky)
    seconds_to_build = time.perf_counter() - start
    amplitudes = np.asarray(cone.amplitude)
    draws = {kind: build_simulator(map_recipe(field, kind)).draw for kind in KINDS}
    contenders: dict[str, Callable[[], Any]] = {
        "halo light cone": partial(draws["light-cone"], key),
        "shell lognormal, JAX": partial(shells_in_jax, key, cone),
        "shell lognormal, numpy": partial(shells_in_numpy, rng, cone, amplitudes),
        "lognormal": partial(draws["lognormal"], key),
        "Gaussian": partial(draws["gaussian"], key),
    }
    start = time.perf_counter()
    jax.block_until_ready(contenders["halo light cone"]())
    seconds_to_compile = time.perf_counter() - start
    seconds = interleaved(contenders, rounds)
    rows, lines = [], []
    for name, call in contenders.items():
        per_map = spread(seconds[name] / 4)
        cpu = cpu_seconds(call, rounds) / 4
        row = {
            "simulator": name,
            "seconds_per_map": per_map,
            "maps_per_second": 1 / per_map["median"],
            "cpu_seconds_per_map": cpu,
        }
        rows.append(row)
        lines.append(
            (name, show(per_map, 1e3, 1), f"{row['maps_per_second']:.1f}", f"{1e3 * cpu:.1f}")
        )
    print(f"{size} x {size} pixels of {PIXEL_ARCMIN} arcmin, {len(amplitudes)} shells")
    print(table(("simulator", "ms per map", "maps per s", "CPU ms per map"), lines))
    print(f"light cone: {seconds_to_build:.1f} s to build, {seconds_to_compile:.1f} s to compile")

    write_json(
        args,
        rows,
        size=size,
        num_shells=len(amplitudes),
        seconds_to_build=seconds_to_build,
        seconds_to_compile=seconds_to_compile,
        memory=memory,
    )


if __name__ == "__main__":
    main()
