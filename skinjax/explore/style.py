"""How the figures of the page look: layout, colours, and names as they may be drawn.

Names come from users' files, so every one of them goes through `plain`.
"""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skinjax.plots import DISCLAIMER

DPI = 130
LONGEST = 40  # characters of a name that are drawn; the tables have all of it
# Of Paul Tol's "muted" scheme, as in `plots`.
BAR, SECOND, THIRD = "#88CCEE", "#332288", "#CC6677"
GREY = "#777777"


def figure_with(size: tuple[float, float], caption: str) -> Figure:
    """An empty figure with its caption wrapped to its width, and the disclaimer at its foot."""
    figure = Figure(figsize=size, dpi=DPI)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    figure.suptitle(wrap(caption, size[0]), fontsize=11)
    figure.supxlabel(DISCLAIMER, fontsize=8, color=GREY)
    return figure


def wrap(caption: str, width: float) -> str:
    """The caption in lines that fit a figure `width` inches wide."""
    lines = caption.split("\n")
    return "\n".join(
        part for line in lines for part in textwrap.wrap(plain(line, 400), int(width * 12))
    )


def name_axis(axes: Axes, names: Sequence[str]) -> None:
    """Names from the top down, at 0, 1, 2..."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def plain(name: str, longest: int = LONGEST) -> str:
    """A name as one short line, without matplotlib's mathematics ($)."""
    return shorten(name, longest).replace("$", r"\$")


def shorten(name: str, longest: int) -> str:
    """A name as one line of at most `longest` characters, cut in the middle."""
    name = " ".join(name.encode("utf-8", "replace").decode("utf-8").split())
    if len(name) <= longest:
        return name
    tail = longest // 3  # names of one family often differ at the end alone
    return f"{name[: longest - 1 - tail]}…{name[-tail:]}"
