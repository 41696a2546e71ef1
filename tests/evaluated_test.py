"""Predictions that were evaluated before: taken only if they are of the same checkpoint."""

import json
import os
from typing import Any

import numpy as np
import pytest

from skinjax import evaluate, evaluated, logs
from skinjax.errors import InputError
from skinjax.predictions import COLUMNS, write_predictions

CLASSES = ("bcc", "mel", "nv")
LABEL = np.array([0, 1, 2, 2, 1])


def write(workdir, split="val", step=7, count=5, **changes: Any):
    """What `evaluate` leaves of a split, in short."""
    directory = workdir / "evaluation" / split
    directory.mkdir(parents=True, exist_ok=True)
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"image_id": f"i{place}", "age": None, "split": split, "label": CLASSES[label]}
        for place, label in enumerate(LABEL)
    ]
    probability_NC = np.full((5, 3), 0.25) + 0.25 * np.eye(3)[LABEL]
    write_predictions(directory / f"predictions_{split}.csv", rows, probability_NC, CLASSES)
    values = {
        "split": split,
        "checkpoint": f"best: step {step}, epoch 3",
        "split_counts": {"val": [1, 2, 2], "test": [0, 0, 0]},
        "num_examples": count,
    }
    logs.write_json(directory / "metrics.json", values | changes)
    return directory


def test_what_was_evaluated_is_read(tmp_path):
    write(tmp_path)
    found = evaluated.read(tmp_path, "val", 7)
    assert found is not None
    assert (found.name, found.step, found.classes) == ("val", 7, CLASSES)
    assert found.checkpoint == "best: step 7, epoch 3"
    assert found.label_N.tolist() == LABEL.tolist()
    assert found.probability_NC.shape == (5, 3)
    assert found.split_counts == {"val": [1, 2, 2], "test": [0, 0, 0]}


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 77},
        {"step": 17},
        {"checkpoint": "step seven"},
        {"checkpoint": ["step 7"]},
        {"split": "test"},
        {"split_counts": [1, 2]},
        {"split_counts": {"val": ["1"]}},
    ],
)
def test_another_evaluation_is_not_taken(tmp_path, changes):
    (tmp_path / "evaluation/val").mkdir(parents=True)
    directory = write(tmp_path, **{key: value for key, value in changes.items() if key != "split"})
    if "split" in changes:
        path = directory / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert evaluated.read(tmp_path, "val", 7) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", "[" * 100_000, "null"])
def test_metrics_that_can_not_be_read_are_made_again(tmp_path, text):
    (write(tmp_path) / "metrics.json").write_bytes(text.encode("latin-1"))
    assert evaluated.read(tmp_path, "val", 7) is None


def test_a_missing_table_is_made_again_and_a_foreign_one_refused(tmp_path):
    directory = write(tmp_path, count=6)
    with pytest.raises(InputError, match="are not of the same evaluation: run skinjax evaluate"):
        evaluated.read(tmp_path, "val", 7)
    (directory / "predictions_val.csv").write_text("broken")
    with pytest.raises(InputError, match="has no column image_id"):
        evaluated.read(tmp_path, "val", 7)
    (directory / "predictions_val.csv").unlink()
    assert evaluated.read(tmp_path, "val", 7) is None


def test_a_table_of_another_split_is_refused(tmp_path):
    table = write(tmp_path, "test") / "predictions_test.csv"
    table.rename(write(tmp_path) / "predictions_val.csv")
    with pytest.raises(InputError, match="are not of the same evaluation"):
        evaluated.read(tmp_path, "val", 7)


def test_only_what_is_missing_is_evaluated(tmp_path, monkeypatch):
    calls = []

    def fake(workdir, **arguments):
        calls.append(arguments)
        write(workdir, arguments["split"])

    monkeypatch.setattr(evaluate, "evaluate", fake)
    monkeypatch.setattr(evaluated, "describe", lambda *_: (7, CLASSES))
    write(tmp_path, step=6)
    for _ in range(2):
        evaluated.read_or_evaluate(tmp_path, "val", which="latest", raw_dir="there")
    assert calls == [
        {
            **{"which": "latest", "split": "val"},
            **{"raw_dir": "there", "prepared_dir": None, "data": None},
        }
    ]
    # An imported model may have been evaluated on other data.
    evaluated.read_or_evaluate(tmp_path, "val", which="latest", data="other")
    assert len(calls) == 2
    monkeypatch.setattr(evaluated, "describe", lambda *_: (7, CLASSES[::-1]))
    with pytest.raises(InputError, match="is not of the checkpoint at step 7"):
        evaluated.read_or_evaluate(tmp_path, "val", which="latest")


def test_a_pipe_in_place_of_the_metrics_is_not_waited_for(tmp_path):
    directory = write(tmp_path)
    (directory / "metrics.json").unlink()
    os.mkfifo(directory / "metrics.json")
    assert evaluated.read(tmp_path, "val", 7) is None
