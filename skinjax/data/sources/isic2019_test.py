"""ISIC 2019's official test set, whose ground truth was published after the challenge."""

import os
from pathlib import Path

from skinjax.data import labels, tables
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields, one_hot, table_files
from skinjax.data.sources.folders import ImageIndex, split_raw_dir, walk

TRUTH = "ISIC_2019_Test_GroundTruth.csv"
_METADATA = "ISIC_2019_Test_Metadata.csv"
_IMAGES = "isic_2019_test_input"  # the folder's name, in lower case
_COLUMNS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def read(raw_dir: str | os.PathLike[str]) -> Reading:
    """Reads the test set in the eight classes of ISIC 2019; images of UNK are left out.

    Ages, sexes and sites are read where their table is there. It names no lesions, so each image
    is taken for one of its own.

    Raises:
      InputError: no folder, table or image; or a table that is at fault (see `one_hot.read`).
    """
    roots = split_raw_dir(raw_dir)
    folders = walk(roots)
    used = [table_files.find(folders, TRUTH), *table_files.find_all(folders, _METADATA)[:1]]
    truth = one_hot.read(used[0], _COLUMNS)
    patients = _read_patients(used[1]) if len(used) > 1 else {}
    images = ImageIndex(folders, _IMAGES)
    records: list[Record] = []
    left_out: list[LeftOut] = []
    missing: list[str] = []
    for image_id, column in truth.items():
        if column == "UNK":
            left_out.append(LeftOut(image_id, "class UNK: none of the known classes"))
            continue
        path = images.find(image_id)
        if path is None:
            missing.append(image_id)
            left_out.append(LeftOut(image_id, "no image file"))
            continue
        age, sex, site = patients.get(image_id, (None, "", ""))
        records.append(
            Record(
                image_id=image_id,
                path=path,
                label=labels.ISIC2019_CLASSES.index(column.lower()),
                lesion_id=image_id,
                age=age,
                sex=sex,
                site=site,
                source="ISIC2019",
                split="test",
            )
        )
    fields.check_any_found(len(records), missing, roots, "unpack ISIC_2019_Test_Input there")
    return Reading(tuple(records), tuple(left_out), labels.ISIC2019_CLASSES, tuple(used))


def _read_patients(table: Path) -> dict[str, tuple[float | None, str, str]]:
    """Age, sex and site by image."""
    patients: dict[str, tuple[float | None, str, str]] = {}
    first_line: dict[str, int] = {}
    columns = ("image", "age_approx", "sex", "anatom_site_general")
    for line, (image_id, age, sex, site) in tables.read(table, columns):
        where = f"{table}, line {line}"
        fields.check_image_id(image_id, where)
        fields.note_line(first_line, image_id, table, line)
        years = fields.age(age, f"{where}: image {image_id}")
        patients[image_id] = (years, fields.known(sex), fields.known(site))
    return patients
