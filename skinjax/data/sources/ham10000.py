"""HAM10000, with its seven classes or as benign against malignant."""

import dataclasses
import os

from skinjax.data import labels, tables
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields, table_files
from skinjax.data.sources.folders import ImageIndex, split_raw_dir, walk
from skinjax.errors import InputError

# Harvard Dataverse's download has no ending; its tab-separated form is called .tab.
_TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
# dx_type is not read on purpose: how a diagnosis was made gives it away (follow_up is always nv).
_COLUMNS = ("image_id", "dx", "lesion_id", "age", "sex", "localization")
_IMAGES = "ham10000_images_part"  # how its folders' names start, in lower case


def read(raw_dir: str | os.PathLike[str], source: str = "HAM10000") -> Reading:
    """Reads HAM10000 as published: one table and the images, in whatever folders under `raw_dir`.

    Tschandl, Rosendahl, Kittler, Sci. Data 5, 180161 (2018), doi:10.7910/DVN/DBW86T. Records come
    in the table's order. Rows without an image file are left out. `source` is what the records say
    where the table has no `dataset` column.

    Raises:
      InputError: no folder, table, column, row or image; a table that can't be read strictly; or
        a row with an unknown class, a bad or repeated image id, or an age that is no number.
    """
    roots = split_raw_dir(raw_dir)
    folders = walk(roots)
    table = table_files.find(folders, *_TABLES)
    images = ImageIndex(folders, _IMAGES)
    records: list[Record] = []
    left_out: list[LeftOut] = []
    first_line: dict[str, int] = {}
    for line, row in tables.read(table, _COLUMNS, optional=("dataset",)):
        image_id, name, lesion_id, age, sex, site, origin = row
        where = f"{table}, line {line}"
        fields.check_image_id(image_id, where)
        label = _label(name, f"{where}: image {image_id}")
        years = fields.age(age, f"{where}: image {image_id}")
        fields.note_line(first_line, image_id, table, line)
        path = images.find(image_id)
        if path is None:
            left_out.append(LeftOut(image_id, "no image file"))
            continue
        records.append(
            Record(
                image_id=image_id,
                path=path,
                label=label,
                lesion_id=fields.known(lesion_id) or image_id,
                age=years,
                sex=fields.known(sex),
                site=fields.known(site),
                source=origin or source,
            )
        )
    fields.check_any_found(
        len(records),
        [row.image_id for row in left_out],
        roots,
        "unpack HAM10000_images_part_1 and _part_2 there",
    )
    return Reading(tuple(records), tuple(left_out), labels.HAM10000_CLASSES, (table,))


def read_binary(raw_dir: str | os.PathLike[str]) -> Reading:
    """Reads HAM10000 as benign against malignant.

    Raises:
      InputError: as `read`.
    """
    reading = read(raw_dir)
    label_C = [
        labels.BINARY_CLASSES.index(labels.HAM10000_TO_BINARY[name]) for name in reading.classes
    ]
    records = (dataclasses.replace(row, label=label_C[row.label]) for row in reading.records)
    return dataclasses.replace(reading, records=tuple(records), classes=labels.BINARY_CLASSES)


def _label(name: str, where: str) -> int:
    if name not in labels.HAM10000_CLASSES:
        raise InputError(
            f"{where} has the unknown class {fields.short(name)} (column dx): expected one of"
            f" {', '.join(labels.HAM10000_CLASSES)}"
        )
    return labels.HAM10000_CLASSES.index(name)
