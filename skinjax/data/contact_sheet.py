"""Contact sheets: what the steps of preprocessing make of some images, before and after."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from skinjax.data import preprocess

_TILE = 1.7  # side of an image, in inches
_GAP = 0.08  # between columns
_BELOW = 0.24  # each row, with the sizes
_DPI = 110
_TITLE_CHARACTERS = 20
_HEADINGS = {
    "crop_border": "Black-border crop",
    "remove_hair": "Hair removal",
    "color_constancy": "Colour constancy (Shades of Gray)",
    "clahe": "CLAHE",
}


def write_all(
    directory: Path, images: Sequence[np.ndarray], titles: Sequence[str], image_size: int
) -> list[Path]:
    """Writes a sheet for each step, `<step>.png`, and one for the resizing, `resize.png`.

    Args:
      directory: made where it isn't there.
      images: uint8 (H, W, 3), RGB, as published; H and W may differ.
      titles: one for each image.
      image_size: side that the resizing brings the images to, in pixels.

    Returns:
      The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for step in preprocess.STEPS:
        paths.append(directory / f"{step}.png")
        write(paths[-1], images, step, titles)
    rows = {"before": list(images)}
    for resize in preprocess.RESIZES:
        resized = preprocess.Preprocess(resize=resize, image_size=image_size).resized
        rows[resize] = [resized(image_HWC) for image_HWC in images]
    paths.append(directory / "resize.png")
    write_rows(paths[-1], rows, heading=f"Resizing to {image_size} x {image_size}", titles=titles)
    return paths


def write(path: Path, images: Sequence[np.ndarray], step: str, titles: Sequence[str]) -> None:
    """Writes one sheet: the images in a row, and below them what the step makes of them.

    Args:
      path: of the PNG.
      images: uint8 (H, W, 3), RGB.
      step: a key of `preprocess.STEPS`.
      titles: one for each image.
    """
    after = [preprocess.STEPS[step](image_HWC) for image_HWC in images]
    rows = {"before": list(images), "after": after}
    write_rows(path, rows, heading=_HEADINGS[step], titles=titles)


def write_rows(
    path: Path, rows: dict[str, list[np.ndarray]], *, heading: str, titles: Sequence[str]
) -> None:
    """Writes rows of uint8 RGB images to a PNG, whose bytes depend on nothing else.

    Args:
      path: of the PNG.
      rows: equally many images by the row's label.
      heading: above all.
      titles: above each column.
    """
    if not titles:
        raise ValueError("a contact sheet needs an image")
    wrapped = [_title(title) for title in titles]
    tall = [max(_tile(image_HWC)[1] for image_HWC in row) for row in rows.values()]
    # In inches: the labels at the left, the heading and the titles at the top.
    left, top = 0.75, 0.42 + 0.14 * max(title.count("\n") + 1 for title in wrapped)
    width = max(left + len(titles) * (_TILE + _GAP), 0.5 + 0.1 * len(heading))
    height = top + sum(tall) + len(tall) * _BELOW
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def write_text(x: float, y: float, text: str, size: float, **options: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size, parse_math=False, **options)

    write_text(0.1, 0.1, heading, 11, va="top")
    for column, title in enumerate(wrapped):
        middle = left + column * (_TILE + _GAP) + _TILE / 2
        write_text(middle, top - 0.05, title, 8, ha="center", va="bottom")
    y = top
    for (label, images), row_height in zip(rows.items(), tall, strict=True):
        write_text(0.1, y + row_height / 2, label, 9, va="center")
        for column, image_HWC in enumerate(images):
            tile_width, tile_height = _tile(image_HWC)
            x = left + column * (_TILE + _GAP) + (_TILE - tile_width) / 2
            bottom = height - y - (row_height + tile_height) / 2
            axes = figure.add_axes(
                (x / width, bottom / height, tile_width / width, tile_height / height)
            )
            # Few pixels are shown as such; many are averaged.
            how = "antialiased" if max(image_HWC.shape[:2]) > _TILE * _DPI else "nearest"
            axes.imshow(image_HWC, interpolation=how, aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color="#BBBBBB", linewidth=0.5)  # so that white ends somewhere
            size = f"{image_HWC.shape[1]} x {image_HWC.shape[0]}"
            axes.set_xlabel(size, fontsize=7, labelpad=2, color="#777777")
        y += row_height + _BELOW
    figure.savefig(path, format="png", metadata={"Software": None})


def _tile(image_HWC: np.ndarray) -> tuple[float, float]:
    """Width and height at which an image is shown, in inches; a line's are of two pixels."""
    height, width = image_HWC.shape[:2]
    scale = _TILE / max(height, width)
    return max(width * scale, 2 / _DPI), max(height * scale, 2 / _DPI)


def _title(title: str) -> str:
    lines = textwrap.wrap(title, _TITLE_CHARACTERS) or [""]
    return "\n".join(
        lines if len(lines) < 3 else [lines[0], lines[1][: _TITLE_CHARACTERS - 1] + "…"]
    )
