r"""DeepMass as published: a U-Net on a first map, for the mask and the noise of one survey.

.. math:: \hat\kappa = m + s\, U_\theta(m / s) \approx E[\kappa \mid \gamma]

with the Wiener map m and the standard deviation s of the prior; or :math:`s\, U_\theta` alone, of
the Kaiser-Squires map. The network sees that map and nothing else: what the noise is, and where,
it learns from training examples that all have the same. (`jaxmap.denoiser` is told, and so serves
any survey.)

Two things differ from the publication: the network adds to the Wiener map, and so is exactly that
before training, where the published one makes the map anew; and its output is not bounded.

References:
    Jeffrey et al. (2020), MNRAS 492, 5023.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.gaussian_posterior import solve_information
from jaxmap.likelihood import apply_weight
from jaxmap.networks.plain_unet import PlainUNet, apply_plain
from jaxmap.operators import convergence_from_shear
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance, pixel_variance

FIRST_MAPS = ("wiener", "ks")
"""What the network is given: the Wiener filter, or Kaiser-Squires without smoothing."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SurveyDenoiser:
    """A network for one survey.

    Args:
        params: of the network, nested dictionaries of arrays.
        spectrum: power spectrum of the training maps, the prior of the Wiener filter.
        network: its architecture.
        first: the map it is given, one of `FIRST_MAPS`.
        iterations: of the Wiener solver.
    """

    params: Any
    spectrum: PowerSpectrum
    network: PlainUNet = field(default=PlainUNet(), metadata={"static": True})
    first: str = field(default="wiener", metadata={"static": True})
    iterations: int = field(default=12, metadata={"static": True})


class Recovered(NamedTuple):
    """Convergence, shape ``(ny, nx)`` each.

    Attributes:
        mean: of the network.
        wiener: of the Wiener filter.
    """

    mean: jax.Array
    wiener: jax.Array


def recover(model: SurveyDenoiser, data: ShearMap) -> Recovered:
    """The network's map of data on a periodic grid; pure, for ``jax.jit`` and ``jax.vmap``."""
    prior = GaussianPrior(mode_variance(model.spectrum, data.grid))
    std = jnp.sqrt(pixel_variance(model.spectrum, data.grid)).astype(data.weight.dtype)
    information = convergence_from_shear(apply_weight(data.weight, data.shear), data.grid).real
    wiener, _ = solve_information(
        information,
        data.weight,
        data.grid,
        prior,
        tolerance=0.0,
        max_iterations=model.iterations,
    )
    if model.first == "wiener":
        image = apply_plain(model.network, model.params, (wiener / std)[..., None])
        return Recovered(wiener + std * image, wiener)
    # Of noise that differs much between pixels the map may be any size: in units of its own rms.
    first = convergence_from_shear(_observed(data), data.grid).real
    size = jnp.sqrt(jnp.mean(first**2) + std**2)
    image = apply_plain(model.network, model.params, (first / size)[..., None])
    return Recovered(std * image, wiener)


def _observed(data: ShearMap) -> jax.Array:
    """The shear, 0 where a component is masked."""
    return apply_weight((data.weight > 0).astype(data.weight.dtype), data.shear)
