"""Splits that a data set was published with, kept as far as no group stands in two of them."""

from collections.abc import Sequence

import numpy as np
from absl import logging

from skinjax.data import groups
from skinjax.data.records import LeftOut, Record
from skinjax.data.splits.grouped import SPLITS
from skinjax.errors import InputError

_FIRST = ("test", "val", "train")  # where a group in several splits stays


def is_published(records: Sequence[Record]) -> bool:
    """Whether the records have a published split to keep: two splits or three.

    Raises:
      InputError: some records have one and others none, one is of an unknown name, or there is no
        training split among several.
    """
    example = {record.split: record.image_id for record in reversed(records)}
    unknown = sorted(set(example) - {"", *SPLITS})
    if unknown:
        raise InputError(
            f"image {example[unknown[0]]} has the published split {unknown[0]!r}: expected one of"
            f" {', '.join(SPLITS)}; or set data.published_split=False"
        )
    if not set(example) - {""}:
        return False
    if "" in example:
        missing = sum(not record.split for record in records)
        raise InputError(
            f"{missing} of {len(records)} images have no published split, e.g. {example['']}, and"
            " the others have one: expected it of all or none; or set data.published_split=False"
        )
    if len(example) == 1:
        return False
    if "train" not in example:
        raise InputError(
            "the images are published as val and test, and none as train: add the training images,"
            " or set data.published_split=False"
        )
    return True


def keep(
    records: Sequence[Record], group_N: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, list[LeftOut]]:
    """Keeps the published split of each record, unless its group stands in another as well.

    The images of such a group stay in the first of test, val and train that has one, and its
    others are left out: the published test split stays whole, and nothing of it is trained on.

    Args:
      records: N records, each with a split.
      group_N: N group names.

    Returns:
      str (N,): 'train', 'val' or 'test', and '' where left out; and what was left out.
    """
    rank_N = np.array([_FIRST.index(record.split) for record in records], dtype=np.int64)
    names, index_N = groups.index(group_N)
    first_G = np.full(len(names), len(_FIRST))
    np.minimum.at(first_G, index_N, rank_N)
    first_N = first_G[index_N]
    split_N = np.where(rank_N == first_N, np.array(_FIRST)[rank_N], "")
    left_out = [
        LeftOut(
            records[i].image_id,
            "lesion, patient or picture published in several splits:"
            f" {names[index_N[i]]} stays in {_FIRST[first_N[i]]}, and this image was in"
            f" {records[i].split}",
        )
        for i in np.flatnonzero(rank_N != first_N).tolist()
    ]
    if left_out:
        logging.warning(
            "%d images are left out, since their groups are published in several splits, e.g. %s",
            len(left_out), left_out[0].image_id,
        )  # fmt: skip
    return split_N, left_out
