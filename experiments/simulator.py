"""Maps of the halo-model light cone against theory, lognormal maps and a kTNG map.

Cosmology, n(z) and baryons are those of the kTNG maps (Planck 2015; COSMOS sources stretched by
1.05 in redshift, which reproduces the published theory spectrum; IllustrisTNG-like suppression).
Statistics are of 360^2 fields cut from periodic 720^2 maps, each less its mean, as the kTNG map is
one field. Writes results/simulator.json, simulator.png (statistics) and simulator_maps.png. Needs
colossus the first time.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, new_figure, save

from jaxmap.cosmology import limber_power
from jaxmap.grid import Grid
from jaxmap.matter_power import Cosmology, matter_power
from jaxmap.operators import gaussian_smooth
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts, redshift_distribution
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.fields import lognormal_field
from jaxmap.simulation.lightcone import light_cone_with_haloes
from jaxmap.simulation.shells import make_shells
from jaxmap.spectra import PowerSpectrum, map_power, power_spectrum

PLANCK15 = Cosmology(omega_m=0.3089, omega_b=0.0486, h=0.6774, n_s=0.9667, sigma8=0.8159)
SKY, FIELD = Grid((720, 720), 0.29), Grid((360, 360), 0.29)
SMOOTHING = (0.0, 0.5, 1.0, 2.0)
QUANTILES = (0.1, 1.0, 50.0, 99.0, 99.9)
PEAK_EDGES = (-0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.2)
EDGES = np.geomspace(300, 3e4, 13)
BIHALOFIT_SKEWNESS = {0.5: 2.00, 1.0: 1.60, 2.0: 1.14, 4.0: 0.72}
"""Takahashi et al. (2020), ApJ 895, 113, with baryons, for this cosmology, these sources and maps.

