"""What a larger network with more training gains over the shipped denoiser, and what it loses.

    jaxmap train experiments/training/cosmos_wider.toml --out runs/wider         (14 min of an H100)
    for script in "denoiser.py --table1" calibration.py prior_chains.py sampler_agreement.py; do
        python experiments/$script --weights runs/wider/denoiser.npz --out runs/wider/results; done
    python experiments/wider_network.py

Reads those results and the shipped network's own in results/; skies and noise are the same in both.
``--quick`` reads the shipped one's twice. Writes results/wider_network.json and .png; the committed
ones are of commit dbde34d, before the shipped network's fourth training, with its calibration on
fields of 128 x 128 pixels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from common import HERE, arguments, new_figure, save

from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES
from jaxmap.networks.unet import ResidualUNet, initialise

NAMES = {"shipped": (32, 64, 128), "wider": (40, 80, 160)}
FILES = ("denoiser", "calibration", "prior_chains", "sampler_agreement")
LINES = (
    "std/error, observed",
    "std/error, masked",
    "std/error, top 1 %",
    "power, ell 1168-2776, samples/truth",
    "power, ell 2776-6596, samples/truth",
    "skewness, samples/truth",
    "peak height, samples/truth",
)
"""Of the calibration, with errors."""
PEAK, AMPLITUDE = "0.1", 2.0
"""Noise and amplitude at which the score along a peak is quoted."""


def main() -> None:
    run = HERE.parent / "runs" / "wider"
    options = arguments(
        __doc__,
        found={"type": Path, "default": run / "results", "help": "of the larger network"},
        log={"type": Path, "default": run / "log.jsonl", "help": "of its training"},
    )
    folders = {"shipped": HERE / "results", "wider": options.found}
    if options.quick:
        folders["wider"] = folders["shipped"]
    rows = {name: row_of(folder, NAMES[name]) for name, folder in folders.items()}
    lines = [] if options.quick else options.log.read_text(encoding="utf-8").splitlines()
    log = [json.loads(line) for line in lines]
    rows["wider"]["largest_ratio_in_training"] = max(
        (ratio for line in log for ratio in line["train"]["ratio"].values() if ratio is not None),
        default=None,
    )
    save(options, "wider_network", rows)
    draw(options.out / "wider_network.png", rows, {n: read(f)[2] for n, f in folders.items()})


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in FILES]


def row_of(folder: Path, channels: tuple[int, ...]) -> dict[str, Any]:
    """The figures of one network."""
    denoiser, calibration, chains, agreement = read(folder)
    slope = chains["slope_of_log_density"][PEAK]
    at = chains["amplitudes"].index(AMPLITUDE)
    lines = calibration["dlposterior"]["lines"]
    return {
        "channels": channels,
        "parameters": denoiser["cost"]["parameters"],
        "gflop_360": gflop(channels),
        "training": denoiser["training"],
        "white_noise": denoiser["prior"],
        "cosmos": denoiser["surveys"]["cosmos"],
        "table1": denoiser["table1"]["deepmass"],
        "calibration": {name: [lines[name]["value"], lines[name]["error"]] for name in LINES},
        "slope_at_twice_the_peak": [slope["mean"][at], slope["standard_error"][at]],
        "gibbs_largest_rhat": max(
            field["samplers"]["gibbs"]["rhat_largest"] for field in agreement["fields"]
        ),
    }


def gflop(channels: tuple[int, ...]) -> float:
    """Arithmetic of a pass at 360 x 360, counted before any compiler has had its way."""
    network = ResidualUNet(channels)
    params = initialise(network, jax.random.key(0), NUM_FEATURES, NUM_CONDITIONS)
    images = [jnp.zeros((1, 360, 360, count)) for count in (NUM_FEATURES, NUM_CONDITIONS)]
    counted = jax.jit(lambda p, *x: network.apply({"params": p}, *x)).lower(params, *images)
    return float(counted.cost_analysis()["flops"] / 1e9)


def draw(path: Path, rows: dict[str, Any], chains: dict[str, Any]) -> None:
    figure = new_figure(9.5, 3.6)
    left, right = figure.subplots(1, 2)
    for name, row in rows.items():
        levels = list(row["white_noise"])
        ratios = [row["white_noise"][level]["ratio"] for level in levels]
        errors = [row["white_noise"][level]["error"] for level in levels]
        left.errorbar([float(level) for level in levels], ratios, errors, fmt="o-", label=name)
        slope = chains[name]["slope_of_log_density"][PEAK]
        right.errorbar(
            chains[name]["amplitudes"], slope["mean"], slope["standard_error"], fmt="o-", label=name
        )
    left.axhline(1, color="grey", lw=0.8)
    left.set(xscale="log", xlabel=r"white noise $\sigma$", ylabel="mean square error / Wiener")
    left.legend(frameon=False)
    right.axhline(0, color="grey", lw=0.8)
    right.set(
        xlabel="amplitude of the highest peak / true amplitude",
        ylabel=rf"slope of the log density, $\sigma$ = {PEAK}",
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
