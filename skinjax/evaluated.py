"""The predictions of a checkpoint on a split of its run: read, or evaluated where they are not."""

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import workdir as workdir_lib
from skinjax.errors import InputError
from skinjax.predictions import read_predictions

_MOST_BYTES = 64 << 20  # of metrics.json; it has a few numbers for each class and subgroup


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split's table of predictions, before any calibration.

    Attributes:
      name: "train", "val" or "test".
      step: of the checkpoint.
      checkpoint: what predicted, in words.
      rows: of the table, with the keys `predictions.COLUMNS`.
      probability_NC: float64, from softmax.
      label_N: int64.
      classes: in the order of the columns.
      split_counts: images of each class by split of the run.
    """

    name: str
    step: int
    checkpoint: str
    rows: list[dict[str, Any]]
    probability_NC: np.ndarray
    label_N: np.ndarray
    classes: tuple[str, ...]
    split_counts: dict[str, list[int]]


def read(workdir: Path, split: str, step: int) -> EvaluatedSplit | None:
    """What `evaluate` wrote of a split; None if it is not there, or is of another checkpoint.

    Raises:
      InputError: the table of predictions is broken, or not the one that metrics.json is of.
    """
    directory = workdir_lib.evaluation_dir(workdir, split)
    table = directory / f"predictions_{split}.csv"
    found = _description(directory / "metrics.json")
    checkpoint, counts = found.get("checkpoint"), found.get("split_counts")
    told = re.search(r"\bstep (\d{1,18})\b", checkpoint) if isinstance(checkpoint, str) else None
    of_this = told is not None and int(told[1]) == step and found.get("split") == split
    if not of_this or not _are_counts(counts) or not table.exists():
        return None
    rows, probability_NC, label_N, classes = read_predictions(table)
    if len(rows) != found.get("num_examples") or {row["split"] for row in rows} - {split}:
        raise InputError(
            f"{table} and metrics.json beside it are not of the same evaluation: run skinjax "
            f"evaluate --split={split} again"
        )
    return EvaluatedSplit(
        split, step, str(checkpoint), rows, probability_NC, label_N, classes, dict(counts or {})
    )


def describe(workdir: Path, which: str) -> tuple[int, tuple[str, ...]]:
    """Step and classes of a checkpoint of a run.

    Raises:
      InputError: there is no such run or checkpoint.
    """
    from skinjax import checkpoint

    checkpointer, _ = checkpoint.open_run(workdir)
    with contextlib.closing(checkpointer):
        step = checkpointer.choose(which)
        return step, checkpointer.describe(step).classes


def read_or_evaluate(
    workdir: Path,
    split: str,
    *,
    which: str,
    raw_dir: str | None = None,
    prepared_dir: str | None = None,
    data: str | None = None,
) -> EvaluatedSplit:
    """As `read`; what is not there is evaluated, with the arguments of `evaluate.evaluate`.

    With `data` it always is, since an imported model may have been evaluated on other data.

    Raises:
      InputError: there is no such run or checkpoint, or its data is not there to be evaluated.
    """
    step, classes = describe(workdir, which)
    found = None if data else read(workdir, split, step)
    if found is None:
        from skinjax.evaluate import evaluate

        evaluate(
            workdir, which=which, split=split, raw_dir=raw_dir, prepared_dir=prepared_dir, data=data
        )
        found = read(workdir, split, step)
    if found is None or found.classes != classes:
        raise InputError(
            f"{workdir_lib.evaluation_dir(workdir, split)} is not of the checkpoint at step "
            f"{step}: delete it, and try again"
        )
    return found


def _description(path: Path) -> dict[str, Any]:
    """The content of metrics.json; empty where it is no such file, which is then made again."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _are_counts(counts: Any) -> bool:
    return isinstance(counts, dict) and all(
        isinstance(one, list) and all(type(count) is int for count in one)
        for one in counts.values()
    )
