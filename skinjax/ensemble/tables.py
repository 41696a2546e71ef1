"""What the members of an ensemble predicted: found, or made, and put in one order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import evaluate, evaluated, evaluation_files
from skinjax import workdir as workdir_lib
from skinjax.errors import InputError
from skinjax.predictions import read_predictions


@dataclass(frozen=True)
class Table:
    """What a run predicted of a split.

    Attributes:
      origin: the file.
      rows, probability_NC, label_N, classes: as `read_predictions` returns them.
      stated: what is in `metrics.json`.
    """

    origin: Path
    rows: list[dict[str, Any]]
    probability_NC: np.ndarray
    label_N: np.ndarray
    classes: tuple[str, ...]
    stated: dict[str, Any]


def expand(runs: Sequence[str | Path]) -> list[Path]:
    """The work directories, with its folds in place of a cross-validation.

    Raises:
      InputError: fewer than two, or one named twice.
    """
    workdirs: list[Path] = []
    for run in map(Path, runs):
        folds = []
        if not workdir_lib.checkpoint_dir(run).is_dir():
            folds = [path for path in run.glob("fold_*") if re.fullmatch(r"fold_\d+", path.name)]
            folds.sort(key=lambda path: int(path.name.removeprefix("fold_")))
        workdirs += folds or [run]
    places = [path.resolve() for path in workdirs]
    twice = sorted({str(path) for path in places if places.count(path) > 1})
    if twice:
        raise InputError(f"--runs names {twice[0]} twice; give each run once")
    if len(workdirs) < 2:
        raise InputError(
            f"--runs={runs[0] if runs else ''} is a single run; give two or more, or the folder of "
            "a cross-validation"
        )
    return workdirs


def read(workdir: Path, split: str, name: str, more: Mapping[str, Any]) -> Table:
    """What a run's checkpoint predicted of a split, which is evaluated first if need be.

    Args:
      workdir: of the run.
      split: "val" or "test".
      name: of its folder: with test-time augmentation another.
      more: further arguments of `evaluate`; `which` at least.

    Raises:
      InputError: it can't be evaluated, or the files don't belong together.
    """
    step, _ = evaluated.describe(workdir, more["which"])
    directory = workdir_lib.evaluation_dir(workdir, name)
    path = evaluation_files.predictions_path(directory, name)
    stated = evaluated.stated(directory)
    # With `data` always: an imported model may have been evaluated on other data.
    if more.get("data") or not evaluated.is_of(stated, workdir, step) or not path.exists():
        stated = evaluate.evaluate(workdir, split=split, **more)
    table = Table(path, *read_predictions(path), stated)
    if stated.get("num_examples") != len(table.rows):
        raise InputError(
            f"{path} and metrics.json beside it are not of the same evaluation: run skinjax "
            f"evaluate --split={split} again"
        )
    return table


def aligned(table_K: Sequence[Table]) -> list[Table]:
    """The tables in the order of the first one's images.

    Raises:
      InputError: they are not of the same images, labels and classes.
    """
    first = table_K[0]
    ids = [row["image_id"] for row in first.rows]
    label_of = dict(zip(ids, first.label_N.tolist(), strict=True))
    result = []
    for table in table_K:
        if table.classes != first.classes:
            raise InputError(
                f"{table.origin} has the classes {', '.join(table.classes)}, and {first.origin} "
                f"{', '.join(first.classes)}: an ensemble needs the same, in the same order"
            )
        place = {row["image_id"]: index for index, row in enumerate(table.rows)}
        if len(place) != len(table.rows) or place.keys() != label_of.keys():
            raise InputError(
                f"{table.origin} has {len(table.rows)} images, {first.origin} {len(first.rows)}, "
                f"and {len(place.keys() & label_of.keys())} are in both: an ensemble needs "
                "predictions of the same images, each once; train its runs on one split"
            )
        order_N = np.array([place[name] for name in ids], int)
        differing = np.flatnonzero(table.label_N[order_N] != first.label_N)
        if len(differing):
            raise InputError(
                f"{table.origin} and {first.origin} have different labels for {len(differing)} "
                f"images (as {ids[differing[0]]}): prepare the data once for all runs"
            )
        result.append(
            Table(
                table.origin,
                [table.rows[index] for index in order_N],
                table.probability_NC[order_N],
                table.label_N[order_N],
                table.classes,
                table.stated,
            )
        )
    return result
