"""The plan of a survey map: patches, settings and data, fixed once in ``plan.json``.

A run is a folder. ``plan.json`` says what is in it, with a digest of all that decides the result;
``galaxies/`` holds the catalogue by HEALPix cell (`jaxmap.survey.store`), ``spectrum.npz`` the
prior's power, ``footprint.npz`` the sky that galaxies cover, ``weights.npz`` the network if one was
given. So a run needs nothing outside its folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import jaxmap
from jaxmap.arrayfiles import read_json
from jaxmap.catalog import ShearCatalog
from jaxmap.estimators import Estimator
from jaxmap.files import atomic_folder, atomic_path
from jaxmap.methods import NUM_SAMPLES, build_estimator
from jaxmap.spectra import PowerSpectrum, read_power_spectrum
from jaxmap.survey.healpix import healpix, pixel_of
from jaxmap.survey.overlap import least_overlap
from jaxmap.survey.patches import COUNTS_NSIDE, Patch, Tiling, cells_nside_for, cut_patches
from jaxmap.survey.store import CellWriter

PLAN, GALAXIES, RESULTS = "plan.json", "galaxies", "results"
SPECTRUM, FOOTPRINT, WEIGHTS = "spectrum.npz", "footprint.npz", "weights.npz"
_METHOD = (
    "smoothing_arcmin", "threshold", "reduced_shear", "sampler", "num_steps", "margin"
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a run will do. Made by `make_plan`, read by `read_plan`.

    Args:
        folder: of the run.
        settings: of the method, as JSON holds them; ``num_samples`` are those of one chunk.
        tiling: the patches.
        num_chunks: chunks of samples of every patch.
        shape_noise: per component, measured over the whole survey.
        num_galaxies: in the store.
        digest: of configuration and data.
        version: of jaxmap that made it.
        made_by: what else is known of how it came to be, as JSON holds it.
    """

    folder: Path
    settings: Mapping[str, Any]
    tiling: Tiling
    num_chunks: int
    shape_noise: tuple[float, float]
    num_galaxies: int
    digest: str
    version: str
    made_by: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        """Room for the galaxies of any patch, so that one program bins them all."""
        return max(patch.most_galaxies for patch in self.tiling.patches)

    @property
    def spectrum(self) -> PowerSpectrum:
        return read_power_spectrum(self.folder / SPECTRUM)

    def estimator(self) -> Estimator:
        """The estimator of one task."""
        weights = self.folder / WEIGHTS
        return build_estimator(
            self.settings["method"],
            self.spectrum,
            num_samples=self.settings["num_samples"],
            weights=weights if weights.exists() else None,
            **{name: self.settings[name] for name in _METHOD},
        )

    @property
    def draws(self) -> bool:
        """Whether the method draws posterior samples."""
        method = self.settings["method"]
        return method in NUM_SAMPLES and self.settings["sampler"] != "map"


