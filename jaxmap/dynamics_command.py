"""What ``jaxmap dynamics`` does: masses of clusters, training, mocks, evaluation."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmap.dynamics.cnn import PRESETS, fit_cnn
from jaxmap.dynamics.estimate import Flag, MassEstimate
from jaxmap.dynamics.halo_cnn_files import read_halo_cnn, write_halo_cnn
from jaxmap.dynamics.m_sigma import MSigma, fit_m_sigma
from jaxmap.dynamics.member_files import FORMATS, read_members, write_members
from jaxmap.dynamics.members import ClusterMembers, cut_cylinder, require_masses
from jaxmap.dynamics.memory import GALAXIES, check_training_memory
from jaxmap.dynamics.mock_recipe import flat_masses, halo_masses
from jaxmap.dynamics.mocks import mock_clusters
from jaxmap.dynamics.model_files import SHIPPED, Model, read_model, shipped_model, write_model
from jaxmap.dynamics.residuals import ResidualStatistics, residual_statistics
from jaxmap.dynamics.sdm import fit_sdm
from jaxmap.files import atomic_path, record_beside
from jaxmap.outputs import (
    input_files,
    kept_if_interrupted,
    origin,
    partial_folder,
    require_writable,
)
from jaxmap.progress import progress_bar, with_bar
from jaxmap.records import with_record

APERTURE, VELOCITY_CUT = 1.6, 2200.0
PICKLES = (".p", ".pkl", ".pickle", ".npy")
NUM_EVALUATED = {False: 8000, True: 2000}


def run_estimate(options: argparse.Namespace) -> int:
    """``jaxmap dynamics estimate``: a table of masses."""
    from astropy.table import Table

    out = Path(options.out)
    if out.suffix not in (".ecsv", ".csv", ".fits"):
        raise ValueError(f"cannot write {out}; expected a name ending in .ecsv, .csv or .fits")
    require_writable([out], [*input_files(options), options.config])
    model = read_model(options.weights) if options.weights else shipped_model(options.model)
    members = _catalogue(options, model)
    estimate = model(jax.random.key(options.seed), members)
    table = Table({"cluster": _named(members)})
    if members.name is not None and members.halo is not None:
        table["halo"] = members.halo
    if members.line_of_sight is not None:
        table["line_of_sight"] = members.line_of_sight
    table["num_galaxies"] = members.richness
    table["log10_mass"], table["std"] = estimate.log10_mass, estimate.std
    table["flag"] = estimate.flag
    record = origin(options, Path(options.catalog))
    kind = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits"}[out.suffix]
    if out.suffix != ".csv":
        table.meta["jaxmap"] = json.dumps(record)
    with with_record(out, record) if out.suffix == ".csv" else atomic_path(out) as temporary:
        table.write(temporary, format=kind, overwrite=True)
    if not options.quiet:
        print(_described(estimate, members))
        print(f"Wrote {out}.")
    return 0


def run_train(options: argparse.Namespace) -> int:
    """``jaxmap dynamics train``: an estimator in a file."""
    out = Path(options.out)
    if out.suffix != ".npz":
        raise ValueError(f"cannot write an estimator to {out}; expected a name ending in .npz")
    require_writable([out], [*input_files(options), options.config])
    key_masses, key_mocks, key_fit = jax.random.split(jax.random.key(options.seed), 3)
    if options.catalog:
        members = _catalogue(options, None)
        _check_memory(options, len(members), len(members.velocity_km_s), "give fewer clusters")
        source = Path(options.catalog)
    else:
        _require_some(options.num)
        _check_memory(options, options.num, GALAXIES * options.num, "make fewer clusters (--num)")
        members = mock_clusters(key_mocks, flat_masses(key_masses, options.num)).contaminated
        source = None
    require_masses(members)
    began = time.perf_counter()
    record = origin(options, source)
    folder = partial_folder(out.parent, out.stem, record)
    with kept_if_interrupted(folder, "epochs"):
        model = _trained(key_fit, members, options, folder)
    write_model(out, model, record)
    shutil.rmtree(folder, ignore_errors=True)
    if not options.quiet:
        print(f"Trained {options.model} on {len(members):,} clusters in "
              f"{time.perf_counter() - began:.0f} s. {_fitted(model)}")  # fmt: skip
        print(f"Wrote {out}. Use it: jaxmap dynamics estimate CATALOG --weights {out}")
    return 0


def run_mock(options: argparse.Namespace) -> int:
    """``jaxmap dynamics mock``: a catalogue of synthetic clusters."""
    out = Path(options.out)
    if out.suffix not in (*FORMATS, ".npy"):
        raise ValueError(
            f"cannot write clusters to {out}; expected a name ending in {', '.join(FORMATS)}, .npy"
        )
    _require_some(options.num)
    require_writable([out, record_beside(out)], [options.config])
    key_masses, key_mocks = jax.random.split(jax.random.key(options.seed))
    draw = flat_masses if options.flat else halo_masses
    mocks = mock_clusters(key_mocks, draw(key_masses, options.num), options.num_lines)
    members = mocks.pure if options.pure else mocks.contaminated
    with with_record(out, origin(options, None)) as temporary:
        write = write_halo_cnn if out.suffix == ".npy" else write_members
        write(temporary, members)
    if not options.quiet:
        print(
            f"{len(members):,} synthetic clusters of {len(members.radius_mpc_h):,} galaxies "
            f"(halo model, not MDPL2), {np.median(members.richness):.0f} in the middle; those of "
            "10 galaxies or fewer are left out."
        )
        print(f"Wrote {out}.")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """``jaxmap dynamics evaluate``: statistics of residuals on new synthetic clusters."""
    unknown = [name for name in options.models if name not in SHIPPED]
    if unknown:
        raise ValueError(f"there is no model {unknown[0]!r}; expected some of {', '.join(SHIPPED)}")
    if options.json:
        remedy = "give another file with --json"
        require_writable([Path(options.json)], [options.config], remedy)
    began = time.perf_counter()
    num = options.num or NUM_EVALUATED[options.quick]
    # Folded in, so that no seed of a training gives the same clusters.
    key_masses, key_mocks = jax.random.split(
        jax.random.fold_in(jax.random.key(options.seed), 0x45564C)
    )
    mocks = mock_clusters(key_mocks, halo_masses(key_masses, num))
    found = {}
    for name in progress_bar(options.models, "estimators", "it", options.quiet):
        clusters = mocks.pure if name == "m_sigma_pure" else mocks.contaminated
        found[name] = evaluated(shipped_model(name), clusters)
    if options.json:
        record = {
            "models": found,
            "clusters": "synthetic halo-model mocks, not MDPL2",
            "run_seconds": round(time.perf_counter() - began, 1),
            **origin(options, None),
        }
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if not options.quiet:
        print(f"{num:,} synthetic clusters (halo model, not MDPL2), log10 mass 14 to 15, in dex:")
        print(evaluation_table(found))
        if options.json:
            print(f"Wrote {options.json}.")
    return 0


def evaluated(model: Model, members: ClusterMembers) -> dict[str, Any]:
    """Statistics of an estimator's residuals, with its time for a cluster and its errors' size."""
    began = time.perf_counter()
    estimate = model(jax.random.key(0), members)
    seconds = time.perf_counter() - began
    use = estimate.usable
    residual = estimate.log10_mass[use] - require_masses(members)[use]
    statistics: ResidualStatistics = residual_statistics(residual)
    return {
        **statistics._asdict(),
        "error_over_std": float(np.sqrt(np.mean((residual / estimate.std[use]) ** 2))),
        "not_estimated": int((~use).sum()),
        "milliseconds_per_cluster": 1e3 * seconds / len(members),
    }


def evaluation_table(found: dict[str, dict[str, Any]]) -> str:
    """Figures of several estimators as lines of text."""
    head = f"{'':<22}{'scatter':>8}{'median':>8}{'16 %':>8}{'84 %':>8}{'skew':>7}{'kurt':>7}"
    rows = [head + f"{'counts':>8}{'err/std':>9}"]
    for name, one in found.items():
        numbers = (one["scatter"], one["median"], one["low"], one["high"])
        row = f"{name:<22}" + "".join(f"{value:>8.3f}" for value in numbers)
        row += f"{one['skewness']:>7.2f}{one['kurtosis']:>7.2f}"
        rows.append(row + f"{100 * one['count_bias']:>7.1f}%{one['error_over_std']:>9.2f}")
    return "\n".join(rows)


def _catalogue(options: argparse.Namespace, model: Model | None) -> ClusterMembers:
    """Clusters of the input file, cut to the model's cylinder; M-sigma relations may have none."""
    if not options.catalog:
        raise ValueError("no catalogue was given; expected a file of galaxies in clusters")
    path = Path(options.catalog)
    if path.suffix in PICKLES:
        if options.columns:
            raise ValueError(f"{path} has columns of fixed names; leave --columns out")
        members = read_halo_cnn(path)
        if options.redshift is not None:
            members = replace(members, redshift=options.redshift)
    else:
        members = read_members(path, columns=options.columns, redshift=options.redshift)
    domain = None if model is None else model.domain
    aperture = options.aperture
    if aperture is None and domain is not None:
        aperture = domain.aperture_mpc_h
    cut = options.velocity_cut
    if cut is None and domain is not None:
        cut = domain.velocity_cut_km_s
    relation = isinstance(model, MSigma) or (model is None and options.model == "m_sigma")
    if relation and aperture is None and cut is None:
        return members
    return cut_cylinder(
        members, APERTURE if aperture is None else aperture, VELOCITY_CUT if cut is None else cut
    )


