"""Halo profiles and their painting: against line-of-sight integrals and colossus."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.grid import ARCMIN, Grid
from jaxmap.simulation.baryons import TNG_BARYONS, Baryons
from jaxmap.simulation.halo_painting import (
    NUM_QUADRUPOLE,
    NUM_ROUND,
    coefficients,
    convolve_points,
    deposit,
    half_plane_ell,
    halo_basis,
    modes_of_basis,
)
from jaxmap.simulation.halos import halo_radius, halo_transform

GRID = Grid((256, 240), 0.29)
TRUNCATION = 1.5


@pytest.fixture(scope="module")
def basis():
    return halo_basis(float(np.abs(half_plane_ell(GRID)).max()), TRUNCATION)


def paint(basis, scale_radius: float, c: float, x: float, y: float, eta=0.0, angle=0.0):
    """A halo of unit mass; the sum over all pixels is its mass."""
    values = coefficients(basis, jnp.log(scale_radius)[None], jnp.log(c)[None])
    stretch = eta * values[:, NUM_ROUND:]
    values = jnp.concatenate(
        [values[:, :NUM_ROUND], np.cos(2 * angle) * stretch, np.sin(2 * angle) * stretch], axis=1
    )
    points = deposit(jnp.asarray([x]), jnp.asarray([y]), values, GRID)
    assert points.shape[0] == NUM_ROUND + 2 * NUM_QUADRUPOLE
    modes = convolve_points(points, modes_of_basis(basis, GRID), GRID)
    return np.asarray(jnp.fft.irfft2(modes, GRID.shape))


def projected(x: np.ndarray, c: float) -> np.ndarray:
    """Truncated NFW, integrated along the line of sight; mass M200m, radii in scale radii."""
    tau = TRUNCATION * c
    nodes = np.geomspace(1e-3, 1e3, 500)
    depth = np.sinh(np.linspace(0, 9, 2001)) * np.minimum(nodes, 1)[:, None]
    r = np.sqrt(nodes[:, None] ** 2 + depth**2)
    density = 1 / (r * (1 + r) ** 2 * (1 + (r / tau) ** 2) ** 2)
    sigma = 2 * np.trapezoid(density, depth, axis=-1) / (4 * np.pi * (np.log1p(c) - c / (1 + c)))
    return np.exp(np.interp(np.log(np.maximum(x, 1e-3)), np.log(nodes), np.log(sigma)))


def radius_map(x: float, y: float) -> np.ndarray:
    ny, nx = GRID.shape
    return np.hypot(*np.meshgrid(np.arange(nx) - x, np.arange(ny) - y)) * GRID.pixel_arcmin


@pytest.mark.parametrize(("radius_arcmin", "c"), [(0.9, 5.0), (1.0, 8.0), (2.5, 5.0)])
def test_painted_halo_is_the_line_of_sight_integral(basis, radius_arcmin, c) -> None:
    scale = radius_arcmin * ARCMIN
    halo = paint(basis, scale, c, 120.0, 128.0)
    r = radius_map(120, 128)
    # The map has no mean; put the halo's own back before comparing.
    total = float(halo_transform(1e-6, c, TRUNCATION))
    halo = (halo + total / GRID.num_pixels) / GRID.pixel_sr
    expected = projected(r / radius_arcmin, c) / scale**2
    # The innermost pixels miss multipoles beyond the grid's.
    ring = (r > 3.5 * GRID.pixel_arcmin) & (r < 0.9 * c * radius_arcmin)
    np.testing.assert_allclose(halo[ring], expected[ring], rtol=0.06)
    assert np.sqrt(np.mean((halo[ring] / expected[ring] - 1) ** 2)) < 0.02
    wrong = projected(r / radius_arcmin, 1.3 * c) / scale**2
    assert np.sqrt(np.mean((halo[ring] / wrong[ring] - 1) ** 2)) > 0.05


def test_core_is_the_nfw_halo_of_colossus() -> None:
    """Well inside the truncation it is NFW, less the 2 to 3 % of its far fore- and background."""
    nfw = pytest.importorskip("colossus.halo.profile_nfw")
    cosmology = pytest.importorskip("colossus.cosmology.cosmology")
    params = {"flat": True, "H0": 70, "Om0": 0.3, "Ob0": 0.05, "sigma8": 0.8, "ns": 0.96}
    cosmology.setCosmology("test", params, persistence="")
    mass, c = 3e14, 6.0
    radius = float(halo_radius(mass, 0.3))
    profile = nfw.NFWProfile(M=mass, c=c, z=0.0, mdef="200m")
    assert profile.RDelta(0.0, "200m") / 1e3 == pytest.approx(radius, rel=1e-4)
    r = np.array([0.02, 0.05]) * radius
    theirs = profile.surfaceDensity(r * 1e3) * 1e6
    ours = mass * projected(r * c / radius, c) / (radius / c) ** 2
    np.testing.assert_allclose(ours, 0.975 * theirs, rtol=0.01)


def test_profile_is_that_of_ccl() -> None:
    """CCL's own transforms of the truncated density; its NFW halo where nothing is truncated.

    Transform to 0.3 % of the mass; projected, our line-of-sight integral to 1 %.
    """
    ccl = pytest.importorskip("pyccl")
    cosmo = ccl.CosmologyVanillaLCDM()
    mass, c, h = 2e14, 6.0, cosmo["h"]
    definition = ccl.halos.MassDef200m
    constant = ccl.halos.ConcentrationConstant(c, mass_def=definition)
    nfw = ccl.halos.HaloProfileNFW(mass_def=definition, concentration=constant, truncated=False)
    radius = definition.get_radius(cosmo, mass / h, 1.0)
    scale = radius / c

    class Truncated(ccl.halos.HaloProfile):
        def _real(self, cosmo, r, mass, a):
            cut = (1 + (np.asarray(r) / (TRUNCATION * radius)) ** 2) ** -2
            return nfw.real(cosmo, r, mass, a) * cut

    theirs = Truncated(mass_def=definition)
    # CCL's FFTLog errs by 2 % of the mass with 200 points per decade, in proportion to the step.
    precision = {"padding_lo_fftlog": 1e-3, "padding_hi_fftlog": 1e3, "plaw_fourier": -2.0}
    theirs.update_precision_fftlog(n_per_decade=4000, **precision)
    k = np.geomspace(1e-2, 50, 40)
    transform = theirs.fourier(cosmo, k, mass / h, 1.0) / (mass / h)
    np.testing.assert_allclose(halo_transform(k * scale, c, TRUNCATION), transform, atol=0.003)
    assert np.abs(halo_transform(k * scale, 1.1 * c, TRUNCATION) - transform).max() > 0.01

    r = np.geomspace(0.05, 0.9, 20) * radius
    sigma = theirs.projected(cosmo, r, mass / h, 1.0)
    ours = mass / h * projected(r / scale, c) / scale**2
    np.testing.assert_allclose(ours, sigma, rtol=0.01)


def test_transform_is_the_hankel_integral() -> None:
    """Three-dimensional transform by brute force, and its limit, the total mass."""
    c, tau = 7.0, 7.0 * TRUNCATION
    x = np.linspace(1e-6, 400, 2_000_001)
    density = 1 / (x * (1 + x) ** 2 * (1 + (x / tau) ** 2) ** 2) / (np.log1p(c) - c / (1 + c))
    for y in (0.01, 0.3, 2.0, 20.0):
        direct = np.trapezoid(density * x**2 * np.sinc(y * x / np.pi), x)
        assert float(halo_transform(y, c, TRUNCATION)) == pytest.approx(direct, rel=1e-5)
    assert float(halo_transform(1e-5, c, TRUNCATION)) == pytest.approx(1, abs=0.05)


def test_basis_reproduces_the_family(basis) -> None:
    """Off the nodes, in the range where haloes lie: to 0.5 % of the mass at any multipole."""
    ell = np.geomspace(30, 4e4, 50)
    for radius_arcmin in (0.02, 0.13, 0.7, 3.3):
        for c in (3.1, 7.7, 19.0):
            theta = radius_arcmin * ARCMIN
            a = np.asarray(coefficients(basis, jnp.log(theta)[None], jnp.log(c)[None]))[0]
            functions = [np.interp(np.log(ell), basis.log_ell, f) for f in basis.functions]
            ours = a[:NUM_ROUND] @ np.stack(functions[:NUM_ROUND])
            exact = halo_transform(ell * theta, c, TRUNCATION)
            assert np.abs(ours - exact).max() < 5e-3
            slope = (halo_transform(ell * theta * 1.01, c, TRUNCATION) - exact) / np.log(1.01)
            ours = a[NUM_ROUND:] @ np.stack(functions[NUM_ROUND:])
            assert np.abs(ours - slope).max() < 0.03


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_ellipses_point_along_their_angle(basis, angle) -> None:
    """Quadrupole of the light: direction to 0.02 rad, size to 15 % of that of a true ellipse."""
    eta, scale, c = 0.3, 1.0, 5.0
    halo = paint(basis, scale * ARCMIN, c, 120.0, 128.0, eta, angle)
    ny, nx = GRID.shape
    x, y = np.meshgrid(np.arange(nx) - 120.0, np.arange(ny) - 128.0)
    inner = (np.hypot(x, y) < 15) & (np.hypot(x, y) > 2)
    weight = np.where(inner, 1 / np.maximum(x**2 + y**2, 1), 0) * (x + 1j * y) ** 2

    def quadrupole(image: np.ndarray) -> complex:
        return complex(np.sum(weight * image) / np.sum(np.where(inner, image, 0)))

    u = x * np.cos(angle) + y * np.sin(angle)
    w = y * np.cos(angle) - x * np.sin(angle)
    r = np.sqrt(u**2 * np.exp(-eta) + w**2 * np.exp(eta)) * GRID.pixel_arcmin
    true = quadrupole(projected(r / scale, c))
    ours = quadrupole(halo)
    assert abs(np.angle(ours * np.exp(-2j * angle))) < 0.04
    assert abs(ours) == pytest.approx(abs(true), rel=0.15)


def test_random_points_keep_their_power(basis) -> None:
    """White noise of random points: power 1 per point at every scale, in 5 standard errors."""
    rng = np.random.default_rng(1)
    n, num_maps = 4000, 40
    values = np.asarray(coefficients(basis, jnp.log(2e-6)[None], jnp.log(10.0)[None]))
    values = np.concatenate([values[:, :NUM_ROUND], np.zeros((1, 2 * NUM_QUADRUPOLE))], axis=1)
    modes = modes_of_basis(basis, GRID)
    power = []
    for _ in range(num_maps):
        x, y = rng.uniform(0, GRID.shape[1], n), rng.uniform(0, GRID.shape[0], n)
        points = deposit(jnp.asarray(x), jnp.asarray(y), jnp.repeat(values, n, axis=0), GRID)
        power.append(np.abs(convolve_points(points, modes, GRID)) ** 2 / n)
    ell = np.abs(half_plane_ell(GRID))
    exact = halo_transform(np.maximum(ell, 1) * 2e-6, 10.0, TRUNCATION) ** 2
    for low, high in ((500, 5e3), (5e3, 2e4), (2e4, 3.5e4)):
        band = (ell > low) & (ell < high)
        ratios = np.mean(np.asarray(power)[:, band] / exact[band], axis=1)
        assert abs(ratios.mean() - 1) < 5 * ratios.std() / np.sqrt(num_maps) + 0.005


def test_baryons_agree_with_ccl() -> None:
    ccl = pytest.importorskip("pyccl")
    cosmo = ccl.CosmologyVanillaLCDM()
    k = np.geomspace(0.01, 50, 30)
    for ours in (Baryons(), TNG_BARYONS):
        theirs = ccl.baryons.BaryonsSchneider15(
            log10Mc=ours.log10_mass_c, eta_b=ours.ejection, k_s=ours.stellar_wave_number
        )
        for z in (0.0, 1.3):
            expected = theirs.boost_factor(cosmo, k * cosmo["h"], 1 / (1 + z))
            np.testing.assert_allclose(ours.suppression(k, z), expected, rtol=1e-10)


def test_impossible_baryons() -> None:
    with pytest.raises(ValueError, match="give None"):
        Baryons(log10_mass_c=1e14)
    with pytest.raises(ValueError, match="ejection"):
        Baryons(ejection=0.0)
