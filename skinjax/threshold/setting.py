"""Setting a checkpoint's threshold: chosen on validation, measured on test, kept, drawn."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skinjax import calibrate, evaluated, fitted, logs, threshold
from skinjax import workdir as workdir_lib
from skinjax.calibration import Calibration
from skinjax.evaluated import EvaluatedSplit
from skinjax.plots import threshold as plots
from skinjax.threshold import Threshold, operating_point


@dataclass(frozen=True)
class SetThreshold:
    """What `set_threshold` did.

    Attributes:
      chosen: the threshold, with what it does on validation and test.
      classes: of the model.
      calibration: of the probabilities that it is for.
      fitted_now: whether the checkpoint had no calibration before, so that a temperature was
        fitted.
      path: where it is kept for `predict`.
      copy: the same file in the work directory's `evaluation`, with the plot beside it.
    """

    chosen: Threshold
    classes: tuple[str, ...]
    calibration: Calibration
    fitted_now: bool
    path: Path
    copy: Path


def set_threshold(
    workdir: Path | str,
    *,
    which: str = "best",
    positive: str = "",
    target_sensitivity: float | None = None,
    target_specificity: float | None = None,
    raw_dir: str | None = None,
    prepared_dir: str | None = None,
    data: str | None = None,
    num_resamples: int = 2000,
) -> SetThreshold:
    """Chooses a threshold for a checkpoint and keeps it, in place of one that is there.

    Validation and test are evaluated where their predictions are not there yet. A checkpoint that
    has no calibration gets a temperature first, as from `calibrate`.

    Args:
      workdir: of a run.
      which: "best", "latest" or a step.
      positive: as for `threshold.positive_classes`.
      target_sensitivity, target_specificity: one of them, in (0, 1].
      raw_dir, prepared_dir, data: as for `evaluate.evaluate`.
      num_resamples: of the bootstrap that gives the intervals; 0 for none.

    Raises:
      InputError: there is no such run or checkpoint, the target can't be reached, or a class is
        not one of the model's.
    """
    workdir = Path(workdir)
    name, target = threshold.one_target(target_sensitivity, target_specificity)
    step, classes = evaluated.describe(workdir, which)
    names = threshold.positive_classes(positive, classes)
    moved = {"raw_dir": raw_dir, "prepared_dir": prepared_dir, "data": data}
    val = evaluated.read_or_evaluate(workdir, "val", which=which, **moved)
    calibration, fitted_now = calibrate.fit_where_missing(workdir, step, val)
    scored = {"val": _scored(val, calibration, names)}
    value = threshold.choose(
        *scored["val"],
        target_sensitivity=target_sensitivity,
        target_specificity=target_specificity,
    )
    points = {"val": _point(val, scored["val"], value, num_resamples)}
    if any(val.split_counts.get("test", ())):
        test = evaluated.read_or_evaluate(workdir, "test", which=which, **moved)
        scored["test"] = _scored(test, calibration, names)
        points["test"] = _point(test, scored["test"], value, num_resamples)
    chosen = Threshold(
        positive=names,
        threshold=value,
        target={name: target},
        calibration=threshold.as_stored(calibration),
        val=points["val"],
        test=points.get("test"),
    )
    path = threshold.save(workdir, step, chosen, classes)
    copy = workdir_lib.evaluation_dir(workdir, threshold.FOLDER) / fitted.THRESHOLD
    copy.parent.mkdir(parents=True, exist_ok=True)
    figure = _figure(chosen, scored, points, val.checkpoint)
    logs.write_bytes(copy.with_name(threshold.PLOT), _png(figure))
    logs.write_bytes(copy, path.read_bytes())
    return SetThreshold(chosen, classes, calibration, fitted_now, path, copy)


def _scored(
    table: EvaluatedSplit, calibration: Calibration, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The score of each image, and whether it is positive."""
    score_N = threshold.score(calibration.apply(table.probability_NC), table.classes, names)
    return score_N, np.isin(table.label_N, [table.classes.index(name) for name in names])


def _point(
    table: EvaluatedSplit,
    scored: tuple[np.ndarray, np.ndarray],
    value: float,
    num_resamples: int,
) -> dict[str, Any]:
    score_N, positive_N = scored
    lesion_N = [row["lesion_id"] for row in table.rows]
    return operating_point.measure(
        score_N >= value, positive_N, table.label_N, lesion_N, num_resamples=num_resamples
    )


def _figure(
    chosen: Threshold,
    scored: Mapping[str, tuple[np.ndarray, np.ndarray]],
    points: Mapping[str, Mapping[str, Any]],
    checkpoint: str,
) -> Figure:
    words = threshold.in_words(chosen.positive)
    (name, target), *_ = chosen.target.items()
    heading = [f"{words}: {name} of {target:g} or more on val", f"checkpoint: {checkpoint}"]
    return plots.operating_curves(
        {split: operating_point.curve(*pair) for split, pair in scored.items()},
        points,
        chosen.threshold,
        score=f"the probability of {words}",
        caption="\n".join([*heading, *plots.describe(points)]),
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
