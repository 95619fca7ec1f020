"""Fits of haloes: data in the right frame, the density, NUTS against a known posterior."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import shear_catalog, shear_map
from jaxmap.clusters import (
    FitSettings,
    HaloPrior,
    duffy08,
    dutton14,
    fit_halo,
    halo_data_of_catalog,
    halo_data_of_map,
    halo_reduced_shear,
    nfw_halo,
)
from jaxmap.clusters.fit import draw_halo, halo_model
from jaxmap.cosmology import inverse_critical_density, mean_inverse_critical_density
from jaxmap.grid import Grid
from jaxmap.redshifts import redshift_distribution

SCRIPTS = Path(__file__).parents[1] / "experiments"
CENTRE = (150.0, 60.0)
GRID = Grid((24, 20), 1.0, CENTRE)
Z_LENS = 0.3
PLANE = redshift_distribution(1.0)
HALO = nfw_halo(1e15, 4.0, Z_LENS, 1.6, -0.7)


def mock_map(seed=0, std=0.05):
    """Shear of `HALO` on the grid, with noise; a few pixels masked."""
    step_y, step_x = np.arange(24) - 11.5, np.arange(20) - 9.5
    density = inverse_critical_density(Z_LENS, 1.0)
    g = halo_reduced_shear(HALO, step_x[None, :], step_y[:, None], density, 1.0, 0.4)
    noise = std * np.random.default_rng(seed).normal(size=(2, *GRID.shape))
    errors = np.full(GRID.shape, std)
    errors[3:6, 3:6] = 0
    return shear_map(np.asarray(g) + noise[0] + 1j * noise[1], GRID, noise_std=errors)


def mock_catalog(num=3000, redshifts=True):
    """Galaxies of several redshifts about `HALO`, noise-free, at a declination of 60 degrees."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-10, 10, (2, num))
    ra, dec = Grid((1, 1), 1.0, CENTRE).wcs().all_pix2world(x, y, 0)
    z = rng.choice([0.2, 0.8, 1.5], num)
    g = np.asarray(halo_reduced_shear(HALO, x, y, inverse_critical_density(Z_LENS, z), 1.0, 0.1))
    weight = rng.uniform(0.5, 2, num)
    shapes = g * np.conj(GRID.frame_rotation(ra))  # as seen against the galaxy's own north
    return shear_catalog(ra, dec, shapes, weight, z if redshifts else None)


def residual(data, halo=HALO):
    rest = data.shear - halo_reduced_shear(
        halo, data.x, data.y, data.inverse_critical, data.spread, data.softening_arcmin
    )
    return float(jnp.sum(data.weight[0] * jnp.abs(rest) ** 2) / 2)


def test_maps_and_catalogues_lie_in_the_frame_of_the_halo():
    """Shapes are those of the halo at each point; with x mirrored, or e2 flipped, they are not."""
    data = halo_data_of_map(mock_map(std=1e-3), Z_LENS, PLANE)
    assert data.x.shape == (24 * 20 - 9,)
    assert 0.8 < residual(data) / len(data.x) < 1.2
    mirrored = nfw_halo(1e15, 4.0, Z_LENS, -1.6, -0.7)
    assert residual(data, mirrored) > 100 * len(data.x)
    inner = halo_data_of_map(mock_map(), Z_LENS, PLANE, centre=(1.6, -0.7), inner_arcmin=2.0)
    assert np.all(np.hypot(inner.x, inner.y) >= 2)
    catalog = mock_catalog()
    galaxies = halo_data_of_catalog(catalog, CENTRE, Z_LENS, shape_noise=0.26)
    assert residual(galaxies) < 1e-3 and galaxies.inverse_critical.shape == (3000,)
    assert residual(galaxies, mirrored) > 1
    # The error of the mean of all is that of `bin_shear`.
    w = catalog.weight
    np.testing.assert_allclose(
        1 / jnp.sum(galaxies.weight[0]), 0.26**2 * np.sum(w**2) / w.sum() ** 2, rtol=1e-5
    )
    averaged = halo_data_of_catalog(
        catalog, CENTRE, Z_LENS, PLANE, shape_noise=0.26, inner_arcmin=1, outer_arcmin=5
    )
    np.testing.assert_allclose(
        averaged.inverse_critical, mean_inverse_critical_density(Z_LENS, PLANE)[0]
    )
    assert np.all(np.hypot(averaged.x, averaged.y) <= 5.001)


