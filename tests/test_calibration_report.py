"""Ranks, TARP, SBC and the report, on a toy whose posterior is known in closed form.

Every pixel is drawn from N(0, 1) and, where observed, seen with noise N(0, 1): the posterior is
N(d/2, 1/2) there and the prior elsewhere. Controls are posteriors that are wrong on purpose.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from jaxmap.calibration.estimate import Estimate, line, pooled_ratio, square_root
from jaxmap.calibration.field import Judged, judge_field
from jaxmap.calibration.figure import draw_report
from jaxmap.calibration.ranks import (
    interval_weights,
    rank_histogram,
    ranks_of_truth,
    spread_ranks,
    thinned,
)
from jaxmap.calibration.report import build_report, lines_of
from jaxmap.calibration.summaries import build_summaries, centred, scalars, smoothed
from jaxmap.calibration.tarp import expected_coverage, largest_deviation
from jaxmap.grid import Grid
from jaxmap.spectra import power_spectrum

NUM_FIELDS, NUM_SAMPLES = 100, 19
GRID = Grid((22, 20), 1.0)
WHITE = power_spectrum([1.0, 1e6], [GRID.pixel_sr] * 2)
OBSERVED = np.ones(GRID.shape, bool)
OBSERVED[4:12, 5:13] = False


@pytest.fixture(scope="module")
def summaries():
    return build_summaries(GRID, WHITE, 1.0)


def toy_records(
    summaries,
    scale=1.0,
    bias=0.0,
    prior=False,
    blind=False,
    num_fields=NUM_FIELDS,
    num_samples=NUM_SAMPLES,
) -> list[dict[str, Any]]:
    """Fields judged by a posterior of the right or another width, mean, or that is the prior.

    ``blind`` takes TARP's references independent of the data.
    """
    records = []
    for number in range(num_fields):
        rng = np.random.default_rng([7, number])
        truth, noise, far = rng.normal(size=(3, *GRID.shape))
        mean = np.where(OBSERVED, (truth + noise) / 2, 0)
        std = np.where(OBSERVED, np.sqrt(0.5), 1)
        white = rng.normal(size=(num_samples, *GRID.shape))
        samples = white if prior else mean + bias * std * np.sign(far) + scale * std * white
        reference = rng.uniform() * rng.normal(size=GRID.shape) + (0 if blind else mean)
        field = Judged(truth, samples, OBSERVED, reference, mean)
        records.append(judge_field(rng, field, summaries))
    return records


@pytest.fixture(scope="module")
def calibrated(summaries):
    return build_report(toy_records(summaries))


def named(report) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in lines_of(report)}


def test_a_calibrated_posterior_passes(calibrated):
    """Every deviation within 4 standard errors, TARP within what chance exceeds in 0.27 % of cases;
    with 1500 fields (not run here) it is 0.026, and all SBC checks pass too."""
    for one in lines_of(calibrated):
        assert one["verdict"] != "fail", one
        if one.get("error"):
            assert abs(one["value"] - one["nominal"]) < 4 * one["error"], one
    assert calibrated["num_fields"] == NUM_FIELDS and calibrated["num_samples"] == NUM_SAMPLES
    ratio = calibrated["figures"]["rmse of mean / Wiener"]
    assert abs(ratio["value"] - 1) < 4 * ratio["error"]
    for name in ("observed", "masked", "top 1 %", "std quarter 1", "std quarter 4"):
        assert f"pixels, {name}: 95 %" in named(calibrated)


def test_errors_come_from_the_scatter_over_fields(calibrated):
    """Independent pixels: the binomial error, within 28 % (four times its own error of 7 %)."""
    one = named(calibrated)["pixels, masked: 68 %"]
    binomial = np.sqrt(0.68 * 0.32 / (NUM_FIELDS * np.sum(~OBSERVED)))
    assert one["error"] == pytest.approx(binomial, rel=0.28)


def test_narrow_samples_are_found(summaries):
    """Control: 10 % too narrow."""
    lines = named(report := build_report(toy_records(summaries, scale=0.9)))
    assert report["verdict"] == "fail"
    for region in ("observed", "masked"):
        ratio = lines[f"std/error, {region}"]
        assert abs(ratio["value"] - 0.9) < 4 * ratio["error"] < 0.05 and ratio["verdict"] == "fail"
        assert lines[f"pixels, {region}: 68 %"]["verdict"] == "fail"
    assert lines["TARP, pixels"]["verdict"] == "fail"


def test_a_biased_mean_is_found(summaries):
    """Control: half a standard deviation up or down at random in every pixel."""
    lines = named(report := build_report(toy_records(summaries, bias=0.5)))
    assert report["verdict"] == "fail"
    # The error grows by sqrt(1 + 0.5^2).
    ratio = lines["std/error, observed"]
    assert abs(ratio["value"] - 1 / np.sqrt(1.25)) < 4 * ratio["error"]
    assert lines["TARP, pixels"]["verdict"] == "fail"


def test_the_prior_is_no_posterior(summaries):
    """Control: it covers as it should, pixel by pixel; TARP finds it, by data-dependent references
    only."""
    lines = named(report := build_report(toy_records(summaries, prior=True)))
    assert report["verdict"] == "fail"
    for name in ("pixels, observed: 68 %", "pixels, masked: 90 %", "std/error, observed"):
        assert abs(lines[name]["value"] - lines[name]["nominal"]) < 4 * lines[name]["error"]
    assert lines["TARP, pixels"]["verdict"] == lines["TARP, smoothed"]["verdict"] == "fail"
    blind = named(build_report(toy_records(summaries, prior=True, blind=True)))
    assert blind["TARP, pixels"]["verdict"] == "pass"


def test_strata_chosen_on_the_judged_samples_would_deceive(calibrated):
    """Why one half chooses: the quarter of least spread among 19 samples seems to under-cover."""
    rng = np.random.default_rng(5)
    truth, samples = rng.normal(size=4000), rng.normal(size=(NUM_SAMPLES, 4000))
    low = np.var(samples, axis=0) < np.quantile(np.var(samples, axis=0), 0.25)
    hits = rank_histogram(ranks_of_truth(rng, truth, samples)[low], NUM_SAMPLES)
    share = hits @ interval_weights(NUM_SAMPLES, 0.9) / low.sum()
    assert share < 0.9 - 4 * np.sqrt(0.09 / low.sum())
    fair = named(calibrated)["pixels, std quarter 1: 90 %"]
    assert abs(fair["value"] - 0.9) < 4 * fair["error"]


@pytest.mark.parametrize("num_samples", [1, 9, 19, 24, 39])
@pytest.mark.parametrize("level", [0.5, 0.68, 0.9, 0.95])
def test_uniform_ranks_have_the_nominal_coverage(num_samples, level):
    weights = interval_weights(num_samples, level)
    assert np.mean(weights) == pytest.approx(level, rel=1e-12)
    assert weights.min() >= 0 and weights.max() <= 1 + 1e-12
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-13)


def test_interval_weights_are_means_over_spread_ranks():
    """10 000 draws of U for every rank, within 5 standard errors at most 0.005 each."""
    rng = np.random.default_rng(0)
    spread = spread_ranks(rng, np.tile(np.arange(25.0), (10_000, 1)), 24)
    inside = np.mean(np.abs(spread - 0.5) <= 0.45, axis=0)
    np.testing.assert_allclose(inside, interval_weights(24, 0.9), atol=0.025)


def test_fewer_samples_have_the_histogram_of_a_random_choice_of_them():
    """Against all choices of 2 of 4 samples, rank by rank; uniform ranks stay uniform."""
    for rank in range(5):
        histogram = np.eye(5)[rank]
        chosen = [sum(one < rank for one in some) for some in combinations(range(4), 2)]
        np.testing.assert_allclose(thinned(histogram, 2), np.bincount(chosen, minlength=3) / 6)
    np.testing.assert_allclose(thinned(np.ones(40), 38), np.full(39, 40 / 39))


def test_a_field_with_a_chain_less_is_judged_with_the_others(summaries, calibrated):
    """One of 100 fields has 17 samples, not 19: every figure stays within an error."""
    records = toy_records(summaries, num_fields=1, num_samples=17) + toy_records(summaries)[1:]
    lines, report = named(calibrated), build_report(records)
    assert report["num_samples"] == 17
    assert report["verdict"] == calibrated["verdict"]
    for one in lines_of(report):
        if one.get("error"):
            assert abs(one["value"] - lines[one["name"]]["value"]) < one["error"], one
    histogram = report["curves"]["rank_histograms"]["pixels, observed"]
    assert len(histogram) == 18 and sum(histogram) == pytest.approx(NUM_FIELDS * OBSERVED.sum())


def test_ranks():
    rng = np.random.default_rng(0)
    truth, samples = np.array([0.0, 5.0, 2.5]), np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3])
    np.testing.assert_array_equal(ranks_of_truth(rng, truth, samples), [0, 3, 2])
    ties = ranks_of_truth(rng, np.zeros(4000), np.zeros((3, 4000)))
    hits = np.array(rank_histogram(ties, 3))
    assert np.all(np.abs(hits - 1000) < 4 * np.sqrt(750))


def test_pooled_ratio_and_its_error():
    """The stated error is the scatter over 2000 repetitions, within 10 % (4 times its error)."""
    rng = np.random.default_rng(1)
    size = rng.uniform(50, 150, (2000, 40))
    part = 0.3 * size + rng.normal(size=size.shape)
    found = [pooled_ratio(a, b) for a, b in zip(part, size, strict=True)]
    scatter = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(scatter, rel=0.1)
    assert np.mean([one.value for one in found]) == pytest.approx(0.3, abs=4 * scatter / 44)
    root = square_root(Estimate(0.25, 0.01, 40))
    assert root == pytest.approx((0.5, 0.01, 40))
    assert np.isnan(square_root(Estimate(-0.1, 0.01, 40)).value)


def test_verdicts():
    def verdict(value, error, num_fields=10_000):
        return line("x", Estimate(value, error, num_fields), 1.0, 0.02)["verdict"]

    assert verdict(1.019, 0.5) == "pass"
    assert verdict(0.9, 0.03) == "open"
    assert verdict(0.9, 0.02) == "fail"
    assert verdict(0.9, 0.02, num_fields=5) == "open"  # Student's t reaches farther
    assert verdict(float("nan"), float("nan")) == "fail"


def test_tarp_of_uniform_and_other_positions():
    """The deviation is Kolmogorov's; scipy has it too."""
    from scipy.stats import kstest

    positions = np.random.default_rng(2).uniform(size=101)
    assert largest_deviation(positions) == pytest.approx(kstest(positions, "uniform").statistic)
    np.testing.assert_allclose(expected_coverage(np.array([0.2, 0.6]), np.array([0, 0.5, 1])),
                               [0, 0.5, 1])  # fmt: skip
    assert largest_deviation(np.full(50, 0.5)) == pytest.approx(0.5)


