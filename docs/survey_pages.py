"""What the page on surveys says of results: made from ``experiments/`` by `made.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def read(name: str) -> Any:
    """Figures of an experiment or a benchmark."""
    return json.loads((EXPERIMENTS / f"{name}.json").read_text(encoding="utf-8"))


def costs() -> list[str]:
    """Hours of large surveys on GPUs, with the arithmetic."""
    found = read("benchmarks/results/survey")
    assumed = found["assumed"]
    edge, cell, use = (assumed[name] for name in ("edge_patches", "cell_deg2", "utilisation"))
    samples, seconds = assumed["samples"], assumed["seconds_per_sample"]
    lines = ["| square degrees | patches | GPU hours | hours on N GPUs |", "|---|---|---|---|"]
    areas = sorted({row["deg2"] for row in found["projected"]})
    for area in areas:
        rows = [row for row in found["projected"] if row["deg2"] == area]
        patches = rows[0]["patches"]
        each = ", ".join(f"{row['gpus']}: {row['hours']:.2g}" for row in rows)
        lines.append(
            f"| {area:,} | {edge} × {area} / {cell:.2f} = {patches:,} | {patches:,} × {samples} × "
            f"{seconds:g} s = {patches * samples * seconds / 3600:.1f} | over {use:.0%} use and N: "
            f"{each} |"
        )
    return lines


def seams() -> list[str]:
    """What `experiments/survey_seams.py` found."""
    found = read("results/survey_seams")
    power, surveys = found["power"], found.get("surveys", [found])

    def measured(row: dict[str, float], digits: int) -> str:
        return f"{row['ratio']:.{digits}f} ± {row['ratio_error']:.{digits}f}"

    def bands(name: str) -> str:
        pairs = zip(power[name]["ratio"], power[name]["ratio_error"], strict=True)
        return ", ".join(f"{value:.2f} ± {error:.2f}" for value, error in pairs)

    edges = ", ".join(map(str, power["ell_edges"]))
    rows = {
        "posterior std": measured(found["std_rms"], 3),
        "std of merged samples": measured(found["std_of_merged_samples"], 3),
        "actual error": measured(found["error_rms"], 3),
        f"power of the map over that of the truth, between ℓ = {edges}": bands("mean"),
        "power of a sample over that of the truth": bands("sample"),
    }
    told = ""
    if "control_error_rms" in surveys[0]:
        control = measured(surveys[0]["control_error_rms"], 2)
        rows["actual error if patches overlap by one pixel (the control)"] = control
        near, inside = (
            surveys[0]["control_error_rms"][place] / surveys[0]["error_rms"][place]
            for place in ("seams", "interior")
        )
        told = (
            f" The error of the control is {near:.2f} times that of the full overlap near borders "
            f"and {inside:.2f} times elsewhere: noise hides what a missing overlap does, and the "
            "comparison with one big patch is the sharper one."
        )
    lines = [
        f"Gaussian skies of 200 square degrees: {len(surveys)}; each {found['patches']} patches "
        f"that overlap by {found['overlap_arcmin']:.0f} arcmin, Wiener filter, "
        f"{found['num_samples']} samples. Pixels within 0.3 degrees of the borders of cells over "
        "those more than 0.8 degrees away from any:",
        "",
        "| ratio | seams over interior |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "",
        f"Errors are jackknives; power is of {power['squares_seams']} and "
        f"{power['squares_interior']} squares of 1.3 degrees. The merged map differs from one big "
        "patch by {:.2f} of the std near borders and {:.2f} elsewhere; the big patch differs from "
        "itself on pixels moved by half their side by {:.2f}.".format(
            *(
                found["big_patch"][f"{name}_over_std_{place}"]
                for name, place in (
                    ("merged_minus_big", "seams"),
                    ("merged_minus_big", "interior"),
                    ("shifted_minus_big", "interior"),
                )
            )
        )
        + told,
    ]
    return lines


def figures() -> dict[str, str]:
    """What `experiments/benchmarks/survey.py` found, and `posterior.py` on a GPU."""
    found = read("benchmarks/results/survey")
    rows = found["rows"]
    ks, wiener = ([row for row in rows if row["method"] == name] for name in ("ks", "wiener"))
    one, two = (
        [row["patches_per_hour"] for row in wiener if row["workers"] == count] for count in (1, 2)
    )
    whole = {
        count: " and ".join(f"{row['seconds']:.1f}" for row in wiener if row["workers"] == count)
        for count in (1, 2)
    }
    peaks = [row["worker_peak_mib"] for row in wiener]
    gpu, cell = read("results/posterior_gpu")["cost"], found["assumed"]["cell_deg2"]
    return {
        "survey_memory": ", ".join(f"{row['worker_peak_mib']:.0f}" for row in ks),
        "survey_areas": ", ".join(f"{row['deg2']:,}" for row in ks),
        "survey_speedup": " and ".join(f"{b / a:.2f}" for a, b in zip(one, two, strict=True)),
        "survey_rate": f"{min(one):,.0f} to {max(one):,.0f}",
        "survey_patches": str(wiener[0]["patches"]),
        "survey_whole_one": whole[1],
        "survey_whole_two": whole[2],
        "survey_wiener_memory": f"{min(peaks):.0f} to {max(peaks):.0f}",
        "survey_wiener_area": str(wiener[0]["deg2"]),
        "gpu_seconds": f"{gpu['seconds_per_sample']:.3f}",
        "gpu_pixels": f"{cell * (60 / 0.29 / 360) ** 2:.1f}",
    }
