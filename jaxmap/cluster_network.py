r"""Mass maps of clusters by the network of Hong et al.: its images, its mosaics and its files.

Galaxies of ellipticity :math:`\epsilon_i` and inverse variance :math:`w_i` become images by

.. math:: \epsilon(x) = \frac{\sum_i K_i w_i \epsilon_i}{\sum_i K_i w_i + k w_0}, \qquad
          \Delta\epsilon(x) = \frac{[\sum_i K_i^2 w_i + k^2 w_0]^{1/2}}{\sum_i K_i w_i + k w_0}

with a Gaussian K of 7 arcsec FWHM, from the middle of the galaxy's pixel. The last terms stand for
one galaxy of ellipticity 0 and error 1 that lies three sigma away from every place: it does not
count where there are galaxies, and makes :math:`\epsilon = 0, \Delta\epsilon = 1` where there are
none, without division by nothing. The paper does not say what it did there.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.networks.hong import (
    BORDER,
    FIRST_WIDTH,
    LEAST_SIDE,
    POOL,
    SIDE,
    HongNetwork,
    apply_hong,
    initialise_hong,
    output_side,
)
from jaxmap.networks.weights import above_zero, fitted_to, network_file, write_weights

log = logging.getLogger(__name__)

PIXEL_ARCMIN = 0.064
"""Of the network's input; three of them make a pixel of its output."""

KIND = "cluster network"

NOISE = 0.0508
"""Shear noise in a square arcminute of the galaxies that networks are trained behind, those of
`jaxmap.simulation.cluster_fields.ClusterSurvey`."""

SHIPPED = "hong_clusters.npz"

_BLOCK = 32  # pixels (2 arcmin) over which the depth of data is measured

_AT_ONCE = 4  # fields of a mosaic, for which the kernels' FFTs are made once

