"""Splits and folds of whole groups, stratified by class: pure functions of labels and groups."""

import hashlib
from collections.abc import Sequence

import numpy as np

from skinjax.data import groups
from skinjax.errors import InputError

SPLITS: tuple[str, ...] = ("train", "val", "test")


def grouped_split(
    label_N: np.ndarray, group_N: Sequence[str] | np.ndarray, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """Assigns every example to train, val or test, whole groups at a time, class by class.

    Groups of several labels, as of patients, come first: the largest first, each goes where the
    shares of the classes dealt out so far come out nearest to the fractions (the least sum of
    squares over classes and splits, each class relative to its images). Then each class's groups
    of one label fill up what is missing: they are put in the order of a hash of (seed, group), the
    row of their images is cut at what each split still lacks, and a group belongs where its middle
    lies. The order of the examples doesn't change the result, and without groups of several labels
    one class doesn't change another's.

    How far off: a class of n images in groups of one label has a share of them that is off by no
    more than its largest group. Groups of several labels add to that at most

        n / 2 * sqrt(S * (1 - sum_s f_s^2) * sum_g sum_c (n_gc / n_c)^2)

    images, for S splits with fractions f_s and groups g with n_gc images of class c. This holds
    because the nearest place is never farther off than the mean over places drawn with
    probabilities f_s, of which (1 - sum_s f_s^2) * sum_c (n_gc / n_c)^2 is the mean added square;
    groups of one label mostly even it out. Only these may add a group for each class and split:

    - Every class is in train.
    - A class with as many groups of one label as there are splits is in every split. So is one
      with as many groups of any kind, where moving one of them takes no class from another split.

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
    return np.array(SPLITS)[_assign(label_N, group_N, fractions, seed)]


def grouped_folds(
    label_N: np.ndarray, group_N: Sequence[str] | np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """Assigns every example to one of k folds, whole groups at a time, class by class.

    As `grouped_split` with k fractions of 1/k, and as near to them: fold 0 is in train's place,
    and has every class.

    Returns:
      int64 (N,): 0 to k - 1.

    Raises:
      InputError: fewer than 2 folds, or more folds than groups.
    """
    if num_folds < 2:
        raise InputError(f"data.folds is {num_folds}: expected 2 or more, or 0 for none")
    num_groups = len(set(group_N))
    if num_folds > num_groups:
        raise InputError(
            f"data.folds is {num_folds}, and there are {num_groups} groups (lesions, patients) to"
            " cut: expected no more folds than groups"
        )
    return _assign(label_N, group_N, [1 / num_folds] * num_folds, seed)


def _assign(
    label_N: np.ndarray, group_N: Sequence[str] | np.ndarray, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """Place of each example's group in `fractions`: int64 (N,)."""
    if not len(label_N):
        return np.empty(0, dtype=np.int64)
    names, group_index_N = groups.index(group_N)
    labels_C, label_index_N = np.unique(np.asarray(label_N), return_inverse=True)
    num_groups, num_classes = len(names), len(labels_C)
    count_GC = np.bincount(
        group_index_N * num_classes + label_index_N, minlength=num_groups * num_classes
    ).reshape(num_groups, num_classes)
    hash_G = np.array([_hash(seed, name) for name in names], dtype=np.uint64)
    # The groups are sorted by name, so a stable sort settles equal hashes by name.
    order_G = np.argsort(hash_G, kind="stable")
    split_G = np.empty(num_groups, dtype=np.int64)
    split_G[order_G] = _assign_groups(count_GC[order_G], np.array(fractions, dtype=np.float64))
    return split_G[group_index_N]


def _assign_groups(count_GC: np.ndarray, fraction_S: np.ndarray) -> np.ndarray:
    """Place of each group in `fraction_S`, given the groups' images by class, in random order."""
    num_labels_G = (count_GC > 0).sum(axis=1)
    mixed = np.flatnonzero(num_labels_G > 1)
    mixed = mixed[np.argsort(-count_GC[mixed].sum(axis=1), kind="stable")]
    total_C = count_GC.sum(axis=0)
    split_G = np.zeros(len(count_GC), dtype=np.int64)
    split_G[mixed] = _deal(count_GC[mixed] / total_C, fraction_S)

    mixed_SC = np.zeros((len(fraction_S), len(total_C)), dtype=np.int64)
    np.add.at(mixed_SC, split_G[mixed], count_GC[mixed])
    label_G = np.where(num_labels_G == 1, count_GC.argmax(axis=1), -1)
    for label, total in enumerate(total_C):
        members = np.flatnonzero(label_G == label)
        share_S, lacks_S = fraction_S, fraction_S > 0
        if mixed_SC[:, label].any():
            missing_S = np.maximum(fraction_S * total - mixed_SC[:, label], 0)
            share_S = missing_S / max(missing_S.sum(), 1e-9)
            lacks_S = lacks_S & (mixed_SC[:, label] == 0)
        split_G[members] = _cut(count_GC[members, label], share_S, lacks_S)
    if len(mixed):
        _cover(split_G, count_GC, np.flatnonzero(fraction_S > 0))
    return split_G


def _deal(relative_GC: np.ndarray, fraction_S: np.ndarray) -> np.ndarray:
    """Places for groups in order, given their shares of each class: the nearest of each.

    `off_SC` is how far the shares dealt out are off `fraction_S` of all dealt out. To weigh each
    group against what was dealt so far, and not against the end, gives every split its part of the
    large groups as well.
    """
    active = np.flatnonzero(fraction_S > 0)
    fraction_S1 = fraction_S[active, None]
    off_SC = np.zeros((len(active), relative_GC.shape[1]))
    chosen_G = np.empty(len(relative_GC), dtype=np.int64)
    for number, relative_C in enumerate(relative_GC):
        off_SC -= fraction_S1 * relative_C
        cost_S = (off_SC * relative_C).sum(axis=1)
        # Rounding must not settle ties, or another machine would settle them another way.
        tie = 1e-9 * (relative_C * relative_C).sum()
        place = (cost_S <= cost_S.min() + tie).argmax()
        off_SC[place] += relative_C
        chosen_G[number] = place
    return active[chosen_G]


def _cut(size_G: np.ndarray, share_S: np.ndarray, lacks_S: np.ndarray) -> np.ndarray:
    """Place of each group of one class, given their sizes in order.

    `share_S` are the shares of their images, and `lacks_S` says which splits have none of the class
    yet, so that each gets a group at least if there are enough, and otherwise the first does.
    """
    active = np.flatnonzero((share_S > 0) | lacks_S)
    middle_G = np.cumsum(size_G) - size_G / 2
    cuts = np.cumsum(share_S[active])[:-1] * size_G.sum()
    boundaries = np.searchsorted(middle_G, cuts, side="right")
    least_S = lacks_S[active].astype(np.int64)
    if least_S.sum() > len(size_G):
        least_S[1:] = 0
    previous = 0
    for position, boundary in enumerate(boundaries):
        most = len(size_G) - least_S[position + 1 :].sum()
        previous = min(max(boundary, previous + least_S[position]), most)
        boundaries[position] = previous
    return active[np.searchsorted(boundaries, np.arange(len(size_G)), side="right")]


def _cover(split_G: np.ndarray, count_GC: np.ndarray, active: np.ndarray) -> None:
    """Moves a group, in place, to where a class is missing: the smallest that leaves no gap behind.

    The first split gets every class, the others each class with as many groups as splits; where
    any move leaves a gap, the first split still gets its group.
    """
    has_GC = count_GC > 0
    size_G = count_GC.sum(axis=1)
    for split in active.tolist():
        first = split == active[0]
        for label in range(count_GC.shape[1]):
            members = np.flatnonzero(has_GC[:, label])
            if (split_G[members] == split).any() or not (first or len(members) >= len(active)):
                continue
            members = members[np.argsort(size_G[members], kind="stable")]
            groups_SC = np.array([has_GC[split_G == s].sum(axis=0) for s in range(active[-1] + 1)])
            left_MC = groups_SC[split_G[members]] - has_GC[members]
            spare = members[((left_MC > 0) | ~has_GC[members]).all(axis=1)]
            if len(spare) or first:
                split_G[spare[0] if len(spare) else members[0]] = split


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
