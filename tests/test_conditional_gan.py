"""The GAN's estimator: samples by key and number alone, any field and noise, a word of warning."""

from __future__ import annotations

import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.estimators import ConditionalGAN, default_margin
from jaxmap.generator import Generator, conditions_of, generate, initialise_generator
from jaxmap.grid import Grid
from jaxmap.methods import build_estimator
from jaxmap.networks.plain_unet import PlainUNet
from jaxmap.survey_network_files import read_generator, write_generator
from jaxmap.trained_survey import TrainedSurvey, warn_of_survey

NETWORK = PlainUNet((4,))
GRID = Grid((13, 10), 1.0)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def generator(spectrum) -> Generator:
    """Of some parameters, none of them zero."""
    shapes = jax.eval_shape(lambda key: initialise_generator(NETWORK, key, 2), KEY)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=0.2, size=leaf.shape)), shapes)
    return Generator(params, spectrum, jnp.asarray(0.03), NETWORK)


def noisy(std: np.ndarray) -> ShearMap:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2, *std.shape[-2:])) * (0.03 + np.where(np.isfinite(std), std, 0))
    return shear_map(noise[0] + 1j * noise[1], Grid(std.shape[-2:], 1.0), noise_std=std)


@pytest.fixture(scope="module")
def data() -> ShearMap:
    std = np.where(np.random.default_rng(2).random(GRID.shape) < 0.2, 0, 0.05)
    std[:3] = 0  # rows without any galaxies
    return noisy(std)


