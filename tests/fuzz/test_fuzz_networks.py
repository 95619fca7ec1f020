"""Trained networks and intervals in whole files whose headers say odd things: read, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import GRID, ended, run_cases, some_and_all
from hypothesis import strategies as st
from test_fuzz_files import INTERVALS, SCALARS, WORDS, packed

from jaxmap.arrayfiles import read_arrays
from jaxmap.cluster_network import ClusterNetwork, read_cluster_network, write_cluster_network
from jaxmap.conformal import read_conformal, write_conformal
from jaxmap.generator import Generator, initialise_generator
from jaxmap.hybrid_prior_files import read_hybrid_prior, write_hybrid_prior
from jaxmap.networks.hong import HongNetwork, initialise_hong
from jaxmap.networks.plain_unet import PlainUNet, initialise_plain
from jaxmap.networks.score_unet import ScoreUNet, initialise_score
from jaxmap.networks.weights import HEADER
from jaxmap.spectra import power_spectrum
from jaxmap.survey_denoiser import SurveyDenoiser
from jaxmap.survey_network_files import (
    read_generator,
    read_survey_denoiser,
    write_generator,
    write_survey_denoiser,
)
from jaxmap.trained_survey import TrainedSurvey

KEY = jax.random.key(0)
SPECTRUM = power_spectrum([10, 1e3, 1e5], [1e-9, 1e-10, 1e-12])
SURVEY = TrainedSurvey(np.ones((2, 8, 8), np.float32), 1.0, 2)


def write_clusters(path: Path) -> None:
    network = HongNetwork(width=3)
    model = ClusterNetwork(initialise_hong(network, KEY), jnp.asarray(0.1), network, side=101)
    write_cluster_network(path, model, {})


def write_gan(path: Path) -> None:
    network = PlainUNet((4,))
    params = initialise_generator(network, KEY, 2)
    write_generator(path, Generator(params, SPECTRUM, jnp.asarray(0.03), network), SURVEY, {})


def write_deepmass(path: Path) -> None:
    network = PlainUNet((4,))
    model = SurveyDenoiser(initialise_plain(network, KEY, 1), SPECTRUM, network)
    write_survey_denoiser(path, model, SURVEY, {})


def write_hybrid(path: Path) -> None:
    network = ScoreUNet((4,), 1)
    write_hybrid_prior(path, initialise_score(network, KEY), network, SPECTRUM, 1.0, {})


NETWORKS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "hong": (write_clusters, read_cluster_network),
    "gan": (write_gan, read_generator),
    "deepmass-survey": (write_deepmass, read_survey_denoiser),
    "hybrid": (write_hybrid, lambda path: read_hybrid_prior(path, GRID)),
    "intervals": (lambda path: write_conformal(path, INTERVALS), read_conformal),
}
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.integers(-2, 9),
    st.floats(), st.sampled_from(("", "m1", "std", "wiener", "network")), st.just("gone"),
    st.lists(st.integers(-1, 2**40), max_size=3), st.dictionaries(WORDS, SCALARS, max_size=2),
)  # fmt: skip


def places_in(header: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Of all settings in nested tables."""
    if not isinstance(header, dict):
        return [above]
    inner = (places_in(value, (*above, key)) for key, value in header.items())
    return [*([above] if above else []), *(place for found in inner for place in found)]


def change(header: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for key in place[:-1]:
        header = header[key] if isinstance(header.get(key), dict) else {}
    if value == "gone":
        header.pop(place[-1], None)
    else:
        header[place[-1]] = value


@some_and_all(25)
@pytest.mark.parametrize("kind", NETWORKS)
def test_odd_headers(tmp_path: Path, kind: str, num: int):
    """The checksum is right, settings are changed or gone."""
    write, read = NETWORKS[kind]
    path = tmp_path / "file.npz"
    write(path)
    read(path)
    arrays = read_arrays(path)
    name = HEADER if HEADER in arrays else "header"
    good = arrays.pop(name).tobytes()
    places = [place for place in places_in(json.loads(good)) if place != ("sha256",)]
    refused = 0

    def check(case: list[tuple[tuple[str, ...], Any]]) -> None:
        nonlocal refused
        header = json.loads(good)
        for place, value in case:
            change(header, place, value)
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        path.write_bytes(packed(**arrays, **{name: text}))
        refused += ended(lambda: read(path)) is None

    odd = st.lists(st.tuples(st.sampled_from(places), ODD), min_size=1, max_size=2)
    run_cases(num, odd, check)
    assert refused > num / 4


@pytest.mark.parametrize("network", [{"blocks": 2**40}, {"channels": [4] * 1000}])
def test_networks_of_absurd_size_are_not_built(tmp_path: Path, network: dict[str, Any]):
    path = tmp_path / "file.npz"
    write_gan(path)
    arrays = read_arrays(path)
    header = json.loads(arrays.pop(HEADER).tobytes())
    header["network"] |= network
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    path.write_bytes(packed(**arrays, **{HEADER: text}))
    with pytest.raises(ValueError, match=r"of its network is .*; give a file that"):
        read_generator(path)


@pytest.mark.parametrize(
    "change_to",
    [{"level": "0.68"}, {"kind": "x"}, {"noise_std": [0, 1]}, {"method": 3}, {"pixel_arcmin": -1}],
)
def test_intervals_that_say_odd_things_are_refused(tmp_path: Path, change_to: dict[str, Any]):
    """They were read, and failed at their use."""
    path = tmp_path / "file.npz"
    write_conformal(path, INTERVALS)
    arrays = read_arrays(path)
    header = json.loads(arrays.pop("header").tobytes()) | change_to
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    path.write_bytes(packed(**arrays, header=text))
    with pytest.raises(ValueError, match="not a whole file of jaxmap conformal intervals"):
        read_conformal(path)
