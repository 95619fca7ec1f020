"""Sparse and mixed estimators: optimality, limits, detections, odd input."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import simulated_data

from jaxmap.catalog import shear_map
from jaxmap.estimators import KaiserSquires, KSPlus, MCALens, Sparse, Wiener
from jaxmap.gaussian_posterior import solve_conjugate_gradient
from jaxmap.grid import Grid
from jaxmap.likelihood import ShearLikelihood
from jaxmap.operators import reduced_shear, shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.sparse_solver import solve_components
from jaxmap.spectra import PowerSpectrum, mode_variance
from jaxmap.starlet import adjoint_starlet, starlet, starlet_noise

KEY = jax.random.key(0)
GRID = Grid((32, 28), 1.0)


def halo(amplitude: float = 0.4, width: float = 1.5) -> jax.Array:
    y, x = jnp.mgrid[:32, :28]
    return amplitude * jnp.exp(-((x - 14) ** 2 + (y - 20) ** 2) / (2 * width**2))


@pytest.fixture(scope="module")
def quiet(spectrum):
    """The spectrum of a sky on which a halo stands out."""
    return PowerSpectrum(spectrum.ell, spectrum.c_ell / 100)


@pytest.fixture(scope="module")
def case(quiet):
    """A halo on a Gaussian sky, with a hole and uneven noise."""
    truth = GaussianPrior(mode_variance(quiet, GRID)).sample(jax.random.key(1)) + halo()
    return truth, simulated_data(jax.random.key(2), truth, GRID)


def objective(data, thresholds, prior, gaussian, sparse) -> float:
    fit = -ShearLikelihood(data).log_prob(gaussian + sparse)
    penalty = jnp.sum(thresholds * jnp.abs(starlet(sparse, len(thresholds) - 1)))
    modes = jnp.where(prior.amplitude > 0, jnp.fft.fft2(gaussian, norm="ortho"), 0)
    scaled = modes / jnp.where(prior.amplitude > 0, prior.amplitude, 1)
    return float(fit + penalty + 0.5 * jnp.sum(jnp.abs(scaled) ** 2))


@pytest.mark.parametrize("positive", [False, True])
def test_the_equations_of_the_optimum_hold(case, quiet, positive):
    """Checked from their own definition: the dual map is feasible, complementary to the
    coefficients and balances the forces; and no small step away lowers the objective."""
    _, data = case
    prior = GaussianPrior(mode_variance(quiet, GRID))
    thresholds = 3 * starlet_noise(data.weight, GRID, 3)
    found = solve_components(
        data, thresholds, prior, positive=positive, tolerance=1e-5, max_iterations=20_000
    )
    assert float(found.residual) <= 1e-5
    force = ShearLikelihood(data).score(found.gaussian + found.sparse)
    scale = float(jnp.abs(force).max())
    pull = adjoint_starlet(found.dual)
    assert float(jnp.max(jnp.abs(found.dual) - thresholds)) < 1e-9
    slack = thresholds * jnp.abs(starlet(found.sparse, 3)) - found.dual * starlet(found.sparse, 3)
    assert float(jnp.max(slack)) < 1e-4 * float(jnp.max(thresholds)) * float(found.sparse.max())
    pressed = (found.sparse <= 1e-9) if positive else jnp.zeros(GRID.shape, bool)
    assert float(jnp.max(jnp.where(pressed, force - pull, jnp.abs(force - pull)))) < 1e-3 * scale
    variance = prior.amplitude**2
    mean_of_force = jnp.fft.ifft2(variance * jnp.fft.fft2(force)).real
    np.testing.assert_allclose(found.gaussian, mean_of_force, atol=1e-5)
    best = objective(data, thresholds, prior, found.gaussian, found.sparse)
    for seed in range(4):
        step = 1e-3 * jax.random.normal(jax.random.key(seed), GRID.shape)
        step = step - step.mean()
        moved = jnp.maximum(found.sparse + step, 0) if positive else found.sparse + step
        assert objective(data, thresholds, prior, found.gaussian, moved) > best
        assert objective(data, thresholds, prior, found.gaussian + step, found.sparse) > best


@pytest.mark.parametrize(("with_prior", "steps"), [(True, 4), (False, 1)])
def test_the_residual_is_what_the_equations_lack(case, quiet, with_prior, steps):
    """Long before the optimum: the largest of the relative errors, by their definition.

    Thresholds out of reach, so that every coefficient of the dual map is free and its equation is
    that the sparse map's coefficients vanish."""
    _, data = case
    variance = mode_variance(quiet, GRID)
    thresholds = 1e9 * starlet_noise(data.weight, GRID, 3).at[-1].set(1.0)
    found = solve_components(
        data,
        thresholds,
        GaussianPrior(variance) if with_prior else None,
        tolerance=0.0,
        max_iterations=steps,
    )
    force = ShearLikelihood(data).score(found.gaussian + found.sparse)
    errors = [force - adjoint_starlet(found.dual)]
    if with_prior:
        gaussian = jnp.fft.fft2(found.gaussian) / jnp.where(variance > 0, variance, 1)
        errors.append(force - jnp.fft.ifft2(gaussian).real)
    whole = jnp.linalg.norm(ShearLikelihood(data).score(jnp.zeros(GRID.shape)))
    missing = [float(jnp.linalg.norm(error) / whole) for error in errors]
    total = jnp.linalg.norm(found.gaussian + found.sparse)
    missing.append(float(jnp.linalg.norm(starlet(found.sparse, 3)) / total))
    assert float(found.residual) == pytest.approx(max(missing), rel=1e-6)


