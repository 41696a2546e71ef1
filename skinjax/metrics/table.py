"""The metrics of one table of predictions, as plain values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from skinjax.metrics import engine

_SUM_TOLERANCE = 1e-3


def compute(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Every metric of one table of predictions, as plain Python values that JSON can hold.

    The prediction is the most probable class, the first of equals. What is undefined is None, and
    left out of the macro means, which are over the classes for which a metric is defined:

    - every metric of a class without examples;
    - where every example is of one class: its specificity and what is read off its curves,
      `matthews_correlation`, and `cohen_kappa` if that class is predicted for all;
    - `top_2_accuracy` for two classes;
    - for more than two classes what is of the second of two, the positive one: `roc_auc`, `pr_auc`,
      `partial_roc_auc`, `sensitivity_at_90_specificity`, `specificity_at_90_sensitivity`.

    A class that is present and never predicted has precision 0; `matthews_correlation` is 0 if one
    class is predicted for all. By class, one against the rest: `recall` is the sensitivity;
    `specificity` is of the predicted class; `pr_auc` is average precision; `partial_roc_auc`, the
    area above 80 % sensitivity in [0, 0.2], is ISIC 2024's score; sensitivity at 90 % specificity
    is the highest of the thresholds that reach it (and the other way about).

    `log_loss` (the negative log-likelihood) is in nats, with probabilities kept at least float64's
    epsilon. `brier_score` is the mean over examples of the sum over classes of the squared errors,
    in [0, 2] (Brier 1950). The calibration errors are of the most probable class in 15 bins:
    `expected_calibration_error` and `maximum_calibration_error` in bins of equal width (Guo et al.
    2017), `expected_calibration_error_equal_mass` in bins at the quantiles; see `reliability`.

    Args:
      probability_NC: finite, in [0, 1], rows summing to 1 within 1e-3; worked on as float64.
      label_N: integers in [0, C).
      classes: the C names, in the order of the columns.

    Raises:
      ValueError: the arrays break what is said above.
    """
    probability_NC, label_N = checked(probability_NC, label_N, classes)
    num_examples, num_classes = probability_NC.shape
    if num_examples == 0:
        value = dict.fromkeys((*engine.SCALARS, *(f"per_class.{n}" for n in engine.PER_CLASS)))
        confusion_CC = np.zeros((num_classes, num_classes))
        by_class = dict.fromkeys(classes, dict.fromkeys(engine.PER_CLASS))
        scalars: dict[str, Any] = {name: value[name] for name in engine.SCALARS}
    else:
        table = engine.Engine(probability_NC, label_N)
        weight_N1 = np.ones((num_examples, 1))
        confusion_CC = table.confusion(weight_N1)[0]
        found = table.scores(weight_N1)
        scalars = {name: plain(found[name][0]) for name in engine.SCALARS}
        by_class = {
            label: {n: plain(found[f"per_class.{n}"][0, index]) for n in engine.PER_CLASS}
            for index, label in enumerate(classes)
        }
    support_C = confusion_CC.sum(axis=1)
    per_class = {
        label: {**by_class[label], "support": int(support)}
        for label, support in zip(classes, support_C, strict=True)
    }
    return {
        "num_examples": num_examples,
        **scalars,
        "per_class": per_class,
        "confusion_matrix": confusion_CC.astype(np.int64).tolist(),
    }


def checked(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays as float64 and int64.

    Raises:
      ValueError: as `compute`.
    """
    probability_NC = np.asarray(probability_NC, np.float64)
    label_N = np.asarray(label_N)
    if probability_NC.ndim != 2 or probability_NC.shape[1] != len(classes):
        raise ValueError(
            f"probabilities have shape {probability_NC.shape}, expected (N, {len(classes)})"
        )
    if label_N.shape != probability_NC.shape[:1]:
        raise ValueError(f"{len(probability_NC)} rows of probabilities, labels {label_N.shape}")
    if len(set(classes)) != len(classes):
        raise ValueError(f"class names repeat: {', '.join(classes)}")
    if label_N.size and not np.issubdtype(label_N.dtype, np.integer):
        raise ValueError(f"labels are {label_N.dtype}, expected integers")
    if np.any((label_N < 0) | (label_N >= len(classes))):
        raise ValueError(f"labels outside 0 to {len(classes) - 1}")
    if not np.all(np.isfinite(probability_NC)):
        bad = int(np.argmin(np.all(np.isfinite(probability_NC), axis=1)))
        raise ValueError(f"row {bad} has a probability that is not finite")
    off_N = np.abs(probability_NC.sum(axis=1) - 1) > _SUM_TOLERANCE
    off_N |= np.any(probability_NC < 0, axis=1)
    if np.any(off_N):
        row = probability_NC[int(np.argmax(off_N))]
        raise ValueError(
            f"row {int(np.argmax(off_N))} is no distribution: minimum {row.min():g}, "
            f"sum {row.sum():g}; are these logits?"
        )
    return probability_NC, label_N.astype(np.int64)


def plain(value: float) -> float | None:
    """A Python float, None for NaN."""
    return None if math.isnan(value) else float(value)
