"""The halo-model light cone: against theory in standard errors, and its keys."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.cosmology import comoving_distance, convergence_power
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18
from jaxmap.operators import gaussian_smooth
from jaxmap.redshifts import cosmos_redshifts, redshift_distribution
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.halo_tables import halo_table
from jaxmap.simulation.lightcone import LightCone, halo_light_cone, light_cone_with_haloes
from jaxmap.spectra import PowerSpectrum, map_power

GRID = Grid((144, 160), 0.4)
EDGES = np.array([300, 1000, 2500, 6000, 12000, 27000.0])


@pytest.fixture(scope="module")
def cone() -> LightCone:
    """Dark matter without a pixel window: its power is the theory's, nothing else."""
    return build_light_cone(GRID, baryons=None, pixel_window=False)


@partial(jax.jit, static_argnums=2)
def simulate(key, cone: LightCone, grid: Grid):
    """A map, its band powers, and what the tests ask of its haloes."""
    field, info = light_cone_with_haloes(key, cone, grid)
    haloes = info.haloes
    per_mass = jnp.histogram(
        jnp.log10(haloes.mass), MASS_EDGES, weights=jnp.where(haloes.present, 1.0, 0.0)
    )[0]
    return field, map_power(field, grid, EDGES)[1], per_mass, info.num_haloes, info.num_lost


MASS_EDGES = np.array([12.0, 12.5, 13.0, 13.5, 14.0, 15.8])


@pytest.fixture(scope="module")
def maps(cone):
    keys = [jax.random.key(k) for k in range(80)]
    return [np.stack(a) for a in zip(*(simulate(k, cone, GRID) for k in keys), strict=True)]


def band_powers(spectrum: PowerSpectrum, grid: Grid) -> np.ndarray:
    """Mean of the spectrum over the modes of each band; ln-ln between rows."""
    ell = np.abs(np.asarray(grid.ell()))
    log = np.interp(
        np.log(np.maximum(ell, 1)), np.log(spectrum.ell), np.log(np.asarray(spectrum.c_ell))
    )
    return np.asarray([np.exp(log[(ell >= a) & (ell < b)]).mean() for a, b in pairwise(EDGES)])


def test_mean_power_is_the_theory(maps) -> None:
    """80 maps, 4 standard errors + 1 %; 10 % more power would not pass."""
    powers, expected = maps[1], band_powers(convergence_power(), GRID)
    ratio, error = powers.mean(0) / expected, powers.std(0) / expected / np.sqrt(len(powers))
    assert np.all(np.abs(ratio - 1) < 4 * error + 0.01)
    assert np.any(np.abs(1.1 * ratio - 1) > 4 * error + 0.01)


def test_maps_have_no_mean_and_lose_no_halo(maps) -> None:
    fields, lost = maps[0], maps[4]
    assert not lost.any()
    assert np.abs(fields.mean(axis=(1, 2))).max() < 1e-10


def test_halo_counts_are_the_mass_function(maps, cone) -> None:
    """Integral of abundance over mass and volume, by another quadrature; 5 standard errors.

    Counts of haloes vary by more than Poisson's law says: they cluster.
    """
    table = halo_table(PLANCK18)
    z = np.linspace(0.004, 5, 800)
    distance = np.asarray(comoving_distance(z, PLANCK18.omega_m))
    inside = (distance > float(cone.edges[0, 0])) & (distance < float(cone.edges[-1, 1]))
    area = GRID.num_pixels * GRID.pixel_sr
    log_mass, abundance = np.log(np.asarray(table.mass)), np.asarray(table.log_abundance)
    for low, high, counts in zip(MASS_EDGES[:-1], MASS_EDGES[1:], maps[2].T, strict=True):
        m = np.linspace(low, high, 60) * np.log(10)
        rows = np.stack([np.interp(m, log_mass, row) for row in abundance])
        per_z = np.trapezoid(
            np.exp(np.stack([np.interp(z, table.z, column) for column in rows.T], 1)), m, axis=1
        )
        expected = area * np.trapezoid(np.where(inside, per_z * distance**2, 0), distance)
        error = counts.std() / np.sqrt(len(counts))
        assert abs(counts.mean() - expected) < 5 * error + 0.01 * expected
    assert maps[3].var() > maps[3].mean()


