"""The published DeepMass: the Wiener filter before training; files, warnings, any field."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap, shear_map
from jaxmap.estimators import DeepMass, Resampled, SurveyDeepMass, Wiener
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.methods import build_estimator
from jaxmap.networks.plain_unet import PlainUNet, initialise_plain
from jaxmap.networks.weights import write_weights
from jaxmap.survey_denoiser import SurveyDenoiser
from jaxmap.survey_network_files import read_survey_denoiser, write_survey_denoiser
from jaxmap.trained_survey import TrainedSurvey

NETWORK = PlainUNet((4, 4))
GRID = Grid((15, 10), 1.0)
KEY = jax.random.key(0)
PRECISELY = partial(solve_conjugate_gradient, tolerance=1e-12)


@pytest.fixture(scope="module")
def model(spectrum) -> SurveyDenoiser:
    shapes = jax.eval_shape(lambda key: initialise_plain(NETWORK, key, 1), KEY)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=0.1, size=leaf.shape)), shapes)
    return SurveyDenoiser(params, spectrum, NETWORK)


@pytest.fixture(scope="module")
def data() -> ShearMap:
    rng = np.random.default_rng(1)
    shear = rng.normal(scale=0.05, size=(2, *GRID.shape))
    std = np.where(rng.random(GRID.shape) < 0.2, 0, 0.05)
    std[4:6] = 0
    return shear_map(shear[0] + 1j * shear[1], GRID, noise_std=std)


def survey_of(data: ShearMap) -> TrainedSurvey:
    return TrainedSurvey(np.asarray(data.weight, np.float32), data.grid.pixel_arcmin, 3)


@pytest.mark.slow
def test_noise_resampling_warns_once_and_keeps_the_margin(model, data, caplog):
    other = replace(survey_of(data), pixel_arcmin=2.0)
    estimator = SurveyDeepMass(model, other)
    with caplog.at_level(logging.WARNING, "jaxmap"):
        found = Resampled(estimator, 3)(KEY, data)
    said = [record.message for record in caplog.records]
    assert sum("are of another" in one for one in said) == 1
    silent = Resampled(SurveyDeepMass(model, margin=3), 3)(KEY, data)
    np.testing.assert_allclose(found.std, silent.std, rtol=1e-9)
    wider = Resampled(SurveyDeepMass(model, margin=9), 3)(KEY, data)
    assert not np.allclose(found.std, wider.std, rtol=1e-6)


def test_untrained_is_the_wiener_filter(model, data, spectrum):
    model = replace(model, iterations=100)
    untrained = replace(model, params=jax.tree.map(jnp.zeros_like, model.params))
    expected = Wiener(spectrum, num_samples=0, margin=3, solver=PRECISELY)(KEY, data)
    found = SurveyDeepMass(untrained, survey_of(data))(KEY, data)
    np.testing.assert_allclose(found.convergence, expected.convergence, atol=1e-9)
    np.testing.assert_allclose(found.b_mode, expected.b_mode, atol=1e-4)
    assert found.grid == GRID and found.std is None and found.samples is None
    learned = SurveyDeepMass(model, survey_of(data))(jax.random.key(7), data)
    assert float(jnp.abs(learned.convergence - found.convergence).max()) > 1e-3
    from_ks = SurveyDeepMass(replace(untrained, first="ks"), margin=3)(KEY, data)
    np.testing.assert_array_equal(from_ks.convergence, 0)


def test_kaiser_squires_as_the_first_map_is_finite_for_any_noise(model):
    std = 10 ** np.random.default_rng(2).uniform(-4, 4, (11, 14))
    std[0] = 0
    noise = np.random.default_rng(3).normal(size=(2, 11, 14)) * std
    data = shear_map(noise[0] + 1j * noise[1], Grid((11, 14), 1.0), noise_std=std)
    result = SurveyDeepMass(replace(model, first="ks"), margin=2)(KEY, data)
    assert np.isfinite(result.convergence).all() and np.any(result.convergence != 0)


def test_files_are_recognised(model, data, tmp_path, spectrum):
    path, model = tmp_path / "survey.npz", replace(model, iterations=30)
    write_survey_denoiser(path, model, survey_of(data), {})
    found, survey, header = read_survey_denoiser(path)
    assert jax.tree.structure(found) == jax.tree.structure(model) and survey.margin == 3
    assert header["kind"] == "deepmass for one survey"
    estimator = build_estimator("deepmass", spectrum, weights=path)
    assert isinstance(estimator, SurveyDeepMass)
    expected = SurveyDeepMass(model, survey)(KEY, data)
    np.testing.assert_allclose(estimator(KEY, data).convergence, expected.convergence, atol=1e-6)
    assert isinstance(build_estimator("deepmass", spectrum), DeepMass)
    with pytest.raises(ValueError, match=r"is not a conditional gan.*it holds a deepmass for one"):
        build_estimator("gan", spectrum, weights=path)
    write_weights(path, {"network": {}}, {"kind": "deepmass for one survey"})
    with pytest.raises(ValueError, match=r'is not a deepmass.*kind = "deepmass-survey"'):
        read_survey_denoiser(path)


def test_other_data_are_noticed(model, data, caplog):
    caplog.set_level(logging.WARNING)
    estimator = SurveyDeepMass(model, survey_of(data))
    estimator(KEY, data)
    assert not caplog.messages
    estimator(KEY, replace(data, weight=1.5 * data.weight))
    assert "trained for one survey" in caplog.text and "noise 0.816 times" in caplog.text


def test_maps_that_overflow_are_refused(model, data):
    with pytest.raises(FloatingPointError, match="the map is not finite"):
        SurveyDeepMass(model, margin=3)(KEY, replace(data, shear=1e200 * data.shear))
