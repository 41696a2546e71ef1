"""Counts over a prepared data set's table; opens no image."""

import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

UNKNOWN = "not known"
_TEXTS = ("image_id", "lesion_id", "patient_id", "group", "sex", "site", "source", "mode")


@dataclass(frozen=True)
class Columns:
    """The table by column, over all splits one after the other; unknown text is ''.

    Attributes:
      splits, classes: their names in order.
      text: of `image_id`, `lesion_id`, `patient_id`, `group`, `sex`, `site`, `source` and `mode`.
      split_N: place in `splits`.
      label_N: place in `classes`.
      age_N: years, NaN where not known.
      size_N2: height and width of the published image, pixels.
    """

    splits: tuple[str, ...]
    classes: tuple[str, ...]
    text: Mapping[str, Sequence[str]]
    split_N: np.ndarray
    label_N: np.ndarray
    age_N: np.ndarray
    size_N2: np.ndarray


def read_columns(
    tables: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], classes: Sequence[str]
) -> Columns:
    """Turns `PreparedDataset.table`'s rows, of one split after the other, into columns."""
    number = {name: place for place, name in enumerate(classes)}
    text: dict[str, list[str]] = {name: [] for name in _TEXTS}
    names, split, label, age, size = [], [], [], [], []
    for place, (name, rows) in enumerate(tables):
        names.append(name)
        for row in rows:
            for key in _TEXTS:
                text[key].append(sys.intern(row[key]))  # most values repeat
            split.append(place)
            label.append(number[row["label"]])
            age.append(np.nan if row["age"] is None else row["age"])
            size.append((row["height"], row["width"]))
    return Columns(
        splits=tuple(names),
        classes=tuple(classes),
        text=text,
        split_N=np.array(split, np.int64),
        label_N=np.array(label, np.int64),
        age_N=np.array(age, np.float64),
        size_N2=np.array(size, np.int64).reshape(-1, 2),
    )


def by_split_and_class(columns: Columns, distinct: Sequence[Hashable] | None = None) -> np.ndarray:
    """Images by split and class, int64 (splits, classes), or how many `distinct` values they have.

    Args:
      columns: the table.
      distinct: one value per image, such as its lesion.
    """
    count_SC = np.zeros((len(columns.splits), len(columns.classes)), np.int64)
    places = zip(columns.split_N.tolist(), columns.label_N.tolist(), strict=True)
    if distinct is None:
        seen: Iterable[tuple[int, int]] = places
    else:
        seen = (place for place, _ in {*zip(places, distinct, strict=True)})
    for split, label in seen:
        count_SC[split, label] += 1
    return count_SC


def distinct_by_split(columns: Columns, values: Sequence[str]) -> np.ndarray:
    """How many values other than '' each split has, int64 (splits,)."""
    count_S = np.zeros(len(columns.splits), np.int64)
    for split, value in {*zip(columns.split_N.tolist(), values, strict=True)}:
        count_S[split] += value != ""
    return count_S


def values_by_class(
    columns: Columns, values: Sequence[str], *, most: int
) -> tuple[list[str], np.ndarray]:
    """How often each class has each value.

    Returns:
      The `most` most frequent values, then the others together, then UNKNOWN, where there are such;
      and int64 (classes, values).
    """
    counts = Counter(zip(columns.label_N.tolist(), values, strict=True))
    total: Counter[str] = Counter(values)
    missing = total.pop("", 0)
    ranked = sorted(total, key=lambda value: (-total[value], value))
    kept, others = ranked[:most], ranked[most:]
    names = list(kept)
    if others:
        names.append(f"{len(others)} others")
    if missing:
        names.append(UNKNOWN)
    place = {value: index for index, value in enumerate(kept)}
    count_CV = np.zeros((len(columns.classes), len(names)), np.int64)
    for (label, value), count in counts.items():
        index = len(names) - 1 if not value else place.get(value, len(kept))
        count_CV[label, index] += count
    return names, count_CV


def missing_by_class(columns: Columns) -> tuple[list[str], np.ndarray]:
    """What is not known of how many images: the columns' names, and int64 (classes, columns).

    An image whose lesion is not known is one of its own, under its id or that of what it copies.
    """
    text = columns.text
    ids = set(text["image_id"])
    missing = {
        "age": np.isnan(columns.age_N),
        "sex": _empty(text["sex"]),
        "body site": _empty(text["site"]),
        "lesion": np.array([lesion_id in ids for lesion_id in text["lesion_id"]], bool),
        "patient": _empty(text["patient_id"]),
    }
    count_CK = np.array(
        [
            np.bincount(columns.label_N[is_missing_N], minlength=len(columns.classes))
            for is_missing_N in missing.values()
        ]
    ).T
    return list(missing), count_CK


def images_per_lesion(columns: Columns) -> list[tuple[str, int]]:
    """How many lesions have how many images: (images, lesions), from 1 up, from 6 on in ranges."""
    sizes = Counter(Counter(columns.text["lesion_id"]).values())
    edges = [1, 2, 3, 4, 5, 6, 11, 21, 51, 101]
    bars = []
    for low, high in zip(edges, [*edges[1:], max(sizes, default=0) + 1], strict=True):
        if low > max(sizes, default=0):
            break
        name = f"{low}" if low == high - 1 else f"{low} to {high - 1}"
        bars.append((name, sum(count for size, count in sizes.items() if low <= size < high)))
    return bars


def sizes(columns: Columns) -> list[tuple[tuple[int, int], int]]:
    """Published sizes (height, width) and how many images have them, the most frequent first."""
    counts = Counter(map(tuple, columns.size_N2.tolist()))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _empty(values: Sequence[str]) -> np.ndarray:
    return np.array([not value for value in values], bool)
