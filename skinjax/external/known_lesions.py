"""Which images of an external test show one lesion, and which of them are one image (no JAX)."""

import collections
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from skinjax.data import tables
from skinjax.data.sources import fields, isic2019, table_files
from skinjax.data.sources.folders import split_raw_dir, walk
from skinjax.errors import InputError
from skinjax.external.data import ExternalData

# ISIC's ids are one space for all its data sets; isic9's reader numbers copies, `.2`.
_ARCHIVE_ID = re.compile(r"(ISIC_\d+)(_downsampled)?(\.\d+)?")
# Published tables that name lesions, and the column of the image's id.
_TABLES = {
    "HAM10000_metadata.csv": "image_id",
    "HAM10000_metadata": "image_id",
    "HAM10000_metadata.tab": "image_id",
    isic2019.METADATA: "image",
}


def key(name: str) -> str:
    """The id of an image, or of a lesion that has an image's, in whatever data set of ISIC's."""
    found = _ARCHIVE_ID.fullmatch(name)
    return found[1] if found else name


def is_unknown(row: Mapping[str, Any]) -> bool:
    """Whether an image is taken for a lesion of its own, since nothing names its lesion."""
    return not row["lesion_id"] or key(row["lesion_id"]) == key(row["image_id"])


def of_run(data: ConfigDict) -> dict[str, str]:
    """Lesions by image id, of the published tables that a run's raw files still have.

    A table has also the images whose files were not there. Empty where no table can be read.

    Args:
      data: `config.data` of the run.
    """
    lesions: dict[str, str] = {}
    try:
        folders = walk(split_raw_dir(data.raw_dir))
        for name, column in _TABLES.items():
            for table in table_files.find_all(folders, name)[:1]:
                for _, (image_id, lesion_id) in tables.read(table, (column, "lesion_id")):
                    if fields.known(lesion_id) and key(image_id).startswith("ISIC_"):
                        lesions[key(image_id)] = lesion_id
    except (InputError, OSError):  # it is not the data that is asked for
        return {}
    return lesions


def named(data: ExternalData, run: ConfigDict) -> ExternalData:
    """The data with the lesions that the tables of the run know and its own do not.

    Args:
      data: of the external test.
      run: `config.data` of the run.
    """
    if not any(map(is_unknown, data.rows)):
        return data
    lesions = of_run(run)
    rows = [
        {**row, "lesion_id": lesions.get(key(row["image_id"]), row["lesion_id"])}
        if is_unknown(row)
        else row
        for row in data.rows
    ]
    return dataclasses.replace(data, rows=rows)


def unchecked(data: ExternalData, own_names_any: bool) -> str:
    """What can't be checked by lesion, and how it could; '' if nothing.

    Args:
      data: after `named`.
      own_names_any: whether its own tables, without the run's, name any lesion.
    """
    count = sum(map(is_unknown, data.rows))
    if not count:
        return ""
    which = "" if count == len(data.rows) else f"{count} of {len(data.rows)} images, of which "
    text = f"{which}the data names none"
    if data.dataset == "isic9" and not own_names_any:
        text += (
            f". ISIC 2019's metadata does: give its folder, with {isic2019.METADATA}, too, as"
            f" --data=DATA{os.pathsep}FOLDER"
        )
    return text


def doubles(rows: Sequence[Mapping[str, Any]], label_N: Sequence[int]) -> dict[int, str]:
    """By place, why a row of an image that stands in several rows is left out.

    Of an image with one label the first row stays; of one with several none does, since which is
    right is not known. Only ISIC's ids say that two rows are one image.

    Args:
      rows: with `image_id` and `label`.
      label_N: the classes that are evaluated; -1 is one that the model does not have.
    """
    places_of: dict[str, list[int]] = collections.defaultdict(list)
    for place, row in enumerate(rows):
        if _ARCHIVE_ID.fullmatch(row["image_id"]):
            places_of[key(row["image_id"])].append(place)
    reasons = {}
    for image_id, places in places_of.items():
        if len({label_N[place] for place in places}) > 1:
            names = sorted({rows[place]["label"] for place in places})
            for place in places:
                reasons[place] = f"has two labels in the data: {image_id} is {' and '.join(names)}"
        else:
            for place in places[1:]:
                reasons[place] = f"one more row of the same image: {image_id}"
    return reasons
