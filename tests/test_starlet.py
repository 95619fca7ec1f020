"""The starlet: reconstruction, adjoint, known coefficients, and noise through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHAPES

from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight
from jaxmap.operators import convergence_from_shear
from jaxmap.starlet import (
    adjoint_starlet,
    from_starlet,
    most_scales,
    starlet,
    starlet_noise,
)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 9), (3, 2)])
def test_exact_reconstruction(shape, dtype):
    field = jax.random.normal(jax.random.key(0), shape, dtype)
    coefficients = jax.jit(starlet, static_argnums=1)(field, 4)
    assert coefficients.shape == (5, *shape) and coefficients.dtype == dtype
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(from_starlet(coefficients), field, atol=4 * tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint(shape):
    field = jax.random.normal(jax.random.key(0), shape)
    other = jax.random.normal(jax.random.key(1), (4, *shape))
    inside = jnp.vdot(other, starlet(field, 3))
    assert float(inside) == pytest.approx(float(jnp.vdot(adjoint_starlet(other), field)), abs=1e-10)
    # The inverse is another map.
    assert abs(float(inside) - float(jnp.vdot(from_starlet(other), field))) > 1e-3


def test_known_coefficients_of_a_delta():
    """The first smoothing is the spline (1, 4, 6, 4, 1) / 16 squared, the second has holes."""
    delta = jnp.zeros((32, 48)).at[16, 20].set(1)
    bands = np.asarray(starlet(delta, 2))
    spline = np.array([1, 4, 6, 4, 1]) / 16
    smooth = np.zeros((32, 48))
    smooth[14:19, 18:23] = np.outer(spline, spline)
    np.testing.assert_allclose(bands[0], np.asarray(delta) - smooth, atol=1e-15)
    holes = np.zeros(9)
    holes[::2] = spline
    wide = np.convolve(spline, holes)
    smoother = np.zeros((32, 48))
    smoother[10:23, 14:27] = np.outer(wide, wide)
    np.testing.assert_allclose(bands[2], smoother, atol=1e-15)
    np.testing.assert_allclose(bands[1], smooth - smoother, atol=1e-15)


@pytest.mark.parametrize("shape", [(16, 16), pytest.param((17, 14), marks=pytest.mark.release)])
def test_noise_of_coefficients_is_that_of_realisations(shape):
    """Mean over pixels of the variance ratio within 5 standard errors, behind a ragged mask; the
    same with half the weight in one component is noticed."""
    grid, num = Grid(shape, 1.0), 2000
    key_mask, key_weight, key_noise = jax.random.split(jax.random.key(2), 3)
    weight = 50 * jax.random.uniform(key_weight, (2, *shape)) + 1
    weight = jnp.where(jax.random.uniform(key_mask, shape) > 0.4, weight, 0)
    std = jnp.where(weight > 0, 1 / jnp.sqrt(jnp.where(weight > 0, weight, 1)), 0)

    def draw(key: jax.Array) -> jax.Array:
        noise = jax.lax.complex(*(std * jax.random.normal(key, std.shape)))
        return starlet(convergence_from_shear(apply_weight(weight, noise), grid).real, 3)

    draws = jax.jit(jax.vmap(draw))(jax.random.split(key_noise, num))

    def excess(assumed: jax.Array) -> np.ndarray:
        ratio = np.mean(draws**2, axis=0) / np.asarray(starlet_noise(assumed, grid, 3)) ** 2
        return np.abs(ratio - 1).max(axis=(1, 2)) / np.sqrt(2 / num)

    assert np.all(excess(weight) < 5)
    assert np.all(excess(weight.at[0].multiply(0.5)) > 5)


def test_most_scales():
    assert most_scales((360, 360), 20.0, 0.29) == 5
    assert most_scales((360, 360)) == 7 and most_scales((2, 900)) == 1
