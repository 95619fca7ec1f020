"""Figures of samplers, denoising and the GAN in the documentation are those of the experiments."""

import json
from pathlib import Path

import numpy as np

from jaxmap.denoiser_files import read_denoiser
from jaxmap.samplers import Gibbs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "how_good.md").read_text(encoding="utf-8")
BENCHMARKS = "benchmarks/results"
NOT = (ROOT / "docs" / "not.md").read_text(encoding="utf-8")


def results(name: str, folder: str = "results") -> dict:
    return json.loads((ROOT / "experiments" / folder / f"{name}.json").read_text())


def pm(figure: dict, digits: int = 3) -> str:
    error = figure.get("standard_error", figure.get("error"))
    value = figure.get("value", figure.get("ratio"))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def test_chains_of_a_score_that_is_no_gradient():
    loops = results("closed_loops")["by_level"]
    sums = [loops[level]["circulation"]["rms"] for level in ("0.01", "0.03", "0.1")]
    assert "sums to {:.0f}, {:.0f} and {:.1f} nats".format(*sums) in NOT
    chains = results("gaussian_samplers")["samplers"]["hmc, chains"]["power_by_band"]
    lowest, *others = chains["value"]
    assert f"lowest ({lowest:.3f} ± {chains['standard_error'][0]:.3f};" in NOT
    assert all(abs(power - 1) < 0.02 for power in others)


def test_chains_under_the_learned_prior():
    figures = results("sampler_agreement")
    assert figures["weights"] == read_denoiser()[2]["sha256"]
    *fields, tiny = figures["fields"]
    assert [field["pixels"][0] for field in fields] == [192, 360] and tiny["pixels"][0] == 64
    assert "simulated fields of 192² and 360² the means" in NOT
    off: dict[str, list[float]] = {"observed": [], "masked": []}
    three = ("eps and gibbs", "eps and hmc-fast", "gibbs and hmc-fast")
    for field in fields:
        for gap in field["pairs"].values():
            assert gap["square_gap_observed"] < gap["square_gap_of_chance_observed"], "means agree"
        for where, largest in off.items():
            ratios = [field["pairs"][pair][f"std_ratio_{where}"] for pair in three]
            largest.append(100 * max(abs(ratio - 1) for ratio in ratios))
    assert f"in observed pixels their spreads within {max(off['observed']):.1f} %; in a hole" in NOT
    assert max(off["observed"]) < 1
    small, large = off["masked"]
    told = f"within {small:.1f} % on 192² (16 samples) and {large:.1f} % on 360² (four)"
    assert told in NOT
    assert [field["samplers"]["gibbs"]["num_samples"] for field in fields] == [16, 4]
    assert all(
        gap["square_gap_observed"] < gap["square_gap_of_chance_observed"]
        for gap in tiny["pairs"].values()
    ), "the means do"
    told = "In observed pixels that is {} (`gibbs`), {} (`hmc-fast`) and {} (`hmc`), in the hole"
    others = ("gibbs", "hmc-fast", "hmc")
    assert told.format(*(spread(tiny, f"eps and {one}", "observed") for one in others)) in NOT
    told = "{}, {} and {}, with an R-hat of ".format(
        *(spread(tiny, f"eps and {one}", "masked") for one in others)
    )
    assert f"{told}{tiny['samplers']['gibbs']['rhat_largest']:.1f}." in NOT
    chains = results("prior_chains")
    grown = {}
    for side, count in chains["chains_by_side"].items():
        *_, at, _, last = chains["power_over_expected"][side]["learned"]
        assert last["chains"] == count and abs(at["sigma"] - 0.04) < 0.005
        assert last["ratio_by_band"][0] > 10 * at["ratio_by_band"][0], "by far more below"
        grown[side] = at["ratio_by_band"][0]
    told = f"to {grown['64']:.0f} times the power they should have on 64² and to {grown['192']:.1f}"
    assert told in NOT
    assert chains["amplitudes"][5:] == [3, 4]
    for row in chains["slope_of_log_density"].values():
        peaks = zip(row["mean"][5:], row["standard_error"][5:], strict=True)
        assert all(slope < -3 * error for slope, error in peaks)


