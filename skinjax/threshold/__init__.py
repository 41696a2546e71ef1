"""The threshold of a decision: chosen on validation for a sensitivity, or for a specificity.

The score of an image is the calibrated probability of the positive classes together; it is called
positive where its score reaches the threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skinjax import calibration as calibration_lib
from skinjax import fitted
from skinjax.calibration import Calibration
from skinjax.data import labels
from skinjax.errors import InputError
from skinjax.threshold import operating_point

FOLDER = "threshold"  # in a work directory's `evaluation`: a copy, and the plot
PLOT = "threshold.png"


@dataclass(frozen=True)
class Threshold:
    """A threshold with what it was chosen for and what it does.

    Attributes:
      positive: the classes that count as positive.
      threshold: of the score, in [0, 1].
      target: {"sensitivity" or "specificity": what was asked for}.
      calibration: `Calibration.to_json` of the probabilities that it is for; None without.
      val: `operating_point.measure` on the validation split, that the threshold was chosen on.
      test: the same on the test split; None if there is none.
    """

    positive: tuple[str, ...]
    threshold: float
    target: dict[str, float]
    calibration: dict[str, Any] | None
    val: dict[str, Any]
    test: dict[str, Any] | None

    def score(self, calibrated_NC: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """The calibrated probability of the positive classes together, float64 (N,)."""
        return score(calibrated_NC, classes, self.positive)

    def decide(self, calibrated_NC: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Whether each image is called positive, bool (N,)."""
        return self.score(calibrated_NC, classes) >= self.threshold


def score(calibrated_NC: np.ndarray, classes: Sequence[str], positive: Sequence[str]) -> np.ndarray:
    """The sum over the positive classes of `calibrated_NC`, float64 (N,)."""
    columns = [list(classes).index(name) for name in positive]
    return np.asarray(calibrated_NC, np.float64)[:, columns].sum(axis=1)


