"""The predictions of a checkpoint on a split of its run: read, or evaluated where they are not."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import fitted, logs
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
    found = stated(directory)
    of_this = is_of(found, workdir, step) and found.get("split") == split
    if not of_this or not table.exists():
        return None
    rows, probability_NC, label_N, classes = read_predictions(table)
    if len(rows) != found.get("num_examples") or {row["split"] for row in rows} - {split}:
        raise InputError(
            f"{table} and metrics.json beside it are not of the same evaluation: run skinjax "
            f"evaluate --split={split} again"
        )
    return EvaluatedSplit(
        split,
        step,
        found["checkpoint"],
        rows,
        probability_NC,
        label_N,
        classes,
        found["split_counts"],
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


def stated(directory: Path) -> dict[str, Any]:
    """What metrics.json says of an evaluation; empty where it is none, and is to be made again."""
    try:
        values = json.loads(logs.read_text(directory / "metrics.json", _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    right = isinstance(values, dict) and isinstance(values.get("checkpoint"), str)
    return values if right and _are_counts(values.get("split_counts")) else {}


def is_of(found: Mapping[str, Any], workdir: Path, step: int) -> bool:
    """Whether an evaluation is of a checkpoint: of its step, and of the very parameters there."""
    # Earlier versions have the step in words alone, and no digest.
    told = re.search(r"\bstep (\d{1,18})\b", found.get("checkpoint", ""))
    same_step = told is not None and int(told[1]) == step == found.get("step", step)
    return same_step and found.get("digest", "") == fitted.digest(workdir, step)


def _are_counts(counts: Any) -> bool:
    return isinstance(counts, dict) and all(
        isinstance(one, list) and all(type(count) is int for count in one)
        for one in counts.values()
    )
