"""Figure of runs side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from skinjax.plots.style import COLOURS, GREY, figure_with

_COLUMNS = 2  # legible on a phone too
_LONGEST = 32  # letters of a name


def intervals(
    panels: Sequence[tuple[str, Sequence[float | None], Sequence[Sequence[float] | None]]],
    names: Sequence[str],
    groups: Sequence[Sequence[int]],
    *,
    caption: str,
) -> Figure:
    """One panel for each metric: the runs' values with their intervals, one below the other.

    Args:
      panels: title, and each run's value and [low, high]; None is not available.
      names: of the runs, from the top down; the first is what the others are compared to.
      groups: places of runs that differ only in the seed. They share a colour, and a grey line
        marks their mean.
    """
    num_rows = -(-len(panels) // _COLUMNS)
    height = 0.9 + 0.3 * len(names)
    figure = figure_with((8, 1.2 + num_rows * height), caption)
    grid = figure.subplots(num_rows, _COLUMNS, sharey=True, squeeze=False)
    colour = _colours(len(names), groups)
    for axes, (title, value_K, interval_K) in zip(grid.flat, panels, strict=False):
        for place, (value, interval) in enumerate(zip(value_K, interval_K, strict=True)):
            if value is None:
                middle = float(np.mean(axes.get_xlim()))
                axes.text(middle, place, "not available", color=GREY, ha="center", va="center")
                continue
            axes.plot([value], [place], "o", color=colour[place], markersize=5)
            if interval is not None:
                axes.plot(interval, [place, place], color=colour[place], linewidth=1.8)
        if value_K[0] is not None:
            axes.axvline(value_K[0], color=GREY, linestyle="dotted", linewidth=0.9)
        for group in groups:
            known = [value for place in group if (value := value_K[place]) is not None]
            if known:
                ends = (min(group) - 0.3, max(group) + 0.3)
                axes.plot([np.mean(known)] * 2, ends, color=GREY, linewidth=1.2)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=5)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    shown = [name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}" for name in names]
    grid[0, 0].set_yticks(range(len(names)), shown)
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def _colours(num_runs: int, groups: Sequence[Sequence[int]]) -> list[str]:
    """One colour for each group; the runs that are in none share the first."""
    colour = [COLOURS[0]] * num_runs
    for index, group in enumerate(groups, start=1):
        for place in group:
            colour[place] = COLOURS[index % len(COLOURS)]
    return colour
