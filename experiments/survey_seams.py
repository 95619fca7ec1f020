"""Do patches of a survey show where they meet? Errors, std and power at seams against interiors.

A Gaussian sky on the sphere, a survey of it in overlapping patches, and the same galaxies in one
big patch: the merged map is compared with the truth and with the big patch, in pixels near the
borders of HEALPix cells and in pixels far from any. Errors are over patches of sky (jackknife).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, save

from jaxmap import Grid, Wiener, bin_shear
from jaxmap.production.wide import produce_wide_survey, region_of
from jaxmap.simulation.expected import light_cone_power
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.response import ShearResponse
from jaxmap.spectra import map_power, power_spectrum
from jaxmap.survey.blend import places_on
from jaxmap.survey.catalogue import catalogue_files, stream_galaxies
from jaxmap.survey.healpix import healpix, outline_of, pixel_of, place_of
from jaxmap.survey.merge import MERGED, merge_survey
from jaxmap.survey.overlap import least_overlap
from jaxmap.survey.partial_maps import read_partial_map
from jaxmap.survey.plan import make_plan
from jaxmap.survey.results import missing_tasks
from jaxmap.survey.tasks import run_tasks

CENTRE, PIXEL = (150.0, 2.0), 3.0
NEAR, FAR = 0.3, 0.8  # degrees from the border of a cell


def main() -> None:
    options = arguments(__doc__)
    jax.config.update("jax_enable_x64", True)
    area, lmax, num = (30.0, 600, 4) if options.quick else (200.0, 1500, 20)
    spectrum = light_cone_power(0.0)
    ell = np.arange(lmax + 1.0)
    c_ell = np.where(ell < 2, 0, np.asarray(spectrum(ell)))
    prior = power_spectrum(
        np.append(ell[2:], [lmax + 1, 1e5]), np.append(c_ell[2:], [1e-16, 1e-16])
    )
    # The kernel of a spectrum without a cut: one that ends at lmax rings.
    noise = 0.13 / np.sqrt(5 * PIXEL**2)
    overlap = least_overlap(Wiener(spectrum), PIXEL, spectrum, noise)
    with tempfile.TemporaryDirectory() as folder:
        sky, run = Path(folder) / "sky", Path(folder) / "run"
        survey = MockSurvey(5.0, 0.13, response=ShearResponse(reduced=False))  # noise of 20, 0.26
        produce_wide_survey(
            survey, spectrum, region_of(area, CENTRE), sky, lmax=lmax, seed=options.seed
        )
        settings = {
            "method": "wiener", "smoothing_arcmin": 1.0, "threshold": None, "reduced_shear": 0,
            "sampler": "eps", "num_steps": None, "margin": None, "seed": options.seed, "x64": True,
            "keep_samples": True,
        }  # fmt: skip
        parts = stream_galaxies(catalogue_files(sky), {})
        plan = make_plan(
            run, parts, prior, settings, {}, patch_deg=1.8 if options.quick else 3.7,
            pixel_arcmin=PIXEL, overlap_arcmin=overlap, num_samples=num, samples_per_task=num,
        )  # fmt: skip
        for task in missing_tasks(plan):
            run_tasks(str(run), plan.digest, [task])
        merge_survey(plan, nside=1024, num_samples=num, write_patches=False)
        figures: dict[str, Any] = {
            "patches": len(plan.tiling.patches),
            "overlap_arcmin": plan.tiling.overlap_arcmin,
            "num_samples": num,
        }
        maps = {name: read_partial_map(run / "maps" / file)[2] for name, file in MERGED.items()}
        _, pixels, _ = read_partial_map(run / "maps" / MERGED["KAPPA_E"])
        samples = [read_partial_map(run / "maps" / f"sample-{i:04d}.fits")[2] for i in range(num)]
        truth, counts = true_map(sky, pixels)
        ra, dec = place_of(healpix(1024), pixels)
        # Away from the edge of the survey, where errors are larger.
        side = np.sqrt(area)
        square = Grid((int(60 * side / PIXEL),) * 2, PIXEL, CENTRE)
        places = places_on(square, 120.0, ra, dec)
        inside = np.zeros(len(pixels), bool)
        inside[places.used] = places.weight == 1
        inside &= counts > 5
        distance = border_distance(plan.tiling.nside, ra, dec)
        seams, interior = inside & (distance < NEAR), inside & (distance > FAR)
        regions = pixel_of(healpix(32), ra, dec)
        error = maps["KAPPA_E"] - truth
        spread = np.std(samples, axis=0, ddof=1)
        for name, values in {
            "error_rms": error**2,
            "std_rms": maps["SIGMA"] ** 2,
            "std_of_merged_samples": spread**2,
        }.items():
            figures[name] = compared(np.sqrt, values, seams, interior, regions)
        figures["error_over_std"] = {
            place: float(np.sqrt(np.mean(error[where] ** 2) / np.mean(maps["SIGMA"][where] ** 2)))
            for place, where in (("seams", seams), ("interior", interior))
        }
        figures["big_patch"] = against_big_patch(
            options.seed, sky, square, prior, plan, (ra, dec), maps, (seams, interior), num
        )
        figures["power"] = seam_power(
            plan.tiling.nside,
            pixels,
            truth,
            {"mean": maps["KAPPA_E"], "sample": samples[0]},
            inside,
        )
    save(options, "survey_seams", figures)


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


def border_distance(nside: int, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Degrees to the nearest point on the border of any cell, by points 3 arcmin or so apart."""
    from scipy.spatial import cKDTree

    grid = healpix(nside, "ring")
    cells = np.unique(pixel_of(grid, ra, dec))
    outlines = [np.concatenate(part) for part in outline_of(grid, cells, 80)]
    return np.degrees(cKDTree(directions(*outlines)).query(directions(ra, dec))[0])


