"""float32 beside float64: how far every estimator's map moves; sizes, spikes, gradients."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.cluster_network import PIXEL_ARCMIN
from jaxmap.cosmology import convergence_power
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.likelihood import ShearLikelihood
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.redshifts import redshift_distribution
from jaxmap.spectra import PowerSpectrum, mode_variance, power_spectrum

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
from test_fuzz_estimators import ESTIMATORS, KEY

GRID = Grid((16, 16), 1.0)
TOLERANCE = {
    "ks": 1e-5,
    "ksplus": 1e-3,
    "wiener": 1e-3,
    "glimpse": 1e-2,
    "mcalens": 1e-2,
    "deepmass": 1e-3,
    "deepmass-survey": 1e-3,
    "dlposterior-map": 1e-2,
    "hong": 1e-4,
    "ks-resampled": 1e-5,
    "ks-residuals": 1e-5,
    "glimpse-unbinned": 1e-2,
}
"""Of the maps, relative to their rms. A hard threshold decides anew what is next to it (`ksplus`),
iterations stop at 1e-5 (`wiener`) and 1e-3 (`glimpse`, `mcalens`) of their equations."""

SAMPLES = dict.fromkeys(
    ("wiener", "dlposterior", "dlposterior-gibbs", "dlposterior-hmc", "gan"), 1e-4
)
"""Of two samples each, given the same random numbers."""
FAST = ("wiener", "dlposterior", "gan")


@pytest.fixture
def both() -> Iterator[None]:
    before = jax.config.read("jax_enable_x64")
    yield
    jax.config.update("jax_enable_x64", before)


def spectrum() -> PowerSpectrum:
    ell = np.geomspace(10, 2e5, 200)
    return power_spectrum(ell, 5e-8 / (1 + (ell / 300) ** 1.6))


def survey(shape: tuple[int, int] = GRID.shape, pixel_arcmin: float = 1.0) -> ShearMap:
    """A cluster behind a mask and uneven noise."""
    rng = np.random.default_rng(0)
    grid = Grid(shape, pixel_arcmin)
    y, x = np.indices(shape)
    kappa = 0.4 * np.exp(-((x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2) / 18)
    std = 0.03 * (1 + rng.random((2, *shape)))
    std[:, 3:6, 4:8] = 0
    noise = std * rng.normal(size=std.shape)
    shear = np.asarray(shear_from_convergence(jnp.asarray(kappa), grid))
    return shear_map(shear + noise[0] + 1j * noise[1], grid, noise_std=std)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLERANCE)
def test_maps_in_both_precisions(name, both):
    found, pixel_arcmin = {}, PIXEL_ARCMIN if name == "hong" else 1.0
    for x64 in (False, True):
        jax.config.update("jax_enable_x64", x64)
        data = survey(pixel_arcmin=pixel_arcmin)
        found[x64] = np.asarray(ESTIMATORS[name]()(KEY, data).convergence)
    assert found[False].dtype == np.float32 and found[True].dtype == np.float64
    apart = np.sqrt(np.mean((found[False] - found[True]) ** 2) / np.mean(found[True] ** 2))
    assert apart < TOLERANCE[name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in FAST else pytest.mark.release)
        for name in SAMPLES
    ],
)
def test_samples_in_both_precisions(name, both, monkeypatch):
    """Keys give other numbers in another precision: here all are drawn in float32."""

    def in_float32(draw):
        def drawn(key, shape=(), dtype=float, *bounds):
            bounds = [jnp.asarray(bound, jnp.float32) for bound in bounds]
            return draw(key, shape, jnp.float32, *bounds).astype(dtype)

        return drawn

    jax.clear_caches()
    for draw in (jax.random.normal, jax.random.uniform):
        monkeypatch.setattr(jax.random, draw.__name__, in_float32(draw))
    found = {}
    for x64 in (False, True):
        jax.config.update("jax_enable_x64", x64)
        found[x64] = np.asarray(ESTIMATORS[name]()(KEY, survey()).samples)
    jax.clear_caches()
    assert found[False].dtype == np.float32 and found[True].dtype == np.float64
    apart = np.sqrt(np.mean((found[False] - found[True]) ** 2) / np.mean(found[True] ** 2))
    assert apart < SAMPLES[name]
    other = np.sqrt(np.mean((found[True][0] - found[True][1]) ** 2) / np.mean(found[True] ** 2))
    assert other > 0.1, "two samples are further apart"


def test_every_estimator_is_here():
    assert TOLERANCE.keys() | SAMPLES.keys() == ESTIMATORS.keys()


def test_documented_tolerances():
    """The table of the page on what is exact is the one that is tested."""
    page = Path(__file__).parents[1] / "docs" / "explanation" / "exact_and_approximate.md"
    _, part = page.read_text(encoding="utf-8").split("## Reproducibility")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) % \|$", part, re.M)
    assert {name: float(value) / 100 for name, value in rows} == pytest.approx(TOLERANCE)
    (least,) = set(SAMPLES.values())
    assert f"the same random numbers, samples agree to {100 * least:g} %" in part


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(16, 16), (256, 256)])
def test_sizes(shape):
    data = survey(shape)
    for estimator in (KaiserSquires(), Wiener(spectrum(), num_samples=2)):
        result = estimator(KEY, data)
        for leaf in jax.tree.leaves(result):
            assert np.isfinite(leaf).all()
        middle = np.asarray(result.convergence)[shape[0] // 2, shape[1] // 2]
        assert middle > 5 * np.std(result.b_mode)


@pytest.mark.release
@pytest.mark.parametrize("estimator", [KaiserSquires(margin=0), Wiener(spectrum(), 2, margin=0)])
def test_the_largest_size(estimator):
    result = estimator(KEY, survey((2048, 2048)))
    for leaf in jax.tree.leaves(result):
        assert np.isfinite(leaf).all()


@pytest.mark.slow
def test_spikes_of_redshift():
    """n(z) of a single plane, and of one narrower and narrower, which comes to the same power."""
    ell = np.geomspace(100, 5000, 9)
    plane = np.asarray(convergence_power(redshift_distribution(1.0))(ell))
    for width in (1e-2, 1e-4, 1e-8):
        z = 1 + width * np.array([-1, 0, 1])
        narrow = convergence_power(redshift_distribution(z, [0, 1, 0]))
        np.testing.assert_allclose(np.asarray(narrow(ell)), plane, rtol=1e-3)
    low = np.asarray(convergence_power(redshift_distribution(0.05))(ell))
    assert np.isfinite(low).all() and (low >= 0).all() and low.max() < 1e-2 * plane.max()
    with pytest.raises(ValueError, match="zero everywhere"):  # no mass in front of it
        convergence_power(redshift_distribution(1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("masked", ["nothing", "all but one pixel"])
def test_gradients_are_finite(noise, masked):
    """Those of the likelihood and of the Wiener filter, in data, weights, noise and prior."""
    std = np.full((2, *GRID.shape), noise)
    if masked != "nothing":
        std[:, 1:], std[:, :, 1:] = 0, 0
    rng = np.random.default_rng(1)
    data = shear_map(noise * rng.normal(size=(2, *GRID.shape)), GRID, noise_std=std)
    power = spectrum()

    def misfit(data: ShearMap, amplitude: jax.Array) -> jax.Array:
        scaled = PowerSpectrum(power.ell, amplitude * power.c_ell)
        prior = GaussianPrior(mode_variance(scaled, GRID))
        found, _ = solve_conjugate_gradient(data, prior)
        return jnp.sum(found**2) / noise**2

    gradients = jax.grad(misfit, argnums=(0, 1), allow_int=True)(data, jnp.asarray(1.0))
    score = ShearLikelihood(data).score(jnp.zeros(GRID.shape))
    leaves = [*jax.tree.leaves(gradients), score]
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves)
    assert float(jnp.abs(score).max()) > 0 and float(jnp.abs(leaves[0]).max()) > 0
