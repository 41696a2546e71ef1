"""All that is said of one table of predictions: metrics, intervals, calibration, subgroups."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skinjax import metrics
from skinjax.assessment import subgroups
from skinjax.calibration import Calibration
from skinjax.metrics import bootstrap

# What calibrating can change. Temperature scaling leaves the first three as they are.
CALIBRATED = (
    "accuracy",
    "balanced_accuracy",
    "macro_recall",
    "log_loss",
    "brier_score",
    "expected_calibration_error",
    "expected_calibration_error_equal_mass",
    "maximum_calibration_error",
)


def assess(
    rows: Sequence[Mapping[str, Any]],
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    *,
    calibration: Calibration | None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Assesses one table of predictions; depends on nothing but the arguments.

    Args:
      rows: as `predictions.read_predictions` returns them.
      probability_NC: raw (uncalibrated) probabilities.
      label_N: integers in [0, C).
      classes: the C names.
      calibration: fitted on other images than these; None if there is none.
      num_resamples: bootstrap resamples of lesions; 0 leaves the intervals out.
      seed: of the resampling.

    Returns:
      What `metrics.compute` returns for the raw probabilities, and the keys `intervals` (of the
      same structure, [low, high] at 95 %, or None), `bootstrap` (num_resamples, seed,
      confidence), `calibrated` (method, temperature, parameters, the metrics of `CALIBRATED` and
      their `intervals`; None without a calibration) and `subgroups` (`subgroups.by`).
    """
    lesion_N = [str(row["lesion_id"]) for row in rows]
    intervals = None
    if num_resamples and len(label_N):
        intervals = bootstrap.intervals(
            probability_NC, label_N, classes, lesion_N, num_resamples=num_resamples, seed=seed
        )
    return {
        **metrics.compute(probability_NC, label_N, classes),
        "intervals": intervals,
        "bootstrap": {"num_resamples": num_resamples, "seed": seed, "confidence": 0.95},
        "calibrated": _calibrated(
            probability_NC,
            label_N,
            classes,
            lesion_N,
            calibration=calibration,
            num_resamples=num_resamples,
            seed=seed,
        ),
        "subgroups": subgroups.by(
            rows, probability_NC, label_N, classes, num_resamples=num_resamples, seed=seed
        ),
    }


def _calibrated(
    probability_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    lesion_N: Sequence[str],
    *,
    calibration: Calibration | None,
    num_resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """The metrics that calibrating changes, after it."""
    if calibration is None:
        return None
    calibrated_NC = calibration.apply(probability_NC)
    computed = metrics.compute(calibrated_NC, label_N, classes)
    intervals = None
    if num_resamples and len(label_N):
        found = bootstrap.intervals(
            calibrated_NC,
            label_N,
            classes,
            lesion_N,
            num_resamples=num_resamples,
            seed=seed,
            only=CALIBRATED,
        )
        intervals = {name: found[name] for name in CALIBRATED}
    return {
        "method": calibration.method,
        "temperature": calibration.temperature,
        "parameters": calibration.to_json(),
        **{name: computed[name] for name in CALIBRATED},
        "intervals": intervals,
    }
