"""Tables with one column per class, a one in the image's own: the ISIC challenges' ground truth."""

import math
from collections.abc import Sequence
from pathlib import Path

from skinjax.data import tables
from skinjax.data.sources import fields
from skinjax.errors import InputError

_EXAMPLES = 5  # ids that a message names


def read(table: Path, columns: Sequence[str]) -> dict[str, str]:
    """The column of each image's class, by image id, in the table's order.

    It is the dominant one: the only value above a half, of values from 0 to 1.

    Raises:
      InputError: a table that can't be read strictly, a bad or repeated image id, or rows without
        exactly one dominant class, with the first of their ids and how many they are.
    """
    dominant: dict[str, str] = {}
    first_line: dict[str, int] = {}
    bad: list[str] = []
    for line, (image_id, *texts) in tables.read(table, ("image", *columns)):
        fields.check_image_id(image_id, f"{table}, line {line}")
        fields.note_line(first_line, image_id, table, line)
        values = [_number(text) for text in texts]
        above = [name for name, value in zip(columns, values, strict=True) if value > 0.5]
        if all(0 <= value <= 1 for value in values) and len(above) == 1:
            dominant[image_id] = above[0]
        else:
            bad.append(f"{image_id} (line {line}: {_fault(texts, columns, above)})")
    if bad:
        more = f" and {len(bad) - _EXAMPLES} more" if len(bad) > _EXAMPLES else ""
        raise InputError(
            f"{table}: {len(bad)} rows are not of one class: {', '.join(bad[:_EXAMPLES])}{more};"
            f" expected a 1 in one of {', '.join(columns)} and 0 in the others"
        )
    return dominant


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _fault(texts: Sequence[str], columns: Sequence[str], above: Sequence[str]) -> str:
    for name, text in zip(columns, texts, strict=True):
        if not 0 <= _number(text) <= 1:
            return f"{name} is {fields.short(text)}"
    return " and ".join(above) if above else "none"
