"""The metrics that are one number each: names, directions, and what can be chosen by."""

from collections.abc import Mapping
from typing import Any, Literal

from skinjax.errors import InputError
from skinjax.metrics.engine import OF_TWO

# Every number that a checkpoint can be chosen by, and which way it is better.
DIRECTIONS: dict[str, Literal["max", "min"]] = {
    "accuracy": "max",
    "balanced_accuracy": "max",
    "top_2_accuracy": "max",
    "macro_precision": "max",
    "macro_recall": "max",
    "macro_f1": "max",
    "weighted_precision": "max",
    "weighted_recall": "max",
    "weighted_f1": "max",
    "cohen_kappa": "max",
    "matthews_correlation": "max",
    "macro_roc_auc": "max",
    "macro_pr_auc": "max",
    "macro_partial_roc_auc": "max",
    # Of the second of two classes.
    "roc_auc": "max",
    "pr_auc": "max",
    "partial_roc_auc": "max",
    "sensitivity_at_90_specificity": "max",
    "specificity_at_90_sensitivity": "max",
    "log_loss": "min",
    "brier_score": "min",
    "expected_calibration_error": "min",
    "expected_calibration_error_equal_mass": "min",
    "maximum_calibration_error": "min",
    "loss": "min",  # the training objective; the loop adds it, `compute` doesn't know it
}


def direction(name: str) -> Literal["max", "min"]:
    """Which way the metric `name` is better.

    Raises:
      InputError: there is no such metric; the message lists those there are.
    """
    if name not in DIRECTIONS:
        raise InputError(f"no metric is called {name!r}; choose one of: {', '.join(DIRECTIONS)}")
    return DIRECTIONS[name]


def check(name: str, num_classes: int) -> None:
    """Checks that a metric is one of so many classes, before a run is to be judged by it.

    Raises:
      InputError: there is no such metric, or it is None for that number of classes.
    """
    direction(name)
    if name in OF_TWO and num_classes != 2:
        macro = f"macro_{name}"
        raise InputError(
            f"{name} is of the positive one of two classes, and there are {num_classes}; choose"
            f" {macro if macro in DIRECTIONS else 'macro_partial_roc_auc'}"
        )
    if name == "top_2_accuracy" and num_classes <= 2:
        raise InputError(
            f"top_2_accuracy says nothing of {num_classes} classes; choose accuracy or"
            " balanced_accuracy"
        )


def scalars(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The entries of `metrics` that are one number each, for logs: the names of `DIRECTIONS`."""
    return {name: metrics[name] for name in DIRECTIONS if name in metrics}


def summary_line(metrics: Mapping[str, Any]) -> str:
    """The five numbers to show while training, on one line."""
    shown = {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "macro_roc_auc": "macro AUC",
        "log_loss": "log loss",
    }
    values = {label: metrics[name] for name, label in shown.items()}
    parts = [f"{k} {'n/a' if v is None else format(v, '.4f')}" for k, v in values.items()]
    return f"{', '.join(parts)} (n={metrics['num_examples']})"
