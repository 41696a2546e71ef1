"""The main metrics of one group of images, with their resamples, and of two groups' difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skinjax.metrics import bootstrap, engine
from skinjax.metrics.bootstrap import Resampled
from skinjax.metrics.strata import Strata

METRICS = ("accuracy", "balanced_accuracy", "macro_roc_auc", "malignant_sensitivity")
# What the means over classes are of.
BY_CLASS = {"balanced_accuracy": "recall", "macro_roc_auc": "roc_auc"}
DIFFERENCE = "difference"


@dataclass(frozen=True)
class Group:
    """Images of one group.

    Attributes:
      name: of the group.
      num_lesions: images without a lesion id count as one each.
      count_C: images of each class.
      num_malignant: images of malignant classes.
      scores: of its table, with `METRICS` but the last.
      malignancy: of its malignant images, with `accuracy` for their sensitivity; None without any.
    """

    name: str
    num_lesions: int
    count_C: np.ndarray
    num_malignant: int
    scores: Resampled
    malignancy: Resampled | None

    def count(self, metric: str) -> int:
        """How many images a metric is of."""
        return self.num_malignant if metric == "malignant_sensitivity" else int(self.count_C.sum())

    @property
    def lesions_C(self) -> np.ndarray:
        """Lesions of each class; one of several labels goes by its most frequent."""
        return self.scores.groups_C

    def where(self, metric: str) -> tuple[Resampled, str] | None:
        """Where a metric is: the resamples, and its name there."""
        if metric != "malignant_sensitivity":
            return self.scores, metric
        return None if self.malignancy is None else (self.malignancy, "accuracy")


def score(
    name: str,
    lesion_M: Sequence[str],
    probability_MC: np.ndarray,
    label_M: np.ndarray,
    is_malignant_C: np.ndarray,
    *,
    num_resamples: int,
    seed: int,
) -> Group:
    """The metrics of a group and of its resamples."""
    options: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    scores = _resampled(probability_MC, label_M, lesion_M, (*METRICS[:-1], "per_class"), **options)
    malignancy = None
    malignant_K = np.flatnonzero(is_malignant_C[label_M])
    if malignant_K.size:
        called_K = is_malignant_C[probability_MC[malignant_K].argmax(axis=1)]
        lesion_K = [lesion_M[index] for index in malignant_K.tolist()]
        table = (np.eye(2)[called_K.astype(int)], np.ones(len(malignant_K), np.int64), lesion_K)
        malignancy = _resampled(*table, ("accuracy",), **options)
    return Group(
        name=name,
        num_lesions=len(set(lesion_M) - {""}) + list(lesion_M).count(""),
        count_C=np.bincount(label_M, minlength=len(is_malignant_C)),
        num_malignant=len(malignant_K),
        scores=scores,
        malignancy=malignancy,
    )


def difference(metric: str, one: Group, other: Group, common_C: np.ndarray | None) -> Resampled:
    """The first group's metric less the second's, which is of other lesions."""
    point, value, alone = (
        [values(group, metric, common_C, part) for group in (one, other)]
        for part in ("point", "value", "alone")
    )
    return Resampled(
        {DIFFERENCE: point[0] - point[1]},
        {DIFFERENCE: value[0] - value[1]},
        {DIFFERENCE: np.concatenate([alone[0] - point[1], point[0] - alone[1]])},
        np.concatenate([_resamples(group, metric).groups_C for group in (one, other)]),
        is_difference=True,
    )


def values(group: Group, metric: str, common_C: np.ndarray | None, part: str) -> np.ndarray:
    """Values of a metric in a part of the resamples, over the classes of `common_C` if any."""
    found: dict[str, np.ndarray] = getattr(_resamples(group, metric), part)
    if common_C is not None:
        return np.asarray(found[f"per_class.{BY_CLASS[metric]}"][..., common_C].mean(axis=-1))
    return np.asarray(found["accuracy"])


def _resampled(
    probability_MC: np.ndarray,
    label_M: np.ndarray,
    lesion_M: Sequence[str],
    only: Sequence[str],
    *,
    num_resamples: int,
    seed: int,
) -> Resampled:
    """`bootstrap.resample`, for which 0 resamples will do too."""
    num_classes = probability_MC.shape[1]
    if num_resamples:
        classes = [str(index) for index in range(num_classes)]
        options: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed, "only": only}
        return bootstrap.resample(probability_MC, label_M, classes, lesion_M, **options)
    table = engine.Engine(probability_MC, label_M)
    point = {
        name: values[0] for name, values in table.scores(np.ones((len(label_M), 1)), only).items()
    }
    nothing = {name: np.empty((0, *value.shape)) for name, value in point.items()}
    alone = {name: np.empty((0, 1, *value.shape)) for name, value in point.items()}
    groups_L = Strata(lesion_M, label_M).groups_L
    groups_C = np.zeros(num_classes, np.int64)
    groups_C[: len(groups_L)] = groups_L
    return Resampled(point, nothing, alone, groups_C)


def _resamples(group: Group, metric: str) -> Resampled:
    found = group.where(metric)
    assert found is not None, "a group without images has no gap"
    return found[0]
