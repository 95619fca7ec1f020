"""The power of the lensing in data over that of the prior: right for skies of the prior and others,
whatever the noise; told where it is not 1."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import shear_map
from jaxmap.grid import Grid
from jaxmap.null_tests import power_test
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field
from jaxmap.summary import describe_null_tests

GRID, FINER = Grid((40, 44), 1.0), 4
NOISE, SKIES, MAPS = 0.04, 40, 12
STD = np.full(GRID.shape, NOISE)
STD[8:20, 10:18] = 0


def observed(spectrum, number, sky=1.0, noise=1.0):
    """A field cut from a larger sky, the mean over pixels as of galaxies all over them, behind a
    hole, with ``noise`` times what its weights tell."""
    data = shear_map(np.zeros(GRID.shape, complex), GRID, noise_std=STD)
    rows, columns = (n + 24 for n in GRID.shape)
    fine = Grid((FINER * rows, FINER * columns), GRID.pixel_arcmin / FINER)
    key_sky, key_noise = jax.random.split(jax.random.fold_in(jax.random.key(1), number))
    shear = shear_from_convergence(sky * gaussian_field(key_sky, spectrum, fine), fine)
    shear = shear.reshape(rows, FINER, columns, FINER).mean(axis=(1, 3))[12:-12, 12:-12]
    white = noise * NOISE * jax.random.normal(key_noise, (2, *GRID.shape))
    return replace(data, shear=jnp.where(data.mask, shear + jax.lax.complex(*white), 0))


def ratios(spectrum, conjugate=False, **sky):
    found = []
    for number in range(MAPS):
        data = observed(spectrum, number, **sky)
        if conjugate:
            data = replace(data, shear=data.shear.conj())
        found.append(power_test(jax.random.key(number), data, spectrum, SKIES, 12))
    errors = np.mean([one.error for one in found])
    return np.array([one.ratio for one in found]), errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expected", "sky"),
    [
        (1.0, {}),
        (0.25, {"sky": 0.5}),
        pytest.param(1.0, {"noise": 1.3}, marks=pytest.mark.release),
        (0.0, {"conjugate": True}),
    ],
    ids=["prior", "half the shear", "more noise", "flipped"],
)
def test_the_power_is_found(spectrum, expected, sky):
    """Mean of twelve skies within 3.5 standard errors; each scatters as its error says, within
    3.5 standard errors of that, where the sky is that of the prior, and no more than that, or as
    the power of the noise, where it is not. Control: a sky of the prior is not taken for one of
    half the shear."""
    found, error = ratios(spectrum, **sky)
    scatter = found.std(ddof=1)
    assert abs(found.mean() - expected) < 3.5 * scatter / np.sqrt(MAPS)
    assert scatter < (1 + 3.5 / np.sqrt(2 * (MAPS - 1))) * error * sky.get("noise", 1) ** 2
    if expected == 1 and "noise" not in sky:
        assert abs(scatter / error - 1) < 3.5 / np.sqrt(2 * (MAPS - 1))
        assert abs(found.mean() - 0.25) > 3.5 * scatter / np.sqrt(MAPS)


def test_the_same_key_gives_the_same(spectrum):
    data = observed(spectrum, 0)
    once, again = (power_test(jax.random.key(0), data, spectrum, 19) for _ in range(2))
    assert once == again and once.num == 19 and np.isfinite(once).all()


@pytest.mark.parametrize(
    ("ratio", "error", "said"),
    [
        (0.8, 0.1, "0.80 +- 0.10 of that of the prior."),
        (0.3, 0.1, "expect more structure than there is"),
        (1.6, 0.1, "expect less structure than there is"),
        (0.3, 0.7, "these data cannot tell it"),
        (-0.3, -3.0, "these data cannot tell it"),
    ],
)
def test_words(ratio, error, said):
    figures = {
        "b_modes": {"p_value": 0.5, "ratio": 1.0, "excess": 0.0, "num": 19},
        "jackknife": {"total": 1.0, "without": [1.0]},
        "power": {"ratio": ratio, "error": error, "num": 19},
    }
    assert said in describe_null_tests(figures)
