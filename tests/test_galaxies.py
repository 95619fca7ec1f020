"""Shear of single galaxies: operators, noise, and the sparse estimator on them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.binning import bin_shear
from jaxmap.catalog import shear_catalog
from jaxmap.estimators import Sparse
from jaxmap.galaxies import (
    GalaxyShear,
    galaxy_shear,
    neighbour_weights,
    padded_galaxies,
    read_off,
    weighted_residual,
)
from jaxmap.grid import Grid
from jaxmap.operators import convergence_from_shear, shear_from_convergence
from jaxmap.starlet import starlet, starlet_noise

GRID = Grid((17, 14), 1.0)


@pytest.fixture(scope="module")
def galaxies():
    """Shapes of pure noise, denser on the left; the noise differs per component."""
    rng = np.random.default_rng(3)
    x, y = 13.9 * rng.random(900) ** 1.5 - 0.45, 16.9 * rng.random(900) - 0.45
    weight = rng.uniform(0.5, 2, (2, 900)) / 0.3**2
    shapes = (rng.normal(size=(2, 900)) / np.sqrt(weight)).T @ np.array([1, 1j])
    return GalaxyShear(*(jnp.asarray(a) for a in (x, y, shapes, weight)), GRID)


def test_bilinear_by_hand(galaxies):
    one = replace(
        galaxies,
        x=jnp.array([2.25]),
        y=jnp.array([16.5]),
        shear=jnp.zeros(1),
        galaxy_weight=jnp.ones((2, 1)),
    )
    field = jnp.arange(17.0 * 14).reshape(17, 14)
    by_hand = 0.5 * (0.75 * field[16, 2] + 0.25 * field[16, 3] + 0.75 * field[0, 2])
    by_hand += 0.5 * 0.25 * field[0, 3]
    np.testing.assert_allclose(read_off(one, field), [by_hand], rtol=1e-6)


def test_spreading_is_the_adjoint_of_reading(galaxies):
    key = jax.random.split(jax.random.key(0), 2)
    field = jax.lax.complex(*jax.random.normal(key[0], (2, 17, 14)))
    silent = replace(galaxies, shear=jnp.zeros_like(galaxies.shear))
    other = jax.lax.complex(*jax.random.normal(key[1], (2, 17, 14)))

    def product(one, two):
        return jnp.sum(one.real * two.real + one.imag * two.imag)

    first = product(other, weighted_residual(silent, field))
    second = product(field, weighted_residual(silent, other))
    np.testing.assert_allclose(first, second, rtol=1e-9)


def test_the_weight_matrix_and_its_bound(galaxies):
    """Its elements, from the fit of unit maps; and no map is magnified more than ``weight``."""
    silent = replace(galaxies, shear=jnp.zeros_like(galaxies.shear))
    units = jnp.eye(17 * 14).reshape(-1, 17, 14)
    matrix = -jax.vmap(lambda unit: weighted_residual(silent, unit + 0j).real)(units)
    matrix = np.asarray(matrix).reshape(17 * 14, 17 * 14)
    elements = neighbour_weights(galaxies)
    rows, columns = np.divmod(np.arange(17 * 14), 14)
    rebuilt = np.zeros_like(matrix)
    for (down, right), values in elements.items():
        to = (rows + down) % 17 * 14 + (columns + right) % 14
        rebuilt[np.arange(17 * 14), to] = np.asarray(values[0]).ravel()
        rebuilt[to, np.arange(17 * 14)] = np.asarray(values[0]).ravel()
    np.testing.assert_allclose(rebuilt, matrix, atol=1e-9)
    assert np.linalg.eigvalsh(matrix)[-1] <= float(galaxies.weight[0].max()) * (1 + 1e-9)


def test_noise_of_coefficients_is_that_of_realisations(galaxies):
    """600 realisations, in 5 standard errors; that of independent pixels (the control) is not."""
    elements = neighbour_weights(galaxies)
    diagonal = elements.pop((0, 0))
    predicted = starlet_noise(diagonal, GRID, 2, elements)

    def coefficients(key):
        white = jax.random.normal(key, galaxies.galaxy_weight.shape)
        noise = jax.lax.complex(*(white / jnp.sqrt(galaxies.galaxy_weight)))
        pull = weighted_residual(replace(galaxies, shear=noise), jnp.zeros(GRID.shape, complex))
        return starlet(convergence_from_shear(pull, GRID).real, 2)

    drawn = jax.lax.map(coefficients, jax.random.split(jax.random.key(1), 600))
    ratio = jnp.mean(drawn**2, axis=0) / predicted**2
    control = jnp.mean(drawn**2, axis=0) / starlet_noise(diagonal, GRID, 2) ** 2
    error = np.sqrt(2 / 600)
    assert float(jnp.max(jnp.abs(ratio - 1))) < 5 * error
    assert float(jnp.max(jnp.abs(control - 1))) > 10 * error


@pytest.fixture(scope="module")
def catalog():
    """Galaxies behind a halo, on the sky; every one shears as a bilinear map tells it to."""
    rng = np.random.default_rng(1)
    ra, dec = 150 + 0.25 * (rng.random(4000) - 0.5), 2 + 0.25 * (rng.random(4000) - 0.5)
    grid = Grid((14, 14), 1.0, centre_deg=(150.0, 2.0))
    y, x = jnp.mgrid[:14, :14]
    halo = 0.5 * jnp.exp(-((x - 6.0) ** 2 + (y - 8.0) ** 2) / 4)
    empty = shear_catalog(ra, dec, np.zeros(4000, complex))
    places = galaxy_shear(empty, grid, 0.01)
    inside = np.isfinite(np.asarray(places.x))
    assert inside.all() and 0 < len(places.x) <= 4000
    everywhere = replace(
        places,
        x=jnp.asarray(grid.pixel_position(ra, dec)[0]),
        y=jnp.asarray(grid.pixel_position(ra, dec)[1]),
    )
    shear = np.asarray(read_off(everywhere, shear_from_convergence(halo, grid)))
    shapes = shear * np.conj(grid.frame_rotation(ra))
    shapes = shapes + 0.01 * (rng.normal(size=4000) + 1j * rng.normal(size=4000))
    return shear_catalog(ra, dec, shapes, rng.uniform(0.5, 1.5, 4000)), grid, halo


def test_weights_are_those_of_binned_shear(catalog):
    galaxies = galaxy_shear(*catalog[:2], 0.3)
    binned = bin_shear(*catalog[:2], 0.3)
    total = jnp.sum(binned.weight[0])
    np.testing.assert_allclose(jnp.sum(galaxies.galaxy_weight[0]), total, rtol=0.05)
    np.testing.assert_array_equal(galaxies.counts, binned.counts)
    np.testing.assert_array_equal(padded_galaxies(galaxies, 3).counts[3:-3, 3:-3], binned.counts)


@pytest.mark.slow
def test_unbinned_sees_the_halo_better(catalog):
    """With hardly any noise the means over pixels blur the halo; the galaxies' own do not."""
    shapes, grid, halo = catalog
    sparse = Sparse(3.0, num_reweightings=0, with_b_mode=False, margin=0)
    halo = halo - halo.mean()
    errors = [
        float(jnp.sqrt(jnp.mean((found - found.mean() - halo) ** 2)))
        for found in (
            sparse(jax.random.key(0), data).convergence
            for data in (galaxy_shear(shapes, grid, 0.01), bin_shear(shapes, grid, 0.01))
        )
    ]
    assert errors[0] < 0.5 * errors[1]


def test_bad_input(catalog):
    shapes, grid, _ = catalog
    with pytest.raises(ValueError, match="shape noise per component is"):
        galaxy_shear(shapes, grid, 0.0)
    with pytest.raises(ValueError, match="none of the 4000 galaxies"):
        galaxy_shear(shapes, replace(grid, centre_deg=(10.0, 2.0)), 0.3)
