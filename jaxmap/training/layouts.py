"""How training fields are cut from maps: whole maps, taken for periodic, and windows of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxmap.grid import Grid
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.lightcone import LightCone, halo_light_cone


@dataclass(frozen=True)
class Layout:
    """Fields of one kind.

    Args:
        side: of the map that is simulated, or cut, in pixels; periodic.
        batch: fields in a step.
        share: how often steps take this layout, relative to the others.
        window: side of the observed field; 0 for the whole map. The shear in a window comes from
            the whole map, so that mass outside it acts, as on the sky; the larger the map, the
            more of it.
        margin: unobserved pixels around a window, which then form the network's periodic grid.
    """

    side: int
    batch: int
    share: float = 1.0
    window: int = 0
    margin: int = 0

    def __post_init__(self) -> None:
        if self.side < 8 or self.batch < 1 or not self.share > 0:
            raise ValueError(
                f"layout has side {self.side}, batch {self.batch} and share {self.share}; expected "
                "a side of 8 pixels or more, a batch of 1 or more and a share above 0"
            )
        if (
            not 0 <= self.window <= self.side
            or self.margin < 0
            or (self.margin and not self.window)
        ):
            raise ValueError(
                f"layout has window {self.window} and margin {self.margin} in a map of {self.side} "
                "pixels; expected a window no larger than the map, and a margin only with a window"
            )

    def grid(self, pixel_arcmin: float) -> Grid:
        """The grid that the network sees."""
        side = self.window + 2 * self.margin if self.window else self.side
        return Grid((side, side), pixel_arcmin)


class Fields(Protocol):
    """Where convergence maps come from; a pytree, so that it can be an argument of ``jax.jit``."""

    @property
    def rim(self) -> int:
        """Pixels along the edges of a map where its shear is wrong; 0 for periodic maps."""

    def draw(self, key: jax.Array, side: int) -> jax.Array:
        """One map, shape ``(side, side)``."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SimulatedFields:
    """Maps of the halo light cone, made as they are needed, by the side of the map."""

    cones: dict[int, LightCone]

    @property
    def rim(self) -> int:
        """None: the maps are periodic."""
        return 0

    def draw(self, key: jax.Array, side: int) -> jax.Array:
        """One periodic map, shape ``(side, side)``."""
        cone = self.cones[side]
        return halo_light_cone(key, cone, cone.grid)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GivenFields:
    """Maps that somebody has made: random cuts of them, turned and mirrored.

    A cut is taken for periodic, and its edges then meet where they should not: the shear is off by
    as much as it has at the edge, by a third of that 5 arcmin inside
    (``experiments/training_rim.py``). Fields of whole cuts live with that, as most published
    trainings do; windows keep away from the edges.

    Args:
        maps: shape ``(num, ny, nx)``.
        rim: pixels that windows keep from the edges of a cut; 0 for periodic maps.
    """

    maps: jax.Array
    rim: int = field(default=0, metadata={"static": True})

    def draw(self, key: jax.Array, side: int) -> jax.Array:
        """A cut of a random map, of zero mean."""
        num, ny, nx = self.maps.shape
        keys = jax.random.split(key, 4)
        number = jax.random.randint(keys[0], (), 0, num)
        row = jax.random.randint(keys[1], (), 0, ny - side + 1)
        column = jax.random.randint(keys[2], (), 0, nx - side + 1)
        cut = jax.lax.dynamic_slice(self.maps, (number, row, column), (1, side, side))[0]
        cut = symmetry(jax.random.randint(keys[3], (), 0, 8), cut)
        return cut - jnp.mean(cut)


def symmetry(number: jax.Array, field: jax.Array) -> jax.Array:
    """One of the 8 symmetries of the square, for scalar fields."""
    field = jnp.where(number & 1, field[::-1], field)
    field = jnp.where(number & 2, field[:, ::-1], field)
    return jnp.where(number & 4, field.T, field)


def spin2_symmetry(number: jax.Array, shear: jax.Array) -> jax.Array:
    r"""The same symmetry for a complex spin-2 field, whose components turn with the axes.

    A mirror along x or y makes :math:`e \to e^*`, the exchange of x and y
    :math:`e \to -e^*`; so a quarter turn changes the sign of both components.
    """
    turned = symmetry(number, shear)
    turned = jnp.where(number & 1, turned.conj(), turned)
    turned = jnp.where(number & 2, turned.conj(), turned)
    return jnp.where(number & 4, -turned.conj(), turned)


def cut_field(
    convergence: jax.Array, layout: Layout, pixel_arcmin: float, rim: int = 0
) -> tuple[jax.Array, ...]:
    """Truth, shear and window of a field, shape of ``layout.grid`` each.

    Args:
        convergence: a whole map, shape ``(side, side)``.
        layout: how to cut it.
        pixel_arcmin: side of a pixel.
        rim: pixels between a window and the edges of the map; the window is ``2 rim`` pixels
            smaller than the map, or more.
    """
    whole = Grid((layout.side, layout.side), pixel_arcmin)
    shear = shear_from_convergence(convergence, whole)
    window = jnp.ones(whole.shape, convergence.dtype)
    if layout.window == 0:
        return convergence, shear, window
    inside = slice(rim, rim + layout.window)

    def embed(field: jax.Array) -> jax.Array:
        return jnp.pad(field[inside, inside], layout.margin)

    return embed(convergence), embed(shear), embed(window)
