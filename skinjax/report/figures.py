"""The figures of evaluations, and figures as PNG."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skinjax import metrics, plots
from skinjax.plots import calibration as calibration_plots
from skinjax.plots import subgroups as subgroup_plots
from skinjax.report.evaluation import Evaluation
from skinjax.report.sections import COLUMN_NAMES, SUBGROUP_NAMES

TITLES = {
    "confusion_matrix.png": "Confusion matrix, by true class",
    "confusion_matrix_counts.png": "Confusion matrix, counts",
    "roc_curves.png": "ROC curves",
    "pr_curves.png": "Precision-recall curves",
    "per_class.png": "Precision, recall and F1 per class",
    "class_distribution.png": "Class distribution",
    "reliability.png": "Reliability",
    "subgroups.png": "Main metrics by subgroup",
}


def of_evaluation(evaluation: Evaluation, heading: Sequence[str]) -> dict[str, Figure]:
    """Every figure of an evaluation by its file's name; `heading` are the lines over them."""
    caption = "\n".join(heading)
    classes = evaluation.classes
    own = np.bincount(evaluation.label_N, minlength=len(classes)).tolist()
    counts = evaluation.split_counts or {evaluation.split: own}
    confusion_CC = np.array(evaluation.result["confusion_matrix"])
    table = (evaluation.probability_NC, evaluation.label_N, classes)
    figures = {
        "confusion_matrix.png": plots.confusion_matrix(
            confusion_CC, classes, caption=caption, normalise=True
        ),
        "confusion_matrix_counts.png": plots.confusion_matrix(
            confusion_CC, classes, caption=caption, normalise=False
        ),
        "roc_curves.png": plots.roc_curves(*table, caption=caption),
        "pr_curves.png": plots.pr_curves(*table, caption=caption),
        "per_class.png": plots.per_class_bars(evaluation.result["per_class"], caption=caption),
        "class_distribution.png": plots.class_distribution(
            counts, classes, caption=f"{heading[0]}\nimages per class"
        ),
        "reliability.png": calibration_plots.reliability(panels(evaluation), caption),
    }
    forest = _forest(evaluation.result, caption)
    return figures | ({"subgroups.png": forest} if forest else {})


def panels(evaluation: Evaluation, prefix: str = "") -> list[tuple[str, list[dict[str, Any]]]]:
    """The panels of a reliability plot: before calibration, and after it if there is one."""
    tables = {"before calibration": evaluation.probability_NC}
    if evaluation.calibrated_NC is not None:
        tables["after calibration"] = evaluation.calibrated_NC
    return [
        (f"{prefix}{name}", metrics.reliability(table_NC, evaluation.label_N))
        for name, table_NC in tables.items()
    ]


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in other scripts than the font's: boxes in the plot, right in the table beside it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _forest(result: Mapping[str, Any], caption: str) -> Figure | None:
    found = result["subgroups"]
    columns = {
        COLUMN_NAMES[column]: about["groups"]
        for column, about in found["columns"].items()
        if about is not None
    }
    if not columns:
        return None
    titles = {
        name: title
        for name, title in SUBGROUP_NAMES.items()
        if name != "malignant_sensitivity" or found["malignant"]
    }
    return subgroup_plots.forest(
        columns,
        found["overall"],
        titles,
        minimum=found["minimum"],
        caption=f"{caption}\n95 % intervals, from {found['minimum']} images on; dashed: all images",
    )
