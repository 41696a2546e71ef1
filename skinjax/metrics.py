"""Classification metrics on the host, from the full table of predicted probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from skinjax.errors import InputError

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
    "macro_roc_auc": "max",
    "macro_pr_auc": "max",
    "roc_auc": "max",  # of the second of two classes, as is pr_auc
    "pr_auc": "max",
    "log_loss": "min",
    "loss": "min",  # the training objective; the loop adds it, `compute` doesn't know it
}
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Curve:
    """One class against the rest, at every distinct threshold, from the highest down.

    Arrays are float64 of the same length T; entry t calls an example positive where its score
    is >= threshold_T[t]. The origin (nothing called positive) is not in it.
    """

    threshold_T: np.ndarray
    false_positive_rate_T: np.ndarray
    recall_T: np.ndarray
    precision_T: np.ndarray

    def roc_auc(self) -> float:
        """Area under recall over false positive rate, by the trapezoid rule (ties count half)."""
        false_positive_rate = np.concatenate([[0.0], self.false_positive_rate_T])
        recall = np.concatenate([[0.0], self.recall_T])
        return float(np.trapezoid(recall, false_positive_rate))

    def average_precision(self) -> float:
        """Sum of precision times the step in recall: no interpolation, as in scikit-learn."""
        return float(np.sum(np.diff(self.recall_T, prepend=0.0) * self.precision_T))


def curve(score_N: np.ndarray, positive_N: np.ndarray) -> Curve | None:
    """ROC and precision-recall points of `score_N` (float) for `positive_N` (bool).

    None if there are no positives or no negatives: then neither curve says anything.
    """
    num_positives = int(np.count_nonzero(positive_N))
    num_negatives = len(positive_N) - num_positives
    if num_positives == 0 or num_negatives == 0:
        return None
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order_N]
    last_of_tie_T = np.concatenate([np.flatnonzero(np.diff(sorted_N)), [len(sorted_N) - 1]])
    true_positives_T = np.cumsum(positive_N[order_N])[last_of_tie_T]
    called_T = last_of_tie_T + 1
    return Curve(
        threshold_T=sorted_N[last_of_tie_T],
        false_positive_rate_T=(called_T - true_positives_T) / num_negatives,
        recall_T=true_positives_T / num_positives,
        precision_T=true_positives_T / called_T,
    )


def compute(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Every metric of one table of predictions, as plain Python values that JSON can hold.

    The prediction is the most probable class, the first of equals. A class without examples has
    None for its metrics and is left out of the macro means, which are over the classes present;
    so is ROC-AUC and PR-AUC where every example is of one class. A class that is present and
    never predicted has precision 0. PR-AUC is average precision. `roc_auc` and `pr_auc` are those
    of the second of two classes, the positive one, and None for more; `top_2_accuracy` is None for
    two classes. `log_loss` is in nats, with probabilities kept at least float64's epsilon.

    Args:
      probability_NC: finite, in [0, 1], rows summing to 1 within 1e-3; worked on as float64.
      label_N: integers in [0, C).
      classes: the C names, in the order of the columns.

    Raises:
      ValueError: the arrays break what is said above.
    """
    probability_NC, label_N = _checked(probability_NC, label_N, classes)
    num_examples, num_classes = probability_NC.shape
    confusion_CC = np.bincount(
        label_N * num_classes + np.argmax(probability_NC, axis=1), minlength=num_classes**2
    ).reshape(num_classes, num_classes)
    per_class = {
        name: _class_metrics(confusion_CC, index, probability_NC[:, index], label_N == index)
        for index, name in enumerate(classes)
    }

    def macro(name: str) -> float | None:
        return _mean(scores[name] for scores in per_class.values())

    def weighted(name: str) -> float | None:
        present = [scores for scores in per_class.values() if scores["support"]]
        total = sum(scores[name] * scores["support"] for scores in present)
        return total / num_examples if num_examples else None

    positive = per_class[classes[1]] if num_classes == 2 else {"roc_auc": None, "pr_auc": None}
    return {
        "num_examples": num_examples,
        "accuracy": int(np.trace(confusion_CC)) / num_examples if num_examples else None,
        "balanced_accuracy": macro("recall"),
        "top_2_accuracy": _top_2_accuracy(probability_NC, label_N),
        "macro_precision": macro("precision"),
        "macro_recall": macro("recall"),
        "macro_f1": macro("f1"),
        "weighted_precision": weighted("precision"),
        "weighted_recall": weighted("recall"),
        "weighted_f1": weighted("f1"),
        "macro_roc_auc": macro("roc_auc"),
        "macro_pr_auc": macro("pr_auc"),
        "roc_auc": positive["roc_auc"],
        "pr_auc": positive["pr_auc"],
        "log_loss": _log_loss(probability_NC, label_N),
        "per_class": per_class,
        "confusion_matrix": confusion_CC.tolist(),
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
    if name in ("roc_auc", "pr_auc") and num_classes != 2:
        raise InputError(
            f"{name} is of the positive one of two classes, and there are {num_classes}; choose"
            f" macro_{name}"
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


def _checked(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays as float64 and int64, or a ValueError."""
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


def _class_metrics(
    confusion_CC: np.ndarray, index: int, score_N: np.ndarray, positive_N: np.ndarray
) -> dict[str, Any]:
    """One class against the rest: precision, recall, f1, support, roc_auc, pr_auc."""
    support = int(confusion_CC[index].sum())
    if support == 0:
        undefined = dict.fromkeys(("precision", "recall", "f1"))
        return undefined | {"support": 0, "roc_auc": None, "pr_auc": None}
    hits = int(confusion_CC[index, index])
    predicted = int(confusion_CC[:, index].sum())
    points = curve(score_N, positive_N)
    return {
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / support,
        "f1": 2 * hits / (predicted + support),
        "support": support,
        "roc_auc": None if points is None else points.roc_auc(),
        "pr_auc": None if points is None else points.average_precision(),
    }


def _top_2_accuracy(probability_NC: np.ndarray, label_N: np.ndarray) -> float | None:
    num_examples, num_classes = probability_NC.shape
    if num_examples == 0 or num_classes <= 2:
        return None
    # Of equals the first is taken, as argmax does, so that this is never below the accuracy.
    top_N2 = np.argsort(-probability_NC, axis=1, kind="stable")[:, :2]
    return float(np.mean(np.any(top_N2 == label_N[:, None], axis=1)))


def _log_loss(probability_NC: np.ndarray, label_N: np.ndarray) -> float | None:
    if len(label_N) == 0:
        return None
    epsilon = np.finfo(np.float64).eps
    own_N = probability_NC[np.arange(len(label_N)), label_N]
    return float(-np.mean(np.log(np.clip(own_N, epsilon, 1 - epsilon))))


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of the defined values, None if there are none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
