"""What the report's figures share: colours, captions, axes. No pyplot, no files."""

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DISCLAIMER = "For research and education, not for diagnosis."
# Paul Tol's "muted" scheme (Tol, SRON/EPS/TN/09-002): nine colours that stay apart for
# colour-blind readers, the most distinct first. Line styles tell a tenth class from the first.
COLOURS = (
    *("#332288", "#CC6677", "#117733", "#88CCEE", "#AA4499"),
    *("#999933", "#882255", "#44AA99", "#DDCC77"),
)
STYLES = ("solid", "dashed", "dashdot")
GREY = "#777777"


def figure_with(size: tuple[float, float], caption: str) -> Figure:
    """An empty figure with its caption wrapped to its width, and the disclaimer at its foot."""
    figure = Figure(figsize=size, layout="constrained", dpi=130)
    width = int(size[0] * 12)
    lines = [part for line in caption.splitlines() for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), fontsize=11)
    figure.supxlabel(DISCLAIMER, fontsize=8, color=GREY)
    return figure


def curve_axes(caption: str, xlabel: str) -> tuple[Figure, Axes]:
    figure = figure_with((7, 5.8), caption)
    axes = figure.add_subplot()
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_aspect("equal", anchor="W")
    axes.set_xlabel(xlabel)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    return figure, axes


def legend_beside(axes: Axes) -> None:
    """A legend to the right of square axes, and the figure just as wide as both need."""
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=9, frameon=False
    )
    longest = max(len(text.get_text()) for text in legend.get_texts())
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.set_figwidth(6.0 + 0.073 * longest)


def line_style(index: int) -> dict[str, Any]:
    style = STYLES[index // len(COLOURS) % len(STYLES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": style, "linewidth": 1.7}


def with_counts(classes: Any, support_C: Any) -> list[str]:
    return [f"{name} (n={n})" for name, n in zip(classes, support_C, strict=True)]
