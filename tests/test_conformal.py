"""Conformal intervals keep what they promise, and what they do not promise is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import shear_map
from jaxmap.conformal import (
    Conformal,
    Scored,
    calibrate_intervals,
    conformal_of,
    held_out_coverage,
    read_conformal,
    score_field,
    write_conformal,
)
from jaxmap.conformal.calibrate import coverage
from jaxmap.conformal.thresholds import fewest_fields, pooled_threshold, position_threshold
from jaxmap.estimators import KaiserSquires
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field

KEY = jax.random.key(0)
GRID = Grid((13, 20), 1.0)
STD = np.full((2, *GRID.shape), 0.05)
STD[1] *= 1.5
STD[:, 3:7, 5:12] = 0
STD[:, -1] = 0


def correlated_scores(rng, num_fields, num_pixels=30):
    """Scores of pixels that share their field's scale: far from independent, heavy tails."""
    scale = np.exp(rng.normal(size=(num_fields, 1)))
    return scale * np.abs(rng.normal(size=(num_fields, num_pixels)))


@pytest.mark.parametrize(("num", "level"), [(9, 0.68), (9, 0.9), (20, 0.9)])
def test_thresholds_promise_no_more_than_they_keep(num, level):
    """Over 2000 calibrations and new fields: per position the coverage is exactly
    ceil((n + 1) level) / (n + 1), pooled at least the level and no more than 1 / (n + 1) above it,
    within 4 standard errors. The control, the plain quantile of the n fields' pixels, covers
    less, and of few fields less than it says."""
    rng = np.random.default_rng(num)
    found = {"position": [], "pooled": [], "naive": []}
    for _ in range(2000):
        *fields, new = correlated_scores(rng, num + 1)
        stack = np.array(fields)
        position = position_threshold(stack[:, None], level)[0]
        found["position"].append(np.mean(new <= position))
        found["pooled"].append(np.mean(new <= pooled_threshold(fields, level)))
        found["naive"].append(np.mean(new <= np.quantile(stack, level)))
    means = {name: np.mean(values) for name, values in found.items()}
    errors = {name: np.std(values) / np.sqrt(2000) for name, values in found.items()}
    exact = np.ceil((num + 1) * level - 1e-9) / (num + 1)
    assert abs(means["position"] - exact) < 4 * errors["position"]
    assert means["pooled"] > level - 4 * errors["pooled"]
    assert means["pooled"] < level + 1 / (num + 1) + 4 * errors["pooled"]
    gain = np.subtract(found["pooled"], found["naive"])
    assert gain.mean() > 4 * gain.std() / np.sqrt(2000)
    if num * (1 - level) < 1:
        assert means["naive"] < level - 4 * errors["naive"]


def test_the_thresholds_by_hand():
    """One pixel a field: both are the classic order statistic; fields of several pixels count
    once."""
    scores = [np.array([float(n)]) for n in (3, 1, 4, 2)]
    assert pooled_threshold(scores, 0.6) == 3 == position_threshold(np.array(scores), 0.6)[0]
    assert pooled_threshold(scores, 0.8) == 4
    assert np.isinf(pooled_threshold(scores, 0.81))
    assert np.isinf(position_threshold(np.array(scores), 0.81)).all()
    # Allowed: 3 x 0.5 - 1 = half a field. The many pixels of the first weigh as the two others.
    fields = [np.full(100, 5.0), np.array([1.0, 9.0]), np.array([])]
    assert pooled_threshold(fields, 0.5) == 5
    assert fewest_fields(0.9) == 9 and fewest_fields(0.68) == 3 and fewest_fields(0.5) == 1


