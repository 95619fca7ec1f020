r"""How much of a network's correction to hold for true, by scale and by noise.

An exact denoiser :math:`D = m_W + C` has two properties that a mean square error hardly enforces,
for it is of second order in what violates them: its correction C is uncorrelated with the Wiener
mean, and its error with its correction, mode by mode and at every level of noise,

.. math:: \langle \hat m_W^* \hat C \rangle = 0, \qquad
          \langle (\hat\kappa - \hat m_W - \hat C)^* \hat C \rangle = 0

A chain of draws feels them in first order: one of a hundredth in power grows to a tenth in a few
sweeps. Both hold, on average over simulated fields, for

.. math:: C' = g(\ell, c)\,\big(C - \alpha(\ell, c)\, m_W\big), \qquad
    \alpha = \frac{\langle \hat m_W^* \hat C \rangle}{\langle |\hat m_W|^2 \rangle}, \quad
    g = \frac{\langle (\hat\kappa - \hat m_W)^* (\hat C - \alpha \hat m_W) \rangle}
             {\langle |\hat C - \alpha \hat m_W|^2 \rangle}

with c the error of the Wiener filter. That is measured (`jaxmap.training.gain`): where the noise of
a state rules, as in the sweeps of a chain and in the last steps of a diffusion, in even noise; in
larger noise, where what is right depends on the pattern of the data too, as the mean over surveys.
In even noise :math:`\alpha` is then lowered by some thousandths, without which draws would lack
power on small scales (`jaxmap.training.kept_power`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.grid import Grid

TABLES = ("log_scale", "log_ell", "gain", "leakage")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SpectralGain:
    r"""The tables of g and :math:`\alpha`.

    Args:
        log_scale: ln c of the rows, ascending, shape ``(n,)``.
        log_ell: ln of the multipoles of the columns, ascending, shape ``(m,)``.
        gain: g, shape ``(n, m)``.
        leakage: :math:`\alpha`, shape ``(n, m)``.
    """

    log_scale: jax.Array
    log_ell: jax.Array
    gain: jax.Array
    leakage: jax.Array

    def apply(
        self, correction: jax.Array, wiener: jax.Array, scale: jax.Array, grid: Grid
    ) -> jax.Array:
        r"""C' of a field; shape ``(ny, nx)`` as the correction C, :math:`m_W` and c per pixel.

        Tables are interpolated in ln c, of the mean square over the pixels, and in ln ell; beyond
        their ends the last values hold.
        """
        log_scale = 0.5 * jnp.log(jnp.mean(scale**2))
        modes = jnp.abs(grid.ell(correction.dtype))
        log_ell = jnp.log(jnp.maximum(modes, jnp.exp(self.log_ell[0])))

        def filter_of(table: jax.Array) -> jax.Array:
            row = jax.vmap(lambda column: jnp.interp(log_scale, self.log_scale, column), 1)(table)
            return jnp.interp(log_ell, self.log_ell, row)

        own = jnp.fft.fft2(correction) - filter_of(self.leakage) * jnp.fft.fft2(wiener)
        return jnp.fft.ifft2(filter_of(self.gain) * own).real


def gain_from(arrays: dict[str, Any]) -> SpectralGain:
    """The gain in a file's arrays, as arrays of the session's precision.

    Raises:
        ValueError: unless they are finite tables of one shape whose rows and columns ascend.
        KeyError: if one is missing.
    """
    rows, columns, *tables = (np.asarray(arrays[name], float) for name in TABLES)
    shapes = {table.shape for table in tables} | {(rows.size, columns.size)}
    ascend = all(axis.ndim == 1 and (np.diff(axis) > 0).all() for axis in (rows, columns))
    whole = all(np.isfinite(table).all() for table in (rows, columns, *tables))
    if len(shapes) > 1 or not ascend or not whole or rows.size < 1 or columns.size < 1:
        raise ValueError("its spectral gain is no finite table with ascending rows and columns")
    return SpectralGain(*(jnp.asarray(table) for table in (rows, columns, *tables)))
