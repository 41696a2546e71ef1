"""An external test beside the internal one: the same metrics, with intervals (no JAX)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import evaluated, metrics, plots
from skinjax import workdir as workdir_lib
from skinjax.calibration import Calibration
from skinjax.class_mapping import ClassMapping
from skinjax.errors import InputError
from skinjax.predictions import read_predictions

_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy (mean recall)",
    "macro_f1": "Macro F1",
    "macro_roc_auc": "Macro ROC-AUC (one against the rest)",
    "macro_pr_auc": "Macro PR-AUC (average precision)",
    "roc_auc": "ROC-AUC (of the second class)",
    "pr_auc": "PR-AUC (of the second class)",
    "log_loss": "Log loss (nats)",
    "brier_score": "Brier score",
    "expected_calibration_error": "Expected calibration error",
}
_OF_TWO = ("roc_auc", "pr_auc")  # metrics of two classes only
_CALIBRATED = ("log_loss", "brier_score", "expected_calibration_error")


@dataclass(frozen=True)
class Table:
    """Predictions in the classes that are evaluated.

    Attributes:
      rows: with `lesion_id` and `label`, a class that is evaluated.
      probability_NK: before calibration; the model's classes are added up where several are one.
      calibrated_NK: the same of calibrated probabilities; None without calibration.
      label_N: integers in [0, K).
    """

    rows: Sequence[Mapping[str, Any]]
    probability_NK: np.ndarray
    calibrated_NK: np.ndarray | None
    label_N: np.ndarray


def table(
    rows: Sequence[Mapping[str, Any]],
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    mapping: ClassMapping,
    calibration: Calibration | None,
) -> Table:
    """Brings a model's probabilities (N, C) to the evaluated classes; `label_N` are already."""
    calibrated_NK = None
    if calibration is not None:
        calibrated_NK = mapping.merged(calibration.apply(probability_NC))
    return Table(rows, mapping.merged(probability_NC), calibrated_NK, label_N)


def read_internal(
    workdir: Path, split: str, step: int, mapping: ClassMapping, calibration: Calibration | None
) -> tuple[Table | None, str]:
    """The internal test's predictions in the evaluated classes; else None and why there are none.

    Args:
      workdir: of the run.
      split: as the folder under `evaluation/` is called.
      step: of the checkpoint that the predictions must be of.
      mapping: from the model's classes.
      calibration: of the checkpoint.

    Raises:
      InputError: the table of predictions is broken.
    """
    directory = workdir_lib.evaluation_dir(workdir, split)
    path = directory / f"predictions_{split}.csv"
    command = "skinjax evaluate"
    if split.startswith("test_"):
        command += f" --tta={split.removeprefix('test_')}"
    if not path.exists():
        return None, f"there is no {path}: run `{command}` first"
    if not evaluated.is_of(evaluated.stated(directory), workdir, step):
        return None, f"{directory} is not of the checkpoint at step {step}: run `{command}`"
    rows, probability_NC, label_N, classes = read_predictions(path)
    if classes != mapping.model_classes:
        raise InputError(
            f"{path} has the classes {', '.join(classes)}, and the checkpoint"
            f" {', '.join(mapping.model_classes)}: run `{command}` again"
        )
    if not len(rows):
        return None, f"{path} has no rows"
    merged_N = np.array(mapping.of_model)[label_N]
    named = [
        {**row, "label": mapping.classes[label]} for row, label in zip(rows, merged_N, strict=True)
    ]
    return table(named, probability_NC, merged_N, mapping, calibration), ""


