"""Tests of the files of one evaluation: the table of predictions alone gives the same figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinjax import assessment, calibration, evaluation_files
from skinjax.predictions import read_predictions

CLASSES = ("mel", "nv", "bkl")


def example(count: int = 60) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Rows as a prepared data set has them, with more than the table keeps."""
    rng = np.random.default_rng(0)
    logits_NC = rng.normal(0, 2, (count, 3))
    probability_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    rows = [
        {
            "image_id": f"i{index}", "lesion_id": f"l{index // 2}", "split": "test",
            "age": None if index % 7 == 0 else 5.0 * (index % 17), "sex": ("", "male")[index % 2],
            "site": "back\rside", "source": "", "label": CLASSES[index // 2 % 3], "group": "g",
        }
        for index in range(count)
    ]  # fmt: skip
    return rows, probability_NC.astype(np.float32)


def test_the_table_alone_gives_the_same_figures(tmp_path: Path) -> None:
    rows, probability_NC = example()
    own = calibration.Calibration("temperature", (0.5,) * 3, (0.0,) * 3)
    computed = evaluation_files.write(
        tmp_path / "evaluation" / "test",
        "test_flips",
        rows,
        probability_NC,
        CLASSES,
        title="A network",
        checkpoint="best: step 5",
        split_counts={"train": (1, 2, 3), "test": (20, 20, 20)},
        calibration=own,
        loss=0.25,
        num_resamples=30,
        extra={"step": 5},
        note="over 8 views",
    )
    directory = tmp_path / "evaluation" / "test"
    assert computed == json.loads((directory / "metrics.json").read_text())
    stated = {"split": "test_flips", "checkpoint": "best: step 5", "loss": 0.25, "step": 5}
    stated["split_counts"] = {"train": [1, 2, 3], "test": [20, 20, 20]}
    assert {name: computed[name] for name in stated} == stated
    table = read_predictions(evaluation_files.predictions_path(directory, "test_flips"))
    np.testing.assert_array_equal(table[1], probability_NC.astype(np.float64))
    again = assessment.assess(*table, calibration=own, num_resamples=30)
    assert {**stated, **json.loads(json.dumps(again))} == computed
    assert computed["intervals"]["accuracy"][0] < computed["intervals"]["accuracy"][1]
    assert computed["calibrated"]["temperature"] == 2
    assert "8 views" in (directory / "report.md").read_text()


def test_what_is_not_known_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skinjax.report.write_evaluation", lambda *_, **__: None)
    rows, probability_NC = example()
    computed = evaluation_files.write(
        tmp_path, "test", rows, probability_NC, CLASSES, title="", checkpoint="",
        split_counts=None, calibration=None, num_resamples=0,
    )  # fmt: skip
    assert computed.keys() & {"split_counts", "loss"} == set()
    assert computed["intervals"] is None
    assert computed["calibrated"] is None
