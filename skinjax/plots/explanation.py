"""Figures of maps over images: what in an image speaks for a class."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skinjax.plots.style import GREY, figure_with

_COLOURS = "viridis"  # rising in lightness, and told apart by colour-blind readers
_OPACITY = 0.5
_CHARACTERS = 11  # on an inch of a column, above a panel


def overlay(
    shown_HWC: np.ndarray, map_HW: np.ndarray, *, caption: str, titles: tuple[str, str]
) -> Figure:
    """An image, and beside it the map over the image, with a scale.

    Args:
      shown_HWC: uint8 RGB, cut as the network saw it, at any size.
      map_HW: float32 in [0, 1], at any size.
      caption: above both.
      titles: above each.
    """
    figure = figure_with((8.2, 4.9), plain(caption))
    left, right = figure.subplots(1, 2)
    draw_image(left, shown_HWC, titles[0])
    draw_map(right, shown_HWC, map_HW, titles[1])
    scale(figure, [right])
    return figure


def draw_image(axes: Axes, image_HWC: np.ndarray, title: str) -> None:
    """The image alone."""
    _panel(axes, title)
    _show(axes, image_HWC)


def draw_map(axes: Axes, image_HWC: np.ndarray, map_HW: np.ndarray, title: str) -> None:
    """The image in grey under the map in colours; a map of zeros is said to be one."""
    _panel(axes, title)
    # In its own colours the image could not be told from the map's.
    grey_HW = image_HWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    height, width = image_HWC.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    _show(axes, grey_HW, cmap="gray", vmin=0, vmax=255)
    few = map_HW.shape[0] < 100
    axes.imshow(
        map_HW, cmap=_COLOURS, vmin=0, vmax=1, alpha=_OPACITY, extent=extent,
        interpolation="nearest" if few else "bilinear",
    )  # fmt: skip
    if not map_HW.any():
        axes.set_xlabel("0 everywhere: nothing here speaks for this class", fontsize=8)


def draw_missing(axes: Axes, title: str, why: str) -> None:
    """A panel that is not available."""
    _panel(axes, title)
    axes.set_facecolor("#EEEEEE")
    axes.set_box_aspect(1)
    text = "\n".join(["not available", *textwrap.wrap(why, _width(axes))[:7]])
    axes.text(
        0.5, 0.5, plain(text), transform=axes.transAxes, ha="center", va="center", fontsize=8,
        color=GREY,
    )  # fmt: skip


def scale(figure: Figure, panels: Sequence[Axes]) -> None:
    """The colours of the maps in these panels."""
    image = panels[0].images[-1]
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8, ticks=[0, 0.5, 1])
    bar.set_label("share of this map's largest value", fontsize=8)


def plain(text: str) -> str:
    """Text that matplotlib draws as it is: a dollar sign, as in a file's name, is no formula."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # File names in scripts that the font lacks: boxes here, right in the tables.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panel(axes: Axes, title: str) -> None:
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, _width(axes))]
    axes.set_title(plain("\n".join(lines)), fontsize=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#BBBBBB", linewidth=0.5)


def _width(axes: Axes) -> int:
    """Characters of a line that fit above a panel."""
    figure, place = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None
    assert place is not None
    return int(_CHARACTERS * figure.get_figwidth() / place.get_gridspec().ncols)


def _show(axes: Axes, image: np.ndarray, **options: Any) -> None:
    # Few pixels are shown as such; many are averaged.
    few = max(image.shape[:2]) < 200
    axes.imshow(image, interpolation="nearest" if few else "antialiased", **options)
