"""One evaluation as it is reported: a table of predictions, and all that follows from it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import assessment, calibration
from skinjax.calibration import Calibration
from skinjax.errors import InputError
from skinjax.predictions import read_predictions

_MOST_BYTES = 64 << 20  # of metrics.json; it has a few numbers for each class and subgroup
_ADVICE = "run `skinjax evaluate` again"


@dataclass(frozen=True)
class Evaluation:
    """A table of predictions and its assessment.

    Attributes:
      split: its name.
      probability_NC, label_N, classes: the table, before any calibration.
      calibration: that was fitted on other images; None if there is none.
      result: what `assessment.assess` says, and `loss` if that is known.
      checkpoint: what predicted, in words; "" if that is not known.
      split_counts: images of each class by split of the run; None if that is not known.
    """

    split: str
    probability_NC: np.ndarray
    label_N: np.ndarray
    classes: tuple[str, ...]
    calibration: Calibration | None
    result: dict[str, Any]
    checkpoint: str = ""
    split_counts: dict[str, list[int]] | None = None

    @property
    def calibrated_NC(self) -> np.ndarray | None:
        """The probabilities after calibration; None without one."""
        return None if self.calibration is None else self.calibration.apply(self.probability_NC)


def read(directory: Path) -> Evaluation:
    """The evaluation of a folder that `evaluate` wrote.

    All figures are computed again from the table; metrics.json gives the intervals, the
    calibration's parameters, and what a table can't tell. An older one lacks some of these.

    Raises:
      InputError: a file is missing, broken or empty, or the two don't belong together.
    """
    about = read_metrics(directory / "metrics.json")
    path = directory / f"predictions_{about['split']}.csv"
    rows, probability_NC, label_N, classes = read_predictions(path)
    if len(label_N) == 0:
        raise InputError(f"{path} has no rows, so there is nothing to report")
    fitted = calibration_of(about, classes, directory)
    result = assessment.assess(
        rows, probability_NC, label_N, classes, calibration=fitted, num_resamples=0
    )
    if (
        list(about["per_class"]) != list(classes)
        or about["confusion_matrix"] != result["confusion_matrix"]
    ):
        raise InputError(
            f"metrics.json and {path.name} in {directory} are not of the same evaluation: {_ADVICE}"
        )
    _take_intervals(result, about)
    if "loss" in about:
        result["loss"] = _number(about["loss"])
    return Evaluation(
        split=about["split"],
        probability_NC=probability_NC,
        label_N=label_N,
        classes=classes,
        calibration=fitted,
        result=result,
        checkpoint=checkpoint_of(about),
        split_counts=split_counts_of(about, classes),
    )


def assess(
    path: Path,
    split: str,
    *,
    calibration: Calibration | None,
    about: Mapping[str, Any],
    num_resamples: int,
) -> Evaluation:
    """The evaluation of a table of predictions alone; `about` is its metrics.json, or empty.

    Raises:
      InputError: the table is missing, broken or empty.
    """
    rows, probability_NC, label_N, classes = read_predictions(path)
    if len(label_N) == 0:
        raise InputError(f"{path} has no rows, so there is nothing to report")
    result = assessment.assess(
        rows,
        probability_NC,
        label_N,
        classes,
        calibration=calibration,
        num_resamples=num_resamples,
    )
    if "loss" in about:
        result["loss"] = _number(about["loss"])
    return Evaluation(
        split=split,
        probability_NC=probability_NC,
        label_N=label_N,
        classes=classes,
        calibration=calibration,
        result=result,
        checkpoint=checkpoint_of(about),
        split_counts=split_counts_of(about, classes),
    )


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a metrics.json, of which only the needed keys are checked.

    Raises:
      InputError: the file is missing, too large or no JSON, or lacks a key.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `skinjax evaluate` first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}): {_ADVICE}") from None
    kinds = {"split": str, "per_class": dict, "confusion_matrix": list, "num_examples": int}
    missing = [key for key in kinds if not isinstance(about, dict) or key not in about]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: {_ADVICE}")
    for key, kind in kinds.items():
        if not isinstance(about[key], kind):
            raise InputError(f"{path}: {key} is {about[key]!r:.80}, no {kind.__name__}: {_ADVICE}")
    if about["split"] != Path(about["split"]).name:
        raise InputError(f"{path}: split is {about['split']!r:.80}, no name: {_ADVICE}")
    return about


def checkpoint_of(about: Mapping[str, Any]) -> str:
    """What predicted, in words; "" if a metrics.json doesn't say."""
    text = about.get("checkpoint")
    return text if isinstance(text, str) else ""


def split_counts_of(
    about: Mapping[str, Any], classes: Sequence[str]
) -> dict[str, list[int]] | None:
    """Images of each class by split; None if a metrics.json doesn't say."""
    counts = about.get("split_counts")
    if not isinstance(counts, dict) or not counts:
        return None
    right = all(
        isinstance(count_C, list)
        and len(count_C) == len(classes)
        and all(type(count) is int and count >= 0 for count in count_C)
        for count_C in counts.values()
    )
    return counts if right else None


def calibration_of(
    about: Mapping[str, Any], classes: Sequence[str], directory: Path
) -> Calibration | None:
    """The calibration of a metrics.json in `directory`; None if it has none.

    Raises:
      InputError: its parameters are broken.
    """
    calibrated = about.get("calibrated")
    if not isinstance(calibrated, dict):
        return None
    try:
        return calibration.from_json(calibrated.get("parameters", {}), classes)
    except InputError as error:
        raise InputError(f"{directory / 'metrics.json'}: {error}") from None


def _take_intervals(computed: dict[str, Any], stored: Any) -> None:
    """Puts the intervals of a metrics.json where `computed` was made without."""
    if not isinstance(stored, dict):
        return
    for key, value in computed.items():
        if key in ("intervals", "interval"):
            computed[key] = _bounds(stored.get(key))
        elif key == "bootstrap":
            computed[key] = _counts(stored.get(key), value)
        elif isinstance(value, dict):
            _take_intervals(value, stored.get(key))


def _bounds(value: Any) -> Any:
    """Intervals, nested as they are, with None for what is none."""
    if isinstance(value, dict):
        return {str(key): _bounds(one) for key, one in value.items()}
    is_pair = isinstance(value, list) and len(value) == 2
    return value if is_pair and None not in [_number(one) for one in value] else None


def _counts(value: Any, usual: Mapping[str, Any]) -> dict[str, Any]:
    found = value if isinstance(value, dict) else {}
    return {
        key: found[key] if _number(found.get(key)) is not None else one
        for key, one in usual.items()
    }


def _number(value: Any) -> float | None:
    is_number = type(value) in (int, float) and math.isfinite(value)
    return value if is_number else None
