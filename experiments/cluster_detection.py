"""Detection of NFW clusters in posterior samples against their S/N (Remy et al., Sect. 7.3).

A halo (z = 0.5, concentration 1, sources at z = 1) is added to simulated COSMOS-like fields, and
samples are filtered by the starlet aperture mass. Input S/N: largest filtered convergence of the
halo over the standard deviation of the filtered background, the sky without the halo (Eq. 29).
Detection: a sample exceeds 3 such standard deviations (Eq. 30) within half the filter's size of the
halo. The caption of the paper's Fig. 9 says 5, so both are given, and how often the limit is
exceeded anywhere on the map, which is Eq. 30 to the letter and says nothing of the halo.

The second half asks whether probabilities are calibrated: the share of samples with a peak at the
halo, and at 36 places chosen beforehand (there with a limit of 1.5 too, which the sky itself often
exceeds), against whether the true sky has one; and the catalogue of `jaxmap.clusters.detect`, whose
places the samples choose. Errors are by resampling fields. Skies with a massive halo added are
rarer in the prior than among these fields: there, probabilities must be too low. The lattice in the
skies without a halo ("prior") is a draw of the prior: only there they must be right.

The sky is the halo light cone of the shipped prior, the mask and noise the middle of the real
COSMOS ones, fields periodic. Fields are kept in runs/: a run that is stopped goes on. Writes
results/cluster_detection.json, .png and cluster_detection_stamps.png (Fig. F.1).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import HERE, arguments, real_data, save
from detection_figures import (
    LIMITS,
    PUBLISHED,
    by_mass,
    calibration,
    draw,
    draw_stamps,
    monotone,
    of_prior,
)

from jaxmap.benchmark import read_case
from jaxmap.calibration.mocks import middle_of_survey
from jaxmap.catalog import ShearMap, shear_map
from jaxmap.clusters import aperture_mass, detect, halo_convergence, halo_shear, nfw_halo, scale_of
from jaxmap.clusters.detection import share_with_peak
from jaxmap.cosmology import inverse_critical_density
from jaxmap.demo import sky_redshifts
from jaxmap.denoiser_files import read_denoiser
from jaxmap.estimators import Estimator, SampledPosterior, Wiener
from jaxmap.files import atomic_path
from jaxmap.methods import build_sampler
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone

SIDE = 192
MASSES = (0.0, 3e13, 9e13, 1.5e14, 2.2e14, 3e14, 4.2e14, 6e14, 9e14)
Z_LENS, Z_SOURCE, CONCENTRATION = 0.5, 1.0, 1.0
SCALE_ARCMIN = 2.32
HELD_OUT = 11_000_000
LATTICE = 6
LOW_LIMIT = 1.5
KEPT = ("injected", "lattice", "lattice_low", "catalogue")

simulate = jax.jit(halo_light_cone, static_argnums=2)


def main() -> None:
    options = arguments(
        __doc__,
        num={"type": int, "default": 24, "help": "fields (default: %(default)s)"},
        samples={"type": int, "default": 24, "help": "per map (default: %(default)s)"},
        methods={"default": "eps,wiener", "help": "of eps,wiener,gibbs,hmc-fast,hmc"},
        runs={"type": Path, "default": HERE.parent / "runs" / "cluster_detection"},
    )
    masses, num, samples, side = MASSES, options.num, options.samples, SIDE
    if options.quick:
        masses, num, samples, side = (0.0, *PUBLISHED), 2, 6, 64
    kept = options.runs
    kept.mkdir(parents=True, exist_ok=True)
    case = read_case(real_data(options) / "ktng" / "table1.npz")
    survey = middle_of_survey(case.shear, (side, side))
    methods = options.methods.split(",")
    rows: dict[str, list[dict]] = {method: [] for method in methods}
    for number in range(num):
        for method in methods:
            rows[method].append(
                judged_field(number, method, survey, masses, samples, options.seed, kept)
            )
    figures: dict[str, Any] = {
        "fields": num,
        "side": side,
        "samples": samples,
        "masses": masses,
        "scale_pixels": 2 ** scale_of(SCALE_ARCMIN, survey.grid),
        "weights": read_denoiser()[2]["sha256"],
        "run_seconds": round(
            sum(row["seconds"] * len(masses) for fields in rows.values() for row in fields), 1
        ),  # of all sittings
    }
    rng = np.random.default_rng(options.seed)
    for method, fields in rows.items():
        figures[method] = {
            "by_mass": by_mass(fields, masses),
            "monotone": monotone(fields, masses),
            "calibration": {
                **{k: calibration(rng, [field[k] for field in fields]) for k in KEPT},
                **{
                    kind.replace("lattice", "prior"): calibration(
                        rng, [of_prior(field, kind, len(masses)) for field in fields]
                    )
                    for kind in ("lattice", "lattice_low")
                },
            },
            "seconds_per_map": float(np.median([f["seconds"] for f in fields])),
        }
    save(options, "cluster_detection", figures)
    draw(rows, figures, masses, options.out / "cluster_detection.png")
    cut = {
        mass: np.load(kept / f"stamps-{methods[0]}-{options.seed}-{mass:.2g}.npz")["stamps"]
        for mass in PUBLISHED
    }
    draw_stamps(cut, survey.grid.pixel_arcmin, options.out / "cluster_detection_stamps.png")


def estimator_of(method: str, samples: int) -> Estimator:
    denoiser, domain, _ = read_denoiser()
    if method == "wiener":
        return Wiener(denoiser.spectrum, samples, margin=0, chunk=samples)
    sampler = build_sampler(method, None, lambda run: run)
    return SampledPosterior(
        denoiser, sampler, samples, domain=domain, margin=0, chunk=min(samples, 8)
    )


def judged_field(
    number: int,
    method: str,
    survey: ShearMap,
    masses: tuple[float, ...],
    samples: int,
    seed: int,
    kept: Path,
) -> dict:
    """All masses in one field: the same sky, noise and place; kept in a file."""
    weights = read_denoiser()[2]["sha256"][:12]
    settings = [list(masses), samples, survey.grid.shape[0], weights]
    path = kept / f"{method}-{seed}-{number:04d}.json"
    if path.exists():
        row = json.loads(path.read_text())
        if row["settings"] != settings:
            raise SystemExit(f"{path} is of other settings; remove it, or give another --runs")
        return row
    grid = survey.grid
    scale = scale_of(SCALE_ARCMIN, grid)
    radius = 2.0 ** (scale - 1)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(HELD_OUT), seed), number)
    key_sky, key_noise, key_place, key_map = jax.random.split(key, 4)
    cone = build_light_cone(grid, sky_redshifts(), baryons=TNG_BARYONS)
    sky = simulate(key_sky, cone, cone.grid)
    std = np.asarray(jnp.where(survey.weight > 0, survey.weight, jnp.inf) ** -0.5)
    noise = jax.lax.complex(*(std * jax.random.normal(key_noise, std.shape)))
    background = np.asarray(aperture_mass(sky, scale, periodic=True))
    sigma = float(np.std(background))
    column, row_ = place_of_halo(key_place, np.asarray(survey.mask))
    x, y = np.append(lattice(grid.shape), [[column, row_]], axis=0).T
    # Places of the lattice near the halo belong to it.
    away = np.hypot(x - column, y - row_) > 4 * radius
    row: dict[str, Any] = {"settings": settings, "sigma": sigma, "by_mass": []}
    row |= {"injected": [], "lattice": [], "lattice_low": [], "catalogue": []}
    estimate = estimator_of(method, samples)
    begun = time.perf_counter()
    for index, mass in enumerate(masses):
        truth, shear = with_halo(sky, shear_from_convergence(sky, grid), mass, column, row_, grid)
        data = shear_map(shear + noise, grid, noise_std=std)
        result = estimate(jax.random.fold_in(key_map, index), data)
        filtered = np.asarray(aperture_mass(np.asarray(result.samples), scale, periodic=True))
        true = np.asarray(aperture_mass(truth, scale, periodic=True))
        near = np.hypot(*np.meshgrid(np.arange(grid.shape[1]) - column,
                                     np.arange(grid.shape[0]) - row_)) <= radius  # fmt: skip
        least = LIMITS[0] * sigma
        predicted = share_with_peak(filtered, x, y, least, radius)
        event = share_with_peak(true[None], x, y, least, radius)
        row["injected"].append([float(predicted[-1]), float(event[-1])])
        row["lattice"] += np.stack([predicted, event], axis=1)[:-1][away[:-1]].tolist()
        low = [share_with_peak(m, x, y, LOW_LIMIT * sigma, radius) for m in (filtered, true[None])]
        row["lattice_low"] += np.stack(low, axis=1)[:-1][away[:-1]].tolist()
        found = detect(
            np.asarray(result.samples),
            grid,
            scale=scale,
            background=sigma,
            least_probability=0.1,
            periodic=True,
        )
        there = share_with_peak(true[None], found.x, found.y, least, radius)
        row["catalogue"] += np.stack([found.probability, there], axis=1).tolist()
        row["by_mass"].append(
            {
                "mass": mass,
                "snr": float((true - background).max() / sigma),
                "truth": float(true[near].max() / sigma),
                "heights": (filtered[:, near].max(axis=1) / sigma).tolist(),
                "anywhere": float(np.mean(filtered.max(axis=(1, 2)) > least)),
            }
        )
        if number == 0:
            cut = stamps(filtered / sigma, int(column), int(row_))
            np.savez(kept / f"stamps-{method}-{seed}-{mass:.2g}.npz", stamps=cut)
    row["seconds"] = (time.perf_counter() - begun) / len(masses)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(row))
    print(f"field {number}, {method}: {[round(f[0], 2) for f in row['injected']]}", flush=True)
    return row


def with_halo(
    sky: jax.Array, shear: jax.Array, mass: float, x: float, y: float, grid: Any
) -> tuple[jax.Array, jax.Array]:
    """Convergence and shear with the halo added; its own means nothing at mass 0."""
    if mass == 0:
        return sky, shear
    step = grid.pixel_arcmin
    halo = nfw_halo(mass, CONCENTRATION, Z_LENS, x * step, y * step)
    at_x = np.arange(grid.shape[1])[None, :] * step
    at_y = np.arange(grid.shape[0])[:, None] * step
    density = inverse_critical_density(Z_LENS, Z_SOURCE)
    return (
        sky + halo_convergence(halo, at_x, at_y, density),
        shear + halo_shear(halo, at_x, at_y, density),
    )


def place_of_halo(key: jax.Array, mask: np.ndarray) -> tuple[float, float]:
    """A corner of observed pixels in the middle of the field, (x, y): pixels shun the cusp."""
    ny, nx = mask.shape
    third = np.zeros_like(mask)
    third[ny // 3 : 2 * ny // 3, nx // 3 : 2 * nx // 3] = True
    rows, columns = np.nonzero(mask & third)
    chosen = int(jax.random.randint(key, (), 0, len(rows)))
    return columns[chosen] + 0.5, rows[chosen] + 0.5


def lattice(shape: tuple[int, int]) -> np.ndarray:
    ny, nx = ((np.arange(LATTICE) + 0.5) / LATTICE * n for n in shape)
    return np.stack([axis.ravel() for axis in np.meshgrid(nx, ny)], axis=1)


def stamps(filtered: np.ndarray, x: int, y: int, half: int = 16) -> np.ndarray:
    return filtered[:8, max(0, y - half) : y + half, max(0, x - half) : x + half]


if __name__ == "__main__":
    main()
