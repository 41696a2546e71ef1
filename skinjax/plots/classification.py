"""Figures of one table of predictions: confusion, curves, scores per class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax import metrics
from skinjax.plots.style import (
    GREY,
    curve_axes,
    figure_with,
    legend_beside,
    line_style,
    with_counts,
)


def confusion_matrix(
    confusion_CC: np.ndarray, classes: Sequence[str], *, caption: str, normalise: bool
) -> Figure:
    """Rows are true classes: shares of the row with the counts below, or the counts alone."""
    confusion_CC = np.asarray(confusion_CC)
    num_classes = len(classes)
    support_C = confusion_CC.sum(axis=1)
    share_CC = confusion_CC / np.maximum(support_C, 1)[:, None]
    size = 3.2 + 0.62 * num_classes
    figure = figure_with((size + 1.2, size), caption)
    axes = figure.add_subplot()
    # Counts differ by the class sizes: the square root keeps the small classes visible.
    top = max(int(confusion_CC.max()), 1)
    scale: dict[str, Any] = (
        {"vmin": 0, "vmax": 1} if normalise else {"norm": PowerNorm(0.5, 0, top)}
    )
    image = axes.imshow(share_CC if normalise else confusion_CC, cmap="Blues", **scale)
    figure.colorbar(image, label="share of the true class" if normalise else "images", shrink=0.8)
    dark_CC = share_CC > 0.55 if normalise else confusion_CC > 0.3 * top
    for i, j in np.ndindex(num_classes, num_classes):
        if support_C[i] == 0:
            continue
        count = f"{confusion_CC[i, j]:d}"
        text = f"{share_CC[i, j]:.2f}\n({count})" if normalise else count
        colour = "white" if dark_CC[i, j] else "black"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    for i in np.flatnonzero(support_C == 0).tolist():
        axes.axhspan(i - 0.5, i + 0.5, color="#EEEEEE")
        middle = (num_classes - 1) / 2
        axes.text(middle, i, "not available", ha="center", va="center", color=GREY, fontsize=8)
    axes.set_xticks(range(num_classes), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_classes), with_counts(classes, support_C))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure


def roc_curves(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str], *, caption: str
) -> Figure:
    """One class against the rest, with its AUC; the diagonal is chance."""
    figure, axes = curve_axes(caption, "false positive rate (1 - specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    for index, name in enumerate(classes):
        points = metrics.curve(probability_NC[:, index], label_N == index)
        label = f"{name} (n={np.count_nonzero(label_N == index)})"
        if points is None:
            axes.plot([], [], label=f"{label}: not available", **line_style(index))
            continue
        false_positive_rate = np.concatenate([[0.0], points.false_positive_rate_T])
        recall = np.concatenate([[0.0], points.recall_T])
        label += f": AUC {points.roc_auc():.3f}"
        axes.plot(false_positive_rate, recall, label=label, **line_style(index))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="dotted", label="chance: AUC 0.500")
    legend_beside(axes)
    return figure


def pr_curves(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str], *, caption: str
) -> Figure:
    """One class against the rest, with its average precision; dotted is chance: its share."""
    figure, axes = curve_axes(caption, "recall (sensitivity)")
    axes.set_ylabel("precision (positive predictive value)")
    for index, name in enumerate(classes):
        points = metrics.curve(probability_NC[:, index], label_N == index)
        count = np.count_nonzero(label_N == index)
        label = f"{name} (n={count})"
        if points is None:
            axes.plot([], [], label=f"{label}: not available", **line_style(index))
            continue
        share = count / len(label_N)
        label += f": AP {points.average_precision():.3f}, chance {share:.3f}"
        # Average precision is the area under the steps in recall, so those are drawn.
        rises_T = np.diff(points.recall_T, prepend=0.0) > 0
        recall = np.concatenate([[0.0], points.recall_T[rises_T]])
        precision = points.precision_T[rises_T]
        precision = np.concatenate([precision[:1], precision])
        axes.plot(recall, precision, label=label, drawstyle="steps-pre", **line_style(index))
        axes.axhline(share, color=line_style(index)["color"], linestyle="dotted", linewidth=0.9)
    legend_beside(axes)
    return figure


def per_class_bars(per_class: Mapping[str, Mapping[str, Any]], *, caption: str) -> Figure:
    """Precision, recall and F1 of each class, from `metrics.compute`'s `per_class`."""
    num_classes = len(per_class)
    figure = figure_with((max(5.5, 2.2 + 1.05 * num_classes), 5.2), caption)
    axes = figure.add_subplot()
    bars = (("precision", "#332288"), ("recall", "#44AA99"), ("f1", "#DDCC77"))
    for offset, (name, colour) in enumerate(bars, start=-1):
        x_C = np.arange(num_classes) + 0.27 * offset
        value_C = [scores[name] or 0.0 for scores in per_class.values()]
        axes.bar(x_C, value_C, width=0.25, color=colour, label="F1" if name == "f1" else name)
        for x, scores in zip(x_C, per_class.values(), strict=True):
            if scores[name] is not None:
                place: dict[str, Any] = {
                    "ha": "center",
                    "va": "bottom",
                    "rotation": 90,
                    "fontsize": 8,
                }
                axes.text(x, scores[name] + 0.012, f"{scores[name]:.2f}", **place)
    for x, scores in enumerate(per_class.values()):
        if scores["support"] == 0:
            missing: dict[str, Any] = {
                "ha": "center",
                "va": "bottom",
                "rotation": 90,
                "color": GREY,
            }
            axes.text(x, 0.02, "not available", fontsize=9, **missing)
    long = max(map(len, per_class)) > 11
    shape = "{} (n={})" if long else "{}\nn={}"
    names = [shape.format(name, scores["support"]) for name, scores in per_class.items()]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(num_classes), names, **(turned if long else {}))
    axes.set_ylim(0, 1.12)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("score")
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def class_distribution(
    counts: Mapping[str, Sequence[int]], classes: Sequence[str], *, caption: str
) -> Figure:
    """Images per class, one panel for each split, with each class's share of the split."""
    figure = figure_with((2.4 + 2.7 * len(counts), 2.2 + 0.36 * len(classes)), caption)
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (split, count_C) in zip(panels, counts.items(), strict=True):
        total = sum(count_C)
        axes.barh(range(len(classes)), count_C, color="#88CCEE")
        for place, count in enumerate(count_C):
            share = f" ({count / total:.1%})" if total else ""
            axes.text(count, place, f" {count}{share}", va="center", fontsize=8)
        axes.set_title(f"{split} (n={total})", fontsize=10)
        # Room for the text behind the longest bar.
        axes.set_xlim(0, max(*count_C, 1) * 1.75)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_xlabel("images")
    panels[0].set_yticks(range(len(classes)), classes)
    panels[0].invert_yaxis()
    return figure
