"""Combining the predictions of several models: mean, mean of ranks, greedy selection."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from skinjax import metrics
from skinjax.errors import InputError

METHODS = ("mean", "rank_mean", "greedy")
ROUNDS = 50  # of greedy selection: the weights are multiples of 1/50 or more


def combine(
    probability_KNC: np.ndarray, method: str = "mean", weight_K: np.ndarray | None = None
) -> np.ndarray:
    """The probabilities of an ensemble, float64 (N, C), rows summing to 1.

    "mean" (and "greedy", with the weights that it chose) is the weighted mean. "rank_mean" takes
    for each class the mean of the ranks that the members give an image among all N, and in its
    place the value that the members' sorted probabilities have there on average. So a member that
    is always near 0 or 1 counts no more than a cautious one, and a class is predicted about as
    often as by the members. Of two classes the order of the images is that of the mean ranks. Of
    more classes a row that sums to more than 1 is divided by its sum, and what one lacks, where the
    members disagree, has the proportions of the plain mean. It needs all images at once: a single
    one has no rank.

    Args:
      probability_KNC: of K members for the same images, rows summing to 1.
      method: one of `METHODS`.
      weight_K: of the members, not negative and not all 0; None is all the same.
    """
    probability_KNC = np.asarray(probability_KNC, np.float64)
    weight_K = np.ones(len(probability_KNC)) if weight_K is None else np.asarray(weight_K, float)
    if weight_K.shape != probability_KNC.shape[:1] or not weight_K.sum() > 0 or weight_K.min() < 0:
        raise ValueError(f"weights {weight_K} of {len(probability_KNC)} members")
    share_K = weight_K / weight_K.sum()
    if method in ("mean", "greedy"):
        combined_NC = np.tensordot(share_K, probability_KNC, 1)
    elif method == "rank_mean":
        combined_NC = _rank_mean(probability_KNC, share_K)
    else:
        raise InputError(f"--method={method} is none of {', '.join(METHODS)}")
    return np.asarray(combined_NC / combined_NC.sum(axis=1, keepdims=True))


def _rank_mean(probability_KNC: np.ndarray, share_K: np.ndarray) -> np.ndarray:
    """The mean ranks on the scale of the probabilities; rows sum to 1 or more."""
    if probability_KNC.shape[2] == 2:  # rounding may part the ties of one and not of the other
        second_N1 = _by_rank(probability_KNC[..., 1:], share_K)
        return np.concatenate([1 - second_N1, second_N1], axis=1)
    ranked_NC = _by_rank(probability_KNC, share_K)
    missing_N1 = np.maximum(1 - ranked_NC.sum(axis=1, keepdims=True), 0)
    return np.asarray(ranked_NC + missing_N1 * np.tensordot(share_K, probability_KNC, 1))


def _by_rank(probability_KNC: np.ndarray, share_K: np.ndarray) -> np.ndarray:
    """For each class the members' mean sorted probability at the mean rank of each image."""
    num_examples = probability_KNC.shape[1]
    rank_KNC = rankdata(probability_KNC, axis=1)  # ties have the mean of their ranks
    rank_NC = np.tensordot(share_K, rank_KNC, 1)
    sorted_NC = np.tensordot(share_K, np.sort(probability_KNC, axis=1), 1)
    place_N = np.arange(1, num_examples + 1)
    columns = [
        np.interp(rank_N, place_N, sorted_N)
        for rank_N, sorted_N in zip(rank_NC.T, sorted_NC.T, strict=True)
    ]
    return np.stack(columns, axis=1)


def greedy(
    probability_KNC: np.ndarray,
    label_N: np.ndarray,
    metric: str,
    classes: Sequence[str],
    rounds: int = ROUNDS,
) -> np.ndarray:
    """Chooses members for their mean on validation; returns how often each was taken, (K,).

    Forward selection with replacement (Caruana et al., "Ensemble Selection from Libraries of
    Models", ICML 2004): starting from the best member, each round adds the one with which the mean
    does best, the first of equals. What is returned is the best mean of all rounds, the smallest of
    equals, so it is never worse on these images than the best member.

    Args:
      probability_KNC: of K members for the same images.
      label_N: integers in [0, C).
      metric: a name of `metrics.DIRECTIONS` but "loss".
      classes: the C names.
      rounds: members taken at most, the first included.

    Raises:
      InputError: the metric is not one of so many classes, or undefined for these images.
    """
    metrics.check(metric, len(classes))
    if metric == "loss":
        raise InputError("--metric=loss is of one model's training; give --metric=log_loss")
    sign = 1 if metrics.direction(metric) == "max" else -1
    probability_KNC = np.asarray(probability_KNC, np.float64)

    def score(probability_NC: np.ndarray) -> float:
        value = metrics.compute(probability_NC, label_N, classes)[metric]
        if value is None:
            raise InputError(
                f"--metric={metric} is undefined for these {len(label_N)} validation images, so it "
                "can't choose members; give another"
            )
        return sign * float(value)

    taken_K = np.zeros(len(probability_KNC), int)
    total_NC = np.zeros(probability_KNC.shape[1:])
    best_score, best_K = -np.inf, taken_K
    for taken in range(1, rounds + 1):
        score_K = [score((total_NC + one_NC) / taken) for one_NC in probability_KNC]
        chosen = int(np.argmax(score_K))
        taken_K[chosen] += 1
        total_NC = total_NC + probability_KNC[chosen]
        if score_K[chosen] > best_score:
            best_score, best_K = score_K[chosen], taken_K.copy()
    return best_K
