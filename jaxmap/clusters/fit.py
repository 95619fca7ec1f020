r"""Mass, concentration and centre of a halo from the shear about it, by NUTS (numpyro).

The model: galaxies or pixels i with noise of inverse variances :math:`w_{a,i}`,

.. math::
    \log_{10} M_{200c} \sim U(\text{limits}), \quad
    \ln c = \ln \bar c(M, z) + s\,\epsilon, \quad \epsilon \sim N(0, 1), \quad
    x, y \sim N(0, \sigma_\mathrm{centre}), \qquad
    e_{a,i} \sim N(g_a(x_i, y_i),\, w_{a,i}^{-1})

with the reduced shear g of `jaxmap.clusters.lens` and the median concentration :math:`\bar c` of a
relation. Other structure along the line of sight is not in the model and not in its errors; it
matters most for deep data and at large radii.

References:
    Hoffman & Gelman (2014), JMLR 15, 1593 (NUTS); Phan, Pradhan & Jankowiak (2019),
    arXiv:1912.11554 (numpyro); Hoekstra (2003), MNRAS 339, 1155 (structure along the line of
    sight).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.clusters.concentration import dutton14
from jaxmap.clusters.halo_data import HaloData
from jaxmap.clusters.lens import NFWHalo, halo_reduced_shear
from jaxmap.matter_power import PLANCK18, Cosmology

log = logging.getLogger(__name__)

_MOST_ELLIPTICAL = 0.7
_NUM_STARTS = 200
_WORST_RHAT = 1.05

Relation = Callable[[jax.Array, jax.Array, Cosmology], jax.Array]


@dataclass(frozen=True)
class HaloPrior:
    """What is believed of a halo before its shear is seen; hashable.

    Args:
        log10_mass: limits of the uniform prior of log10 M200c / Msun.
        concentration: median concentration of mass and redshift: `dutton14` or `duffy08`.
        scatter: of ln c about it; 0.37 is 0.16 dex.
        centre_arcmin: standard deviation of either coordinate of the centre; 0 to fix it.
        ellipticity: standard deviation of either component of the ellipticity of the mass; 0 for a
            round halo.
        truncation: truncation radius over r200c, or None.
        cosmology: flat.

    Raises:
        ValueError: for limits that do not ascend or look like masses, or negative widths.
    """

    log10_mass: tuple[float, float] = (13.0, 15.7)
    concentration: Relation = dutton14
    scatter: float = 0.37
    centre_arcmin: float = 0.5
    ellipticity: float = 0.0
    truncation: float | None = None
    cosmology: Cosmology = PLANCK18

    def __post_init__(self) -> None:
        low, high = self.log10_mass
        if not 9 < low < high < 18:
            raise ValueError(
                f"log10_mass is {self.log10_mass}; expected ascending limits of log10 M200c/Msun, "
                "such as (13.0, 15.7)"
            )
        for name in ("scatter", "centre_arcmin", "ellipticity"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} is {value}; expected a finite number, 0 or above")
        if self.scatter == 0:
            raise ValueError("scatter is 0; expected more (0.01 to fix the relation)")
        if self.truncation is not None and not self.truncation > 0:
            raise ValueError(f"truncation is {self.truncation}; expected a number above 0, or None")


@dataclass(frozen=True)
class FitSettings:
    """How long to sample; hashable.

    Args:
        num_warmup, num_samples: steps of every chain before and after adaptation ends.
        num_chains: run side by side.
        target_accept: mean acceptance that the step size is adapted to.

    Raises:
        ValueError: for fewer than 10 steps or 1 chain, or a target outside of (0, 1).
    """

    num_warmup: int = 500
    num_samples: int = 1000
    num_chains: int = 4
    target_accept: float = 0.9

    def __post_init__(self) -> None:
        for name, least in (("num_warmup", 10), ("num_samples", 10), ("num_chains", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} or more")
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept is {self.target_accept}; expected between 0 and 1")


@dataclass(frozen=True)
class HaloFit:
    """Posterior samples of a halo.

    Args:
        samples: by name, shape ``(num_chains, num_samples)``: ``mass`` in Msun, ``log10_mass``,
            ``concentration``, ``x`` and ``y`` in arcminutes, and ``e1``, ``e2`` if the halo may be
            elliptical.
        rhat: split Gelman-Rubin of each; above 1.01 chains have not mixed.
        effective: effective number of samples of each.
        divergences: of all chains; more than a few say that the posterior is too narrow somewhere.
    """

    samples: Mapping[str, np.ndarray]
    rhat: Mapping[str, float]
    effective: Mapping[str, float]
    divergences: int = field(default=0)

    def quantiles(self, name: str, levels: tuple[float, ...] = (0.16, 0.5, 0.84)) -> np.ndarray:
        """Of the samples of all chains, shape ``(len(levels),)``."""
        return np.quantile(np.ravel(self.samples[name]), levels)


def fit_halo(
    key: jax.Array,
    data: HaloData,
    prior: HaloPrior | None = None,
    settings: FitSettings | None = None,
) -> HaloFit:
    """Sample the posterior of one halo, and judge the chains.

    Compiled once per number of points; fits of more data of that shape are then quick. A warning
    says so if the chains have not mixed.

    Args:
        key: PRNG key.
        data: from `jaxmap.clusters.halo_data`.
        prior, settings: see there.

    Raises:
        FloatingPointError: if the chains hold numbers that are not finite.
    """
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    drawn, diverging = sample_halo(key, data, prior or HaloPrior(), settings or FitSettings())
    samples = {name: np.asarray(values, float) for name, values in drawn.items()}
    for name, values in samples.items():
        lost = np.argwhere(~np.isfinite(values).T)
        if len(lost):
            draw, chain = lost[0] + 1
            raise FloatingPointError(
                f"samples of {name} are not finite, first in draw {draw} after the warm-up of "
                f"chain {chain} of {len(values)}; check the data for ellipticities or weights that "
                "are out of range, or use float64"
            )
    moving = {name: values for name, values in samples.items() if np.ptp(values) > 0}
    rhat = {name: float(split_gelman_rubin(values)) for name, values in moving.items()}
    worst = max(rhat, key=lambda name: rhat[name], default="")
    if worst and not rhat[worst] < _WORST_RHAT:
        log.warning(
            "the chains of the halo's fit have not mixed (R-hat of %s is %.3g; expected below %g): "
            "sample longer, or leave out the innermost points (inner_arcmin)",
            worst,
            rhat[worst],
            _WORST_RHAT,
        )
    return HaloFit(
        samples,
        rhat,
        {name: float(effective_sample_size(values)) for name, values in moving.items()},
        int(np.sum(diverging)),
    )


@partial(jax.jit, static_argnames=("prior", "settings"))
def sample_halo(
    key: jax.Array, data: HaloData, prior: HaloPrior, settings: FitSettings
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The pure core of `fit_halo`: samples by name and divergences, ``(num_chains, num_samples)``.

    It can be batched over keys and data with ``jax.vmap``.
    """
    from numpyro.infer import MCMC, NUTS, init_to_value

    def chain(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        key_start, key = jax.random.split(key)
        start = init_to_value(values=_likely_start(key_start, data, prior))
        kernel = NUTS(halo_model, target_accept_prob=settings.target_accept, init_strategy=start)
        run = MCMC(
            kernel,
            num_warmup=settings.num_warmup,
            num_samples=settings.num_samples,
            progress_bar=False,
        )
        run.run(key, data, prior, extra_fields=("diverging",))
        return run.get_samples(), run.get_extra_fields()["diverging"]

    drawn, diverging = jax.vmap(chain)(jax.random.split(key, settings.num_chains))
    kept = ("mass", "log10_mass", "concentration", "x", "y", "e1", "e2")
    return {name: drawn[name] for name in kept if name in drawn}, diverging


def halo_model(data: HaloData, prior: HaloPrior) -> None:
    """The numpyro model of this module, for use with other inference algorithms of numpyro."""
    import numpyro
    import numpyro.distributions as dist

    of_site: dict[str, Any] = {"log10_mass": dist.Uniform(*prior.log10_mass)}
    of_site |= {"concentration_offset": dist.Normal(0.0, 1.0)}
    if prior.centre_arcmin > 0:
        of_site |= {name: dist.Normal(0.0, 1.0) for name in ("unit_x", "unit_y")}
    if prior.ellipticity > 0:
        limit = _MOST_ELLIPTICAL / prior.ellipticity
        normal = dist.TruncatedNormal(low=-limit, high=limit)
        of_site |= {name: normal for name in ("unit_e1", "unit_e2")}
    halo = _halo(
        {name: numpyro.sample(name, of_site[name]) for name in of_site}, data.z_lens, prior
    )
    found = {"mass": halo.mass, "concentration": halo.concentration, "x": halo.x, "y": halo.y}
    if halo.ellipticity is not None:
        found |= {"e1": halo.ellipticity.real, "e2": halo.ellipticity.imag}
    for name, value in found.items():
        numpyro.deterministic(name, value)
    numpyro.factor("shapes", _log_likelihood(data, halo))


def draw_halo(key: jax.Array, z_lens: jax.Array, prior: HaloPrior) -> NFWHalo:
    """A halo from the prior, as the model draws it; for simulation-based calibration."""
    return _halo(_draw(key, prior), z_lens, prior)


def _draw(key: jax.Array, prior: HaloPrior) -> dict[str, jax.Array]:
    """Parameters of the model from the prior, by name."""
    keys = jax.random.split(key, 6)
    low, high = prior.log10_mass
    drawn = {"log10_mass": jax.random.uniform(keys[0], minval=low, maxval=high)}
    drawn["concentration_offset"] = jax.random.normal(keys[1])
    if prior.centre_arcmin > 0:
        drawn |= {"unit_x": jax.random.normal(keys[2]), "unit_y": jax.random.normal(keys[3])}
    if prior.ellipticity > 0:
        limit = _MOST_ELLIPTICAL / prior.ellipticity
        for name, each in (("unit_e1", keys[4]), ("unit_e2", keys[5])):
            drawn[name] = jax.random.truncated_normal(each, -limit, limit)
    return drawn


def _halo(drawn: Mapping[str, jax.Array], z_lens: jax.Array, prior: HaloPrior) -> NFWHalo:
    """The halo of the model's parameters."""
    mass = 10 ** drawn["log10_mass"]
    zero = jnp.zeros_like(mass)
    ellipticity = None
    if prior.ellipticity > 0:
        ellipticity = prior.ellipticity * jax.lax.complex(drawn["unit_e1"], drawn["unit_e2"])
    median = prior.concentration(mass, z_lens, prior.cosmology)
    return NFWHalo(
        mass,
        median * jnp.exp(prior.scatter * drawn["concentration_offset"]),
        z_lens,
        prior.centre_arcmin * drawn.get("unit_x", zero),
        prior.centre_arcmin * drawn.get("unit_y", zero),
        ellipticity,
        None if prior.truncation is None else jnp.asarray(prior.truncation),
        prior.cosmology,
    )


def _log_likelihood(data: HaloData, halo: NFWHalo) -> jax.Array:
    """Less a constant."""
    expected = halo_reduced_shear(
        halo, data.x, data.y, data.inverse_critical, data.spread, data.softening_arcmin
    )
    rest = data.shear - expected
    chi2 = jnp.sum(data.weight[0] * rest.real**2 + data.weight[1] * rest.imag**2)
    return -chi2 / 2


def _likely_start(key: jax.Array, data: HaloData, prior: HaloPrior) -> dict[str, jax.Array]:
    """The likeliest of draws from the prior.

    A chain that began far from a lens of the highest mass could be caught at a point of the data,
    about which the softened lens has a lesser maximum of the likelihood.
    """

    def one(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        drawn = _draw(key, prior)
        return drawn, _log_likelihood(data, _halo(drawn, data.z_lens, prior))

    drawn, fit = jax.lax.map(one, jax.random.split(key, _NUM_STARTS))
    best = jnp.argmax(jnp.where(jnp.isfinite(fit), fit, -jnp.inf))
    return jax.tree.map(lambda values: values[best], drawn)
