"""Tables and figures of Ho et al. (2019) on synthetic clusters, beside the published values.

Ten folds of halos, several seeds: M-sigma, support distribution machines and convolutional
networks. The clusters are halo-model mocks, not MDPL2, so that agreement is not reproduction.

``--quick`` takes minutes; the whole some 25 minutes a seed on one core. What is done is kept in
``OUT/dynamics_stages``: a run that was stopped goes on. Speed is measured elsewhere
(`benchmarks/dynamics.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, save
from dynamics_figures import draw_all
from dynamics_methods import (
    Catalogues,
    cnn,
    contaminated_fits,
    dependence,
    m_sigma,
    reference,
    robustness,
    sdm,
)
from dynamics_published import LABELS, TABLE1
from dynamics_tables import as_markdown, targets, with_spread

from jaxmap.dynamics.cnn import DEFAULT, PAPER
from jaxmap.dynamics.members import select
from jaxmap.dynamics.mocks import MockClusters
from jaxmap.dynamics.residuals import residual_statistics


class Stages:
    """Results kept in a folder, one file for each stage, and the time that they took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds = folder, 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            began = time.perf_counter()
            kept = {"result": work(), "seconds": time.perf_counter() - began}
            text = json.dumps(kept, default=lambda x: np.asarray(x).tolist())
            path.with_suffix(".part").write_text(text)
            path.with_suffix(".part").rename(path)
            print(f"{name}: {kept['seconds']:.0f} s", flush=True)
        kept = json.loads(path.read_text())
        self.seconds += kept["seconds"]
        return kept["result"]


def works_of(
    catalogues: Catalogues, first: bool, quick: bool
) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is done with one seed, by the name of its stage."""
    works: dict[str, Callable[[], dict[str, Any]]] = {
        f"m_sigma_{view}": lambda v=view: m_sigma(catalogues, v) for view in TABLE1
    }
    for dimension, landmarks in ((1, 100 if quick else 300), (2, 60 if quick else 200)):
        wide = dimension == 2
        # Inputs as published are compared with ours on one seed.
        for tail, preset in {"": DEFAULT, "_raw": PAPER}.items() if first else [("", DEFAULT)]:
            one = preset._replace(num_epochs=6) if quick else preset
            works[f"cnn{dimension}d{tail}"] = lambda w=wide, p=one: cnn(catalogues, w, p)
        works[f"sdm{dimension}d"] = lambda w=wide, n=landmarks: sdm(catalogues, w, n)
    return works


def main() -> None:
    """All stages, then the tables and the figures."""
    options = arguments(
        __doc__,
        seeds={"type": int, "default": 5, "help": "default %(default)s"},
        train={"type": int, "default": 11_600, "help": "projections (default %(default)s)"},
        test={"type": int, "default": 12_000, "help": "projections (default %(default)s)"},
    )
    quick = options.quick
    if quick:
        options.seeds, options.train, options.test = 1, 900, 600
    label = "quick" if quick else f"{options.train}_{options.test}"
    stages = Stages(options.out / "dynamics_stages" / label)
    seeds = list(range(options.seed, options.seed + options.seeds))
    rows: dict[str, list] = {}
    first: dict[str, Any] = {}
    kept: dict[str, np.ndarray] = {}
    for seed in seeds:
        catalogues = Catalogues(seed, options.train, options.test)
        if seed == options.seed:
            shown = catalogues
        for name, work in works_of(catalogues, seed == options.seed, quick).items():
            result = stages(f"{name}_{seed}", work)
            view = catalogues.test.pure if name == "m_sigma_pure" else catalogues.test.contaminated
            residual = np.array(result.pop("mass")) - view.log10_mass
            rows.setdefault(name, []).append(residual_statistics(residual)._asdict())
            if seed == options.seed:
                first[name], kept[name] = result, residual
    figures: dict[str, Any] = {
        "clusters": "synthetic halo-model mocks, not MDPL2",
        "num_train": len(shown.train.contaminated),
        "num_test": len(shown.test.contaminated),
        "seeds": seeds,
        "table1": {
            view: {**first[f"m_sigma_{view}"]["table1"], "published": TABLE1[view]}
            for view in TABLE1
        },
        "table2": {name: with_spread(name, some) for name, some in rows.items()},
        "targets": targets({name: [row["scatter"] for row in rows[name]] for name in LABELS}),
    }
    figures["contaminated"] = contaminated_fits(shown)
    num_few = 60 if quick else 600
    few = {view: select(getattr(shown.test, view), np.arange(num_few)) for view in
           MockClusters._fields}  # fmt: skip
    rates = [0.3, 0.7, 1.0] if quick else [0.05, 0.1, 0.2, 0.4, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9]
    draws = 2 if quick else 10
    figures["table4"] = stages(
        f"table4_{options.seed}", lambda: robustness(MockClusters(**few), shown.key, rates, draws)
    )
    figures["table4_single"] = stages(
        f"table4_single_{options.seed}",
        lambda: robustness(MockClusters(**few), shown.key, rates, 1),
    )
    figures["table3"] = stages(f"table3_{options.seed}", lambda: dependence(shown, kept, quick))
    figures["reference"] = stages(
        f"reference_{options.seed}", lambda: reference(options.seed, 120 if quick else 1000)
    )
    draw_all(options.out, shown, kept, figures)
    figures["run_seconds"] = round(stages.seconds, 1)
    save(options, "dynamics", figures)
    (options.out / "dynamics.md").write_text(as_markdown(figures))


if __name__ == "__main__":
    main()
