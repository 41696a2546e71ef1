"""What the models of a cross-validation predict of the folds that they were not trained on."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import logs, metrics, predictions, report
from skinjax import workdir as workdir_lib
from skinjax.data import folds
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError

SPLIT = "out_of_fold"
_SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "log_loss")  # on the page


def fold_dir(workdir: Path, fold: int) -> Path:
    """The work directory of a fold."""
    return workdir / f"fold_{fold}"


def directory(workdir: Path) -> Path:
    """The folder of the predictions of all folds."""
    return workdir / SPLIT


def mark_done(workdir: Path, fold: int, best: Mapping[str, Any], computed: Any) -> None:
    """Writes down that a fold is trained and evaluated.

    Args:
      workdir: of the cross-validation.
      fold: from 0.
      best: `step` and `epoch` of the checkpoint that was evaluated.
      computed: the metrics on its validation split, as `evaluate` wrote them.
    """
    done = {"fold": fold, "step": best["step"], "epoch": best["epoch"], "metrics": computed}
    logs.write_json(_done_path(workdir, fold), done)


def is_done(workdir: Path, fold: int) -> bool:
    """Whether the fold is trained, and its folder still has what that checkpoint predicted."""
    try:
        there = json.loads((_val_dir(workdir, fold) / "metrics.json").read_text(encoding="utf-8"))
        return bool(_done(workdir, fold)["metrics"] == there)
    except (FileNotFoundError, ValueError, KeyError):
        return False


def write(workdir: Path, prepared_K: Sequence[PreparedDataset], title: str) -> dict[str, Any]:
    """Writes the predictions of all folds, the metrics of each and of all, plots and a report.

    In the table of predictions the column `split` says the fold, as `fold_0`.

    Args:
      workdir: of the cross-validation; every fold is done.
      prepared_K: the data of each fold.
      title: stands over every plot.

    Returns:
      The metrics of all predictions together, as in `metrics.json`.

    Raises:
      InputError: not each image outside the test split is predicted exactly once, or a lesion or
        patient is in two folds.
    """
    folds.check(prepared_K)
    classes = prepared_K[0].classes
    rows: list[dict[str, Any]] = []
    parts = []
    for fold, prepared in enumerate(prepared_K):
        of_fold, probability_MC = _read(workdir, fold, prepared)
        rows += [{**row, "split": f"fold_{fold}"} for row in of_fold]
        parts.append(probability_MC)
    probability_NC = np.concatenate(parts)
    computed = {
        "split": SPLIT,
        "checkpoint": f"the best one of each of {len(prepared_K)} folds",
        "split_counts": {
            f"fold_{fold}": list(prepared.counts["val"]) for fold, prepared in enumerate(prepared_K)
        },
        **metrics.compute(
            probability_NC, np.array([classes.index(row["label"]) for row in rows]), classes
        ),
    }
    target = directory(workdir)
    target.mkdir(exist_ok=True)
    table = target / f"predictions_{SPLIT}.csv"
    predictions.write_predictions(table, rows, probability_NC, classes)
    logs.write_json(target / "metrics.json", computed)
    report.write_evaluation(target, title=title)
    _write_folds(target, [_done(workdir, fold) for fold in range(len(prepared_K))])
    return computed


def summary(done_K: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation (n - 1) over the folds of each metric that all have."""
    values_K = [metrics.scalars(done["metrics"]) for done in done_K]
    shared: dict[str, list[Any]] = {
        name: [values[name] for values in values_K]
        for name in values_K[0]
        if all(values.get(name) is not None for values in values_K)  # an earlier version has fewer
    }
    return {
        "mean": {name: statistics.fmean(values) for name, values in shared.items()},
        "standard_deviation": {name: statistics.stdev(values) for name, values in shared.items()},
    }


def _read(
    workdir: Path, fold: int, prepared: PreparedDataset
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Rows and probabilities of a fold, if they are of the very images of its validation split."""
    path = _val_dir(workdir, fold) / "predictions_val.csv"
    rows, probability_MC, _, classes = predictions.read_predictions(path)
    expected = [row["image_id"] for row in prepared.table("val")]
    if classes != prepared.classes or [row["image_id"] for row in rows] != expected:
        raise InputError(
            f"{path} is not of the {len(expected)} images and the classes of fold {fold}: delete"
            f" {_done_path(workdir, fold)}, and the same command predicts them again"
        )
    return rows, probability_MC


def _write_folds(target: Path, done_K: Sequence[Mapping[str, Any]]) -> None:
    """`folds.json` and `folds.csv`, and a section of `report.md`."""
    over_folds = summary(done_K)
    logs.write_json(target / "folds.json", {"folds": list(done_K), **over_folds})
    names = list(over_folds["mean"])
    rows = [
        [done["fold"], done["step"], done["epoch"], done["metrics"]["num_examples"]]
        + [done["metrics"][name] for name in names]
        for done in done_K
    ]
    rows += [[key, "", "", "", *values.values()] for key, values in over_folds.items()]
    buffer = io.StringIO()
    head = ["fold", "step", "epoch", "num_examples", *names]
    csv.writer(buffer, lineterminator="\n").writerows([head, *rows])
    logs.write_text(target / "folds.csv", buffer.getvalue())

    shown = [name for name in _SHOWN if name in names]
    texts = [["Fold", "n", *(name.replace("_", " ") for name in shown)]]
    texts += [["---", *["---:"] * (len(shown) + 1)]]
    for row in rows:
        cells = [f"{row[head.index(name)]:.4f}" for name in shown]
        texts.append([str(row[0]).replace("_", " "), str(row[3]), *cells])
    lines = ["", "## Folds", "", *(f"| {' | '.join(cells)} |" for cells in texts), ""]
    lines += [
        "The mean and the standard deviation (n - 1) are over the folds; the numbers at the top of"
        " the page are of all predictions together. Every metric: [folds.csv](folds.csv).",
        "",
        "Each fold's checkpoint was chosen, and its training perhaps stopped, by that very fold, so"
        " all these figures are optimistic; `evaluate` on the test split, which no fold has seen,"
        " says how good a model is.",
        "",
        "A fold's macro figures are over the classes that it has images of.",
        "",
    ]
    page = target / "report.md"
    logs.write_text(page, page.read_text(encoding="utf-8") + "\n".join(lines))


def _val_dir(workdir: Path, fold: int) -> Path:
    return workdir_lib.evaluation_dir(fold_dir(workdir, fold), "val")


def _done_path(workdir: Path, fold: int) -> Path:
    return fold_dir(workdir, fold) / "cross_validation.json"


def _done(workdir: Path, fold: int) -> dict[str, Any]:
    done: dict[str, Any] = json.loads(_done_path(workdir, fold).read_text(encoding="utf-8"))
    return done
