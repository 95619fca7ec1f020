"""Pictures of mass maps; needs the ``plot`` extra (matplotlib)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

import jaxmap
from jaxmap.arrayfiles import parsed_json
from jaxmap.files import atomic_path
from jaxmap.grid import Grid
from jaxmap.massmap import MassMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIGNATURE, _RECORD = b"\x89PNG\r\n\x1a\n", "jaxmap"


def save_picture(path: str | Path, figure: Figure, record: Mapping[str, Any], **how: Any) -> None:
    """Write a figure as PNG, whole or not at all, with its record among the texts of the file.

    Args:
        path: of the file.
        figure: to draw.
        record: how it came to be, anything JSON can hold.
        how: further arguments of ``figure.savefig``.
    """
    about = {"Software": f"jaxmap {jaxmap.__version__}", _RECORD: json.dumps(record)}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata=about, **how)


def record_of_picture(path: str | Path) -> Any:
    """The record that `save_picture` wrote into a file; an empty one of earlier versions.

    Raises:
        ValueError: if it is none of ours.
    """
    head = f"{_RECORD}\0".encode()
    texts = [content for kind, content in picture_chunks(path) if kind == b"tEXt"]
    for content in texts:
        if content.startswith(head):
            return parsed_json(content.removeprefix(head))
    if any(content.startswith(b"Software\0jaxmap ") for content in texts):
        return {}
    raise ValueError("it holds no record")


def picture_chunks(path: str | Path) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the parts of a PNG file.

    Raises:
        ValueError: if it is none, or cut short.
    """
    with open(path, "rb") as file:
        size = Path(path).stat().st_size
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise ValueError("it is no PNG")
        while head := file.read(8):
            length = int.from_bytes(head[:4], "big")
            if length > size - file.tell():
                raise ValueError("it is cut short")
            yield head[4:], file.read(length)
            file.seek(4, 1)  # its checksum


def plot_mass_map(mass_map: MassMap, title: str = "", truth: ArrayLike | None = None) -> Figure:
    """Draw convergence, a sample, standard deviation, S/N and B mode, as far as they are known.

    Every panel has sky axes (when the grid is on the sky), the outline of the observed area and a
    scale bar; E and B mode share one colour scale, so that a B mode of the size of the signal is
    seen as such.

    Args:
        mass_map: what to draw.
        title: line above the panels.
        truth: a known convergence to draw beside it, in the same colours.

    Returns:
        The matplotlib figure; save it with ``figure.savefig(...)``.

    Raises:
        ImportError: without matplotlib, with the way to install it.
    """
    mask = np.asarray(mass_map.mask)
    convergence = np.asarray(mass_map.convergence)
    limit = float(np.quantile(np.abs(convergence[mask if mask.any() else ...]), 0.998)) or 1.0
    colours = {"cmap": "magma", "vmin": -limit, "vmax": limit}
    panels: list[tuple[str, Any, dict[str, Any]]] = [
        (r"convergence $\kappa$", convergence, colours)
    ]
    if truth is not None:
        panels.append(("truth", np.asarray(truth), colours))
    if mass_map.samples is not None:
        panels.append(("one posterior sample", np.asarray(mass_map.samples[0]), colours))
    if mass_map.std is not None:
        std = np.asarray(mass_map.std)
        low, high = np.quantile(std, [0.002, 0.998])
        panels.append(("standard deviation", std, {"cmap": "viridis", "vmin": low, "vmax": high}))
        snr = np.asarray(mass_map.signal_to_noise)
        panels.append(("signal to noise", snr, {"cmap": "RdBu_r", "vmin": -5, "vmax": 5}))
    if mass_map.b_mode is not None:
        panels.append(("B mode (noise, leakage at masks)", np.asarray(mass_map.b_mode), colours))
    figure, places = _figure_for(len(panels), mass_map.grid, title)
    for axes, (label, image, style) in zip(places, panels, strict=True):
        drawn = _draw(axes, label, image, mass_map, style)
        bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03, extend="both")
        bar.set_label("S/N" if label == "signal to noise" else r"$\kappa$")
    figure.tight_layout()
    return figure


