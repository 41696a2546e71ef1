"""Splits in files: the user's own, read and checked, and the one that `prepare` writes."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from absl import logging

from skinjax.data.records import LeftOut, Record
from skinjax.data.splits.grouped import SPLITS
from skinjax.errors import InputError


class _Row(NamedTuple):
    line: int
    split: str
    label: str | None  # None where the file has no such column


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
        if row.label not in (None, classes[record.label]):
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
        with path.open(newline="", encoding="utf-8-sig") as file:  # -sig: a BOM is no column name
            lines = _read_lines(file, path)
            _, columns = next(lines, (0, []))
            _check_columns(columns, path)
            for line, values in lines:
                if len(values) != len(columns):
                    raise InputError(
                        f"{path}, line {line}: expected {len(columns)} values, as many as there are"
                        f" columns, and there are {len(values)}"
                    )
                _add_row(rows, dict(zip(columns, values, strict=True)), line, path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a table in UTF-8: {error}") from None
    except OSError as error:
        raise InputError(
            f"data.split_file {path} can't be read: {error.strerror}; expected a CSV file with the"
            " columns image_id and split"
        ) from None
    if not rows:
        raise InputError(f"{path} has no rows: expected one per image")
    return rows


def _read_lines(file: TextIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line that isn't blank; no value goes on in the next line."""
    header = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter="\t" if "\t" in header else ",", strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{path}, line {line}: {error}; expected every quote to be closed"
            ) from None
        if values is None:
            return
        if any("\n" in value or "\r" in value for value in values):
            raise InputError(
                f"{path}, line {line}: a value goes on in the next line; expected every quote to be"
                " closed in its line"
            )
        if values:
            yield line, [value.strip() for value in values]


def _check_columns(columns: list[str], path: Path) -> None:
    for name in ("image_id", "split"):
        if name not in columns:
            raise InputError(
                f"{path} has no column {name}: expected image_id and split, and its columns are"
                f" {columns}"
            )
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(f"{path} has column {name!r} more than once: expected it once")


def _add_row(rows: dict[str, _Row], row: dict[str, str], line: int, path: Path) -> None:
    image_id, split = row["image_id"], row["split"]
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
    rows[image_id] = _Row(line, split, row.get("label"))
