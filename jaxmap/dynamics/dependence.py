"""How bias depends on mass, and scatter on richness: a mixture model, sampled by numpyro."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

PIVOT = 14.17
"""log10 mass of the pivot."""
OUTLIER_DEX = 1e10
"""Width of the outliers' distribution, in dex: flat for all that matters."""

Scatter = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def scatter_in_quadrature(sigma0: jax.Array, sigma1: jax.Array, richness: jax.Array) -> jax.Array:
    r"""Scatter :math:`\sqrt{\sigma_0^2 + \sigma_1^2\,(100/N)}` in dex."""
    return jnp.sqrt(sigma0**2 + sigma1**2 * 100 / richness)


def scatter_in_sum(sigma0: jax.Array, sigma1: jax.Array, richness: jax.Array) -> jax.Array:
    r"""Scatter :math:`\sigma_0 + \sigma_1\,(100/N)` in dex.

    The published text does not say which form was fitted; its remark on intrinsic scatter fits
    this one, its table the quadrature.
    """
    return sigma0 + sigma1 * 100 / richness


def fit_dependence(
    key: jax.Array,
    residual: ArrayLike,
    log10_mass: ArrayLike,
    richness: ArrayLike,
    *,
    scatter: Scatter = scatter_in_quadrature,
    num_samples: int = 500,
    num_warmup: int = 300,
) -> dict[str, np.ndarray]:
    r"""Posterior of the mass dependence of the bias and the richness dependence of the scatter.

    .. math:: L = \prod_i \left[(1 - w)\,G(\epsilon_i; \mu_i, \sigma_i)
        + w\,G(\epsilon_i; \mu_i, \sigma_c)\right], \qquad
        \mu_i = \mu_0 + (\alpha_0 - 1)(\log_{10} M_i - 14.17)

    with flat priors, :math:`\sigma_c = 10^{10}` dex, and NUTS for the sampling.

    Args:
        key: of the sampling.
        residual: in dex, shape ``(n,)``.
        log10_mass: true masses, shape ``(n,)``.
        richness: true numbers of galaxies, 1 or more, shape ``(n,)``.
        scatter: how the scatter depends on richness.
        num_samples, num_warmup: steps of NUTS.

    Returns:
        Samples of ``mu0``, ``alpha0``, ``sigma0``, ``sigma1`` and ``outliers`` (w), each of shape
        ``(num_samples,)``.

    Raises:
        ValueError: for values that are not finite, or richness below 1.

    References:
        Wojtak et al. (2018), MNRAS 481, 324; Ho et al. (2019), ApJ 887, 25, equations 11 to 13.
    """
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS

    eps, masses, galaxies = (jnp.asarray(x, float) for x in (residual, log10_mass, richness))
    if not all(bool(jnp.isfinite(x).all()) for x in (eps, masses, galaxies)):
        raise ValueError("residuals, masses or richness are not finite; leave these clusters out")
    if bool((galaxies < 1).any()):
        raise ValueError(f"a richness is {float(galaxies.min()):g}; expected 1 or more galaxies")

    def model() -> None:
        mu0 = numpyro.sample("mu0", dist.Uniform(-1, 1))
        alpha0 = numpyro.sample("alpha0", dist.Uniform(0, 2))
        sigma0 = numpyro.sample("sigma0", dist.Uniform(0, 1))
        sigma1 = numpyro.sample("sigma1", dist.Uniform(0, 1))
        outliers = numpyro.sample("outliers", dist.Uniform(0, 1))
        mean = mu0 + (alpha0 - 1) * (masses - PIVOT)
        width = scatter(sigma0, sigma1, galaxies)
        inside = jnp.log1p(-outliers) + dist.Normal(mean, width).log_prob(eps)
        outside = jnp.log(outliers) - jnp.log(OUTLIER_DEX * jnp.sqrt(2 * jnp.pi))
        numpyro.factor("residuals", jnp.sum(jnp.logaddexp(inside, outside)))

    start = {"mu0": 0.0, "alpha0": 1.0, "sigma0": 0.15, "sigma1": 0.05, "outliers": 0.01}
    kernel: Any = NUTS(model, init_strategy=numpyro.infer.init_to_value(values=start))
    sampler = MCMC(kernel, num_warmup=num_warmup, num_samples=num_samples, progress_bar=False)
    sampler.run(key)
    return {name: np.asarray(values) for name, values in sampler.get_samples().items()}
