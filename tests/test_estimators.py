"""The estimators on whole fields: noise propagation, posterior draws, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import simulated_data

from jaxmap.catalog import shear_map
from jaxmap.cosmology import convergence_power
from jaxmap.diagnostics import chi2_per_pixel, std_over_error
from jaxmap.estimators import KaiserSquires, Wiener, default_margin, pad_shear
from jaxmap.grid import Grid
from jaxmap.methods import build_estimator
from jaxmap.metrics import accuracy_observed, accuracy_published
from jaxmap.operators import (
    convergence_from_shear,
    gaussian_smooth,
    shear_from_convergence,
    spin2_phase,
    two_map_phase,
)
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import mode_variance
from jaxmap.wiener_solvers import solve_proximal

KEY = jax.random.key(0)


@pytest.fixture(params=[(24, 24), (17, 23)], ids=str)
def field(request, spectrum):
    grid = Grid(request.param, 1.0)
    truth = GaussianPrior(mode_variance(spectrum, grid)).sample(KEY)
    return truth, simulated_data(jax.random.key(1), truth, grid)


@pytest.mark.parametrize("margin", [None, 0])
@pytest.mark.parametrize("method", ["ks", "wiener"])
def test_every_estimator_returns_the_field_it_was_given(field, spectrum, margin, method):
    truth, data = field
    if method == "ks":
        result = KaiserSquires(1.5, margin)(KEY, data)
    else:
        result = Wiener(spectrum, num_samples=3, margin=margin)(KEY, data)
        assert result.samples.shape == (3, *truth.shape)
    assert result.grid == data.grid
    for plane in (result.convergence, result.std, result.b_mode, result.signal_to_noise):
        assert plane.shape == truth.shape
        assert jnp.all(jnp.isfinite(plane))
    np.testing.assert_array_equal(result.mask, data.mask)
    assert jnp.all(result.std > 0)


def test_kaiser_squires_is_smoothed_inversion(field):
    _, data = field
    result = KaiserSquires(1.5, margin=0)(KEY, data)
    raw = convergence_from_shear(data.shear, data.grid)
    np.testing.assert_allclose(
        result.convergence, gaussian_smooth(raw.real, data.grid, 1.5), atol=1e-12
    )
    np.testing.assert_allclose(result.b_mode, gaussian_smooth(raw.imag, data.grid, 1.5), atol=1e-12)


def test_kaiser_squires_noise_is_propagated_exactly(field):
    """The quoted error is the scatter of maps of pure noise: each pixel within 6 standard errors,
    their mean within 4; the control, noise without the smoothing, is far off."""
    _, data = field
    num = 2000
    std = jnp.where(data.weight > 0, 1 / jnp.sqrt(jnp.maximum(data.weight, 1e-9)), 0)

    def noise_map(key):
        noise = jax.lax.complex(*(std * jax.random.normal(key, std.shape)))
        return gaussian_smooth(convergence_from_shear(noise, data.grid).real, data.grid, 1.5)

    maps = jax.vmap(noise_map)(jax.random.split(jax.random.key(5), num))
    ratio = jnp.mean(maps**2, axis=0) / KaiserSquires(1.5, margin=0)(KEY, data).std ** 2
    error = np.sqrt(2 / num)
    assert float(jnp.abs(ratio - 1).max()) < 6 * error
    # Neighbouring pixels are correlated over a beam of 4 pi sigma^2 pixels.
    independent = ratio.size / (4 * np.pi * 1.5**2)
    assert abs(float(ratio.mean()) - 1) < 4 * error / np.sqrt(independent)
    unsmoothed = KaiserSquires(0.0, margin=0)(KEY, data).std ** 2
    assert float(jnp.abs(jnp.mean(maps**2, axis=0) / unsmoothed - 1).min()) > 6 * error


def test_wiener_mean_needs_no_key_and_samples_do(field, spectrum):
    _, data = field
    one, two = (Wiener(spectrum, num_samples=4)(jax.random.key(k), data) for k in (1, 2))
    np.testing.assert_array_equal(one.convergence, two.convergence)
    assert jnp.all(one.samples != two.samples)
    again = Wiener(spectrum, num_samples=4)(jax.random.key(1), data)
    np.testing.assert_array_equal(one.samples, again.samples)


@pytest.mark.parametrize("chunk", [1, 8])
def test_draws_do_not_depend_on_the_chunk(spectrum, chunk):
    grid = Grid((17, 23), 1.0)
    data = simulated_data(jax.random.key(1), jnp.zeros(grid.shape), grid)
    expected = Wiener(spectrum, num_samples=7, chunk=2)(KEY, data)
    result = Wiener(spectrum, num_samples=7, chunk=chunk)(KEY, data)
    # To the tolerance of the solver: batched, the FFTs round otherwise.
    np.testing.assert_allclose(result.samples, expected.samples, atol=1e-5)
    np.testing.assert_allclose(result.std, expected.std, rtol=1e-3)
    thrifty = Wiener(spectrum, num_samples=7, chunk=chunk, keep_samples=False)(KEY, data)
    assert thrifty.samples is None
    np.testing.assert_allclose(thrifty.std, expected.std, rtol=1e-3)


def test_progress_wraps_the_chunks(field, spectrum):
    _, data = field
    seen = []

    def watch(chunks):
        for chunk in chunks:
            seen.append(chunk)
            yield chunk

    Wiener(spectrum, num_samples=5, chunk=2, progress=watch)(KEY, data)
    assert seen == [0, 2, 4]


def test_other_solvers_fit_in(field, spectrum):
    _, data = field
    expected = Wiener(spectrum, num_samples=0)(KEY, data).convergence
    other = Wiener(spectrum, num_samples=0, solver=solve_proximal)(KEY, data).convergence
    assert float(jnp.linalg.norm(other - expected) / jnp.linalg.norm(expected)) < 1e-3


def test_b_mode_map_turns_with_the_shear(field, spectrum):
    """Shear turned by 45 degrees swaps E and B."""
    from dataclasses import replace

    _, data = field
    straight = Wiener(spectrum, num_samples=0)(KEY, data)
    turned = replace(data, shear=1j * data.shear, weight=data.weight[::-1])
    other = Wiener(spectrum, num_samples=0)(KEY, turned)
    np.testing.assert_allclose(other.b_mode, straight.convergence, atol=1e-12)
    np.testing.assert_allclose(other.convergence, -straight.b_mode, atol=1e-12)


@pytest.mark.slow
def test_posterior_is_calibrated_on_simulations(spectrum):
    """Over 60 fields: spread over error 1 within 4 standard errors, chi^2 of samples 1 within 4.

    Controls: a prior with half the power is over-confident; the prior mean does not fit the data.
    """
    from jaxmap.spectra import PowerSpectrum

    grid = Grid((32, 32), 1.0)
    prior = GaussianPrior(mode_variance(spectrum, grid))
    estimator = Wiener(spectrum, num_samples=8, margin=0)
    timid = Wiener(PowerSpectrum(spectrum.ell, spectrum.c_ell / 2), num_samples=8, margin=0)
    ratios, timid_ratios, chi2, observed = [], [], [], 0
    everywhere = jnp.ones(grid.shape, bool)
    for seed in range(60):
        key_truth, key_data, key = jax.random.split(jax.random.key(seed), 3)
        truth = prior.sample(key_truth)
        data = simulated_data(key_data, truth, grid)
        for method, kept in ((estimator, ratios), (timid, timid_ratios)):
            result = method(key, data)
            kept.append(std_over_error(result.samples, truth, everywhere))
            if method is estimator:
                chi2.append(chi2_per_pixel(result.samples[0], data))
        observed += int(jnp.sum(data.weight > 0))
    ratios, timid_ratios = np.asarray(ratios), np.asarray(timid_ratios)
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    assert abs(ratios.mean() - 1) < 4 * error < abs(timid_ratios.mean() - 1)
    chi2_error = np.std(chi2, ddof=1) / np.sqrt(len(chi2))
    assert abs(np.mean(chi2) - 1) < 4 * chi2_error
    assert chi2_per_pixel(jnp.zeros(grid.shape), data) > 1.05


@pytest.mark.parametrize("phase", [spin2_phase, two_map_phase])
def test_b_mode_of_a_periodic_field_is_noise_alone(spectrum, phase):
    """Without masks nothing of an E-only signal goes to the B map, with the phase that made it."""
    grid = Grid((24, 24), 1.0)
    truth = GaussianPrior(mode_variance(spectrum, grid)).sample(KEY)
    shear = shear_from_convergence(truth, grid, phase)
    data = shear_map(shear, grid, noise_std=np.full(grid.shape, 0.03))
    result = Wiener(spectrum, num_samples=0, margin=0, phase=phase)(KEY, data)
    assert float(jnp.std(result.b_mode)) < 1e-5 * float(jnp.std(result.convergence))


def edge_errors(spectrum, margin, num=16):
    """Rms error in the outer 10 % of the field and inside, for fields cut from larger maps."""
    sky, grid = Grid((288, 288), 0.58), Grid((72, 72), 0.58)
    prior = GaussianPrior(mode_variance(spectrum, sky))
    inner = (slice(108, 180), slice(108, 180))
    edge = np.ones(grid.shape, bool)
    edge[4:-4, 4:-4] = False
    errors = []
    for seed in range(num):
        key_truth, key_noise = jax.random.split(jax.random.key(seed))
        truth = prior.sample(key_truth)
        noise = 0.015 * jax.random.normal(key_noise, (2, *grid.shape))
        shear = shear_from_convergence(truth, sky)[inner] + jax.lax.complex(*noise)
        data = shear_map(shear, grid, noise_std=np.full(grid.shape, 0.015))
        result = Wiener(spectrum, num_samples=0, margin=margin)(KEY, data)
        error = np.asarray(result.convergence - truth[inner])
        error = error - error.mean()
        errors.append([np.mean(error[edge] ** 2), np.mean(error[~edge] ** 2)])
    return np.sqrt(np.mean(errors, axis=0))


@pytest.mark.slow
def test_mass_outside_does_not_print_through_the_edges():
    """Cosmic shear in deep data: with the default margin the error at the edge is within 1.2 of
    the interior (and in fact within 1.1); without, the control, it is not."""
    edge, inside = edge_errors(convergence_power(), None)
    assert edge / inside < 1.1
    edge, inside = edge_errors(convergence_power(), 0)
    assert edge / inside > 1.2


def test_short_tables_are_told(field, caplog):
    from jaxmap.spectra import power_spectrum

    ell = np.geomspace(10, 3000, 50)
    Wiener(power_spectrum(ell, 1e-8 / ell), num_samples=0)(KEY, field[1])
    assert "ends at ell = 3000" in caplog.text


@pytest.mark.parametrize("settings", [{"num_samples": -3}, {"chunk": 0}, {"chunk": -1}])
def test_bad_settings_are_refused(spectrum, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        Wiener(spectrum, **settings)


@pytest.mark.parametrize("method", ["ks", "wiener", "glimpse", "dlposterior", "hong"])
def test_what_is_no_shear_map_is_refused(spectrum, method):
    estimator = build_estimator(method, spectrum)
    with pytest.raises(TypeError, match=r"expected a ShearMap, as in estimator\(key, shear\)"):
        estimator(jax.random.key(0), np.zeros((8, 8)))


def test_solvers_are_compiled_once(field, spectrum):
    from jaxmap.estimators import wiener

    Wiener(spectrum, num_samples=2)(KEY, field[1])
    before = wiener._solve._cache_size(), wiener._draw._cache_size()
    Wiener(spectrum, num_samples=3)(jax.random.key(4), field[1])
    assert (wiener._solve._cache_size(), wiener._draw._cache_size()) == before


def test_margin_choice_and_padding(field):
    _, data = field
    padded, margin = pad_shear(data, None)
    assert margin == default_margin(data.grid.shape) >= max(data.grid.shape) / 4
    assert (
        padded.shear.shape == padded.grid.shape == tuple(n + 2 * margin for n in data.shear.shape)
    )
    assert jnp.sum(padded.weight) == pytest.approx(float(jnp.sum(data.weight)))
    assert not padded.mask[0].any()
    with pytest.raises(ValueError, match="margin is -1"):
        pad_shear(data, -1)
    with pytest.raises(ValueError, match="smoothing is -2"):
        KaiserSquires(-2.0)


def test_unconverged_solutions_are_told(field, spectrum, caplog):
    from functools import partial

    from jaxmap.gaussian_posterior import solve_conjugate_gradient

    hasty = partial(solve_conjugate_gradient, max_iterations=1)
    Wiener(spectrum, num_samples=0, solver=hasty)(KEY, field[1])
    assert "stopped at a relative residual" in caplog.text


def test_benchmark_figures(shared):
    """The public case, to the last digit given: Kaiser-Squires and Wiener, metrics A and C."""
    from jaxmap.benchmark import read_case
    from jaxmap.spectra import power_spectrum

    case = read_case(shared / "ktng" / "table1.npz")
    spectrum = power_spectrum(*np.load(shared / "ktng" / "power_spectrum.npy"))
    wiener = Wiener(spectrum, num_samples=0, margin=0, phase=two_map_phase)
    expected = [
        (KaiserSquires(1.0, margin=0), (2.403e-2, 0.572), (2.373e-2, 0.583)),
        (wiener, (2.259e-2, 0.635), (2.231e-2, 0.643)),
    ]
    for estimator, published, observed in expected:
        result = estimator(KEY, case.shear)
        for metric, (rmse, r) in (
            (accuracy_published, published),
            (accuracy_observed, observed),
        ):
            found = metric(result.convergence, case.truth, case.shear.mask)
            assert round(float(found.rmse), 5) == rmse
            assert round(float(found.r), 3) == r
