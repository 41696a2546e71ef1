"""Shares of which every resample is 0 or 1: intervals from the number of lesions behind them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from skinjax.metrics.strata import group_indices


def of_all_or_none(share: float, count: int, confidence: float) -> list[float]:
    """The interval of Wilson 1927 (doi:10.1080/01621459.1927.10502953) at an end.

    Where all of `count` independent cases are right (`share` is 1), or none is (0), resamples all
    agree, and their percentiles would say that nothing is open.
    """
    z = float(scipy.special.ndtri((1 + confidence) / 2))
    reach = z**2 / (count + z**2)
    return [1 - reach, 1.0] if share else [0.0, reach]


def num_groups(group_N: Sequence[Any] | np.ndarray, of_N: np.ndarray) -> int:
    """How many groups have an example in `of_N` (bool)."""
    return len(np.unique(group_indices(group_N)[of_N]))


def groups_behind(
    probability_NC: np.ndarray, label_N: np.ndarray, group_N: Sequence[Any] | np.ndarray
) -> dict[str, np.ndarray]:
    """How many groups each share of a table is of, under the names of `Resampled.point`."""
    num_classes = probability_NC.shape[1]
    member_N = group_indices(group_N)
    predicted_N = np.argmax(probability_NC, axis=1)

    def count(of_NC: np.ndarray) -> np.ndarray:
        return np.array([len(np.unique(member_N[of_N])) for of_N in of_NC.T])

    own_NC = label_N[:, None] == np.arange(num_classes)
    of_all = np.array(len(np.unique(member_N)))
    return {
        "accuracy": of_all,
        "weighted_recall": of_all,  # the accuracy by another name
        "per_class.recall": count(own_NC),
        "per_class.specificity": count(~own_NC),
        "per_class.precision": count(predicted_N[:, None] == np.arange(num_classes)),
    }
