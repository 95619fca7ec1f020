"""Train the shipped cluster estimators, `jaxmap/data/dynamics/*.npz`.

Run from the repository root: ``python experiments/cluster_weights.py`` (about a quarter of an hour
on one core). ``--only cnn2d`` trains one. They are trained on the synthetic clusters of
`jaxmap.dynamics.mocks`, spread evenly over log10 mass.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from functools import partial
from pathlib import Path

import jax

from jaxmap.dynamics.cnn import DEFAULT, fit_cnn
from jaxmap.dynamics.m_sigma import fit_m_sigma
from jaxmap.dynamics.mock_recipe import flat_masses
from jaxmap.dynamics.mocks import mock_clusters
from jaxmap.dynamics.model_files import SHIPPED, write_model
from jaxmap.dynamics.sdm import fit_sdm

DATA = Path(__file__).parents[1] / "jaxmap" / "data" / "dynamics"


def main() -> None:
    """Make the mocks, then train and write one estimator after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SHIPPED, nargs="+", default=SHIPPED)
    parser.add_argument("--num", type=int, default=11_600, help="clusters (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="600, hardly trained: does it run?")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--out", type=Path, help=f"default: {DATA}; with --quick: runs/quick/ of the checkout"
    )
    options = parser.parse_args()
    landmarks_1d, landmarks_2d, preset, networks = 300, 200, DEFAULT, 3
    if options.quick:
        options.num, landmarks_1d, landmarks_2d, networks = 600, 60, 40, 1
        preset = DEFAULT._replace(num_epochs=2)
    out = options.out or (DATA.parents[2] / "runs" / "quick" if options.quick else DATA)
    out.mkdir(parents=True, exist_ok=True)
    key = jax.random.key(options.seed)
    key_masses, key_mocks, key_fit = jax.random.split(key, 3)
    mocks = mock_clusters(key_mocks, flat_masses(key_masses, options.num))
    clusters = mocks.contaminated
    cnn = partial(fit_cnn, key_fit, clusters, preset=preset, num_networks=networks)
    trainings = {
        "m_sigma_pure": lambda: fit_m_sigma(key_fit, mocks.pure),
        "m_sigma_contaminated": lambda: fit_m_sigma(key_fit, clusters),
        "sdm1d": lambda: fit_sdm(key_fit, clusters, with_radius=False, num_landmarks=landmarks_1d),
        "sdm2d": lambda: fit_sdm(key_fit, clusters, with_radius=True, num_landmarks=landmarks_2d),
        "cnn1d": lambda: cnn(with_radius=False),
        "cnn2d": lambda: cnn(with_radius=True),
    }
    for name in options.only:
        began = time.perf_counter()
        model = trainings[name]()
        seconds = time.perf_counter() - began
        about = {
            "trained_on": "synthetic halo-model clusters of jaxmap.dynamics.mocks, not MDPL2",
            "num_halos": options.num,
            "seed": options.seed,
            "seconds": round(seconds, 1),
            "jaxmap": importlib.metadata.version("jaxmap"),
        }
        path = out / f"{name}.npz"
        write_model(path, model, about)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