def positive_classes(text: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that `--positive` means, in the order of `classes`.

    Args:
      text: names with commas between them, "malignant" (unless a class is called so) for those
        that `labels.malignant` knows, or '': the second of two classes, malignant ones of more.
      classes: of the model.

    Raises:
      InputError: a name is no class, or all or none of the classes would be positive.
    """
    names = [name.strip() for name in text.split(",")]
    if not text:
        names = [classes[1]] if len(classes) == 2 else ["malignant"]
    if names == ["malignant"] and "malignant" not in classes:
        names = sorted(labels.malignant(classes))
        if not names:
            raise InputError(
                f"which of {', '.join(classes)} are malignant is not known: name the positive "
                "ones, as --positive=mel,bcc"
            )
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise InputError(
            f"--positive={text}: {unknown[0]!r} is none of the model's classes, "
            f"{', '.join(classes)}"
        )
    if len(set(names)) == len(classes):
        raise InputError(f"--positive={text} is every class: leave out the negative ones")
    return tuple(name for name in classes if name in names)


def in_words(names: Sequence[str]) -> str:
    """Class names as "akiec, bcc or mel"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def choose(
    score_N: np.ndarray,
    positive_N: np.ndarray,
    *,
    target_sensitivity: float | None = None,
    target_specificity: float | None = None,
) -> float:
    """The highest threshold that reaches a sensitivity, or the lowest that reaches a specificity.

    It is the score of an image; images of equal score are called alike, so that the target may be
    passed. A sensitivity can always be reached, a specificity only if the highest score has not
    too many negative images.

    Raises:
      InputError: not just one target in (0, 1] is given, there are no positive or no negative
        images, or the target can't be reached.
    """
    name, target = one_target(target_sensitivity, target_specificity)
    for kind, count in (("positive", positive_N.sum()), ("negative", (~positive_N).sum())):
        if count == 0:
            raise InputError(
                f"none of the {len(positive_N)} validation images is {kind}: choose other classes "
                "with --positive, or a larger validation split"
            )
    threshold_T, sensitivity_T, specificity_T = operating_point.curve(score_N, positive_N)
    if name == "sensitivity":
        return float(threshold_T[np.flatnonzero(sensitivity_T >= target)[-1]])
    reached_K = np.flatnonzero(specificity_T >= target)
    if reached_K.size == 0:
        raise InputError(
            f"a specificity of {target:g} would leave nothing to be called positive: the highest "
            f"score has a specificity of {specificity_T[-1]:.4f}; ask for less"
        )
    return float(threshold_T[reached_K[0]])


def one_target(
    sensitivity: float | None, specificity: float | None
) -> tuple[Literal["sensitivity", "specificity"], float]:
    """The one that is given, by name.

    Raises:
      InputError: both or none are, or it is not in (0, 1].
    """
    if (sensitivity is None) == (specificity is None):
        seen = "neither" if sensitivity is None else "both"
        raise InputError(
            f"give --target_sensitivity or --target_specificity; {seen} of them was given"
        )
    name: Literal["sensitivity", "specificity"]
    name, value = "sensitivity", sensitivity
    if value is None:
        name, value = "specificity", specificity
    if value is None or not 0 < value <= 1:
        raise InputError(f"--target_{name}={value} is not above 0 and up to 1, as 0.90")
    return name, value


def save(workdir: Path | str, step: int, chosen: Threshold, classes: Sequence[str]) -> Path:
    """Keeps a threshold beside the checkpoint that it was chosen for; returns the path."""
    return fitted.write_json(workdir, step, fitted.THRESHOLD, to_json(chosen, classes))


def to_json(chosen: Threshold, classes: Sequence[str]) -> dict[str, Any]:
    """As JSON types."""
    return {
        "classes": list(classes),
        "positive": list(chosen.positive),
        "threshold": chosen.threshold,
        "target": chosen.target,
        "calibration": chosen.calibration,
        "val": chosen.val,
        "test": chosen.test,
    }


def load(
    workdir: Path | str, step: int, classes: Sequence[str], calibration: Calibration | None
) -> Threshold | None:
    """What `save` kept for a checkpoint; None if nothing.

    Raises:
      InputError: the file is broken, of other classes, or for another calibration.
    """
    values = fitted.read_json(workdir, step, fitted.THRESHOLD)
    if values is None:
        return None
    path = fitted.path(workdir, step, fitted.THRESHOLD)
    try:
        chosen = from_json(values, classes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if chosen.calibration != as_stored(calibration):
        raise InputError(
            f"{path} was chosen for another calibration than the checkpoint has: run skinjax "
            "threshold again"
        )
    return chosen


def as_stored(calibration: Calibration | None) -> dict[str, Any] | None:
    """A calibration as a threshold keeps it: "none" is as if there were none."""
    unchanged = calibration is None or calibration.method == "none"
    return None if unchanged or calibration is None else calibration.to_json()


def from_json(values: Mapping[str, Any], classes: Sequence[str]) -> Threshold:
    """What `to_json` gave.

    Raises:
      InputError: it is no threshold for these classes; the message says what is wrong.
    """
    keys = {"classes", "positive", "threshold", "target", "calibration", "val", "test"}
    if set(values) != keys:
        raise InputError(
            f"a threshold has {', '.join(sorted(keys))}; seen: {str(sorted(values))[:200]}"
        )
    if values["classes"] != list(classes):
        raise InputError(
            f"it is for the classes {str(values['classes'])[:200]}, the checkpoint has "
            f"{', '.join(classes)}"
        )
    positive = values["positive"]
    if not isinstance(positive, list) or positive != [n for n in classes if n in positive]:
        raise InputError(f"positive is {str(positive)[:200]}, expected some of the classes")
    if not 0 < len(positive) < len(classes):
        raise InputError("positive is none or all of the classes, expected some")
    number = values["threshold"]
    if type(number) not in (int, float) or not 0 <= number <= _MOST_SCORE:
        raise InputError(f"threshold is {str(number)[:80]}, expected a number from 0 to 1")
    calibration = values["calibration"]
    if calibration is not None:
        calibration = calibration_lib.from_json(calibration, classes).to_json()
    return Threshold(
        positive=tuple(positive),
        threshold=float(number),
        target=_target(values["target"]),
        calibration=calibration,
        val=operating_point.check(values["val"], "val"),
        test=None if values["test"] is None else operating_point.check(values["test"], "test"),
    )


# A sum of probabilities may round to a little more than 1.
_MOST_SCORE = 1 + 1e-3


def _target(values: Any) -> dict[str, float]:
    if not isinstance(values, dict) or not set(values) <= {"sensitivity", "specificity"}:
        raise InputError(f"target is {str(values)[:200]}, expected a sensitivity or specificity")
    numbers = all(type(value) in (int, float) for value in values.values())
    if len(values) != 1 or not numbers or not all(0 < value <= 1 for value in values.values()):
        raise InputError(f"target is {str(values)[:200]}, expected one number above 0 and up to 1")
    return {name: float(value) for name, value in values.items()}