def test_variance_of_smoothed_maps_is_that_of_ccl(maps) -> None:
    """Another code's spectrum, summed over the map's modes; 4 standard errors + 1 %.

    20 % more variance would not pass.
    """
    theory = pytest.importorskip("bihalofit", reason="needs pyccl")
    cosmo = theory.reference_cosmology(PLANCK18)
    tracer = theory.source_tracer(cosmo, cosmos_redshifts())
    smoothing = (0.5, 1.0, 2.0)
    expected = theory.variance_on_grid(cosmo, tracer, GRID, smoothing)
    fields = jnp.asarray(maps[0])
    smooth = [jax.vmap(lambda f, s=s: gaussian_smooth(f, GRID, s))(fields) for s in smoothing]
    variance = np.mean(np.square(smooth), axis=(2, 3))
    allowed = 4 * variance.std(axis=1) / np.sqrt(len(fields)) + 0.01 * expected
    assert np.all(np.abs(variance.mean(axis=1) - expected) < allowed)
    assert not np.all(np.abs(variance.mean(axis=1) - 1.2 * expected) < allowed)


def test_halo_counts_are_those_of_ccl(maps, cone) -> None:
    """Tinker (2008) over comoving volume, all by another code: 5 standard errors + 3 %.

    3 % is by how much the two codes' mass functions differ (tests/test_halo_tables.py).
    """
    ccl = pytest.importorskip("pyccl")
    cosmo = pytest.importorskip("bihalofit").reference_cosmology(PLANCK18)
    abundance, h = ccl.halos.MassFuncTinker08(mass_def="200m"), PLANCK18.h
    distance = np.linspace(float(cone.edges[0, 0]), float(cone.edges[-1, 1]), 300) / h
    area = GRID.num_pixels * GRID.pixel_sr
    for low, high, counts in zip(MASS_EDGES[:-1], MASS_EDGES[1:], maps[2].T, strict=True):
        m = np.linspace(low, high, 40)
        per_volume = [
            np.trapezoid(abundance(cosmo, 10**m / h, a), m)
            for a in ccl.scale_factor_of_chi(cosmo, distance)
        ]
        expected = area * np.trapezoid(per_volume * distance**2, distance)
        allowed = 5 * counts.std() / np.sqrt(len(counts)) + 0.03 * expected
        assert abs(counts.mean() - expected) < allowed
        assert abs(counts.mean() - 1.25 * expected) > allowed


def test_haloes_sit_where_matter_is(cone) -> None:
    """Maps are denser at haloes than elsewhere, even without the haloes; half a map away not."""
    bare = replace(cone, halo_weight=0 * cone.halo_weight, expected=0 * cone.expected)

    @jax.jit
    def at_haloes(key):
        field, info = light_cone_with_haloes(key, bare, GRID)
        x, y, present = info.haloes.x, info.haloes.y, info.haloes.present
        row, column = jnp.round(y).astype(int) % GRID.shape[0], jnp.round(x).astype(int)

        def mean(shift):
            place = field[row, (column + shift) % GRID.shape[1]]
            return jnp.sum(jnp.where(present, place, 0)) / jnp.sum(present) / jnp.std(field)

        return mean(0), mean(GRID.shape[1] // 2)

    here, away = np.asarray([at_haloes(jax.random.key(k)) for k in range(20)]).T
    assert here.mean() > 5 * here.std() / np.sqrt(20)
    assert abs(away.mean()) < 4 * away.std() / np.sqrt(20) < 0.3 * here.mean()


@pytest.mark.release
def test_same_key_same_map_in_any_batch(cone) -> None:
    keys = jax.random.split(jax.random.key(9), 3)
    one = jax.jit(halo_light_cone, static_argnums=2)
    alone = jnp.stack([one(key, cone, GRID) for key in keys])
    chunked = jax.jit(lambda keys: jax.lax.map(lambda key: halo_light_cone(key, cone, GRID), keys))
    batched = jax.jit(jax.vmap(lambda key: halo_light_cone(key, cone, GRID)))
    scale = float(alone.std())
    assert float(jnp.abs(chunked(keys) - alone).max()) < 1e-9 * scale
    assert float(jnp.abs(batched(keys) - alone).max()) < 1e-9 * scale
    assert float(jnp.abs(batched(keys[:2]) - alone[:2]).max()) < 1e-9 * scale
    assert float(jnp.abs(alone[0] - alone[1]).max()) > scale


@pytest.mark.release
def test_lost_haloes_are_reported(cone) -> None:
    key = jax.random.key(0)
    slots, total = cone.capacity
    for capacity in ((slots, 500), (40, total)):
        small = replace(cone, capacity=capacity)
        _, _, _, num_haloes, num_lost = simulate(key, small, GRID)
        assert int(num_lost) > 0
        assert int(num_haloes) == int(simulate(key, cone, GRID)[3])
        assert bool(
            jnp.all(jnp.isnan(jax.jit(halo_light_cone, static_argnums=2)(key, small, GRID)))
        )


def test_float32(cone, maps) -> None:
    """A cone cast to single precision makes finite maps with the same statistics."""
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), cone)
    fields = jnp.stack([simulate(jax.random.key(k), single, GRID)[0] for k in range(4)])
    assert fields.dtype == jnp.float32
    assert float(fields.std()) == pytest.approx(maps[0].std(), rel=0.15)