def test_without_thresholds_all_is_kaiser_squires(case):
    """Observed everywhere, with even noise; thresholds make another map."""
    truth, _ = case
    shear = shear_from_convergence(truth, GRID)
    data = shear_map(shear, GRID, noise_std=np.full(GRID.shape, 0.05))
    settings = {"positive": False, "margin": 0, "tolerance": 1e-7, "max_iterations": 3000}
    settings |= {"with_b_mode": False}
    exact = KaiserSquires(0.0, margin=0)(KEY, data).convergence
    found = Sparse(0.0, 3, **settings)(KEY, data).convergence
    np.testing.assert_allclose(found - found.mean(), exact, atol=1e-6)
    other = Sparse(3.0, 3, **settings)(KEY, data).convergence
    assert float(jnp.abs(other - other.mean() - exact).max()) > 1e-2


def test_without_detections_mcalens_is_the_wiener_filter(case, quiet):
    _, data = case
    precisely = partial(solve_conjugate_gradient, tolerance=1e-10)
    exact = Wiener(quiet, num_samples=0, margin=0, solver=precisely)(KEY, data)
    found = MCALens(quiet, 100.0, margin=0, tolerance=1e-8, max_iterations=5000)(KEY, data)
    np.testing.assert_allclose(found.convergence, exact.convergence, atol=1e-6)
    np.testing.assert_allclose(found.b_mode, exact.b_mode, atol=1e-5)
    seen = MCALens(quiet, 3.0, margin=0)(KEY, data)
    assert float(jnp.abs(seen.convergence - exact.convergence).max()) > 0.01


@pytest.mark.slow
def test_a_halo_stands_higher_than_in_the_wiener_filter(case, quiet):
    """The peak that a Gaussian prior flattens; and pure noise gives a sparse map of nothing."""
    truth, data = case
    peak = (20, 14)
    wiener = Wiener(quiet, num_samples=0, margin=0)(KEY, data).convergence
    for method in (MCALens(quiet, margin=0), Sparse(margin=0)):
        result = method(KEY, data)
        found = float(result.convergence[peak] - result.convergence.mean())
        assert float(wiener[peak]) < found < 1.3 * float(truth[peak])
        assert result.diagnostics["optimality_residual"] <= 1e-3
    noise = simulated_data(jax.random.key(5), jnp.zeros(GRID.shape), GRID)
    nothing = Sparse(margin=0)(KEY, noise).convergence
    assert float(jnp.std(nothing)) < 0.1 * float(jnp.std(halo()))


