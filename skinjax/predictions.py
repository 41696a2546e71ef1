"""The table of predictions on disk: one row per example, enough to recompute every metric."""

import array
import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinjax.errors import InputError
from skinjax.logs import open_regular, write_bytes

COLUMNS = ("image_id", "lesion_id", "split", "age", "sex", "site", "source", "label")
_REPEATING = ("split", "sex", "site", "source", "label")  # values that many rows share
_PREFIX = "prob_"
_MOST_BYTES = 1 << 30  # of a table: a million images of thirty classes


def write_predictions(
    path: Path | str,
    rows: Sequence[Mapping[str, Any]],
    probability_NC: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Writes `rows` (mappings with the keys `COLUMNS`) and their probabilities, atomically.

    Numbers are written so that reading gives the same float64. `label` is a class name, an age
    of None is an empty cell.

    Raises:
      ValueError: as many rows as probabilities there are not, or a value is not valid.
      OSError: the file can't be written; what was there before stays.
    """
    probability_NC = np.asarray(probability_NC, np.float64)
    if probability_NC.shape != (len(rows), len(classes)):
        raise ValueError(
            f"{len(rows)} rows and {len(classes)} classes, probabilities {probability_NC.shape}"
        )
    if not np.all(np.isfinite(probability_NC)):
        raise ValueError("a probability is not finite")
    unknown = sorted({str(row["label"]) for row in rows} - set(classes))
    if unknown:
        raise ValueError(f"labels {unknown} are not among the classes {list(classes)}")
    # As bytes at once: of a large table, the text and its encoding besides are three times as much.
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding="utf-8", newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*COLUMNS, *(_PREFIX + name for name in classes)])
    for row, probability_C in zip(rows, probability_NC, strict=True):
        # Before Python 3.13 a lone carriage return isn't quoted, and would end the line.
        texts = {name: str(row[name]).replace("\r", " ") for name in COLUMNS}
        texts["age"] = "" if row["age"] is None else repr(float(row["age"]))
        writer.writerow([*texts.values(), *probability_C.tolist()])
    file.flush()
    write_bytes(path, written.getvalue())


def read_predictions(
    path: Path | str,
) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray, tuple[str, ...]]:
    """What `write_predictions` wrote: rows, probability_NC float64, label_N int64, classes.

    Rows have the keys `COLUMNS`; `age` is a float or None. Other columns are ignored. There may be
    no row.

    Raises:
      InputError: the file is missing or is no table of predictions, as with an image twice; the
        message has the line.
    """
    lines = _read_table(Path(path))
    _, header = next(lines)
    classes = _classes(header, path)
    place = {name: index for index, name in enumerate(header)}
    label_of = {name: index for index, name in enumerate(classes)}
    rows: list[dict[str, Any]] = []
    line_of: dict[str, int] = {}
    probabilities, labels = array.array("d"), array.array("q")
    for number, fields in lines:
        where = f"{path} line {number}"
        if len(fields) != len(header):
            raise InputError(f"{where} has {len(fields)} fields, expected {len(header)}; {_ADVICE}")
        row: dict[str, Any] = {name: fields[place[name]] for name in COLUMNS}
        row |= {name: sys.intern(row[name]) for name in _REPEATING}
        first = line_of.setdefault(row["image_id"], number)
        if not row["image_id"]:
            raise InputError(f"{where} has no image_id, expected the image's; {_ADVICE}")
        if first != number:
            raise InputError(
                f"{where} has predictions of one image twice: {row['image_id']!r} is in line"
                f" {first}, too; {_ADVICE}"
            )
        row["age"] = None if row["age"] == "" else _age(row["age"], where)
        if row["label"] not in label_of:
            raise InputError(
                f"{where}: label {row['label']!r} is none of the classes {', '.join(classes)};"
                f" {_ADVICE}"
            )
        cells = [(name, fields[place[_PREFIX + name]]) for name in classes]
        probability_C = np.array([_number(text, _PREFIX + name, where) for name, text in cells])
        total = probability_C.sum()
        if probability_C.min() < 0 or abs(total - 1) > 1e-3:
            raise InputError(
                f"{where}: the probabilities sum to {total:g}, expected no negative ones and 1;"
                f" {_ADVICE}"
            )
        rows.append(row)
        probabilities.frombytes(probability_C.tobytes())
        labels.append(label_of[row["label"]])
    probability_NC = np.frombuffer(probabilities).reshape(len(rows), len(classes))
    return rows, probability_NC, np.frombuffer(labels, np.int64), classes


_ADVICE = "it is no table of predictions: run `skinjax evaluate` again"


def _read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The header, and each row that isn't blank, with the number of its last line."""
    try:
        with (
            open_regular(path, _MOST_BYTES) as opened,
            io.TextIOWrapper(opened, encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.reader(file, strict=True)
            yield 1, next(reader, [])
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `skinjax evaluate` first") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not readable as CSV ({error}); {_ADVICE}") from None


def _classes(header: list[str], path: Path | str) -> tuple[str, ...]:
    """The classes that `header` names, in the order of their columns, if it is a right one."""
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}; {_ADVICE}")
    classes = tuple(name.removeprefix(_PREFIX) for name in header if name.startswith(_PREFIX))
    if not classes:
        raise InputError(f"{path} has no column prob_<class>; {_ADVICE}")
    if len(classes) < 2 or "" in classes:
        raise InputError(
            f"{path} line 1 has the columns {', '.join(_PREFIX + name for name in classes)},"
            f" expected prob_<class> for two or more classes with names; {_ADVICE}"
        )
    if len(set(header)) != len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"{path} has the column {', '.join(twice)} twice; {_ADVICE}")
    return classes


def _age(text: str, where: str) -> float:
    years = _number(text, "age", where)
    if years < 0:  # and as old as the tables of records say
        raise InputError(f"{where}: age is {text!r}, expected years, or nothing; {_ADVICE}")
    return years


def _number(text: str, column: str, where: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)  # 8_0 is a number to Python alone
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column} is {text!r}, expected a finite number; {_ADVICE}")
    return value
