"""Calibration of the shipped default: `jaxmap.calibration` on simulated COSMOS-like surveys.

Skies of the halo light cone that training never drew, with the sources and baryons of the shipped
prior, behind the middle of the real COSMOS mask with its real noise; periodic fields of 360 x 360
pixels, as large as COSMOS: smaller ones judge too hard, see field_sizes.py. The same fields with
the samples of the exact Gaussian posterior are the control that must fail.

Writes results/calibration.json, calibration_dlposterior.png and calibration_wiener.png; with
``--sampler gibbs`` (or another) calibration_gibbs.json and .png, of that sampler on the same skies
and of as many samples of eps beside it; with another ``--side`` or ``--seed`` or with ``--steps``,
names with it. Those of ``--seed 5`` are a hundred skies that nothing was looked at on before.
Fields are kept in runs/ as they are judged: a run that is stopped goes on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, arguments, save
from cosmos_fields import cosmos_fields

from jaxmap.calibration import calibrate, draw_report
from jaxmap.calibration.report import lines_of
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import Estimator, SampledPosterior, Wiener
from jaxmap.methods import build_sampler
from jaxmap.samplers import Diffusion

SIDE, QUICK_SIDE = 360, 128


def main() -> None:
    options = arguments(
        __doc__,
        sampler={"default": "eps", "help": "eps (the default), gibbs, hmc or hmc-fast"},
        side={"type": int, "default": SIDE, "help": "pixels of a field (default: %(default)s)"},
        num={"type": int, "default": 100, "help": "fields (default: %(default)s)"},
        samples={"type": int, "default": 19, "help": "of a field (default: %(default)s)"},
        steps={"type": int, "help": "evaluations (eps) or sweeps (gibbs); default: the sampler's"},
        weights={"type": Path, "help": "a denoiser's file; default: the shipped one"},
        chunk={"type": int, "help": "samples drawn at once"},
    )
    side, num, num_samples = (
        (QUICK_SIDE, 3, 9) if options.quick else (options.side, options.num, options.samples)
    )
    suffix = f"_{options.steps}_steps" if options.steps else ""
    if options.seed:
        suffix += f"_seed_{options.seed}"
    denoiser, domain, header = read_denoiser(options.weights)
    fields = cosmos_fields(options, side)
    figures: dict[str, Any] = {"side": side, "weights": header["sha256"]}
    sampler = build_sampler(options.sampler, options.steps, lambda run: run)
    learned = SampledPosterior(
        denoiser,
        sampler,
        num_samples,
        domain=domain,
        margin=0,
        chunk=options.chunk,
    )
    estimators: dict[str, Estimator] = {options.sampler: learned}
    beside = f"eps_beside_{options.sampler}"
    if options.sampler != "eps":
        estimators[beside] = replace(learned, sampler=Diffusion())
    elif not options.steps:
        wiener = Wiener(denoiser.spectrum, num_samples, margin=0, chunk=num_samples)
        estimators = {"wiener": wiener, "dlposterior": learned}
    kind = "" if options.quick or side == SIDE else f"_{side}"
    tag = f"-{header['sha256'][:12]}" if options.weights else ""
    kept = (options.out if options.quick else HERE.parent) / "runs"
    folders = {name: kept / f"calibration_{side}_{name}{suffix}{tag}" for name in estimators}
    for name, estimator in estimators.items():
        report = calibrate(
            estimator,
            fields,
            num,
            spectrum=denoiser.spectrum,
            seed=options.seed,
            out=folders[name],
            identity={
                "weights": header["sha256"],
                "side": side,
                "num_samples": num_samples,
                "sampler": str(getattr(estimator, "sampler", name)),
            },
            progress=shown,
        )
        figures[name] = without_curves(report)
        if name != beside:
            picture = options.out / f"calibration{kind}{suffix}_{name}.png"
            draw_report(report, name).savefig(picture, dpi=110)
    if beside in figures:
        figures["beyond_eps"] = difference(folders[options.sampler], folders[beside], num)
    save(
        options,
        f"calibration{kind}{suffix}" + ("" if options.sampler == "eps" else f"_{options.sampler}"),
        figures,
    )


def difference(folder: Path, other: Path, num: int) -> dict[str, dict[str, float]]:
    """Of what is told of the samples of the same skies, in units of the other's mean."""
    both = []
    for one in (folder, other):
        _, *lines = (one / "fields.jsonl").read_text().splitlines()
        found = {record["number"]: record["means"] for record in map(json.loads, lines)}
        both.append([found[number] for number in range(num)])
    rows = {}
    for name in both[0][0]:
        ours, theirs = (np.array([means[name][0] for means in fields]) for fields in both)
        gap = (ours - theirs) / theirs.mean()
        rows[name] = {"value": float(gap.mean()), "error": float(gap.std(ddof=1) / num**0.5)}
    return rows


def shown(numbers: Any) -> Any:
    for number in numbers:
        print(f"field {number}", flush=True)
        yield number


def without_curves(report: dict[str, Any]) -> dict[str, Any]:
    """What the README quotes: every line by its name, figures and verdict."""
    lines = {
        one["name"]: {key: one[key] for key in ("value", "error", "verdict") if key in one}
        for one in lines_of(report)
    }
    kept = ("num_fields", "num_samples", "verdict", "figures")
    return {**{key: report[key] for key in kept}, "lines": lines}


if __name__ == "__main__":
    main()
