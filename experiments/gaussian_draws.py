"""Samplers of a Gaussian posterior, the covariances of two, and controls that must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from gaussian_case import Case, Covariance, covariance_of

from jaxmap.annealed_posterior import AnnealedPosterior, FourierPreconditioner
from jaxmap.catalog import ShearMap
from jaxmap.gaussian_posterior import gaussian_fluctuation, solve_information
from jaxmap.likelihood import ShearLikelihood
from jaxmap.posterior import (
    gaussian_mean,
    gibbs_sweep,
    information_of,
    posterior_denoiser,
    sample_diffusion,
)
from jaxmap.prior import GaussianPrior
from jaxmap.sampling import hmc
from jaxmap.sampling.diffusion import ancestral, integrate, noise_levels
from jaxmap.sampling.probability_flow import flow_to_zero

LARGEST = 2.0
FLOOR = 6e-3
"""A tenth of the least noise."""
GUIDED_STEPS = 200
UNADJUSTED = (0.8, 10)
"""Step and trajectories of the control without Metropolis."""


def eps(key: jax.Array, data: ShearMap, prior: GaussianPrior, num_steps: int) -> jax.Array:
    return sample_diffusion(key, gaussian_mean(prior, data.grid), prior, data, num_steps)


def eps_quotient(data: ShearMap, prior: GaussianPrior, num_steps: int) -> Covariance:
    """v^T T (C + s^2) T^T v; the first evaluation makes the mean, not the spread."""
    nothing = replace(data, shear=jnp.zeros_like(data.shear))
    covariance = covariance_of(data.weight, prior, data.grid)
    power = prior.amplitude**2
    variance = power / (1 + power * jnp.mean(data.weight))
    denoise = posterior_denoiser(gaussian_mean(prior, data.grid), nothing)

    def path(start: jax.Array) -> jax.Array:
        return integrate(denoise, start, noise_levels(num_steps - 1, LARGEST), variance)

    def quotient(vector: jax.Array) -> jax.Array:
        back = jax.linear_transpose(path, vector)(vector)[0]
        return jnp.sum(back * covariance(back)) + LARGEST**2 * jnp.sum(back**2)

    return quotient


def hmc_quotient(data: ShearMap, prior: GaussianPrior) -> Covariance:
    """Of chains in perfect equilibrium at the floor, carried to zero noise."""
    nothing = replace(data, shear=jnp.zeros_like(data.shear))
    posterior = AnnealedPosterior(ShearLikelihood(nothing), prior)
    level = jnp.asarray(FLOOR)
    weight = data.weight / (1 + FLOOR**2 * data.weight)
    covariance = covariance_of(weight, GaussianPrior(prior.variance + FLOOR**2), data.grid)

    def quotient(vector: jax.Array) -> jax.Array:
        flow = partial(flow_to_zero, sigma=level, score=posterior)
        back = jax.linear_transpose(flow, vector)(vector)[0]
        return jnp.sum(back * covariance(back))

    return quotient


def sweeps(case: Case, key: jax.Array, start: jax.Array, number: int, data: ShearMap) -> jax.Array:
    """The states of a chain after every sweep."""
    mean = gaussian_mean(case.prior, case.data.grid)

    def sweep(field: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        field = gibbs_sweep(key, field, mean, case.prior, data, num_steps=4)
        return field, field

    return jax.lax.scan(sweep, start, jax.random.split(key, number))[1]


def unadjusted(key: jax.Array, data: ShearMap, prior: GaussianPrior) -> jax.Array:
    """From the exact posterior, trajectories that are all accepted."""
    posterior = AnnealedPosterior(ShearLikelihood(data), prior)
    fit = FourierPreconditioner(prior.variance, data.weight)
    step_size, number = UNADJUSTED
    start = solve_information(information_of(data), data.weight, data.grid, prior)[0]
    start = start + gaussian_fluctuation(key, data, prior)[0]

    def trajectory(state: hmc.HMCState, key: jax.Array) -> tuple[hmc.HMCState, None]:
        momentum = jax.random.normal(key, data.grid.shape)
        return hmc.leapfrog(state, momentum, posterior, step_size, 6, fit)[0], None

    keys = jax.random.split(jax.random.fold_in(key, 1), number)
    state, _ = jax.lax.scan(trajectory, hmc.init(start, FLOOR, posterior), keys)
    return flow_to_zero(state.position, state.sigma, posterior)


def reverse(key: jax.Array, data: ShearMap, prior: GaussianPrior, denoise: Callable) -> jax.Array:
    """A stochastic path from the level of the default sampler, in many steps."""
    keys = jax.random.split(key, 3)
    start = prior.sample(keys[0]) + LARGEST * jax.random.normal(keys[1], data.grid.shape)
    power = prior.amplitude**2
    variance = power / (1 + power * jnp.mean(data.weight))
    levels = noise_levels(GUIDED_STEPS, LARGEST)
    return ancestral(keys[2], denoise, start, levels, variance)


def guided(key: jax.Array, data: ShearMap, prior: GaussianPrior) -> jax.Array:
    """The score of the prior plus that of the convolved likelihood, along a reverse diffusion."""
    posterior = AnnealedPosterior(ShearLikelihood(data), prior)
    sample = reverse(key, data, prior, lambda x, s: x + s**2 * posterior(x, s))
    return sample - jnp.mean(sample)


def unguided(key: jax.Array, data: ShearMap, prior: GaussianPrior) -> jax.Array:
    """The control of the control."""
    denoise = posterior_denoiser(gaussian_mean(prior, data.grid), data)
    return reverse(key, data, prior, denoise)