def test_ks_plus_keeps_the_data_and_fills_the_gaps(case):
    """Shear of the unsmoothed map is the data where observed, not zero in the gaps."""
    _, data = case
    result = KSPlus(0.0, 20, margin=0)(KEY, data)
    kappa = jax.lax.complex(result.convergence, result.b_mode)
    difference = jnp.where(data.mask, shear_from_convergence(kappa, GRID) - data.shear, 0)
    flat = jnp.abs(jnp.where(data.mask, difference - difference[0, 0], 0))
    assert float(flat.max()) < 1e-10
    filled = jnp.abs(shear_from_convergence(kappa, GRID))[~data.mask]
    assert float(jnp.mean(filled)) > 0.01
    whole = replace(data, weight=jnp.full_like(data.weight, 400.0))
    plain = KaiserSquires(1.0, margin=0)(KEY, whole)
    np.testing.assert_allclose(
        KSPlus(1.0, 5, margin=0)(KEY, whole).convergence, plain.convergence, atol=1e-12
    )


@pytest.mark.parametrize("method", [KSPlus(0.0, 30), Sparse(1.0, with_b_mode=False)])
def test_reduced_shear_is_undone(method):
    """Of a halo with kappa = 0.4: nearer to the truth than with the data taken for shear."""
    truth = halo(0.4, 3.0)
    data = shear_map(reduced_shear(truth, GRID), GRID, noise_std=np.full(GRID.shape, 0.01))
    method = replace(method, margin=0)
    error = {}
    for times in (0, 3):
        found = replace(method, num_corrections=times)(KEY, data).convergence
        difference = found - truth
        error[times] = float(jnp.abs(difference - difference.mean())[20, 14])
    assert error[3] < 0.7 * error[0]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 16), pytest.param((17, 13), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["ksplus", "glimpse", "mcalens"])
def test_odd_fields(spectrum, shape, name):
    """Odd sizes, masked rows, noise uneven by 1e4, one component unseen: all finite."""
    grid = Grid(shape, 2.0)
    rng = np.random.default_rng(0)
    std = 10 ** rng.uniform(-2, 2, (2, *shape))
    std[:, 2:4] = 0
    std[1, :, 3] = 0
    data = shear_map(rng.normal(size=shape) * 0.1 + 0.05j, grid, noise_std=std)
    method = {"ksplus": KSPlus(1.0, 10), "glimpse": Sparse(), "mcalens": MCALens(spectrum)}[name]
    result = method(KEY, data)
    assert result.convergence.shape == shape and result.grid == grid
    assert np.all(np.isfinite(result.convergence)) and np.all(np.isfinite(result.b_mode))
    np.testing.assert_array_equal(result.mask, data.mask)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sparse(-1.0),
        lambda: Sparse(num_scales=0),
        lambda: Sparse(num_reweightings=-1),
        lambda: KSPlus(-1.0),
        lambda: KSPlus(num_iterations=0),
    ],
)
def test_bad_settings(make):
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize("name", ["glimpse", "mcalens"])
def test_a_solution_that_is_not_finite_stops_at_its_step(case, quiet, name):
    """Not one problem after the other, each from the NaN of the last; and the remedy is named."""
    data = replace(case[1], shear=case[1].shear.at[0, 0].set(jnp.nan))
    method = {"glimpse": Sparse(with_b_mode=False), "mcalens": MCALens(quiet)}[name]
    problems = {"glimpse": 4, "mcalens": 2}[name]
    message = rf"not finite from step 1 of problem 1 of {problems} on.*use float64 \(--x64\)"
    with pytest.raises(FloatingPointError, match=message):
        replace(method, margin=0)(KEY, data)
