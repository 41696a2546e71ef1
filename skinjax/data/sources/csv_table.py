"""Any table of images and labels, with columns named by the config: a hospital's own, say."""

import collections
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.data import tables
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields, image_paths
from skinjax.data.sources.class_folders import check_class_names, unique_ids
from skinjax.data.sources.folders import ImageIndex, split_raw_dir, walk
from skinjax.errors import InputError

_Row = tuple[int, tuple[str, ...]]  # line number, and the values of _FIELDS
_NO_LABEL = frozenset({"", "nan", "na", "n/a", "<na>", "null"})
_FIELDS = ("image", "label", "lesion", "patient", "age", "sex", "site", "split")


def read(
    raw_dir: str | os.PathLike[str],
    table: str,
    columns: Mapping[str, str] | ConfigDict,
    classes: Sequence[str],
) -> Reading:
    """Reads `table`, whose path is relative to the first folder of `raw_dir` or the current one.

    `columns` names the columns of image and label, and where there are, of lesion, patient, age,
    sex, site and split. An image is given by its file's name, which is looked for in all folders,
    or by its path, absolute or from one of them; with or without ending. Its id is the name without
    ending; where names repeat, it is the path as given, joined with `_`, as in `folder`. Lesions
    that seem to be counted within each patient have the patient's id in front of theirs. Rows
    without a label (empty or NaN) or without a file are left out. `classes` gives the order of the
    classes; empty is all that there are, alphabetically.

    Raises:
      InputError: no folder, table, column or image; a table that can't be read strictly; a path
        that leaves the folders; one image in two rows; a label that is not in `classes`, or is like
        another but for its case; an age that is no number; a split that is none, or rows with and
        without one; fewer than two classes.
    """
    roots = split_raw_dir(raw_dir)
    path = _find_table(table, roots[0])
    names = [columns[field].strip() for field in _FIELDS]
    for field, name in zip(("image", "label"), names, strict=False):
        if not name:
            raise InputError(f"data.columns.{field} is empty: set it to the name of a column")
    rows = list(tables.read(path, names))
    line_of_label: dict[str, int] = {}
    line_of_split: dict[str, int] = {}
    for line, (_, label, *_, split) in rows:
        if label in classes or label.lower() not in _NO_LABEL:
            line_of_label.setdefault(label, line)
            line_of_split.setdefault(split.lower(), line)
    _check_labels(line_of_label, classes, path)
    classes = check_class_names(line_of_label, classes, str(path))
    _check_not_cut(rows[-1][1][1], classes, path)
    _check_splits(line_of_split if names[-1] else {}, path)
    records, left_out = _records(rows, classes, roots, path)
    fields.check_any_found(
        len(records),
        [row.image_id for row in left_out if row.reason == "no image file"],
        roots,
        f"set data.raw_dir to the folders that hold the images of {path}",
    )
    return Reading(records, left_out, classes, (path,))


def _records(
    rows: Sequence[_Row],
    classes: Sequence[str],
    roots: Sequence[Path],
    table: Path,
) -> tuple[tuple[Record, ...], tuple[LeftOut, ...]]:
    label_of = {name: label for label, name in enumerate(classes)}
    images = ImageIndex(walk(roots), published="")
    named_N = [
        image_paths.parse(value, roots, f"{table}, line {line}") for line, (value, *_) in rows
    ]
    path_N = [image_paths.find(image, images, roots) for image in named_N]
    _check_repeats(rows, named_N, path_N, table)
    id_N = unique_ids([image.stem_parts for image in named_N])
    lesion_N = _lesion_ids(rows, table)
    lesion_ids = set(lesion_N)
    records: list[Record] = []
    left_out: list[LeftOut] = []
    for row, path, image_id, lesion_id in zip(rows, path_N, id_N, lesion_N, strict=True):
        line, (_, name, _, patient, age, sex, site, split) = row
        where = f"{table}, line {line}"
        if path is None or name not in label_of:
            reason = "no label" if name not in label_of else "no image file"
            left_out.append(LeftOut(image_id, reason))
            continue
        if not lesion_id and image_id in lesion_ids:
            raise InputError(
                f"{where}: image {image_id} has no lesion id, and other rows have its id as their"
                " lesion's: give it a lesion id of its own"
            )
        records.append(
            Record(
                image_id=image_id,
                path=path,
                label=label_of[name],
                lesion_id=lesion_id or image_id,
                age=fields.age(age, f"{where}: image {image_id}"),
                sex=fields.known(sex),
                site=fields.known(site),
                source="csv",
                patient_id=fields.known(patient),
                split=fields.SPLITS[split.lower()] if split else "",
            )
        )
    return tuple(records), tuple(left_out)


