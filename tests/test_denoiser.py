"""The heteroscedastic denoiser: Wiener before training, for any mask, and an error beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser, denoise, denoise_shear
from jaxmap.gaussian_posterior import solve_conjugate_gradient, solve_information
from jaxmap.grid import ARCMIN, Grid
from jaxmap.networks.unet import ResidualUNet, evaluate, initialise
from jaxmap.operators import shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance
from jaxmap.training.denoising import Example, batch_loss, information_from_shear

NETWORK = ResidualUNet((8, 16))
GRIDS = [Grid((16, 16), 1.0), Grid((13, 22), 1.0)]

apply_shear = jax.jit(denoise_shear)
variance_of = jax.jit(mode_variance, static_argnums=1)
"""Whole functions at a time: op by op, compiling takes longer than the tests."""


@pytest.fixture(scope="module")
def silent(spectrum) -> Denoiser:
    """A network that says nothing, and a solver that goes on to the precision."""
    shapes = jax.eval_shape(
        lambda key: initialise(NETWORK, key, NUM_FEATURES, NUM_CONDITIONS), jax.random.key(0)
    )
    params = jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape)), shapes)
    return Denoiser(params, spectrum, NETWORK, iterations=200)


@pytest.fixture(scope="module")
def stirred(silent) -> Denoiser:
    """A network as if trained: no parameter is zero."""
    rng = np.random.default_rng(1)

    def draw(like: jax.Array) -> jax.Array:
        return jnp.asarray(
            rng.normal(scale=0.5 / np.sqrt(np.prod(like.shape[:-1])), size=like.shape)
        )

    return replace(silent, params=jax.tree.map(draw, silent.params))


def data_on(grid: Grid, mask: str = "all") -> ShearMap:
    """Random shear, precise to differing degrees; all, half or nothing of the field observed."""
    rng = np.random.default_rng(2)
    shear = rng.normal(scale=0.05, size=(2, *grid.shape))
    weight = (0.02 * rng.uniform(1, 2, size=(2, *grid.shape))) ** -2
    columns = {"all": grid.shape[1], "half": grid.shape[1] // 2, "nothing": 0}[mask]
    weight[:, :, columns:] = 0
    return ShearMap(jnp.asarray(shear[0] + 1j * shear[1]), jnp.asarray(weight), grid)


@jax.jit
def exact(data: ShearMap, variance: jax.Array) -> jax.Array:
    return solve_conjugate_gradient(data, GaussianPrior(variance), tolerance=1e-13)[0]


def test_fresh_network_says_nothing():
    network = ResidualUNet((4,))
    rng = np.random.default_rng(0)
    images = [jnp.asarray(rng.normal(size=(6, 5, 3))) for _ in range(2)]

    @jax.jit
    def outputs(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return evaluate(network, initialise(network, key, 3, 3), *images)

    for output in outputs(jax.random.key(0)):
        np.testing.assert_array_equal(output, np.zeros((6, 5)))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: str(grid.shape))
def test_silent_network_leaves_the_wiener_filter(silent, stirred, spectrum, grid):
    for mask in ("all", "half", "nothing"):
        data = data_on(grid, mask)
        expected = np.asarray(exact(data, variance_of(spectrum, grid)))
        result = apply_shear(silent, data)
        np.testing.assert_allclose(result.mean, expected, atol=1e-11)
        np.testing.assert_array_equal(result.mean, result.wiener)
        np.testing.assert_array_equal(result.std, result.scale)
        learned = apply_shear(stirred, data)
        np.testing.assert_allclose(learned.wiener, expected, atol=1e-11)
        assert not np.allclose(learned.mean, expected, atol=1e-4)


def test_peaks_beyond_its_reach_move_a_network_little(stirred):
    """A hundred times the map: a correction a few times as large; without the reach, 100 times."""
    sizes = {}
    for reach in (4.0, None):
        denoiser = replace(stirred, reach=reach)
        usual, huge = (
            apply_shear(denoiser, replace(data, shear=factor * data.shear))
            for data in (data_on(GRIDS[0]),)
            for factor in (30.0, 3000.0)
        )
        sizes[reach] = [float(jnp.std(one.mean - one.wiener)) for one in (usual, huge)]
    assert sizes[4.0][1] < 5 * sizes[4.0][0]
    assert sizes[None][1] > 50 * sizes[None][0]


def test_large_scales_are_left_to_the_wiener_filter(stirred):
    """The correction, mode by mode, is that without the filter times 1 - exp(-l^2 sigma^2 / 2)."""
    data = data_on(GRIDS[0])
    found = {
        pixels: apply_shear(replace(stirred, correction_pixels=pixels), data)
        for pixels in (None, 2.5)
    }
    modes = [jnp.fft.fft2(one.mean - one.wiener) for one in (found[None], found[2.5])]
    at = np.abs(data.grid.ell()) * 2.5 * data.grid.pixel_arcmin * ARCMIN
    expected = modes[0] * (1 - np.exp(-(at**2) / 2))
    np.testing.assert_allclose(modes[1], expected, atol=1e-10 * float(jnp.max(jnp.abs(modes[0]))))
    assert float(jnp.max(jnp.abs(modes[1] - modes[0]))) > 0.01 * float(jnp.max(jnp.abs(modes[0])))
    np.testing.assert_array_equal(found[None].std, found[2.5].std)


def test_default_iterations_suffice_for_a_survey(silent, spectrum):
    """Noise as of COSMOS, 0.12 in pixels of 0.29 arcmin, and half of the field masked."""
    data = data_on(GRIDS[0], "half")
    data = replace(data, weight=data.weight * (0.03 / (0.12 * 0.29)) ** 2)
    variance = variance_of(spectrum, data.grid)
    iterations = Denoiser(None, spectrum).iterations

    @jax.jit
    def default(data: ShearMap) -> jax.Array:
        return solve_conjugate_gradient(
            data, GaussianPrior(variance), tolerance=0.0, max_iterations=iterations
        )[0]

    undone = np.asarray(default(data) - exact(data, variance)) / apply_shear(silent, data).scale
    assert np.std(undone) < 0.01 and np.abs(undone).max() < 0.05


def test_constant_noise_is_the_priors_denoiser(silent, spectrum):
    level, grid = 0.03, GRIDS[1]
    noisy = np.random.default_rng(4).normal(scale=0.05, size=grid.shape)
    shear = jax.jit(shear_from_convergence, static_argnums=1)(noisy, grid)
    weight = jnp.asarray(np.full((2, *grid.shape), 1 / level**2))
    result = apply_shear(silent, ShearMap(shear, weight, grid))
    variance = np.array(variance_of(spectrum, grid))
    variance[0, 0] = 0  # the mean is unknown to shear
    filtered = np.fft.ifft2(variance / (variance + level**2) * np.fft.fft2(noisy)).real
    np.testing.assert_allclose(result.mean, filtered, atol=1e-11)


def test_data_count_only_through_their_information(stirred, spectrum):
    """A pure B mode, whitened by the noise, is invisible; any other change is not."""
    data = data_on(GRIDS[0])
    weight = jnp.broadcast_to(data.weight[:1], data.weight.shape)
    data = replace(data, weight=weight)
    # The Nyquist modes of an even grid have no shear of their own kind.
    modes = np.fft.fft2(np.random.default_rng(6).normal(scale=0.05, size=data.grid.shape))
    modes[8], modes[:, 8] = 0, 0
    field = np.fft.ifft2(modes).real
    shear = np.asarray(jax.jit(shear_from_convergence, static_argnums=1)(field, data.grid))
    before = apply_shear(stirred, data).mean
    hidden = replace(data, shear=data.shear + 1j * shear * 1e3 / weight[0])
    np.testing.assert_allclose(apply_shear(stirred, hidden).mean, before, atol=1e-11)
    seen = replace(data, shear=data.shear + shear * 1e3 / weight[0])
    assert float(jnp.abs(apply_shear(stirred, seen).mean - before).max()) > 1e-3


def test_batches_in_float32(stirred):
    """Each of a batch as if alone; in float32 as in float64, but for rounding."""
    data = data_on(GRIDS[1], "half")
    both = [data, replace(data, shear=-data.shear[::-1])]
    halves = {np.dtype("f8"): np.float32, np.dtype("c16"): np.complex64}

    def single(tree):
        return jax.tree.map(lambda leaf: leaf.astype(halves[leaf.dtype]), tree)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(single, both))
    batch = jax.jit(jax.vmap(denoise_shear, in_axes=(None, 0)))(single(stirred), stacked)
    expected = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *map(partial(apply_shear, stirred), both)
    )
    for many, one in zip(batch, expected, strict=True):
        assert many.dtype == np.float32
        np.testing.assert_allclose(many, one, atol=1e-4 * float(jnp.std(one)))


def test_nothing_depends_on_where_the_map_begins(stirred):
    """Periodic throughout: a shift by the network's blocks shifts the result."""
    data = data_on(GRIDS[0], "half")
    by, axes = (NETWORK.multiple, 2 * NETWORK.multiple), (-2, -1)
    moved = jax.tree.map(lambda leaf: jnp.roll(leaf, by, axes), data)
    expected = jax.tree.map(lambda leaf: jnp.roll(leaf, by, axes), apply_shear(stirred, data))
    for one, other in zip(apply_shear(stirred, moved), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


@pytest.mark.slow
def test_std_is_positive_and_gradients_finite(stirred):
    """For a field that is observed, half observed, and not at all."""
    data = [data_on(GRIDS[0], mask) for mask in ("all", "half", "nothing")]
    for each in data:
        result = apply_shear(stirred, each)
        assert float(result.std.min()) > 0 and bool(jnp.isfinite(result.std).all())
    shape = (len(data), *GRIDS[0].shape)
    weight = jnp.stack([each.weight for each in data])
    rng = np.random.default_rng(7)
    examples = Example(
        convergence=jnp.asarray(rng.normal(scale=0.02, size=shape)),
        window=jnp.ones(shape),
        information=rng.normal(size=shape) * jnp.sqrt(weight[:, 0]),
        precision=weight,
        kind=jnp.zeros(len(data), int),
        level=jnp.ones(len(data)),
    )
    of_loss = jax.jit(jax.grad(batch_loss, has_aux=True), static_argnums=3)
    gradient, terms = of_loss(stirred.params, stirred, examples, GRIDS[0])
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((gradient, terms)))
    assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))


