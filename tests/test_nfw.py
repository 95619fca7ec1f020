"""NFW lenses against colossus, pyccl, astropy, integrals and the package's own operator."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j0

from jaxmap.clusters import (
    duffy08,
    dutton14,
    halo_convergence,
    halo_reduced_shear,
    halo_shear,
    nfw_halo,
)
from jaxmap.clusters.nfw import (
    elliptical_deflection,
    nfw_convergence,
    nfw_shear,
    truncated_convergence,
    truncated_shear,
)
from jaxmap.cosmology import inverse_critical_density, mean_inverse_critical_density
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18
from jaxmap.operators import shear_from_convergence
from jaxmap.redshifts import redshift_distribution, smail_redshifts
from jaxmap.simulation.halos import halo_transform

RADII = np.array([1e-3, 0.3, 0.948, 0.96, 1.0, 1.04, 1.06, 4.0, 40.0])
in_double = pytest.mark.skipif(not jax.config.read("jax_enable_x64"), reason="needs float64")


@pytest.fixture(scope="module")
def colossus_cosmology():
    from colossus.cosmology import cosmology

    before = cosmology.current_cosmo
    p = PLANCK18
    chosen = cosmology.Cosmology(
        name="jaxmap", flat=True, H0=100 * p.h, Om0=p.omega_m, Ob0=p.omega_b, sigma8=p.sigma8,
        ns=p.n_s, relspecies=False, persistence="",
    )  # fmt: skip
    cosmology.setCurrent(chosen)
    yield chosen
    cosmology.current_cosmo = before


@in_double
def test_convergence_and_shear_are_those_of_colossus(colossus_cosmology):
    """Surface density and its excess, in other units, by other code; to its own 1e-4 and better."""
    from colossus.halo.profile_nfw import NFWProfile

    mass, concentration, z, h = 7e14, 4.5, 0.4, PLANCK18.h
    profile = NFWProfile(M=mass * h, c=concentration, z=z, mdef="200c")
    radius = np.geomspace(30, 4000, 12)  # physical kpc/h
    to_msun_mpc2 = h * 1e6  # from Msun h / kpc^2
    surface = profile.surfaceDensity(radius) * to_msun_mpc2
    excess = profile.deltaSigma(radius) * to_msun_mpc2
    distance = colossus_cosmology.angularDiameterDistance(z) / h
    theta = radius / 1e3 / h / distance * 180 * 60 / np.pi
    halo = nfw_halo(mass, concentration, z)
    convergence = halo_convergence(halo, theta, 0.0, 1e-15)
    tangential = -halo_shear(halo, theta, 0.0, 1e-15).real
    np.testing.assert_allclose(convergence, surface * 1e-15, rtol=2e-4)
    np.testing.assert_allclose(tangential, excess * 1e-15, rtol=2e-4)


@in_double
def test_convergence_is_that_of_pyccl():
    import pyccl

    p, z, mass, c = PLANCK18, 0.4, 7e14, 4.5
    cosmology = pyccl.Cosmology(
        Omega_c=p.omega_m - p.omega_b, Omega_b=p.omega_b, h=p.h, n_s=p.n_s, sigma8=p.sigma8,
        T_CMB=1e-3, Neff=0, transfer_function="eisenstein_hu",
    )  # fmt: skip
    definition = pyccl.halos.MassDef200c
    profile = pyccl.halos.HaloProfileNFW(
        mass_def=definition,
        concentration=pyccl.halos.ConcentrationConstant(c=c, mass_def=definition),
        truncated=False,
        projected_analytic=True,
    )
    comoving = np.geomspace(0.05, 5, 9)
    surface = profile.projected(cosmology, comoving, mass, 1 / (1 + z)) * (1 + z) ** 2
    distance = cosmology.comoving_radial_distance(1 / (1 + z))
    theta = comoving / distance * 180 * 60 / np.pi
    critical = cosmology.sigma_critical(a_lens=1 / (1 + z), a_source=0.5)
    found = halo_convergence(nfw_halo(mass, c, z), 0.0, theta, inverse_critical_density(z, 1.0))
    np.testing.assert_allclose(found, surface / critical, rtol=5e-4)


def test_critical_density_is_that_of_astropy():
    from astropy import constants, units
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(100 * PLANCK18.h, PLANCK18.omega_m)
    lens, source = 0.3, np.array([0.2, 0.31, 0.8, 3.0])
    ratio = np.maximum(
        1 - cosmology.comoving_distance(lens) / cosmology.comoving_distance(source), 0
    )
    expected = 4 * np.pi * constants.G / constants.c**2
    expected = expected * cosmology.angular_diameter_distance(lens) * ratio
    found = inverse_critical_density(lens, source)
    np.testing.assert_allclose(found, expected.to_value(units.Mpc**2 / units.Msun), rtol=2e-5)
    # Of many sources: a single plane, and the moments of a broad distribution by brute force.
    plane, spread = mean_inverse_critical_density(lens, redshift_distribution(0.8))
    np.testing.assert_allclose([plane / found[2], spread], 1, rtol=1e-5)
    broad = smail_redshifts(2, 1.5, 0.6)
    z = np.linspace(1e-3, 4, 20_000)
    density = np.interp(z, broad.z, broad.density)
    values = np.asarray(inverse_critical_density(lens, z), float)
    mean = np.trapezoid(density * values, z)
    square = np.trapezoid(density * values**2 / mean**2, z)
    np.testing.assert_allclose(
        mean_inverse_critical_density(lens, broad), (mean, square), rtol=1e-3
    )


@pytest.mark.parametrize(("relation", "name"), [(duffy08, "duffy08"), (dutton14, "dutton14")])
def test_concentrations_are_those_of_colossus(colossus_cosmology, relation, name):
    from colossus.halo import concentration

    mass = np.array([1e13, 1e14, 1e15])
    for z in (0.0, 0.5, 1.0):
        expected = concentration.concentration(mass * PLANCK18.h, "200c", z, model=name)
        np.testing.assert_allclose(relation(mass, z), expected, rtol=2e-3)
    control = concentration.concentration(mass, "200c", 0.5, model=name)  # without h
    assert np.all(np.abs(relation(mass, 0.5) / control - 1) > 5e-3)


@pytest.mark.parametrize("z", [0.0, 0.3, 1.0])
def test_concentrations_have_gradients(dtype, z):
    """Their logarithmic slopes are the exponents of the formulas."""
    mass, z = jnp.asarray(3e14, dtype), jnp.asarray(z, dtype)
    scaled = np.log10(3e14 * PLANCK18.h / 1e12)
    early = 0.385 * np.exp(-0.617 * z**1.21)
    slopes = {
        duffy08: (-0.084, -0.47 / (1 + z)),
        dutton14: (
            -0.101 + 0.026 * z,
            np.log(10) * (0.026 * scaled - 0.617 * 1.21 * z**0.21 * early),
        ),
    }
    for relation, expected in slopes.items():
        c, (by_mass, by_z) = jax.value_and_grad(relation, (0, 1))(mass, z)
        np.testing.assert_allclose((by_mass * mass / c, by_z / c), expected, rtol=1e-5)


def density(r, tau=np.inf):
    return 1 / (r * (1 + r) ** 2) / (1 + (r / tau) ** 2) ** 2


@functools.cache
def surface(x, tau=np.inf):
    """The density along the line of sight, by an adaptive integral."""
    return 2 * quad(lambda t: density(x * np.cosh(t), tau) * x * np.cosh(t), 0, 25, limit=200)[0]


@functools.cache
def mean_surface(x, tau=np.inf):
    """Inside x, by an integral over the logarithm of the radius."""
    return 2 * quad(lambda s: np.exp(-2 * s) * surface(x * np.exp(-s), tau), 0, 16)[0]


def test_profiles_keep_their_digits(dtype):
    """Near x = 1 and at small radii, where textbook forms have none left in single precision."""
    x = jnp.asarray(RADII, dtype)
    kappa = np.array([surface(r) for r in RADII])
    mean = np.array([mean_surface(r) for r in RADII])
    np.testing.assert_allclose(nfw_convergence(x), kappa, rtol=3e-6)
    np.testing.assert_allclose(nfw_shear(x), mean - kappa, rtol=3e-6)
    assert nfw_shear(x).dtype == dtype


def test_truncated_profiles(dtype):
    """Against integrals, and the mass profile of the simulator's haloes in Fourier space."""
    tau = 6.0
    radii = np.array([0.02, 3.0, 12.0])
    x = jnp.asarray(radii, dtype)
    kappa = np.array([surface(r, tau) for r in radii])
    mean = np.array([mean_surface(r, tau) for r in radii])
    found = truncated_convergence(x, jnp.asarray(tau, dtype))
    np.testing.assert_allclose(found, kappa, rtol=3e-6)
    np.testing.assert_allclose(truncated_shear(x, jnp.asarray(tau, dtype)), mean - kappa, rtol=5e-6)
    # u(y) = 2 pi int R Sigma J0(y R) dR over 4 pi m(c); c = 4 and truncation at 1.5 radii.
    log_r = np.linspace(np.log(1e-5), np.log(300.0), 6000)
    r = np.exp(log_r)
    profile = np.asarray(truncated_convergence(jnp.asarray(r, dtype), jnp.asarray(6.0, dtype)))
    for y in (0.05, 0.5, 2.0):
        total = np.trapezoid(r**2 * profile * j0(y * r), log_r) / 2
        mass = np.log(5.0) - 0.8
        np.testing.assert_allclose(total / mass, halo_transform(y, 4.0, 1.5), rtol=2e-4)


