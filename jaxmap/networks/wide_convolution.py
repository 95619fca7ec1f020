r"""Convolutions with wide kernels: by FFT, whose cost hardly depends on the kernel, or directly.

Images are ``(batch, channels, ny, nx)`` and kernels ``(k, k, inputs, outputs)``. Both operations
are those of the deep-learning libraries (no kernel is turned around) and have no padding:

.. math:: \mathrm{valid}: \; y_o(p) = \sum_{i,q} w_{io}(q)\, x_i(p + q), \qquad
          \mathrm{full}: \; y_o(p) = \sum_{i,q} w_{io}(q)\, x_i(p - q)

the first k - 1 pixels smaller than its input, the second (the transposed convolution) k - 1 larger.
"""

from __future__ import annotations

from itertools import count

import jax
import jax.numpy as jnp


def convolve_valid(images: jax.Array, kernel: jax.Array, fft: bool = True) -> jax.Array:
    """Convolution without padding, shape ``(batch, outputs, ny - k + 1, nx - k + 1)``.

    Args:
        images: shape ``(batch, inputs, ny, nx)``.
        kernel: shape ``(k, k, inputs, outputs)``.
        fft: by FFT, which agrees with the direct sum to rounding.
    """
    width = kernel.shape[0]
    shape = tuple(side - width + 1 for side in images.shape[-2:])
    if fft:
        return _by_fft(images, kernel, images.shape[-2:], shape, correlate=True)
    return _direct(images, kernel, 0)


def convolve_full(images: jax.Array, kernel: jax.Array, fft: bool = True) -> jax.Array:
    """Transposed convolution, shape ``(batch, outputs, ny + k - 1, nx + k - 1)``; as above."""
    width = kernel.shape[0]
    shape = tuple(side + width - 1 for side in images.shape[-2:])
    if fft:
        return _by_fft(images, kernel, shape, shape, correlate=False)
    return _direct(images, kernel[::-1, ::-1], width - 1)


def fast_size(least: int) -> int:
    """The next even size without prime factors above 5, for which FFTs are fast."""

    def smooth(number: int) -> bool:
        for factor in (2, 3, 5):
            while number % factor == 0:
                number //= factor
        return number == 1

    return next(size for size in count(least + least % 2, 2) if smooth(size))


def _by_fft(
    images: jax.Array,
    kernel: jax.Array,
    room: tuple[int, ...],
    shape: tuple[int, ...],
    correlate: bool,
) -> jax.Array:
    """Periodic convolution with enough room that nothing wraps around into ``shape``."""
    tall, wide = map(fast_size, room)

    def modes(values: jax.Array) -> jax.Array:
        # One axis after the other: of the first only rows that are not all padding.
        return jnp.fft.fft(jnp.swapaxes(jnp.fft.rfft(values, wide), -1, -2), tall)

    of_images, of_kernel = modes(images), modes(kernel.transpose(2, 3, 0, 1))
    if correlate:
        of_kernel = of_kernel.conj()
    # Sums over few inputs as one loop over the modes: faster on CPUs than a matrix product.
    found = sum(of_images[:, i, None] * of_kernel[None, i] for i in range(kernel.shape[2]))
    rows = jnp.swapaxes(jnp.fft.ifft(found)[..., : shape[0]], -1, -2)
    return jnp.fft.irfft(rows, wide)[..., : shape[1]]


def _direct(images: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    around = [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), around, dimension_numbers=("NCHW", "HWIO", "NCHW")
    )
