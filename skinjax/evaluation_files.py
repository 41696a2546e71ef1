"""The files of one evaluation: table of predictions, metrics, report; of whatever was predicted."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import assessment, logs, predictions, report
from skinjax.calibration import Calibration

NUM_RESAMPLES = 2000  # of the bootstrap, where nothing else is asked for
METRICS = "metrics.json"


def predictions_path(directory: Path, split: str) -> Path:
    """Where the table of predictions lies in a folder of `write`."""
    return directory / f"predictions_{split}.csv"


def write(
    directory: Path | str,
    split_name: str,
    rows: Sequence[Mapping[str, Any]],
    probability_NC: np.ndarray,
    classes: Sequence[str],
    *,
    title: str,
    checkpoint: str,
    split_counts: Mapping[str, Sequence[int]] | None,
    calibration: Calibration | None,
    loss: float | None = None,
    num_resamples: int = NUM_RESAMPLES,
    extra: Mapping[str, Any] | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Writes `predictions_<split_name>.csv`, `metrics.json`, the tables and the plots.

    All figures but `loss` are computed from what the written table says when it is read back, so
    that the table alone gives them again.

    Args:
      directory: made if missing.
      split_name: of the files, as the report calls the data: "test", or "test_flips".
      rows: mappings with the keys `predictions.COLUMNS`.
      probability_NC: as predicted, before any calibration.
      classes: in the order of the columns.
      title: stands over every plot.
      checkpoint: what predicted, in words.
      split_counts: images of each class by split, for the plot of them; None if not known.
      calibration: of these predictions; None without.
      loss: the training objective over these rows, if it is known.
      num_resamples: of the bootstrap; 0 is no intervals.
      extra: further entries of `metrics.json`.
      note: one more line over the plots.

    Returns:
      What is in `metrics.json`, as it is read from there.

    Raises:
      InputError: there are no rows.
      ValueError: rows, probabilities and classes don't fit.
      OSError: a file can't be written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    table = predictions_path(directory, split_name)
    predictions.write_predictions(table, rows, probability_NC, classes)
    read_rows, read_NC, label_N, _ = predictions.read_predictions(table)
    computed: dict[str, Any] = {"split": split_name, "checkpoint": checkpoint}
    if split_counts is not None:
        computed["split_counts"] = {name: list(count) for name, count in split_counts.items()}
    if loss is not None:
        computed["loss"] = loss
    computed |= extra or {}
    computed |= assessment.assess(
        read_rows,
        read_NC,
        label_N,
        classes,
        calibration=calibration,
        num_resamples=num_resamples,
    )
    path = directory / METRICS
    logs.write_json(path, computed)
    report.write_evaluation(directory, title=title, note=note)
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result