def test_scale_is_the_error_of_the_wiener_filter(silent, spectrum):
    """Even noise, Gaussian fields: mean square error over scale^2 is 1 within 4 standard errors.

    The controls claim noise that is 10 % larger, or smaller, than it is.
    """
    grid = Grid((24, 24), 1.0)
    prior = GaussianPrior(variance_of(spectrum, grid))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    def ratio(key: jax.Array, noise: jax.Array, claimed: jax.Array) -> jax.Array:
        key_field, key_noise = jax.random.split(key)
        truth = prior.sample(key_field)
        actual = jnp.full((2, *grid.shape), 1 / noise**2)
        shear = shear_from_convergence(truth, grid)
        information = information_from_shear(key_noise, shear, actual, grid)
        # The filter itself always knows the noise.
        wiener, _ = solve_information(
            information, actual, grid, prior, tolerance=1e-6, max_iterations=20
        )
        weight = jnp.full((2, *grid.shape), 1 / claimed**2)
        scale = denoise(silent, information, weight, grid).scale
        return jnp.mean((truth - wiener) ** 2) / jnp.mean(scale**2)

    keys = jax.random.split(jax.random.key(9), 300)

    def deviation(noise: float, claimed: float) -> float:
        values = np.asarray(ratio(keys, noise, claimed))
        return float((values.mean() - 1) / (values.std(ddof=1) / np.sqrt(len(values))))

    for noise in (0.005, 0.05):
        assert abs(deviation(noise, noise)) < 4
        assert deviation(noise, 1.1 * noise) < -4
        assert deviation(noise, 0.9 * noise) > 4


@pytest.mark.slow
def test_mixed_precision_is_near(stirred):
    """bfloat16 has three digits; layers average their rounding, and gradients keep direction."""
    grid = GRIDS[0]
    data = data_on(grid, "half")
    mixed = replace(stirred, network=replace(NETWORK, half=True))
    truth = 0.02 * jnp.asarray(np.random.default_rng(3).normal(size=grid.shape))

    @jax.jit
    def of(denoiser):
        def loss(params):
            found = denoise_shear(replace(denoiser, params=params), data)
            return jnp.mean((found.mean - truth) ** 2), found

        (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(denoiser.params)
        return found, jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)])

    (full, slope), (half, half_slope) = of(stirred), of(mixed)
    added = full.mean - full.wiener
    gap = jnp.sqrt(jnp.mean((half.mean - full.mean) ** 2) / jnp.mean(added**2))
    assert 1e-6 < gap < 0.02
    assert half.mean.dtype == full.mean.dtype
    cosine = slope @ half_slope / (jnp.linalg.norm(slope) * jnp.linalg.norm(half_slope))
    assert cosine > 0.99