_SIGMA = 7 / (60 * math.sqrt(8 * math.log(2))) / PIXEL_ARCMIN  # pixels
_HALF = 4  # taps of the kernel on either side, 5 sigma
_FAR = math.exp(-0.5 * 3**2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClusterNetwork:
    """A network with what it takes to apply it.

    Args:
        params: of the network.
        scale: convergence of an output of 1, a scalar.
        network: its architecture.
        side: pixels of the images that it was trained on.
    """

    params: Any
    scale: jax.Array
    network: HongNetwork = field(default=HongNetwork(), metadata={"static": True})
    side: int = field(default=SIDE, metadata={"static": True})


class Mosaic(NamedTuple):
    """A map of many overlapping fields of the network.

    Attributes:
        convergence: mean over the fields, on the pixels of the images, 0 outside; ``(ny, nx)``.
        covered: where it is known, same shape.
    """

    convergence: jax.Array
    covered: jax.Array


@partial(jax.jit, static_argnames="channels")
def network_images(data: ShearMap, channels: int = 3) -> jax.Array:
    """What a network is told of a shear map of `PIXEL_ARCMIN`, shape ``(channels, ny, nx)``.

    Args:
        data: every pixel stands for a galaxy in its middle, of the pixel's mean and variance.
        channels: two of ellipticity and its error; the fourth is the smoothed number of galaxies
            over its mean.
    """
    weight = jnp.mean(data.weight, axis=0)
    shear = jnp.where(weight > 0, data.shear, 0)
    total = _smooth(weight) + _FAR
    images = [
        _smooth(weight * shear.real) / total,
        _smooth(weight * shear.imag) / total,
        jnp.sqrt(_smooth(weight, power=2) + _FAR**2) / total,
    ]
    if channels == 4:
        counts = (weight > 0).astype(weight.dtype) if data.counts is None else data.counts
        mean = jnp.mean(counts) * jnp.sum(jnp.asarray(_taps(1))) ** 2
        images.append(_smooth(counts) / jnp.where(mean > 0, mean, 1))
    return jnp.stack(images)


def _taps(power: int) -> np.ndarray:
    steps = np.arange(-_HALF, _HALF + 1) / _SIGMA
    return np.exp(-0.5 * power * steps**2)


def _smooth(image: jax.Array, power: int = 1) -> jax.Array:
    """Sum of neighbours with the Gaussian, to a power, of height 1; nothing beyond the edges."""
    for axis in (0, 1):
        side = image.shape[axis]
        around = [(0, 0), (0, 0)]
        around[axis] = (_HALF, _HALF)
        padded = jnp.pad(image, around)
        image = sum(  # type: ignore[assignment]
            float(tap) * jax.lax.slice_in_dim(padded, start, start + side, axis=axis)
            for start, tap in enumerate(_taps(power))
        )
    return image


def mosaic(model: ClusterNetwork, data: ShearMap, step: int = 19) -> Mosaic:
    """Apply a network to a field of any size, and average where its fields overlap.

    The border of 14 output pixels that training left out is left out of every field, and so is
    missing along the edges of the whole. Fields that are too small for the network are surrounded
    by sky without galaxies, and covered as far as the inner part of one field of the network goes.

    Args:
        model: a trained network.
        data: shear map of `PIXEL_ARCMIN`.
        step: output pixels between neighbouring fields, at most; never more than one field's
            part inside the border.

    Raises:
        ValueError: for a network whose fields have no part inside the border.
    """
    images = network_images(data, model.network.channels)
    ny, nx = data.grid.shape
    low, left = (max(0, -(-(model.side - n) // 2)) for n in (ny, nx))
    if low or left:
        empty = jnp.zeros(model.network.channels).at[2].set(1)[:, None, None]
        outside = jnp.pad(
            jnp.zeros((ny, nx), bool), ((low, low), (left, left)), constant_values=True
        )
        around = ((0, 0), (low, low), (left, left))
        images = jnp.where(outside[None], empty, jnp.pad(images, around))
    side = output_side(model.side)
    inside = side - 2 * BORDER
    if inside < 1:
        raise ValueError(
            f"the network takes images of {model.side} pixels a side; expected {LEAST_SIDE} or "
            "more, of which the border that training leaves out leaves something"
        )
    kept = slice(BORDER, side - BORDER)
    tall, wide = (output_side(n) for n in images.shape[1:])
    total, number = np.zeros((tall, wide)), np.zeros((tall, wide))
    apart = min(step, inside)  # further, and stripes between fields would be missing
    starts = [(y, x) for y in _starts(tall, side, apart) for x in _starts(wide, side, apart)]
    for first in range(0, len(starts), _AT_ONCE):
        part = starts[first : first + _AT_ONCE]
        filled = (part + starts)[: min(_AT_ONCE, len(starts))]  # one size for all batches
        found = np.asarray(_apply(model, images, POOL * jnp.asarray(filled)))
        for (row, column), one in zip(part, found, strict=False):
            place = slice(row, row + side), slice(column, column + side)
            total[place][kept, kept] += one[kept, kept]
            number[place][kept, kept] += 1
    mean = np.where(number > 0, total / np.maximum(number, 1), 0)
    full = []
    for values in (mean, number > 0):
        # The first output pixel begins a pixel inside.
        large = np.zeros(images.shape[1:], values.dtype)
        repeated = values.repeat(POOL, axis=0).repeat(POOL, axis=1)
        first = FIRST_WIDTH // 2
        large[first : first + len(repeated), first : first + repeated.shape[1]] = repeated
        full.append(large[low : low + ny, left : left + nx])
    return Mosaic(jnp.asarray(full[0], images.dtype), jnp.asarray(full[1]))


def warn_of_depth(data: ShearMap, factor: float = 1.25) -> None:
    """Say if galaxies are more or fewer, or noisier, than those of the training."""
    pixel, (ny, nx) = data.grid.pixel_arcmin, data.grid.shape
    side = min(_BLOCK, ny, nx)
    weight = np.asarray(data.weight, float).mean(axis=0)[: ny // side * side, : nx // side * side]
    sums = weight.reshape(ny // side, side, nx // side, side).sum(axis=(1, 3))
    if not sums.any():
        return
    noise = side * pixel / np.sqrt(np.median(sums[sums > 0]))
    if not NOISE / factor <= noise <= NOISE * factor:
        log.warning(
            "the shear noise of a square arcminute is %.3g, and %.3g in the network's training; "
            "compare with --method wiener before you rely on it",
            noise,
            NOISE,
        )


def _starts(tall: int, side: int, step: int) -> list[int]:
    """First pixels of fields that cover a side, evenly spread."""
    room = tall - side
    return sorted({round(part) for part in np.linspace(0, room, 1 + -(-room // step))})


@jax.jit
def _apply(model: ClusterNetwork, images: jax.Array, starts: jax.Array) -> jax.Array:
    # What the network makes its output of: pixels beyond could reach past the end of the images.
    used = FIRST_WIDTH - 1 + POOL * output_side(model.side)
    size = (images.shape[0], used, used)
    fields = jax.vmap(lambda at: jax.lax.dynamic_slice(images, (0, at[0], at[1]), size))(starts)
    return model.scale.astype(images.dtype) * apply_hong(model.network, model.params, fields)


def write_cluster_network(
    path: str | Path, model: ClusterNetwork, training: dict[str, Any]
) -> None:
    """Write a network to ``.npz``: float32 arrays and a JSON header.

    Args:
        path: of the file.
        model: the trained network.
        training: how it was trained, as plain values.
    """
    network = {
        "width": model.network.width,
        "channels": model.network.channels,
        "skip4": model.network.skip4,
        "skip": model.network.skip,
    }
    header = {
        "kind": KIND,
        "network": network,
        "side": model.side,
        "scale": float(model.scale),
        "pixel_arcmin": PIXEL_ARCMIN,
        "training": training,
    }
    write_weights(path, model.params, header)


def read_cluster_network(
    path: str | Path | None = None,
) -> tuple[ClusterNetwork, dict[str, Any]]:
    """Read a file of `write_cluster_network`; the network and the file's header.

    Args:
        path: of the file; None for the shipped one (``jaxmap/data/README.md``).

    Raises:
        ValueError: for a file that is not whole, or of another kind.
    """
    if path is None:
        with resources.as_file(resources.files("jaxmap") / "data" / SHIPPED) as shipped:
            return read_cluster_network(shipped)
    with network_file(path, KIND, "hong") as (arrays, header):
        network = HongNetwork(**header["network"])
        params = fitted_to(partial(initialise_hong, network), arrays)
        scale = jnp.asarray(above_zero(header["scale"]))
        side = int(header["side"])
        if not FIRST_WIDTH <= side <= 4 * SIDE:
            raise ValueError(f"the side of its images is {side}")
        model = ClusterNetwork(params, scale, network, side)
    return model, header
