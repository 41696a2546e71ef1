"""Splits in files: the user's own, read and checked, and the one that `prepare` writes."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from skinjax.data import tables
from skinjax.data.records import LeftOut, Record
from skinjax.data.splits.grouped import SPLITS
from skinjax.errors import InputError


class _Row(NamedTuple):
    line: int
    split: str
    label: str  # '' where the file says none


def assign(
    path: Path, records: Sequence[Record], classes: Sequence[str]
) -> tuple[np.ndarray, list[LeftOut]]:
    """Splits the records as a file says: a table with the columns image_id and split.

    Other columns may be there. One called label must hold the records' class names, which shows
    that the file is of this data set. Images that the file doesn't name are left out.

    Returns:
      str (N,): 'train', 'val' or 'test', and '' where left out; and what was left out.

    Raises:
      InputError: no such file; it is not UTF-8, or a quote is left open; a column is missing, an
        image named twice, a split unknown, a label another; or it names none of the images.
    """
    rows = _read(path)
    split_N = np.zeros(len(records), dtype="<U5")
    left_out = []
    num_known = 0
    for index, record in enumerate(records):
        row = rows.get(record.image_id)
        if row is None:
            left_out.append(LeftOut(record.image_id, "not in the split file"))
            continue
        num_known += 1
        if row.label not in ("", classes[record.label]):
            raise InputError(
                f"{path}, line {row.line}: image {record.image_id} has label {row.label!r}, and the"
                f" data set says {classes[record.label]!r}: expected the same, so that the file is"
                " of this data set (a column label may also be taken out)"
            )
        split_N[index] = row.split
    if not num_known:
        raise InputError(
            f"{path}: none of its {len(rows)} image ids is one of the {len(records)} of the data"
            f" set; it has e.g. {next(iter(rows))!r}"
            + (f", the data set {records[0].image_id!r}" if records else "")
        )
    if num_known < len(rows):
        known = {record.image_id for record in records}
        logging.warning(
            "%s: %d of its %d image ids are not in the data set, or were left out of it, e.g. %s",
            path,
            len(rows) - num_known,
            len(rows),
            next(image_id for image_id in rows if image_id not in known),
        )
    return split_N, left_out


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


def _read(path: Path) -> dict[str, _Row]:
    """Rows by image id."""
    rows: dict[str, _Row] = {}
    try:
        columns = ("image_id", "split")
        for line, (image_id, split, label) in tables.read(path, columns, optional=("label",)):
            _add_row(rows, image_id, split, label, line, path)
    except OSError as error:
        raise InputError(
            f"data.split_file {path} can't be read: {error.strerror}; expected a CSV file with the"
            " columns image_id and split"
        ) from None
    return rows


def _add_row(
    rows: dict[str, _Row], image_id: str, split: str, label: str, line: int, path: Path
) -> None:
    if not image_id:
        raise InputError(f"{path}, line {line}: no image_id: expected one in every row")
    if split not in SPLITS:
        raise InputError(
            f"{path}, line {line}: image {image_id!r} has split {split!r}: expected one of"
            f" {', '.join(SPLITS)}; an image in no row is left out"
        )
    if image_id in rows:
        raise InputError(
            f"{path}, line {line}: image {image_id!r} is already on line {rows[image_id].line};"
            " expected every image in one row"
        )
    rows[image_id] = _Row(line, split, label)