def make_plan(
    folder: Path,
    galaxies: Iterable[ShearCatalog],
    spectrum: PowerSpectrum,
    settings: Mapping[str, Any],
    data: Mapping[str, str],
    *,
    patch_deg: float,
    pixel_arcmin: float | None,
    overlap_arcmin: float | None = None,
    shape_noise: float | None = None,
    num_samples: int | None = None,
    samples_per_task: int = 25,
    weights: Path | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> Plan:
    """Split a catalogue into its store and cut the sky into patches.

    Args:
        folder: of the run; holds no other plan.
        galaxies: parts of the catalogue, passed through once.
        spectrum: prior power of the convergence.
        settings: ``method``, its own settings, ``seed``, ``x64``, ``keep_samples``.
        data: hashes of the input files by name.
        patch_deg: side of the cells in the middle of patches.
        pixel_arcmin: side of a pixel; None for the one with five galaxies at mean depth.
        overlap_arcmin: how far patches reach beyond their cells; None for the estimator's reach.
        shape_noise: per component; measured by default.
        num_samples: of the posterior, in the end.
        samples_per_task: at most so many are drawn in one task.
        weights: file of a network, copied into the run.
        made_by: what else is known of how the plan came to be, as JSON holds it.

    Raises:
        ValueError: if the folder holds another plan, or the settings do not fit.
    """
    count, chunks = _chunks(settings, num_samples, samples_per_task)
    identity = _identity(
        {
            **settings,
            "num_samples": count,
            "chunks": chunks,
            "patch_deg": patch_deg,
            "pixel_arcmin": pixel_arcmin,
            "overlap_arcmin": overlap_arcmin,
            "shape_noise": shape_noise,
        },
        data,
        spectrum,
        weights,
    )
    if (folder / PLAN).exists():
        return _same_plan(folder, identity)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} holds other files and no {PLAN}; choose another folder with --out"
        )
    cells_nside = cells_nside_for(patch_deg)
    with atomic_folder(folder) as run:
        (run / GALAXIES).mkdir()
        counts, noise, num = _split(galaxies, run / GALAXIES, cells_nside)
        sigma = _checked_noise(noise if shape_noise is None else (shape_noise, shape_noise))
        density = num / (
            np.count_nonzero(counts) * healpix(COUNTS_NSIDE).pixel_area.to_value("arcmin2")
        )
        pixel = pixel_arcmin or float(f"{np.sqrt(5 / density):.2g}")
        np.savez(run / SPECTRUM, ell=np.asarray(spectrum.ell), c_ell=np.asarray(spectrum.c_ell))
        np.savez_compressed(run / FOOTPRINT, pixels=np.flatnonzero(counts), nside=COUNTS_NSIDE)
        if weights is not None:
            shutil.copyfile(weights, run / WEIGHTS)
        settings = json.loads(json.dumps({**settings, "num_samples": count}))
        draft = Plan(run, settings, _NO_TILING, chunks, sigma, num, "", jaxmap.__version__)
        if overlap_arcmin is None:
            depth = max(sigma) / np.sqrt(density * pixel**2)
            overlap_arcmin = least_overlap(draft.estimator(), pixel, draft.spectrum, depth)
        tiling = cut_patches(counts, patch_deg, pixel, overlap_arcmin)
        record = {
            "identity": identity,
            "digest": _digest(identity),
            "settings": settings,
            "num_chunks": chunks,
            "shape_noise": sigma,
            "num_galaxies": num,
            "tiling": asdict(tiling),
            "made_by": dict(made_by or {}),
        }
        (run / PLAN).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return read_plan(folder)


def read_plan(folder: Path) -> Plan:
    """The plan in a folder.

    Raises:
        ValueError: if there is none, or it is not one of ours.
    """
    try:
        record = read_json(folder / PLAN)
        tiling = record["tiling"]
        patches = tuple(
            Patch(
                one["number"], tuple(one["centre_deg"]), tuple(one["cells"]), one["most_galaxies"]
            )
            for one in tiling["patches"]
        )
        return Plan(
            folder,
            record["settings"],
            Tiling(**{**tiling, "shape": tuple(tiling["shape"]), "patches": patches}),
            record["num_chunks"],
            tuple(record["shape_noise"]),
            record["num_galaxies"],
            record["digest"],
            record["identity"]["jaxmap"],
            dict(record.get("made_by", {})),
        )
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no {PLAN}; make one: jaxmap survey plan CONFIG.toml --out {folder}"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / PLAN} is not a plan of jaxmap ({error}); restore it, or plan anew in "
            "another folder"
        ) from error


def require_version(plan: Plan) -> None:
    """Refuse to go on with a plan of another jaxmap, whose maps may be others."""
    if plan.version != jaxmap.__version__:
        raise ValueError(
            f"the plan in {plan.folder} was made with jaxmap {plan.version}, and this is "
            f"{jaxmap.__version__}; install that version to go on with it, or plan anew in another "
            "folder"
        )


def add_to_record(folder: Path, name: str, value: Any) -> None:
    """Write something more into ``plan.json``; what is planned stays."""
    record = read_json(folder / PLAN)
    with atomic_path(folder / PLAN) as temporary:
        temporary.write_text(json.dumps({**record, name: value}, indent=1) + "\n", encoding="utf-8")


