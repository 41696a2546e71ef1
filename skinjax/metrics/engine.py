"""All metrics of one table of predictions, for many weightings of its examples at once.

A resample of the table is a vector of integer weights: how often each example is in it. What
doesn't depend on the weights (orders, ties, bins) is found once, and every metric is then made of
sums over groups of examples, which are products of a sparse matrix with the weights. The metrics
of the table itself are those of weights of 1, so that a number and its interval come from one code.
"""

from collections.abc import Collection, Sequence

import numpy as np
import scipy.sparse

from skinjax.metrics import curves
from skinjax.metrics.binning import Binned, top_class

_OF_CURVES = ("roc_auc", "pr_auc", "partial_roc_auc")
# Of the second of two classes; None for more.
OF_TWO = (*_OF_CURVES, "sensitivity_at_90_specificity", "specificity_at_90_sensitivity")
PER_CLASS = ("precision", "recall", "f1", "specificity", *OF_TWO)
_OF_COUNTS = (
    *("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"),
    *("weighted_precision", "weighted_recall", "weighted_f1"),
    *("cohen_kappa", "matthews_correlation"),
)
_OF_MEANS = ("top_2_accuracy", "log_loss", "brier_score")
OF_BINS = (
    *("expected_calibration_error", "expected_calibration_error_equal_mass"),
    "maximum_calibration_error",
)
_OF_CLASSES = tuple(f"macro_{name}" for name in _OF_CURVES)
# Means over the classes, to which one of a single lesion gives as much as any other.
MEANS = frozenset(
    ("balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", *_OF_CLASSES)
)
SCALARS = (*_OF_COUNTS, *_OF_MEANS, *OF_BINS, *_OF_CLASSES, *OF_TWO)