def plot_mass_maps(maps: Mapping[str, MassMap], title: str = "") -> Figure:
    """Draw several maps of one field in the same colours, each less its mean over its mask.

    Args:
        maps: by the words above them, on one grid.
        title: line above the panels.

    Returns, raises:
        As `plot_mass_map`.
    """
    images = {name: np.asarray(each.convergence) for name, each in maps.items()}
    masks = {name: np.asarray(each.mask) for name, each in maps.items()}
    images = {name: image - image[masks[name]].mean() for name, image in images.items()}
    observed = np.concatenate([image[masks[name]] for name, image in images.items()])
    low, high = np.quantile(observed, [0.002, 0.998])
    style = {"cmap": "magma", "vmin": low, "vmax": high}
    grid = next(iter(maps.values())).grid
    figure, places = _figure_for(len(maps), grid, title, layout="constrained")
    for axes, (name, image) in zip(places, images.items(), strict=True):
        drawn = _draw(axes, name, image, maps[name], style)
    bar = figure.colorbar(drawn, ax=places, fraction=0.03, pad=0.02, extend="both")
    bar.set_label("convergence, less its mean over the observed pixels")
    return figure


def _figure_for(
    count: int, grid: Grid, title: str, layout: Literal["constrained"] | None = None
) -> tuple[Figure, list[Any]]:
    """A figure with a title and so many panels of a grid."""
    columns = 3 if count > 4 else min(count, 2)
    rows = -(-count // columns)
    ny, nx = grid.shape
    height = 0.5 + rows * 4.4 * float(np.clip(ny / nx, 0.5, 1.6))
    figure = new_figure(5.2 * columns, height, layout)
    projection = None if grid.centre_deg is None else grid.wcs()
    places = [
        figure.add_subplot(rows, columns, index + 1, projection=projection)
        for index in range(count)
    ]
    if title:
        readable = title.encode("utf-8", "replace").decode()
        figure.suptitle(readable, fontsize=12, parse_math=False)
    return figure, places


def _draw(axes: Any, label: str, image: Any, mass_map: MassMap, style: dict[str, Any]) -> Any:
    """One panel; returns what a colour bar is of."""
    drawn = axes.imshow(image, origin="lower", interpolation="nearest", **style)
    axes.set_title(label, fontsize=11)
    mask = np.asarray(mass_map.mask)
    _outline(axes, mask, "black" if style["cmap"] == "RdBu_r" else "white")
    _scale_bar(axes, mass_map)
    _label_axes(axes, on_sky=mass_map.grid.centre_deg is not None)
    return drawn


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """A figure without pyplot: drawn to a file on any machine, shown in notebooks, no global state.

    Args:
        width, height: in inches.
        layout: of matplotlib, or None.

    Raises:
        ImportError: without matplotlib, with the way to install it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'pictures need matplotlib: install it with pip install "jaxmap[plot]"'
        ) from error

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:  # what notebooks ask for
            stream = io.BytesIO()
            self.savefig(stream, format="png")
            return stream.getvalue()

    figure = ShownFigure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _outline(axes: Axes, mask: np.ndarray, colour: str) -> None:
    """Contour of the observed area, smoothed: every single empty pixel would hide the map."""
    if mask.all() or not mask.any():
        return
    from scipy.ndimage import uniform_filter

    width = max(3, min(mask.shape) // 40)
    smooth = uniform_filter(mask.astype(float), width, mode="constant")
    if smooth.min() < 0.5 < smooth.max():
        axes.contour(smooth, levels=[0.5], colors=colour, linewidths=0.8, alpha=0.9)


def _scale_bar(axes: Axes, mass_map: MassMap) -> None:
    width_arcmin = mass_map.grid.shape[1] * mass_map.grid.pixel_arcmin
    steps = np.outer(10.0 ** np.arange(-3, 5), [1, 2, 5]).ravel()
    length = steps[steps <= width_arcmin / 4].max(initial=steps[0])
    pixels = length / mass_map.grid.pixel_arcmin
    name = f"{length / 60:g}°" if length >= 60 else f"{length:g}′"
    ny, nx = mass_map.grid.shape
    x, y = 0.05 * nx, 0.05 * ny
    for colour, width in (("black", 4.0), ("white", 2.0)):
        axes.plot([x, x + pixels], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    text = axes.text(x + pixels / 2, y + 0.015 * ny, name, color="white", ha="center", va="bottom")
    from matplotlib.patheffects import withStroke

    text.set_path_effects([withStroke(linewidth=2, foreground="black")])
    axes.set_xlim(-0.5, nx - 0.5)
    axes.set_ylim(-0.5, ny - 0.5)


def _label_axes(axes: Any, on_sky: bool) -> None:
    if not on_sky:
        axes.set_xlabel("x [pixels]")
        axes.set_ylabel("y [pixels]")
        return
    right_ascension, declination = axes.coords
    right_ascension.set_axislabel("right ascension", fontsize=9)
    declination.set_axislabel("declination", fontsize=9, minpad=0.9)
    for coordinate in (right_ascension, declination):
        coordinate.set_ticklabel(size=8, exclude_overlapping=True)
        coordinate.set_major_formatter("d.d")
        coordinate.set_ticks(number=5)
