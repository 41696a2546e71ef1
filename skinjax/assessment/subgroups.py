"""The main metrics by age band, sex, site and image source, with intervals and the largest gap."""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skinjax.assessment import subgroup_scores
from skinjax.assessment.subgroup_scores import BY_CLASS, DIFFERENCE, METRICS, Group
from skinjax.data import labels

COLUMNS = ("age", "sex", "site", "source")
UNKNOWN = "unknown"
OTHERS = "others"
MINIMUM = 20  # images that a group needs for an interval, and to be compared with another group
# Lesions that each class of a group needs for an interval of a mean over its classes, and that a
# class needs in both groups, to count in their difference.
MINIMUM_OF_CLASS = 5
MOST_GROUPS = 20  # of one column; smaller ones go together as `OTHERS`
MOST_RESAMPLES = 1000  # the intervals of groups are wide anyway
_CONFIDENCE = 0.95
_BANDS = ((30, "0-29"), (50, "30-49"), (70, "50-69"), (np.inf, "70+"))
_MISSING = ("", "unknown", "none", "nan", "n/a")


def age_band(age: float | None) -> str:
    """The band of an age in years: 0-29, 30-49, 50-69, 70+, or unknown."""
    if age is None or not age >= 0:
        return UNKNOWN
    return next(name for end, name in _BANDS if age < end)


def group_names(rows: Sequence[Mapping[str, Any]], column: str) -> list[str] | None:
    """The group of each row by one of `COLUMNS`; None where the column is empty."""
    if column == "age":
        name_N = [age_band(row["age"]) for row in rows]
    else:
        text_N = [str(row[column]).strip() for row in rows]
        name_N = [UNKNOWN if text.lower() in _MISSING else text for text in text_N]
    return None if set(name_N) <= {UNKNOWN} else name_N


