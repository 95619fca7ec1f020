"""Results in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.diagnostics import SignCheck
from jaxmap.massmap import MassMap


def describe_input(catalog: ShearCatalog, shear: ShearMap, shape_noise: float, source: str) -> str:
    ny, nx = shear.grid.shape
    assert shear.counts is not None and shear.grid.centre_deg is not None
    counts = np.asarray(shear.counts)
    observed = counts > 0
    ra, dec = shear.grid.centre_deg
    density = counts.mean() / shear.grid.pixel_arcmin**2
    inside = counts.sum() / observed.sum()
    # Few in each and most of them empty: pixels too fine, rather than gaps.
    sparse = observed.mean() < 0.5 and inside < 2
    return (
        f"{len(catalog):,} galaxies from {source}, {int(counts.sum()):,} of them in the field "
        f"({density:.3g} per arcmin2 of its area, {inside:.3g} in a pixel that holds any; shape "
        f"noise {shape_noise:.3f} per component).\n"
        f"Field: {nx} x {ny} pixels of {shear.grid.pixel_arcmin:g} arcmin around RA {ra:.4f}, "
        f"Dec {dec:+.4f}; {observed.mean():.0%} of the pixels hold galaxies"
        + ("; larger ones would hold more (--pixel-arcmin)." if sparse else ".")
    )


def describe_signs(signs: SignCheck) -> str:
    return (
        f"Signs: E modes exceed B modes by {signs.as_given:.1f} sigma as given, "
        f"{signs.flipped:.1f} sigma with e2 flipped."
    )


def describe_sources(nz: str | None, spectrum: str | None) -> str:
    """Whose power spectrum is expected of the convergence."""
    whose = f"for the n(z) of {nz}" if nz else "for the n(z) of COSMOS, since no --nz is given"
    if spectrum:
        whose = f"that of {spectrum}"
    return (
        f"Power spectrum: {whose}; the prior of wiener and mcalens, and what networks and null "
        "tests are compared with."
    )


def describe_map(result: MassMap, method: str) -> str:
    mask = np.asarray(result.mask)
    convergence = np.asarray(result.convergence)
    lines = [f"Convergence ({method}): rms {convergence[mask].std():.4f}"]
    if result.b_mode is not None:
        lines[0] += f", B mode {np.asarray(result.b_mode)[mask].std():.4f}"
    if result.std is not None:
        std = np.asarray(result.std)
        resampled = "noise_realisations" in result.diagnostics
        name = "noise" if resampled else "error"
        lines[0] += f", {name} {np.sqrt(np.mean(std[mask] ** 2)):.4f} per pixel"
        if resampled:
            lines[0] += f" (of {result.diagnostics['noise_realisations']} realisations; no bias)"
        if (peak := _peak(result)) is not None:
            place = ""
            if result.grid.centre_deg is not None:
                ra, dec = result.grid.wcs().all_pix2world(*peak[::-1], 0)
                place = f" at RA {float(ra):.4f}, Dec {float(dec):+.4f}"
            lines.append(
                f"Highest peak: S/N {np.asarray(result.signal_to_noise)[peak]:.1f}{place} "
                f"(convergence {convergence[peak]:.3f} +- {std[peak]:.3f})."
            )
    lines[0] += "."
    if result.samples is not None:
        lines.append(_describe_samples(result))
    if "conformal" in result.diagnostics:
        lines.append(_describe_intervals(result))
    return "\n".join(lines)


def _peak(result: MassMap) -> tuple[int, int] | None:
    """Row and column of the observed pixel of highest convergence, where its S/N means something.

    Not that of highest S/N: from few samples that is where the error is too small by chance, and of
    Kaiser-Squires where the data end.
    """
    if result.std is None or (result.samples is not None and len(result.samples) < 10):
        return None
    mask, convergence = np.asarray(result.mask), np.asarray(result.convergence)
    row, column = np.unravel_index(np.argmax(np.where(mask, convergence, -np.inf)), mask.shape)
    return int(row), int(column)


def compare_maps(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A table of the figures of `map_figures`, one method a line; without figures, it failed."""
    columns = {"seconds": ".1f", "rms": ".4f", "B mode": ".4f", "error": ".4f", "chi2": ".3f"}
    columns["peak S/N"] = ".1f"
    lines = [f"{'method':<12}" + "".join(f"{name:>9}" for name in columns)]
    for method, row in rows.items():
        cells = (
            f"{row[name]:>9{form}}" if name in row else f"{'-':>9}"
            for name, form in columns.items()
        )
        lines.append(f"{method:<12}" + ("".join(cells) if row else "   failed"))
    lines.append(
        "(rms, B mode and error: of the convergence, per observed pixel, each method's own error; "
        "chi2: of the map's residuals per observed component, 1 is noise alone; peak S/N: of the "
        "highest peak)"
    )
    return "\n".join(lines)


