"""Two models on the same examples: is the difference more than chance?"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from skinjax.metrics import bootstrap, engine
from skinjax.metrics.strata import group_indices

_MOST_EXACT = 14  # groups, of which all 2 ** 14 ways to swap are looked at
_LOT, _LOTS = 1000, 20  # ways to swap drawn for more of them


class DeLong(NamedTuple):
    """Areas under two ROC curves of the same examples, and their difference, A less B.

    z and p (of both sides) are None where the standard error is 0.
    """

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    z: float | None
    p: float | None


class McNemar(NamedTuple):
    """Examples that only A, and that only B, has right; p of both sides."""

    only_a: int
    only_b: int
    p: float


def delong(
    score_A_N: np.ndarray,
    score_B_N: np.ndarray,
    positive_N: np.ndarray,
    group_N: Sequence[Any] | np.ndarray | None = None,
) -> DeLong | None:
    """DeLong's test of two ROC-AUCs on the same examples; ties count half.

    DeLong et al. 1988 (doi:10.2307/2531595), by the mid-ranks of Sun and Xu 2014
    (doi:10.1109/LSP.2014.2337313), O(N log N). With `group_N`, examples of one group may be alike:
    the variance is then that of Obuchowski 1997 (doi:10.2307/2533958), which is DeLong's where
    every example is a group of its own.

    Args:
      score_A_N, score_B_N: finite scores, higher for the positives.
      positive_N: bool.
      group_N: as for `bootstrap.weights`.

    Returns:
      None with fewer than two groups that have positives, or that have negatives.
    """
    both, positive_N = (score_A_N, score_B_N), np.asarray(positive_N, bool)
    num_positives = int(positive_N.sum())
    num_negatives = len(positive_N) - num_positives
    member_N = np.arange(len(positive_N)) if group_N is None else group_indices(group_N)
    if min(len(set(member_N[positive_N])), len(set(member_N[~positive_N]))) < 2:
        return None
    # How often each positive ranks above a negative, and each negative below a positive.
    placement_2N = np.stack([_placements(score_N, positive_N) for score_N in both])
    auc_2 = placement_2N[:, positive_N].mean(axis=1)
    centred_2N = placement_2N - auc_2[:, None]
    num_groups = int(member_N.max()) + 1
    share_NK = np.stack([positive_N / num_positives, ~positive_N / num_negatives], axis=1)
    # Each group's part in the mean over the positives and in the mean over the negatives.
    part_GK2 = np.zeros((num_groups, 2, 2))
    np.add.at(part_GK2, member_N, share_NK[:, :, None] * centred_2N.T[:, None, :])
    has_GK = np.zeros((num_groups, 2), bool)
    has_GK[member_N[positive_N], 0] = has_GK[member_N[~positive_N], 1] = True
    difference_GK = part_GK2[:, :, 0] - part_GK2[:, :, 1]
    count_K = has_GK.sum(axis=0)
    variance = float(np.sum(count_K / (count_K - 1) * np.sum(difference_GK**2, axis=0)))
    covariance = float(np.sum(difference_GK[:, 0] * difference_GK[:, 1]))
    variance += 2 * num_groups / (num_groups - 1) * covariance
    return _test(auc_2.tolist(), math.sqrt(max(variance, 0.0)))


def _test(auc_2: Sequence[float], standard_error: float) -> DeLong:
    difference = auc_2[0] - auc_2[1]
    if standard_error < 1e-12:  # what rounding leaves of two curves that are one
        return DeLong(auc_2[0], auc_2[1], difference, 0.0, None, None)
    z = difference / standard_error
    p = float(2 * scipy.special.ndtr(-abs(z)))
    return DeLong(auc_2[0], auc_2[1], difference, standard_error, z, p)


def _placements(score_N: np.ndarray, positive_N: np.ndarray) -> np.ndarray:
    """Share of the other kind that each example is on the right side of; ties count half."""
    score_N = np.asarray(score_N, np.float64)
    placement_N = np.empty(len(score_N))
    for own_N, side in ((positive_N, 1), (~positive_N, -1)):
        others = np.sort(side * score_N[~own_N])
        mine = side * score_N[own_N]
        below = np.searchsorted(others, mine) + np.searchsorted(others, mine, side="right")
        placement_N[own_N] = below / (2 * len(others))
    return placement_N


def mcnemar(correct_A_N: np.ndarray, correct_B_N: np.ndarray) -> McNemar:
    """McNemar's test of two accuracies, exact: binomial in the examples that one alone has right.

    It takes examples as independent; where several are of one lesion, `bootstrap_difference` is
    the one to believe.
    """
    correct_A_N, correct_B_N = np.asarray(correct_A_N, bool), np.asarray(correct_B_N, bool)
    if correct_A_N.shape != correct_B_N.shape:
        raise ValueError(f"{correct_A_N.shape} and {correct_B_N.shape} are not the same examples")
    only_a = int(np.sum(correct_A_N & ~correct_B_N))
    only_b = int(np.sum(~correct_A_N & correct_B_N))
    tail = float(scipy.special.bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(only_a, only_b, min(1.0, 2 * tail))


def exchange(
    probability_A_NC: np.ndarray,
    probability_B_NC: np.ndarray,
    label_N: np.ndarray,
    group_N: Sequence[Any] | np.ndarray,
) -> dict[str, np.ndarray]:
    """p, of both sides, of differences in hits, where the models are swapped group by group.

    If the models are alike, a group that only one has right might as well be the other's: the p is
    the share of all ways to swap that differ as much. With as many images in each such group, this
    is the exact sign test (McNemar's, for groups of one). Unlike the bootstrap's, it can't be small
    for a few groups: of k it is 2 ** (1 - k) at least.

    Returns:
      Of "accuracy", "weighted_recall", "balanced_accuracy", "macro_recall" as shape (), of
      "per_class.recall" (C,), 1 for a class without examples.
    """
    label_N, num_classes = np.asarray(label_N), probability_A_NC.shape[1]
    right_A_N, right_B_N = (
        np.argmax(table_NC, axis=1) == label_N for table_NC in (probability_A_NC, probability_B_NC)
    )
    member_N = group_indices(group_N)
    net_GC = np.zeros((member_N.max(initial=-1) + 1, num_classes))
    np.add.at(net_GC, (member_N, label_N), right_A_N.astype(int) - right_B_N)
    count_C = np.bincount(label_N, minlength=num_classes)
    of_all = np.array(_swapped(net_GC.sum(axis=1)))
    balanced = np.array(_swapped((net_GC / np.maximum(count_C, 1)).sum(axis=1)))
    return {
        "accuracy": of_all,
        "weighted_recall": of_all,
        "balanced_accuracy": balanced,
        "macro_recall": balanced,
        "per_class.recall": np.array([_swapped(net_G) for net_G in net_GC.T]),
    }


def _swapped(net_G: np.ndarray) -> float:
    """The share of choices of signs whose sum is as far from 0; by lot if there are too many."""
    net_K = net_G[net_G != 0]
    if net_K.size == 0:
        return 1.0
    reached = abs(net_K.sum()) * (1 - 1e-9)
    if net_K.size <= _MOST_EXACT:
        sign_RK = 1 - 2 * (np.arange(2**net_K.size)[:, None] >> np.arange(net_K.size) & 1)
        return float(np.mean(np.abs(sign_RK @ net_K) >= reached))
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(_LOTS):
        sign_RK = 1 - 2 * rng.integers(2, size=(_LOT, net_K.size), dtype=np.int8)
        found += int(np.sum(np.abs(sign_RK @ net_K) >= reached))
    return (found + 1) / (_LOTS * _LOT + 1)


def bootstrap_difference(
    probability_A_NC: np.ndarray,
    probability_B_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    group_N: Sequence[Any] | np.ndarray,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> dict[str, dict[str, float] | None]:
    """Each metric of A less that of B, over resamples that both share, by group.

    p is of both sides: 1 less the confidence of the interval that just leaves 0 out, and of
    accuracy and balanced accuracy (and recall) no less than `exchange` says: resamples of a few
    cases that only one of the models has right agree too much.

    Args:
      as for `bootstrap.intervals`; `only` names scalars.

    Returns:
      {metric: {"difference", "low", "high", "p"}}; None where an interval would be None.
    """
    a, b = (
        bootstrap.resample(
            probability_NC,
            label_N,
            classes,
            group_N,
            num_resamples=num_resamples,
            seed=seed,
            only=only,
        )
        for probability_NC in (probability_A_NC, probability_B_NC)
    )
    difference = a.less(b)
    names = [name for name in engine.SCALARS if name in difference.point]
    least = exchange(probability_A_NC, probability_B_NC, label_N, group_N)
    return {name: tested(difference, name, confidence=confidence, least=least) for name in names}


def tested(
    difference: bootstrap.Resampled,
    name: str,
    *index: int,
    confidence: float,
    least: Mapping[str, np.ndarray],
) -> dict[str, float] | None:
    """One metric's difference: value, interval and p; None where it has no interval.

    `least` is what `exchange` gives.
    """
    interval = difference.interval(name, *index, confidence=confidence)
    if interval is None:
        return None
    return {
        "difference": float(difference.point[name][index]),
        "low": interval[0],
        "high": interval[1],
        "p": max(difference.p(name, *index), float(least[name][index]) if name in least else 0.0),
    }
