"""The report on a trained model: tables and plots, from the files that a run wrote (no JAX)."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import classification_report

from skinjax import logs, metrics, plots
from skinjax.errors import InputError
from skinjax.predictions import read_predictions

_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy (mean recall)",
    "top_2_accuracy": "Top-2 accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "macro_roc_auc": "Macro ROC-AUC (one against the rest)",
    "macro_pr_auc": "Macro PR-AUC (average precision)",
    "roc_auc": "ROC-AUC (of the second class)",
    "pr_auc": "PR-AUC (average precision of the second class)",
    "log_loss": "Log loss (nats)",
    "loss": "Loss (training objective)",
}
_OF_TWO = ("roc_auc", "pr_auc")  # metrics of two classes only
_PLOTS = {
    "confusion_matrix.png": "Confusion matrix, by true class",
    "confusion_matrix_counts.png": "Confusion matrix, counts",
    "roc_curves.png": "ROC curves",
    "pr_curves.png": "Precision-recall curves",
    "per_class.png": "Precision, recall and F1 per class",
    "class_distribution.png": "Class distribution",
}


def write_evaluation(directory: Path | str, *, title: str, note: str = "") -> list[Path]:
    """Writes the tables and plots of one evaluation beside the files that `evaluate` wrote.

    Reads `metrics.json`: what `metrics.compute` returned, with the keys `split` (name), and if
    known `checkpoint` (text) and `split_counts` ({split: counts in the order of the classes});
    and `predictions_<split>.csv`. `title`, split, checkpoint and `note` stand over every plot.

    Returns:
      The paths written: classification_report.txt, six PNGs, report.md.

    Raises:
      InputError: a file is missing, broken or empty, or the two don't belong together.
    """
    directory = Path(directory)
    result = _read_metrics(directory / "metrics.json")
    split = result["split"]
    path = directory / f"predictions_{split}.csv"
    _, probability_NC, label_N, classes = read_predictions(path)
    if len(label_N) == 0:
        raise InputError(f"{path} has no rows, so there is nothing to report")
    recomputed = metrics.compute(probability_NC, label_N, classes)
    if (
        list(result["per_class"]) != list(classes)
        or result["confusion_matrix"] != recomputed["confusion_matrix"]
    ):
        raise InputError(
            f"metrics.json and {path.name} in {directory} are not of the same evaluation: "
            "run `skinjax evaluate` again"
        )
    heading = [title, f"split: {split}, n={len(label_N)}"]
    heading += [f"checkpoint: {result.get('checkpoint') or 'not stated'}"]
    heading += [note] if note else []
    figures = _figures(result, probability_NC, label_N, classes, heading=heading)
    written = []
    for name, figure in figures.items():
        logs.write_bytes(directory / name, _png(figure))
        written.append(directory / name)
    for name, text in (
        (
            "classification_report.txt",
            _classification_report(heading, probability_NC, label_N, classes),
        ),
        ("report.md", _markdown(heading, result, written)),
    ):
        logs.write_text(directory / name, text)
        written.append(directory / name)
    return written


def write_history(directory: Path | str, *, title: str = "Training history") -> Path | None:
    """Draws `history.csv` as `history.png`; None if it has no rows yet.

    A row is an epoch, or what lies between two evaluations.

    Columns: epoch, step, phase, learning_rate, and train_<metric> and val_<metric> for loss and
    the names of `metrics.scalars`; what is missing or empty is not drawn. The caption states the
    largest train_num_examples and val_num_examples, if those are there.

    Raises:
      InputError: the file is missing, or has no column `epoch`, or text where numbers belong.
    """
    path = Path(directory) / "history.csv"
    if not path.exists():
        raise InputError(f"{path} is missing: train writes it at the end of every epoch")
    rows = logs.read_csv_log(path)
    if not rows:
        return None
    if "epoch" not in rows[0]:
        raise InputError(f"{path} has no column epoch; its columns are {', '.join(rows[0])}")
    column = {
        name: np.array([_number(row[name], name, path) for row in rows])
        for name in rows[0]
        if name != "phase"
    }
    phase = [row.get("phase", "") for row in rows]
    parts = []
    for prefix, split in (("train", "training"), ("val", "validation")):
        count = column.get(f"{prefix}_num_examples", np.array([np.nan]))
        count = count[np.isfinite(count)]
        if any(
            name.startswith(f"{prefix}_") and np.isfinite(v).any() for name, v in column.items()
        ):
            parts += [f"{split} (n={int(count.max())})" if count.size else split]
    epochs = float(column["epoch"][-1])
    caption = f"{title}\n{' and '.join(parts)}, {epochs:g} epoch{'s' * (epochs != 1)}"
    if len(set(phase)) > 1:
        caption += f", phases: {', '.join(dict.fromkeys(phase))}"
    figure = plots.history(column, phase, caption=caption)
    target = path.with_name("history.png")
    logs.write_bytes(target, _png(figure))
    return target


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `skinjax evaluate` first") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): run `skinjax evaluate` again") from None
    needed = ("split", "per_class", "confusion_matrix", "num_examples")
    missing = [key for key in needed if not isinstance(result, dict) or key not in result]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: run `skinjax evaluate` again")
    return result


def _figures(
    result: Mapping[str, Any],
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    *,
    heading: Sequence[str],
) -> dict[str, Figure]:
    """Every plot of an evaluation by its file name."""
    caption = "\n".join(heading)
    own = np.bincount(label_N, minlength=len(classes)).tolist()
    counts = result.get("split_counts") or {result["split"]: own}
    confusion_CC = np.array(result["confusion_matrix"])
    table = (probability_NC, label_N, classes)
    figures = (
        plots.confusion_matrix(confusion_CC, classes, caption=caption, normalise=True),
        plots.confusion_matrix(confusion_CC, classes, caption=caption, normalise=False),
        plots.roc_curves(*table, caption=caption),
        plots.pr_curves(*table, caption=caption),
        plots.per_class_bars(result["per_class"], caption=caption),
        plots.class_distribution(counts, classes, caption=f"{heading[0]}\nimages per class"),
    )
    return dict(zip(_PLOTS, figures, strict=True))


def _classification_report(
    heading: Sequence[str], probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> str:
    """scikit-learn's table under the heading."""
    table = classification_report(
        label_N,
        probability_NC.argmax(axis=1),
        labels=range(len(classes)),
        target_names=list(classes),
        digits=4,
        zero_division=0,
    )
    absent = [name for index, name in enumerate(classes) if not np.any(label_N == index)]
    parts = ["\n".join(heading), table.rstrip("\n")]
    if absent:
        parts.append(
            f"No examples of: {', '.join(absent)}. Here such a class counts as 0 in the macro "
            "average; metrics.json and report.md leave it out."
        )
    return "\n\n".join([*parts, plots.DISCLAIMER]) + "\n"


