"""Shared settings and data of the tests: float64, no implicit rank promotion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "true")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# What one test process compiled, however small, the others and the command lines they start read.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.grid import Grid
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance, power_spectrum


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Drop the compiled programs of every file: each holds memory maps, which Linux counts.

    The longer tests in one process came near 65 530, the default limit, where XLA crashes.
    """
    yield
    jax.clear_caches()


LONG = (
    "test_notebooks.py",
    "test_fuzz_estimators.py",
    "test_sampled_posterior.py",
    "test_precision.py",
    "test_train_command.py",
    "test_training.py",
    "test_uncertainty_commands.py",
    "test_fuzz_files.py",
    "test_posterior.py",
    "test_gaussian_posterior.py",
    "test_survey_training.py",
    "test_production.py",
    "test_light_cone.py",
    "test_hong_maps.py",
)
"""Files that take longest: begun first, they do not keep one process busy at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


SHAPES = [(16, 16), (17, 17), (15, 16), (16, 15), (12, 33), (64, 8)]


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> type:
    """Run a test in both precisions (one, where float64 is switched off)."""
    if request.param == "float64" and not jax.config.read("jax_enable_x64"):
        pytest.skip("float64 is switched off")
    return getattr(np, request.param)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project; tests that need it are skipped without it."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("JAXMAP_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}; set JAXMAP_SHARED to run this test")
    return folder / "data"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A file of 3000 galaxies without any shear."""
    from clicatalogs import make_table

    path = tmp_path / "galaxies.fits"
    make_table().write(path)
    return path


@pytest.fixture(scope="session")
def spectrum() -> PowerSpectrum:
    """A smooth spectrum of about the amplitude and slope of cosmic shear; no cosmology needed."""
    ell = np.geomspace(10, 2e5, 200)
    return power_spectrum(ell, 5e-8 / (1 + (ell / 300) ** 1.6))


@pytest.fixture(scope="session")
def masked_case(spectrum: PowerSpectrum) -> tuple[jax.Array, ShearMap, GaussianPrior]:
    """Truth, data and prior on a small non-square grid with holes and uneven noise."""
    grid = Grid((24, 20), 1.0)
    prior = GaussianPrior(mode_variance(spectrum, grid))
    truth = prior.sample(jax.random.key(1))
    return truth, simulated_data(jax.random.key(2), truth, grid), prior


def simulated_data(key: jax.Array, truth: jax.Array, grid: Grid, hole: bool = True) -> ShearMap:
    """Shear of ``truth`` with noise that differs per pixel and component, and a hole."""
    from jaxmap.operators import shear_from_convergence

    key_std, key_noise = jax.random.split(key)
    std = 0.02 * (1 + jax.random.uniform(key_std, (2, *grid.shape)))
    if hole:
        std = std.at[:, 3:11, 4:12].set(0.0)
    noise = jax.lax.complex(*(std * jax.random.normal(key_noise, std.shape)))
    return shear_map(shear_from_convergence(truth, grid) + noise, grid, noise_std=std)


def dense(operator: object, size: int) -> jax.Array:
    """The matrix of a linear function of flat vectors, column by column."""
    return jax.vmap(operator)(jnp.eye(size)).T  # type: ignore[arg-type]
