"""Calibration of the most probable class: confidence against accuracy, in bins."""

from typing import Any

import numpy as np
import scipy.sparse

NUM_BINS = 15


def reliability(
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    *,
    bins: int = NUM_BINS,
    equal_mass: bool = False,
) -> list[dict[str, Any]]:
    """Mean confidence and accuracy of the most probable class, bin by bin, for plots.

    A bin holds the confidences in (low, high]. Bins are of equal width on [0, 1], or of equal mass:
    then their edges are the quantiles of the confidences, by linear interpolation, and examples of
    one confidence stay together. Both are scikit-learn's `calibration_curve`. Equal-width bins are
    those of Guo et al. 2017 (arXiv:1706.04599).

    Returns:
      From the lowest bin up: `confidence` and `accuracy` (None in an empty bin), `count`, `low`,
      `high`. No bins without examples.
    """
    confidence_N, correct_N = top_class(np.asarray(probability_NC, np.float64), np.asarray(label_N))
    if len(confidence_N) == 0:
        return []
    edges = (
        equal_mass_edges(np.sort(confidence_N), np.ones((1, len(confidence_N)), np.int64), bins)[0]
        if equal_mass
        else np.linspace(0, 1, bins + 1)[1:-1]
    )
    bin_N = np.searchsorted(edges, confidence_N)
    count_B, confidence_B, correct_B = (
        np.bincount(bin_N, weights=value_N, minlength=bins)
        for value_N in (np.ones_like(confidence_N), confidence_N, correct_N)
    )
    lowest, highest = (confidence_N.min(), confidence_N.max()) if equal_mass else (0.0, 1.0)
    low_B, high_B = np.append(lowest, edges), np.append(edges, highest)
    return [
        {
            "confidence": float(confidence_B[b] / count_B[b]) if count_B[b] else None,
            "accuracy": float(correct_B[b] / count_B[b]) if count_B[b] else None,
            "count": int(count_B[b]),
            "low": float(low_B[b]),
            "high": float(high_B[b]),
        }
        for b in range(bins)
    ]


def top_class(probability_NC: np.ndarray, label_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the most probable class, the first of equals, and 1.0 where it is right."""
    predicted_N = np.argmax(probability_NC, axis=1)
    confidence_N = probability_NC[np.arange(len(label_N)), predicted_N]
    return confidence_N, (predicted_N == label_N).astype(np.float64)


def equal_mass_edges(sorted_N: np.ndarray, weight_RN: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges (R, bins - 1) between bins of equal mass of the ascending values `sorted_N`.

    As `numpy.quantile` of the table in which value i stands weight_RN[r, i] (integer) times.
    """
    num_resamples, num_examples = weight_RN.shape
    # One ascending array for all rows, so that a single search serves them all.
    rank_RN = np.cumsum(weight_RN, axis=1, dtype=np.int64)
    total_R1 = rank_RN[:, -1:]
    row_R1 = np.arange(num_resamples)[:, None]
    apart = int(total_R1.max()) + 1
    flat = (rank_RN + apart * row_R1).ravel()

    def value(rank_RK: np.ndarray) -> np.ndarray:
        place_RK = np.searchsorted(flat, (rank_RK + apart * row_R1).ravel(), side="right")
        return sorted_N[place_RK.reshape(rank_RK.shape) - num_examples * row_R1]

    at_RK = (total_R1 - 1) * np.arange(1, bins)
    low_RK = value(at_RK // bins)
    high_RK = value(np.minimum(at_RK // bins + 1, total_R1 - 1))
    share_RK = at_RK % bins / bins
    # From the nearer end, as NumPy does, so that the edges are the same to the last bit.
    return np.where(
        share_RK < 0.5,
        low_RK + (high_RK - low_RK) * share_RK,
        high_RK - (high_RK - low_RK) * (1 - share_RK),
    )


class Binned:
    """Calibration errors of one table for any weights of its examples."""

    def __init__(self, confidence_N: np.ndarray, correct_N: np.ndarray) -> None:
        """Takes what `top_class` returns."""
        num_examples = len(confidence_N)
        bin_N = np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], confidence_N)
        self._gap_N = correct_N - confidence_N
        # Sums of gaps by bin, and below them sums of weights.
        self._sums = scipy.sparse.csr_array(
            (
                np.concatenate([self._gap_N, np.ones(num_examples)]),
                (np.concatenate([bin_N, bin_N + NUM_BINS]), np.tile(np.arange(num_examples), 2)),
            ),
            shape=(2 * NUM_BINS, num_examples),
        )
        self._order_N = np.argsort(confidence_N, kind="stable")
        self._sorted_N = confidence_N[self._order_N]

    def errors(self, weight_NR: np.ndarray) -> dict[str, np.ndarray]:
        """Expected (both kinds of bins) and maximum calibration error: {name: float64 (R,)}."""
        total_R = weight_NR.sum(axis=0)
        gap_BR, count_BR = np.split(np.abs(self._sums @ weight_NR), 2)
        weight_RN = np.ascontiguousarray(weight_NR[self._order_N].T)
        edge_RK = equal_mass_edges(self._sorted_N, weight_RN, NUM_BINS)
        begin_RK = np.searchsorted(self._sorted_N, edge_RK, side="right")
        below_RN = np.cumsum(weight_RN * self._gap_N[self._order_N], axis=1)
        # Sums below each edge; the lowest edge has nothing below it, the highest everything.
        below_RK = np.take_along_axis(below_RN, np.maximum(begin_RK - 1, 0), axis=1)
        below_RK = np.where(begin_RK > 0, below_RK, 0.0)
        nothing_R1 = np.zeros((len(total_R), 1))
        mass_RB = np.diff(np.concatenate([nothing_R1, below_RK, below_RN[:, -1:]], axis=1))
        return {
            "expected_calibration_error": gap_BR.sum(axis=0) / total_R,
            "expected_calibration_error_equal_mass": np.abs(mass_RB).sum(axis=1) / total_R,
            "maximum_calibration_error": np.max(gap_BR / np.maximum(count_BR, 1), axis=0),
        }
