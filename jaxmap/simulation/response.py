"""What galaxy shapes make of a convergence map: lensing, and the biases of their measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.operators import reduced_shear, shear_from_convergence


@jax.tree_util.register_static
@dataclass(frozen=True)
class ShearResponse:
    r"""How mean ellipticities follow the shear; hashable.

    .. math:: \langle e_a \rangle = (1 + m_a)\, \hat g_a + c_a

    where :math:`\hat g` is what unbiased ellipticities estimate (`expected_ellipticity`).

    Args:
        reduced: whether galaxies respond to the reduced shear, as real ones do, or to the shear
            itself, as linear estimators assume.
        multiplicative: m, the same for both components or one for each.
        additive: :math:`c_1 + i c_2`, in the frame of the grid.

    Raises:
        ValueError: for biases that are not finite, or m of -1 or below, which leaves no signal.

    References:
        Heymans et al. (2006), MNRAS 368, 1323, Eq. 11.
    """

    reduced: bool = True
    multiplicative: float | tuple[float, float] = 0.0
    additive: complex = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(m) and m > -1 for m in self.multiplicative_pair):
            raise ValueError(
                f"the multiplicative bias is {self.multiplicative}; expected one or two finite "
                "numbers above -1 (0.01 is one per cent)"
            )
        if not (math.isfinite(complex(self.additive).real + complex(self.additive).imag)):
            raise ValueError(
                f"the additive bias is {self.additive}; expected a finite c1 + i c2, e.g. 1e-4 + 0j"
            )

    @property
    def multiplicative_pair(self) -> tuple[float, float]:
        """m of each component."""
        both = self.multiplicative
        return both if isinstance(both, tuple) else (both, both)


@jax.jit
def lensing_shear(convergence: jax.Array, grid: Grid, response: ShearResponse) -> jax.Array:
    """The reduced shear of a convergence map, or the shear where ``response`` is linear."""
    operator = reduced_shear if response.reduced else shear_from_convergence
    return operator(convergence, grid)


@jax.jit
def lensed_ellipticity(
    intrinsic: jax.Array, shear: jax.Array, response: ShearResponse
) -> jax.Array:
    r"""Ellipticities of lensed galaxies as they are measured.

    .. math:: e = \frac{e_s + g}{1 + g^* e_s} \; (|g| \le 1), \quad
              e = \frac{1 + g e_s^*}{e_s^* + g^*} \; (|g| > 1)

    or :math:`e = e_s + \gamma` for a linear response; to all, :math:`m_a \hat g_a + c_a` is added.

    Args:
        intrinsic: :math:`e_s`, complex, shape ``(n,)``.
        shear: of `lensing_shear` at every galaxy, complex, shape ``(n,)``.
        response: linear or not, m and c.

    References:
        Seitz & Schneider (1997), A&A 318, 687.
    """
    bias = mean_ellipticity(shear, response) - expected_ellipticity(shear, response)
    if not response.reduced:
        return intrinsic + shear + bias
    weak = jnp.abs(shear) <= 1
    return bias + jnp.where(weak, intrinsic + shear, 1 + shear * intrinsic.conj()) / jnp.where(
        weak, 1 + shear.conj() * intrinsic, intrinsic.conj() + shear.conj()
    )


def expected_ellipticity(shear: jax.Array, response: ShearResponse) -> jax.Array:
    r"""Mean ellipticity of randomly oriented galaxies without bias.

    .. math:: \hat g = g \; (|g| \le 1), \qquad \hat g = 1 / g^* \; (|g| > 1)
    """
    if not response.reduced:
        return shear
    weak = jnp.abs(shear) <= 1
    return jnp.where(weak, shear, 1 / jnp.where(weak, 1, shear).conj())


def mean_ellipticity(shear: jax.Array, response: ShearResponse) -> jax.Array:
    r"""Mean ellipticity with its biases, :math:`(1 + m_a)\, \hat g_a + c_a`."""
    expected = expected_ellipticity(shear, response)
    m1, m2 = response.multiplicative_pair
    return jax.lax.complex((1 + m1) * expected.real, (1 + m2) * expected.imag) + response.additive