def _markdown(heading: Sequence[str], result: Mapping[str, Any], written: Sequence[Path]) -> str:
    """The page that ties the numbers and the plots together."""
    lines = [f"# {heading[0]}", "", f"{plots.DISCLAIMER}", ""]
    lines += [f"- {line[0].upper()}{line[1:]}" for line in heading[1:]]
    lines += [""]
    values = metrics.scalars(result)
    if len(result["per_class"]) > 2:
        values = {name: value for name, value in values.items() if name not in _OF_TWO}
    lines += _table(["Metric", "Value"], [[_NAMES[k], _text(v)] for k, v in values.items()])
    absent = [name for name, scores in result["per_class"].items() if not scores["support"]]
    if absent:
        lines += [f"Without examples, and left out of the macro means: {', '.join(absent)}.", ""]
    keys = ("precision", "recall", "f1", "roc_auc", "pr_auc")
    lines += ["## Per class", ""]
    lines += _table(
        ["Class", "n", "Precision", "Recall", "F1", "ROC-AUC", "PR-AUC"],
        [
            [name, str(scores["support"]), *(_text(scores[key]) for key in keys)]
            for name, scores in result["per_class"].items()
        ],
    )
    lines += ["## Plots", ""]
    lines += [f"![{_PLOTS[path.name]}]({path.name})\n" for path in written]
    files = ("classification_report.txt", "metrics.json", f"predictions_{result['split']}.csv")
    lines += ["Tables: " + ", ".join(f"[{name}]({name})" for name in files)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, the first column to the left and the others to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, marks, *rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _text(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"


def _number(text: str, name: str, path: Path) -> float:
    """A cell of the history; empty is NaN."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise InputError(f"{path}: {name} is {text!r}, expected a number") from None
