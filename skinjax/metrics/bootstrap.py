"""Bootstrap intervals of all metrics, by lesion."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special

from skinjax.metrics import engine, shares
from skinjax.metrics.strata import Strata
from skinjax.metrics.table import checked

_CHUNK = 32  # resamples worked on at once: 2.5 MB of weights for 10,000 examples
_MOST_UNDEFINED = 0.05  # of the resamples
_ALONE = 64  # resamples in which one class alone is drawn


def weights(
    group_N: Sequence[Any] | np.ndarray,
    label_N: np.ndarray,
    *,
    num_resamples: int,
    seed: int,
    chunk: int = _CHUNK,
) -> Iterator[np.ndarray]:
    """Resamples as weights: how often each example is in each, int64 (up to `chunk`, N).

    Whole groups (the lesions) are drawn with replacement, since images of one lesion are alike;
    by class, as many groups of each as there are, since the splits are stratified: the number of
    a class's lesions was set, not drawn, and would only add noise that no other split has. A group
    goes by its most frequent label, the first of equals. A class of a single group is in every
    resample as it is.

    The resamples are those of `seed`, whatever `chunk` is.

    Args:
      group_N: N hashable ids; "", None and NaN are each a group of its own.
      label_N: N integers >= 0.
    """
    strata = Strata(group_N, label_N)
    return strata.weights(strata.size_G, num_resamples, np.random.default_rng(seed), chunk)


@dataclass(frozen=True)
class Resampled:
    """Values of metrics over resamples; `point` and the others have the same names.

    Attributes:
      point: of the table itself, shape S (nothing, or the classes).
      value: of the resamples, (R, *S); NaN where undefined.
      alone: of resamples in which the groups of one class alone are drawn, (K, R', *S), for the K
        classes with two groups or more.
      groups_C: how many groups each class has.
      is_difference: of two tables' values.
      behind: `shares.groups_behind` the table; of a difference nothing.
    """

    point: dict[str, np.ndarray]
    value: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    groups_C: np.ndarray
    is_difference: bool = False
    behind: Mapping[str, np.ndarray] = field(default_factory=dict)

    def less(self, other: "Resampled") -> "Resampled":
        """The differences to the values of other predictions for the same resamples."""
        point, value, alone = (
            {name: mine[name] - theirs[name] for name in mine}
            for mine, theirs in (
                (self.point, other.point),
                (self.value, other.value),
                (self.alone, other.alone),
            )
        )
        return Resampled(point, value, alone, self.groups_C, is_difference=True)

    def interval(self, name: str, *index: int, confidence: float) -> list[float] | None:
        """[low, high] of one metric, for a class by `index`; see `intervals`."""
        if np.isnan(self.point[name][index]) or self._has_none(name, *index):
            return None
        value_R = _defined(_of(self.value[name], index))
        if value_R is None:
            return None
        point = float(self.point[name][index])
        if not self.is_difference and value_R.min() == value_R.max():
            return self._of_one_value(name, *index, confidence=confidence)
        stretch, freedom = self._small_sample(name, *index)
        reach = -stretch * scipy.special.stdtrit(freedom, (1 - confidence) / 2)
        of_error = name in engine.OF_BINS and not self.is_difference
        middle = 0.0 if of_error else 2 * _quantile_of(value_R, point)
        low, high = np.quantile(value_R, scipy.special.ndtr([middle - reach, middle + reach]))
        if of_error:
            return _of_calibration_error(point, value_R, (low, high))
        return [float(low), float(high)]

    def p(self, name: str, *index: int) -> float:
        """Of both sides, that a difference is 0: 1 less the confidence that just leaves 0 out."""
        value_R = _defined(_of(self.value[name], index))
        assert value_R is not None, "only asked where there is an interval"
        stretch, freedom = self._small_sample(name, *index)
        middle = 2 * _quantile_of(value_R, float(self.point[name][index]))
        away = abs(_quantile_of(value_R, 0.0) - middle) / stretch
        return float(min(1.0, 2 * scipy.special.stdtr(freedom, -away)))

    def intervals(self, classes: Sequence[str], *, confidence: float) -> dict[str, Any]:
        """What the function `intervals` returns."""
        found: dict[str, Any] = {
            name: self.interval(name, confidence=confidence)
            for name in engine.SCALARS
            if name in self.point
        }
        if f"per_class.{engine.PER_CLASS[0]}" in self.point:
            found["per_class"] = {
                label: {
                    name: self.interval(f"per_class.{name}", index, confidence=confidence)
                    for name in engine.PER_CLASS
                }
                for index, label in enumerate(classes)
            }
        return found

    def _has_none(self, name: str, *index: int) -> bool:
        """Whether resampling can't tell how much a metric varies."""
        if index:
            return bool(self.groups_C[index] < 2)
        if name in engine.OF_TWO:
            return bool(np.any(self.groups_C < 2))
        # The bins with few images make the largest error: it is of the sample, not of the model.
        of_sample = name == "maximum_calibration_error"
        return of_sample or bool(name in engine.MEANS and np.any(self.groups_C == 1))

    def _of_one_value(self, name: str, *index: int, confidence: float) -> list[float] | None:
        """The interval where all resamples agree; None if it is no share of 0 or 1."""
        point = float(self.point[name][index])
        if name not in self.behind or point not in (0.0, 1.0):
            return None
        return shares.of_all_or_none(point, int(self.behind[name][index]), confidence)

    def _small_sample(self, name: str, *index: int) -> tuple[float, float]:
        """Factor on the standard error, and degrees of freedom by Satterthwaite.

        The variance of n groups' mean is n / (n - 1) times what resampling them shows, and known
        to n - 1 degrees of freedom; the variance of a metric is the sum of what the classes give.
        """
        value_KR = _of(self.alone[name], index)
        value_KR = np.where(np.isnan(value_KR), self.point[name][index], value_KR)
        shown_K = np.var(value_KR, axis=1)
        total = float(shown_K.sum())
        if not total > 0:
            return 1.0, math.inf
        less_one_K = self.groups_C[self.groups_C > 1] - 1
        right_K = shown_K * (less_one_K + 1) / less_one_K
        freedom = right_K.sum() ** 2 / np.sum(right_K**2 / less_one_K)
        return math.sqrt(float(right_K.sum()) / total), float(freedom)


def resample(
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    group_N: Sequence[Any] | np.ndarray,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> Resampled:
    """The metrics over the resamples of `weights`: scalars and "per_class.<name>".

    Predictions of the same examples in the same order meet the same resamples.

    Args and errors: those of `intervals`.
    """
    probability_NC, label_N = checked(probability_NC, label_N, classes)
    if len(group_N) != len(label_N) or len(label_N) == 0 or num_resamples < 1:
        raise ValueError(
            f"{len(label_N)} examples, {len(group_N)} groups, {num_resamples} resamples"
        )
    table = engine.Engine(probability_NC, label_N)
    strata = Strata(group_N, label_N)
    groups_C = np.zeros(len(classes), np.int64)
    groups_C[: len(strata.groups_L)] = strata.groups_L

    def scores(size_G: np.ndarray, number: int, seeds: Sequence[int]) -> dict[str, np.ndarray]:
        found = [
            table.scores(np.ascontiguousarray(weight_RN.T, np.float64), only)
            for weight_RN in strata.weights(size_G, number, np.random.default_rng(seeds), _CHUNK)
        ]
        return {name: np.concatenate([values[name] for values in found]) for name in found[0]}

    point = table.scores(np.ones((len(label_N), 1)), only)
    alone = [
        scores(strata.only(int(label)), _ALONE, [seed, int(label)])
        for label in np.flatnonzero(groups_C > 1)
    ]
    value = scores(strata.size_G, num_resamples, [seed])
    return Resampled(
        {name: values[0] for name, values in point.items()},
        value,
        {
            name: np.stack([values[name] for values in alone])
            if alone
            else np.empty((0, _ALONE, *point[name].shape[1:]))
            for name in point
        },
        groups_C,
        behind=shares.groups_behind(probability_NC, label_N, group_N),
    )


def intervals(
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    group_N: Sequence[Any] | np.ndarray,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Intervals of the metrics, over the resamples of `weights`, by the percentile method.

    Bias-corrected percentiles (Efron 1981, doi:10.2307/3314608): a resample of few lesions ranks
    them better than new ones would be, so that areas come out too high. The tails are those of
    Hesterberg 2015 (doi:10.1080/00031305.2015.1089789): percentile intervals of few groups are too
    narrow, by the factor and for the t distribution that a class of n lesions calls for; degrees of
    freedom are those of all classes together, weighted by what each gives to the metric's variance.
    With many lesions these are the plain percentiles.

    The expected calibration errors are biased upward, and a resample's once more, so that
    percentiles would miss a well-calibrated model's error always. Their lower end is that of the
    squares with the bias taken off, their upper end that of the values about the estimate.
    `scripts/interval_coverage.py` has the coverage of all of them.

    Where all resamples of an accuracy, recall, specificity or precision are 1, or all 0, its
    interval is that of Wilson for as many lesions (`shares.of_all_or_none`).

    An interval is None where the metric is undefined for the table itself, or in more than 5 % of
    the resamples (the others are left out); of a class of a single lesion, and of a mean over
    classes of which one has a single lesion; where all resamples of any other metric agree; and of
    the maximum calibration error, which is of the sample and says little of the population.

    Args:
      probability_NC, label_N, classes: as for `compute`; one example or more.
      group_N: as for `weights`.
      confidence: of the intervals.
      only: names of scalars, and "per_class" for all of the classes; everything if None.

    Returns:
      `compute`'s structure with [low, high] in place of each number, without `num_examples`,
      `support` and the confusion matrix; with `only`, what it names.

    Raises:
      ValueError: the arrays are not as said.
    """
    resampled = resample(
        probability_NC, label_N, classes, group_N, num_resamples=num_resamples, seed=seed, only=only
    )
    return resampled.intervals(classes, confidence=confidence)


def percentile(value_R: np.ndarray, confidence: float) -> list[float] | None:
    """The middle `confidence` of the values, [low, high]; NaN is undefined and left out.

    None if there are no values, or more than 5 % are undefined.
    """
    defined_R = _defined(np.asarray(value_R, np.float64))
    if defined_R is None:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined_R, [tail, 1 - tail])
    return [float(low), float(high)]


def _defined(value_R: np.ndarray) -> np.ndarray | None:
    """The values that are not NaN; None if there are none, or more than 5 % are NaN."""
    defined_R = value_R[~np.isnan(value_R)]
    few = len(defined_R) < max(1, (1 - _MOST_UNDEFINED) * len(value_R))
    return None if few else defined_R


def _quantile_of(value_R: np.ndarray, at: float) -> float:
    """Where `at` lies among the values, as a normal quantile; finite, 0 in their middle."""
    below = np.count_nonzero(value_R < at) + 0.5 * np.count_nonzero(value_R == at)
    return float(scipy.special.ndtri((below + 0.5) / (len(value_R) + 1)))


def _of(value: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """The values of one metric, for a class by `index`."""
    place: Any = (..., *index)
    return np.asarray(value[place])


def _of_calibration_error(
    error: float, value_R: np.ndarray, percentiles: Sequence[float]
) -> list[float]:
    """The interval of an error that is never below 0 and that resampling enlarges."""
    low, high = percentiles
    lower = math.sqrt(max(0.0, 2 * error**2 - high**2))
    upper = max(
        math.sqrt(max(0.0, 2 * error**2 - low**2)), error + high - float(np.nanmean(value_R))
    )
    return [min(lower, error), max(upper, error)]