def spread(field: dict, pair: str, where: str) -> str:
    row = field["pairs"][pair]
    return f"{row[f'std_ratio_{where}']:.3f} ± {row[f'std_ratio_{where}_error']:.3f}"


def test_chains_of_the_published_schedule():
    """Right under the Gaussian prior, in observed pixels under the learned one, not in the hole."""
    large, _, small = results("sampler_agreement")["fields"]
    for where in ("observed", "masked"):
        pair = "exact of a Gaussian field and hmc of a Gaussian field"
        told = [spread(field, pair, where) for field in (large, small)]
        assert "{} on 192² and {} on 64² ".format(*told) in NOT
        for row in (field["pairs"][pair] for field in (large, small)):
            assert abs(row[f"std_ratio_{where}"] - 1) < 3 * row[f"std_ratio_{where}_error"], "right"
    wide = small["pairs"]["eps and hmc"]
    assert wide["std_ratio_masked"] - 1 > 3 * wide["std_ratio_masked_error"], "plain"
    told = [spread(large, "eps and hmc", where) for where in ("observed", "masked")]
    assert "observed pixels {} of that of `eps`, in the hole {}".format(*told) in NOT
    (hours,) = {round(large["samplers"]["hmc"]["seconds"] / 3600)}
    assert hours == 1 and "an hour of a CPU core" in NOT


def test_samplers_on_posteriors_that_are_known():
    rows = results("gaussian_samplers")["samplers"]
    small, large = (rows[f"eps, 12 evaluations{size}"] for size in ("", ", 360 x 360"))
    off = [
        100 * max(abs(power - 1) for power in row["power_by_band"]["value"])
        for row in (small, large)
    ]
    assert "within {:.1f} % on fields of 128² and {:.1f} % on 360²".format(*off) in PAGE
    assert max(off) < 1, "as exact_and_approximate.md says"
    halo = {
        name: row["no_halo_bias"] for name, row in results("halo_posterior")["samplers"].items()
    }
    assert f"off by {pm(halo['eps, 8 evaluations'])} with eight" in PAGE
    assert f"{pm(halo['eps, 12 evaluations'])} with twelve" in PAGE
    few, twelve = (halo[f"gibbs, 8 sweeps of {number} from eps"] for number in (5, 12))
    assert f"twelve evaluations each, it is {pm(twelve)}, with five {pm(few)}." in PAGE
    assert Gibbs().path.num_steps == 12, "the default"
    assert f"(exact draws: {pm(halo['exact draws (floor of the errors)'])};" in PAGE
    assert f"on {results('halo_posterior')['surveys']} surveys" in PAGE
    assert (
        f"component is {results('posterior')['cosmos']['diagnostics']['chi2_per_pixel']:.3f}:"
        in (PAGE)
    )


def test_gibbs_beside_eps_on_few_skies():
    figures = results("calibration_gibbs")
    report = figures["gibbs"]
    assert (report["num_fields"], report["num_samples"]) == (6, 9)
    lines = report["lines"]
    observed, masked, skewness = (
        "{value:.3f} ± {error:.3f}".format(**lines[name])
        for name in ("std/error, observed", "std/error, masked", "skewness, samples/truth")
    )
    assert f"is {observed} in observed and {masked} in masked pixels, and all coverages" in PAGE
    assert f"its skewness is {skewness} of the truth's and differs" in PAGE
    assert figures["weights"] == read_denoiser()[2]["sha256"]
    more = figures["beyond_eps"]
    assert f"from that of `eps` by {pm(more['skewness'])}, its power" in PAGE
    bands = ("1168-2776", "2776-6596", "6596-15673", "15673-37241")
    *most, last = (pm(more[f"power, ell {band}"]) for band in bands)
    assert f"its power differs by {', '.join(most)} and {last} in four bands" in PAGE
    covered = {name: line for name, line in lines.items() if name.endswith(" %")}
    few = {name for name, line in covered.items() if line["verdict"] != "pass"}
    assert len(covered) > 30 and few == {"modes, ell 207-492: 90 %"}
    (name,) = few
    assert covered[name]["verdict"] == "open"
    assert f"(modes of ℓ 207 to 492: {pm(covered[name])} within 90 %" in PAGE