def _named(members: ClusterMembers) -> np.ndarray:
    """What to call clusters: as their file does, or by their haloes, or by number."""
    known = (one for one in (members.name, members.halo) if one is not None)
    return next(known, np.arange(len(members)))


def _check_memory(
    options: argparse.Namespace, num_clusters: int, num_galaxies: int, remedy: str
) -> None:
    check_training_memory(options.model, num_clusters, num_galaxies, options.num_landmarks, remedy)


def _trained(
    key: jax.Array, members: ClusterMembers, options: argparse.Namespace, folder: Path
) -> Model:
    if options.model == "m_sigma":
        return fit_m_sigma(key, members)
    with_radius = options.model.endswith("2d")
    if options.model.startswith("sdm"):
        return fit_sdm(key, members, with_radius=with_radius, num_landmarks=options.num_landmarks)
    return fit_cnn(
        key,
        members,
        with_radius=with_radius,
        preset=PRESETS[options.preset],
        num_networks=options.num_networks,
        folder=folder,
        progress=with_bar("epochs", "it", options.quiet),
    )


def _fitted(model: Model) -> str:
    if isinstance(model, MSigma):
        return (
            f"sigma15 = {model.sigma15_km_s:.0f} +- {model.sigma15_std:.0f} km/s, alpha = "
            f"{model.alpha:.3f} +- {model.alpha_std:.3f}, scatter {model.scatter:.3f} dex in sigma."
        )
    return (
        f"Errors on held-out clusters: {model.errors.std.min():.3f} to "
        f"{model.errors.std.max():.3f} dex."
    )


def _described(estimate: MassEstimate, members: ClusterMembers) -> str:
    use = estimate.usable
    lines = [f"{len(members):,} clusters, {int(use.sum()):,} with a mass."]
    if use.any():
        masses = estimate.log10_mass[use]
        lines.append(
            f"log10 M200c from {masses.min():.2f} to {masses.max():.2f}, {np.median(masses):.2f} "
            f"in the middle; errors of {np.median(estimate.std[use]):.2f} dex."
        )
    for flag in Flag:
        count = int(np.sum((estimate.flag & flag) != 0))
        if count:
            lines.append(f"Flag {flag.value} ({flag.name}): {count} clusters.")
    return "\n".join(lines)


def _require_some(num: int) -> None:
    if num < 1:
        raise ValueError(f"{num} clusters were asked for; expected 1 or more (--num)")
