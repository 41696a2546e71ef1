"""Figures of what a model gets wrong: the confidence of hits and misses, and single cases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax.misclassified import Histogram
from skinjax.plots import explanation
from skinjax.plots.style import GREY, figure_with

_HIT, _MISS = "#44AA99", "#882255"


def confidence_histogram(histogram: Histogram, *, caption: str) -> Figure:
    """Images by the probability of the predicted class, hits, misses, and the share of misses.

    The first two have an axis of their own, since misses are few.
    """
    figure = figure_with((5.4, 5.6), explanation.plain(caption))
    hits, misses, share = figure.subplots(3, 1, sharex=True)
    width = np.diff(histogram.edge_T)
    bars: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.5}
    rows = ((hits, histogram.hits, "hits", _HIT), (misses, histogram.misses, "misses", _MISS))
    for axes, count_T, name, colour in rows:
        axes.bar(histogram.edge_T[:-1], count_T, color=colour, **bars)
        axes.set_ylabel(f"{name}\n(n={int(count_T.sum())})")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    total_T = histogram.hits + histogram.misses
    share_T = histogram.misses / np.maximum(total_T, 1)
    share.bar(histogram.edge_T[:-1], share_T, color=GREY, **bars)
    # A model that is as often right as it says has misses of 1 - confidence.
    share.plot([0, 1], [1, 0], color="black", linestyle="dotted", linewidth=1)
    share.text(0.98, 0.8, "dotted: 1 - confidence", ha="right", fontsize=8)
    share.set_ylabel("share of\nmisses")
    share.set_ylim(0, 1.02)
    share.set_xlim(0, 1)
    share.set_xlabel("confidence: probability of the predicted class")
    for axes in (hits, misses, share):
        axes.set_axisbelow(True)
        axes.grid(color="#DDDDDD", linewidth=0.6)
    return figure


def case(
    *,
    caption: str,
    image_HWC: np.ndarray | None,
    maps: Sequence[tuple[str, np.ndarray | None]],
    why: str,
    probability_C: np.ndarray,
    classes: Sequence[str],
    label: int,
) -> Figure:
    """One image, its maps for two classes, and the probability of every class.

    Args:
      caption: above all.
      image_HWC: uint8 RGB, as the network takes it; None where it is not available.
      maps: two titles, each with a map in [0, 1] or None.
      why: a missing image or map is missing.
      probability_C: float (C,).
      classes: names.
      label: index of the true class.
    """
    figure = figure_with((5.2, 6), explanation.plain(caption))
    (first, second), (third, bars) = figure.subplots(2, 2)
    if image_HWC is None:
        explanation.draw_missing(first, "the image", why)
    else:
        explanation.draw_image(first, image_HWC, "the image, as the network takes it")
    panels = []
    for axes, (title, map_HW) in zip((second, third), maps, strict=True):
        if image_HWC is None or map_HW is None:
            explanation.draw_missing(axes, title, why)
        else:
            explanation.draw_map(axes, image_HWC, map_HW, title)
            panels.append(axes)
    if panels:
        explanation.scale(figure, [second])
    _probabilities(bars, probability_C, classes, label)
    return figure


def _probabilities(
    axes: Axes, probability_C: np.ndarray, classes: Sequence[str], label: int
) -> None:
    predicted = int(np.argmax(probability_C))
    place_C = np.arange(len(classes))
    colour_C = [_HIT if i == label else _MISS if i == predicted else GREY for i in place_C]
    axes.barh(place_C, probability_C, color=colour_C)
    for place, probability in enumerate(probability_C):
        axes.text(probability + 0.02, place, f"{probability:.3f}", va="center", fontsize=8)
    names = [explanation.plain(name + " (true)" * (i == label)) for i, name in enumerate(classes)]
    axes.set_yticks(place_C, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25)
    axes.set_xticks([0, 0.5, 1])
    axes.set_title("probabilities", fontsize=9)