class Engine:
    """One checked table, ready to be weighted."""

    def __init__(self, probability_NC: np.ndarray, label_N: np.ndarray) -> None:
        """Takes float64 probabilities and int64 labels, one example or more."""
        num_examples, self.num_classes = probability_NC.shape
        self._probability_NC, self._label_N = probability_NC, label_N
        cell_N = label_N * self.num_classes + np.argmax(probability_NC, axis=1)
        self._cells = scipy.sparse.csr_array(
            (np.ones(num_examples), (cell_N, np.arange(num_examples))),
            shape=(self.num_classes**2, num_examples),
        )
        self._example_3N = np.stack(
            [
                _in_top_2(probability_NC, label_N),
                _log_loss(probability_NC, label_N),
                np.sum((probability_NC - np.eye(self.num_classes)[label_N]) ** 2, axis=1),
            ]
        )
        self._binned = Binned(*top_class(probability_NC, label_N))
        self._steps_C: Sequence[scipy.sparse.csr_array | None] | None = None

    def confusion(self, weight_NR: np.ndarray) -> np.ndarray:
        """Confusion matrices (R, C, C), rows the true classes: whole numbers in float64."""
        cell_KR = self._cells @ weight_NR
        return np.ascontiguousarray(cell_KR.T).reshape(-1, self.num_classes, self.num_classes)

    def scores(
        self, weight_NR: np.ndarray, only: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Every metric for every column of weights; NaN where it is undefined.

        Args:
          weight_NR: whole numbers >= 0 in float64; each column has one that is not 0.
          only: names of `SCALARS`, and of `PER_CLASS` as "per_class"; all if None.

        Returns:
          The `SCALARS` as float64 (R,), and of `PER_CLASS` as "per_class.<name>" (R, C).
        """
        wanted = {*SCALARS, "per_class"} if only is None else set(only)
        values: dict[str, np.ndarray] = {}
        if wanted & {*_OF_COUNTS, "per_class"}:
            values |= _of_counts(self.confusion(weight_NR))
        if wanted & set(_OF_MEANS):
            mean_3R = self._example_3N @ weight_NR / weight_NR.sum(axis=0)
            values |= dict(zip(_OF_MEANS, mean_3R, strict=True))
        if wanted & set(OF_BINS):
            values |= self._binned.errors(weight_NR)
        if wanted & {*_OF_CLASSES, *OF_TWO, "per_class"}:
            values |= self._of_curves(weight_NR)
        return {
            name: value
            for name, value in values.items()
            if name in wanted or ("per_class" in wanted and name.startswith("per_class."))
        }

    def _of_curves(self, weight_NR: np.ndarray) -> dict[str, np.ndarray]:
        """What is read off the curves, by class, their macro means, and those of two classes."""
        if self._steps_C is None:  # sorting is not free, and calibration alone doesn't need it
            self._steps_C = [
                curves.step_sums(self._probability_NC[:, index], self._label_N == index)
                for index in range(self.num_classes)
            ]
        nothing_R = np.full(weight_NR.shape[1], np.nan)
        found_C = [
            dict.fromkeys(OF_TWO, nothing_R) if steps is None else curves.scores(steps, weight_NR)
            for steps in self._steps_C
        ]
        values = {
            f"per_class.{name}": np.stack([found[name] for found in found_C], axis=1)
            for name in OF_TWO
        }
        values |= {f"macro_{name}": _mean(values[f"per_class.{name}"]) for name in _OF_CURVES}
        two = self.num_classes == 2
        return values | {name: found_C[1][name] if two else nothing_R for name in OF_TWO}


def _of_counts(confusion_RCC: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of the predicted classes, by class and over all."""
    hits_RC = np.einsum("rcc->rc", confusion_RCC)
    support_RC, predicted_RC = confusion_RCC.sum(axis=2), confusion_RCC.sum(axis=1)
    total_R1 = support_RC.sum(axis=1, keepdims=True)
    total_R = total_R1[:, 0]
    rest_RC = total_R1 - support_RC
    present_RC = support_RC > 0
    by_class = {
        # A class that is never predicted has precision 0.
        "precision": _ratio(hits_RC, np.maximum(predicted_RC, 1), present_RC),
        "recall": _ratio(hits_RC, support_RC, present_RC),
        "f1": _ratio(2 * hits_RC, predicted_RC + support_RC, present_RC),
        "specificity": _ratio(
            rest_RC - (predicted_RC - hits_RC), rest_RC, present_RC & (rest_RC > 0)
        ),
    }
    values = {f"per_class.{name}": value_RC for name, value_RC in by_class.items()}
    for name in ("precision", "recall", "f1"):
        values[f"macro_{name}"] = _mean(by_class[name])
        weighted_RC = np.where(present_RC, by_class[name], 0) * support_RC
        values[f"weighted_{name}"] = weighted_RC.sum(axis=1) / total_R
    hits_R = hits_RC.sum(axis=1)
    by_chance_R = np.sum(support_RC * predicted_RC, axis=1)  # agreements, times all examples
    spread_label_R = total_R**2 - np.sum(support_RC**2, axis=1)
    spread_predicted_R = total_R**2 - np.sum(predicted_RC**2, axis=1)
    # Gorodkin 2004 (doi:10.1016/j.compbiolchem.2004.09.006); one class predicted for all gives 0.
    covariance_R = hits_R * total_R - by_chance_R
    spread_R = np.sqrt(spread_label_R) * np.sqrt(np.maximum(spread_predicted_R, 1))
    return values | {
        "accuracy": hits_R / total_R,
        "balanced_accuracy": values["macro_recall"],
        "cohen_kappa": _ratio(covariance_R, total_R**2 - by_chance_R, total_R**2 - by_chance_R > 0),
        "matthews_correlation": _ratio(covariance_R, spread_R, spread_label_R > 0),
    }


def _in_top_2(probability_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """1.0 where the label is among the two most probable classes; NaN for two classes or fewer."""
    num_examples, num_classes = probability_NC.shape
    if num_classes <= 2:
        return np.full(num_examples, np.nan)
    # Of equals the first is taken, as argmax does, so that this is never below the accuracy.
    top_N2 = np.argsort(-probability_NC, axis=1, kind="stable")[:, :2]
    return np.any(top_N2 == label_N[:, None], axis=1).astype(np.float64)


def _log_loss(probability_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    epsilon = np.finfo(np.float64).eps
    own_N = probability_NC[np.arange(len(label_N)), label_N]
    return np.asarray(-np.log(np.clip(own_N, epsilon, 1 - epsilon)))


def _ratio(above: np.ndarray, below: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """The quotient where it is defined, else NaN."""
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=defined)


def _mean(value_RC: np.ndarray) -> np.ndarray:
    """Mean over the classes for which the value is defined, NaN if there are none."""
    defined_RC = ~np.isnan(value_RC)
    return _ratio(
        np.sum(value_RC, axis=1, where=defined_RC),
        np.sum(defined_RC, axis=1),
        np.any(defined_RC, axis=1),
    )
