"""The figure of a run's training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skinjax.plots.style import GREY, figure_with

_TRAIN, _VALIDATION = "#332288", "#CC6677"
_PANELS = (
    ("loss", "loss"),
    ("accuracy", "accuracy"),
    ("macro_precision", "macro precision"),
    ("macro_recall", "macro recall"),
    ("macro_roc_auc", "macro ROC-AUC"),
    ("learning_rate", "learning rate"),
)


def history(column: Mapping[str, np.ndarray], phase: Sequence[str], *, caption: str) -> Figure:
    """Training and validation by epoch; `column` has float arrays with NaN for what is missing.

    Vertical lines stand between the last epoch of a phase and the first of the next.
    """
    epoch = column["epoch"]
    figure = figure_with((11, 6.6), caption)
    changes = [i for i in range(1, len(phase)) if phase[i] != phase[i - 1]]
    for axes, (name, title) in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        curves = [("training", f"train_{name}", _TRAIN), ("validation", f"val_{name}", _VALIDATION)]
        if name == "learning_rate":
            curves = [("learning rate", name, GREY)]
        drawn = False
        for label, key, colour in curves:
            values = column.get(key, np.full(len(epoch), np.nan))
            known = np.isfinite(values)  # validation may not have run at every epoch
            if np.any(known):
                marker = "o" if np.count_nonzero(known) <= 40 else None
                style = {"color": colour, "marker": marker, "markersize": 3.5}
                axes.plot(epoch[known], values[known], label=label, linewidth=1.6, **style)
                drawn = True
        if drawn and name == _PANELS[0][0]:
            axes.legend(fontsize=9)
        if not drawn:
            place: dict[str, Any] = {"ha": "center", "va": "center", "color": GREY}
            axes.text(0.5, 0.5, "not available", transform=axes.transAxes, **place)
            axes.set_yticks([])
        for i in changes:
            axes.axvline((epoch[i - 1] + epoch[i]) / 2, color="black", linewidth=0.7)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_xlim(epoch.min() - 0.5, epoch.max() + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(color="#DDDDDD", linewidth=0.6)
    return figure
