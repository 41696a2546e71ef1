"""Scoring a submission to an ISIC challenge with the official metrics.

After the organisers' own scorer (github.com/ImageMarkup/isic-challenge-scoring, read at cf264bc):
the same figures, by scikit-learn's curves and this project's rule for what is undefined.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_curve

from skinjax.challenge import EXAMPLES, Challenge, check_size, number, read_submission
from skinjax.data import tables
from skinjax.data.sources import fields, one_hot
from skinjax.errors import InputError

_THRESHOLD = 0.5
_SENSITIVITY = 0.8  # of the partial AUC
# Whatever a ground truth says, the organisers' scorer has left it out since July 2018.
_NOT_SCORED = "ISIC_0035068"


def score(submission: Path, truth: Path, challenge: Challenge) -> dict[str, Any]:
    """Scores a submission as the organisers do.

    Two highest confidences that are equal are no decision, which counts as an error. A ground truth
    may have a column score_weight, and ISIC_0035068 weighs nothing. A class without images (UNK in
    ISIC 2019's training set) is left out of the means. What is divided by nothing is None, where
    the organisers' scorer prints 1.

    Returns:
      `balanced_accuracy`, the goal metric, and `macro_roc_auc`, which breaks ties; `num_images`,
      `num_scored` (of a weight above 0), `num_undecided`, `without_images` (classes); and
      `per_class`: `num_images`; `recall` by the highest confidence; accuracy, sensitivity,
      specificity, dice, ppv and npv of the confidences above 0.5; `roc_auc`, `average_precision`
      and `roc_auc_above_80`, the area down to the axis under the part of the ROC curve where
      sensitivity is 0.8 or more.

    Raises:
      InputError: either file is wrong, or they are not of the same images.
    """
    sent = read_submission(submission, challenge)
    label_of, weight_N = _read_truth(truth, challenge)
    _check_same_images(sent.image_ids, list(label_of), submission, truth)
    order = {image_id: place for place, image_id in enumerate(sent.image_ids)}
    confidence_NK = sent.confidence_NK[[order[image_id] for image_id in label_of]]
    label_N = np.array([challenge.columns.index(name) for name in label_of.values()])
    decided_N = np.sum(confidence_NK == confidence_NK.max(axis=1, keepdims=True), axis=1) == 1
    hit_N = decided_N & (confidence_NK.argmax(axis=1) == label_N)
    recall_K = _recalls(hit_N, label_N, weight_N, len(challenge.columns))
    per_class = {}
    for place, name in enumerate(challenge.columns):
        positive_N = label_N == place
        per_class[name] = {
            "num_images": int(np.sum(positive_N & (weight_N > 0))),
            "recall": recall_K[place],
            **_of_one_class(positive_N, confidence_NK[:, place], weight_N),
        }
    return {
        "challenge": challenge.name,
        "balanced_accuracy": _mean(recall_K),
        "macro_roc_auc": _mean([one["roc_auc"] for one in per_class.values()]),
        "num_images": len(label_N),
        "num_scored": int(np.sum(weight_N > 0)),
        "num_undecided": int(np.sum(~decided_N & (weight_N > 0))),
        "without_images": [k for k, one in per_class.items() if one["recall"] is None],
        "per_class": per_class,
    }


def _read_truth(path: Path, challenge: Challenge) -> tuple[dict[str, str], np.ndarray]:
    """Column of each image's class, and the images' weights."""
    check_size(path)
    label_of = one_hot.read(path, challenge.columns)
    rows = tables.read(path, ("image",), optional=("score_weight",))
    weight_N = np.array([_weight(text, f"{path}, line {line}") for line, (_, text) in rows])
    weight_N[[image_id == _NOT_SCORED for image_id in label_of]] = 0
    return label_of, weight_N


def _weight(text: str, where: str) -> float:
    value = number(text) if text else 1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{where} has the weight {fields.short(text)}: expected 0 or more")
    return value


def _check_same_images(
    sent: Sequence[str], true: Sequence[str], submission: Path, truth: Path
) -> None:
    missing, extra = sorted(set(true) - set(sent)), sorted(set(sent) - set(true))
    for names, verb in ((missing, "lacks"), (extra, "has")):
        if names:
            more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
            raise InputError(
                f"{submission} {verb} {len(names)} images"
                f" ({', '.join(names[:EXAMPLES])}{more}) against {truth}: expected a row for"
                " every image of the ground truth, and no other"
            )


def _recalls(
    hit_N: np.ndarray, label_N: np.ndarray, weight_N: np.ndarray, num_classes: int
) -> list[float | None]:
    all_K = np.bincount(label_N, weights=weight_N, minlength=num_classes)
    hit_K = np.bincount(label_N, weights=weight_N * hit_N, minlength=num_classes)
    return [_ratio(hit, total) for hit, total in zip(hit_K, all_K, strict=True)]


def _of_one_class(
    positive_N: np.ndarray, confidence_N: np.ndarray, weight_N: np.ndarray
) -> dict[str, float | None]:
    """The metrics of one class against the rest."""
    said_N = confidence_N > _THRESHOLD
    hit, false_alarm, miss, rest = (
        float(np.sum(weight_N[chosen_N]))
        for chosen_N in (
            positive_N & said_N,
            ~positive_N & said_N,
            positive_N & ~said_N,
            ~positive_N & ~said_N,
        )
    )
    return {
        "accuracy": _ratio(hit + rest, hit + rest + false_alarm + miss),
        "sensitivity": _ratio(hit, hit + miss),
        "specificity": _ratio(rest, rest + false_alarm),
        "dice": _ratio(2 * hit, 2 * hit + false_alarm + miss),
        "ppv": _ratio(hit, hit + false_alarm),
        "npv": _ratio(rest, rest + miss),
        **_of_ranking(positive_N, confidence_N, weight_N),
    }


def _of_ranking(
    positive_N: np.ndarray, confidence_N: np.ndarray, weight_N: np.ndarray
) -> dict[str, float | None]:
    used_N = weight_N > 0
    positive_N, confidence_N, weight_N = positive_N[used_N], confidence_N[used_N], weight_N[used_N]
    if positive_N.all() or not positive_N.any():
        return {"roc_auc": None, "roc_auc_above_80": None, "average_precision": None}
    false_rate_T, true_rate_T, _ = roc_curve(positive_N, confidence_N, sample_weight=weight_N)
    above = int(np.argmax(true_rate_T >= _SENSITIVITY))
    low, high = true_rate_T[above - 1], true_rate_T[above]
    # Where the curve, straight between its points, reaches that sensitivity.
    share = (_SENSITIVITY - low) / (high - low)
    start = false_rate_T[above - 1] + share * (false_rate_T[above] - false_rate_T[above - 1])
    partial = np.trapezoid(
        np.append(_SENSITIVITY, true_rate_T[above:]), np.append(start, false_rate_T[above:])
    )
    average = average_precision_score(positive_N, confidence_N, sample_weight=weight_N)
    return {
        "roc_auc": float(np.trapezoid(true_rate_T, false_rate_T)),
        "roc_auc_above_80": float(partial),
        "average_precision": float(average),
    }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