@pytest.mark.parametrize("tau", [None, pytest.param(5.0, marks=pytest.mark.slow)])
def test_elliptical_lenses(tau):
    """Half the Laplacian of the potential is the elliptical convergence; round ones stay."""
    position = jnp.asarray([1 + 0.5j, 0.1 + 0.01j, -5 + 3j, 0.001j, 12j])
    q = jnp.asarray(0.6)
    s = jnp.sqrt(0.6 * (position.real**2 + position.imag**2 / 0.36))
    tau = None if tau is None else jnp.asarray(tau)
    deflection = jax.jit(elliptical_deflection)
    found, _ = deflection(position, q, tau)
    expected = nfw_convergence(s) if tau is None else truncated_convergence(s, tau)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    _, shear = deflection(position, jnp.asarray(1 - 1e-6), tau)
    size = jnp.abs(position)
    radial = nfw_shear(size) if tau is None else truncated_shear(size, tau)
    np.testing.assert_allclose(shear, -radial * position**2 / size**2, rtol=1e-4)


@pytest.mark.parametrize("ellipticity", [None, 0.25 * np.exp(2j * 0.6)])
def test_signs_and_axes_are_those_of_the_operator(ellipticity):
    """Shear of the convergence on a grid by FFT is that of the formula, to the error of
    the periodic images; with the sign of g2 changed it is not."""
    grid = Grid((72, 72), 0.5)
    step = (np.arange(72) - 35.5) * 0.5
    x, y = step[None, :], step[:, None]
    halo = nfw_halo(8e14, 4.0, 0.4, 1.0, -2.0, ellipticity=ellipticity)
    density = inverse_critical_density(0.4, 1.2)
    by_fft = np.asarray(shear_from_convergence(halo_convergence(halo, x, y, density), grid))
    shear = np.asarray(halo_shear(halo, x, y, density))
    radius = np.hypot(x - 1.0, y + 2.0)
    ring = (radius > 1.5) & (radius < 8)
    scale = np.std(shear[ring])
    assert np.std((by_fft - shear)[ring]) < 0.15 * scale
    assert np.std((by_fft - shear.conj())[ring]) > 0.5 * scale
    tangential = -(shear * np.exp(-2j * np.arctan2(y + 2.0, x - 1.0))).real
    assert np.all(tangential[ring] > 0)