def test_summaries_of_a_known_map(summaries):
    """One observed and one hidden source: height, number and skewness see the first only."""
    one = np.zeros((2, *GRID.shape))
    one[0, 16, 10] = one[1, 8, 9] = 400.0
    smooth = smoothed(centred(one, OBSERVED), summaries)
    found = scalars(smooth, OBSERVED, summaries)
    inside = smooth[0][OBSERVED] - smooth[0][OBSERVED].mean()
    assert found["peak height"][0] == pytest.approx(inside.max())
    assert found["skewness"][0] == pytest.approx(np.mean(inside**3) / np.mean(inside**2) ** 1.5)
    assert found["peaks above 4 sigma"].tolist() == [1, 0]


def test_bands_hold_every_independent_mode_once(summaries):
    modes = np.concatenate(summaries.bands)
    assert len(modes) == len(np.unique(modes))
    column = modes % (GRID.shape[1] // 2 + 1)
    assert column.min() == 1 and column.max() == GRID.shape[1] // 2 - 1


def test_report_is_json_and_can_be_drawn(calibrated, tmp_path):
    read = json.loads(json.dumps(calibrated, allow_nan=False))
    draw_report(read, "a $toy").savefig(tmp_path / "report.png", dpi=40)
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_fully_observed_fields_have_no_masked_lines(summaries):
    rng = np.random.default_rng(0)
    everywhere = np.ones(GRID.shape, bool)
    records = []
    for _ in range(3):
        truth, *samples = rng.normal(size=(12, *GRID.shape))
        field = Judged(truth, np.array(samples), everywhere, samples[0], samples[0])
        records.append(judge_field(rng, field, summaries))
    assert not any("masked" in name for name in named(build_report(records)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": np.zeros((4, *GRID.shape))}, "4 posterior samples; expected at least 9"),
        ({"samples": np.zeros((9, 3, 3))}, r"shape \(3, 3\) and the field \(22, 20\)"),
        ({"samples": np.full((9, *GRID.shape), np.nan)}, "not finite"),
        ({"observed": np.zeros(GRID.shape, bool)}, "0 observed pixels; expected at least 100"),
    ],
)
def test_bad_fields(change, message, summaries):
    zero = np.zeros(GRID.shape)
    fields = {"truth": zero, "samples": np.zeros((9, *GRID.shape)), "observed": OBSERVED}
    field = Judged(**{**fields, **change}, reference=zero, wiener=zero)
    with pytest.raises(ValueError, match=message):
        judge_field(np.random.default_rng(0), field, summaries)


def test_bad_reports(summaries):
    records = toy_records(summaries, num_fields=1)
    with pytest.raises(ValueError, match="1 field was judged; expected at least 2"):
        build_report(records)
    with pytest.raises(ValueError, match="smoothing is 0 arcmin; expected more than 0"):
        build_summaries(GRID, WHITE, 0)