_NO_TILING = Tiling(1, 1, (1, 1), 1.0, 0.0, ())


def _chunks(settings: Mapping[str, Any], num: int | None, most: int) -> tuple[int, int]:
    """Samples of a task, the same for all, and tasks of a patch."""
    method = settings["method"]
    if method not in NUM_SAMPLES or settings["sampler"] == "map":
        return 0, 1
    wanted = NUM_SAMPLES[method] if num is None else num
    if wanted < 2 or most < 2:
        raise ValueError(
            f"{wanted} samples, {most} in a task, give no standard deviation; expected 2 or more "
            "(--num-samples, --samples-per-task)"
        )
    chunks = -(-wanted // most)
    return max(-(-wanted // chunks), 2), chunks


def _split(
    galaxies: Iterable[ShearCatalog], folder: Path, cells_nside: int
) -> tuple[np.ndarray, tuple[float, float], int]:
    """Write the store; the counts on the sky, the shape noise and the number of galaxies."""
    fine = healpix(COUNTS_NSIDE)
    counts = np.zeros(fine.npix, np.int64)
    squares, total, num = np.zeros(2), 0.0, 0
    writer = CellWriter(folder)
    for part in galaxies:
        pixels = pixel_of(fine, part.ra_deg, part.dec_deg)
        numbers, found = np.unique(pixels, return_counts=True)
        counts[numbers] += found
        writer.add(part, pixels // (COUNTS_NSIDE // cells_nside) ** 2)
        squared = part.weight**2
        squares += [np.sum(squared * p**2) for p in (part.ellipticity.real, part.ellipticity.imag)]
        total += float(np.sum(squared))
        num += len(part)
    writer.flush()
    if not num:
        raise ValueError(
            "the catalogue has no galaxy of a weight above 0; is the weight column the right one?"
        )
    sigma = np.sqrt(squares / total)
    return counts, (float(sigma[0]), float(sigma[1])), num


def _checked_noise(sigma: tuple[float, float]) -> tuple[float, float]:
    if not all(0 < one < np.inf for one in sigma):
        raise ValueError(
            f"the shape noise per component is {list(sigma)}; expected numbers above 0 (all "
            "ellipticities equal? give the value, e.g. --shape-noise 0.26)"
        )
    return sigma


def _identity(
    settings: Mapping[str, Any],
    data: Mapping[str, str],
    spectrum: PowerSpectrum,
    weights: Path | None,
) -> dict[str, Any]:
    """All that decides the result, as JSON can hold it."""
    power = hashlib.sha256()
    for values in (spectrum.ell, spectrum.c_ell):
        power.update(np.asarray(values, np.float32).tobytes())
    described = {
        "jaxmap": jaxmap.__version__,
        "settings": dict(settings),
        "data": dict(data),
        "spectrum": power.hexdigest(),
        "weights": None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    return json.loads(json.dumps(described))


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _same_plan(folder: Path, wanted: Mapping[str, Any]) -> Plan:
    """The plan that is there, if it is this one."""
    plan = read_plan(folder)
    if plan.digest == _digest(wanted):
        return plan
    stored = read_json(folder / PLAN)["identity"]
    differing = [
        f"{name} = {stored['settings'].get(name)!r}, not {value!r}"
        for name, value in wanted["settings"].items()
        if stored["settings"].get(name) != value
    ]
    said = {
        "jaxmap": f"jaxmap {stored.get('jaxmap')}, not {jaxmap.__version__}",
        "data": "another catalogue, or other columns of it",
        "weights": "another file of weights",
    }
    differing += [
        said.get(name, f"another {name}") for name in wanted if stored.get(name) != wanted[name]
    ]
    raise ValueError(
        f"{folder} holds another plan, made with {(differing or ['other settings'])[0]}; "
        "choose another folder with --out"
    )


def file_hashes(files: Sequence[Path], folder: Path) -> dict[str, str]:
    """SHA-256 of files by their names below a folder."""
    hashes = {}
    for path in files:
        with path.open("rb") as file:
            hashes[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