The light cone's shift and smoothing were set to them; bihalofit.py finds 2.04, 1.63, 1.15, 0.72.
"""


def main() -> None:
    options = arguments(__doc__)
    # Whole maps are cheap to measure, and the largest scales need many for a percent.
    num_maps, num_cut = (4, 4) if options.quick else (400, 200)
    redshifts = stretched_cosmos_redshifts()
    start = time.perf_counter()
    cone = build_light_cone(SKY, redshifts, PLANCK15, TNG_BARYONS)
    build_seconds = time.perf_counter() - start
    theory = target_power(redshifts)

    simulate = jax.jit(lambda key: light_cone_with_haloes(key, cone, SKY))
    in_pixels = in_mean_pixel(theory)
    lognormal = jax.jit(lambda key: lognormal_field(key, in_pixels, SKY, 0.045))
    light_cone = measured(lambda key: simulate(key)[0], options.seed, num_maps, num_cut)
    figures = {
        "num_maps": num_maps,
        "num_fields": 4 * num_cut,
        "build_seconds": build_seconds,
        "power": power_figures(light_cone["power"], theory),
        "skewness_against_bihalofit": skewness_figures(light_cone["moments"]),
    }
    rows = {"light cone": light_cone["fields"]}
    num_cut = max(num_cut // 4, 4)
    rows["lognormal"] = measured(lognormal, options.seed + 1, num_cut, num_cut)["fields"]
    table = options.data / "ktng" / "table1.npz"
    ktng = None
    if table.is_file():
        ktng = np.load(table, allow_pickle=False)["convergence"]
        truth = {name: np.asarray(value) for name, value in field_statistics(ktng).items()}
        figures["ktng"] = {name: against(values, truth) for name, values in rows.items()}
        figures["ktng"]["how_rare"] = how_rare(rows["light cone"], truth)
    save(options, "simulator", figures)
    example = np.asarray(simulate(jax.random.key(options.seed))[0])[:360, :360]
    draw_statistics(options.out / "simulator.png", figures, rows, ktng)
    flat = np.asarray(lognormal(jax.random.key(options.seed)))[:360, :360]
    draw_maps(options.out / "simulator_maps.png", example, flat, ktng)


def stretched_cosmos_redshifts() -> RedshiftDistribution:
    """The digitised n(z), stretched; cut at z = 5, where next to no source is left."""
    cosmos = cosmos_redshifts()
    z, density = 1.05 * np.asarray(cosmos.z), np.asarray(cosmos.density)
    return redshift_distribution(z[z <= 5], density[z <= 5])


def target_power(redshifts: RedshiftDistribution) -> PowerSpectrum:
    """Non-linear power with baryons, without the pixel window."""
    ell, matter = np.geomspace(10, 1e5, 600), matter_power(PLANCK15)
    shells = make_shells(matter, redshifts, 150.0, 5.0)
    suppression = shells.power(matter, ell, TNG_BARYONS).sum(0) / shells.power(matter, ell).sum(0)
    return power_spectrum(ell, suppression * np.asarray(limber_power(matter, redshifts, ell)))


def in_mean_pixel(theory: PowerSpectrum) -> PowerSpectrum:
    """The spectrum times the pixel window, averaged over directions."""
    ell, angle = np.asarray(theory.ell), np.linspace(0, np.pi / 2, 33)
    turn = ell[:, None] * SKY.pixel_sr**0.5 / (2 * np.pi)
    window = (np.sinc(turn * np.cos(angle)) * np.sinc(turn * np.sin(angle))) ** 2
    return power_spectrum(ell, np.asarray(theory.c_ell) * window.mean(axis=1))


@partial(jax.jit, static_argnums=1)
def whole_map_statistics(field: jax.Array, grid: Grid):
    """Band powers of a periodic map, and its moments of order 2 and 3 after smoothing."""
    smooth = jnp.stack([gaussian_smooth(field, grid, s) for s in BIHALOFIT_SKEWNESS])
    moments = jnp.stack([jnp.mean(smooth**n, axis=(1, 2)) for n in (2, 3)])
    return map_power(field, grid, EDGES)[1], moments


@jax.jit
def smoothed_field(field: jax.Array) -> jax.Array:
    return jnp.stack([gaussian_smooth(field, FIELD, s) for s in SMOOTHING])


def field_statistics(field: np.ndarray) -> dict[str, np.ndarray]:
    """One-point statistics, peaks and starlet scales of a 360^2 field."""
    field = np.asarray(field, float)
    field = field - field.mean()
    smooth = np.asarray(smoothed_field(jnp.asarray(field, jnp.float32)), float)
    smooth = smooth - smooth.mean(axis=(1, 2), keepdims=True)
    std = smooth.std(axis=(1, 2))
    scales = starlet(field)
    scale_std = scales.std(axis=(1, 2))
    return {
        "std": std,
        "skewness": np.mean(smooth**3, axis=(1, 2)) / std**3,
        "excess_kurtosis": np.mean(smooth**4, axis=(1, 2)) / std**4 - 3,
        "quantiles": np.percentile(smooth, QUANTILES, axis=(1, 2)).T,
        "peaks_1arcmin": np.histogram(peak_heights(smooth[2]), PEAK_EDGES)[0].astype(float),
        "starlet_std": scale_std,
        "starlet_skewness": np.mean(scales**3, axis=(1, 2)) / scale_std**3,
        "power": tapered_power(field),
    }


def peak_heights(field: np.ndarray) -> np.ndarray:
    """Pixels above their eight neighbours."""
    inner = field[1:-1, 1:-1]
    ny, nx = field.shape
    around = [
        field[1 + y : ny - 1 + y, 1 + x : nx - 1 + x]
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
        if (y, x) != (0, 0)
    ]
    return inner[inner > np.max(around, axis=0)]


def starlet(field: np.ndarray, num_scales: int = 5) -> np.ndarray:
    """Isotropic undecimated wavelet coefficients (B3 spline, periodic), finest scale first."""
    scales = []
    for scale in range(num_scales):
        smooth = field
        for axis in (0, 1):
            taps = ((0, 6), (1, 4), (-1, 4), (2, 1), (-2, 1))
            smooth = sum(w / 16 * np.roll(smooth, k * 2**scale, axis) for k, w in taps)
        scales.append(field - smooth)
        field = smooth
    return np.stack(scales)


def tapered_power(field: np.ndarray) -> np.ndarray:
    """Band powers of a field that is not periodic, its borders tapered by a cosine over 20 %."""
    n = field.shape[0]
    edge = n // 5
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    window = np.concatenate([ramp, np.ones(n - 2 * edge), ramp[::-1]])
    window = window[:, None] * window[None, :]
    power = map_power(jnp.asarray(field * window), FIELD, EDGES)[1]
    return np.asarray(power) / np.mean(window**2)


def measured(simulate, seed: int, num_maps: int, num_cut: int) -> dict[str, list]:
    """Statistics of whole maps, and of the four fields of the first ``num_cut`` of them."""
    powers, moments, fields = [], [], []
    for number in range(num_maps):
        field = simulate(jax.random.fold_in(jax.random.key(seed), number))
        power, moment = whole_map_statistics(field, SKY)
        powers.append(np.asarray(power, float))
        moments.append(np.asarray(moment, float))
        if number >= num_cut:
            continue
        host = np.asarray(field)
        for y in (0, 360):
            for x in (0, 360):
                fields.append(field_statistics(host[y : y + 360, x : x + 360]))
    assert np.all(np.isfinite(powers)), "haloes were lost"
    columns = {name: np.stack([row[name] for row in fields]) for name in fields[0]}
    return {"power": np.stack(powers), "moments": np.stack(moments), "fields": columns}


def power_figures(powers: np.ndarray, theory) -> dict[str, list]:
    """Mean over target per band, with standard errors; the target includes the pixel window."""
    at = np.asarray(SKY.ell())
    half = SKY.pixel_sr**0.5 / (2 * np.pi)
    wanted = (
        np.asarray(theory(np.abs(at))) * (np.sinc(half * at.real) * np.sinc(half * at.imag)) ** 2
    )
    band = np.digitize(np.abs(at), EDGES) - 1
    expected = np.asarray([wanted[band == b].mean() for b in range(len(EDGES) - 1)])
    ratio = powers / expected
    return {
        "ell_edges": EDGES.tolist(),
        "mean_over_target": ratio.mean(axis=0).tolist(),
        "standard_error": (ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))).tolist(),
        "target": expected.tolist(),
    }


def skewness_figures(moments: np.ndarray) -> dict[str, dict[str, float]]:
    """Pooled skewness of whole maps, errors by jackknife."""
    n = len(moments)

    def skewness(sample: np.ndarray) -> np.ndarray:
        second, third = sample.mean(axis=0)
        return third / second**1.5

    left_out = np.stack([skewness(np.delete(moments, i, axis=0)) for i in range(n)])
    error = np.sqrt((n - 1) * left_out.var(axis=0))
    return {
        f"{arcmin} arcmin": {"value": value, "standard_error": e, "bihalofit": theory}
        for (arcmin, theory), value, e in zip(
            BIHALOFIT_SKEWNESS.items(), skewness(moments), error, strict=True
        )
    }


def against(fields: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, dict]:
    """Every statistic of one real field within the scatter of simulated ones."""
    result = {}
    for name, values in fields.items():
        mean, scatter = values.mean(axis=0), values.std(axis=0, ddof=1)
        z = (truth[name] - mean) / np.where(scatter > 0, scatter, np.inf)
        result[name] = {
            "ktng": truth[name].tolist(),
            "mean": mean.tolist(),
            "scatter": scatter.tolist(),
            "z": z.tolist(),
        }
    result["rms_z"] = float(
        np.sqrt(np.mean(np.concatenate([np.ravel(r["z"]) for r in result.values()]) ** 2))
    )
    return result


def how_rare(fields: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, Any]:
    """How many simulated fields are as far from their mean as the real one: as large a largest z.

    Of many numbers some are beyond 2 sigma by chance, and counts of few peaks have long tails;
    simulated fields, each against the others, tell how far off is usual.
    """
    at_1_arcmin = SMOOTHING.index(1.0)

    def chosen(statistics: dict[str, np.ndarray], at_1: bool) -> np.ndarray:
        if at_1:
            quantiles = statistics["quantiles"][..., at_1_arcmin, :]
            return np.concatenate([quantiles, statistics["peaks_1arcmin"]], axis=-1)
        lead = statistics["peaks_1arcmin"].shape[:-1]
        return np.concatenate([v.reshape(*lead, -1) for v in statistics.values()], axis=-1)

    found = {}
    for name, at_1 in (("quantiles and peaks at 1 arcmin", True), ("all statistics", False)):
        values, real = chosen(fields, at_1), chosen(truth, at_1)
        num = len(values)
        mean, scatter = values.mean(axis=0), values.std(axis=0, ddof=1)
        # Of a field against the others: without it in their mean and scatter, to first order.
        largest = np.max(np.abs(values - mean) / scatter, axis=1) * num / (num - 1)
        of_real = float(np.max(np.abs(real - mean) / scatter))
        share = float(np.mean(largest >= of_real))
        found[name] = {
            "numbers": len(real),
            "beyond_2_sigma": int(np.sum(np.abs(real - mean) > 2 * scatter)),
            "beyond_2_sigma_in_simulated_fields": float(
                np.mean(np.sum(np.abs(values - mean) > 2 * scatter, axis=1))
            ),
            "largest_z": of_real,
            "fields_with_as_large_a_z": share,
            "error": float(np.sqrt(max(share * (1 - share), 1 / num) / num)),
        }
    return found


def draw_statistics(path, figures, rows, ktng) -> None:
    figure = new_figure(13, 7.5)
    grid = figure.subplots(2, 3)
    ell = np.sqrt(EDGES[1:] * EDGES[:-1])
    power = figures["power"]
    axes = grid[0, 0]
    axes.errorbar(ell, power["mean_over_target"], power["standard_error"], fmt="o", capsize=3)
    axes.axhspan(0.97, 1.03, color="0.9", zorder=0)
    axes.set(xscale="log", xlabel="multipole", ylabel="mean power / target", ylim=(0.9, 1.1))
    axes.set_title(f"{figures['num_maps']} maps of 3.5 degrees")
    axes = grid[0, 1]
    skewness = figures["skewness_against_bihalofit"]
    arcmin = list(BIHALOFIT_SKEWNESS)
    axes.errorbar(
        arcmin,
        [row["value"] for row in skewness.values()],
        [row["standard_error"] for row in skewness.values()],
        fmt="o",
        capsize=3,
        label="light cone",
    )
    axes.plot(arcmin, list(BIHALOFIT_SKEWNESS.values()), "k_", markersize=16, label="BiHalofit")
    axes.set(xlabel="smoothing [arcmin]", ylabel="skewness")
    axes.legend(frameon=False)
    truth = None if ktng is None else field_statistics(ktng)
    peaks = np.asarray(PEAK_EDGES)
    panels = (
        (grid[0, 2], ell, "power", "multipole", "band power [sr]"),
        (grid[1, 0], 0.5 * (peaks[1:] + peaks[:-1]), "peaks_1arcmin", "peak height", "peaks"),
        (grid[1, 1], np.arange(1, 6), "starlet_std", "starlet scale", "std"),
        (grid[1, 2], np.arange(1, 6), "starlet_skewness", "starlet scale", "skewness"),
    )
    for axes, x, name, xlabel, ylabel in panels:
        for (label, fields), colour in zip(rows.items(), ("C0", "C1"), strict=True):
            mean, scatter = fields[name].mean(axis=0), fields[name].std(axis=0, ddof=1)
            axes.plot(x, mean, color=colour, label=label)
            axes.fill_between(x, mean - scatter, mean + scatter, color=colour, alpha=0.2)
        if truth is not None:
            axes.plot(x, truth[name], "k.", label="kTNG")
        axes.set(xlabel=xlabel, ylabel=ylabel)
    grid[0, 2].set(xscale="log", yscale="log")
    grid[1, 0].set(yscale="log", ylim=(0.3, 300))
    grid[0, 2].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_maps(path, light_cone, lognormal, ktng) -> None:
    maps = {"halo light cone": light_cone, "lognormal": lognormal}
    if ktng is not None:
        maps = {"kTNG": ktng, **maps}
    figure = new_figure(5 * len(maps), 5.3)
    side = 360 * 0.29
    for axes, (name, field) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        shown = field - field.mean()
        axes.imshow(
            shown, origin="lower", extent=(0, side, 0, side), cmap="inferno", vmin=-0.04, vmax=0.12
        )
        axes.set_title(name)
        axes.set_xlabel("arcmin")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
