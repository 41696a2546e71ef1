"""ISIC 2019: HAM10000, BCN20000 and MSK together, with eight classes or HAM10000's seven."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from skinjax.config import nearest
from skinjax.data import labels, tables
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields, one_hot, table_files
from skinjax.data.sources.folders import ImageIndex, split_raw_dir, walk
from skinjax.errors import InputError

METADATA = "ISIC_2019_Training_Metadata.csv"
_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
_IMAGES = "isic_2019_training_input"  # how its folder's name starts, in lower case
_COLUMNS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the table of metadata says of an image; '' and None where not known."""

    lesion_id: str = ""
    age: float | None = None
    sex: str = ""
    site: str = ""


def read(raw_dir: str | os.PathLike[str], scc: str) -> Reading:
    """Reads ISIC 2019's training set; images may lie in the folders of other data sets as well.

    Tschandl et al. (2018), Combalia et al., arXiv:1908.02288, Codella et al. (2018). `scc` is a key
    of `labels.ISIC2019_SCC`: what becomes of squamous cell carcinoma. Images of UNK are left out.

    Raises:
      InputError: another `scc`; no folder, table or image; or a table that is at fault (see
        `one_hot.read` and `read_metadata`).
    """
    if scc not in labels.ISIC2019_SCC:
        raise InputError(
            f"data.isic2019_scc is {scc!r}: expected one of {', '.join(labels.ISIC2019_SCC)}"
            f"{nearest(scc, labels.ISIC2019_SCC)}"
        )
    class_of = labels.ISIC2019_SCC[scc]
    classes = tuple(sorted(set(class_of.values())))
    roots = split_raw_dir(raw_dir)
    folders = walk(roots)
    used = (table_files.find(folders, _TRUTH), table_files.find(folders, METADATA))
    truth = one_hot.read(used[0], _COLUMNS)
    metadata = read_metadata(used[1])
    _warn_of_differences(truth, metadata, used[1])
    images = ImageIndex(folders, _IMAGES)
    records: list[Record] = []
    left_out: list[LeftOut] = []
    missing: list[str] = []
    for image_id, column in truth.items():
        name = class_of.get(column.lower())
        if name is None:
            left_out.append(LeftOut(image_id, _why_left_out(column)))
            continue
        path = images.find(image_id)
        if path is None:
            missing.append(image_id)
            left_out.append(LeftOut(image_id, "no image file"))
            continue
        known = metadata.get(image_id, Metadata())
        records.append(
            Record(
                image_id=image_id,
                path=path,
                label=classes.index(name),
                lesion_id=known.lesion_id or image_id,
                age=known.age,
                sex=known.sex,
                site=known.site,
                source="ISIC2019",
            )
        )
    fields.check_any_found(len(records), missing, roots, "unpack ISIC_2019_Training_Input there")
    return Reading(tuple(records), tuple(left_out), classes, used)


def read_metadata(table: Path) -> dict[str, Metadata]:
    """Reads the table of metadata, by image id.

    Raises:
      InputError: a table that can't be read strictly, a repeated image, or an age that is no
        number.
    """
    metadata: dict[str, Metadata] = {}
    first_line: dict[str, int] = {}
    columns = ("image", "lesion_id", "age_approx", "sex", "anatom_site_general")
    for line, (image_id, lesion_id, age, sex, site) in tables.read(table, columns):
        where = f"{table}, line {line}"
        fields.check_image_id(image_id, where)
        fields.note_line(first_line, image_id, table, line)
        metadata[image_id] = Metadata(
            lesion_id=fields.known(lesion_id),
            age=fields.age(age, f"{where}: image {image_id}"),
            sex=fields.known(sex),
            site=fields.known(site),
        )
    return metadata


def _why_left_out(column: str) -> str:
    if column == "UNK":
        return "class UNK: none of the known classes"
    return f"class {column}: left out by data.isic2019_scc"


def _warn_of_differences(truth: Mapping[str, str], metadata: Collection[str], table: Path) -> None:
    without = [image_id for image_id in truth if image_id not in metadata]
    if without:
        logging.warning(
            "%d images have no row in %s, e.g. %s: their lesion, age, sex and site are not known",
            len(without), table, without[0],
        )  # fmt: skip
    others = [image_id for image_id in metadata if image_id not in truth]
    if others:
        logging.warning(
            "%d rows of %s are of no image in %s, e.g. %s", len(others), table, _TRUTH, others[0]
        )
