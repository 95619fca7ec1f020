"""Small surveys for tests: a catalogue over a few degrees, and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxmap.catalog import ShearCatalog, shear_catalog
from jaxmap.grid import Grid
from jaxmap.spectra import power_spectrum
from jaxmap.survey.plan import Plan, make_plan
from jaxmap.survey.results import Task, missing_tasks
from jaxmap.survey.tasks import run_tasks

SETTINGS: dict[str, Any] = {
    "method": "ks",
    "smoothing_arcmin": 8.0,
    "threshold": None,
    "reduced_shear": 0,
    "sampler": "eps",
    "num_steps": None,
    "margin": None,
    "seed": 7,
    "x64": True,
    "keep_samples": False,
}


EQUATOR, POLE = (0.0, 1.0), (0.0, 89.5)
"""Where RA wraps; and where meridians meet, so that frames of patches are turned by all angles."""


def small_catalog(
    num: int = 20_000,
    side_deg: float = 3.0,
    seed: int = 1,
    centre: tuple[float, float] = EQUATOR,
) -> ShearCatalog:
    """Galaxies around a place, with the tangential pattern of a compact lens and noise."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-side_deg / 2, side_deg / 2, (2, num))
    plane = Grid((1, 1), 60.0, centre)
    ra, dec = plane.wcs().all_pix2world(x, y, 0)
    signal = -0.01 * (x + 1j * y) ** 2 / (x**2 + y**2 + 0.05) ** 2
    noise = 0.1 * (rng.normal(size=num) + 1j * rng.normal(size=num))
    return shear_catalog(ra, dec, signal * plane.frame_rotation(ra).conj() + noise)


def small_spectrum():
    ell = np.geomspace(2, 1e5, 60)
    return power_spectrum(ell, 3e-7 / (1 + (ell / 300) ** 1.6))


def small_plan(folder: Path, catalog: ShearCatalog | None = None, **settings: Any) -> Plan:
    arguments = {"patch_deg": 1.8, "pixel_arcmin": 6.0, "overlap_arcmin": 30.0}
    arguments |= {name: settings.pop(name) for name in list(settings) if name not in SETTINGS}
    return make_plan(
        folder,
        [small_catalog() if catalog is None else catalog],
        small_spectrum(),
        SETTINGS | settings,
        {"catalog": "test"},
        **arguments,
    )


def do_all(plan: Plan) -> list[Task]:
    """Do the tasks of a plan in this process; those that fail."""
    failed = []
    for task in missing_tasks(plan):
        try:
            run_tasks(str(plan.folder.absolute()), plan.digest, [task])
        except OSError:
            failed.append(task)
    return failed