def test_chains_from_the_truth():
    figures = results("spectral_gain")
    assert figures["weights"] == read_denoiser()[2]["sha256"]
    kept, grown = (figures["after_all_sweeps"][name] for name in ("with gain", "without"))
    right, wrong = (figures["overlap"][name]["even, 0.032"][2] for name in ("with gain", "without"))
    power, skewness = "power 1168 to 2776", "skewness"
    assert f"overlap of error and map is {pm(wrong, 4)} of the square of the map at ℓ 1168" in PAGE
    assert f"band up by {pm(grown[power])} and the skewness by {pm(grown[skewness])} of" in PAGE
    assert f"{figures['num_sweeps']} sweeps of `gibbs` behind the COSMOS mask" in PAGE
    assert f"of the truth's ({figures['num_chains']} skies)" in PAGE
    changes = f"the changes are {pm(kept[power])} and {pm(kept[skewness])} (`experiments/"
    assert f"the overlap is {pm(right, 4)} and {changes}" in PAGE
    paths = figures["after_one_path"]
    assert f"({figures['num_skies']} skies)" in PAGE
    low, middle, high = list(paths["without"])[3:6]
    for case, words in (
        ("with gain", "noise of 0.064 ends with {} more power than the sky had in three bands of"),
        ("without", "with the network as it was trained, with {}, and"),
    ):
        path = paths[case]
        told = f"{pm(path[low])}, {pm(path[middle])} and {pm(path[high])}"
        assert words.format(told) in PAGE and f"{pm(path['skewness'])} " in PAGE
    for name in (power, skewness):
        assert abs(kept[name]["value"]) < 2 * kept[name]["error"]
        assert grown[name]["value"] > 3 * grown[name]["error"], "the control"


def test_skies_that_stand_out():
    figures = results("sky_response")
    assert figures["weights"] == read_denoiser()[2]["sha256"]
    learned, gaussian = figures["dlposterior"], figures["wiener"]
    assert learned["seeds"] == gaussian["seeds"] == [0, 5] and learned["num_skies"] == 200
    tarp = learned["tarp"]
    told = f"off by {tarp['pixels']:.3f} pixel by pixel and {tarp['smoothed']:.3f} on smoothed maps"
    assert f"both together: {told}, where {tarp['limit']:.3f} is the limit of two hundred" in PAGE
    assert tarp["pixels"] > tarp["limit"] > tarp["smoothed"]
    slopes = list(learned["truth_on_samples"].values())
    *most, last = (pm(one, 2) for one in slopes)
    assert f"over the two hundred it is {', '.join(most)} and {last} in the six bands" in PAGE
    assert all(one["value"] > 1 + 3 * one["error"] for one in slopes[3:])
    lowest, *_, highest = gaussian["truth_on_samples"].values()
    assert f"{pm(lowest, 2)} in the lowest, {pm(highest, 2)} in the highest" in PAGE
    assert f"has {slopes[-1]['bright']:.3f} of theirs, the quarter with least" in PAGE
    assert f"with least {slopes[-1]['dull']:.3f} (`experiments/sky_response.py`" in PAGE
    assert highest["value"] > slopes[-1]["value"] + 3 * highest["error"], "the control fails more"


