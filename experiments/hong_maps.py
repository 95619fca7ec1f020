"""Convergence maps that fields about clusters are cut out of, and the flags that name them.

Sources at redshift 1.5: maps that the shipped network was trained on, and others held out. A full
run without them says how to make them; a quick one simulates four small ones, for both.
"""

from __future__ import annotations

import argparse
import shlex
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE

from jaxmap.cli import main as jaxmap
from jaxmap.cluster_network import SHIPPED
from jaxmap.reading.maps.source import open_maps
from jaxmap.simulation.cluster_fields import ClusterSky, cut_clusters
from jaxmap.spectra import PowerSpectrum
from jaxmap.training.smooth_power import smooth_power

SIDE = 84
SOURCES = "z n\n1.48 0\n1.49 1\n1.51 1\n1.52 0\n"
MAPS = {"maps": (32, 9015), "training": (160, 15)}
"""How many, and their seed."""


def paths(text: str) -> tuple[Path, ...]:
    """Files with commas between them, or patterns of their names."""
    found = [sorted(glob(part)) or [part] for part in text.split(",")]
    return tuple(Path(name) for names in found for name in names)


RUNS = HERE.parent / "runs" / "hong"
HELD_OUT: dict[str, Any] = {
    "maps": {"type": Path, "default": RUNS / "held_out", "help": "default: %(default)s"}
}
TRAINED: dict[str, Any] = {
    "training": {"type": Path, "default": RUNS / "maps", "help": "maps that were trained on"},
    "weights": {
        "type": paths,
        "default": (HERE.parent / "jaxmap" / "data" / SHIPPED,),
        "help": "of networks, with commas, or patterns of names; default: the shipped one. Those "
        "of one architecture and loss are independent runs (hong_runs.py): hong.py takes their "
        "mean map and gives their scatter, the other scripts take the first",
    },
}
"""Flags of `common.arguments`."""


def held_out(options: argparse.Namespace, num: int) -> ClusterSky:
    """Clusters of maps that no network was trained on."""
    source = maps_at(options, "maps")
    maps = np.stack([source[n] for n in range(min(len(source), 1 + num // 8))])
    skies = cut_clusters(maps, source.pixel_arcmin, SIDE)
    if len(skies.convergence) < num:
        raise SystemExit(
            f"the maps have {len(skies.convergence)} clusters, not {num}; make more maps"
        )
    return skies


def spectrum_of(options: argparse.Namespace) -> PowerSpectrum:
    """Of maps that were trained on."""
    source = maps_at(options, "training")
    maps = np.stack([source[n] for n in range(min(len(source), 20))])
    return smooth_power(maps, source.pixel_arcmin)


def maps_at(options: argparse.Namespace, name: str) -> Any:
    """The maps of an argument, of `MAPS`."""
    folder, (num, seed) = getattr(options, name), MAPS[name]
    if glob(str(folder)):
        return open_maps(str(folder))
    if not options.quick:
        command = shlex.join(["jaxmap", *simulation(num, 512, seed, Path("z15.txt"), folder)])
        raise SystemExit(
            f"there are no maps at {folder}; give a folder of them (--{name}), or make them, in "
            f"some minutes:\n  printf {SOURCES!r} > z15.txt\n  {command}"
        )
    return open_maps(str(small_maps(options.out)))


@cache
def small_maps(out: Path) -> Path:
    """Four maps with some ten clusters each, simulated if they are not there; their folder."""
    folder, redshifts = out / "maps", out / "z15.txt"
    redshifts.write_text(SOURCES)
    if jaxmap(simulation(4, 256, 9015, redshifts, folder)):
        raise SystemExit(f"the maps of a quick run could not be simulated into {folder}")
    return folder


def simulation(num: int, side: int, seed: int, redshifts: Path, out: Path) -> list[str]:
    """Arguments of ``jaxmap``; they leave alone what is there."""
    command = f"simulate maps --num {num} --size {side} --sky {side} --pixel-arcmin 0.4"
    return [*f"{command} --seed {seed} --resume".split(), "--nz", str(redshifts), "--out", str(out)]
