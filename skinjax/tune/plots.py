"""The figures of a search: arrays in, a matplotlib `Figure` out (no pyplot, no files)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax.explore import style
from skinjax.tune.search_space import Dimension, Range

_COLUMNS = 3


def history(
    number_N: np.ndarray,
    value_N: np.ndarray,
    pruned_N: np.ndarray,
    *,
    maximize: bool,
    metric: str,
    caption: str,
) -> Figure:
    """Each trial's value by its number, and the best completed one so far."""
    figure = style.figure_with((8, 4.6), caption)
    axes = figure.add_subplot()
    _points(axes, number_N, value_N, pruned_N)
    running = np.maximum.accumulate if maximize else np.minimum.accumulate
    best_N = running(np.where(pruned_N, -np.inf if maximize else np.inf, value_N))
    known_N = np.isfinite(best_N)
    axes.plot(
        number_N[known_N], best_N[known_N], drawstyle="steps-post", color=style.THIRD,
        linewidth=1.4, label="best so far", zorder=1,
    )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation {metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def parameters(
    space: Mapping[str, Dimension],
    params: Sequence[Mapping[str, object]],
    value_N: np.ndarray,
    pruned_N: np.ndarray,
    *,
    metric: str,
    caption: str,
) -> Figure:
    """One panel for each field: the trials' values of it against what came out."""
    columns = min(_COLUMNS, len(space))
    rows = -(-len(space) // columns)
    figure = style.figure_with((max(5.5, 1.2 + 3.5 * columns), 1.3 + 3.2 * rows), caption)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(space) :]:
        axes.axis("off")
    for axes, (name, dimension) in zip(panels.flat, space.items(), strict=False):
        drawn = [one[name] for one in params]
        if isinstance(dimension, Range):
            x_N = np.array(drawn, dtype=float)
            _range_axis(axes, dimension)
        else:
            labels = list(dimension.labels())
            x_N = np.array([labels.index(one) for one in drawn], dtype=float)
            names = [style.plain(str(label), 18) for label in labels]
            turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(
                range(len(labels)),
                names,
                fontsize=8,
                **(turned if len("".join(names)) > 24 else {}),
            )
            axes.set_xlim(-0.5, len(labels) - 0.5)
        _points(axes, x_N, value_N, pruned_N)
        axes.set_title(style.plain(name), fontsize=10)
        axes.grid(color="#DDDDDD", linewidth=0.6)
    for row in panels:
        row[0].set_ylabel(f"validation {metric}")
    if np.any(pruned_N):
        panels[0, 0].legend(fontsize=8)
    return figure


def importance(shares: Mapping[str, float], *, caption: str) -> Figure:
    """One bar for each field, the most important first."""
    figure = style.figure_with((7.5, 1.8 + 0.36 * len(shares)), caption)
    axes = figure.add_subplot()
    axes.barh(range(len(shares)), list(shares.values()), color=style.BAR)
    for place, share in enumerate(shares.values()):
        axes.text(share, place, f" {share:.2f}", va="center", fontsize=8)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("share of the importance (PED-ANOVA)")
    style.name_axis(axes, list(shares))
    return figure


def _range_axis(axes: Axes, dimension: Range) -> None:
    """All of what was searched, so that an optimum at its edge shows."""
    low, high = dimension.low, dimension.high
    if not dimension.log:
        margin = 0.05 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        return
    axes.set_xscale("log")
    margin = (high / low) ** 0.05
    axes.set_xlim(low / margin, high * margin)
    if dimension.is_integer:
        ticks = np.unique(np.geomspace(low, high, 5).round().astype(int))
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)


def _points(axes: Axes, x_N: np.ndarray, value_N: np.ndarray, pruned_N: np.ndarray) -> None:
    """Completed trials as dots, pruned ones, at their last value, as crosses."""
    axes.scatter(
        x_N[~pruned_N], value_N[~pruned_N], s=26, color=style.SECOND, label="completed", zorder=3
    )
    if np.any(pruned_N):
        axes.scatter(
            x_N[pruned_N], value_N[pruned_N], s=26, color=style.GREY, marker="x",
            linewidth=1.1, label="pruned (last value)", zorder=2,
        )  # fmt: skip
