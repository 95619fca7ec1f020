"""Shear about a cluster as a list of points, from a map or catalogue: for fits of haloes."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.binning import measured_shape_noise
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.cosmology import inverse_critical_density, mean_inverse_critical_density
from jaxmap.grid import Grid
from jaxmap.matter_power import PLANCK18, Cosmology
from jaxmap.redshifts import RedshiftDistribution


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HaloData:
    r"""Ellipticities at points about a cluster, with the sources' critical surface density.

    Args:
        x, y: positions in arcminutes from the origin of the fit (x = west, y = north), ``(n,)``.
        shear: complex estimates of the reduced shear, shape ``(n,)``.
        weight: inverse noise variance of the two components, shape ``(2, n)``; 0 = not used.
        z_lens: redshift of the cluster.
        inverse_critical: :math:`\langle\Sigma_{cr}^{-1}\rangle` in Mpc^2/Msun, a number or one for
            each point.
        spread: its second moment over its squared mean (see
            `jaxmap.cosmology.mean_inverse_critical_density`).
        softening_arcmin: of the lens at its centre. The shear changes direction there, and with it
            the likelihood jumps wherever the centre passes a point; chains would be caught.
    """

    x: jax.Array
    y: jax.Array
    shear: jax.Array
    weight: jax.Array
    z_lens: jax.Array
    inverse_critical: jax.Array
    spread: jax.Array
    softening_arcmin: jax.Array


def halo_data_of_map(
    shear: ShearMap,
    z_lens: float,
    redshifts: RedshiftDistribution,
    *,
    centre: tuple[float, float] = (0.0, 0.0),
    inner_arcmin: float = 0.0,
    outer_arcmin: float | None = None,
    cosmology: Cosmology = PLANCK18,
) -> HaloData:
    """Observed pixels of a shear map, each at its centre, the lens softened by 0.4 pixels.

    That is the rms distance of a pixel's points from its centre.

    Args:
        shear: of shapes, so that pixels estimate the reduced shear.
        z_lens: redshift of the cluster.
        redshifts: n(z) of the sources; a table of one row for a single plane.
        centre: origin of the fit in arcminutes from the middle of the map, (x, y).
        inner_arcmin, outer_arcmin: pixels nearer or farther than this from it are left out.
        cosmology: of the distances.

    Raises:
        ValueError: for a redshift that is not above 0, no sources behind it, or no pixels left.
    """
    ny, nx = shear.grid.shape
    step = shear.grid.pixel_arcmin
    y, x = np.meshgrid(
        (np.arange(ny) - (ny - 1) / 2) * step - centre[1],
        (np.arange(nx) - (nx - 1) / 2) * step - centre[0],
        indexing="ij",
    )
    chosen = np.asarray(shear.mask) & _between(x, y, inner_arcmin, outer_arcmin)
    _require(chosen, "observed pixels", inner_arcmin, outer_arcmin)
    mean, spread = _mean_density(z_lens, redshifts, cosmology)
    return HaloData(
        jnp.asarray(x[chosen], float),
        jnp.asarray(y[chosen], float),
        jnp.asarray(np.asarray(shear.shear)[chosen], complex),
        jnp.asarray(np.asarray(shear.weight)[:, chosen], float),
        jnp.asarray(z_lens, float),
        mean,
        spread,
        jnp.asarray(0.4 * step, float),
    )


def halo_data_of_catalog(
    catalog: ShearCatalog,
    centre_deg: tuple[float, float],
    z_lens: float,
    redshifts: RedshiftDistribution | None = None,
    *,
    shape_noise: float | tuple[float, float] | None = None,
    inner_arcmin: float = 0.0,
    outer_arcmin: float | None = None,
    softening_arcmin: float = 0.1,
    cosmology: Cosmology = PLANCK18,
) -> HaloData:
    r"""Galaxies of a catalogue on the tangent plane about a cluster.

    The weights w of the catalogue are relative; the noise of a galaxy has the variance

    .. math:: \sigma_i^2 = \sigma_e^2 \frac{\sum_j w_j^2}{w_i \sum_j w_j}

    which makes the error of a weighted mean that of `jaxmap.binning.bin_shear`.

    Args:
        catalog: galaxy shapes.
        centre_deg: (RA, Dec) of the origin of the fit.
        z_lens: redshift of the cluster.
        redshifts: n(z) of the sources; None to take every galaxy at its own redshift.
        shape_noise: per component; measured from the catalogue by default.
        inner_arcmin, outer_arcmin: galaxies nearer or farther than this are left out.
        softening_arcmin: see `HaloData`; some 0.1 is lost behind the brightest galaxy anyway.
        cosmology: of the distances.

    Raises:
        ValueError: as `halo_data_of_map`, or for a catalogue without redshifts where n(z) is None.
    """
    if redshifts is None and catalog.z is None:
        raise ValueError(
            "the catalogue has no redshifts; give the n(z) of its galaxies (redshifts=...)"
        )
    pixel = 1.0
    plane = Grid((1, 1), pixel, centre_deg)
    x, y = plane.pixel_position(catalog.ra_deg, catalog.dec_deg)
    with np.errstate(invalid="ignore"):
        chosen = (catalog.weight > 0) & _between(x, y, inner_arcmin, outer_arcmin)
    _require(chosen, "galaxies", inner_arcmin, outer_arcmin)
    noise = measured_shape_noise(catalog) if shape_noise is None else shape_noise
    sigma = np.broadcast_to(np.asarray(noise, float), (2,))
    if not np.all(np.isfinite(sigma) & (sigma > 0)):
        raise ValueError(
            f"the shape noise per component is {sigma.tolist()}; expected numbers above 0"
        )
    weight = np.asarray(catalog.weight, float)
    relative = weight * (weight.sum() / np.sum(weight**2))
    mean, spread = jnp.zeros(()), jnp.ones(())
    if redshifts is not None:
        mean, spread = _mean_density(z_lens, redshifts, cosmology)
    else:
        _check_redshift(z_lens)
        z = np.maximum(np.asarray(catalog.z, float)[chosen], 1e-6)
        mean = inverse_critical_density(z_lens, z, cosmology)
        if not np.any(np.asarray(mean) > 0):
            raise ValueError(f"no galaxy lies behind the redshift {z_lens}; expected some")
    turned = np.asarray(catalog.ellipticity) * plane.frame_rotation(catalog.ra_deg)
    return HaloData(
        jnp.asarray(x[chosen] * pixel, float),
        jnp.asarray(y[chosen] * pixel, float),
        jnp.asarray(turned[chosen], complex),
        jnp.asarray(relative[chosen][None] / sigma[:, None] ** 2, float),
        jnp.asarray(z_lens, float),
        mean,
        spread,
        jnp.asarray(softening_arcmin, float),
    )


def _between(x: np.ndarray, y: np.ndarray, inner: float, outer: float | None) -> np.ndarray:
    radius = np.hypot(x, y)
    return (radius >= inner) & (radius <= (np.inf if outer is None else outer))


def _require(chosen: np.ndarray, what: str, inner: float, outer: float | None) -> None:
    if not chosen.any():
        raise ValueError(
            f"no {what} between {inner:g} and {np.inf if outer is None else outer:g} arcmin from "
            "the centre; expected some (give another centre, or wider limits)"
        )


def _check_redshift(z_lens: float) -> None:
    if not 0 < z_lens < np.inf:
        raise ValueError(f"the lens is at redshift {z_lens}; expected a finite number above 0")


def _mean_density(
    z_lens: float, redshifts: RedshiftDistribution, cosmology: Cosmology
) -> tuple[jax.Array, jax.Array]:
    _check_redshift(z_lens)
    last = float(np.asarray(redshifts.z)[np.asarray(redshifts.density) > 0].max())
    if last <= z_lens:
        raise ValueError(
            f"the sources end at redshift {last:g} and the lens is at {z_lens}; expected sources "
            "behind it"
        )
    return mean_inverse_critical_density(z_lens, redshifts, cosmology)