def test_reduced_shear_turns_over_inside_critical_curves():
    halo, density = nfw_halo(3e15, 8.0, 0.3), inverse_critical_density(0.3, 3.0)
    x = jnp.asarray(np.geomspace(0.02, 20, 200), float)
    kappa, shear = halo_convergence(halo, x, 0.0, density), halo_shear(halo, x, 0.0, density)
    g = halo_reduced_shear(halo, x, 0.0, density)
    plain = np.asarray(shear / (1 - kappa))
    strong = np.abs(plain) > 1
    assert 5 < strong.sum() < 195 and np.all(np.abs(g) <= 1 + 1e-6)
    np.testing.assert_allclose(g[~strong], plain[~strong], rtol=1e-5)
    np.testing.assert_allclose(g[strong], 1 / plain[strong].conj(), rtol=1e-4)
    spread = halo_reduced_shear(halo, x, 0.0, density, 1.2)
    weak = np.asarray(x) > 5
    np.testing.assert_allclose(spread[weak], (shear / (1 - 1.2 * kappa))[weak], rtol=1e-5)


def differences_agree(base, x):
    """Derivatives of a sum of reduced shears against differences."""

    def total(parameters):
        log_mass, c, e, centre = parameters
        halo = replace(base, mass=10**log_mass, concentration=c, x=centre)
        if base.ellipticity is not None:
            halo = replace(halo, ellipticity=jax.lax.complex(e, e))
        g = halo_reduced_shear(halo, x, 1.0, 3e-16)
        return jnp.sum(g.real + 0.5 * g.imag)

    # Forward mode: along all parameters at once, each with another weight.
    direction = jnp.asarray([0.3, 1.0, 0.5, -0.4])
    slope_at = jax.jit(jax.vmap(lambda point: jax.jvp(total, (point,), (direction,))))
    step = 1e-3 if jax.config.read("jax_enable_x64") else 3e-2
    point = jnp.asarray([14.6, 4.0, 0.2, 0.1])
    values, slopes = slope_at(
        point[None] + step * jnp.asarray([[-1.0], [0.0], [1.0]]) * direction[None]
    )
    np.testing.assert_allclose(slopes[1], (values[2] - values[0]) / (2 * step), rtol=0.01)