@pytest.mark.slow
def test_samples_depend_on_key_and_number_alone(generator, data):
    result = ConditionalGAN(generator, num_samples=5, chunk=1)(KEY, data)
    assert result.samples.shape == (5, *GRID.shape) and result.grid == GRID
    samples = np.asarray(result.samples)
    np.testing.assert_allclose(result.convergence, samples.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(result.std, samples.std(axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(result.lower, np.quantile(samples, 0.16, axis=0), atol=1e-12)
    np.testing.assert_allclose(result.upper, np.quantile(samples, 0.84, axis=0), atol=1e-12)
    assert float(result.std.min()) > 0 and np.isfinite(result.b_mode).all()
    assert result.diagnostics["network_evaluations_per_sample"] == 1
    fewer = ConditionalGAN(generator, num_samples=3, chunk=2)(KEY, data)
    np.testing.assert_allclose(fewer.samples, samples[:3], atol=1e-12)
    other = ConditionalGAN(generator, num_samples=3, chunk=2)(jax.random.key(1), data)
    assert np.abs(other.samples - fewer.samples).max() > 1e-4
    np.testing.assert_array_equal(result.mask, data.mask)


@pytest.mark.parametrize("shape", [(16, 16), (9, 14)])
def test_any_noise_and_shape_gives_finite_samples(generator, shape, dtype):
    rng = np.random.default_rng(3)
    alone = np.zeros(shape)
    alone[0, 0] = 0.1
    draw = jax.jit(generate)
    exact = {np.float32: np.complex64, np.float64: complex}[dtype]
    for std in (np.full(shape, 0.1), 10 ** rng.uniform(-5, 5, (2, *shape)), alone):
        data = noisy(std)
        data = replace(data, shear=data.shear.astype(exact), weight=data.weight.astype(dtype))
        for masked in (data, replace(data, weight=0 * data.weight)):
            sample = draw(generator, KEY, masked)
            assert sample.shape == shape and np.isfinite(sample).all() and np.any(sample != 0)


def test_what_the_network_is_told_is_of_order_one():
    """Shear of unit variance for any noise, 0 where masked; how much signal there is, 0 to 1."""
    rng = np.random.default_rng(4)
    shape, scale = (64, 64), 0.03
    std = 10 ** rng.uniform(-4, 2, shape)
    std[:8] = 0
    noise = rng.normal(size=(2, *shape)) * np.hypot(std, scale)
    data = shear_map(noise[0] + 1j * noise[1], Grid(shape, 1.0), noise_std=std)
    told = np.asarray(conditions_of(data, jnp.asarray(scale)))
    assert told.shape == (*shape, 6)
    assert np.all(told[:8, :, [0, 1, 4, 5]] == 0)
    # 4 standard errors of a variance of 2 x 56 x 64 unit Gaussians.
    assert abs(np.mean(told[8:, :, :2] ** 2) - 1) < 4 * np.sqrt(2 / (2 * 56 * 64))
    assert 0.5 < np.mean(told[..., 2:4] ** 2) < 2
    np.testing.assert_allclose(told[8:, :, 4], 1 / (1 + (std[8:] / scale) ** 2), rtol=1e-9)


def survey_of(data: ShearMap, margin: int = 2) -> TrainedSurvey:
    return TrainedSurvey(np.asarray(data.weight, np.float32), data.grid.pixel_arcmin, margin)


@pytest.mark.slow
def test_margin_is_that_of_the_training(generator, data):
    def draw(**settings):
        return ConditionalGAN(generator, num_samples=2, chunk=2, **settings)(KEY, data).samples

    trained, default = draw(survey=survey_of(data)), draw()
    np.testing.assert_array_equal(trained, draw(margin=2))
    np.testing.assert_array_equal(default, draw(margin=default_margin(GRID.shape)))
    assert np.abs(trained - default).max() > 1e-4


def test_other_surveys_are_noticed(generator, data, caplog):
    caplog.set_level(logging.WARNING)

    def said(other: ShearMap) -> str:
        caplog.clear()
        warn_of_survey(survey_of(data), other)
        return "\n".join(caplog.messages)

    assert said(data) == ""
    ConditionalGAN(generator, survey_of(data), 2, chunk=2)(
        KEY, replace(data, weight=data.weight / 4)
    )
    assert "trained for one survey" in caplog.text
    assert "noise 2 times as large in the median" in said(replace(data, weight=data.weight / 4))
    masked = replace(data, weight=data.weight.at[:, 5:8].set(0))
    assert "of the pixels masked in one only" in said(masked)
    assert "pixels of 1.5 arcmin for 1" in said(replace(data, grid=Grid(GRID.shape, 1.5)))
    assert "a field of 16 x 16 pixels for 10 x 13" in said(noisy(np.full((16, 16), 0.05)))


def test_files(generator, data, tmp_path, spectrum):
    survey = survey_of(data)
    write_generator(tmp_path / "gan.npz", generator, survey, {"steps": 3})
    read, known, header = read_generator(tmp_path / "gan.npz")
    assert (read.network, read.latent, known.margin) == (NETWORK, 2, 2)
    assert header["training"] == {"steps": 3} and known.pixel_arcmin == 1.0
    np.testing.assert_array_equal(known.weight, survey.weight)
    estimator = build_estimator("gan", spectrum, num_samples=2, weights=tmp_path / "gan.npz")
    assert isinstance(estimator, ConditionalGAN)
    found = replace(estimator, chunk=2)(KEY, data).samples
    expected = ConditionalGAN(generator, survey, 2, chunk=2)(KEY, data).samples
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"no GAN is shipped; train one .*gan_cosmos\.toml"):
        build_estimator("gan", spectrum)
    for method in ("deepmass", "dlposterior"):
        with pytest.raises(ValueError, match=r"is not a denoiser.*it holds a conditional gan"):
            build_estimator(method, spectrum, weights=tmp_path / "gan.npz")


def test_what_cannot_be_is_refused(generator, data):
    with pytest.raises(ValueError, match="num_samples is 1; expected 2 or more"):
        ConditionalGAN(generator, num_samples=1)
    with pytest.raises(ValueError, match="chunk is 0"):
        ConditionalGAN(generator, chunk=0)
    huge = replace(data, shear=1e200 * data.shear)
    with pytest.raises(FloatingPointError, match="not finite"):
        ConditionalGAN(generator, num_samples=2, margin=2, chunk=2)(KEY, huge)