def test_the_mean_of_samples_is_that_of_the_denoiser():
    gap = results("number_of_samples")["one_shot_gap"]
    said = f"beyond chance is {gap['value'] ** 0.5:.3f} of the spread (mean square {pm(gap, 4)};"
    assert said in PAGE
    assert gap["value"] + 3 * gap["error"] < 0.1**2
    on_one = results("posterior")["table1"]["one_shot_from_mean_in_std"]
    apart, chance = on_one["rms"], on_one["expected_of_sampling"]
    told = f"the one-pass mean by {apart:.3f} of their spread, where chance gives {chance:.3f}"
    assert told in PAGE


def test_slopes_by_size_of_field():
    figures = results("field_sizes")
    assert figures["weights"] == results("calibration")["weights"]
    assert figures["bands"][1:5] == [1200, 2400, 4800, 9600]
    told = {}
    for side, rows in figures["by_side"].items():
        row = rows["data"]["2.0"]["denoiser"]
        told[side] = [
            f"{value:.3f} ± {error:.3f}"
            for value, error in zip(row["slope"], row["error"], strict=True)
        ]
    for side, words in {
        "360": "the ratio is {} on 360² in five bands of ℓ 1200 to 38 400",
        "192": "but {} on fields of 192²",
        "128": "and {} on 128² (`experiments/field_sizes.py`",
    }.items():
        *most, last = told[side][1:]
        assert words.format(f"{', '.join(most)} and {last}") in PAGE
    row = figures["by_side"]["360"]["prior"]["0.2"]["denoiser"]
    *_, lower, upper = (
        f"{value:.3f} ± {error:.3f}"
        for value, error in zip(row["slope"], row["error"], strict=True)
    )
    assert f"without data the ratio is {lower} and {upper} at noise 0.2 and ℓ above 9600" in PAGE


def test_where_diffusion_starts():
    figures = results("diffusion_start")
    assert figures["weights"] == read_denoiser()[2]["sha256"]
    assert figures["bands"] == [492, 1168, 2776, 6596, 15673, 37241]

    def lost(group, name):
        return [100 * (1 - value) for value in figures[group][name]["value"]]

    ideal = "denoiser_over_ideal"
    assert max(map(abs, lost(ideal, "the learned mean, s = 2"))) < 0.1, "within 0.1 %"
    answer = lost(ideal, "the Wiener mean, s = 2")
    sample = lost("samples_over_shipped", "the Wiener mean, s = 2")
    text = "it has {:.2f} to {:.2f} % too little, which grows to {:.1f} to {:.1f} % of the power"
    assert text.format(min(answer), max(answer), min(sample), max(sample)) in PAGE
    errors = np.array(figures[ideal]["the Wiener mean, s = 2"]["error"]) * 100
    assert max(answer / errors) > 5, "the control"
    for level in (1, 3):
        assert max(map(abs, lost("samples_over_shipped", f"the learned mean, s = {level}"))) < 0.3


def test_error_of_the_integrator():
    figures = results("integrator")
    assert figures["weights"] == read_denoiser()[2]["sha256"]
    assert (figures["bands"][0], figures["bands"][5]) == (300, 19200)
    paths = figures["by_levels"]
    for levels, words in {
        "11": "have {:.3f} to {:.3f} of the power in five bands of ℓ 300 to 19 200, and {:.3f} of",
        "9": "with 9 {:.3f} to {:.3f} and {:.3f}.",
        "11 in equal logarithmic steps": "eleven leave {:.3f} to {:.3f} and {:.3f} (`experiments/",
    }.items():
        power = paths[levels]["power"][:5]
        assert words.format(min(power), max(power), paths[levels]["skewness"]) in PAGE
    assert max(paths["36"]["square_of_difference"]) < 1e-5, "the control"


def test_denoising_of_white_noise():
    figures = results("denoiser")
    prior, ktng = figures["prior"], figures["ktng_prior"]
    for level in ("0.012", "0.025", "0.05"):
        assert pm(prior[level]) in PAGE
    assert ", ".join(f"{ktng[level]:.3f}" for level in ("0.012", "0.025", "0.05")) in PAGE
    assert f"({pm(prior['1'], 4)})" in PAGE
    lower = [level for level in prior if float(level) <= 0.4]
    assert all(prior[n]["ratio"] < 1 - 3 * prior[n]["error"] and ktng[n] < 1 for n in lower)


