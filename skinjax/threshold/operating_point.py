"""What a decision does on a split: sensitivity, specificity, predictive values, with intervals."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from skinjax.errors import InputError
from skinjax.metrics import bootstrap, shares

MEASURES = ("sensitivity", "specificity", "ppv", "npv")
CONFIDENCE = 0.95
# The cells, as columns of the table of them, that each measure is of.
_OF_CELLS = dict(zip(MEASURES, ((0, 1), (2, 3), (0, 3), (2, 1)), strict=True))
_COUNTS = ("true_positives", "false_negatives", "true_negatives", "false_positives")


def curve(score_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every distinct score as a threshold, ascending, with sensitivity and specificity there.

    Args:
      score_N: float.
      positive_N: bool; what each image is.

    Returns:
      Three float64 arrays (T,); sensitivity is NaN without positive, specificity without negative
      images.
    """
    threshold_T = np.unique(score_N)
    yes, no = np.sort(score_N[positive_N]), np.sort(score_N[~positive_N])
    with np.errstate(invalid="ignore"):
        sensitivity_T = (len(yes) - np.searchsorted(yes, threshold_T)) / np.float64(len(yes))
        specificity_T = np.searchsorted(no, threshold_T) / np.float64(len(no))
    return threshold_T, sensitivity_T, specificity_T


def measure(
    called_N: np.ndarray,
    positive_N: np.ndarray,
    label_N: np.ndarray,
    group_N: Sequence[str],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """What a decision does on a split, with 95 % bootstrap intervals.

    The intervals are for the threshold as it is. On validation, where it was chosen, that leaves
    out how it was chosen. Whole lesions are drawn, as many of each class as there are, so that
    `ppv` and `npv` are for the split's share of positive images. Where all resamples of a measure
    are 1, or all 0, its interval is that of Wilson for the lesions it is of; where they agree on
    another value, there is none.

    Args:
      called_N: bool; called positive.
      positive_N: bool; is positive.
      label_N: the class, int.
      group_N: the lesion.
      num_resamples: of the bootstrap; 0 gives no intervals.
      seed: of the bootstrap.

    Returns:
      num_examples, num_positive, the four counts, and sensitivity, specificity, ppv (positive
      predictive value) and npv, None where nothing is divided by, and `intervals` of these.
    """
    cells_N4 = np.stack(
        [called_N & positive_N, ~called_N & positive_N, ~called_N & ~positive_N,
         called_N & ~positive_N], axis=1,
    )  # fmt: skip
    counts = cells_N4.sum(axis=0)
    point = {name: row[0] for name, row in _measures(counts[None].astype(np.float64)).items()}
    intervals: dict[str, Any] = dict.fromkeys(MEASURES)
    if num_resamples:
        draws = bootstrap.weights(group_N, label_N, num_resamples=num_resamples, seed=seed)
        counts_R4 = np.concatenate(list(_sums(draws, cells_N4)))
        for name, value_R in _measures(counts_R4).items():
            if not np.isnan(point[name]):
                found = bootstrap.percentile(value_R, CONFIDENCE)
                if found and np.nanmin(value_R) == np.nanmax(value_R):
                    found = _of_one_value(name, float(point[name]), cells_N4, group_N)
                intervals[name] = found
    return {
        "num_examples": len(called_N),
        "num_positive": int(positive_N.sum()),
        **dict(zip(_COUNTS, counts.tolist(), strict=True)),
        **{name: None if np.isnan(value) else float(value) for name, value in point.items()},
        "intervals": intervals,
    }


def _of_one_value(
    name: str, value: float, cells_N4: np.ndarray, group_N: Sequence[str]
) -> list[float] | None:
    """The interval of a measure where all resamples agree."""
    if value not in (0.0, 1.0):
        return None
    of_N = cells_N4[:, _OF_CELLS[name]].sum(axis=1) > 0
    return shares.of_all_or_none(value, shares.num_groups(group_N, of_N), CONFIDENCE)


def check(values: Any, name: str) -> dict[str, Any]:
    """What `measure` gave, read back: `values` as they are, if every number is in its range.

    Raises:
      InputError: they are no operating point; the message begins with `name`.
    """
    counts = ("num_examples", "num_positive", *_COUNTS)
    if not isinstance(values, dict) or set(values) != {*counts, *MEASURES, "intervals"}:
        raise InputError(f"{name} is {str(values)[:200]}, expected an operating point")
    intervals = values["intervals"]
    if not isinstance(intervals, dict) or set(intervals) != set(MEASURES):
        raise InputError(f"{name}: intervals is {str(intervals)[:200]}, expected four")
    for key in counts:
        if type(values[key]) is not int or not 0 <= values[key] < 1 << 53:
            raise InputError(f"{name}: {key} is {str(values[key])[:80]}, expected a count")
    for key in MEASURES:
        bounds = [0, 0] if intervals[key] is None else intervals[key]
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise InputError(f"{name}: the interval of {key} is {str(bounds)[:80]}")
        for value in (0 if values[key] is None else values[key], *bounds):
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InputError(f"{name}: {key} has {str(value)[:80]}, expected from 0 to 1")
    return values


def _sums(draws: Iterable[np.ndarray], cells_N4: np.ndarray) -> Iterator[np.ndarray]:
    cells_N4 = cells_N4.astype(np.float64)
    for weight_RN in draws:
        yield weight_RN @ cells_N4


def _measures(counts_R4: np.ndarray) -> dict[str, np.ndarray]:
    """Each of `MEASURES` from rows of the four counts; NaN where nothing is divided by."""
    hit_R, missed_R, cleared_R, alarm_R = counts_R4.T
    pairs = ((hit_R, missed_R), (cleared_R, alarm_R), (hit_R, alarm_R), (cleared_R, missed_R))
    with np.errstate(invalid="ignore"):
        return {
            name: right_R / (right_R + wrong_R)
            for name, (right_R, wrong_R) in zip(MEASURES, pairs, strict=True)
        }
