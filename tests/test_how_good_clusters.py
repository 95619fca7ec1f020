"""What the page on quality says of detections and fits of clusters is in the files of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "how_good.md").read_text(encoding="utf-8")


def results(name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((ROOT / "experiments" / "results" / name).read_text())
    return figures


def test_detections():
    figures = results("cluster_detection.json")
    told = f"added to {figures['fields']} simulated fields of {figures['side']}² pixels"
    assert told in PAGE and f"and {figures['samples']} posterior samples of each" in PAGE
    by_mass = {kind: {r["mass"]: r for r in figures[kind]["by_mass"]} for kind in ("eps", "wiener")}
    none, *shares = (
        "{:.2f} ± {:.2f}".format(*by_mass["eps"][mass]["3_sigma"])
        for mass in (0.0, 9e13, 3e14, 6e14)
    )
    text = f"is {none} without a halo, {shares[0]} at 9 × 10¹³, {shares[1]} at 3 × 10¹⁴ and "
    assert text + f"{shares[2]} at 6 × 10¹⁴" in PAGE
    snr = [f"{by_mass['eps'][mass]['snr'][0]:.1f}" for mass in (9e13, 3e14, 6e14)]
    assert f"input S/N {', '.join(snr)}" in PAGE
    gaussian = [f"{by_mass['wiener'][mass]['3_sigma'][0]:.2f}" for mass in (9e13, 3e14, 6e14)]
    assert f"it is {gaussian[0]}, {gaussian[1]} and {gaussian[2]}." in PAGE
    rises = figures["eps"]["monotone"]["3_sigma"]
    *most, last = (row["rise"] / row["error"] for row in rises)
    assert (
        f"by {min(most):.1f} times its error or more up to 6 × 10¹⁴ and by {last:.1f} times" in PAGE
    )


def test_detections_are_calibrated():
    figures = results("cluster_detection.json")

    def excess(kind: str, where: str, digits: int = 2) -> str:
        row = figures[kind]["calibration"][where]
        return f"{abs(row['excess']):.{digits}f} ± {row['excess_error']:.{digits}f}"

    prior = figures["eps"]["calibration"]["prior"]
    assert f"at {prior['places']} places chosen beforehand" in PAGE
    expected = f"{excess('eps', 'prior', 3)} (Gaussian prior: {excess('wiener', 'prior', 3)})"
    assert expected in PAGE and prior["excess"] > 0
    assert f"shares are too low by {excess('eps', 'injected')}." in PAGE
    assert f"shares too large, by {excess('eps', 'catalogue')}." in PAGE
    assert figures["eps"]["calibration"]["catalogue"]["excess"] < 0


def test_fits_of_haloes():
    figures = results("halo_fits.json")
    p = [figures["sbc"][name]["p_chi2"] for name in ("log10_mass", "concentration", "x", "y")]
    text = "p = {:.2f} for the mass, {:.2f} for the concentration, {:.2f} and {:.2f} for the centre"
    assert text.format(*p) in PAGE and min(p) > 0.05
    assert max(row["p_chi2"] for row in figures["control"].values()) < 1e-22
    within = [figures["coverage"]["log10_mass"][level][0] for level in ("0.68", "0.95")]
    assert "intervals hold {:.2f} and {:.2f} of the masses".format(*within) in PAGE
    assert figures["clusters"] == 1000 and figures["not_mixed"] == 3
    assert "Three of the thousand chains had not mixed" in PAGE


@pytest.mark.parametrize("name", ["cluster_detection.png", "halo_fits.png"])
def test_pictures_are_there(name):
    assert f"results/{name}" in PAGE and (ROOT / "experiments" / "results" / name).exists()
