"""What the page on quality says of the networks of Hong et al. is in the files of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "how_good.md").read_text(encoding="utf-8")
METHODS = {
    "ks": "Kaiser-Squires, 1′",
    "ks_fine": "Kaiser-Squires, 0.5′",
    "wiener": "Wiener filter",
    "deepmass": "Learned posterior mean (`deepmass`)",
    "cnn 19 focal": "Network, 19 × 19, shipped",
}
VARIANTS = {
    "cnn 19 focal shipped": "19, focal, shipped",
    "cnn 19 mse": "19, MSE",
    "cnn 19 focal no skip": "19, focal, no skip",
    "cnn 19 focal 4 channels": "19, focal, 4 channels",
    "cnn 29 focal": "29, focal",
    "cnn 49 focal": "49, focal",
    "cnn 49 mse": "49, MSE",
}
GAINS = {
    "cnn 19 mse": "MSE loses {clear},",
    "cnn 19 focal 4 channels": "a fourth channel {clear} (behind stars {stars}),",
    "cnn 19 focal no skip": "no skip loses {clear} and",
    "cnn 19 focal": "The mean map of the ten gains {finer}.",
    "cnn 19 focal shipped": "The shipped network loses {clear}, behind stars {stars},",
    "cnn 29 focal": "29 loses {clear},",
    "cnn 49 focal": "49 loses {clear}.",
}
LOSERS = {
    "cnn 19 mse",
    "cnn 19 focal no skip",
    "cnn 19 focal shipped",
    "cnn 29 focal",
    "cnn 49 focal",
}
SKIES = {"clear": "", "stars": ", stars"}


def results(name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((ROOT / "experiments" / "results" / name).read_text())
    return figures


def cells(row: dict[str, Any]) -> str:
    """Of the table: R, D, mass, centre, how often it is lost, RMSE, correlation."""
    mass = "{median:.2f} +{above:.2f} −{below:.2f}".format(**row["mass_ratio"])
    lost = "{:.0f} ± {:.0f} %".format(*(100 * part for part in row["catastrophic"]))
    pixels = "{:.4f} | {:.3f} ± {:.3f}".format(row["rmse"][0], *row["correlation"])
    offset = row["offset_arcmin"]["median"]
    return (
        f"{row['R']['mean']:.3f} | {row['D']['mean']:.2f} | {mass} | {offset:.2f} | {lost} | "
        f"{pixels} |"
    )


def cells_of_runs(runs: dict[str, Any]) -> str:
    """The same, mean and standard deviation over trainings."""
    rows = runs["mean_and_std"]
    lost = "{:.0f} ± {:.0f} %".format(*(100 * part for part in rows["catastrophic"]))
    formats = {"R": ".3f", "D": ".2f", "mass_ratio": ".2f", "offset_arcmin": ".2f"}
    first = [f"{rows[k][0]:{f}} ± {rows[k][1]:{f}}" for k, f in formats.items()]
    last = [
        f"{rows[k][0]:{f}} ± {rows[k][1]:{f}}" for k, f in (("rmse", ".4f"), ("correlation", ".3f"))
    ]
    return " | ".join([*first, lost, *last]) + " |"


@pytest.mark.parametrize("name", METHODS)
def test_methods_on_clusters(name):
    figures = results("hong.json")
    assert f"{figures['fields']} fields of 32′" in PAGE
    for kind, stars in SKIES.items():
        assert f"| {METHODS[name]}{stars} | {cells(figures[kind][name])}\n" in PAGE


def test_the_posterior_mean_against_the_network():
    figures = results("hong.json")
    for kind in SKIES:
        mean, network = (figures[kind][name] for name in ("deepmass", "cnn 19 focal"))
        assert mean["rmse"][0] < network["rmse"][0]
        assert mean["correlation"][0] > network["correlation"][0]
        assert mean["D"]["mean"] < network["D"]["mean"]
        assert network["R"]["mean"] < mean["R"]["mean"] < 1
        assert mean["offset_arcmin"]["median"] < network["offset_arcmin"]["median"]
    clear = figures["clear"]["deepmass"]
    ratio = f"{clear['mass_ratio']['median']:.3f} ± {clear['mass_ratio_error']:.3f}"
    scatter = 100 * clear["mass_scatter_after_scaling"]
    assert f"has masses as right ({ratio}), with a scatter of {scatter:.0f} %." in PAGE
    merging = results("hong_checks.json")["el_gordo_like"]
    highest = [merging[name]["highest"] for name in ("deepmass", "ks_fine", "glimpse")]
    assert "posterior mean {:.2f}, Kaiser-Squires {:.2f}; GLIMPSE {:.2f}".format(*highest) in PAGE


def test_variants_of_the_network():
    figures = results("hong_variants.json")
    assert set(figures["clear"]) == {*VARIANTS, "cnn 19 focal"}
    assert f"on the same {figures['fields']} fields" in PAGE
    for kind, stars in SKIES.items():
        runs = figures[kind]["cnn 19 focal"]["runs"]
        assert runs["number"] == 10
        assert f"| 19, focal, ten trainings{stars} | {cells_of_runs(runs)}\n" in PAGE
        for name, label in VARIANTS.items():
            assert f"| {label}{stars} | {cells(figures[kind][name])}\n" in PAGE
    for records in figures["weights"].values():
        assert {(record["steps"], record["clusters"]) for record in records} == {(3000, 1728)}
    trained = [records for name, records in figures["weights"].items() if "shipped" not in name]
    assert "less than a minute on an H100" in PAGE
    assert max(record["seconds"] for records in trained for record in records) < 60


def test_gains_of_the_variants():
    figures = results("hong_variants.json")
    runs = {kind: figures[kind]["cnn 19 focal"]["runs"] for kind in SKIES}
    for name, words in GAINS.items():
        gains = {kind: runs[kind]["others_gain_in_correlation"][name] for kind in SKIES}
        told = {kind: f"{abs(gain):.3f} ± {error:.3f}" for kind, (gain, error) in gains.items()}
        finer = "{:.4f} ± {:.4f}".format(*gains["clear"])
        assert words.format(**told, finer=finer) in PAGE
        assert all((gains[k][0] < 0) == (name in LOSERS) for k in SKIES if f"{{{k}}}" in words)
    spread = [runs[kind]["mean_and_std"]["correlation"][1] for kind in SKIES]
    text = "which scatters by {:.3f} from one training to the next (behind stars by {:.3f})"
    assert text.format(*spread) in PAGE
    rows, name = figures["clear"], "mass_scatter_after_scaling"
    scatters = [100 * rows[f"cnn {width} focal"][name] for width in (29, 49)]
    ten = [100 * part for part in runs["clear"]["mean_and_std"][name]]
    text = "{:.0f} and {:.0f} % of the mean mass, those ten {:.0f} ± {:.0f} %"
    assert text.format(*scatters, *ten) in PAGE


@pytest.mark.parametrize("name", ["hong_variants.png", "hong_variants_maps.png"])
def test_pictures_are_there(name):
    assert f"results/{name}" in PAGE and (ROOT / "experiments" / "results" / name).exists()
