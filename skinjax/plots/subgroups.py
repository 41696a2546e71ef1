"""The figure of the main metrics by subgroup."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax.plots.style import COLOURS, GREY, figure_with

_WIDTH = 2.5  # of a panel, in inches
_HEIGHT = 0.24  # of a line
_SMALL = "#999999"


def forest(
    columns: Mapping[str, Mapping[str, Mapping[str, Any]]],
    overall: Mapping[str, float | None],
    titles: Mapping[str, str],
    *,
    minimum: int,
    caption: str,
) -> Figure:
    """A panel for each metric, a line for each group: value and interval; dashed is the whole.

    Args:
      columns: {column: {group: its metrics, `num_examples` and `intervals`}}.
      overall: the metrics of all images together.
      titles: of the metrics, which are the panels.
      minimum: groups of fewer images are drawn in grey, as are those without an interval.
      caption: stands over the figure.
    """
    lines: list[tuple[str, Mapping[str, Any] | None]] = []
    for column, groups in columns.items():
        lines.append((column, None))
        lines += list(groups.items())
    size = (2.2 + _WIDTH * len(titles), 1.9 + _HEIGHT * len(lines))
    figure = figure_with(size, caption)
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        _draw(axes, lines, metric, minimum)
        if overall.get(metric) is not None:
            axes.axvline(overall[metric], color=GREY, linestyle="dashed", linewidth=1)
        axes.set_title(title, fontsize=10)
    names = [
        name if group is None else f"{_short(name)} (n={group['num_examples']})"
        for name, group in lines
    ]
    panels[0].set_yticks(range(len(lines)), names, fontsize=8)
    for label, (_, group) in zip(panels[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if group is None else "normal")
    panels[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


def _draw(
    axes: Axes, lines: list[tuple[str, Mapping[str, Any] | None]], metric: str, minimum: int
) -> None:
    for place, (_, group) in enumerate(lines):
        if group is None:
            axes.axhspan(place - 0.5, place + 0.5, color="#F0F0F0")
            continue
        value = group[metric]
        if value is None:
            axes.text(0.5, place, "not available", ha="center", va="center", color=GREY, fontsize=7)
            continue
        intervals = group["intervals"]
        interval = intervals.get(metric) if intervals else None
        too_few = interval is None if intervals else group["num_examples"] < minimum
        colour = _SMALL if too_few else COLOURS[0]
        if interval is not None:
            axes.plot(interval, [place, place], color=colour, linewidth=1.4)
        axes.plot([value], [place], color=colour, marker="o", markersize=4)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)


def _short(name: str) -> str:
    """A group's name as long as there is room for."""
    return name if len(name) <= 28 else f"{name[:27]}…"
