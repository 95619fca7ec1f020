"""Every estimator with any mask and noise: a finite map, or a refusal that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, FIELDS, GRID, Field, assert_finite, ended, run_cases, shear_of

from jaxmap.catalog import ShearMap
from jaxmap.cluster_network import PIXEL_ARCMIN, ClusterNetwork
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.estimators import (
    ConditionalGAN,
    DeepMass,
    Estimator,
    HongCNN,
    KaiserSquires,
    KSPlus,
    MaximumPosterior,
    MCALens,
    Resampled,
    SampledPosterior,
    Sparse,
    SurveyDeepMass,
    Wiener,
)
from jaxmap.flags import METHODS
from jaxmap.galaxies import GalaxyShear
from jaxmap.generator import Generator, initialise_generator
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap
from jaxmap.networks.hong import HongNetwork, initialise_hong
from jaxmap.networks.plain_unet import PlainUNet, initialise_plain
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.samplers import Annealed, Diffusion, Gibbs
from jaxmap.sampling.schedule import AnnealingSettings
from jaxmap.spectra import PowerSpectrum, power_spectrum
from jaxmap.survey_denoiser import SurveyDenoiser

KEY = jax.random.key(0)


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """float32 or float64, whatever the session computes in."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", before)


def spectrum() -> PowerSpectrum:
    ell = np.geomspace(10, 2e5, 200)
    return power_spectrum(ell, 5e-8 / (1 + (ell / 300) ** 1.6))


def random_like(shapes: object) -> Any:
    """Parameters of an untrained network, none of them zero."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=0.2, size=leaf.shape)), shapes)


def denoiser() -> Denoiser:
    network = ResidualUNet(channels=(4,), blocks=1, embedding=4, half=False)
    shapes = jax.eval_shape(lambda key: initialise(network, key, NUM_FEATURES, NUM_CONDITIONS), KEY)
    return Denoiser(random_like(shapes), spectrum(), network)


def survey_denoiser() -> SurveyDenoiser:
    network = PlainUNet((4,))
    shapes = jax.eval_shape(lambda key: initialise_plain(network, key, 1), KEY)
    return SurveyDenoiser(random_like(shapes), spectrum(), network)


def generator() -> Generator:
    network = PlainUNet((4,))
    shapes = jax.eval_shape(lambda key: initialise_generator(network, key, 2), KEY)
    return Generator(random_like(shapes), spectrum(), jnp.asarray(0.03), network)


def cluster_network() -> ClusterNetwork:
    network = HongNetwork(width=3)
    params = random_like(jax.eval_shape(lambda key: initialise_hong(network, key), KEY))
    statistics = jax.tree.map(lambda leaf: 0.5 + jnp.abs(leaf), params["statistics"])
    params = {**params, "statistics": statistics}
    return ClusterNetwork(params, jnp.asarray(0.1), network, side=101)


def unbinned(estimator: Sparse) -> Estimator:
    """The same on galaxies in pixels with data, not in their middle; as many in every case."""

    def of_pixels(key: jax.Array, shear: ShearMap) -> MassMap:
        seen = np.argwhere(np.asarray(shear.weight).all(axis=0))
        if not len(seen):
            raise ValueError("no galaxy; expected one or more")
        row, column = np.resize(seen, (shear.grid.num_pixels, 2)).T
        x, y = jnp.asarray(column + 0.3, float), jnp.asarray(row - 0.2, float)
        galaxies = GalaxyShear(
            x, y, shear.shear[row, column], shear.weight[:, row, column], shear.grid
        )
        return estimator(key, galaxies)

    return of_pixels


SHORT = AnnealingSettings(
    sigma_floor=0.2, cooling=0.5, steps_per_level=2, chunk=2, max_rounds=8, flow_steps=2
)
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "ks": lambda: KaiserSquires(margin=4),
    "ksplus": lambda: KSPlus(num_iterations=10, num_corrections=1, margin=4),
    "wiener": lambda: Wiener(spectrum(), num_samples=2, margin=4, chunk=2),
    "glimpse": lambda: Sparse(max_iterations=200, margin=4, num_corrections=1, num_reweightings=1),
    "mcalens": lambda: MCALens(spectrum(), max_iterations=200, margin=4),
    "deepmass": lambda: DeepMass(denoiser(), margin=4),
    "deepmass-survey": lambda: SurveyDeepMass(survey_denoiser(), margin=4),
    "dlposterior": lambda: SampledPosterior(denoiser(), Diffusion(2), 2, margin=4, chunk=2),
    "dlposterior-gibbs": lambda: SampledPosterior(
        spectrum(), Gibbs(8, Diffusion(2)), 2, margin=4, chunk=2
    ),
    "dlposterior-hmc": lambda: SampledPosterior(spectrum(), Annealed(SHORT), 2, margin=4, chunk=2),
    "dlposterior-map": lambda: MaximumPosterior(denoiser(), margin=4, num_levels=2),
    "gan": lambda: ConditionalGAN(generator(), num_samples=2, margin=4, chunk=2),
    "hong": lambda: HongCNN((cluster_network(),)),
    "ks-resampled": lambda: Resampled(KaiserSquires(margin=4), 3, margin=4),
    "ks-residuals": lambda: Resampled(KaiserSquires(margin=4), 3, "residuals", margin=4),
    "glimpse-unbinned": lambda: unbinned(Sparse(max_iterations=200, margin=4)),
}


CASES = {
    "ks": 1000,
    "ksplus": 500,
    "wiener": 150,
    "glimpse": 60,
    "mcalens": 60,
    "deepmass": 500,
    "deepmass-survey": 300,
    "dlposterior": 120,
    "dlposterior-gibbs": 60,
    "dlposterior-hmc": 60,
    "dlposterior-map": 120,
    "gan": 200,
    "hong": 150,
    "ks-resampled": 60,
    "ks-residuals": 60,
    "glimpse-unbinned": 24,
}
"""What seconds allow in CI; the release tier has `ALL` of each, in both precisions."""


def always_finite(name: str, num: int) -> None:
    estimator = ESTIMATORS[name]()
    grid = Grid(GRID.shape, PIXEL_ARCMIN) if name == "hong" else GRID
    finite = 0

    def check(field: Field) -> None:
        nonlocal finite
        result = ended(lambda: estimator(KEY, shear_of(field, grid)))
        assert_finite(result)
        finite += result is not None

    run_cases(num, FIELDS, check)
    assert finite > num / 4  # it does not refuse everything


def test_every_method_of_the_command_line_is_here():
    assert {name.split("-")[0] for name in ESTIMATORS} == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32"], indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_maps_are_finite_or_refused(name, precision):
    always_finite(name, CASES[name])


@pytest.mark.release
@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_maps_are_finite_or_refused_in_all_cases(name, precision):
    always_finite(name, ALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "hong"])
def test_another_map_of_the_same_shape_compiles_nothing(name):
    """Else thousands of maps fill a process with programs, until XLA crashes."""
    compiled: list[str] = []

    def count(event: str, _: float, **told: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    estimator = ESTIMATORS[name]()
    data = [shear_of(Field(seed, "holes", -1.0, 0.3, -2.0)) for seed in range(2)]
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        jax.jit(lambda x: x + len(name))(1.0)
        assert compiled, "the control"
        estimator(jax.random.key(0), data[0])
        compiled.clear()
        estimator(jax.random.key(1), data[1])
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert not compiled
