"""Do patches of a survey show where they meet? Errors, std and power at seams against interiors.

Gaussian skies on the sphere, a survey of each in overlapping patches, and the same galaxies in one
big patch: merged maps are compared with the truth and with the big patch, in pixels near the
borders of HEALPix cells and in pixels far from any. Errors of one survey are over patches of sky
(jackknife); surveys are put together by their mean and its standard error, and power by all
squares of all surveys. The control is a survey whose patches overlap by one pixel.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
from common import arguments, save
from seam_power import PIXEL, border_distance, power_ratios, seam_power

from jaxmap import Grid, Wiener, bin_shear
from jaxmap.production.wide import produce_wide_survey, region_of
from jaxmap.simulation.expected import light_cone_power
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.response import ShearResponse
from jaxmap.spectra import power_spectrum
from jaxmap.survey.blend import places_on
from jaxmap.survey.catalogue import catalogue_files, stream_galaxies
from jaxmap.survey.healpix import healpix, pixel_of, place_of
from jaxmap.survey.merge import MAPS, MERGED, merge_survey
from jaxmap.survey.overlap import least_overlap
from jaxmap.survey.partial_maps import read_partial_map
from jaxmap.survey.plan import Plan, make_plan
from jaxmap.survey.results import missing_tasks
from jaxmap.survey.tasks import run_tasks

CENTRE = (150.0, 2.0)
NEAR, FAR = 0.3, 0.8  # degrees from the border of a cell


def main() -> None:
    options = arguments(__doc__, surveys={"type": int, "default": 3, "help": "how many"})
    jax.config.update("jax_enable_x64", True)
    rows, squares = [], []
    for number in range(2 if options.quick else options.surveys):
        with tempfile.TemporaryDirectory() as folder:
            row, powers = one_survey(Path(folder), options.seed + number, options.quick, not number)
        rows.append(row)
        squares.append(powers)
        figures = {**together(rows), "power": power_ratios(squares), "surveys": rows}
        save(options, "survey_seams", figures)


def one_survey(
    folder: Path, seed: int, quick: bool, with_control: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of one sky, and the power in squares of it."""
    area, lmax, num = (30.0, 600, 4) if quick else (200.0, 1500, 12)
    spectrum = light_cone_power(0.0)
    ell = np.arange(lmax + 1.0)
    c_ell = np.where(ell < 2, 0, np.asarray(spectrum(ell)))
    prior = power_spectrum(
        np.append(ell[2:], [lmax + 1, 1e5]), np.append(c_ell[2:], [1e-16, 1e-16])
    )
    # The kernel of a spectrum without a cut: one that ends at lmax rings.
    noise = 0.13 / np.sqrt(5 * PIXEL**2)
    overlap = least_overlap(Wiener(spectrum), PIXEL, spectrum, noise)
    sky = folder / "sky"
    survey = MockSurvey(5.0, 0.13, response=ShearResponse(reduced=False))  # noise of 20, 0.26
    produce_wide_survey(survey, spectrum, region_of(area, CENTRE), sky, lmax=lmax, seed=seed)
    patch_deg = 1.8 if quick else 3.7
    plan = merged(folder / "run", sky, prior, seed, patch_deg, overlap, num)
    nside, maps, pixels = plan.tiling.nside, *maps_of(plan)
    samples = [read_partial_map(plan.folder / MAPS / f"sample-{i:04d}.fits")[2] for i in range(num)]
    truth, counts = true_map(sky, pixels)
    ra, dec = place_of(healpix(1024), pixels)
    # Away from the edge of the survey, where errors are larger.
    square = Grid((int(60 * np.sqrt(area) / PIXEL),) * 2, PIXEL, CENTRE)
    places = places_on(square, 120.0, ra, dec)
    inside = np.zeros(len(pixels), bool)
    inside[places.used] = places.weight == 1
    inside &= counts > 5
    distance = border_distance(nside, ra, dec)
    seams, interior = inside & (distance < NEAR), inside & (distance > FAR)
    regions = pixel_of(healpix(32), ra, dec)
    figures: dict[str, Any] = {
        "seed": seed,
        "patches": len(plan.tiling.patches),
        "overlap_arcmin": plan.tiling.overlap_arcmin,
        "num_samples": num,
    }
    error = maps["KAPPA_E"] - truth
    for name, values in {
        "error_rms": error**2,
        "std_rms": maps["SIGMA"] ** 2,
        "std_of_merged_samples": np.var(samples, axis=0, ddof=1),
    }.items():
        figures[name] = compared(np.sqrt, values, seams, interior, regions)
    figures["error_over_std"] = {
        place: float(np.sqrt(np.mean(error[where] ** 2) / np.mean(maps["SIGMA"][where] ** 2)))
        for place, where in (("seams", seams), ("interior", interior))
    }
    figures["big_patch"] = against_big_patch(
        seed, sky, square, prior, plan, (ra, dec), maps, (seams, interior), num
    )
    if with_control:
        small = merged(folder / "control", sky, prior, seed, patch_deg, PIXEL, 2)
        cut, cut_pixels = maps_of(small)
        at = np.searchsorted(cut_pixels, pixels).clip(max=len(cut_pixels) - 1)
        there = cut_pixels[at] == pixels  # but for some at the edge of the survey
        values = (cut["KAPPA_E"][at] - truth) ** 2
        figures["control_error_rms"] = compared(
            np.sqrt, values, seams & there, interior & there, regions
        )
    shown = {"mean": maps["KAPPA_E"], "sample": samples[0]}
    return figures, seam_power(nside, pixels, truth, shown, inside)


