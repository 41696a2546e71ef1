"""Any table of images and labels, with columns named by the config: a hospital's own, say."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.data import tables
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields
from skinjax.data.sources.class_folders import check_class_names
from skinjax.data.sources.folders import (
    IMAGE_ENDINGS,
    OTHER_IMAGE_ENDINGS,
    ImageIndex,
    split_ending,
    split_raw_dir,
    walk,
)
from skinjax.errors import InputError

_ENDINGS = IMAGE_ENDINGS | OTHER_IMAGE_ENDINGS
_TRIED = sorted(IMAGE_ENDINGS) + sorted(ending.upper() for ending in IMAGE_ENDINGS)
_NO_LABEL = frozenset({"", "nan", "na", "n/a", "<na>", "null"})
_FIELDS = ("image", "label", "lesion", "patient", "age", "sex", "site", "split")
_DRIVE = re.compile(r"[A-Za-z]:")


def read(
    raw_dir: str | os.PathLike[str],
    table: str,
    columns: Mapping[str, str] | ConfigDict,
    classes: Sequence[str],
) -> Reading:
    """Reads `table`, whose path is relative to the first folder of `raw_dir` or the current one.

    `columns` names the columns of image and label, and where there are, of lesion, patient, age,
    sex, site and split. An image is given by its file's name, which is looked for in all folders,
    or by its path from one of them; with or without ending. Its id is the name without ending.
    Rows without a label (empty or NaN) or without a file are left out. `classes` gives the order of
    the classes; empty is all that there are, alphabetically.

    Raises:
      InputError: no folder, table, column or image; a table that can't be read strictly; a path
        that leaves the folders; a repeated image; a label that is not in `classes`, or is like
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
    rows: Sequence[tuple[int, tuple[str, ...]]],
    classes: Sequence[str],
    roots: Sequence[Path],
    table: Path,
) -> tuple[tuple[Record, ...], tuple[LeftOut, ...]]:
    label_of = {name: label for label, name in enumerate(classes)}
    images = ImageIndex(walk(roots), published="")
    lesion_ids = {values[2] for _, values in rows}
    records: list[Record] = []
    left_out: list[LeftOut] = []
    first_line: dict[str, int] = {}
    for line, (image, name, lesion, patient, age, sex, site, split) in rows:
        where = f"{table}, line {line}"
        parts, image_id = _image_parts(image, where)
        fields.note_line(first_line, image_id, table, line)
        path = _find_image(parts, image_id, images, roots)
        if path is None or name not in label_of:
            reason = "no label" if name not in label_of else "no image file"
            left_out.append(LeftOut(image_id, reason))
            continue
        lesion_id = fields.known(lesion)
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


def _image_parts(value: str, where: str) -> tuple[list[str], str]:
    """The folders and the file name that a value consists of, and the image's id.

    Raises:
      InputError: it is empty, absolute, leads up, is hidden or can't be printed.
    """
    parts = value.replace("\\", "/").split("/") if "/" in value or "\\" in value else [value]
    image_id = _without_ending(parts[-1])
    if parts[0] == "" or ".." in parts or _DRIVE.match(value):
        raise InputError(
            f"{where}: image {fields.short(value)} is not under data.raw_dir: expected a file name,"
            " or a path from one of its folders without '..'"
        )
    unfit = not value.isprintable() or '"' in value or len(image_id) > 200
    if unfit or not image_id or image_id.startswith("."):
        raise InputError(
            f"{where}: image {fields.short(value)} names no file: expected a file's name or path"
        )
    return [part for part in parts if part not in ("", ".")], image_id


def _without_ending(name: str) -> str:
    stem, ending = split_ending(name)
    return stem if ending in _ENDINGS else name


def _find_image(
    parts: Sequence[str], image_id: str, images: ImageIndex, roots: Sequence[Path]
) -> Path | None:
    if len(parts) == 1:
        return images.find(image_id, parts[0])
    named = [parts[-1]] if split_ending(parts[-1])[1] in IMAGE_ENDINGS else []
    for root in roots:
        folder = os.sep.join((str(root), *parts[:-1]))
        for name in (*named, *(image_id + ending for ending in _TRIED)):
            path = f"{folder}{os.sep}{name}"
            if os.path.isfile(path):
                return Path(path)
    return None
