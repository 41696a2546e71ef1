"""One class against the rest: ROC and precision-recall curves, and what is read off them."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse

# ISIC 2024's score counts the area above this sensitivity.
PARTIAL_SENSITIVITY = 0.8


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


def step_sums(score_N: np.ndarray, positive_N: np.ndarray) -> scipy.sparse.csr_array | None:
    """The matrix (2T, N) that sums weights by step of the curve, from the highest score down.

    Its first T rows sum the positives of each step, the others the negatives. A step is all
    examples of one score; neighbouring steps without positives are one, because no number that
    `scores` reads off the curve lies between them. None as in `curve`.
    """
    if positive_N.all() or not positive_N.any():
        return None
    order_N = np.argsort(-score_N, kind="stable")
    tie_N = np.cumsum(np.diff(score_N[order_N], prepend=np.inf) != 0) - 1
    positives_G = np.bincount(tie_N, weights=positive_N[order_N])
    begins_G = (positives_G > 0) | (np.concatenate([[1], positives_G[:-1]]) > 0)
    step_N = (np.cumsum(begins_G) - 1)[tie_N]
    num_steps = int(step_N[-1]) + 1
    row_N = step_N + np.where(positive_N[order_N], 0, num_steps)
    return scipy.sparse.csr_array(
        (np.ones(len(row_N)), (row_N, order_N)), shape=(2 * num_steps, len(row_N))
    )


def scores(sums: scipy.sparse.csr_array, weight_NR: np.ndarray) -> dict[str, np.ndarray]:
    """Areas and operating points for each column of weights: {name: float64 (R,)}.

    NaN where the weights leave no positives or no negatives. Counts are integers in float64, so
    that comparing them with a share of all is exact.

    - `roc_auc`: ties count half. `pr_auc`: average precision.
    - `partial_roc_auc`: the area between the ROC curve and sensitivity 0.8, above it, in [0, 0.2]
      (ISIC 2024's score).
    - `sensitivity_at_90_specificity`: the highest of the thresholds whose specificity is 0.9 or
      more; calling nothing positive is one of them. `specificity_at_90_sensitivity`: likewise.
    """
    step_TR = sums @ weight_NR
    positive_RT, negative_RT = np.split(np.ascontiguousarray(step_TR.T), 2, axis=1)
    true_RT, false_RT = np.cumsum(positive_RT, axis=1), np.cumsum(negative_RT, axis=1)
    positives_R, negatives_R = true_RT[:, -1], false_RT[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Negatives that rank below a positive, and half of those that tie with it.
        below_RT = negatives_R[:, None] - false_RT + 0.5 * negative_RT
        pairs_R = positives_R * negatives_R
        roc_auc_R = _dot(positive_RT, below_RT) / pairs_R
        called_RT = np.maximum(true_RT + false_RT, 1)
        pr_auc_R = _dot(positive_RT, true_RT / called_RT) / positives_R
        partial_R = _partial_area(positive_RT, negative_RT, true_RT, false_RT) / pairs_R
        specific_RT = 10 * false_RT <= negatives_R[:, None]
        most_R = np.max(true_RT, axis=1, where=specific_RT, initial=0)
        sensitive_RT = 10 * true_RT >= 9 * positives_R[:, None]
        least_R = np.min(false_RT, axis=1, where=sensitive_RT, initial=np.inf)
        values = {
            "roc_auc": roc_auc_R,
            "pr_auc": pr_auc_R,
            "partial_roc_auc": partial_R,
            "sensitivity_at_90_specificity": most_R / positives_R,
            "specificity_at_90_sensitivity": (negatives_R - least_R) / negatives_R,
        }
    return {name: np.where(pairs_R > 0, value_R, np.nan) for name, value_R in values.items()}


def _partial_area(
    positive_RT: np.ndarray, negative_RT: np.ndarray, true_RT: np.ndarray, false_RT: np.ndarray
) -> np.ndarray:
    """Integral of the true negatives over the true positives above `PARTIAL_SENSITIVITY` of all.

    Within a step the curve is a straight line, so that a tie counts half.
    """
    floor_R1 = PARTIAL_SENSITIVITY * true_RT[:, -1:]
    rise_RT = true_RT - np.maximum(true_RT - positive_RT, floor_R1)
    np.maximum(rise_RT, 0, out=rise_RT)
    # Negatives passed while rising that part of the step, if it is not the whole step.
    passed_RT = negative_RT * rise_RT / np.maximum(positive_RT, 1)
    return _dot(rise_RT, false_RT[:, -1:] - false_RT + 0.5 * passed_RT)


def _dot(left_RT: np.ndarray, right_RT: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("rt,rt->r", left_RT, right_RT))