def _check_repeats(
    rows: Sequence[_Row],
    named_N: Sequence[image_paths.ImagePath],
    path_N: Sequence[Path | None],
    table: Path,
) -> None:
    """Refuses a second row for a file, or for a path that leads to none."""
    counts = collections.Counter(image.stem for image in named_N)
    first_line: dict[str | tuple[str, ...], int] = {}
    for (line, (value, *_)), image, path in zip(rows, named_N, path_N, strict=True):
        if counts[image.stem] == 1:
            continue
        first = first_line.setdefault(os.path.realpath(path) if path else image.stem_parts, line)
        if first != line:
            raise InputError(
                f"{table}, line {line}: image {fields.short(value)} is already on line {first};"
                " every image must have one row"
            )


def _lesion_ids(rows: Sequence[_Row], table: Path) -> list[str]:
    """Each row's lesion id, or '' if not known; after the patient's if one has several patients.

    Else lesions 1, 2... of each patient would be joined to one, and all patients with them.
    """
    known = [(fields.known(values[2]), fields.known(values[3])) for _, values in rows]
    patients: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for (line, _), (lesion, patient) in zip(rows, known, strict=True):
        if lesion and patient:
            patients[lesion].setdefault(patient, line)
    shared = [lesion for lesion, lines in patients.items() if len(lines) > 1]
    if not shared:
        return [lesion for lesion, _ in known]
    (one, line), (other, other_line), *_ = patients[shared[0]].items()
    logging.warning(
        "%s: %d of %d lesion ids stand under several patients (e.g. %s on lines %d and %d, under"
        " %s and %s), so lesions are taken for counted within each patient: lesion ids are now"
        " <patient>_<lesion>; correct the table if a lesion's id is meant to be its only one",
        table, len(shared), len(patients), fields.short(shared[0]), line, other_line,
        fields.short(one), fields.short(other),
    )  # fmt: skip
    return [f"{patient}_{lesion}" if lesion and patient else lesion for lesion, patient in known]


def _find_table(table: str, root: Path) -> Path:
    if not table:
        raise InputError("data.table is empty: set it to the CSV that lists images and labels")
    for path in (root / table, Path(table)):
        if path.is_file():
            return path
    raise InputError(
        f"no table {table}, neither in {root} nor in the current folder: set data.table to the CSV"
        " that lists images and labels"
    )


def _check_labels(line_of_label: Mapping[str, int], classes: Sequence[str], table: Path) -> None:
    for label, line in line_of_label.items():
        if classes and label not in classes:
            raise InputError(
                f"{table}, line {line}: label {fields.short(label)} is not in data.classes:"
                f" expected {', '.join(classes)}{nearest(label, classes)}"
            )
        if not label.isprintable() or '"' in label:  # of a quote after a space, say
            raise InputError(
                f"{table}, line {line}: label {fields.short(label)} holds a quote or a sign that"
                " can't be printed: expected a class's name"
            )


def _check_not_cut(last_label: str, classes: Sequence[str], table: Path) -> None:
    """Refuses a label that the end of the file may have cut short, to another one.

    A missing line end alone says little: some programs write none.
    """
    longer = [name for name in classes if name != last_label and name.startswith(last_label)]
    if last_label and longer and table.read_bytes().endswith(last_label.encode()):
        raise InputError(
            f"{table} ends with label {fields.short(last_label)}, which may be"
            f" {fields.short(longer[0])} cut short: restore the table, or end its last line if it"
            " is whole"
        )


def _check_splits(line_of_split: Mapping[str, int], table: Path) -> None:
    for split, line in line_of_split.items():
        if split and split not in fields.SPLITS:
            raise InputError(
                f"{table}, line {line}: split {fields.short(split)} is none: expected one of"
                f" {', '.join(fields.SPLITS)}{nearest(split, fields.SPLITS)}"
            )
    if "" in line_of_split and len(line_of_split) > 1:
        first = min(line for split, line in line_of_split.items() if split)
        raise InputError(
            f"{table} has a split on line {first} and none on line {line_of_split['']}: expected"
            " one in every row or in none (then set data.columns.split to '')"
        )