def test_lenses_are_batched_and_differentiated():
    x = jnp.asarray([0.0, 0.5, 2.0])
    one = nfw_halo(5e14, 4.0, 0.3)
    differences_agree(one, x)
    many = jax.vmap(lambda m: halo_shear(replace(one, mass=m), x, 1.0, 3e-16))
    found = many(jnp.asarray([1e14, 5e14]))
    np.testing.assert_allclose(found[1], halo_shear(one, x, 1.0, 3e-16), rtol=1e-5)
    at_centre = jax.grad(lambda m: jnp.sum(halo_convergence(replace(one, mass=m), x, x, 3e-16)))
    assert 0 < at_centre(one.mass) < np.inf


@pytest.mark.slow
@pytest.mark.parametrize("ellipticity", [None, 0j])
def test_gradients_of_truncated_and_elliptical_lenses(ellipticity):
    base = nfw_halo(5e14, 4.0, 0.3, ellipticity=ellipticity, truncation=2.0)
    differences_agree(base, jnp.asarray([0.5, 2.0]))


def test_precision_is_that_of_the_positions(dtype):
    halo = nfw_halo(5e14, 4.0, 0.3)
    shear = halo_shear(halo, jnp.asarray([0.0, 3.0], dtype), jnp.asarray(1.0, dtype), 3e-16)
    assert shear.real.dtype == dtype
    np.testing.assert_allclose(shear, halo_shear(halo, np.array([0.0, 3.0]), 1.0, 3e-16), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": -1e14}, "mass is -1000"),
        ({"mass": 14.5}, "a log10"),
        ({"concentration": 0.0}, "concentration is 0"),
        ({"z": np.nan}, "z is nan"),
        ({"truncation": -1.0}, "truncation is -1"),
        ({"x": np.inf}, "centre is"),
        ({"ellipticity": 1.2}, "modulus 1.2"),
    ],
)
def test_bad_haloes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        nfw_halo(**{"mass": 3e14, "concentration": 4.0, "z": 0.3, **change})
