"""Splitting by lesion: pure functions from labels and groups to splits, and the checks on them."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skinjax.errors import InputError

SPLITS: tuple[str, ...] = ("train", "val", "test")


def grouped_split(
    label_N: np.ndarray, group_N: Sequence[str] | np.ndarray, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """Assigns every example to train, val or test, whole groups at a time, class by class.

    Within a class the groups are put in the order of a hash of (seed, group), and the row of their
    images is cut at the fractions; a group belongs where its middle lies. So a class's share of
    images is off by no more than its largest group, unless that would leave a split without any of
    its groups while it has enough for all: then each gets at least one. A class with fewer groups
    than splits is sure of one in train only. A group with several labels counts under its most
    frequent one. Neither the order of the examples nor other classes change the result.

    Args:
      label_N: int (N,), class indices.
      group_N: N group names; what shares a name is never parted.
      fractions: shares of train, val and test; they sum to 1, and train's is above 0.
      seed: another seed, another split.

    Returns:
      str (N,): 'train', 'val' or 'test'.

    Raises:
      InputError: the fractions don't sum to 1, one is negative, or there are not three of them.
    """
    _check_fractions(fractions)
    label_N = np.asarray(label_N)
    if not len(label_N):
        return np.empty(0, dtype="<U5")
    groups_G, group_index_N = np.unique(np.asarray(group_N), return_inverse=True)
    label_G = _majority_label(label_N, group_index_N)
    size_G = np.bincount(group_index_N)
    hash_G = np.array([_hash(seed, group) for group in groups_G.tolist()], dtype=np.uint64)
    split_G = np.zeros(len(groups_G), dtype=np.int64)
    # np.unique has sorted the groups by name, so a stable sort settles equal hashes by name.
    order_G = np.argsort(hash_G, kind="stable")
    for label in np.unique(label_G):
        members = order_G[label_G[order_G] == label]
        split_G[members] = _cut(size_G[members], fractions)
    return np.array(SPLITS)[split_G[group_index_N]]


def _cut(size_G: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Split index of each group of one class, given their sizes in order."""
    active = [index for index, fraction in enumerate(fractions) if fraction > 0]
    middle_G = np.cumsum(size_G) - size_G / 2
    cuts = np.cumsum([fractions[index] for index in active])[:-1] * size_G.sum()
    boundaries = np.searchsorted(middle_G, cuts, side="right")
    num_groups, num_splits = len(size_G), len(active)
    previous = 0
    for position, boundary in enumerate(boundaries):
        if num_groups >= num_splits:  # at least one here, and one for each split to come
            most = num_groups - (num_splits - 1 - position)
            boundary = min(max(boundary, previous + 1), most)
        boundaries[position] = previous = max(boundary, 1)
    return np.array(active)[np.searchsorted(boundaries, np.arange(num_groups), side="right")]


def _majority_label(label_N: np.ndarray, group_index_N: np.ndarray) -> np.ndarray:
    """The most frequent label of each group, the lowest one where several are."""
    pairs_P2, count_P = np.unique(
        np.stack([group_index_N, label_N], axis=1), axis=0, return_counts=True
    )
    order_P = np.lexsort((pairs_P2[:, 1], -count_P, pairs_P2[:, 0]))
    _, first = np.unique(pairs_P2[order_P, 0], return_index=True)
    return pairs_P2[order_P[first], 1]


def _hash(seed: int, group: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _check_fractions(fractions: Sequence[float]) -> None:
    shown = tuple(float(fraction) for fraction in fractions)
    if len(shown) != len(SPLITS):
        raise InputError(f"data.split is {shown}: expected three fractions, for {SPLITS}")
    if not all(0 <= fraction <= 1 for fraction in shown) or abs(sum(shown) - 1) > 1e-6:
        raise InputError(
            f"data.split is {shown}: expected three fractions from 0 to 1 that sum to 1,"
            f" and these sum to {sum(shown):g}"
        )
    if shown[0] == 0:
        raise InputError(f"data.split is {shown}: the first fraction, train's, must be above 0")


def check_no_leak(group_N: Sequence[str] | np.ndarray, split_N: np.ndarray) -> None:
    """Stops if a group has examples in two splits.

    Raises:
      InputError: naming the first such group and its splits.
    """
    groups_G, group_index_N = np.unique(np.asarray(group_N), return_inverse=True)
    splits_S, split_index_N = np.unique(np.asarray(split_N), return_inverse=True)
    seen_GS = np.zeros((len(groups_G), len(splits_S)), dtype=bool)
    seen_GS[group_index_N, split_index_N] = True
    leaks = np.flatnonzero(seen_GS.sum(axis=1) > 1)
    if len(leaks):
        where = " and ".join(splits_S[seen_GS[leaks[0]]])
        raise InputError(
            f"{len(leaks)} lesion(s) stand in more than one split, the first is"
            f" {groups_G[leaks[0]]} in {where}: split by lesion, or the test is not a test"
        )


def check_train_classes(label_N: np.ndarray, split_N: np.ndarray, classes: Sequence[str]) -> None:
    """Stops if a class has no example in the training split.

    Raises:
      InputError: naming those classes.
    """
    label_N, split_N = np.asarray(label_N, dtype=np.int64), np.asarray(split_N)
    counts_C = class_counts(label_N[split_N == "train"], len(classes))
    absent = [name for name, count in zip(classes, counts_C, strict=True) if not count]
    if absent:
        raise InputError(
            f"no image of class {', '.join(absent)} in the training split: every class must have"
            " one to be learned; add images, or raise the first fraction of data.split"
        )


def class_counts(label_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Examples of each class: int64 (C,)."""
    return np.bincount(np.asarray(label_N, dtype=np.int64), minlength=num_classes)


def class_weights(
    counts_C: np.ndarray | Sequence[int], exponent: float, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Weights (N / (C * n_c)) ** exponent: 0 gives ones, 0.5 square roots, 1 balanced classes.

    With exponent 1 this is scikit-learn's `compute_class_weight('balanced', ...)`.

    Args:
      counts_C: examples of each class in the training split.
      exponent: from 0 to 1.
      classes: names, for the error only.

    Returns:
      float32 (C,).

    Raises:
      InputError: a class without examples, unless the exponent is 0.
    """
    counts_C = np.asarray(counts_C, dtype=np.float64)
    if exponent == 0:
        return np.ones(len(counts_C), dtype=np.float32)
    empty = np.flatnonzero(counts_C == 0)
    if len(empty):
        named = ", ".join(str(classes[c] if classes else c) for c in empty.tolist())
        raise InputError(
            f"no training example of class {named}: its weight would be infinite;"
            " add images or set loss.class_weight_exponent=0"
        )
    balanced_C = counts_C.sum() / (len(counts_C) * counts_C)
    return (balanced_C**exponent).astype(np.float32)


def write_split_csv(
    path: Path,
    image_id_N: Sequence[str],
    lesion_id_N: Sequence[str],
    label_N: Sequence[str],
    split_N: Sequence[str],
) -> None:
    """Writes `image_id,lesion_id,label,split`, one row per image; labels are class names."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image_id", "lesion_id", "label", "split"))
        writer.writerows(zip(image_id_N, lesion_id_N, label_N, split_N, strict=True))
