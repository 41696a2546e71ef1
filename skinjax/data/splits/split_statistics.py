"""What a split came out as, against what was wanted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from skinjax.data import groups
from skinjax.data.class_weights import class_counts
from skinjax.data.splits.grouped import SPLITS


def statistics(
    label_N: np.ndarray,
    group_N: Sequence[str] | np.ndarray,
    lesion_N: Sequence[str] | np.ndarray,
    split_N: np.ndarray,
    classes: Sequence[str],
    fractions: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Counts by split and class, and how far the fractions are off those wanted, as JSON holds it.

    Args:
      label_N: int (N,).
      group_N: N group names.
      lesion_N: N lesion ids.
      split_N: str (N,); '' is left out.
      classes: their names.
      fractions: shares wanted of train, val and test; None where none were, as with a file.

    Returns:
      `off_by_class` are fractions achieved minus wanted, and `most_off` is the largest of them;
      without wanted fractions they are {} and None. Classes without images have no fractions.
    """
    label_N, split_N = np.asarray(label_N, dtype=np.int64), np.asarray(split_N)
    count_SC = np.array([class_counts(label_N[split_N == name], len(classes)) for name in SPLITS])
    achieved = _fractions(count_SC, classes)
    off = {}
    if fractions is not None:
        wanted = dict(zip(SPLITS, (float(fraction) for fraction in fractions), strict=True))
        off = {
            label: {name: share - wanted[name] for name, share in shares.items()}
            for label, shares in achieved.items()
        }
    return {
        "fractions_wanted": None if fractions is None else [float(share) for share in fractions],
        "images": dict(zip(SPLITS, count_SC.sum(axis=1).tolist(), strict=True)),
        "groups": _distinct(group_N, split_N),
        "lesions": _distinct(lesion_N, split_N),
        "groups_of_several_classes": _mixed_groups(label_N[split_N != ""], group_N, split_N),
        "images_by_class": {
            name: dict(zip(classes, count_C.tolist(), strict=True))
            for name, count_C in zip(SPLITS, count_SC, strict=True)
        },
        "fraction_by_class": achieved,
        "off_by_class": off,
        "most_off": _most_off(off, achieved),
    }


def log_fractions(statistics: dict[str, Any], tolerance: float = 0.02) -> bool:
    """Warns, in one line, if a class's share of a split is farther off than `tolerance`.

    Returns:
      Whether it did.
    """
    most = statistics["most_off"]
    if most is None or abs(most["off"]) <= tolerance:
        return False
    off = statistics["off_by_class"]
    far = [label for label in off if max(map(abs, off[label].values())) > tolerance]
    logging.warning(
        "%.3f of the images of class %s are in the %s split, and %.3f was wanted: lesions and"
        " patients are never parted (%d of %d classes are off by more than %g)",
        most["fraction"], most["class"], most["split"], most["fraction"] - most["off"],
        len(far), len(off), tolerance,
    )  # fmt: skip
    return True


def _fractions(count_SC: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each class's share of its images by split."""
    return {
        label: dict(zip(SPLITS, (count_S / count_S.sum()).tolist(), strict=True))
        for label, count_S in zip(classes, count_SC.T, strict=True)
        if count_S.any()
    }


def _most_off(
    off: dict[str, dict[str, float]], achieved: dict[str, dict[str, float]]
) -> dict[str, Any] | None:
    places = [(label, name) for label in off for name in off[label]]
    if not places:
        return None
    label, name = max(places, key=lambda place: abs(off[place[0]][place[1]]))
    return {
        "class": label,
        "split": name,
        "fraction": achieved[label][name],
        "off": off[label][name],
    }


def _distinct(name_N: Sequence[str] | np.ndarray, split_N: np.ndarray) -> dict[str, int]:
    _, index_N = groups.index(name_N)
    return {split: len(np.unique(index_N[split_N == split])) for split in SPLITS}


def _mixed_groups(
    label_M: np.ndarray, group_N: Sequence[str] | np.ndarray, split_N: np.ndarray
) -> int:
    _, index_N = groups.index(group_N)
    pairs_P2 = np.unique(np.stack([index_N[split_N != ""], label_M], axis=1), axis=0)
    return int(np.sum(np.unique(pairs_P2[:, 0], return_counts=True)[1] > 1))
