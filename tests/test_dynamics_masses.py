"""M-sigma, statistics of residuals, and how they depend on mass and richness."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmap.dynamics.dependence import fit_dependence, scatter_in_quadrature
from jaxmap.dynamics.dispersion import (
    biweight,
    bootstrap_errors,
    clipped,
    dispersions,
    gapper,
    masked_dispersion,
    small_sample_factor,
    standard_deviation,
)
from jaxmap.dynamics.estimate import Flag, MassEstimate
from jaxmap.dynamics.m_sigma import EVRARD2008, fit_m_sigma
from jaxmap.dynamics.members import clusters_from_lists, cut_cylinder
from jaxmap.dynamics.model_files import read_model, write_model
from jaxmap.dynamics.residuals import binned_residuals, count_bias, residual_statistics
from jaxmap.dynamics.robustness import subsampled_deviation

KEY = jax.random.key(0)


def gaussian_clusters(num, size, sigma=700.0, seed=0, **others):
    rng = np.random.default_rng(seed)
    sizes = np.broadcast_to(size, num)
    widths = np.broadcast_to(sigma, num)
    velocities = [rng.normal(0, s, n) for s, n in zip(widths, sizes, strict=True)]
    return clusters_from_lists([np.full(n, 0.5) for n in sizes], velocities, **others)


@pytest.mark.parametrize("dispersion", [standard_deviation, gapper, biweight])
def test_dispersions_of_gaussians(dispersion):
    members = gaussian_clusters(400, 60)
    found = dispersions(members, dispersion)
    error = found.std() / np.sqrt(400)
    bias = 0.005 * 700  # of 60 galaxies: 1 / (4 N) for the standard deviation
    assert abs(found.mean() - 700) < 4 * error + bias
    assert abs(found.mean() - 735) > 4 * error + bias  # the control: 5 % is seen


def test_dispersions_agree_with_numpy(dtype):
    members = gaussian_clusters(6, [0, 1, 2, 9, 30, 400])
    found = dispersions(members)
    assert np.isnan(found[:2]).all()
    jitted = jax.jit(masked_dispersion)
    for i in range(2, 6):
        inside = members.velocity_km_s[members.offsets[i] : members.offsets[i + 1]]
        assert found[i] == pytest.approx(np.std(inside, ddof=1))
        mask = np.arange(403) < len(inside)
        filled = np.append(inside, [1e4] * (403 - len(inside))).astype(dtype)
        assert jitted(filled, mask) == pytest.approx(found[i], rel=1e-5)


def test_clipping_takes_outliers_and_leaves_the_rest():
    members = gaussian_clusters(50, 80)
    spoiled = members.velocity_km_s.copy()
    spoiled[::80] = 5000.0
    with_outliers = clusters_from_lists([np.full(80, 0.5)] * 50, spoiled.reshape(50, 80))
    cut = clipped(with_outliers, 3.0)
    assert 5000.0 not in cut.velocity_km_s
    assert len(cut.velocity_km_s) > 0.97 * 50 * 79
    with pytest.raises(ValueError, match=r"num_sigma is 0\.5"):
        clipped(members, 0.5)


def test_few_galaxies_are_corrected():
    found = dispersions(gaussian_clusters(4000, 5))
    corrected = found / small_sample_factor(np.array([5]))
    error = corrected.std() / np.sqrt(4000)
    assert abs(corrected.mean() - 700) < 4 * error
    assert abs(found.mean() - 700) > 4 * error


def test_bootstrap_errors_are_those_of_gaussians():
    members = gaussian_clusters(100, 50)
    found = bootstrap_errors(KEY, members, 100)
    expected = 700 / np.sqrt(2 * 49)
    error = found.std() / np.sqrt(100)
    assert abs(found.mean() - expected) < 4 * error + 0.03 * expected  # of order 1 / N
    with pytest.raises(ValueError, match="2 or more"):
        bootstrap_errors(KEY, members, 1)


@pytest.fixture(scope="module")
def power_law():
    """Clusters on the relation of Evrard et al., with many galaxies each."""
    masses = np.random.default_rng(1).uniform(14, 15.2, 300)
    hz = np.sqrt(0.307115 * 1.117**3 + 1 - 0.307115)
    sigma = 1082.9 * (hz * 10 ** (masses - 15)) ** 0.3361
    return gaussian_clusters(300, 500, sigma, log10_mass=masses)


def test_fit_recovers_the_relation(power_law):
    fitted = fit_m_sigma(KEY, power_law)
    assert abs(fitted.sigma15_km_s - 1082.9) < 4 * fitted.sigma15_std
    assert abs(fitted.alpha - 0.3361) < 4 * fitted.alpha_std
    assert fitted.intrinsic < 0.5 * fitted.scatter
    without = fit_m_sigma(KEY, power_law, with_hz=False)
    assert abs(without.sigma15_km_s - 1082.9) > 4 * without.sigma15_std  # 1.8 % higher
    again = fit_m_sigma(KEY, power_law)
    assert again.alpha_std == fitted.alpha_std


def test_relations_know_what_they_were_fitted_to(power_law):
    cut = cut_cylinder(power_law, 1.6, 2200)
    masses = cut.log10_mass
    fitted = fit_m_sigma(KEY, cut)
    low = replace(fitted, sigma15_km_s=1.3 * fitted.sigma15_km_s)(KEY, cut)
    below = low.log10_mass < masses.min()
    np.testing.assert_array_equal((low.flag & Flag.OUT_OF_RANGE) > 0, below)
    assert 20 < below.sum() < 280 and np.isfinite(low.log10_mass).all()
    with pytest.raises(ValueError, match="M-sigma was trained on clusters with velocity_cut"):
        fitted(KEY, cut_cylinder(power_law, 1.6, 1500))


def test_masses_and_their_errors(power_law):
    found = EVRARD2008(KEY, power_law)
    residual = found.log10_mass - power_law.log10_mass
    error = residual.std() / np.sqrt(300)
    assert abs(residual.mean()) < 4 * error
    assert (found.flag == 0).all()
    fitted = fit_m_sigma(KEY, power_law)
    pull = (fitted(KEY, power_law).log10_mass - power_law.log10_mass) / fitted(KEY, power_law).std
    assert abs(pull.std() - 1) < 4 / np.sqrt(600)


def test_errors_are_measured_where_the_relation_fails(tmp_path):
    """Small clusters drowned in interlopers: the errors of a fit to large ones tell of it."""
    masses = np.random.default_rng(3).uniform(13.5, 15.2, 800)
    sigma = 1082.9 * 10 ** (0.3361 * (masses - 15))
    drowned = np.where(masses < 14.3, 500 * np.random.default_rng(4).uniform(0.5, 1.5, 800), sigma)
    members = gaussian_clusters(800, 60, drowned, log10_mass=masses)
    fitted = fit_m_sigma(KEY, members)
    path = tmp_path / "relation.npz"
    write_model(path, fitted)
    for relation in (fitted, read_model(path)):
        found = relation(KEY, members)
        pull = (found.log10_mass - masses) / found.std
        assert abs(np.sqrt(np.mean(pull**2)) - 1) < 4 / np.sqrt(2 * 800)
        bare = replace(relation, errors=None)(KEY, members)
        assert np.sqrt(np.mean(((bare.log10_mass - masses) / bare.std) ** 2)) > 1.5


def test_unusable_clusters_are_flagged():
    members = clusters_from_lists(
        [[], [0.1], [0.1] * 9, [0.1] * 20, [0.1] * 3],
        [[], [5.0], np.linspace(-500, 500, 9), [7.0] * 20, [0.1] * 3],
        log10_mass=[14.0] * 5,
    )
    assert dispersions(members)[4] > 0  # of equal velocities, by rounding
    for kind in (standard_deviation, gapper, biweight):
        found = replace(EVRARD2008, dispersion=kind)(KEY, members)
        assert found.flag.tolist() == [Flag.TOO_FEW, Flag.TOO_FEW, 0, *[Flag.NO_SPREAD] * 2]
        assert np.isfinite(found.log10_mass).tolist() == [False, False, True, False, False]
    with pytest.raises(
        ValueError,
        match="small_sample corrects the standard deviation",
    ):
        replace(EVRARD2008, dispersion=gapper, small_sample=True)(KEY, members)
    with pytest.raises(ValueError, match=r"0 clusters of log10 mass 14\.5"):
        fit_m_sigma(KEY, members)


def test_statistics_agree_with_scipy():
    eps = np.random.default_rng(2).gamma(4, 0.05, 5000) - 0.2
    found = residual_statistics(eps)
    assert found.skewness == pytest.approx(stats.skew(eps))
    assert found.kurtosis == pytest.approx(stats.kurtosis(eps))
    assert found.scatter == pytest.approx(eps.std())
    assert found.median + found.high == pytest.approx(np.percentile(eps, 84))
    for bad in ([0.1], [0.1, np.nan, 0.2], [0.1, 0.1]):
        with pytest.raises(ValueError, match="expected"):
            residual_statistics(bad)


def test_count_bias_is_the_published_one():
    """Scatter, skewness and kurtosis of Table 2 give the percentages of the text."""
    published = {  # Ho et al. (2019), Table 2 and section 5.2
        (0.174, 0.419, 0.826): 5.0,
        (0.132, 0.221, 1.600): 1.7,
        (0.316, 0.225, 0.647): 23.0,
        (0.226, 0.646, 1.183): 17.8,
        (0.159, 0.309, 1.459): 3.8,
    }
    for moments, percent in published.items():  # percentages and moments are rounded
        assert 100 * count_bias(*moments) == pytest.approx(percent, rel=0.03, abs=0.05)


def test_binned_residuals():
    masses, eps = np.linspace(14, 15, 101)[:-1], np.tile([-0.1, 0, 0.1, 0.2, 0.3], 20)
    found = binned_residuals(masses, eps, np.array([14, 14.5, 15, 15.5]))
    assert found.num.tolist() == [50, 50, 0]
    np.testing.assert_allclose(found.percentiles[:2, 1], 0.1)
    assert np.isnan(found.percentiles[2]).all()


@pytest.mark.slow
def test_dependence_is_recovered():
    """Within four posterior standard deviations; a wrong slope is not."""
    rng = np.random.default_rng(5)
    masses, richness = rng.uniform(14, 15, 1500), rng.integers(15, 300, 1500)
    width = np.asarray(scatter_in_quadrature(0.11, 0.05, richness))
    eps = rng.normal(0.02 - 0.1 * (masses - 14.17), width)
    eps[:5] = 40.0  # outliers far beyond
    found = fit_dependence(KEY, eps, masses, richness, num_samples=200, num_warmup=200)
    truth = {"mu0": 0.02, "alpha0": 0.9, "sigma0": 0.11, "sigma1": 0.05}
    for name, value in truth.items():
        assert abs(found[name].mean() - value) < 4 * found[name].std(), name
    assert abs(found["alpha0"].mean() - 1) > 4 * found["alpha0"].std()
    assert found["outliers"].mean() < 0.02


def test_dependence_needs_finite_values():
    ones = np.ones(5)
    with pytest.raises(ValueError, match="richness is 0"):
        fit_dependence(KEY, ones, ones, 0 * ones)
    with pytest.raises(ValueError, match="not finite"):
        fit_dependence(KEY, np.nan * ones, ones, ones)


def test_subsampling_a_richness_estimator():
    """An estimator that counts galaxies drifts by the logarithm of the sampling rate."""
    members = gaussian_clusters(20, 100)

    def count(key, members):
        del key
        mass = np.log10(np.maximum(members.richness, 1))
        return MassEstimate(mass, mass, np.where(members.richness > 0, 0, Flag.TOO_FEW))

    drift = subsampled_deviation(KEY, count, members, [0.0, 0.5, 1.0], num_draws=2)
    assert np.isnan(drift[0]).all()
    np.testing.assert_allclose(drift[1], np.log10(0.5), atol=1e-12)
    np.testing.assert_allclose(drift[2], 0, atol=1e-12)