@pytest.fixture(scope="module")
def pairs(spectrum):
    """Truth and shear of 40 fields, with a hole, a masked row and uneven noise."""
    depth = shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=STD)
    draw = jax.jit(partial(gaussian_field, spectrum=spectrum, grid=GRID))
    shear_of = jax.jit(partial(shear_from_convergence, grid=GRID))
    made = []
    for number in range(40):
        key_sky, key_noise = jax.random.split(jax.random.fold_in(KEY, number))
        truth = draw(key_sky)
        noise = jax.lax.complex(*(STD * jax.random.normal(key_noise, STD.shape)))
        shear = jnp.where(depth.mask, shear_of(truth) + noise, 0)
        made.append((truth, replace(depth, shear=shear)))
    return made


def as_kind(kind):
    """Kaiser-Squires with limits, with a std, or with neither; all far too narrow."""
    ks = KaiserSquires(1.0, 0)

    def estimator(key, shear):
        result = ks(key, shear)
        if kind == "interval":
            low, high = result.convergence - result.std, result.convergence + result.std
            return replace(result, lower=low, upper=high)
        return result if kind == "std" else replace(result, std=None)

    return estimator


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("kind", ["interval", "std", "plain"])
def test_intervals_cover_new_fields(pairs, kind, per_pixel):
    """On 20 new fields within 4 standard errors of the scatter of both halves; the estimator's own
    error bars, which lack the signal that smoothing and holes take, fall far short."""
    estimator, level = as_kind(kind), 0.8
    bounds = calibrate_intervals(KEY, estimator, pairs[:20], level, per_pixel=per_pixel)
    assert bounds.kind == kind and bounds.num_fields == 20
    inside, masked, naive = [], [], []
    for truth, shear in pairs[20:]:
        result = bounds(estimator(KEY, shear))
        mask = np.asarray(result.mask)
        true = truth + jnp.mean((result.convergence - truth)[mask])
        hits = np.asarray((result.lower <= true) & (true <= result.upper))
        inside.append(hits[mask].mean())
        masked.append(hits[~mask].mean())
        own = KaiserSquires(1.0, 0)(KEY, shear)
        naive.append(np.mean(np.abs(true - own.convergence)[mask] < 1.28 * own.std[mask]))
        told = result.diagnostics["conformal"]
        assert told == {
            "level": level,
            "kind": kind,
            "per_pixel": per_pixel,
            "calibration_fields": 20,
        }
    error = np.std(inside, ddof=1) * np.sqrt(2 / 20)
    assert level - 4 * error < np.mean(inside) < level + 1 / 21 + 4 * error
    error = np.std(masked, ddof=1) * np.sqrt(2 / 20)
    assert level - 4 * error < np.mean(masked)
    assert np.mean(naive) < level - 0.1


def test_held_out_fields_say_the_same(pairs):
    estimator = as_kind("std")
    scored = [score_field(estimator(KEY, shear), truth, shear) for truth, shear in pairs]
    found = held_out_coverage(scored, 0.8)
    assert abs(found.mean() - 0.8) < 1 / 32 + 4 * found.std() / np.sqrt(len(found))
    assert held_out_coverage(scored[:10], 0.89) is None
    narrow = replace(conformal_of(scored, 0.8), observed=np.asarray(1.28))
    assert coverage(scored, narrow).mean() < 0.7


def test_limits_in_the_precision_of_the_map(pairs, dtype, tmp_path):
    """And through a file, bit by bit; thresholds below 0 narrow limits, at most to nothing."""
    bounds = calibrate_intervals(KEY, as_kind("interval"), pairs[:5], method={"method": "ks"})
    write_conformal(tmp_path / "bounds.npz", bounds)
    again = read_conformal(tmp_path / "bounds.npz")
    assert again.method == {"method": "ks"} and again.noise_std == bounds.noise_std
    result = as_kind("interval")(KEY, pairs[0][1])
    result = jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, result)
    ours, theirs = bounds(result), again(result)
    np.testing.assert_array_equal(ours.lower, theirs.lower)
    assert ours.lower.dtype == dtype == ours.upper.dtype
    shrunk = replace(bounds, observed=np.asarray(-9.0), masked=np.asarray(0.0))(result)
    mask = np.asarray(result.mask)
    np.testing.assert_array_equal(shrunk.lower[mask], shrunk.upper[mask])
    np.testing.assert_array_equal(shrunk.upper[~mask], result.upper[~mask])