def map_figures(result: MassMap, chi2: float, seconds: float) -> dict[str, float]:
    """What `compare_maps` shows of a map, as far as it is known.

    Args:
        result: the map.
        chi2: of its residuals.
        seconds: it took.
    """
    mask = np.asarray(result.mask)
    figures = {"seconds": seconds, "rms": np.asarray(result.convergence)[mask].std(), "chi2": chi2}
    if result.b_mode is not None:
        figures["B mode"] = np.asarray(result.b_mode)[mask].std()
    if result.std is not None:
        figures["error"] = np.sqrt(np.mean(np.asarray(result.std)[mask] ** 2))
    if (peak := _peak(result)) is not None:
        figures["peak S/N"] = np.asarray(result.signal_to_noise)[peak]
    return {name: float(value) for name, value in figures.items()}


def describe_null_tests(figures: Mapping[str, Any]) -> str:
    """Figures of `jaxmap.null_tests`: of the data, and of a map if they are there."""
    b_modes, found = figures["b_modes"], figures["jackknife"]
    p_value, num = b_modes["p_value"], b_modes["num"]
    verdict = "none seen"
    if p_value <= 0.05:
        verdict = "perhaps some; repeat with another --seed and a larger --null-tests"
        if b_modes["excess"] > 5:
            verdict = "SEEN: systematics, a wrong sign (--flip-e2), or noise beyond the weights"
    lines = [
        f"Null tests: B modes have {b_modes['ratio']:.2f} of the power that noise and leakage "
        f"make, p = {p_value:.2g} among {num} simulated skies without any: {verdict}."
    ]
    if "power" in figures:
        lines.append(_describe_power(figures["power"]))
    shares = found["without"]
    lines.append(
        f"E exceeds B power by {found['total']:.1f} sigma of the field's own scatter (jackknife of "
        f"{len(shares)} blocks)."
    )
    if found["total"] > 3 and min(shares) < 0.5:
        lines[-1] = lines[-1][:-1] + f"; without one of them {min(shares):.0%} of it is left."
    if "noise_chi2" in figures:
        noise = figures["noise_chi2"]
        lines.append(
            f"Noise, from random signs of the shapes: {noise['value']:.3f} +- {noise['error']:.3f} "
            "of what the weights tell."
        )
    if "residual_chi2" in figures:
        lines.append(
            f"Residuals of the map: chi2 {figures['residual_chi2']:.3f} per observed component (1: "
            "noise alone)."
        )
    return "\n".join(lines)


def _describe_power(power: Mapping[str, float]) -> str:
    """Of `jaxmap.null_tests.power_test`, whose error is that of Gaussian skies. Skies of haloes
    scatter half as much again (``experiments/shear_power.py``), hence five of it."""
    ratio, error = power["ratio"], power["error"]
    told = f"Power of the lensing: {ratio:.2f} +- {error:.2f} of that of the prior"
    if not 0 < error < 0.5:
        return f"{told}: these data cannot tell it."
    if abs(ratio - 1) < 5 * error:
        return f"{told}."
    more = "more" if ratio < 1 else "less"
    return (
        f"{told}: NOT WHAT IS EXPECTED. Check the redshifts (--nz) and the calibration of the "
        "ellipticities (--m), or the field is unusual; wiener, mcalens and networks expect "
        f"{more} structure than there is."
    )


def _describe_intervals(result: MassMap) -> str:
    told = result.diagnostics["conformal"]
    lower, upper = np.asarray(result.lower), np.asarray(result.upper)
    widths = (upper - lower)[np.asarray(result.mask)]
    promise = "at every position" if told["per_pixel"] else "of the observed pixels on average"
    return (
        f"Intervals, {np.mean(widths) / 2:.4f} to either side on average, hold the truth in "
        f"{told['level']:.0%} {promise}, if the survey is like the {told['calibration_fields']} "
        "simulated ones they were calibrated on (LOWER, UPPER)."
    )


def _describe_samples(result: MassMap) -> str:
    assert result.samples is not None
    figures = result.diagnostics
    text = f"{len(result.samples)} posterior samples drawn"
    if "network_evaluations_per_sample" in figures:
        evaluations = f"{figures['network_evaluations_per_sample']:.1f}".removesuffix(".0")
        text += f", {evaluations} evaluations of the prior each"
    if "chi2_per_pixel" in figures:
        text += f"; chi2 per observed component {figures['chi2_per_pixel']:.4f}"
    return text + "."
