"""The published network: its size, its cost, and what it does with images."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmap.networks.optimiser import Schedule, start, update
from jaxmap.networks.score_unet import ScoreUNet, initialise_score, residual_score
from jaxmap.networks.spectral import limit_kernels, spectral_norm

SMALL = ScoreUNet(channels=(4, 4), blocks=1)
norm_of = jax.jit(spectral_norm, static_argnames="doublings")
applied = jax.jit(lambda params, *arguments: residual_score(SMALL, params, *arguments))


def kernels(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {path: leaf for path, leaf in leaves if path[-1].key == "kernel"}


def as_matrix(kernel):
    return np.asarray(kernel).reshape(-1, kernel.shape[-1])


@jax.jit
def perturbed(params, size=0.3):
    """Parameters as training might leave them: nothing is zero."""
    flat, unflatten = ravel_pytree(params)
    return unflatten(flat + size * jax.random.normal(jax.random.key(5), flat.shape, flat.dtype))


@cache
def fresh():
    """Made once for all tests, for most of the time goes into compiling it."""
    return initialise_score(SMALL, jax.random.key(0))


@pytest.fixture(scope="module")
def small():
    return perturbed(fresh())


def images(shape, dtype=float):
    return [0.1 * jax.random.normal(jax.random.key(n), shape, dtype) for n in (1, 2)]


def test_size_and_cost_are_those_of_the_published_network():
    """2 982 177 parameters, 56 GFLOP a map of 360 x 360 pixels (method.md, Sect. 3), and up to 3 %
    more for the rim that every convolution wraps around."""
    network = ScoreUNet()
    params = jax.eval_shape(lambda key: initialise_score(network, key), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2_982_177
    assert sum(leaf.size for leaf in kernels(params).values()) == 2_975_136
    image = jax.ShapeDtypeStruct((360, 360), np.float32)
    full = jax.jit(lambda params, x, g: residual_score(network, params, x, g, 0.1))
    cost = full.lower(params, image, image).cost_analysis()
    assert 56e9 < cost["flops"] < 1.03 * 56e9


@pytest.mark.slow
def test_fresh_network_adds_nothing():
    assert not np.any(applied(fresh(), *images((8, 8)), 0.1))


def test_output_keeps_the_precision_of_its_input(dtype, small):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), small)
    found = applied(params, *images((8, 8), dtype), 0.1)
    assert found.dtype == dtype
    expected = applied(small, *images((8, 8), dtype), 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_shift_by_blocks_shifts_the_output(small):
    """Periodic: no pixel is at an edge. By half a block it does not: pooling has a phase."""
    x, increment = images((8, 8))
    plain = applied(small, x, increment, 0.1)

    def difference(rows):
        shifted = [jnp.roll(image, (rows, 4), (0, 1)) for image in (x, increment)]
        moved = applied(small, *shifted, 0.1)
        return float(jnp.max(jnp.abs(moved - jnp.roll(plain, (rows, 4), (0, 1)))))

    scale = float(jnp.max(jnp.abs(plain)))
    assert difference(SMALL.multiple) < 1e-10 * scale
    assert difference(1) > 1e-3 * scale


def test_any_size(small):
    found = applied(small, *images((5, 7)), 0.1)
    assert found.shape == (5, 7) and np.all(np.isfinite(found))


def test_sigma_reaches_the_output(small):
    """Its sign is told to the network, its size divides the output."""
    x, increment = images((8, 8))
    at = {s: applied(small, x, increment, s) for s in (0.1, -0.1, 1e-3)}
    assert not np.allclose(at[0.1], at[-0.1])
    assert np.abs(at[1e-3]).mean() > 10 * np.abs(at[0.1]).mean()


@pytest.mark.parametrize("shape", [(27, 32), (1152, 128), (64, 1)])
def test_spectral_norm(shape, dtype):
    matrix = jax.random.normal(jax.random.key(3), shape, dtype)
    exact = np.linalg.norm(np.asarray(matrix, float), 2)
    found = float(norm_of(matrix))
    assert (1 - 1e-5) * exact <= found <= 1.01 * exact
    # A few iterations are not enough, and then it is an upper bound still.
    assert float(norm_of(matrix, doublings=0)) >= 0.999 * exact


def test_spectral_norm_of_equal_singular_values():
    """The slowest case of any power iteration; the bound of the docstring holds."""
    matrix = jnp.eye(160, 128)
    assert 1 <= float(norm_of(matrix)) <= 128 ** (1 / 512) + 1e-9 < 1.01


def test_limited_kernels(small):
    limited = jax.jit(limit_kernels)(small)
    assert max(np.linalg.norm(as_matrix(leaf), 2) for leaf in kernels(small).values()) > 1.5
    for leaf in kernels(limited).values():
        assert np.linalg.norm(as_matrix(leaf), 2) <= 1.01
    before, after = (jax.tree_util.tree_leaves_with_path(tree) for tree in (small, limited))
    others = [
        (a, b) for (path, a), (_, b) in zip(before, after, strict=True) if path[-1].key != "kernel"
    ]
    assert others and all(np.array_equal(a, b) for a, b in others)


def test_limit_leaves_small_kernels_alone():
    params = {"kernel": 0.1 * jnp.eye(3), "bias": 9 * jnp.ones(3)}
    np.testing.assert_array_equal(limit_kernels(params)["kernel"], params["kernel"])
    zero = {"kernel": jnp.zeros((3, 3))}
    np.testing.assert_array_equal(limit_kernels(zero)["kernel"], zero["kernel"])


def test_every_step_and_every_average_obeys_the_limit():
    """Averages of matrices within the limit are within it; without the projection they leave it."""
    params = {"kernel": 0.9 * jnp.eye(4), "bias": jnp.zeros(4)}
    gradient = {"kernel": -jnp.ones((4, 4)), "bias": -jnp.ones(4)}
    schedule = Schedule(50, learning_rate=0.05, warmup_steps=0, decay_steps=0, averaging=10)

    def norms(project):
        step = jax.jit(lambda state: update(state, gradient, schedule, project))
        state = start(params, schedule)
        for _ in range(50):
            state = step(state)
        return [np.linalg.norm(tree["kernel"], 2) for tree in (state.params, state.average)]

    assert max(norms(limit_kernels)) <= 1.001
    assert min(norms(lambda params: params)) > 2


def test_staircase():
    """A tenth of the rate from every drop on; by default no drop."""
    stairs = Schedule(40, learning_rate=1e-4, warmup_steps=0, decay_steps=0, drops=(10, 20, 30))
    rates = [float(stairs.at(jnp.asarray(step))) for step in (0, 9, 10, 19, 20, 29, 30, 39)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6, 1e-7, 1e-7], rtol=1e-6)
    flat = Schedule(40, learning_rate=1e-4, warmup_steps=0, decay_steps=0)
    np.testing.assert_allclose(float(flat.at(jnp.asarray(39))), 1e-4, rtol=1e-6)
