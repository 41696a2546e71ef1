"""What a model gets wrong, from a table of predictions alone: which classes, how sure, which cases.

The confidence is the probability of the predicted class, as it is in the table. (No JAX.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pair:
    """Images of one class that were taken for another.

    Attributes:
      true, predicted: names of the classes.
      count: images.
      share_of_class: of all images of the true class.
      share_of_errors: of all images that were misclassified.
    """

    true: str
    predicted: str
    count: int
    share_of_class: float
    share_of_errors: float


@dataclass(frozen=True)
class Histogram:
    """Images by confidence.

    Attributes:
      edge_T: float64 (T,), from 0 to 1; the last bin includes 1.
      hits, misses: int64 (T - 1,).
    """

    edge_T: np.ndarray
    hits: np.ndarray
    misses: np.ndarray


def is_hit(probability_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """Whether the class of the highest probability, the first of equal ones, is the true one."""
    return np.asarray(np.argmax(probability_NC, axis=1) == label_N)


def confusion_pairs(
    probability_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> list[Pair]:
    """Every pair of classes that was confused, the most frequent first, then in class order."""
    predicted_N = np.argmax(probability_NC, axis=1)
    confusion_CC = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion_CC, (label_N, predicted_N), 1)
    support_C = confusion_CC.sum(axis=1)
    np.fill_diagonal(confusion_CC, 0)
    total = int(confusion_CC.sum())
    order = np.argsort(-confusion_CC, axis=None, kind="stable")
    return [
        Pair(
            classes[true],
            classes[predicted],
            count,
            count / int(support_C[true]),
            count / total,
        )
        for true, predicted in (divmod(int(place), len(classes)) for place in order)
        if (count := int(confusion_CC[true, predicted]))
    ]


def confidence_histogram(
    probability_NC: np.ndarray, label_N: np.ndarray, *, num_bins: int = 20
) -> Histogram:
    """Hits and misses in bins of equal width between 0 and 1."""
    confidence_N = np.max(probability_NC, axis=1)
    hit_N = is_hit(probability_NC, label_N)
    edge_T = np.linspace(0, 1, num_bins + 1)
    # A sum of float32 values may be a little over 1.
    place_N = np.minimum((confidence_N * num_bins).astype(np.int64), num_bins - 1)
    hits, misses = (np.bincount(place_N[of_N], minlength=num_bins) for of_N in (hit_N, ~hit_N))
    return Histogram(edge_T, hits, misses)


def confident_errors(probability_NC: np.ndarray, label_N: np.ndarray, num: int) -> np.ndarray:
    """Indices of the `num` misclassified images of highest confidence, the highest first."""
    return _extremes(-np.max(probability_NC, axis=1), ~is_hit(probability_NC, label_N), num)


def uncertain_hits(probability_NC: np.ndarray, label_N: np.ndarray, num: int) -> np.ndarray:
    """Indices of the `num` rightly classified images of lowest confidence, the lowest first."""
    return _extremes(np.max(probability_NC, axis=1), is_hit(probability_NC, label_N), num)


def _extremes(value_N: np.ndarray, among_N: np.ndarray, num: int) -> np.ndarray:
    """Indices of the lowest values among some rows; of equal ones the first."""
    index = np.flatnonzero(among_N)
    return index[np.argsort(value_N[index], kind="stable")[:num]]
