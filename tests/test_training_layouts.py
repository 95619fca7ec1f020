"""Training fields: cuts of maps, windows in them, and mass outside that acts."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field
from jaxmap.training.layouts import GivenFields, Layout, cut_field, symmetry

cut = jax.jit(cut_field, static_argnums=(1, 2, 3))
shear_of = jax.jit(shear_from_convergence, static_argnums=1)


def test_whole_maps_are_periodic():
    layout, kappa = Layout(12, 1), np.random.default_rng(0).normal(size=(12, 12))
    convergence, shear, window = cut(kappa, layout, 0.5)
    assert layout.grid(0.5) == Grid((12, 12), 0.5)
    np.testing.assert_array_equal(convergence, kappa)
    np.testing.assert_array_equal(window, 1)
    np.testing.assert_allclose(shear, shear_of(kappa, Grid((12, 12), 0.5)), atol=1e-14)


@pytest.mark.parametrize("rim", [0, 3])
def test_windows_have_the_shear_of_the_whole_map(rim):
    layout, kappa = (
        Layout(24, 1, window=10, margin=2),
        np.random.default_rng(0).normal(size=(24, 24)),
    )
    convergence, shear, window = map(np.asarray, cut(kappa, layout, 0.5, rim))
    inside, inner = (slice(rim, rim + 10),) * 2, (slice(2, 12),) * 2
    assert layout.grid(0.5).shape == shear.shape == (14, 14)
    np.testing.assert_array_equal(convergence[inner], kappa[inside])
    np.testing.assert_allclose(
        shear[inner], shear_of(kappa, Grid((24, 24), 0.5))[inside], atol=1e-14
    )
    around = np.pad(np.ones((10, 10)), 2)
    for field in (window, convergence != 0, shear != 0):
        np.testing.assert_array_equal(field, around)


def test_mass_outside_a_window_acts():
    kappa = np.zeros((24, 24))
    kappa[18, 19] = 1
    convergence, shear, window = cut(kappa, Layout(24, 1, window=10, margin=2), 0.5)
    assert not np.any(convergence) and np.abs(shear)[window == 1].min() > 0


def test_layouts_that_cannot_be():
    for arguments in ({"side": 4}, {"batch": 0}, {"share": 0.0}, {"window": 17}, {"margin": 2}):
        with pytest.raises(ValueError, match=r"layout has .*; expected"):
            Layout(**({"side": 16, "batch": 2} | arguments))


def test_cuts_are_turned_mirrored_and_of_zero_mean():
    """All 8 symmetries of all 6 cuts of 2 maps occur, and nothing else."""
    maps = np.random.default_rng(0).normal(size=(2, 9, 10))

    @jax.jit
    def draw(keys: jax.Array) -> jax.Array:
        return jax.vmap(partial(GivenFields(jnp.asarray(maps)).draw, side=8))(keys)

    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 1500)))
    possible = []
    for number, row, column in np.ndindex(2, 2, 3):
        square = maps[number, row : row + 8, column : column + 8]
        for turned in (square, square.T):
            possible += [np.rot90(turned - square.mean(), k) for k in range(4)]
    distance = np.abs(drawn[:, None] - np.array(possible)[None]).max(axis=(2, 3))
    assert np.all(distance.min(axis=1) < 1e-12)
    assert len(set(distance.argmin(axis=1))) == len(possible) == 96


def test_symmetries_are_eight():
    field = np.arange(9.0).reshape(3, 3)
    assert len({np.asarray(symmetry(jnp.asarray(n), field)).tobytes() for n in range(8)}) == 8


def test_windows_avoid_the_rim_of_maps_that_are_not_periodic(spectrum):
    """The first rows of a window have the shear of the larger map to 0.4 of its rms if they keep 8
    arcmin from the edge; the control, a window at the corner, is off by more than 0.6."""
    side, rim = 64, 16
    layout = Layout(side, 1, window=side - 2 * rim)
    sky = Grid((4 * side, 4 * side), 0.5)

    @jax.jit
    @jax.vmap
    def squares(key: jax.Array) -> jax.Array:
        whole = gaussian_field(key, spectrum, sky)
        truth = shear_from_convergence(whole, sky)
        mean = jnp.mean(jnp.abs(truth) ** 2)
        rows = [mean]
        for start in (0, rim):
            _, shear, _ = cut_field(whole[:side, :side], layout, 0.5, start)
            inside = slice(start, start + layout.window)
            rows.append(jnp.mean(jnp.abs(shear - truth[inside, inside])[:4] ** 2))
        return jnp.stack(rows)

    there, corner, inner = np.mean(squares(jax.random.split(jax.random.key(1), 8)), axis=0)
    assert np.sqrt(inner / there) < 0.4 < 0.6 < np.sqrt(corner / there)
