"""From a file to a work directory that evaluates: what comes out is what Keras computes."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import jax
import numpy as np
import pytest

from skinjax import checkpoint, keras_import
from skinjax import config as config_lib
from skinjax.data import builder
from skinjax.errors import InputError
from skinjax.evaluate import evaluate
from skinjax.keras_import import importing
from skinjax.models.heads import PRESETS
from skinjax.models.pretrained.keras_file import open_keras


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """Compiles without optimisations, which takes a fraction of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def prepare(folder: Path, images: np.ndarray, size: int, labels: tuple[str, str]) -> Path:
    """A prepared data set: the images for the test, and two for each other split."""
    raw = folder / "raw"
    raw.mkdir()
    rows = [("test", index) for index in range(len(images))]
    rows += [(split, index) for split in ("train", "val") for index in (0, 1)]
    with (raw / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split"])
        for number, (split, index) in enumerate(rows):
            noise = 0 if split == "test" else number
            cv2.imwrite(str(raw / f"image{number}.png"), images[index][:, :, ::-1] ^ noise)
            writer.writerow([f"image{number}.png", labels[index % 2], split])
    config = config_lib.default_config()
    config.data.update(
        dataset="csv", table="table.csv", raw_dir=str(raw), prepared_dir=str(folder / "prepared"),
        image_size=size, near_duplicates=False,
    )  # fmt: skip
    config.data.columns.split = "split"
    return builder.prepare(config).directory


def test_evaluates_to_keras_probabilities(
    golden: Any, run: Path, tmp_path: Path, quick_compilation: None
) -> None:
    data = prepare(tmp_path, golden.images, 64, ("benign", "malignant"))
    computed = evaluate(run, data=str(data))
    assert computed["num_examples"] == len(golden.images)
    with (run / "evaluation/test/predictions_test.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image_id"])
    found = np.array([float(row["prob_malignant"]) for row in rows])
    np.testing.assert_allclose(found, golden.probability["nested"], rtol=1e-4)
    benign = np.array([float(row["prob_benign"]) for row in rows])
    np.testing.assert_allclose(benign, 1 - golden.probability["nested"], rtol=1e-4)


def test_an_imported_model_has_no_data_of_its_own(golden: Any, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --data"):
        evaluate(run)
    (tmp_path / "small").mkdir()
    small = prepare(tmp_path / "small", golden.images, 32, ("benign", "malignant"))
    with pytest.raises(InputError, match="has images of 32 pixels, and the model takes 64"):
        evaluate(run, data=str(small))
    (tmp_path / "named").mkdir()
    named = prepare(tmp_path / "named", golden.images, 64, ("a", "b"))
    with pytest.raises(InputError, match="classes are benign, malignant, the data's a, b"):
        evaluate(run, data=str(named))


def test_says_what_it_is(run: Path) -> None:
    checkpoints, config = checkpoint.open_run(run)
    assert checkpoints.listing() == ["step 0, epoch 0.00, not evaluated"]
    assert config.model.name == "resnet50"
    assert config.model.variant == "keras"
    assert config.model.head == PRESETS["bn_512_256_sigmoid"]
    assert config.data.image_size == 64
    np.testing.assert_allclose(np.multiply(config.normalize.mean, 255), (123.68, 116.779, 103.939))
    np.testing.assert_allclose(np.multiply(config.normalize.std, 255), 1)
    assert config_lib.to_json(config_lib.load_config(run / "config.json")) == config_lib.to_json(
        config
    )


def test_a_flat_model_has_the_same_variables(golden: Any, run: Path, tmp_path: Path) -> None:
    path = golden.write(tmp_path / "model.h5", "flat", filled=True)
    with open_keras(path) as tensors:
        _, found = importing._convert(tensors, ("benign", "malignant"))
    wanted = checkpoint.open_run(run)[0].restore_variables(0)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_files_that_are_no_such_model_are_one_line(golden: Any, tmp_path: Path) -> None:
    def fails(name: str, **options: Any) -> str:
        with pytest.raises(InputError) as raised:
            keras_import.import_keras(str(tmp_path / name), tmp_path / "out", **options)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "out").exists()
        return str(raised.value)

    whole = golden.write(tmp_path / "whole.h5", "nested").read_bytes()
    assert "3 are named (a, b, c); name each output" in fails("whole.h5", classes=("a", "b", "c"))
    assert "all different" in fails("whole.h5", classes=("a", "a"))
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    assert "it is damaged" in fails("cut.h5")
    (tmp_path / "page.h5").write_text("<html>")
    assert "HTML" in fails("page.h5")
    (tmp_path / "weights.h5").write_bytes(whole)
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        del file.attrs["model_config"]
    assert "holds weights without their architecture" in fails("weights.h5")
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        file.attrs["model_config"] = '{"class_name": "Functional", "config": {"layers": [{}]}}'
    assert "can't be understood (KeyError" in fails("weights.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(golden.config("nested"))
        group = file.create_group("model_weights/conv2d")
        file["model_weights"].attrs["layer_names"] = ["conv2d"]
        group.attrs["weight_names"] = ["conv2d/kernel"]
        group["conv2d/kernel"] = np.zeros((3, 3, 3, 8), np.float32)
    assert "holds none of the Keras networks" in fails("other.h5")
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04")
    assert "save it with model.save('model.h5')" in fails("model.keras")
    (tmp_path / "saved_model").mkdir()
    assert "save it with model.save('model.h5')" in fails("saved_model")
    assert "pickle" in fails("model.pth")
    assert "there is no such file" in fails("missing.h5")


def test_a_tensor_too_few_or_too_many_is_refused(golden: Any, tmp_path: Path) -> None:
    path = golden.write(tmp_path / "model.h5", "nested")

    def fails(layer: str, weights: list[str]) -> str:
        with h5py.File(path, "a") as file:
            before = file["model_weights"][layer].attrs["weight_names"]
            file["model_weights"][layer].attrs["weight_names"] = weights
        with pytest.raises(InputError) as raised:
            keras_import.import_keras(str(path), tmp_path / "out")
        with h5py.File(path, "a") as file:
            file["model_weights"][layer].attrs["weight_names"] = before
        return str(raised.value)

    assert "no tensor 'dense_1/bias'" in fails("dense_1", ["dense_1/kernel"])
    with h5py.File(path, "a") as file:
        file["model_weights/dropout/extra"] = np.zeros(3, np.float32)
        del file["model_weights/dense_2/dense_2/kernel"]
        file["model_weights/dense_2/dense_2/kernel"] = np.zeros((128, 1), np.float32)
    assert "'dense_2/kernel' has shape (128, 1)" in fails("dropout", [])
    with h5py.File(path, "a") as file:
        del file["model_weights/dense_2/dense_2/kernel"]
        file["model_weights/dense_2/dense_2/kernel"] = np.zeros((256, 1), np.float32)
    assert "has 333 tensors, and resnet50 with its head 332" in fails("dropout", ["extra"])


def test_out_is_new_and_whole_or_not_there(
    golden: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="holds files already; give an empty or a new folder"):
        keras_import.import_keras("x.h5", run)
    with pytest.raises(InputError, match="is a file"):
        keras_import.import_keras("x.h5", tmp_path / "file")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = golden.write(tmp_path / "model.h5", "nested")
    monkeypatch.setattr(checkpoint.Checkpointer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        keras_import.import_keras(str(path), tmp_path / "out")
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "model.h5"}