def test_calibration_of_the_gan():
    report = results("calibration_gan")
    rows = {
        row["name"]: row["value"] for part in ("spread", "tarp", "coverage") for row in report[part]
    }
    assert (
        f"on {report['num_fields']} simulated fields {rows['std/error, observed']:.2f}, with"
        in PAGE
    )
    inside = rows["pixels, observed: 90 %"]
    assert f"{inside:.2f} of the truth inside its 90 % intervals" in PAGE
    assert f"TARP off by {rows['TARP, pixels']:.2f}" in PAGE
    small = results("gan_ablation")["variants"]
    kept, without = small["with the reward"], small["without"]
    assert f"({pm(kept['spread_over_error'])} of the error" in PAGE
    assert f"without the reward for spread {without['spread_over_error']['value']:.3f})" in PAGE
    assert f"its mean is {pm(kept['error_over_wiener'])} of" in PAGE


def test_training_on_a_gaussian_field():
    rows = results("gaussian_training")["rows"]
    gaussian, cone = (list(rows[name].values()) for name in ("Gaussian", "light cone"))
    assert {f"{row['ratio']:.4f}" for row in gaussian} == {"1.0000"}
    (added,) = {f"{row['added_over_wiener_error']:.4f}" for row in gaussian}
    assert f"noise of 0.012 to 0.1 and adds {added} of" in PAGE
    ratios = [row["ratio"] for row in cone]
    more = [row["added_over_wiener_error"] for row in cone]
    told = (
        f"it has {max(ratios):.2f} to {min(ratios):.2f} and adds {min(more):.2f} to {max(more):.2f}"
    )
    assert told in PAGE


def test_the_published_network_trained_alike():
    figures = results("published_prior")
    rows = figures["rows"]
    over = rows["our network, trained alike"]["over_published"]
    levels = ("0.006", "0.012", "0.025", "0.05", "0.1")
    *most, last = (pm(over[level]) for level in levels)
    assert f"{', '.join(most)} and {last} of that" in PAGE
    assert all(row["ratio"] < 1 + 2 * row["error"] for row in over.values()), "never worse"
    assert f"{figures['steps']} steps of 8 fields of {figures['side']}" in PAGE
    costs = {row["network"]: row for row in results("networks", BENCHMARKS)["rows"]}
    ours, theirs = costs["denoiser"], costs["published"]
    assert f"takes {ours['gflop']:.1f} GFLOP for" in PAGE
    assert f"has {ours['parameters'] / 1e6:.2f} million parameters" in PAGE
    assert f"prior {theirs['gflop']:.1f} and {theirs['parameters'] / 1e6:.2f}" in PAGE


def test_simulated_skies():
    figures = results("simulator")
    power = figures["power"]["mean_over_target"]
    assert f"within {100 * max(abs(one - 1) for one in power):.1f} % of the theory" in PAGE
    rows = figures["skewness_against_bihalofit"].values()
    *first, last = (f"{row['value']:.2f} ± {row['standard_error']:.2f}" for row in rows)
    assert f"is {', '.join(first)} and {last}, where" in PAGE
    cone, lognormal = (figures["ktng"][name] for name in ("light cone", "lognormal"))
    assert f"rms of all z {cone['rms_z']:.2f} (lognormal maps {lognormal['rms_z']:.2f})" in PAGE
    raw, _, at_1, _ = cone["quantiles"]["z"]
    assert all(abs(z) < 1.1 for n, z in enumerate(at_1) if n != 2)
    assert f"its median {-at_1[2]:.1f} σ low" in PAGE
    assert f"raw resolution the median is {-raw[2]:.1f} σ low" in PAGE
    assert all(abs(z) < 1 for n, z in enumerate(raw) if n != 2)
    peaks = cone["peaks_1arcmin"]["z"]
    assert [n for n, z in enumerate(peaks) if abs(z) > 2] == [2, 3, 4]
    assert f"(−{-peaks[2]:.1f} σ)" in PAGE and f"({peaks[3]:.1f} and {peaks[4]:.1f} σ)" in PAGE
    rare = figures["ktng"]["how_rare"]["quantiles and peaks at 1 arcmin"]
    percent = f"{100 * rare['fields_with_as_large_a_z']:.1f} ± {100 * rare['error']:.1f} %"
    assert f"{percent} of the simulated fields" in PAGE
    assert rare["beyond_2_sigma"] == 4, "the page says four"
    usual = rare["beyond_2_sigma_in_simulated_fields"]
    assert (
        f"in {rare['numbers']} numbers at 1′ where a simulated field misses it {usual:.2f}" in PAGE
    )


