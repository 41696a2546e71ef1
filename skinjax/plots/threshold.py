"""The figure of a chosen threshold: what every other one would have given."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skinjax.plots.style import COLOURS, figure_with

_MEASURES = {"sensitivity": COLOURS[0], "specificity": COLOURS[1]}
_STYLES = ("solid", "dashed")
_ASIDE = 0.007

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


def operating_curves(
    curves: Mapping[str, Curve],
    points: Mapping[str, Mapping[str, Any]],
    threshold: float,
    *,
    score: str,
    caption: str,
) -> Figure:
    """Sensitivity and specificity against the threshold, the chosen one marked.

    Args:
      curves: what `operating_point.curve` gives, by the name of the split; two at most.
      points: what `operating_point.measure` gives at the threshold, by split; the last is drawn
        with its intervals.
      threshold: the chosen one.
      score: what the threshold is compared with, in words.
      caption: stands over the figure.
    """
    figure = figure_with((9.4, 4.9), caption)
    axes = figure.add_subplot()
    for (split, curve), style in zip(curves.items(), _STYLES, strict=False):
        threshold_T, *values = curve
        for (name, colour), value_T in zip(_MEASURES.items(), values, strict=True):
            # An image at the threshold is called positive: a value holds up to its threshold.
            axes.step(
                *_to_the_ends(threshold_T, value_T, name), where="pre", color=colour,
                linestyle=style, linewidth=1.6, label=f"{name}, {split}",
            )  # fmt: skip
    axes.axvline(threshold, color="black", linewidth=0.9, label=f"threshold {threshold:.4g}")
    for split, point in points.items():
        _draw_point(axes, threshold, point, split, hollow=split != "val")
    # Those of two splits would lie on each other.
    *_, last = points
    _draw_intervals(axes, threshold, points[last], last)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xlabel(f"threshold of {score}")
    axes.set_ylabel("sensitivity, specificity")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=9, frameon=False
    )
    return figure


def describe(points: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """A line for each split: sensitivity and specificity with their intervals, and images."""
    lines = []
    for split, point in points.items():
        parts = [f"{name} {_with_interval(point, name)}" for name in _MEASURES]
        count = f"n={point['num_examples']}, {point['num_positive']} positive"
        lines.append(f"{split}: {', '.join(parts)} ({count})")
    return lines


def _with_interval(point: Mapping[str, Any], name: str) -> str:
    value, interval = point[name], point["intervals"][name]
    if value is None:
        return "not available"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _to_the_ends(
    threshold_T: np.ndarray, value_T: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The curve from 0 to 1: below all scores all is called positive, above all nothing."""
    low, high = (1.0, 0.0) if name == "sensitivity" else (0.0, 1.0)
    return (
        np.concatenate([[0.0], threshold_T, [max(1.0, threshold_T[-1])]]),
        np.concatenate([[low], value_T, [high]]),
    )


def _draw_point(
    axes: Axes, threshold: float, point: Mapping[str, Any], split: str, *, hollow: bool
) -> None:
    for index, (name, colour) in enumerate(_MEASURES.items()):
        if point[name] is not None:
            axes.plot(
                [threshold], [point[name]], color=colour, linestyle="none", marker="o",
                markersize=6, markerfacecolor="white" if hollow else colour, zorder=3,
                label=None if index else f"{split}, at the threshold",
            )  # fmt: skip


def _draw_intervals(axes: Axes, threshold: float, point: Mapping[str, Any], split: str) -> None:
    """Vertical bars beside the threshold, so that sensitivity and specificity don't overlap."""
    for aside, (name, colour) in zip((-1, 1), _MEASURES.items(), strict=True):
        interval = point["intervals"][name]
        if interval:
            axes.plot(
                [threshold + _ASIDE * aside] * 2, interval, color=colour, marker="_",
                markersize=7, linewidth=1.2,
                label=f"{split}, 95 % interval" if aside < 0 else None,
            )  # fmt: skip