def directions(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


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


def seam_power(
    nside: int,
    pixels: np.ndarray,
    truth: np.ndarray,
    maps: dict[str, np.ndarray],
    inside: np.ndarray,
) -> dict[str, Any]:
    """Power of maps over that of the truth in small tapered squares, on borders and inside cells.

    The sky's own scatter drops out of the ratio. The truth is a mean over pixels of 3.4 arcmin,
    which costs it power at the highest ell, near borders and elsewhere. Errors are jackknives over
    squares.
    """
    grid, fine = healpix(nside, "ring"), healpix(1024)
    cells = np.unique(pixel_of(grid, *place_of(fine, pixels[inside])))
    borders = np.stack([np.concatenate(part) for part in outline_of(grid, cells, 2)], axis=1)
    centres = np.stack(place_of(grid, cells), axis=1)
    points = {"seams": np.unique(borders.round(6), axis=0), "interior": centres}
    edges = np.array([400, 700, 1000, 1400])
    found: dict[str, Any] = {"ell_edges": edges.tolist()}
    powers: dict[str, dict[str, np.ndarray]] = {}
    for place, at in points.items():
        squares = [
            [square_power(tuple(one), pixels, v, inside, edges) for v in (truth, *maps.values())]
            for one in at
        ]
        kept = np.array([row for row in squares if row[0] is not None], float)
        powers[place] = dict(zip(("truth", *maps), kept.swapaxes(0, 1), strict=True))
        found[f"squares_{place}"] = len(kept)
    for name in maps:
        values, errors = [], []
        for place in points:
            above, below = powers[place][name], powers[place]["truth"]
            count = len(above)
            left_out = (above.sum(0) - above) / (below.sum(0) - below)
            values.append(above.sum(0) / below.sum(0))
            errors.append(np.sqrt((count - 1) * np.var(left_out, axis=0)))
        ratio = values[0] / values[1]
        error = ratio * np.hypot(errors[0] / values[0], errors[1] / values[1])
        found[name] = {
            "seams_over_truth": values[0].tolist(),
            "interior_over_truth": values[1].tolist(),
            "ratio": ratio.tolist(),
            "ratio_error": error.tolist(),
        }
    return found


def square_power(
    centre: tuple[float, float],
    pixels: np.ndarray,
    values: np.ndarray,
    inside: np.ndarray,
    edges: np.ndarray,
) -> np.ndarray | None:
    """Band powers of a square of 1.3 degrees of the merged map; None where it is not all inside."""
    grid = Grid((26, 26), PIXEL, centre)
    rows, columns = np.indices(grid.shape)
    ra, dec = grid.wcs().all_pix2world(columns.ravel(), rows.ravel(), 0)
    at = pixel_of(healpix(1024), ra, dec)
    row = np.clip(np.searchsorted(pixels, at), 0, len(pixels) - 1)
    if not np.mean((pixels[row] == at) & inside[row]) > 0.98:
        return None
    taper = np.hanning(28)[1:-1]
    window = taper[:, None] * taper[None]
    field = np.where(pixels[row] == at, values[row], 0).reshape(grid.shape)
    field = (field - np.sum(window * field) / window.sum()) * window
    return np.asarray(map_power(jnp.asarray(field), grid, edges)[1])


if __name__ == "__main__":
    main()
