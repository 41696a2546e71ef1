"""The split of a data set as its config asks for it, and the checks that every split must pass."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from skinjax.data import groups
from skinjax.data.class_weights import class_counts, class_weights
from skinjax.data.records import LeftOut, Record
from skinjax.data.splits import published, split_file
from skinjax.data.splits.grouped import SPLITS, grouped_folds, grouped_split
from skinjax.data.splits.split_file import write_split_csv
from skinjax.data.splits.split_statistics import log_fractions, statistics
from skinjax.errors import InputError

__all__ = [
    "SPLITS",
    "check_no_leak",
    "check_train_classes",
    "class_counts",
    "class_weights",
    "from_config",
    "grouped_folds",
    "grouped_split",
    "log_fractions",
    "statistics",
    "wanted_fractions",
    "write_split_csv",
]


def from_config(
    records: Sequence[Record],
    group_N: Sequence[str] | np.ndarray,
    data: ConfigDict,
    classes: Sequence[str],
) -> tuple[np.ndarray, list[LeftOut]]:
    """Splits the records: by the user's file, as published, or by fractions; then into folds.

    - `data.split_file` says the split of each image (see `split_file.assign`).
    - Otherwise `data.published_split` keeps the published split, if there are two or three (see
      `published.keep`). If none is published as val, it is cut out of train, in the
      proportion of the first two fractions of `data.split`. If none is published as test, the test
      split stays empty: the images to test on are then elsewhere.
    - Otherwise `grouped_split` cuts by `data.split`.
    - With `data.folds`, all but the test split of either way is cut into folds: `data.fold` is for
      validation, and the others for training. The test split is the one without folds, and neither
      it nor the folds change with `data.fold`.

    Args:
      records: N records.
      group_N: N names of groups that must not be parted; they decide the split, so they must not
        depend on the order of the records (see `groups.names`).
      data: `config.data`.
      classes: their names.

    Returns:
      str (N,): 'train', 'val' or 'test', and '' where left out; and what was left out.

    Raises:
      InputError: folds that can't be; a file or published split that can't be used; a group in two
        splits; or a class without a training image.
    """
    _check_folds(data)
    label_N = np.array([record.label for record in records], dtype=np.int64)
    group_N = np.array(group_N, dtype=object)  # as objects, one long name doesn't make all long
    keeps = not data.split_file and data.published_split
    left_out: list[LeftOut] = []
    if data.split_file:
        split_N, left_out = split_file.assign(Path(data.split_file), records, classes)
    elif keeps and published.is_published(records):
        split_N, left_out = published.keep(records, group_N)
        if not data.folds and all(record.split != "val" for record in records):
            _cut_val(split_N, label_N, group_N, data)
    else:
        if keeps and records and records[0].split:
            logging.log_first_n(
                logging.INFO, "all images are published as %s: they are split", 1, records[0].split
            )
        split_N = grouped_split(label_N, group_N, data.split, data.split_seed)
    if data.folds:
        _cut_folds(split_N, label_N, group_N, data)
    check_no_leak(group_N, split_N, [record.image_id for record in records])
    check_train_classes(label_N, split_N, classes)
    return split_N, left_out


def wanted_fractions(
    records: Sequence[Record], data: ConfigDict
) -> tuple[float, float, float] | None:
    """Shares of train, val and test that `from_config` aims at; None by a file or as published."""
    if data.split_file or (data.published_split and published.is_published(records)):
        return None
    train, val, test = (float(fraction) for fraction in data.split)
    if data.folds:
        val = (1 - test) / data.folds
        train = 1 - test - val
    return train, val, test


def _check_folds(data: ConfigDict) -> None:
    if data.folds < 0 or data.folds == 1:
        raise InputError(f"data.folds is {data.folds}: expected 2 or more, or 0 for none")
    if data.folds and data.split_file:
        raise InputError(
            f"data.folds is {data.folds}, and data.split_file is {data.split_file}: expected one of"
            " the two, since the file says where every image is"
        )
    if data.folds and data.fold == -1:
        raise InputError(
            f"data.folds is {data.folds} and data.fold is -1, which is all of them: expected one"
            f" fold, from 0 to {data.folds - 1}, here"
        )
    if not -1 <= data.fold < max(data.folds, 1):
        raise InputError(
            f"data.fold is {data.fold}, and data.folds is {data.folds}: expected a fold from 0 to"
            f" {max(data.folds, 1) - 1}, or -1 for all"
        )
    if not data.folds and data.fold == 0:
        logging.log_first_n(
            logging.WARNING, "data.fold is 0, and data.folds is 0: it changes nothing", 1
        )


def _cut_val(
    split_N: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, data: ConfigDict
) -> None:
    """Cuts val out of train, in place."""
    train, val, _ = (float(fraction) for fraction in data.split)
    if val == 0:
        return
    fraction = val / (train + val)
    logging.log_first_n(
        logging.INFO, "no image is published as val: %.3f of train is cut out for it", 1, fraction
    )
    rest = split_N == "train"
    split_N[rest] = grouped_split(
        label_N[rest], group_N[rest], (1 - fraction, fraction, 0.0), data.split_seed
    )


def _cut_folds(
    split_N: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, data: ConfigDict
) -> None:
    """Makes one fold of train and val to val, and the others to train, in place."""
    rest = (split_N == "train") | (split_N == "val")
    fold_N = grouped_folds(label_N[rest], group_N[rest], data.folds, data.split_seed)
    split_N[rest] = np.where(fold_N == data.fold, "val", "train")


def check_no_leak(
    group_N: Sequence[str] | np.ndarray, split_N: np.ndarray, image_id_N: Sequence[str] = ()
) -> None:
    """Stops if a group has examples in two splits; '' is no split.

    Args:
      group_N: N group names.
      split_N: str (N,).
      image_id_N: N image ids, for the error only.

    Raises:
      InputError: naming the first such group, its splits, and some images of it.
    """
    split_N = np.asarray(split_N)
    names, index_N = groups.index(group_N)
    splits_S, split_index_N = np.unique(split_N, return_inverse=True)
    seen_GS = np.zeros((len(names), len(splits_S)), dtype=bool)
    seen_GS[index_N, split_index_N] = True
    seen_GS[:, splits_S == ""] = False
    leaks = np.flatnonzero(seen_GS.sum(axis=1) > 1)
    if not len(leaks):
        return
    where = splits_S[seen_GS[leaks[0]]]
    images = ""
    if len(image_id_N):
        first = [np.flatnonzero((index_N == leaks[0]) & (split_N == split))[0] for split in where]
        shown = zip(first, where, strict=True)
        images = f" (e.g. {', '.join(f'image {image_id_N[i]} in {split}' for i, split in shown)})"
    raise InputError(
        f"{len(leaks)} group(s) of one lesion, patient or picture stand in more than one split, the"
        f" first is {names[leaks[0]]} in {' and '.join(where)}{images}: put all its images into one"
        " split, or the test is not a test"
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
            " one to be learned; add images, or give the training split more of them (data.split,"
            " data.folds, data.split_file)"
        )
