"""Values as they stand in tables, and the checks that all readers share."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from skinjax.errors import InputError

# A split's name in folders and tables, in lower case, and its name here.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_MISSING = frozenset({"", "unknown", "nan", "na", "n/a", "none", "null"})
_IMAGE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}")


def known(text: str) -> str:
    """The text, or '' where it only says that there is nothing."""
    return "" if text.lower() in _MISSING else text


def age(text: str, where: str) -> float | None:
    """Years, or None where not known.

    Raises:
      InputError: neither a number of years nor nothing.
    """
    text = known(text)
    if not text:
        return None
    try:
        years = float(text)
    except ValueError:
        years = math.nan
    if not 0 <= years < math.inf or "_" in text:  # 8_0 is a number to Python
        raise InputError(f"{where} has age {short(text)}: expected a number of years, or nothing")
    return years


def check_image_id(image_id: str, where: str) -> None:
    """Refuses what is no published image's name, before it is looked for.

    Raises:
      InputError: other than letters, digits and a few signs; a path, say.
    """
    if not _IMAGE_ID.fullmatch(image_id):
        raise InputError(
            f"{where}: image id {short(image_id)} is not a file name without its ending: expected"
            " letters, digits, _, - and . only, and no . in front"
        )


def note_line(first_line: dict[str, int], image_id: str, table: Path, line: int) -> None:
    """Keeps on which line of `table` an image stands.

    Raises:
      InputError: it stands on an earlier one as well.
    """
    if image_id in first_line:
        raise InputError(
            f"{table}, line {line}: image id {image_id} is already on line"
            f" {first_line[image_id]}; every image must have one row"
        )
    first_line[image_id] = line


def check_any_found(
    num_found: int, missing: Sequence[str], roots: Sequence[Path], hint: str
) -> None:
    """Refuses a reading without an image; `hint` says what to unpack.

    Raises:
      InputError: nothing was found.
    """
    if not num_found:
        where = ", ".join(map(str, roots))
        if not missing:
            raise InputError(f"there is no image to use under {where}: {hint}")
        raise InputError(
            f"none of the {len(missing)} images is under {where} (looked in every folder for e.g."
            f" {missing[0]}.jpg): {hint}"
        )


def short(text: str) -> str:
    """The text in quotes, on one line and not too long."""
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."