def test_pixels_that_no_field_masked_get_no_interval(pairs):
    whole = [(truth, replace(shear, weight=shear.weight + 1)) for truth, shear in pairs[:4]]
    bounds = calibrate_intervals(KEY, as_kind("plain"), whole)
    result = bounds(as_kind("plain")(KEY, pairs[0][1]))
    mask = np.asarray(result.mask)
    assert np.isnan(result.lower[~mask]).all() and np.isfinite(result.lower[mask]).all()


def test_what_is_refused(pairs, tmp_path):
    estimator, (truth, shear) = as_kind("std"), pairs[0]
    ks = {"method": "ks", "smoothing_arcmin": 1.0}
    bounds = calibrate_intervals(KEY, estimator, pairs[:4], method=ks)
    bounds.check(shear, ks)
    with pytest.raises(ValueError, match=r"for smoothing_arcmin = 1\.0, and the map .* with 2\.0"):
        bounds.check(shear, {**ks, "smoothing_arcmin": 2.0})
    with pytest.raises(ValueError, match="for method = ks, and the map is made with wiener"):
        bounds.check(shear, {**ks, "method": "wiener"})
    coarse = replace(shear, grid=Grid(GRID.shape, 1.2))
    with pytest.raises(ValueError, match=r"pixels are 1\.2 arcmin wide, and were 1 in the calib"):
        bounds.check(coarse, ks)
    with pytest.raises(ValueError, match=r"noise of a shear component is .* and was .* calibrate"):
        bounds.check(replace(shear, weight=shear.weight / 4), ks)
    with pytest.raises(ValueError, match="map has neither limits nor a standard deviation, and"):
        bounds(as_kind("plain")(KEY, shear))
    placed = calibrate_intervals(KEY, estimator, pairs[:4], per_pixel=True)
    part = MassMap(truth[:9], Grid((9, 20), 1.0), shear.mask[:9], std=truth[:9])
    with pytest.raises(ValueError, match=r"map has \(9, 20\) pixels, and the intervals were"):
        placed(part)
    with pytest.raises(ValueError, match="2 fields were given; expected at least 3"):
        calibrate_intervals(KEY, estimator, pairs[:2])
    with pytest.raises(ValueError, match=r"the level is 1\.0; expected a number between 0 and 1"):
        calibrate_intervals(KEY, estimator, pairs[:4], 1.0)
    with pytest.raises(ValueError, match=r"truth has shape \(9, 20\) and the map \(13, 20\)"):
        calibrate_intervals(KEY, estimator, [(truth[:9], shear)] * 4)
    scores = np.zeros((4, 5))
    mixed = [
        Scored("std", scores, scores == 0, 1.0, 0.1),
        Scored("plain", scores, scores == 0, 1, 1),
    ]
    with pytest.raises(ValueError, match=r"kinds .* expected one of each"):
        conformal_of(mixed * 2)


def test_files_that_are_none(pairs, tmp_path):
    path = tmp_path / "bounds.npz"
    with pytest.raises(ValueError, match=r"no file .*bounds\.npz; give one that jaxmap calibrate"):
        read_conformal(path)
    bounds = Conformal(0.68, "plain", np.ones(()), np.ones(()), 9, 1.0, (0.1, 0.2))
    write_conformal(path, bounds)
    whole = path.read_bytes()
    for text in (whole[:200], b"", json.dumps({"a": 1}).encode()):
        path.write_bytes(text)
        with pytest.raises(ValueError, match="not a whole file of jaxmap conformal intervals"):
            read_conformal(path)
    np.savez(path, header=np.frombuffer(b'{"format": "other"}', np.uint8), observed=1, masked=1)
    with pytest.raises(ValueError, match="of another format"):
        read_conformal(path)
