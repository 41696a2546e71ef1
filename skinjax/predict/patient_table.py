"""A table of what is known of patients, by image, for predicting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skinjax.data import tables
from skinjax.data.sources import fields
from skinjax.data.sources.folders import IMAGE_ENDINGS, split_ending
from skinjax.errors import InputError

# Each value's column, as this package and the published tables (HAM10000's, ISIC's) call it.
_COLUMNS = {
    "image": ("image", "image_id", "isic_id"),
    "age": ("age", "age_approx"),
    "sex": ("sex",),
    "site": ("site", "localization", "anatom_site_general"),
}


class PatientTable:
    """Age, sex and site by the name of an image's file, with or without its ending."""

    def __init__(self, path: Path) -> None:
        """Reads a CSV with a column `image` and any of `age`, `sex` and `site`.

        The columns may have the names that HAM10000's and ISIC's tables have for them.

        Raises:
          InputError: no such table, none of its columns, an age that is no number, or an image that
            is in two rows.
        """
        self._rows: dict[str, dict[str, Any]] = {}
        names = [name for of_one in _COLUMNS.values() for name in of_one]
        try:
            read = list(tables.read(path, (), names))
        except (FileNotFoundError, IsADirectoryError):
            raise InputError(f"no table {path}: give the CSV of patient metadata") from None
        for line, values in read:
            self._add(dict(zip(names, values, strict=True)), f"{path}, line {line}")
        if not any(value for row in self._rows.values() for value in row.values()):
            raise InputError(
                f"{path} has no age, sex or site: expected columns image, age, sex and site"
            )

    def find(self, image: Path) -> Mapping[str, Any] | None:
        """An image's row, with age (years, or None), sex and site; None where it has none."""
        return self._rows.get(_key(image.name))

    def _add(self, values: Mapping[str, str], where: str) -> None:
        image, age, sex, site = (
            next((values[name] for name in of_one if values[name]), "")
            for of_one in _COLUMNS.values()
        )
        if not image:
            raise InputError(
                f"{where}: no image named in a column {' or '.join(_COLUMNS['image'])}"
            )
        key = _key(Path(image).name)
        if key in self._rows:
            raise InputError(f"{where}: image {fields.short(image)} is in an earlier row, too")
        self._rows[key] = {
            "age": fields.age(age, where),
            "sex": fields.known(sex),
            "site": fields.known(site),
        }


def _key(name: str) -> str:
    stem, ending = split_ending(name)
    return stem if ending in IMAGE_ENDINGS else name
