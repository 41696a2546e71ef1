"""A file that says which class of a model is which of another data set."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skinjax import logs
from skinjax.config import nearest
from skinjax.data import tables
from skinjax.data.sources import fields
from skinjax.errors import InputError

ADVICE = (
    "give --mapping=FILE.csv, with the columns model_class,data_class and a line for each class"
)
_MOST_BYTES = 1 << 20
_COLUMNS = ("model_class", "data_class")

Pairs = set[tuple[str, str]]  # of a class of the model and a class of the data


def read(path: Path, model_classes: Sequence[str], data_classes: Sequence[str]) -> Pairs:
    """Reads a mapping: a CSV with the columns model_class and data_class, or a JSON object.

    In JSON, a class of the model has a class of the data or a list of them. A class that has no
    partner must be said, so that none is forgotten: `vasc,` in CSV, `"vasc": []` in JSON; and
    `,lentigo` or `"": ["lentigo"]` for a class of the data, whose images are then left out.

    Raises:
      InputError: the file can't be read, has a class that there is not, or lacks one.
    """
    try:
        logs.open_regular(path, _MOST_BYTES).close()
    except OSError as error:
        raise InputError(f"mapping {path} can't be read ({error.strerror}): {ADVICE}") from None
    except ValueError as error:
        raise InputError(f"mapping {path} is no short table ({error}): {ADVICE}") from None
    said = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)
    for names, classes, whose in (
        ([model for model, _ in said], model_classes, "model"),
        ([data for _, data in said], data_classes, "data"),
    ):
        wrong = [name for name in names if name and name not in classes]
        if wrong:
            raise InputError(
                f"mapping {path}: the {whose} has no class {fields.short(wrong[0])}; it has"
                f" {tables.shown(classes)}{nearest(wrong[0], classes)}"
            )
        forgotten = [name for name in classes if name not in names]
        if forgotten:
            alone = f"{forgotten[0]}," if whose == "model" else f",{forgotten[0]}"
            raise InputError(
                f"mapping {path} does not say what becomes of the {whose}'s class"
                f" {fields.short(forgotten[0])}: add a line for it, or {alone!r} if it has no"
                " partner"
            )
    for model, data in said:
        beside = [pair for pair in said if pair[not model] == (model or data)]
        if not (model and data) and (len(beside) > 1 or not (model or data)):
            raise InputError(
                f"mapping {path}: {fields.short(model or data)} is said to have no partner, and to"
                " have one: expected one of the two"
            )
    pairs = {(model, data) for model, data in said if model and data}
    if not pairs:
        raise InputError(f"mapping {path} maps no class to another: {ADVICE}")
    return pairs


def _read_csv(path: Path) -> list[tuple[str, str]]:
    try:
        return [(model, data) for _, (model, data) in tables.read(path, _COLUMNS)]
    except (OSError, csv.Error) as error:
        raise InputError(f"mapping {path} can't be read ({error}): {ADVICE}") from None


def _read_json(path: Path) -> list[tuple[str, str]]:
    try:
        values = json.loads(
            logs.read_text(path, _MOST_BYTES).removeprefix("\ufeff"), object_pairs_hook=_once
        )
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"mapping {path} is no JSON ({error}): {ADVICE}") from None
    if not isinstance(values, Mapping):
        raise InputError(f"mapping {path} holds no JSON object: {ADVICE}")
    said = []
    for model, data in values.items():
        several = data if isinstance(data, list) else [data]
        if not all(isinstance(name, str) for name in several):
            raise InputError(
                f"mapping {path}: {fields.short(model)} has {fields.short(str(data))}, expected a"
                " class of the data or a list of them"
            )
        said += [(model, name) for name in several or [""]]
    return said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a class stands in it twice")
    return values
