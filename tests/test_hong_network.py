"""The network of Hong et al.: layers, parameters, wide convolutions, normalisation."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.signal import convolve, correlate

from jaxmap.networks.hong import (
    HongNetwork,
    apply_hong,
    initialise_hong,
    output_side,
    running_statistics,
    train_hong,
)
from jaxmap.networks.wide_convolution import convolve_full, convolve_valid, fast_size

SMALL = HongNetwork(width=4, fft=False)  # compiles faster; FFTs have a test of their own


def num_weights(network):
    shapes = jax.eval_shape(lambda key: initialise_hong(network, key), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["weights"]))


@pytest.mark.parametrize(("width", "count"), [(49, 1_575_425), (29, 552_065), (19, 237_185)])
def test_parameters_and_output_of_the_published_sizes(width, count):
    network = HongNetwork(width)
    assert num_weights(network) == count
    assert num_weights(replace(network, channels=4)) == count + 72
    assert num_weights(replace(network, skip=False, skip4="m3")) == count
    params = jax.eval_shape(lambda key: initialise_hong(network, key), jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, 3, 386, 386), float)
    found = jax.eval_shape(lambda p, x: apply_hong(network, p, x), params, images)
    assert found.shape == (2, 128, 128) and output_side(386) == 128


@pytest.mark.parametrize("way", [convolve_valid, convolve_full])
@pytest.mark.parametrize(
    ("width", "shape"), [(7, (21, 18)), pytest.param(49, (58, 52), marks=pytest.mark.slow)]
)
def test_fft_convolutions_are_right_with_their_gradients(way, width, shape, dtype):
    """Against direct sums in float64. Direct sums in float32 are no truth: in gradients of the
    published size they err by 1.3e-5 (``experiments/benchmarks/hong_network.py``)."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, *shape)).astype(dtype)
    kernel = rng.normal(size=(width, width, 3, 4)).astype(dtype)
    side = 1 - width if way is convolve_valid else width - 1
    cotangent = rng.normal(size=(2, 4, shape[0] + side, shape[1] + side)).astype(dtype)

    def with_gradients(images, kernel, cotangent, fft):
        value, pull_back = jax.vjp(lambda x, w: way(x, w, fft), images, kernel)
        return [value, *pull_back(cotangent)]

    calculate = jax.jit(with_gradients, static_argnames="fft")
    with jax.enable_x64(True):
        wide = (np.asarray(each, np.float64) for each in (images, kernel, cotangent))
        truth = [np.asarray(each) for each in calculate(*wide, fft=False)]
    limit = 1e-5 if dtype == np.float32 else 1e-12
    for found, true in zip(calculate(images, kernel, cotangent, fft=True), truth, strict=True):
        assert found.shape == true.shape and found.dtype == dtype and true.dtype == np.float64
        assert np.abs(found - true).max() < limit * np.abs(true).max()
    mode, of = ("valid", correlate) if way is convolve_valid else ("full", convolve)
    expected = sum(of(images[1, i], kernel[:, :, i, 2], mode, "fft") for i in range(3))
    np.testing.assert_allclose(truth[0][1, 2], expected, atol=limit * np.abs(expected).max())


def test_fast_sizes_hold_the_image():
    assert [fast_size(n) for n in (1, 146, 150, 156, 176)] == [2, 150, 150, 160, 180]


def reference(network, params, image):
    """One image through the network, layer by layer, on scipy."""
    weights, statistics = params["weights"], params["statistics"]

    def conv(x, name, of, mode):
        kernel, bias = weights[name]["kernel"], weights[name]["bias"]
        return np.stack(
            [
                sum(of(x[i], kernel[:, :, i, o], mode, "direct") for i in range(len(x))) + bias[o]
                for o in range(kernel.shape[3])
            ]
        )

    x = np.tanh(conv(image, "first", correlate, "valid"))
    n = x.shape[1] // 3
    pooled = x[:, : 3 * n, : 3 * n].reshape(8, n, 3, n, 3).mean(axis=(2, 4))
    products = [pooled]
    x = pooled
    for block in (1, 2, 3, 4):
        x = np.tanh(conv(x, f"up{block}", convolve, "full"))
        x = np.tanh(conv(x, f"down{block}", correlate, "valid"))
        if network.skip:
            x = x * products[1 if (block, network.skip4) == (4, "m1") else block - 1]
        norm, known = weights[f"norm{block}"], statistics[f"norm{block}"]
        spread = np.sqrt(known["variance"] + 1e-3)
        scale = (norm["scale"] / spread)[:, None, None]
        x = (x - known["mean"][:, None, None]) * scale + norm["offset"][:, None, None]
        products.append(x)
    x = np.tanh(conv(x, "up5", convolve, "full"))
    return conv(x, "down5", correlate, "valid")[0]


def test_layers_are_those_of_table_1():
    """Against scipy; and every wiring gives another map, so that none passes for another."""
    rng = np.random.default_rng(1)
    networks = [SMALL, replace(SMALL, skip4="m3"), replace(SMALL, skip=False)]
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.3 * rng.uniform(size=leaf.shape),
        initialise_hong(SMALL, jax.random.key(2)),
    )
    image = rng.normal(size=(3, 25, 25))
    apply = jax.jit(lambda p, x: [apply_hong(network, p, x[None])[0] for network in networks])
    found = apply(params, image)
    for network, one in zip(networks, found, strict=True):
        np.testing.assert_allclose(one, reference(network, params, image), atol=1e-9)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[i] - found[j]).max() > 1e-3


@pytest.mark.slow
def test_training_normalises_by_the_batch_and_keeps_running_statistics():
    params = initialise_hong(SMALL, jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(3, 3, 26, 26))
    train = jax.jit(lambda p: train_hong(SMALL, p, images))
    apply = jax.jit(lambda p: apply_hong(SMALL, p, images))
    found, statistics = train(params)
    same = apply({**params, "statistics": statistics})
    np.testing.assert_allclose(found, same, rtol=1e-6, atol=1e-9)
    assert np.abs(found - apply(params)).max() > 1e-3
    running = running_statistics(params["statistics"], statistics)["norm2"]
    np.testing.assert_allclose(running["mean"], 0.01 * statistics["norm2"]["mean"])
    np.testing.assert_allclose(running["variance"], 0.99 + 0.01 * statistics["norm2"]["variance"])


@pytest.mark.parametrize(
    "wrong", [{"width": 1}, {"channels": 2}, {"skip4": "m2"}], ids=lambda wrong: next(iter(wrong))
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HongNetwork(**wrong)
