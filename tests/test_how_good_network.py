"""What the page on quality says of the larger network is in the file of results."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "how_good.md").read_text(encoding="utf-8")


def test_wider_network():
    figures = json.loads((ROOT / "experiments" / "results" / "wider_network.json").read_text())
    shipped, wider = figures["shipped"], figures["wider"]
    cosmos = wider["cosmos"]
    assert shipped["training"]["steps"] == 2200 + 1300 + 1400, "of three trainings"
    text = f"has {cosmos['rmse_ratio']:.3f} ± {cosmos['rmse_ratio_error']:.3f} where the shipped "
    text += "one, then after three of its four trainings, had "
    assert text + f"{shipped['cosmos']['rmse_ratio']:.3f}" in PAGE
    ratio = wider["white_noise"]["0.025"]
    text = f"{ratio['ratio']:.3f} ± {ratio['error']:.3f} against "
    assert text + f"{shipped['white_noise']['0.025']['ratio']:.3f} in white noise" in PAGE
    assert f"on the benchmark {wider['table1']['rmse_C'] * 100:.3f}e-2" in PAGE
    assert f"A network of {wider['parameters'] / 1e6:.2f} million" in PAGE
    for name, words in {
        "skewness, samples/truth": "skewness {:.3f} ± {:.3f} of the truth",
        "power, ell 4655-9310, samples/truth": "power at ℓ 4700 to 9300 {:.3f} ± {:.3f}",
        "std/error, top 1 %": "among the highest pixels {:.3f} ± {:.3f}",
    }.items():
        assert words.format(*wider["calibration"][name]) in PAGE
    slopes = [row["slope_at_twice_the_peak"] for row in (wider, shipped)]
    text = "slope {:.0f} ± {:.0f} at noise 0.1; shipped {:.0f} ± {:.0f}"
    assert text.format(*slopes[0], *slopes[1]) in PAGE
    rhat = [row["gibbs_largest_rhat"] for row in (wider, shipped)]
    assert "R-hat {:.1f}, shipped {:.2f}".format(*rhat) in PAGE
    assert wider["largest_ratio_in_training"] > 1000


def test_seconds_of_a_sample():
    for name, device, evaluations, words in (
        ("posterior", "cpu", 11, "its margin it is {:.1f} s, on one core"),
        ("posterior_gpu", "gpu", 9, "and {:.3f} s on an H100, with nine evaluations"),
    ):
        path = ROOT / "experiments" / "results" / f"{name}.json"
        cost = json.loads(path.read_text())["cost"]
        assert cost["device"] == device and round(cost["evaluations_per_sample"], 1) == evaluations
        assert words.format(cost["seconds_per_sample"]) in PAGE