def by(
    rows: Sequence[Mapping[str, Any]],
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The main metrics of every group of every column.

    `malignant_sensitivity` is the share of the images of a malignant class (`labels.malignant`)
    that are predicted as any malignant class; None where no malignant class is known. Means over
    classes are over those that the group has.

    Intervals are those of `bootstrap.intervals` within the group, of at most `MOST_RESAMPLES`
    resamples. A group of fewer than `MINIMUM` images (malignant ones, for the sensitivity) has
    none: resampling three images says nothing. Nor has a mean over classes of which one has fewer
    than `MINIMUM_OF_CLASS` lesions in the group: how much that class varies would be left out.
    Such a small group is in no gap, as `UNKNOWN` and `OTHERS` are not; means over classes are
    compared over the classes of which both groups have `MINIMUM_OF_CLASS` lesions, at least two.
    A gap of which all resamples agree has no interval. The largest of many
    gaps is large by chance too: its interval doesn't correct for that.

    Returns:
      `malignant` (class names), `minimum`, `num_resamples`, `overall` (METRICS of all images; None
      for each without any), `columns` ({column: None if it is
      empty, else {"groups": {name: {num_examples, num_lesions, num_malignant, absent_classes,
      METRICS..., intervals}}, "gaps": {metric: gap or None}}}) and `largest_gap` (of all; None if
      there is none). A gap is {column, metric, high, low (group names), high_value, low_value,
      difference, interval ([low, high] at 95 % or None), classes (compared over; None for all)}.
    """
    malignant = labels.malignant(classes)
    is_malignant_C = np.array([name in malignant for name in classes])
    num_resamples = min(num_resamples, MOST_RESAMPLES)
    probability_NC = np.asarray(probability_NC, np.float64)
    label_N = np.asarray(label_N, np.int64)
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        name_N = group_names(rows, column)
        if name_N is None:
            columns[column] = None
            continue
        groups = [
            subgroup_scores.score(
                name,
                [str(rows[index]["lesion_id"]) for index in index_M],
                probability_NC[index_M],
                label_N[index_M],
                is_malignant_C,
                num_resamples=num_resamples,
                # Groups of the same random numbers would make their gap's interval wrong.
                seed=zlib.crc32(f"{seed}/{column}/{name}".encode()),
            )
            for name, index_M in _members(name_N, column).items()
        ]
        columns[column] = {
            "groups": {group.name: _described(group, classes) for group in groups},
            "gaps": {metric: _gap(column, metric, groups, classes) for metric in METRICS},
        }
    overall: dict[str, float | None] = dict.fromkeys(METRICS)
    if len(rows):
        lesion_N = [str(row["lesion_id"]) for row in rows]
        table = (lesion_N, probability_NC, label_N, is_malignant_C)
        whole = subgroup_scores.score("", *table, num_resamples=0, seed=seed)
        overall = {metric: _described(whole, classes)[metric] for metric in METRICS}
    gaps = [gap for found in columns.values() if found for gap in found["gaps"].values() if gap]
    return {
        "malignant": sorted(malignant),
        "minimum": MINIMUM,
        "num_resamples": num_resamples,
        "overall": overall,
        "columns": columns,
        "largest_gap": max(gaps, key=lambda gap: gap["difference"], default=None),
    }


def _members(name_N: Sequence[str], column: str) -> dict[str, np.ndarray]:
    """Indices of each group: age bands by age, others by name, then others and unknown."""
    count: dict[str, int] = {}
    for name in name_N:
        count[name] = count.get(name, 0) + 1
    by_size = sorted(set(count) - {UNKNOWN}, key=lambda name: (-count[name], name))
    kept = set(by_size[:MOST_GROUPS])
    order = [name for _, name in _BANDS] if column == "age" else sorted(kept)
    member: dict[str, list[int]] = {name: [] for name in (*order, OTHERS, UNKNOWN)}
    for index, name in enumerate(name_N):
        member[name if name in kept or name == UNKNOWN else OTHERS].append(index)
    return {name: np.array(indices) for name, indices in member.items() if indices}


def _described(group: Group, classes: Sequence[str]) -> dict[str, Any]:
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    intervals: dict[str, list[float] | None] = dict.fromkeys(METRICS)
    for metric in METRICS:
        found = group.where(metric)
        if found is not None:
            resampled, name = found
            value = float(resampled.point[name])
            values[metric] = None if np.isnan(value) else value
            if group.count(metric) >= MINIMUM and _has_enough_lesions(metric, group):
                intervals[metric] = resampled.interval(name, confidence=_CONFIDENCE)
    return {
        "num_examples": int(group.count_C.sum()),
        "num_lesions": group.num_lesions,
        "num_malignant": group.num_malignant,
        "absent_classes": [classes[i] for i in np.flatnonzero(group.count_C == 0).tolist()],
        **values,
        "intervals": intervals if len(group.scores.value["accuracy"]) else None,
    }


def _has_enough_lesions(metric: str, group: Group) -> bool:
    """Whether each class that a metric is the mean over has lesions enough to resample."""
    return metric not in BY_CLASS or bool(
        np.all(group.lesions_C[group.count_C > 0] >= MINIMUM_OF_CLASS)
    )


def _gap(
    column: str, metric: str, groups: Sequence[Group], classes: Sequence[str]
) -> dict[str, Any] | None:
    """The pair of groups that differ most, the higher first."""
    best: tuple[float, float, Group, Group, np.ndarray | None] | None = None
    for one, other in itertools.combinations(groups, 2):
        compared = _compared(metric, one, other)
        if compared is None:
            continue
        common_C, high, low = compared
        pair = (high, low, one, other) if high >= low else (low, high, other, one)
        if best is None or pair[0] - pair[1] > best[0] - best[1]:
            best = (*pair, common_C)
    if best is None:
        return None
    high, low, first, second, common_C = best
    difference = subgroup_scores.difference(metric, first, second, common_C)
    interval = difference.interval(DIFFERENCE, confidence=_CONFIDENCE)
    return {
        "column": column,
        "metric": metric,
        "high": first.name,
        "low": second.name,
        "high_value": high,
        "low_value": low,
        "difference": high - low,
        "interval": interval if interval and interval[0] < interval[1] else None,
        "classes": None if common_C is None else np.array(classes, object)[common_C].tolist(),
    }


def _compared(
    metric: str, one: Group, other: Group
) -> tuple[np.ndarray | None, float, float] | None:
    """The classes compared over (C,), None for all, and the two values; None if too few."""
    for group in (one, other):
        if group.name in (UNKNOWN, OTHERS) or group.count(metric) < MINIMUM:
            return None
    common_C = None
    if metric in BY_CLASS:
        common_C = np.minimum(one.lesions_C, other.lesions_C) >= MINIMUM_OF_CLASS
        if common_C.sum() < 2:
            return None
    first, second = (
        float(subgroup_scores.values(group, metric, common_C, "point")) for group in (one, other)
    )
    return common_C, first, second
