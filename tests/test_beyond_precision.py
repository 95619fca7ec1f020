"""What fuzzing found: numbers beyond float32 were warnings of numpy, or maps of NaN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.benchmark import read_case
from jaxmap.catalog import ShearMap, shear_map
from jaxmap.dynamics.halo_cnn_files import read_halo_cnn
from jaxmap.dynamics.members import clusters_from_lists
from jaxmap.estimators import KaiserSquires, KSPlus
from jaxmap.grid import Grid
from jaxmap.samplers import Draws
from jaxmap.sampling.diffusion import integrate_watched, noise_levels

GRID = Grid((16, 16), 1.0)
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


def data(signal: float, noise: float) -> ShearMap:
    shear = signal * np.random.default_rng(0).normal(size=(2, *GRID.shape))
    return shear_map(shear[0] + 1j * shear[1], GRID, noise_std=np.full(GRID.shape, noise))


def test_values_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="the inverse noise variance is beyond"):
        data(1.0, 1e-22)
    with pytest.raises(ValueError, match="the shear is beyond"):
        data(1e39, 1.0)


@pytest.mark.parametrize("estimator", [KaiserSquires(), KSPlus(num_iterations=2)])
def test_direct_inversions_do_not_return_nan(estimator):
    with pytest.raises(FloatingPointError, match="the map is not finite"):
        estimator(KEY, data(5e37, 1e18))
    assert np.isfinite(estimator(KEY, data(1.0, 1.0)).convergence).all()


def test_the_iteration_of_inpainting_is_named_from_which_on_a_map_is_lost():
    """Squares of its waves are beyond float32 before the map is; one pixel has no shear."""
    shear = data(1e19, 1e17)
    gap = replace(shear, weight=shear.weight.at[:, 3, 4].set(0))
    estimator = KSPlus(num_iterations=8, num_corrections=1)
    with pytest.raises(FloatingPointError, match=r"not finite from iteration [1-8] of 16 on: "):
        estimator(KEY, gap)
    assert not np.isfinite(jax.jit(lambda shear: estimator(KEY, shear).convergence)(gap)).any()


def test_inversion_can_still_be_traced():
    found = jax.jit(lambda shear: KaiserSquires()(KEY, shear).convergence)(data(1.0, 1.0))
    assert np.isfinite(found).all()


def test_the_level_is_known_from_which_on_a_field_is_lost():
    levels = noise_levels(4, 1.0, 1e-3)

    def breaking(field: jax.Array, level: jax.Array) -> jax.Array:
        return jnp.where(level < 0.05, jnp.nan, 0.5 * field)

    start = jnp.ones(GRID.shape)
    _, finite = integrate_watched(breaking, start, levels, jnp.zeros(GRID.shape))
    assert finite.tolist() == [True, True, False, False]


def test_the_first_lost_step_is_named():
    finite = jnp.array([[True, True, False, False], [True, True, True, False]])
    draws = Draws(jnp.zeros((2, 4, 4)), {}, {"sweep": finite})
    assert draws.broken_at() == " from sweep 3 of 4 on"
    assert Draws(jnp.zeros((2, 4, 4)), {}).broken_at() == ""


def test_galaxies_faster_than_light_are_refused():
    with pytest.raises(ValueError, match=r"velocity_km_s is 1e\+151 .*check the units"):
        clusters_from_lists([[0.1, 0.2]], [[0.0, 1e151]])


def test_a_case_without_an_array_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "case.npz"
    np.savez(path, convergence=np.eye(4), mask=np.ones((4, 4)), pixel_arcmin=1.0)
    with pytest.raises(ValueError, match=r"lacks .*noise_std.*write it again with all"):
        read_case(path)


def test_clusters_of_a_negative_mass_are_refused(tmp_path):
    """A warning of numpy and NaN before."""
    kind = [("Ngal", "i8"), ("M200c", "f8"), ("gal_vlos", "f8", 2), ("gal_Rproj", "f8", 2)]
    table = np.zeros(2, kind)
    table["Ngal"], table["M200c"] = 2, [1e14, -1e14]
    table["gal_vlos"], table["gal_Rproj"] = [-200.0, 300.0], [0.2, 0.5]
    np.save(tmp_path / "clusters.npy", table)
    with pytest.raises(ValueError, match=r"M200c is -1e\+14 for 1 clusters; .* above 0"):
        read_halo_cnn(tmp_path / "clusters.npy")
    table["M200c"] = 1e14
    np.save(tmp_path / "clusters.npy", table)
    assert len(read_halo_cnn(tmp_path / "clusters.npy").log10_mass) == 2  # the control
