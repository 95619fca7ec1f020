"""Shear operators: unitarity, adjoints, signs, reduced shear, gridding."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHAPES
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmap.grid import Grid
from jaxmap.operators import (
    convergence_from_reduced_shear,
    convergence_from_shear,
    gaussian_smooth,
    reduced_shear,
    shear_from_convergence,
    spin2_phase,
    sum_in_pixels,
    two_map_phase,
)


def random_complex(key, shape):
    field = jax.lax.complex(*jax.random.normal(jax.random.key(key), (2, *shape)))
    return field - field.mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_shear_operator_is_unitary_but_for_the_mean(shape):
    grid, field = Grid(shape, 1.0), random_complex(0, shape)
    shear = shear_from_convergence(field, grid)
    assert float(jnp.linalg.norm(shear) / jnp.linalg.norm(field)) == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(convergence_from_shear(shear, grid), field, atol=1e-12)
    np.testing.assert_allclose(shear_from_convergence(field + 3.0, grid), shear, atol=1e-12)


@pytest.mark.parametrize("phase", [spin2_phase, two_map_phase])
@pytest.mark.parametrize("shape", SHAPES)
def test_inversion_is_the_adjoint(shape, phase):
    grid, kappa, shear = Grid(shape, 1.0), random_complex(1, shape), random_complex(2, shape)
    left = jnp.vdot(shear, shear_from_convergence(kappa, grid, phase))
    right = jnp.vdot(convergence_from_shear(shear, grid, phase), kappa)
    assert abs(left - right) < 1e-12 * jnp.linalg.norm(shear) * jnp.linalg.norm(kappa)


@settings(max_examples=8, deadline=None)
@given(ny=st.integers(1, 40), nx=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_real_map_has_no_b_mode_on_any_grid(ny, nx, seed):
    grid = Grid((ny, nx), 0.7)
    kappa = jax.random.normal(jax.random.key(seed), (ny, nx))
    there_and_back = jax.jit(
        lambda k: convergence_from_shear(shear_from_convergence(k, grid), grid)
    )
    back = there_and_back(kappa)
    assert jnp.abs(back.imag).max() < 1e-12
    np.testing.assert_allclose(back.real, kappa - kappa.mean(), atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (2, 7)])
def test_two_map_phase_makes_two_real_maps(shape):
    grid, kappa = Grid(shape, 1.0), np.random.default_rng(3).normal(size=shape)
    modes, phase = np.fft.fft2(kappa), np.asarray(spin2_phase(grid))
    components = [np.fft.ifft2(part * modes).real for part in (phase.real, phase.imag)]
    shear = jax.jit(lambda k: shear_from_convergence(k, grid, two_map_phase))(kappa)
    np.testing.assert_allclose(shear, components[0] + 1j * components[1], atol=1e-12)
    # The control: the unitary operator makes other shear.
    unitary = np.asarray(jax.jit(lambda k: shear_from_convergence(k, grid))(kappa))
    assert np.abs(shear - unitary).max() > 1e-3


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (17, 17), (1, 13)])
def test_two_map_phase_differs_on_nyquist_rows_alone(shape, dtype):
    """To the last bit; on odd grids nowhere. There it keeps the real part and is not unitary."""
    grid, (ny, nx) = Grid(shape, 1.0), shape
    unitary, phase = (
        np.asarray(jax.jit(partial(made, grid, dtype))()) for made in (spin2_phase, two_map_phase)
    )
    assert phase.dtype == unitary.dtype
    nyquist = np.zeros(shape, bool)
    nyquist[ny // 2] |= ny % 2 == 0
    nyquist[:, nx // 2] |= nx % 2 == 0
    np.testing.assert_array_equal(phase[~nyquist], unitary[~nyquist])
    np.testing.assert_array_equal(phase[nyquist].real, unitary[nyquist].real)
    assert (np.abs(phase).min(initial=1, where=nyquist) < 0.2) == nyquist.any()


def test_shear_is_tangential_around_a_mass():
    """A positive peak stretches images around it: g1 < 0 to its west, > 0 to its north."""
    grid = Grid((65, 65), 1.0)
    y, x = jnp.mgrid[:65, :65] - 32
    kappa = 0.1 * jnp.exp(-(x**2 + y**2) / 18.0)
    shear = shear_from_convergence(kappa, grid)
    west, north, north_west = shear[32, 40], shear[40, 32], shear[38, 38]
    assert west.real < -1e-3 and abs(west.imag) < 1e-6
    assert north.real > 1e-3 and abs(north.imag) < 1e-6
    # North-west of the mass the tangent runs north-east to south-west: g2 < 0.
    assert north_west.imag < -1e-3 and abs(north_west.real) < 1e-6


def test_precision_of_the_input_is_kept(dtype):
    grid = Grid((9, 10), 1.0)
    kappa = jnp.asarray(np.random.default_rng(0).normal(size=grid.shape), dtype)
    shear = shear_from_convergence(kappa, grid)
    assert shear.real.dtype == dtype
    assert convergence_from_shear(shear, grid).real.dtype == dtype
    assert gaussian_smooth(kappa, grid, 1.0).dtype == dtype
    back = convergence_from_shear(shear, grid).real
    np.testing.assert_allclose(back, kappa - kappa.mean(), atol=20 * np.finfo(dtype).eps)


def test_operators_batch_and_differentiate():
    grid = Grid((8, 9), 1.0)
    batch = jnp.stack([random_complex(k, grid.shape).real for k in range(3)])
    one_by_one = jnp.stack([shear_from_convergence(kappa, grid) for kappa in batch])
    mapped = jax.jit(jax.vmap(lambda kappa: shear_from_convergence(kappa, grid)))(batch)
    np.testing.assert_allclose(mapped, one_by_one, atol=1e-13)

    def energy(kappa):
        return jnp.sum(jnp.abs(shear_from_convergence(kappa, grid)) ** 2) / 2

    # A is unitary but for the mean, so the gradient is the map without its mean.
    kappa = batch[0] + 1.0
    np.testing.assert_allclose(jax.grad(energy)(kappa), kappa - kappa.mean(), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing_keeps_the_sum_and_has_the_right_width(shape):
    grid = Grid(shape, 0.5)
    point = jnp.zeros(shape).at[shape[0] // 2, shape[1] // 2].set(1.0)
    smooth = gaussian_smooth(point, grid, 0.8)
    assert smooth.sum() == pytest.approx(1, abs=1e-12)
    if min(shape) >= 15:
        rows = jnp.arange(shape[0]) - shape[0] // 2
        variance = jnp.sum(smooth.sum(axis=1) * rows**2) * 0.5**2
        assert variance == pytest.approx(0.8**2, rel=1e-3)
    np.testing.assert_allclose(gaussian_smooth(point, grid, 0.0), point, atol=1e-12)


@pytest.fixture
def strong_lens():
    grid = Grid((40, 33), 1.0)
    y, x = jnp.meshgrid(jnp.arange(40) - 20, jnp.arange(33) - 16, indexing="ij")
    kappa = 0.45 * jnp.exp(-(x**2 + y**2) / 30.0)
    return grid, kappa - kappa.mean()


def test_reduced_shear_inverts(strong_lens, dtype):
    grid, kappa = strong_lens
    kappa = kappa.astype(dtype)
    kappa = kappa - kappa.mean()
    back = convergence_from_reduced_shear(reduced_shear(kappa, grid), grid)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, kappa, atol=100 * np.finfo(dtype).eps)


def test_reduced_shear_iteration_contracts_by_the_largest_shear(strong_lens):
    """Each step shrinks the error by no worse than the largest |g|; the plain inversion is off."""
    grid, kappa = strong_lens
    g = reduced_shear(kappa, grid)
    errors = [
        float(jnp.linalg.norm(convergence_from_reduced_shear(g, grid, 0.0, steps) - kappa))
        for steps in range(1, 8)
    ]
    assert all(b < float(jnp.abs(g).max()) * a for a, b in pairwise(errors))
    assert errors[0] > 0.02 * float(jnp.linalg.norm(kappa))


def test_reduced_shear_inverse_has_implicit_gradients(strong_lens):
    """Inverse after forward is the identity on maps of zero mean, and so is its derivative."""
    grid, kappa = strong_lens
    direction = random_complex(5, grid.shape).real
    direction = 0.01 * (direction - direction.mean())

    def there_and_back(x):
        return convergence_from_reduced_shear(reduced_shear(x, grid), grid)

    _, tangent = jax.jvp(there_and_back, (kappa,), (direction,))
    np.testing.assert_allclose(tangent, direction, atol=1e-9)
    _, pull_back = jax.vjp(there_and_back, kappa)
    cotangent = pull_back(direction)[0]
    np.testing.assert_allclose(cotangent - cotangent.mean(), direction, atol=1e-9)
    batch = jnp.stack([kappa, 0.5 * kappa])
    np.testing.assert_allclose(jax.vmap(there_and_back)(batch), batch, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), ny=st.integers(1, 9), nx=st.integers(1, 9))
def test_gridding_sums_what_falls_inside(seed, ny, nx):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-2, nx + 1, 60), rng.uniform(-2, ny + 1, 60)
    x[0] = np.nan
    values = rng.normal(size=60)
    expected = np.zeros((ny, nx))
    for xi, yi, value in zip(x, y, values, strict=True):
        if -0.5 <= xi < nx - 0.5 and -0.5 <= yi < ny - 0.5:
            expected[int(np.floor(yi + 0.5)), int(np.floor(xi + 0.5))] += value
    found = sum_in_pixels(jnp.asarray(x), jnp.asarray(y), jnp.asarray(values), Grid((ny, nx), 1.0))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_pixels_of_large_maps_are_told_apart_in_float32():
    """4100 x 4100 pixels are more than float32 counts one by one."""
    x = jnp.array([0, 1, 2, 3, 4, -9, jnp.nan, 5000], jnp.float32)
    y, ones = jnp.full_like(x, 4099), jnp.ones(8, jnp.int8)
    found = np.asarray(sum_in_pixels(x, y, ones, Grid((4100, 4100), 1.0)))
    np.testing.assert_array_equal(found[4099, :6], [1, 1, 1, 1, 1, 0])
    assert found.sum() == 5
