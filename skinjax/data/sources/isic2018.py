"""ISIC 2018 Task 3: HAM10000 for training, and the challenge's own validation and test sets."""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from skinjax.data import labels, tables
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields, one_hot, table_files
from skinjax.data.sources.folders import Folder, ImageIndex, split_raw_dir, walk
from skinjax.errors import InputError

_TABLES = {
    "train": "ISIC2018_Task3_Training_GroundTruth.csv",
    "val": "ISIC2018_Task3_Validation_GroundTruth.csv",
    "test": "ISIC2018_Task3_Test_GroundTruth.csv",
}
_LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"
_IMAGES = "isic2018_task3_"  # how its folders' names start, in lower case
_COLUMNS = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def read(raw_dir: str | os.PathLike[str]) -> Reading:
    """Reads whichever of the three sets are under `raw_dir`, in the classes of HAM10000.

    Codella et al., arXiv:1902.03368. Records have their published split. Lesions are known of the
    training set only; there is no age, sex or site.

    Raises:
      InputError: no folder, table or image; training images without the table of their lesions;
        one image in two sets; or a table that is at fault (see `one_hot.read`).
    """
    roots = split_raw_dir(raw_dir)
    folders = walk(roots)
    found = {split: table_files.find_all(folders, name) for split, name in _TABLES.items()}
    chosen = {split: paths[0] for split, paths in found.items() if paths}
    if not chosen:
        table_files.find(folders, *_TABLES.values())  # says which it misses
    used = list(chosen.values())
    lesions: dict[str, str] = {}
    images = ImageIndex(folders, _IMAGES)
    records: list[Record] = []
    left_out: list[LeftOut] = []
    split_of: dict[str, str] = {}
    for split, table in chosen.items():
        truth = one_hot.read(table, _COLUMNS)
        if split == "train":
            used.append(_find_lesions(folders))
            lesions = _read_lesions(used[-1], list(truth))
        for image_id, column in truth.items():
            if image_id in split_of:
                raise InputError(
                    f"image {image_id} stands in {chosen[split_of[image_id]]} and in {table};"
                    " expected every image in one set: restore the tables as published"
                )
            split_of[image_id] = split
            path = images.find(image_id)
            if path is None:
                left_out.append(LeftOut(image_id, "no image file"))
                continue
            records.append(
                Record(
                    image_id=image_id,
                    path=path,
                    label=labels.HAM10000_CLASSES.index(column.lower()),
                    lesion_id=lesions.get(image_id) or image_id,
                    age=None,
                    sex="",
                    site="",
                    source="ISIC2018",
                    split=split,
                )
            )
    fields.check_any_found(
        len(records),
        [row.image_id for row in left_out],
        roots,
        "unpack the ISIC2018_Task3_..._Input archives there",
    )
    return Reading(tuple(records), tuple(left_out), labels.HAM10000_CLASSES, tuple(used))


def _find_lesions(folders: Sequence[Folder]) -> Path:
    found = table_files.find_all(folders, _LESIONS)
    if not found:
        raise InputError(
            f"no {_LESIONS} beside {_TABLES['train']}: it says which images show one lesion, and"
            " without it they leak between splits; download it from the ISIC challenge's site"
        )
    return found[0]


def _read_lesions(table: Path, image_ids: Sequence[str]) -> dict[str, str]:
    """Lesion by image; of the column diagnosis_confirm_type nothing is read: it leaks the class."""
    lesions: dict[str, str] = {}
    first_line: dict[str, int] = {}
    for line, (image_id, lesion_id) in tables.read(table, ("image", "lesion_id")):
        fields.check_image_id(image_id, f"{table}, line {line}")
        fields.note_line(first_line, image_id, table, line)
        lesions[image_id] = fields.known(lesion_id)
    without = [image_id for image_id in image_ids if image_id not in lesions]
    if without:
        logging.warning(
            "%d training images have no row in %s, e.g. %s: each is taken for a lesion of its own",
            len(without), table, without[0],
        )  # fmt: skip
    _warn_of_other_rows(lesions, image_ids, table)
    return lesions


def _warn_of_other_rows(lesions: dict[str, str], image_ids: Sequence[str], table: Path) -> None:
    others = sorted(lesions.keys() - set(image_ids))
    if others:
        logging.warning(
            "%d rows of %s are of no image of the training set, e.g. %s",
            len(others), table, others[0],
        )  # fmt: skip
