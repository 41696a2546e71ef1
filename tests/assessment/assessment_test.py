"""All that is said of one table of predictions."""

import json

import numpy as np
import pytest

from skinjax import assessment, calibration, metrics
from skinjax.predictions import COLUMNS, read_predictions, write_predictions

CLASSES = ("bkl", "mel", "nv")


def _table(num_examples=90):
    rng = np.random.default_rng(0)
    label_N = rng.integers(3, size=num_examples)
    probability_NC = rng.dirichlet(np.ones(3), num_examples).astype(np.float32)
    rows = [
        dict.fromkeys(COLUMNS, "x")
        | {
            "image_id": f"I{index}",
            "lesion_id": f"L{index // 3}",
            "age": 50.0,
            "sex": "",
            "label": CLASSES[label],
        }
        for index, label in enumerate(label_N)
    ]
    return rows, probability_NC / probability_NC.sum(axis=1, keepdims=True), label_N


def test_raw_metrics_and_intervals_are_those_of_the_metrics_package():
    rows, probability_NC, label_N = _table()
    found = assessment.assess(
        rows, probability_NC, label_N, CLASSES, calibration=None, num_resamples=40, seed=5
    )
    computed = metrics.compute(probability_NC, label_N, CLASSES)
    assert {name: found[name] for name in computed} == computed
    lesion_N = [row["lesion_id"] for row in rows]
    assert found["intervals"] == metrics.bootstrap.intervals(
        probability_NC, label_N, CLASSES, lesion_N, num_resamples=40, seed=5
    )
    assert found["calibrated"] is None
    assert found["bootstrap"] == {"num_resamples": 40, "seed": 5, "confidence": 0.95}
    assert set(found["subgroups"]["columns"]["source"]["groups"]) == {"x"}
    json.dumps(found, allow_nan=False)


def test_calibrated_metrics_are_those_of_the_calibrated_table():
    rows, probability_NC, label_N = _table()
    fitted = calibration.fit(probability_NC, label_N)
    found = assessment.assess(
        rows, probability_NC, label_N, CLASSES, calibration=fitted, num_resamples=40
    )["calibrated"]
    after = metrics.compute(fitted.apply(probability_NC), label_N, CLASSES)
    for name in assessment.CALIBRATED:
        assert found[name] == after[name]
    assert found["log_loss"] < metrics.compute(probability_NC, label_N, CLASSES)["log_loss"]
    low, high = found["intervals"]["log_loss"]
    assert low < found["log_loss"] < high
    assert found["temperature"] == fitted.temperature
    assert calibration.from_json(found["parameters"], CLASSES) == fitted


def test_vector_scaling_has_the_figures_of_what_it_decides():
    rows, probability_NC, label_N = _table(300)
    fitted = calibration.Calibration("vector", (1.0, 1.0, 1.0), (0.0, 2.0, 0.0))
    found = assessment.assess(
        rows, probability_NC, label_N, CLASSES, calibration=fitted, num_resamples=40
    )
    after = metrics.compute(fitted.apply(probability_NC), label_N, CLASSES)
    for name in ("accuracy", "balanced_accuracy", "macro_recall"):
        assert found["calibrated"][name] == after[name] != found[name]
        low, high = found["calibrated"]["intervals"][name]
        assert low < after[name] < high


def test_without_resamples_there_are_no_intervals():
    rows, probability_NC, label_N = _table(30)
    fitted = calibration.identity(3)
    found = assessment.assess(
        rows, probability_NC, label_N, CLASSES, calibration=fitted, num_resamples=0
    )
    assert found["intervals"] is found["calibrated"]["intervals"] is None
    assert found["subgroups"]["columns"]["age"]["groups"]["50-69"]["intervals"] is None
    assert found["calibrated"]["temperature"] is None


def test_the_table_on_disk_gives_the_same_assessment(tmp_path):
    rows, probability_NC, label_N = _table(40)
    write_predictions(tmp_path / "p.csv", rows, probability_NC, CLASSES)
    again, again_NC, again_N, classes = read_predictions(tmp_path / "p.csv")
    options = {"calibration": calibration.fit(again_NC, again_N), "num_resamples": 30}
    assert assessment.assess(again, again_NC, again_N, classes, **options) == assessment.assess(
        rows, probability_NC, label_N, CLASSES, **options
    )


@pytest.mark.parametrize("num_examples", [0, 1])
def test_hardly_any_rows_do_no_harm(num_examples):
    rows, probability_NC, label_N = _table(num_examples)
    found = assessment.assess(
        rows, probability_NC, label_N, CLASSES, calibration=calibration.identity(3), num_resamples=9
    )
    assert found["num_examples"] == num_examples
    json.dumps(found, allow_nan=False)