def merged(
    run: Path, sky: Path, prior: Any, seed: int, patch_deg: float, overlap: float, num: int
) -> Plan:
    """A survey that is planned, run in this process and merged, with its samples."""
    settings = {
        "method": "wiener", "smoothing_arcmin": 1.0, "threshold": None, "reduced_shear": 0,
        "sampler": "eps", "num_steps": None, "margin": None, "seed": seed, "x64": True,
        "keep_samples": True,
    }  # fmt: skip
    plan = make_plan(
        run, stream_galaxies(catalogue_files(sky), {}), prior, settings, {}, patch_deg=patch_deg,
        pixel_arcmin=PIXEL, overlap_arcmin=overlap, num_samples=num, samples_per_task=num,
    )  # fmt: skip
    for task in missing_tasks(plan):
        run_tasks(str(run), plan.digest, [task])
    merge_survey(plan, nside=1024, num_samples=num, write_patches=False)
    return plan


def maps_of(plan: Plan) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The merged maps by name, and their pixels."""
    found = {name: read_partial_map(plan.folder / MAPS / file) for name, file in MERGED.items()}
    return {name: values for name, (_, _, values) in found.items()}, found["KAPPA_E"][1]


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios of all surveys: their mean, its standard error, and the jackknives' for comparison."""
    found = {name: rows[0][name] for name in ("patches", "overlap_arcmin", "num_samples")}
    for name in ("error_rms", "std_rms", "std_of_merged_samples"):
        ratios = np.array([row[name]["ratio"] for row in rows])
        errors = np.array([row[name]["ratio_error"] for row in rows])
        found[name] = {
            "ratio": float(ratios.mean()),
            "ratio_error": float(np.sqrt(np.sum(errors**2)) / len(rows)),
        }
        if len(rows) > 1:
            scatter = ratios.std(ddof=1) / np.sqrt(len(rows))
            found[name]["standard_error"] = float(scatter)
    found["big_patch"] = {
        name: float(np.mean([row["big_patch"][name] for row in rows]))
        for name in rows[0]["big_patch"]
    }
    return found


def true_map(sky: Path, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean true convergence of the galaxies in pixels of nside 1024, and their number."""
    grid = healpix(1024)
    total, number = np.zeros(len(pixels)), np.zeros(len(pixels))
    for path in sorted(sky.glob("part-*.h5")):
        with h5py.File(path) as file:
            ra, dec, kappa = (file[name][:] for name in ("ra", "dec", "kappa"))
        at = pixel_of(grid, ra, dec)
        row = np.clip(np.searchsorted(pixels, at), 0, len(pixels) - 1)
        there = pixels[row] == at
        np.add.at(total, row[there], kappa[there])
        np.add.at(number, row[there], 1)
    return total / np.maximum(number, 1), number


def compared(
    function: Any, values: np.ndarray, seams: np.ndarray, interior: np.ndarray, regions: np.ndarray
) -> dict[str, float]:
    """Of the mean near borders and far from them, their ratio and its jackknife error."""

    def ratio(used: np.ndarray) -> float:
        return float(
            function(np.mean(values[seams & used])) / function(np.mean(values[interior & used]))
        )

    everywhere = np.ones(len(values), bool)
    numbers = np.unique(regions[seams | interior])
    left_out = np.array([ratio(regions != number) for number in numbers])
    count = len(numbers)
    return {
        "seams": float(function(np.mean(values[seams]))),
        "interior": float(function(np.mean(values[interior]))),
        "ratio": ratio(everywhere),
        "ratio_error": float(
            np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2))
        ),
    }


def against_big_patch(
    seed: int,
    sky: Path,
    square: Grid,
    prior: Any,
    plan: Any,
    places: Any,
    maps: Any,
    where: Any,
    num: int,
) -> dict[str, float]:
    """The merged map minus that of one grid over the whole survey, in units of the error."""
    catalog = jax.tree.map(
        lambda *parts: np.concatenate(parts), *stream_galaxies(catalogue_files(sky), {})
    )
    shear = bin_shear(catalog, square, plan.shape_noise)
    big = Wiener(prior, num_samples=num, keep_samples=False)(jax.random.key(seed), shear)
    # The control: what other pixels for the same galaxies make of the same grid.
    ra, dec = CENTRE
    shifted = Grid(square.shape, PIXEL, (ra + PIXEL / 120, dec + PIXEL / 120))
    other = Wiener(prior, num_samples=0)(
        jax.random.key(seed), bin_shear(catalog, shifted, plan.shape_noise)
    )
    assert big.std is not None
    means = {"big": (square, big.convergence), "shifted": (shifted, other.convergence)}
    values = {name: at_places(grid, values, places) for name, (grid, values) in means.items()}
    std = at_places(square, big.std, places)
    found = {}
    for place, used in zip(("seams", "interior"), where, strict=True):
        scale = np.sqrt(np.nanmean(std[used] ** 2))
        for name, one, two in (
            ("merged_minus_big", maps["KAPPA_E"], values["big"]),
            ("shifted_minus_big", values["shifted"], values["big"]),
        ):
            difference = np.sqrt(np.nanmean((one - two)[used] ** 2))
            found[f"{name}_over_std_{place}"] = float(difference / scale)
        found[f"std_over_big_{place}"] = float(np.sqrt(np.mean(maps["SIGMA"][used] ** 2)) / scale)
    return found


def at_places(grid: Grid, values: Any, places: Any) -> np.ndarray:
    """A map at places of the sky, NaN outside."""
    on = places_on(grid, 1.0, *places)
    found = np.full(len(on.used), np.nan)
    found[on.used] = np.asarray(values)[on.rows, on.columns]
    return found


if __name__ == "__main__":
    main()