@pytest.mark.release
def test_lognormal_part_has_the_skewness_of_its_formula(cone) -> None:
    r"""Without haloes, skewness and variance follow from the fields' variances.

    .. math:: \langle\delta^3\rangle = \lambda^3 (e^{s^2} - 1)^2 (e^{s^2} + 2)
    """
    # The nearest shells have kiloparsec pixels, whose moments no number of maps would average.
    weight = np.where(np.asarray(cone.edges[:, 0]) > 600, np.asarray(cone.weight), 0)
    bare = replace(
        cone,
        weight=jnp.asarray(weight),
        transfer=jnp.where(cone.transfer == 0, 0.0, 1.0),
        halo_weight=0 * cone.halo_weight,
        expected=0 * cone.expected,
    )
    fields = np.stack([simulate(jax.random.key(k), bare, GRID)[0] for k in range(60)])
    growth, shift = np.expm1(np.asarray(cone.variance)), float(cone.shift)
    variance = np.sum(weight**2 * shift**2 * growth)
    third = np.sum(weight**3 * shift**3 * growth**2 * (growth + 3))
    measured = np.mean(fields**3, axis=(1, 2))
    error = measured.std() / np.sqrt(len(fields))
    assert abs(measured.mean() - third) < 4 * error + 0.02 * third
    squares = np.mean(fields**2, axis=(1, 2))
    error = squares.std() / np.sqrt(len(fields))
    assert abs(squares.mean() - variance) < 4 * error + 0.02 * variance


@pytest.mark.release
def test_deeper_sources_move_the_maps_as_limber_says(maps) -> None:
    """Band powers of a single plane at z = 0.6, in 4 standard errors + 1 %."""
    plane = redshift_distribution(0.6)
    cone = build_light_cone(GRID, plane, baryons=None, pixel_window=False)
    powers = np.stack([simulate(jax.random.key(k), cone, GRID)[1] for k in range(60)])
    expected = band_powers(convergence_power(plane), GRID)
    ratio, error = powers.mean(0) / expected, powers.std(0) / expected / np.sqrt(len(powers))
    assert np.all(np.abs(ratio - 1) < 4 * error + 0.01)
    assert np.all(powers.mean(0) < 0.5 * maps[1].mean(0))


@pytest.mark.release
def test_sigma8_moves_the_maps_as_theory_says(maps, tmp_path, monkeypatch) -> None:
    pytest.importorskip("colossus")
    monkeypatch.setenv("JAXMAP_CACHE", str(tmp_path))
    other = replace(PLANCK18, sigma8=0.7)
    cone = build_light_cone(GRID, cosmology=other, baryons=None, pixel_window=False)
    results = [simulate(jax.random.key(k), cone, GRID) for k in range(80)]
    powers = np.stack([result[1] for result in results])
    expected = band_powers(convergence_power(cosmology=other), GRID)
    ratio, error = powers.mean(0) / expected, powers.std(0) / expected / np.sqrt(len(powers))
    assert np.all(np.abs(ratio - 1) < 4 * error + 0.01)
    clusters = np.mean([result[2][-1] for result in results])
    assert clusters < 0.6 * maps[2][:, -1].mean()


def test_bad_requests_are_refused(cone) -> None:
    with pytest.raises(ValueError, match=r"the grid is 33\.3 degrees wide"):
        build_light_cone(Grid((100, 1000), 2.0))
    with pytest.raises(ValueError, match="GiB of memory"):
        build_light_cone(Grid((40_000, 40_000), 0.01))
    with pytest.raises(ValueError, match="shift is 0"):
        build_light_cone(GRID, shift=0.0)
    with pytest.raises(ValueError, match="min_mass"):
        build_light_cone(GRID, min_mass=1e9)
    with pytest.raises(ValueError, match="n\\(z\\) reaches redshift 1100"):
        build_light_cone(GRID, redshift_distribution(1100.0))
    with pytest.raises(ValueError, match="sources lie so near"):
        build_light_cone(GRID, redshift_distribution(0.01))
    with pytest.raises(ValueError, match="build one for this grid"):
        halo_light_cone(jax.random.key(0), cone, Grid((100, 100), 0.4))
