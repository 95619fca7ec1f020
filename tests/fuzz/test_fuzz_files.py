"""Configurations, weights, maps, samples and cluster files with any damage: read, or refused."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from cases import ALL, GRID, assert_finite, ended, run_cases, some_and_all
from hypothesis import strategies as st
from test_fuzz_catalogues import DAMAGE, VALUES, Damage, damaged

from jaxmap.benchmark import read_case
from jaxmap.cli import build_parser
from jaxmap.comparison import contents_of
from jaxmap.config import with_config
from jaxmap.conformal import Conformal, read_conformal, write_conformal
from jaxmap.denoiser_files import read_denoiser
from jaxmap.dynamics.estimate import Flag
from jaxmap.dynamics.halo_cnn_files import read_halo_cnn
from jaxmap.dynamics.member_files import read_members, write_members
from jaxmap.dynamics.members import ClusterMembers, clusters_from_lists
from jaxmap.dynamics.model_files import read_model, shipped_model
from jaxmap.mapfiles import (
    read_mass_map,
    read_samples,
    read_shear_map,
    write_mass_map,
    write_samples,
    write_shear_map,
)
from jaxmap.massmap import MassMap
from jaxmap.networks.checkpoint import read_checkpoint, write_checkpoint
from jaxmap.networks.weights import HEADER, read_weights, write_weights
from jaxmap.plot import new_figure, save_picture
from jaxmap.reading.maps.source import open_maps
from jaxmap.records import check_record, read_record
from jaxmap.redshifts import read_redshift_distribution
from jaxmap.spectra import read_power_spectrum
from jaxmap.training.settings import read_training

WORDS = st.sampled_from((
    "kind", "seed", "schedule", "num_steps", "learning_rate", "network", "channels", "blocks",
    "noise", "level", "shares", "layouts", "side", "batch", "share", "maps", "pixel_arcmin", "nz",
    "baryons", "survey", "gan", "deepmass", "score", "validate_every", "start", "spread", "unknown",
    "decay_steps", "warmup_steps", "galaxies", "window", "margin", "density_arcmin2", "preset",
))  # fmt: skip
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-2, 40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.sampled_from(("denoiser", "score", "gan", "deepmass-survey", "tng", "", "é", "nz.csv")),
)
SETTINGS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=8,
)


def toml(value: Any) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@some_and_all(300)
def test_training_settings(tmp_path: Path, num: int):
    path = tmp_path / "training.toml"

    def check(table: dict[str, Any]) -> None:
        table = {"schedule": {"num_steps": 10}, **table}
        path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
        ended(lambda: read_training(path))

    run_cases(num, st.dictionaries(WORDS, SETTINGS, max_size=5), check)


@some_and_all(400)
def test_configurations_of_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], num: int):
    path = tmp_path / "run.toml"
    commands = (
        ["map"], ["simulate", "maps"], ["simulate", "survey"], ["calibrate"], ["detect"],
        ["survey", "plan"], ["benchmark"], ["demo"], ["dynamics", "estimate"],
        ["dynamics", "train"], ["dynamics", "mock"], ["dynamics", "evaluate"],
    )  # fmt: skip
    keys = st.sampled_from((
        "catalog", "method", "pixel_arcmin", "size", "centre", "columns", "hdu", "seed", "x64",
        "num-samples", "num", "flip_e2", "margin", "help", "config", "nz", "omega_m", "map",
        "drop_invalid", "quiet", "kind", "out", "preset", "z_lens", "conformal", "?", "-x",
        "patch_deg", "keep_samples", "measure", "methods", "models", "flat", "case", "velocity_cut",
    ))  # fmt: skip

    parser = build_parser()

    def check(case: tuple[list[str], dict[str, Any]]) -> None:
        command, table = case
        path.write_text("".join(f'"{key}" = {toml(value)}\n' for key, value in table.items()))
        try:
            arguments = ended(lambda: with_config([*command, "--config", str(path)], parser))
            if arguments is not None:
                parser.parse_args(arguments)
        except SystemExit as stop:  # how argparse refuses
            assert stop.code in (0, 2)
        finally:
            capsys.readouterr()

    run_cases(num, st.tuples(st.sampled_from(commands), st.dictionaries(keys, SETTINGS)), check)


def packed(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def mass_map(samples: bool) -> MassMap:
    rng = np.random.default_rng(0)
    plane = jnp.asarray(rng.normal(size=GRID.shape))
    draws = rng.normal(size=(3, *GRID.shape)) if samples else None
    return MassMap(plane, GRID, jnp.ones(GRID.shape, bool), std=abs(plane), samples=draws)


def members() -> ClusterMembers:
    rng = np.random.default_rng(0)
    sizes = (12, 1, 30)
    return clusters_from_lists(
        [rng.uniform(0, 1.5, n) for n in sizes],
        [rng.normal(0, 500, n) for n in sizes],
        log10_mass=[14.1, 14.0, 14.6],
        aperture_mpc_h=1.6,
    )


TREE = {"a": np.arange(6.0).reshape(2, 3), "b": {"c": np.ones(4, np.float32)}}
SHIPPED = Path(__file__).parents[2] / "jaxmap" / "data" / "dynamics" / "m_sigma_pure.npz"
CASE = {
    "convergence": np.random.default_rng(0).normal(size=(8, 8)),
    "shear": np.ones((2, 8, 8)),
    "noise_std": np.ones((8, 8)),
    "mask": np.ones((8, 8)),
    "pixel_arcmin": np.asarray(1.0),
}


SKIES = np.random.default_rng(0).normal(size=(2, 8, 8))
INTERVALS = Conformal(
    0.68, "std", np.asarray(1.2), np.asarray(0.9), 30, 0.3, (0.1, 0.2), {"method": "wiener"}
)


def read_maps(path: Path) -> np.ndarray:
    return np.asarray(open_maps(path, pixel_arcmin=1.0)[0])


def with_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["kappa"] = SKIES


def with_table(path: Path) -> None:
    z = np.linspace(0, 2, 9)
    np.savetxt(path, np.stack([z, np.exp(-z)], axis=1), header="z n")


def with_npz_table(path: Path) -> None:
    path.write_bytes(packed(z=np.linspace(0, 2, 9), n=np.ones(9)))


RECORD = {"command": "map", "settings": {"seed": 1}, "versions": {"jaxmap": "0", "jax": "0"}}


def with_record_in(path: Path) -> None:
    """A picture, a table or figures that say how they were made."""
    if path.suffix == ".png":
        save_picture(path, new_figure(1, 1), RECORD)
    elif path.suffix == ".json":
        path.write_text(json.dumps({**RECORD, "figures": {"ks": [1.0, 2.0]}}))
    else:
        Table({"z": [1.0, 2.0]}, meta={"jaxmap": RECORD}).write(path, format="ascii.ecsv")


def read_output(path: Path) -> None:
    """As replay does, which puts the remedy behind what it is told."""
    try:
        contents_of(path)
        check_record(read_record(path))
    except ValueError as error:
        raise ValueError(f"{error}; give another file of the same output") from error


KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "weights": (".npz", lambda path: write_weights(path, TREE, {"kind": "x"}), read_weights),
    "checkpoint": (
        ".npz",
        lambda path: write_checkpoint(path, TREE, {"settings": 1}),
        lambda path: read_checkpoint(path, TREE),
    ),
    "estimator": (".npz", lambda path: path.write_bytes(SHIPPED.read_bytes()), read_model),
    "case": (".npz", lambda path: path.write_bytes(packed(**CASE)), read_case),
    "map": (".fits", lambda path: write_mass_map(path, mass_map(False)), read_mass_map),
    "shear": (
        ".fits",
        lambda path: write_shear_map(path, _shear()),
        read_shear_map,
    ),
    "samples": (".nc", lambda path: write_samples(path, mass_map(True)), read_samples),
    "redshifts": (".txt", with_table, read_redshift_distribution),
    "redshifts-npz": (".npz", with_npz_table, read_redshift_distribution),
    "power": (".npz", with_npz_table, read_power_spectrum),
    "members": (".fits", lambda path: write_members(path, members()), read_members),
    "members-csv": (".csv", lambda path: write_members(path, members()), read_members),
    "intervals": (".npz", lambda path: write_conformal(path, INTERVALS), read_conformal),
    "maps-npy": (".npy", lambda path: np.save(path, SKIES), read_maps),
    "maps-npz": (".npz", lambda path: path.write_bytes(packed(kappa=SKIES)), read_maps),
    "maps-fits": (".fits", lambda path: fits.PrimaryHDU(SKIES[0]).writeto(path), read_maps),
    "maps-hdf5": (".h5", lambda path: with_hdf5(path), read_maps),
    "picture": (".png", with_record_in, read_output),
    "detections": (".ecsv", with_record_in, read_output),
    "figures": (".json", with_record_in, read_output),
    "halo-cnn-pickle": (
        ".p",
        lambda path: path.write_bytes(pickle.dumps({"par": 1, "gal": np.ones(3)})),
        read_halo_cnn,
    ),
    "halo-cnn-npy": (".npy", lambda path: np.save(path, _padded()), read_halo_cnn),
}
MAY_BE_REFUSED_WHOLE = {"halo-cnn-pickle"}
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "weights": lambda read: read[0],
    "case": lambda case: (case.truth, case.shear, case.spectrum),
    "intervals": lambda bounds: (bounds.level, bounds.observed, bounds.masked, bounds.noise_std),
}
"""Of what is read, where it is no tree of arrays alone; all are finite."""


def _shear() -> Any:
    from jaxmap.catalog import shear_map

    return shear_map(np.full(GRID.shape, 0.1j), GRID, noise_std=np.ones(GRID.shape))


def _padded() -> np.ndarray:
    kind = [("Ngal", "i8"), ("M200c", "f8"), ("gal_vlos", "f8", 4), ("gal_Rproj", "f8", 4)]
    table = np.zeros(3, kind)
    table["Ngal"], table["M200c"] = [4, 2, 0], 1e14
    return table


@some_and_all(200)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path: Path, kind: str, num: int):
    suffix, write, read = KINDS[kind]
    path = tmp_path / f"file{suffix}"
    write(path)
    good = path.read_bytes()
    if kind not in MAY_BE_REFUSED_WHOLE:
        read(path)

    def check(damage: Damage) -> None:
        path.write_bytes(damaged(good, damage))
        result = ended(lambda: read(path))
        if result is not None:
            assert_finite(NUMBERS.get(kind, lambda whole: whole)(result))

    run_cases(num, DAMAGE, check)


@some_and_all(400)
def test_weights_with_any_header(tmp_path: Path, num: int):
    """A right checksum, and whatever header and arrays: networks that do not fit are refused."""
    path = tmp_path / "weights.npz"
    known = st.sampled_from((
        "kind", "dynamics", "network", "channels", "blocks", "embedding", "half", "domain",
        "pixel_arcmin", "noise_std", "settings", "preset", "num_networks", "offsets", "scale",
    ))  # fmt: skip
    plain = st.one_of(
        st.none(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(("denoiser", "m-sigma", "sdm", "cnn", "standard_deviation", "ho2019")),
    )  # fmt: skip
    headers = st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(known, inner, max_size=4)
        ),
        max_leaves=8,
    )

    def check(case: tuple[dict[str, Any], str]) -> None:
        header, kind = case
        top = {"kind": "denoiser", "dynamics": kind, **header}
        write_weights(path, {"network": TREE, "spectrum": {"ell": np.arange(3.0)}}, top)
        ended(lambda: read_denoiser(path))
        ended(lambda: read_model(path))

    tops = st.dictionaries(known, headers, max_size=5)
    run_cases(num, st.tuples(tops, st.sampled_from(("m-sigma", "sdm", "cnn"))), check)


MODELS = ("m_sigma_contaminated", "sdm1d", "cnn1d")
CLUSTERS = st.lists(st.lists(st.tuples(VALUES, VALUES), max_size=5), max_size=5)


@pytest.mark.parametrize(
    ("name", "num"),
    [
        *(pytest.param(name, 15, marks=pytest.mark.slow) for name in ("sdm1d", "cnn1d")),
        pytest.param("m_sigma_contaminated", 500, marks=pytest.mark.slow),
        *(pytest.param(name, ALL, marks=pytest.mark.release) for name in MODELS),
    ],
)
def test_cluster_masses(name: str, num: int):
    model, masses = shipped_model(name), 0

    def check(case: tuple[list[list[tuple[float, float]]], float, int]) -> None:
        nonlocal masses
        clusters, speed, seed = case
        rng = np.random.default_rng(seed)
        radii = [rng.uniform(0, 1.6, 12), *([abs(r) for r, _ in one] for one in clusters)]
        speeds = [rng.normal(0, 400, 12), *([speed * v for _, v in one] for one in clusters)]
        found = ended(lambda: clusters_from_lists(radii, speeds))
        if found is None:
            return
        estimate = ended(lambda: model(jax.random.key(0), found))
        if estimate is not None:
            use = estimate.usable
            masses += int(use.sum())
            assert np.isfinite(estimate.log10_mass[use]).all()
            assert np.isfinite(estimate.std[use]).all() and (estimate.std[use] > 0).all()
            assert (estimate.flag[~use] != Flag.GOOD).all()

    speed = st.sampled_from((1.0, 300.0, 1e4))
    run_cases(num, st.tuples(CLUSTERS, speed, st.integers(0, 2**16)), check)
    assert masses > num / 8


def test_a_changed_array_is_noticed(tmp_path: Path):
    """A control: the archive is whole, and its checksum is of other arrays."""
    path = tmp_path / "weights.npz"
    write_weights(path, TREE, {"kind": "x"})
    with np.load(path) as file:
        arrays = dict(file)
    arrays["a"] = arrays["a"] + 1
    path.write_bytes(packed(**arrays))
    assert zipfile.is_zipfile(path) and HEADER in arrays
    with pytest.raises(ValueError, match="do not match its checksum"):
        read_weights(path)
