"""Figures of images, their sizes and colours: arrays in, a matplotlib `Figure` out (no files)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax.explore import style
from skinjax.plots import DISCLAIMER

# Paul Tol's "bright" scheme: light enough to stay apart from black.
_CHANNELS = (("red", "#EE6677"), ("green", "#228833"), ("blue", "#4477AA"))
_PICTURE = 112  # pixels, about, that a small picture's side is drawn at least


def sizes(size_K2: np.ndarray, count_K: np.ndarray, *, caption: str) -> Figure:
    """Width against height of the images; the disc's area grows with how many have that size."""
    figure = style.figure_with((6.6, 5.6), caption)
    axes = figure.add_subplot()
    area_K = 12 + 900 * count_K / count_K.sum()
    axes.scatter(size_K2[:, 1], size_K2[:, 0], s=area_K, color=style.SECOND, alpha=0.4)
    axes.set_xlabel("width in pixels")
    axes.set_ylabel("height in pixels")
    for values_K, set_limit in ((size_K2[:, 1], axes.set_xlim), (size_K2[:, 0], axes.set_ylim)):
        margin = 0.12 * values_K.max()
        set_limit(max(0, values_K.min() - margin), values_K.max() + margin)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def mean_colours(
    mean_C3: np.ndarray, deviation_C3: np.ndarray, names: Sequence[str], *, caption: str
) -> Figure:
    """Each class's mean red, green and blue with how far images lie from it, and that colour."""
    figure = style.figure_with((8.6, 2.1 + 0.4 * len(names)), caption)
    axes = figure.add_subplot()
    for channel, (name, colour) in enumerate(_CHANNELS):
        place_C = np.arange(len(names)) + 0.2 * (channel - 1)
        axes.errorbar(
            mean_C3[:, channel],
            place_C,
            xerr=deviation_C3[:, channel],
            fmt="o",
            color=colour,
            label=name,
            markersize=5,
            elinewidth=1.4,
            capsize=2,
        )
    for place, mean_3 in enumerate(mean_C3):
        if np.isfinite(mean_3).all():
            axes.scatter(-22, place, marker="s", s=150, color=mean_3 / 255, clip_on=False)
        else:
            axes.text(4, place, "no image", va="center", color=style.GREY, fontsize=8)
    axes.set_xlim(-44, 259)
    axes.set_xticks(range(0, 256, 51))
    axes.set_xlabel("mean of an image, 0 to 255 (bar: standard deviation between images)")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    style.name_axis(axes, names)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def colour_histograms(histogram_C3V: np.ndarray, names: Sequence[str], *, caption: str) -> Figure:
    """How often each value of red, green and blue occurs, one panel for each class with images."""
    shown = [c for c in range(len(names)) if histogram_C3V[c].any()]
    width = min(4, len(shown))
    height = -(-len(shown) // width)
    figure = style.figure_with((1.2 + 2.6 * max(width, 2), 1.6 + 1.75 * height), caption)
    panels = figure.subplots(height, width, sharex=True, squeeze=False).flat
    for axes, place in zip(panels, shown, strict=False):
        # Sixteen bins of 16 values: of single values one would see JPEG's rounding.
        histogram_3B = histogram_C3V[place].reshape(3, 16, 16).sum(axis=2)
        share_3B = histogram_3B / histogram_3B.sum(axis=1, keepdims=True)
        for share_B, (name, colour) in zip(share_3B, _CHANNELS, strict=True):
            axes.plot(np.arange(8, 256, 16), share_B, color=colour, label=name, linewidth=1.5)
        axes.set_title(style.plain(names[place], 30), fontsize=8)
        axes.set_xlim(0, 255)
        axes.set_xticks((0, 128, 255))
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
    for axes in figure.axes[len(shown) :]:
        axes.remove()
    for axes in figure.axes[-width:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("value", fontsize=9)
    figure.axes[0].legend(fontsize=7, frameon=False)
    return figure


def pictures(
    tiles: Sequence[np.ndarray], labels: Sequence[str], *, columns: int, caption: str
) -> Figure:
    """Small uint8 RGB pictures in rows, each pixel one of the figure's, with a label below each."""
    side = max(max(tile.shape[:2]) for tile in tiles)
    scale = max(1, round(_PICTURE / side))  # so that tiny images can be seen
    side = side * scale
    lines = max(label.count("\n") for label in labels) + 1
    row, column = side + 8 + 17 * lines, max(side, _PICTURE) + 12
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas_HWC = np.full((rows * row, columns * column, 3), 255, np.uint8)
    texts = []
    longest = int(column / 7.5)  # pixels a character, of the widest usual ones
    for place, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        large = tile.repeat(scale, 0).repeat(scale, 1)
        top = place // columns * row
        left = place % columns * column + (column - large.shape[1]) // 2
        canvas_HWC[top : top + large.shape[0], left : left + large.shape[1]] = large
        text = "\n".join(style.plain(line, longest) for line in label.split("\n"))
        texts.append((place % columns * column + column / 2, top + side + 4, text))
    return _canvas(canvas_HWC, texts, caption)


def _canvas(
    canvas_HWC: np.ndarray, texts: Sequence[tuple[float, float, str]], caption: str
) -> Figure:
    """A figure with an image pixel by pixel, texts (x, y, text) in it, and a caption above."""
    height, width = canvas_HWC.shape[:2]
    total_width = max(width, 4 * style.DPI)
    wrapped = style.wrap(caption, total_width / style.DPI)
    above, below = 12 + 22 * (wrapped.count("\n") + 1), 26
    total_height = above + height + below
    figure = Figure(figsize=(total_width / style.DPI, total_height / style.DPI), dpi=style.DPI)
    left = (total_width - width) // 2
    axes = figure.add_axes(
        (left / total_width, below / total_height, width / total_width, height / total_height)
    )
    axes.imshow(canvas_HWC, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for x, y, text in texts:
        axes.text(x, y, text, ha="center", va="top", fontsize=6.5)
    figure.text(0.5, 1 - 8 / total_height, wrapped, ha="center", va="top", fontsize=10)
    place: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "color": style.GREY}
    figure.text(0.5, 6 / total_height, DISCLAIMER, **place)
    return figure
