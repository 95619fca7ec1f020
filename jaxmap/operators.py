"""Operators between convergence, shear and galaxies; pure ``(field, grid) -> field``.

Everything here can be jitted, batched with ``jax.vmap`` and differentiated, keeps the precision of
its input, and accepts any grid size. See `jaxmap.grid` for axes and signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmap.grid import ARCMIN, Grid

Phase = Callable[[Grid, jnp.dtype | type], jax.Array]
"""What makes shear of convergence, mode by mode: `spin2_phase`, or `two_map_phase`."""


def spin2_phase(grid: Grid, dtype: jnp.dtype | type = float) -> jax.Array:
    r"""The Kaiser-Squires phase of every Fourier mode.

    .. math:: P(\ell) = \frac{\ell_1^2 - \ell_2^2 + 2 i \ell_1 \ell_2}{\ell^2}, \qquad P(0) = 0

    Returns:
        Complex, shape ``(ny, nx)``; modulus 1 everywhere but at the monopole.

    References:
        Kaiser & Squires (1993), ApJ 404, 441.
    """
    ell = grid.ell(dtype)
    x, y = ell.real, ell.imag
    square = x * x + y * y
    # Real arithmetic: a complex modulus and division here cost as much as the FFTs of a small map.
    inverse = 1 / jnp.where(square == 0, 1, square)
    return jax.lax.complex((x * x - y * y) * inverse, 2 * x * y * inverse)


def two_map_phase(grid: Grid, dtype: jnp.dtype | type = float) -> jax.Array:
    r"""The phase of shear whose components were made one by one, as two real maps.

    .. math:: P_h(\ell) = \tfrac12 [P(\ell) + P(-\ell)], \qquad
              \gamma_a = \mathrm{Re}\, F^* [P_a \tilde\kappa]
              \;\Leftrightarrow\; \tilde\gamma = P_h \tilde\kappa
              \quad \text{for real } \kappa

    For simulations that make shear so, the public benchmark among them: their exact operator, on
    the grid that they made it on and on no larger one. A real map keeps of :math:`P_a` what is the
    same at :math:`\ell` and :math:`-\ell`. On odd grids that is all of it. On even grids the
    Nyquist row and column are aliased onto themselves, and :math:`P_2`, odd there, drops out:
    :math:`|P_h| \le 1`, no longer unitary, which moves the benchmark's Wiener map by 0.2 %
    (``experiments/table1.py``).

    Returns:
        Complex, shape ``(ny, nx)``; equal to `spin2_phase` but on the Nyquist row and column.
    """
    phase = spin2_phase(grid, dtype)
    return (phase + mirrored(phase)) / 2


def mirrored(modes: jax.Array) -> jax.Array:
    r"""The value at :math:`-\ell` for every :math:`\ell` of the grid, shape ``(..., ny, nx)``."""
    return jnp.roll(jnp.flip(modes, (-2, -1)), 1, (-2, -1))


def shear_from_convergence(
    convergence: jax.Array, grid: Grid, phase: Phase = spin2_phase
) -> jax.Array:
    r"""Shear of a flat-sky, periodic convergence map.

    .. math:: \tilde\gamma(\ell) = P(\ell)\, \tilde\kappa(\ell)

    With the default phase unitary on complex fields but for the mean, which it removes.

    Args:
        convergence: :math:`\kappa`, shape ``(ny, nx)``, dimensionless; complex for E + iB.
        grid: pixel grid of the map.
        phase: :math:`P`; `two_map_phase` for shear made as two real maps.

    Returns:
        Complex shear :math:`\gamma_1 + i\gamma_2`, same shape.

    References:
        Kaiser & Squires (1993), ApJ 404, 441; Remy et al., Eq. 7.
    """
    return _multiply_modes(convergence, phase(grid, convergence.dtype))


def convergence_from_shear(shear: jax.Array, grid: Grid, phase: Phase = spin2_phase) -> jax.Array:
    r"""Kaiser-Squires inversion: adjoint and, but for the mean, inverse of the shear operator.

    .. math:: \tilde\kappa(\ell) = P^*(\ell)\, \tilde\gamma(\ell)

    Args:
        shear: complex, shape ``(ny, nx)``.
        grid: pixel grid of the map.
        phase: :math:`P`; with another than `spin2_phase` this is the adjoint, not the inverse.

    Returns:
        Complex convergence, E mode + i B mode, with zero mean.

    References:
        Kaiser & Squires (1993), ApJ 404, 441; Remy et al., Eq. 6 (Eq. 7 there lacks the conjugate).
    """
    return _multiply_modes(shear, phase(grid, shear.dtype).conj())


def reduced_shear(convergence: jax.Array, grid: Grid) -> jax.Array:
    r"""Reduced shear of a convergence map, the quantity that galaxy shapes estimate.

    .. math:: g = \gamma / (1 - \kappa)

    The map's own mean counts in the denominator.

    Args:
        convergence: real, shape ``(ny, nx)``; below 1 (no critical curves inside a pixel).
        grid: pixel grid of the map.
    """
    return shear_from_convergence(convergence, grid) / (1 - convergence)


def convergence_from_reduced_shear(
    reduced: jax.Array, grid: Grid, tolerance: float | None = None, max_iterations: int = 100
) -> jax.Array:
    r"""Invert the reduced shear by fixed-point iteration.

    .. math:: \kappa_{n+1} = \mathrm{Re}\, A^\dagger [ g\, (1 - \kappa_n) ]

    The map contracts where :math:`|g| < 1`; the error shrinks about by the largest :math:`|g|` in
    every step. Gradients come from the implicit function theorem, so they do not depend on the
    number of steps.

    Args:
        reduced: complex reduced shear :math:`g`, shape ``(ny, nx)``.
        grid: pixel grid of the map.
        tolerance: stop when the rms change falls below this; default 10 times the precision.
        max_iterations: stop here in any case.

    Returns:
        Real convergence with zero mean (mass sheet), shape ``(ny, nx)``.

    References:
        Seitz & Schneider (1995), A&A 297, 287.
    """
    limit = 10 * jnp.finfo(reduced.dtype).eps if tolerance is None else tolerance

    def update(convergence: jax.Array) -> jax.Array:
        return convergence_from_shear(reduced * (1 - convergence), grid).real

    def solve(_: object, start: jax.Array) -> jax.Array:
        def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            _, change, step = state
            return (change > limit) & (step < max_iterations)

        def advance(
            state: tuple[jax.Array, jax.Array, jax.Array],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            old, _, step = state
            new = update(old)
            return new, jnp.sqrt(jnp.mean((new - old) ** 2)), step + 1

        return jax.lax.while_loop(
            unfinished, advance, (start, jnp.inf + 0 * start[0, 0], jnp.asarray(0))
        )[0]

    def solve_tangent(linear: Callable[[jax.Array], jax.Array], tangent: jax.Array) -> jax.Array:
        # A Neumann series: the linear part is the identity plus the same contraction. A fixed
        # number of terms keeps the solve transposable, which reverse-mode gradients need; JAX 0.7
        # transposes the loop only if nothing linear comes into its turns but by what it carries.
        def add_term(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[Any, None]:
            term, total = carry
            term = term - linear(term)
            return (term, total + term), None

        return jax.lax.scan(add_term, (tangent, tangent), None, length=max_iterations)[0][1]

    start = jnp.zeros(reduced.shape, reduced.real.dtype)
    return jax.lax.custom_root(lambda kappa: kappa - update(kappa), start, solve, solve_tangent)


def gaussian_smooth(field: jax.Array, grid: Grid, smoothing_arcmin: float | jax.Array) -> jax.Array:
    r"""Convolve with a unit-sum Gaussian on the periodic grid.

    .. math:: \tilde f(\ell) \to \tilde f(\ell)\, e^{-\ell^2 \sigma^2 / 2}

    Args:
        field: real or complex, shape ``(ny, nx)``.
        grid: pixel grid of the map.
        smoothing_arcmin: standard deviation (not FWHM) in arcminutes; 0 returns the field.
    """
    smooth = _multiply_modes(field, gaussian_window(grid, smoothing_arcmin, field.dtype))
    return smooth if jnp.iscomplexobj(field) else smooth.real


def gaussian_window(
    grid: Grid, smoothing_arcmin: float | jax.Array, dtype: jnp.dtype | type = float
) -> jax.Array:
    r"""Fourier transform of a unit-sum Gaussian, :math:`e^{-\ell^2\sigma^2/2}`, ``(ny, nx)``."""
    return jnp.exp(-0.5 * (jnp.abs(grid.ell(dtype)) * (smoothing_arcmin * ARCMIN)) ** 2)


def sum_in_pixels(x: jax.Array, y: jax.Array, values: jax.Array, grid: Grid) -> jax.Array:
    r"""Sum values of galaxies in the pixels they fall into.

    .. math:: s_p = \sum_{i \in p} v_i

    Args:
        x, y: positions in pixels from the first pixel's centre, shape ``(n,)``; galaxies outside
            the grid or at NaN are left out.
        values: shape ``(n, ...)``, real or complex.
        grid: pixel grid of the map.

    Returns:
        Shape ``(ny, nx, ...)``.
    """
    ny, nx = grid.shape
    column, row = jnp.floor(x + 0.5), jnp.floor(y + 0.5)
    inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    # NaN compares false, so it lands on the overflow pixel too. Floats cannot number the pixels:
    # float32 counts to 2**24.
    row, column = (jnp.where(inside, each, 0).astype(jnp.int32) for each in (row, column))
    pixel = jnp.where(inside, row * nx + column, ny * nx)
    sums = jax.ops.segment_sum(values, pixel, num_segments=ny * nx + 1)
    return sums[:-1].reshape((ny, nx, *values.shape[1:]))


def _multiply_modes(field: jax.Array, window: jax.Array) -> jax.Array:
    return jnp.fft.ifft2(window * jnp.fft.fft2(field))
