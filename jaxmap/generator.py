r"""The generator of a conditional GAN: posterior samples of the convergence by one network.

.. math:: \kappa_i = s\, G_\theta(z_i, y), \qquad z_i \sim N(0, 1)

with the standard deviation s of the convergence and white images z. What y tells of the data:

- the two components of the shear in units of their total spread,
  :math:`\gamma_a / \sqrt{s^2 + 1/w_a}`, of order one for any noise, and 0 where masked;
- the E and the B mode of Kaiser-Squires, of the shear weighted by :math:`c_a`, in units of their
  rms;
- how much signal there is in a pixel, :math:`c_a = s^2 w_a / (1 + s^2 w_a)`: the map of the noise,
  from 0 (masked) to 1.

The published generator is given the shear and its Kaiser-Squires map alone, for a survey whose
noise it learns.

References:
    Whitney et al. (2024), arXiv:2410.24197; Adler & Oktem (2018), arXiv:1811.05910.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxmap.catalog import ShearMap
from jaxmap.likelihood import apply_weight
from jaxmap.networks.plain_unet import PlainUNet, apply_plain, initialise_plain
from jaxmap.operators import convergence_from_shear
from jaxmap.spectra import PowerSpectrum

NUM_CONDITIONS = 6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Generator:
    """A generator with what it takes to apply it.

    Args:
        params: of the network, nested dictionaries of arrays.
        spectrum: power spectrum of the training maps.
        scale: s, standard deviation of the convergence in a pixel, a scalar.
        network: its architecture.
        latent: number of white images.
    """

    params: Any
    spectrum: PowerSpectrum
    scale: jax.Array
    network: PlainUNet = field(default=PlainUNet(), metadata={"static": True})
    latent: int = field(default=2, metadata={"static": True})


def initialise_generator(network: PlainUNet, key: jax.Array, latent: int) -> dict[str, Any]:
    """Fresh parameters; all samples are zero."""
    return initialise_plain(network, key, NUM_CONDITIONS + latent)


def conditions_of(data: ShearMap, scale: jax.Array) -> jax.Array:
    """What a network is told of data on a periodic grid, shape ``(ny, nx, 6)``."""
    scale = scale.astype(data.weight.dtype)
    signal = data.weight * scale**2
    told = signal / (1 + signal)
    shear = apply_weight(jnp.sqrt(data.weight / (1 + signal)), data.shear)
    inverted = convergence_from_shear(apply_weight(told, data.shear), data.grid)
    # Where all is masked the map is 0 in any unit.
    rms = scale * jnp.sqrt(jnp.maximum(jnp.mean(told), 1e-6))
    maps = [shear.real, shear.imag, inverted.real / rms, inverted.imag / rms, *told]
    return jnp.stack(maps, axis=-1)


def generate_from(
    generator: Generator, key: jax.Array, conditions: jax.Array, params: Any = None
) -> jax.Array:
    """A sample in units of s, shape ``(ny, nx)``, from the `conditions_of` data.

    Args:
        generator: all but, perhaps, its parameters.
        key: of the white images.
        conditions: shape ``(ny, nx, 6)``.
        params: instead of the generator's own.
    """
    shape = (*conditions.shape[:2], generator.latent)
    white = jax.random.normal(key, shape, conditions.dtype)
    chosen = generator.params if params is None else params
    return apply_plain(generator.network, chosen, jnp.concatenate([conditions, white], axis=-1))


def generate(generator: Generator, key: jax.Array, data: ShearMap) -> jax.Array:
    """A sample of the convergence, shape ``(ny, nx)``, of data on a periodic grid."""
    conditions = conditions_of(data, generator.scale)
    return generator.scale.astype(conditions.dtype) * generate_from(generator, key, conditions)
