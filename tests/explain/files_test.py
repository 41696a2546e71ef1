"""The verb `explain`, on image files."""

import csv
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from skinjax import trained
from skinjax.data import images as images_lib
from skinjax.errors import InputError
from skinjax.explain import Explainer, files


@pytest.fixture
def folder(tmp_path: Path, run: Path) -> Path:
    """Two files of one name, one below the other, and a broken and a foreign one."""
    photographs = sorted((run / "raw").rglob("*.jpg"))
    (tmp_path / "in" / "below").mkdir(parents=True)
    shutil.copy(photographs[0], tmp_path / "in" / "a $1 $2.jpg")
    shutil.copy(photographs[1], tmp_path / "in" / "below" / "a $1 $2.jpg")
    (tmp_path / "in" / "broken.jpg").write_bytes(photographs[2].read_bytes()[:500])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def test_every_image_has_a_map_and_a_broken_one_a_row(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    result = files.explain_files(run, [str(folder)], tmp_path / "out", sanity_check=True)
    with result.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).relative_to(folder).as_posix() for row in rows] == [
        "a $1 $2.jpg", "broken.jpg", "below/a $1 $2.jpg",
    ]  # fmt: skip
    assert [row["map"] for row in rows] == [
        "a $1 $2_grad_cam.png", "", "a $1 $2_2_grad_cam.png",
    ]  # fmt: skip
    assert "broken.jpg" in rows[1]["error"]
    assert (result.num_maps, len(result.errors)) == (2, 1)
    assert "down to head" in result.sanity
    model = trained.load(run)
    for row in (rows[0], rows[2]):
        image_HWC = model.preprocess(images_lib.decode(Path(row["image"])))
        probability_C = Explainer(model).probabilities(image_HWC[None])[0]
        assert row["predicted"] == row["target"] == model.classes[probability_C.argmax()]
        np.testing.assert_allclose(float(row["probability_target"]), probability_C.max(), rtol=1e-5)
        drawn = cv2.imread(str(tmp_path / "out" / row["map"]))
        assert min(drawn.shape[:2]) > 400
        assert drawn.std() > 10


def test_another_class_is_explained_where_asked_for(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    pattern = str(folder / "a*.jpg")
    result = files.explain_files(run, [pattern], tmp_path, method="saliency", target="mel")
    with result.table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["target"] == "mel"
    assert float(row["probability_target"]) <= float(row["probability_predicted"])
    assert row["map"] == "a $1 $2_saliency.png"


@pytest.mark.parametrize(
    ("pattern", "more", "message"),
    [
        ("missing.jpg", {}, "there is no file or folder"),
        ("*.gif", {}, "nothing matches"),
        ("broken.jpg", {}, "none of the 1 images can be read"),
        ("a*.jpg", {"target": "mell"}, "did you mean mel"),
        ("a*.jpg", {"method": "cam"}, "is none of grad_cam"),
        ("a*.jpg", {"stage": "conv9"}, "--stage=conv9 is none of conv1, "),
    ],
)
def test_what_is_wrong_is_said(
    run: Path, folder: Path, tmp_path: Path, pattern: str, more: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        files.explain_files(run, [str(folder / pattern)], tmp_path / "out", **more)


@pytest.mark.parametrize("below", ["", "/folder"])
def test_an_output_that_is_a_file_is_told(
    run: Path, folder: Path, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(InputError, match="can't be a folder, a file is in the way; give another"):
        files.explain_files(run, [str(folder)], f"{tmp_path}/file{below}")
