"""Skewness of smoothed convergence by BiHalofit, with linear theory and distances from pyccl.

A second opinion on the simulators: nothing here comes from jaxmap but n(z) and the cosmological
parameters. The coefficients are those of Takahashi et al. (2020), ApJ 895, 113, appendices B and C,
as the authors' public code has them (with its correction of March 2020). Writes
results/bihalofit.json: skewness for the cosmology and the sources of simulator.py, on the whole sky
and on its periodic maps, which lack the longest waves. Needs pyccl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyccl
from common import arguments, save
from simulator import PLANCK15, SKY, stretched_cosmos_redshifts

from jaxmap.grid import ARCMIN, Grid
from jaxmap.matter_power import Cosmology
from jaxmap.redshifts import RedshiftDistribution
from jaxmap.simulation.baryons import TNG_BARYONS

SMOOTHING = (0.5, 1.0, 2.0, 4.0)


def main() -> None:
    options = arguments(__doc__)
    nodes = 12 if options.quick else 32
    cosmo, redshifts = reference_cosmology(PLANCK15), stretched_cosmos_redshifts()
    tracer = source_tracer(cosmo, redshifts)
    least = 2 * np.pi / (SKY.num_pixels * SKY.pixel_sr) ** 0.5
    figures: dict[str, Any] = {"least_ell_of_maps": least}
    for place, min_ell in (("sky", 2.0), ("maps", least)):
        for matter, baryons in (("dark_matter", False), ("with_baryons", True)):
            std, skewness = {}, {}
            for arcmin in SMOOTHING:
                second = smoothed_variance(cosmo, tracer, arcmin, min_ell, baryons)
                third = third_moment(cosmo, tracer, arcmin, min_ell, nodes, baryons)
                std[arcmin], skewness[arcmin] = second**0.5, third / second**1.5
            figures[f"{place}_{matter}"] = {"std": std, "skewness": skewness}
    save(options, "bihalofit", figures)


def reference_cosmology(cosmology: Cosmology) -> pyccl.Cosmology:
    """The same physics in CCL: Eisenstein-Hu, Takahashi halofit, no radiation."""
    return pyccl.Cosmology(
        Omega_c=cosmology.omega_m - cosmology.omega_b,
        Omega_b=cosmology.omega_b,
        h=cosmology.h,
        n_s=cosmology.n_s,
        sigma8=cosmology.sigma8,
        Omega_g=0,
        Neff=0,
        transfer_function="eisenstein_hu",
        matter_power_spectrum="halofit",
    )


def source_tracer(cosmo: pyccl.Cosmology, redshifts: RedshiftDistribution) -> Any:
    """Lensing of sources whose n(z) is a broken line."""
    # CCL puts a spline through n(z); ten points per bin make it the broken line that we mean.
    z = np.linspace(float(redshifts.z[0]), float(redshifts.z[-1]), 10 * len(redshifts.z) - 9)
    density = np.interp(z, redshifts.z, redshifts.density)
    return pyccl.WeakLensingTracer(cosmo, dndz=(z, density), n_samples=1000)


def smoothed_variance(
    cosmo: pyccl.Cosmology, tracer: Any, arcmin: float, min_ell: float = 2.0, baryons: bool = False
) -> float:
    """Variance of convergence smoothed with a Gaussian, by halofit and Limber; see `third_moment`.

    The baryons are those that `TNG_BARYONS` describes, in CCL's own code.
    """
    matter = cosmo.get_nonlin_power()
    if baryons:
        model = pyccl.baryons.BaryonsSchneider15(
            log10Mc=TNG_BARYONS.log10_mass_c,
            eta_b=TNG_BARYONS.ejection,
            k_s=TNG_BARYONS.stellar_wave_number,
        )
        matter = model.include_baryonic_effects(cosmo, matter)
    ell = np.geomspace(min_ell, 12 / (arcmin * ARCMIN), 400)
    power = pyccl.angular_cl(cosmo, tracer, tracer, ell, p_of_k_a=matter)
    integrand = ell**2 * power * np.exp(-((ell * arcmin * ARCMIN) ** 2))
    return float(np.trapezoid(integrand, np.log(ell)) / (2 * np.pi))


def variance_on_grid(
    cosmo: pyccl.Cosmology, tracer: Any, grid: Grid, arcmin: Sequence[float]
) -> np.ndarray:
    """Variances of periodic maps of dark matter, smoothed: the sum over their modes."""
    ell = np.abs(np.asarray(grid.ell()))
    table = np.geomspace(10, 1e5, 400)
    power = np.interp(ell, table, pyccl.angular_cl(cosmo, tracer, tracer, table))
    power[0, 0] = 0
    area = grid.num_pixels * grid.pixel_sr
    return np.asarray([np.sum(power * np.exp(-((ell * s * ARCMIN) ** 2))) / area for s in arcmin])


@dataclass(frozen=True)
class MatterAtRedshift:
    """What BiHalofit needs of linear theory at a redshift; lengths in Mpc/h.

    ``scale`` is the radius (Gaussian) of unit variance, ``slope`` the effective spectral index
    there (equations B1 and B2).
    """

    cosmo: pyccl.Cosmology
    a: float
    sigma8: float
    omega_m: float
    scale: float
    slope: float

    def linear_power(self, k: np.ndarray) -> np.ndarray:
        """P(k) in (Mpc/h)^3 at wave numbers in h/Mpc, of any shape."""
        h = self.cosmo["h"]
        table = np.geomspace(1e-4, 1e3, 1200)
        power = pyccl.linear_matter_power(self.cosmo, table * h, self.a) * h**3
        return np.exp(np.interp(np.log(k), np.log(table), np.log(power)))


def matter_at_redshift(cosmo: pyccl.Cosmology, z: float) -> MatterAtRedshift:
    """Linear theory at a redshift: find the radius where the variance is one."""
    a, h = 1 / (1 + z), cosmo["h"]
    k = np.geomspace(1e-4, 1e5, 6000)
    delta = pyccl.linear_matter_power(cosmo, k * h, a) * h**3 * k**3 / (2 * np.pi**2)

    def moment(radius: float, order: int) -> float:
        x = k * radius
        return float(np.trapezoid(delta * x**order * np.exp(-(x**2)), np.log(k)))

    low, high = 1e-5, 100.0
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if moment(middle, 0) > 1 else (low, middle)
    return MatterAtRedshift(
        cosmo=cosmo,
        a=a,
        sigma8=float(cosmo["sigma8"] * pyccl.growth_factor(cosmo, a)),
        omega_m=float(pyccl.omega_x(cosmo, a, "matter")),
        scale=low,
        slope=-3 + 2 * moment(low, 2),
    )


def tree_kernel(k1: np.ndarray, k2: np.ndarray, k3: np.ndarray) -> np.ndarray:
    """Symmetric kernel of second-order perturbation theory for sides k1 and k2, k3 opposite."""
    cosine = (k3**2 - k1**2 - k2**2) / (2 * k1 * k2)
    return 5 / 7 + cosine / 2 * (k1 / k2 + k2 / k1) + 2 / 7 * cosine**2


def bispectrum(
    k1: np.ndarray, k2: np.ndarray, k3: np.ndarray, matter: MatterAtRedshift
) -> np.ndarray:
    """Bispectrum of dark matter in (Mpc/h)^6; wave numbers in h/Mpc, of one shape.

    Equations B4 to B9: a one-halo term, and a three-halo term that is the tree-level bispectrum of
    an enhanced power spectrum.
    """
    n, s8 = matter.slope, np.log10(matter.sigma8)
    sides = np.sort(np.stack([k1, k2, k3]), axis=0)[::-1]
    r1, r2 = sides[2] / sides[0], (sides[1] + sides[2] - sides[0]) / sides[0]
    ten = 10.0

    a = ten ** (
        np.polyval([-2.865, -1.106, -2.944, -2.167], s8) - 0.310 * r1 ** (ten ** (0.182 + 0.57 * n))
    )
    b = ten ** np.polyval([-0.095, 1.624, -2.681, -3.428], s8)
    c = ten ** (0.159 - 1.107 * n)
    alpha = ten ** (np.polyval([-0.5745, -3.006, -4.348], n) + ten ** (-0.9 + 0.2 * n) * r2**2)
    alpha = np.minimum(alpha, 1 - 2 / 3 * matter.cosmo["n_s"])
    beta = ten ** (np.polyval([-0.2811, -1.4995, -2.845, -1.731], n) + 0.007 * r2)
    f = ten ** np.polyval([-1.8263, -9.3048, -16.838, -10.533], n)
    g = ten ** np.polyval([0.4577, 2.405, 2.787], n)
    h = ten ** (-1.118 - 0.394 * n)
    m = ten ** np.polyval([5.71, -2.434, -2.605], s8)
    n_low = ten ** np.polyval([1.035, -3.08, -4.468], s8)
    mu = ten ** np.polyval([1.6586, 10.9579, 22.977, 15.312], n)
    nu = ten ** np.polyval([0.4525, 1.246, 1.347], n)
    p = ten ** (0.071 - 0.433 * n)
    d = ten ** (-0.483 + 0.892 * s8 - 0.086 * matter.omega_m)
    e = ten ** (-0.632 + 0.646 * n)

    one_halo, damping, enhanced = 1.0, 1.0, []
    for k in (k1, k2, k3):
        q = k * matter.scale
        one_halo = one_halo / ((a * q**alpha + b * q**beta) * (1 + 1 / (c * q)))
        damping = damping / (1 + e * q)
        linear = (1 + f * q**2) / (1 + g * q + h * q**2) * matter.linear_power(k)
        enhanced.append(linear + 1 / ((m * q**mu + n_low * q**nu) * (1 + (p * q) ** -3.0)))

    three_halo = 0.0
    for i, j, opposite in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        side = (k1, k2, k3)
        kernel = tree_kernel(side[i], side[j], side[opposite]) + d * side[opposite] * matter.scale
        three_halo = three_halo + 2 * kernel * enhanced[i] * enhanced[j]
    return one_halo + damping * three_halo


def baryon_ratio(k1: np.ndarray, k2: np.ndarray, k3: np.ndarray, a: float) -> np.ndarray:
    """Bispectrum with over without baryons, fitted to IllustrisTNG (equation C1); 1 for z > 5."""
    if a < 1 / 6:
        return np.ones(np.shape(k1))
    peak = 0.068 * max(a - 0.5, 0) ** 0.47
    dip = 1.052 * max(a - 0.2, 0) ** 1.41
    peak_at = 0.018 * a + 0.837 * a**2
    dip_at = 0.172 + 3.048 * a - 0.675 * a**2
    peak_width, dip_width = 0.881 * peak_at, (0.494 - 0.039 * a) * dip_at
    stars_at = 29.90 - 38.73 * a + 24.30 * a**2
    power = 0.563 / ((a / 0.060) ** 0.02 + 1) / 2.25
    ratio = 1.0
    for k in (k1, k2, k3):
        x = np.log10(k)
        ratio = ratio * (
            peak * np.exp(-(np.abs((x - peak_at) / peak_width) ** 2.346))
            - dip * np.exp(-(((x - dip_at) / dip_width) ** 2))
            + (1 + (k / stars_at) ** 2.25) ** power
        )
    return ratio


def third_moment(
    cosmo: pyccl.Cosmology,
    tracer: Any,
    arcmin: float,
    min_ell: float = 2.0,
    nodes: int = 32,
    baryons: bool = False,
) -> float:
    r"""Third moment of convergence smoothed with a Gaussian, by BiHalofit and Limber.

    .. math:: \langle\kappa^3\rangle = \int d\chi \frac{q^3}{\chi^4}
        \int \frac{d^2\ell_1 d^2\ell_2}{(2\pi)^4} B(\ell_1/\chi, \ell_2/\chi, \ell_3/\chi)
        e^{-(\ell_1^2 + \ell_2^2 + \ell_3^2) \sigma^2 / 2}

    Args:
        cosmo, tracer: from `reference_cosmology` and `source_tracer`.
        arcmin: standard deviation of the Gaussian.
        min_ell: triangles with a shorter side are left out (a periodic map has none).
        nodes: of each of the four integrals; 16 are good to 1 %, 32 to 0.5 %.
        baryons: whether to multiply by the fitted ratio.
    """
    h, sigma = cosmo["h"], arcmin * ARCMIN
    x, weight = np.polynomial.legendre.leggauss(nodes)
    part, weight = (1 + x) / 2, weight / 2
    # The shortest side and the angle to the next: nothing is cusped there, as squeezed triangles
    # are at the angles between two long sides. Three for which side is shortest, two for mirror
    # images, 2 pi for the direction of a side.
    log_min, log_max = np.log(min_ell), np.log(6 / sigma)
    log_1 = (log_min + (log_max - log_min) * part)[:, None, None]
    log_2 = log_1 + (log_max - log_1) * part[:, None]
    l1, l2 = np.exp(log_1), np.exp(log_2)
    last = np.arccos(-np.minimum(l2 / (2 * l1), 1))  # where the third side is as short
    l3 = np.sqrt(l1**2 + l2**2 + 2 * l1 * l2 * np.cos(last * part))
    measure = (log_max - log_min) * weight[:, None, None] * (log_max - log_1) * weight[:, None]
    measure = 12 * np.pi / (2 * np.pi) ** 4 * (l1 * l2) ** 2 * measure * last * weight
    measure = measure * np.exp(-0.5 * (l1**2 + l2**2 + l3**2) * sigma**2)
    l1, l2, l3 = np.broadcast_arrays(l1, l2, l3)

    end = float(tracer.chi_max)
    chi, dchi = end * part, end * weight  # in Mpc
    kernel = tracer.get_kernel(chi)[0]
    total = 0.0
    for distance, width, q in zip(chi, dchi, kernel, strict=True):
        a = float(pyccl.scale_factor_of_chi(cosmo, distance))
        matter = matter_at_redshift(cosmo, 1 / a - 1)
        sides = (l1 / (distance * h), l2 / (distance * h), l3 / (distance * h))
        b = bispectrum(*sides, matter)
        if baryons:
            b = b * baryon_ratio(*sides, a)
        total += width * q**3 / distance**4 * np.sum(measure * b) / h**6
    return float(total)


if __name__ == "__main__":
    main()
