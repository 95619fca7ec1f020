"""All numbers of one simulated field: where its truth lies among its posterior samples.

Strata that depend on the prediction (the top 1 % of pixels by predicted mean, bands of predicted
standard deviation) are chosen on one half of the samples and judged on the other, then the halves
change places. Chosen on the very samples that are judged, pixels whose samples scatter high, or
little, by chance would be found again and again, and even a perfect posterior would look wrong. No
stratum depends on the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmap.calibration.ranks import Floats, rank_histogram, ranks_of_truth, spread_ranks
from jaxmap.calibration.summaries import Summaries, band_modes, centred, scalars, smoothed
from jaxmap.calibration.tarp import distances

Region = NDArray[np.bool_]

TOP_SHARE = 0.01
NUM_STD_BANDS = 4
FEWEST_SAMPLES, FEWEST_PIXELS = 9, 100


@dataclass(frozen=True, eq=False)
class Judged:
    """A field whose truth is known, on the host.

    Args:
        truth: convergence, shape ``(ny, nx)``.
        samples: posterior samples, shape ``(n, ny, nx)``.
        observed: True where the shear was observed.
        reference: of TARP (`jaxmap.calibration.tarp.reference_map`).
        wiener: Wiener map of the data, to compare the error with.
        chi2: of the truth, then of every sample, per observed component; None if the mass outside
            the field acts on the data, which the map does not hold.
    """

    truth: Floats
    samples: Floats
    observed: Region
    reference: Floats
    wiener: Floats
    chi2: Floats | None = None


def judge_field(rng: np.random.Generator, field: Judged, summaries: Summaries) -> dict[str, Any]:
    r"""The field's numbers, as JSON can hold them.

    Returns:
        ``histograms``: of ranks 0 ... L, for pixels of every stratum and modes of every band.
        ``squares``: for regions of pixels, sums of predicted variance :math:`v`, of
        :math:`(\kappa - \bar\kappa_s)^2 - v/L`, of :math:`\bar\kappa_s - \kappa` and of
        :math:`\sqrt v`.
        ``positions``: ranks of scalars, spread on 0 to 1.
        ``means``: of scalars, over the samples and of the truth.
        ``errors``: mean square error in observed pixels of the posterior mean (the scatter of the
        finite number of samples taken out) and of the Wiener map.

    Raises:
        ValueError: for too few samples or observed pixels.
    """
    _check(field)
    observed, num = field.observed, len(field.samples)
    maps = centred(np.concatenate([field.truth[None], field.samples]), observed)
    truth, samples = maps[0], maps[1:]
    smooth = smoothed(maps, summaries)
    modes = band_modes(maps, observed, summaries)

    regions = {"observed": observed, "masked": ~observed}
    ranks = ranks_of_truth(rng, truth, samples)
    histograms = {
        f"pixels, {name}": rank_histogram(ranks[region], num) for name, region in regions.items()
    }
    squares = {name: _squares(truth, samples, region) for name, region in regions.items()}
    for name, hits, sums in _predicted_strata(rng, truth, samples, observed, summaries):
        histograms[f"pixels, {name}"] = hits
        squares[name] = sums
    for name, parts in modes.items():
        hits = rank_histogram(ranks_of_truth(rng, parts[0], parts[1:]), num)
        histograms[f"modes, {name}"] = hits

    values = {f"power, {name}": np.mean(parts**2, axis=1) for name, parts in modes.items()}
    values |= scalars(smooth, observed, summaries)
    if field.chi2 is not None:
        values["chi2"] = field.chi2
    reference = centred(field.reference, observed)
    balls = {
        "TARP, pixels": distances(maps, reference, observed),
        "TARP, smoothed": distances(smooth, smoothed(reference, summaries), observed),
    }
    everything = values | balls
    drawn = [ranks_of_truth(rng, v[:1], v[1:, None])[0] for v in everything.values()]
    positions = spread_ranks(rng, np.array(drawn, float), num)
    wiener = centred(field.wiener, observed)
    return {
        "num_samples": num,
        "histograms": histograms,
        "squares": squares,
        "positions": dict(zip(everything, positions.tolist(), strict=True)),
        "means": {name: [float(np.mean(v[1:])), float(v[0])] for name, v in values.items()},
        "errors": [
            squares["observed"][1] / int(observed.sum()),
            float(np.mean((wiener - truth)[observed] ** 2)),
        ],
    }


def _squares(truth: Floats, samples: Floats, region: Region) -> list[float]:
    """Sums over a region of variance, squared error, error and standard deviation."""
    inside = samples[:, region]
    variance = np.var(inside, axis=0, ddof=1)
    error = np.mean(inside, axis=0) - truth[region]
    sums = (variance, error**2 - variance / len(samples), error, np.sqrt(variance))
    return [float(np.sum(values)) for values in sums]


def _predicted_strata(
    rng: np.random.Generator,
    truth: Floats,
    samples: Floats,
    observed: Region,
    summaries: Summaries,
) -> list[tuple[str, list[int], list[float]]]:
    """Names, rank histograms and squares of the strata that one half of the samples chooses."""
    half = len(samples) // 2
    first, second = samples[:half], samples[half : 2 * half]
    totals: dict[str, tuple[NDArray[np.integer], Floats]] = {}
    for choosing, judged in ((first, second), (second, first)):
        ranks = ranks_of_truth(rng, truth, judged)
        for name, region in _choose(choosing, observed, summaries).items():
            hits = np.array(rank_histogram(ranks[region], half))
            sums = np.array(_squares(truth, judged, region))
            before = totals.get(name)
            totals[name] = (hits, sums) if before is None else (before[0] + hits, before[1] + sums)
    return [(name, hits.tolist(), sums.tolist()) for name, (hits, sums) in totals.items()]


def _choose(samples: Floats, observed: Region, summaries: Summaries) -> dict[str, Region]:
    """Regions by predicted mean and by predicted, locally averaged variance."""
    mean, variance = np.mean(samples, axis=0), np.var(samples, axis=0, ddof=1)
    regions = {"top 1 %": observed & (mean > np.quantile(mean[observed], 1 - TOP_SHARE))}
    local = smoothed(variance, summaries)
    edges = np.quantile(local[observed], np.arange(1, NUM_STD_BANDS) / NUM_STD_BANDS)
    band = np.digitize(local, edges)
    for number in range(NUM_STD_BANDS):
        regions[f"std quarter {number + 1}"] = observed & (band == number)
    return regions


def _check(field: Judged) -> None:
    if len(field.samples) < FEWEST_SAMPLES:
        raise ValueError(
            f"the estimator gave {len(field.samples)} posterior samples; expected at least "
            f"{FEWEST_SAMPLES}: ask for more (num_samples, --num-samples)"
        )
    if field.samples.shape[1:] != field.truth.shape:
        raise ValueError(
            f"the samples have shape {field.samples.shape[1:]} and the field {field.truth.shape}; "
            "expected maps on the grid of the data"
        )
    if not np.all(np.isfinite(field.samples)):
        raise ValueError("some posterior samples are not finite; expected real convergence maps")
    if field.observed.sum() < FEWEST_PIXELS:
        raise ValueError(
            f"the field has {field.observed.sum()} observed pixels; expected at least "
            f"{FEWEST_PIXELS}: give a larger field (--size) or a survey with smaller holes"
        )