def test_speed():
    for row in results("posterior_samples", BENCHMARKS)["rows"]:
        cell = f"{row['seconds_per_sample']:.2f} s, {row['peak_bytes'] / 1e6:.0f} MB"
        (line,) = (one for one in PAGE.splitlines() if one.startswith(f"| {row['size']}² |"))
        assert line.split(" | ")[1 if row["batch"] == 1 else 2].removesuffix(" |") == cell
    costs = {row["network"]: row for row in results("networks", BENCHMARKS)["rows"]}
    ours, theirs = (costs[name]["seconds"]["median"] for name in ("denoiser", "published"))
    assert f"takes {ours:.3f} s, one of the published network {theirs:.3f} s" in PAGE
    rows = {row["simulator"]: row for row in results("simulation", BENCHMARKS)["rows"]}
    cone, shells = rows["halo light cone"], rows["shell lognormal, JAX"]
    assert f"360²: {cone['maps_per_second']:.2f} a second of the halo light cone, " in PAGE
    assert f"{shells['maps_per_second']:.1f} of lognormal shells" in PAGE
    told = f"({cone['cpu_seconds_per_map']:.2f} and {shells['cpu_seconds_per_map']:.2f} CPU"
    assert told in PAGE


def test_coverage():
    found = results("covered")["parts"]["all"]
    said = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"last {100 * found['lines']:.1f} % and {100 * found['branches']:.1f} %" in said


def test_power_of_the_lensing_in_cosmos():
    found = results("shear_power")
    whole, half = (found["cosmos"][name] for name in ("all", "every other"))
    assert f"is {pm(whole, 2)} of that of the prior" in PAGE
    assert f"every other galaxy: {pm(half, 2)}" in PAGE
    mean, error = found["ratio"]
    assert f"{found['fields']} fields of the light cone with its mask and noise have" in PAGE
    assert f"{mean:.3f} ± {error:.3f} on average and scatter by {found['scatter']:.3f}" in PAGE
    assert f"from {found['least']:.2f} to {found['largest']:.2f}" in PAGE
    mean, error = found["ratio_flipped"]
    assert f"changed they have {mean:.3f} ± {error:.3f}" in PAGE
    assert 3.5 < (1 - whole["ratio"]) / found["scatter"] < 4.5, "four times that scatter"
    assert 1.4 < found["scatter"] / found["quoted_error"] < 1.7, "half as much again"
    assert f"COSMOS itself has {pm(whole, 2)} of the power" in NOT
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"COSMOS has {pm(whole, 2)}." in changelog


def test_one_thread_gives_the_same_bits_and_costs_nothing():
    path = ROOT / "experiments" / "benchmarks" / "results" / "deterministic.json"
    rows = json.loads(path.read_text())["rows"]
    assert all(row["different_maps_of_one_thread"] == 1 for row in rows)
    assert max(row["different_maps"] for row in rows) > 1, "the control"
    for row in rows:
        least, most = row["times_slower"]["quartiles"]
        assert least <= 1 <= most, "what page exact_and_approximate says cannot be measured"
