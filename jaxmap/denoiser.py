r"""The heteroscedastic denoiser: posterior mean of a map for any noise, exact Gaussian part inside.

.. math::
    D(t, v) = E[\kappa \mid t = A\kappa + N(0, \mathrm{diag}\, v)]
            = m_W(t, v) + H * c \, F_\theta(m_W, u, c, \Lambda)

with the Wiener mean :math:`m_W`, the scale :math:`c` of its error, a network :math:`F_\theta` that
is zero before training, and a filter :math:`H(\ell) = 1 - e^{-\ell^2\sigma_H^2/2}` that leaves
scales larger than the network sees at once to the Wiener filter. What is wrong with the strength of
a trained network's correction is measured, and put right (`jaxmap.spectral_gain`). With v the noise
of a survey this is the posterior mean of the convergence. With v constant it is the prior's
denoiser, and :math:`(D - x)/\sigma^2` the score of the prior convolved with :math:`N(0, \sigma^2)`.

Data enter only through :math:`\Lambda = 1/v` and :math:`b = \mathrm{Re}\, A^\dagger \Lambda t`, all
that the posterior of a real map depends on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.gaussian_posterior import solve_information
from jaxmap.grid import Grid
from jaxmap.likelihood import apply_weight
from jaxmap.networks.unet import ResidualUNet, evaluate
from jaxmap.operators import convergence_from_shear, gaussian_smooth, shear_from_convergence
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance
from jaxmap.spectral_gain import SpectralGain

NUM_FEATURES, NUM_CONDITIONS = 3, 3
_LOCAL_PIXELS = 3.0  # over which the noise around a pixel is averaged, a Gaussian's sigma


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Denoiser:
    r"""A trained network with the Gaussian prior that it corrects.

    Args:
        params: of the network, nested dictionaries of arrays.
        spectrum: power spectrum of the training maps, the prior of the Wiener mean.
        network: its architecture.
        iterations: of the Wiener solver; 10 reach a relative residual of 1e-4 on real masks.
        reach: up to which the network sees maps as they are, in units of their standard deviation;
            beyond, their logarithm, so that peaks higher than any of its training cannot make its
            correction grow as they do. None for networks trained without that.
        correction_pixels: :math:`\sigma_H` in pixels. A sampler feels small errors on large scales
            at every level of noise; a mean square error hardly does. None for no filter.
        gain: what is measured of the trained network's correction afterwards, and put right. None
            for networks of which it was not.
    """

    params: Any
    spectrum: PowerSpectrum
    network: ResidualUNet = field(default=ResidualUNet(), metadata={"static": True})
    iterations: int = field(default=12, metadata={"static": True})
    reach: float | None = field(default=4.0, metadata={"static": True})
    correction_pixels: float | None = field(default=24.0, metadata={"static": True})
    gain: SpectralGain | None = None


class Denoised(NamedTuple):
    """What a denoiser says of a map; every field ``(ny, nx)``.

    Attributes:
        mean: posterior mean of the convergence.
        std: estimate of its error, from the network's second head.
        wiener: the Gaussian part of the mean.
        scale: c, the error expected of the Gaussian part for the local noise.
    """

    mean: jax.Array
    std: jax.Array
    wiener: jax.Array
    scale: jax.Array


def denoise_shear(denoiser: Denoiser, data: ShearMap) -> Denoised:
    """The posterior mean of the convergence behind noisy, masked shear on a periodic grid.

    Args:
        denoiser: the trained network.
        data: shear; weight 0 where nothing is known.
    """
    weighted = apply_weight(data.weight, data.shear)
    information = convergence_from_shear(weighted, data.grid).real
    return denoise(denoiser, information, data.weight, data.grid)


def denoise(denoiser: Denoiser, information: jax.Array, weight: jax.Array, grid: Grid) -> Denoised:
    r"""The posterior mean of the convergence given :math:`b` and :math:`\Lambda`.

    Pure: for ``jax.jit`` (``grid`` static) and ``jax.vmap``.

    Args:
        denoiser: the trained network.
        information: :math:`b = \mathrm{Re}\, A^\dagger \Lambda t`, shape ``(ny, nx)``.
        weight: :math:`\Lambda`, shape ``(2, ny, nx)``.
        grid: periodic pixel grid.
    """
    prior = GaussianPrior(mode_variance(denoiser.spectrum, grid))
    wiener, _ = solve_information(
        information, weight, grid, prior, tolerance=0.0, max_iterations=denoiser.iterations
    )
    scale, features, conditions = _network_inputs(
        information, weight, grid, prior, wiener, denoiser.reach
    )
    image, log_std = evaluate(denoiser.network, denoiser.params, features, conditions)
    correction = scale * image
    if denoiser.correction_pixels is not None:
        widest = denoiser.correction_pixels * grid.pixel_arcmin
        correction = correction - gaussian_smooth(correction, grid, widest)
    if denoiser.gain is not None:
        correction = denoiser.gain.apply(correction, wiener, scale, grid)
    return Denoised(wiener + correction, scale * jnp.exp(log_std), wiener, scale)


def _network_inputs(
    information: jax.Array,
    weight: jax.Array,
    grid: Grid,
    prior: GaussianPrior,
    wiener: jax.Array,
    reach: float | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""The scale c, and features and conditions of order one, shape ``(ny, nx, 3)`` each.

    The residual :math:`b - A^\dagger\Lambda A m_W` holds what the Wiener filter has left out; in
    units of its noise it is white where the prior is weak.
    """
    variance = prior.amplitude**2
    prior_std = jnp.sqrt(jnp.mean(variance))
    precision = jnp.mean(weight, axis=0)
    local = gaussian_smooth(precision, grid, _LOCAL_PIXELS * grid.pixel_arcmin)
    local = jnp.maximum(local, 0) + 1e-3 / prior_std**2
    scale = wiener_error(local, variance, prior_std)
    predicted = apply_weight(weight, shear_from_convergence(wiener, grid))
    residual = information - convergence_from_shear(predicted, grid).real
    features = jnp.stack(
        [
            _softened(wiener / prior_std, reach),
            jnp.arcsinh(wiener / scale),
            _softened(residual / jnp.sqrt(local + 1 / prior_std**2), reach),
        ],
        axis=-1,
    )
    conditions = jnp.stack(
        [
            jnp.log(scale / prior_std),
            0.5 * jnp.log1p(local * prior_std**2),
            jnp.sqrt(precision / (local + 1 / prior_std**2)),
        ],
        axis=-1,
    )
    return scale, features, conditions


def _softened(values: jax.Array, reach: float | None) -> jax.Array:
    """Linear up to ``reach``, logarithmic beyond."""
    return values if reach is None else reach * jnp.arcsinh(values / reach)


def wiener_error(precision: jax.Array, variance: jax.Array, prior_std: jax.Array) -> jax.Array:
    r"""Error of a Wiener filter of even noise: :math:`c^2 = \langle S/(1+S\Lambda)\rangle`."""
    table = jnp.logspace(-3, 7, 48, dtype=variance.dtype) / prior_std**2
    square = jax.lax.map(lambda value: jnp.mean(variance / (1 + variance * value)), table)
    return jnp.exp(0.5 * jnp.interp(jnp.log(precision), jnp.log(table), jnp.log(square)))