def test_the_model_is_prior_times_likelihood():
    """Its density differs between two points by what the formula says."""
    from numpyro.infer.util import log_density

    prior = HaloPrior(scatter=0.3, centre_arcmin=0.8, ellipticity=0.2)
    data = halo_data_of_map(mock_map(), Z_LENS, PLANE)

    def by_formula(point):
        mass = 10 ** point["log10_mass"]
        c = float(dutton14(mass, Z_LENS)) * math.exp(0.3 * point["concentration_offset"])
        e = 0.2 * (point["unit_e1"] + 1j * point["unit_e2"])
        x, y = 0.8 * point["unit_x"], 0.8 * point["unit_y"]
        halo = nfw_halo(mass, c, Z_LENS, x, y, ellipticity=e)
        g = halo_reduced_shear(halo, data.x, data.y, data.inverse_critical, 1.0, 0.4)
        rest = np.asarray(data.shear - g)
        normal = sum(v**2 for name, v in point.items() if name != "log10_mass")
        return -0.5 * (np.sum(np.asarray(data.weight[0]) * np.abs(rest) ** 2) + normal)

    names = ("log10_mass", "concentration_offset", "unit_x", "unit_y", "unit_e1", "unit_e2")
    points = [
        dict(zip(names, v, strict=True)) for v in np.random.default_rng(0).normal(size=(2, 6))
    ]
    for point in points:
        point["log10_mass"] = 14.7 + 0.2 * point["log10_mass"]
    density = jax.jit(lambda point: log_density(halo_model, (data, prior), {}, point)[0])
    found = float(density(points[0]) - density(points[1]))
    expected = by_formula(points[0]) - by_formula(points[1])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_haloes_drawn_from_the_prior():
    """Mean and standard deviation of the logarithms, within 4 standard errors."""
    prior = HaloPrior((13.5, 15.0), duffy08, scatter=0.3, centre_arcmin=0.5)
    keys = jax.random.split(jax.random.key(0), 4000)
    halo = jax.jit(jax.vmap(lambda key: draw_halo(key, jnp.asarray(Z_LENS), prior)))(keys)
    log_mass = np.log10(halo.mass)
    offset = np.log(halo.concentration / duffy08(halo.mass, Z_LENS)) / 0.3
    for values, mean, std in (
        (log_mass, 14.25, 1.5 / math.sqrt(12)),
        (offset, 0, 1),
        (halo.x / 0.5, 0, 1),
        (halo.y / 0.5, 0, 1),
    ):
        error = std / math.sqrt(4000)
        assert abs(np.mean(values) - mean) < 4 * error
        assert abs(np.std(values) - std) < 4 * error
    assert abs(np.corrcoef(offset, log_mass)[0, 1]) < 4 / math.sqrt(4000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(HaloPrior, (1e13, 1e15)), "log10_mass is"),
        (partial(HaloPrior, (15.0, 14.0)), "ascending"),
        (partial(HaloPrior, scatter=0.0), "scatter is 0"),
        (partial(HaloPrior, centre_arcmin=-1.0), "centre_arcmin is -1"),
        (partial(HaloPrior, truncation=-1.0), "truncation is -1"),
        (partial(FitSettings, num_samples=3), "num_samples is 3"),
        (partial(FitSettings, num_chains=0), "num_chains is 0"),
        (partial(FitSettings, target_accept=1.0), "target_accept is 1"),
        (lambda: halo_data_of_map(mock_map(), -0.3, PLANE), "redshift -0.3"),
        (lambda: halo_data_of_map(mock_map(), 1.2, PLANE), "sources end at redshift 1 "),
        (lambda: halo_data_of_map(mock_map(), 0.3, PLANE, inner_arcmin=50), "no observed pixels"),
        (
            lambda: halo_data_of_catalog(mock_catalog(99, redshifts=False), CENTRE, 0.3),
            "has no redshifts",
        ),
        (lambda: halo_data_of_catalog(mock_catalog(99), CENTRE, 3.0), "no galaxy lies behind"),
        (
            lambda: halo_data_of_catalog(mock_catalog(99), CENTRE, 0.3, shape_noise=0.0),
            "shape noise per component",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_first_lost_draw_of_a_fit_is_named(monkeypatch):
    drawn = {name: np.ones((3, 20)) for name in ("mass", "x")}
    drawn["x"][2, 7:] = drawn["x"][1, 9:] = np.nan
    monkeypatch.setattr(
        "jaxmap.clusters.fit.sample_halo", lambda *arguments: (drawn, np.zeros((3, 20)))
    )
    with pytest.raises(FloatingPointError, match=r"of x are .* draw 8 after .* of chain 3 of 3;"):
        fit_halo(jax.random.key(0), halo_data_of_map(mock_map(), Z_LENS, PLANE))


@pytest.mark.slow
def test_nuts_finds_the_posterior():
    """Mean and spread of mass and concentration against the posterior on a grid of both, the centre
    fixed: within 4 Monte Carlo standard errors; not those of data with other noise."""
    prior = HaloPrior(centre_arcmin=0.0)
    where = (1.6, -0.7)
    data = halo_data_of_map(mock_map(), Z_LENS, PLANE, centre=where)
    fit = fit_halo(jax.random.key(3), data, prior, FitSettings(300, 600, 2))
    assert fit.divergences <= 2 and max(fit.rhat.values()) < 1.03
    assert set(fit.samples) == {"mass", "log10_mass", "concentration", "x", "y"}
    names = ("log10_mass", "log_concentration")
    samples = {
        "log10_mass": fit.samples["log10_mass"],
        "log_concentration": np.log(fit.samples["concentration"]),
    }
    exact = posterior_on_grid(data, prior)
    control = posterior_on_grid(
        halo_data_of_map(mock_map(seed=5), Z_LENS, PLANE, centre=where), prior
    )
    effective = min(fit.effective.values())
    assert effective > 150
    off = []
    for name in names:
        (mean, std), (other, _) = exact[name], control[name]
        found = np.ravel(samples[name])
        assert abs(found.mean() - mean) < 4 * std / math.sqrt(effective)
        assert abs(found.std() / std - 1) < 4 / math.sqrt(2 * effective)
        off.append(abs(found.mean() - other) / (std / math.sqrt(effective)))
    assert max(off) > 8
    np.testing.assert_allclose(fit.quantiles("mass")[1], np.median(fit.samples["mass"]))


def posterior_on_grid(data, prior):
    """Mean and standard deviation of log10 mass and ln concentration, by sums."""
    log_mass, offset = np.meshgrid(np.linspace(14, 15.7, 90), np.linspace(-4, 4, 80), indexing="ij")

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0))
    def minus_chi2(m, u):
        c = dutton14(10**m, Z_LENS) * jnp.exp(prior.scatter * u)

        halo = replace(HALO, mass=10**m, concentration=c, x=0.0 * m, y=0.0 * m)
        g = halo_reduced_shear(halo, data.x, data.y, data.inverse_critical, 1.0, 0.4)
        rest = data.shear - g
        chi2 = jnp.sum(data.weight[0] * rest.real**2 + data.weight[1] * rest.imag**2)
        return -0.5 * (chi2 + u**2)

    log_density = np.asarray(minus_chi2(jnp.asarray(log_mass.ravel()), jnp.asarray(offset.ravel())))
    share = np.exp(log_density - log_density.max())
    share /= share.sum()
    ln_c = np.log(np.asarray(dutton14(10 ** log_mass.ravel(), Z_LENS))) + 0.37 * offset.ravel()
    found = {}
    for name, values in (("log10_mass", log_mass.ravel()), ("log_concentration", ln_c)):
        mean = np.sum(share * values)
        found[name] = (mean, math.sqrt(np.sum(share * (values - mean) ** 2)))
    return found


@pytest.mark.release
def test_the_calibration_experiment_runs(tmp_path):
    """Three clusters: chains mix, and every figure is there (`experiments/halo_fits.py`)."""
    command = [sys.executable, str(SCRIPTS / "halo_fits.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads((tmp_path / "halo_fits.json").read_text())
    assert figures["clusters"] == 3 and figures["worst_rhat"] < 1.05
    assert figures["not_mixed"] == 0
    assert set(figures["sbc"]) == {"log10_mass", "concentration", "x", "y"}
    assert sum(figures["sbc"]["log10_mass"]["counts"]) == 3
    assert (tmp_path / "halo_fits.png").stat().st_size > 10_000