def assess(predicted: Table, classes: Sequence[str], num_resamples: int) -> dict[str, Any]:
    """The metrics that are set side by side, JSON types: `metrics.compute`'s, and intervals.

    Returns:
      `num_examples`, `num_lesions`, `scalars` and `calibrated` ({name: [value, interval]}; the
      latter None without calibration), and `per_class`, {class: {n, recall, roc_auc}}.
    """
    lesion_N = [str(row["lesion_id"]) for row in predicted.rows]
    names = [name for name in _NAMES if len(classes) == 2 or name not in _OF_TWO]

    def scores(probability_NK: np.ndarray, only: Sequence[str]) -> tuple[dict[str, Any], Any]:
        args = (probability_NK, predicted.label_N, classes)
        between: dict[str, Any] = {}
        if num_resamples:
            between = metrics.bootstrap.intervals(
                *args, lesion_N, num_resamples=num_resamples, only=[*only, "per_class"]
            )
        return metrics.compute(*args), between

    def pairs(values: Mapping[str, Any], between: Mapping[str, Any], only: Sequence[str]) -> Any:
        return {name: [values[name], between.get(name)] for name in only}

    computed, between = scores(predicted.probability_NK, names)
    calibrated = None
    if predicted.calibrated_NK is not None:
        calibrated = pairs(*scores(predicted.calibrated_NK, _CALIBRATED), _CALIBRATED)
    of_class = between.get("per_class") or {}
    return {
        "num_examples": len(lesion_N),
        "num_lesions": len(set(lesion_N)),
        "scalars": pairs(computed, between, names),
        "calibrated": calibrated,
        "per_class": {
            name: {
                "n": one["support"],
                **pairs(one, of_class.get(name) or {}, ("recall", "roc_auc")),
            }
            for name, one in computed["per_class"].items()
        },
    }


def markdown(title: str, about: Sequence[str], result: Mapping[str, Any]) -> str:
    """The page of `external.json`'s content; `about` are lines on data, checkpoint and so on."""
    internal, external = result["internal"], result["external"]
    lines = [f"# {title}", "", plots.DISCLAIMER, "", *(f"- {line}" for line in about), ""]
    if internal is None:
        lines += [f"The internal test is not available: {result['internal_missing']}.", ""]
    about_tests = "The tests are not paired"
    if any(interval for _, interval in external["scalars"].values()):
        about_tests = (
            f"Intervals are at 95 %, from a bootstrap by lesion. {about_tests}: a difference says"
            " something where the intervals are apart"
        )
    lines += [f"{about_tests}.", ""]
    lines += _head("Metric", internal, external)
    for name, value in external["scalars"].items():
        lines.append(_line(_NAMES[name], internal and internal["scalars"][name], value))
    for name, value in (external["calibrated"] or {}).items():
        own = internal and internal["calibrated"] and internal["calibrated"][name]
        lines.append(_line(f"{_NAMES[name]}, calibrated", own, value))
    for key, what in (("recall", "Recall"), ("roc_auc", "ROC-AUC")):
        lines += ["", f"## {what} per class", "", *_head("Class", internal, external)]
        for name, one in external["per_class"].items():
            own = internal and internal["per_class"][name]
            sizes = f"{name} (n={own['n']} and {one['n']})" if own else f"{name} (n={one['n']})"
            lines.append(_line(sizes, own and own[key], one[key]))
    lines += ["", "All figures of the external test: [report.md](report.md)."]
    return "\n".join(lines) + "\n"


def _head(first: str, internal: Mapping[str, Any] | None, external: Mapping[str, Any]) -> list[str]:
    sides = [("Internal test", internal), ("External test", external)]
    cells = [
        f"{name}, n={one['num_examples']}" if one else f"{name}, not available"
        for name, one in sides
    ]
    return [f"| {first} | {' | '.join(cells)} | Difference |", "| --- | ---: | ---: | ---: |"]


def _line(name: str, internal: Any, external: Any) -> str:
    """A row of a table; a value is a pair of number and interval, or None."""
    difference = "not available"
    if internal and None not in (internal[0], external[0]):
        difference = f"{round(external[0] - internal[0], 4) + 0.0:+.4f}"  # no -0.0000
    name = name.replace("|", "\\|")
    return f"| {name} | {_text(internal)} | {_text(external)} | {difference} |"


def _text(pair: Any) -> str:
    if not pair or pair[0] is None:
        return "not available"
    value, interval = pair
    return f"{value:.4f}" + (f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")
