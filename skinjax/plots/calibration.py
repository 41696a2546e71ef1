"""Reliability plots: how often predictions of a confidence are right."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from skinjax.plots.style import COLOURS, GREY, figure_with

_WIDTH = 3.9  # of a panel, in inches
_PER_ROW = 2


def reliability(panels: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], caption: str) -> Figure:
    """A panel for each table of predictions: accuracy against confidence, and where images lie.

    The intervals of the bins take images as independent, also those of one lesion.

    Args:
      panels: pairs of a title and what `metrics.reliability` gives: bins with `confidence` and
        `accuracy` (means, None for an empty bin), `count`, and the bin's edges `low` and `high`.
      caption: stands over the figure.
    """
    columns = min(len(panels), _PER_ROW)
    rows = math.ceil(len(panels) / _PER_ROW)
    figure = figure_with((_WIDTH * max(columns, 1) + 0.6, 1.0 + 5.0 * rows), caption)
    heights = [3.4, 1] * rows
    grid = figure.add_gridspec(2 * rows, max(columns, 1), height_ratios=heights)
    first: Axes | None = None
    for index, (title, bins) in enumerate(panels):
        row, column = divmod(index, _PER_ROW)
        upper = figure.add_subplot(grid[2 * row, column])
        # One scale of counts for all panels, so that before and after can be compared.
        lower = figure.add_subplot(grid[2 * row + 1, column], sharex=upper, sharey=first)
        first = first or lower
        _draw(upper, lower, title, [one for one in bins if one["count"]])
        if index == 0:
            upper.legend(loc="upper left", fontsize=8, frameon=False)
        if column == 0:
            upper.set_ylabel("accuracy")
            lower.set_ylabel("images")
    return figure


def expected_error(bins: Sequence[Mapping[str, Any]]) -> float | None:
    """The expected calibration error of some bins; None where all are empty."""
    full = [one for one in bins if one["count"]]
    total = sum(one["count"] for one in full)
    gap = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in full)
    return gap / total if total else None


def _draw(upper: Axes, lower: Axes, title: str, bins: Sequence[Mapping[str, Any]]) -> None:
    """One panel: `bins` has no empty ones."""
    total = sum(one["count"] for one in bins)
    error = expected_error(bins)
    summary = "not available" if error is None else f"ECE {error:.3f}, n={total}"
    upper.set_title(f"{title}\n{summary}", fontsize=10)
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="dotted", label="perfectly calibrated")
    low = np.array([one["low"] for one in bins])
    width = np.array([one["high"] for one in bins]) - low
    edge: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.6}
    count = [one["count"] for one in bins]
    lower.bar(low, [n / max(total, 1) for n in count], width, color=COLOURS[3], **edge)
    if bins:
        confidence = np.array([one["confidence"] for one in bins])
        accuracy = np.array([one["accuracy"] for one in bins])
        bounds = np.array([_wilson(*pair) for pair in zip(accuracy, count, strict=True)])
        # An area per bin would hide that most images are in a few of them.
        upper.errorbar(
            confidence, accuracy, yerr=np.abs(bounds.T - accuracy), color=COLOURS[0],
            marker="o", markersize=4, linewidth=1.4, elinewidth=1, capsize=2,
            label="model, 95 % interval per image",
        )  # fmt: skip
    upper.set_xlim(-0.01, 1.01)
    upper.set_ylim(-0.02, 1.04)
    upper.tick_params(labelbottom=False)
    upper.grid(color="#DDDDDD", linewidth=0.6)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    lower.set_axisbelow(True)
    lower.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    lower.set_xlabel("confidence (probability of the predicted class)")


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many (Wilson 1927), as if images were independent."""
    z = 1.959963984540054
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return min(middle - half, share), max(middle + half, share)
