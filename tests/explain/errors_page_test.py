"""The page of the verb `errors`: what it says, and that it needs no more than the predictions."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from skinjax import predictions, trained
from skinjax.data.prepared import open_prepared
from skinjax.errors import InputError
from skinjax.explain import Explainer, cases, errors_page


@pytest.fixture
def evaluated(run: Path, tmp_path: Path) -> Path:
    """A copy of the run with the test split predicted, and the data left where they are."""
    workdir = tmp_path / "run"
    shutil.copytree(run / "checkpoints", workdir / "checkpoints")
    prepared = open_prepared(run / "prepared")
    rows = prepared.table("test")
    source = prepared.source(("test",))
    image_NHWC = np.stack([source[i]["image"] for i in range(len(rows))])
    probability_NC = Explainer(trained.load(workdir)).probabilities(image_NHWC)
    write(workdir, rows, probability_NC, prepared.classes)
    return workdir


def write(workdir: Path, rows: Any, probability_NC: Any, classes: Any, metrics: str = "") -> None:
    directory = workdir / "evaluation" / "test"
    directory.mkdir(parents=True, exist_ok=True)
    predictions.write_predictions(directory / "predictions_test.csv", rows, probability_NC, classes)
    text = metrics or json.dumps({"checkpoint": "best: step 7, epoch 1"})
    (directory / "metrics.json").write_text(text)


def is_drawn(path: Path) -> bool:
    """Whether the case's first panel has an image, and not a grey field."""
    image_HWC = cv2.imread(str(path))
    assert image_HWC is not None
    height, width = image_HWC.shape[:2]
    panel = image_HWC[height // 8 : height * 3 // 8, width // 20 : width * 3 // 10]
    return bool((np.ptp(panel, axis=2) > 20).mean() > 0.2)


def test_the_page_shows_cases_with_images_and_maps(evaluated: Path) -> None:
    page = errors_page.write(evaluated, num=2)
    text = page.read_text()
    told = json.loads((page.parent / "errors.json").read_text())
    rows, probability_NC, label_N, classes = predictions.read_predictions(
        evaluated / "evaluation" / "test" / "predictions_test.csv"
    )
    wrong_N = probability_NC.argmax(1) != label_N
    worst = int(np.argmax(np.where(wrong_N, probability_NC.max(1), 0)))
    first = told["most_confident_errors"][0]
    assert first["image_id"] == rows[worst]["image_id"]
    assert first["true"] == classes[label_N[worst]] != first["predicted"]
    assert sum(pair["count"] for pair in told["confusion_pairs"]) == wrong_N.sum()
    assert f"{wrong_N.sum()} of {len(rows)} images" in text
    assert "not available" not in text
    assert re.search(r"Maps are Grad-CAM, (\d+) x \1 values of conv\d enlarged", text)
    assert "not for diagnosis" in text
    assert "differ by up to" not in text
    drawn = sorted(page.parent.glob("*_0*.png"))
    assert len(drawn) == 2 + min(2, int(np.sum(~wrong_N)))
    assert text.count("data:image/png") == 1 + len(drawn)
    assert all(map(is_drawn, drawn))
    # Those of an earlier evaluation don't stay.
    errors_page.write(evaluated, num=0)
    assert [path.name for path in page.parent.glob("*.png")] == ["confidence.png"]


@pytest.mark.parametrize("case", ["no checkpoint", "no data", "no metrics", "other ids"])
def test_without_images_all_else_is_there(evaluated: Path, tmp_path: Path, case: str) -> None:
    rows, probability_NC, _, classes = predictions.read_predictions(
        evaluated / "evaluation" / "test" / "predictions_test.csv"
    )
    moved = {}
    if case == "no checkpoint":
        shutil.rmtree(evaluated / "checkpoints")
    elif case == "no data":
        moved = {"data": str(tmp_path / "nowhere")}
    elif case == "no metrics":
        write(evaluated, rows, probability_NC, classes, metrics="[" * 100_000)
    else:
        renamed = [{**row, "image_id": f"<b>{row['image_id']}/../$x$"} for row in rows]
        write(evaluated, renamed, probability_NC, classes)
    page = errors_page.write(evaluated, num=1, **moved)
    text = page.read_text()
    assert "are not available: " in text
    assert "<b>" not in text
    assert "of all errors" in text
    drawn = list(page.parent.glob("*_01_*.png"))
    assert len(drawn) == 2
    assert not any(map(is_drawn, drawn))


def test_other_probabilities_than_the_networks_are_said(evaluated: Path) -> None:
    rows, probability_NC, _, classes = predictions.read_predictions(
        evaluated / "evaluation" / "test" / "predictions_test.csv"
    )
    write(evaluated, rows, np.roll(probability_NC, 1, axis=1), classes)
    assert "differ by up to" in errors_page.write(evaluated, num=1).read_text()


@pytest.mark.parametrize(
    ("split", "num", "message"),
    [("val", 1, "is missing"), ("../test", 1, "no name"), ("test", -1, "--num=-1 is negative")],
)
def test_what_is_wrong_is_said(evaluated: Path, split: str, num: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        errors_page.write(evaluated, split, num=num)


@pytest.mark.parametrize(
    ("metrics", "step"),
    [
        ({"step": 5, "checkpoint": "best: step 910, epoch 70"}, 5),
        ({"checkpoint": "best: step 910, epoch 70"}, 910),
        ({"step": "5", "checkpoint": ["step 3"]}, None),
        ({"step": True, "checkpoint": "mean of 3 runs"}, None),
        ({"step": -2}, None),
    ],
)
def test_the_step_is_read_from_metrics(metrics: dict[str, Any], step: int | None) -> None:
    assert cases.step_of(metrics) == step
