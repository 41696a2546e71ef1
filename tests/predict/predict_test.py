"""Tests of predicting: the same as evaluating, whatever the items, the batch and the devices."""

import contextlib
import dataclasses
import functools
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import (
    evaluate,
    fitted,
    models,
    predict,
    predictions,
    threshold,
    trained,
    unknown,
)
from skinjax.calibration import Calibration
from skinjax.calibration import save as save_calibration
from skinjax.config import default_config
from skinjax.data import images, metadata
from skinjax.data.sources import folders
from skinjax.errors import InputError, OutOfMemoryError
from skinjax.predict.outputs import Prepared, Runner
from skinjax.threshold import operating_point
from skinjax.train import train

pytestmark = pytest.mark.usefixtures("fast_compilation")

# What a threshold does on a split, as `operating_point.measure` gives it.
POINT: dict[str, Any] = {
    **dict.fromkeys(("num_examples", "num_positive", *operating_point._COUNTS), 1),
    **dict.fromkeys(operating_point.MEASURES, 0.5),
    "intervals": dict.fromkeys(operating_point.MEASURES, None),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, synthetic_dir: Path) -> Path:
    """A run of one epoch, evaluated on test; it squashes and equalises, so that both are seen."""
    workdir = tmp_path_factory.mktemp("run")
    train(tiny(synthetic_dir), workdir)
    evaluate.evaluate(workdir, num_resamples=0)
    return workdir


def tiny(synthetic_dir: Path) -> ConfigDict:
    config = default_config()
    config.data.update(
        raw_dir=str(synthetic_dir),
        prepared_dir=str(synthetic_dir.parent / "prepared"),
        image_size=16,
        encoding="png",
    )
    config.data.preprocess.clahe = True
    config.update(epochs=1, batch_size=32)
    config.model.name = "simple_cnn"
    config.model.head = (("dense", 8), ("relu",))
    config.parallel.update(num_devices=1, keep_freed_memory=False)
    config.log.update(tensorboard=False, progress=False)
    return config


@pytest.fixture(scope="module")
def table(run: Path, synthetic_dir: Path) -> tuple[list[Path], np.ndarray]:
    """Files of the test images as published, and what `evaluate` says of them."""
    rows, probability_NC, _, _ = predictions.read_predictions(
        run / "evaluation" / "test" / "predictions_test.csv"
    )
    index = folders.ImageIndex(folders.walk([synthetic_dir]), "ham")
    paths = [index.find(row["image_id"]) for row in rows]
    return [path for path in paths if path], probability_NC


@pytest.fixture(scope="module")
def model(run: Path) -> trained.TrainedModel:
    return trained.load(run)


def probabilities(outputs: list[predict.Output]) -> np.ndarray:
    return predict.softmax(np.array([one.logits_C for one in outputs], np.float64))


def test_predicting_originals_equals_evaluating_the_prepared_set(
    run: Path, table: tuple[list[Path], np.ndarray]
) -> None:
    paths, expected_NC = table
    predictor = predict.Predictor(run, calibrated=False)
    found = predictor.predict(paths)
    assert len(found) == len(expected_NC) > 10
    found_NC = [[*one.probabilities.values()] for one in found]
    np.testing.assert_allclose(found_NC, expected_NC, atol=1e-5)
    assert [one.image for one in found] == [str(path) for path in paths]
    classes = predictor.model.classes
    assert all(tuple(one.probabilities) == classes for one in found)
    assert [one.label for one in found] == [classes[label] for label in expected_NC.argmax(1)]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_and_devices_do_not_matter(
    model: trained.TrainedModel, table: tuple[list[Path], np.ndarray], batch_size: int
) -> None:
    paths, expected_NC = table
    outputs = list(predict.stream_outputs(model, paths, batch_size=batch_size, num_threads=3))
    np.testing.assert_allclose(probabilities(outputs), expected_NC, atol=1e-5)


def test_one_device_gives_the_same(
    model: trained.TrainedModel,
    table: tuple[list[Path], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = jax.devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    paths, expected_NC = table
    runner = Runner(model, batch_size=4)
    outputs = list(runner.stream(paths, with_features=True))
    np.testing.assert_allclose(probabilities(outputs), expected_NC, atol=1e-5)
    alone = [next(runner.stream([path], with_features=True)) for path in paths[:2]]
    for one, other in zip(alone, outputs, strict=False):
        np.testing.assert_allclose(one.logits_C, other.logits_C, atol=1e-5)
        np.testing.assert_allclose(one.features_D, other.features_D, atol=1e-5)


def test_bad_files_have_errors_and_the_others_go_on(
    model: trained.TrainedModel, table: tuple[list[Path], np.ndarray], tmp_path: Path
) -> None:
    paths, expected_NC = table
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:300])
    names = ("text.jpg", "cut.jpg", "missing.jpg", ".")
    bad = [tmp_path / name for name in names]
    items: list[Any] = [bad[0], paths[0], bad[1], bad[2], paths[1], bad[3]]
    outputs = list(predict.stream_outputs(model, items, batch_size=2))
    assert [one.item for one in outputs] == items
    faults = {one.item.name: one.error for one in outputs if one.error}
    assert "seems to be text" in faults["text.jpg"]
    assert "cut short" in faults["cut.jpg"]
    assert "No such file" in faults["missing.jpg"]
    assert "a folder" in faults[tmp_path.name]
    good = [one for one in outputs if not one.error]
    np.testing.assert_allclose(probabilities(good), expected_NC[:2], atol=1e-5)
    assert all(one.logits_C is None for one in outputs if one.error)
    only_bad = list(predict.stream_outputs(model, bad * 10, batch_size=2))
    assert [one.item for one in only_bad] == bad * 10


def test_arrays_of_any_size(model: trained.TrainedModel, run: Path) -> None:
    predictor = predict.Predictor(run)
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((9, 40), (16, 16))]
    both = predictor.predict(given)
    prepared = [Prepared(None, model.preprocess(one)) for one in given]
    outputs = next(Runner(model).batches(prepared))
    found_NC = np.array([[*one.probabilities.values()] for one in both])
    calibrated = predictor.calibration
    assert calibrated is not None
    np.testing.assert_allclose(found_NC, calibrated.apply(probabilities(outputs)), atol=1e-5)
    one = predictor.predict(given[0])
    np.testing.assert_allclose([*one.probabilities.values()], found_NC[0], atol=1e-5)
    assert one.image == ""
    assert predictor.predict([]) == []
    for wrong, message in (
        (given[0].astype(np.float32), r"float32 \(9, 40, 3\); expected uint8 RGB"),
        (given[0][..., 0], r"uint8 \(9, 40\); expected"),
        (given[0][:0], r"uint8 \(0, 40, 3\); expected"),
        (3, "an image is a int; expected a path"),
    ):
        with pytest.raises(InputError, match=message):
            predictor.predict(wrong)
    with pytest.raises(InputError, match="takes no patient metadata"):
        predictor.predict(given[0], {"age": 50})
    with pytest.raises(InputError, match="batch size is 0"):
        predict.Predictor(run, batch_size=0)


def test_it_reads_a_few_batches_ahead_of_who_reads_it(model: trained.TrainedModel) -> None:
    taken = itertools.count()
    image = np.zeros((16, 16, 3), np.uint8)

    def endless() -> Iterator[np.ndarray]:
        for _ in taken:
            yield image

    stream = predict.stream_outputs(model, endless(), batch_size=8, num_threads=2)
    for _ in range(80):
        next(stream)
    assert next(taken) < 80 + 6 * 8
    stream.close()  # type: ignore[attr-defined]


def test_endless_faults_are_handed_on(model: trained.TrainedModel) -> None:
    faults = (Prepared(None, None, error=f"fault {number}") for number in itertools.count())
    runner = Runner(model, batch_size=8)
    with contextlib.closing(runner.batches(faults)) as batches:
        first = [next(batches) for _ in range(3)]
    assert [one.error for batch in first for one in batch][-1] == "fault 95"


def test_what_is_not_finite_is_an_error(
    model: trained.TrainedModel, table: tuple[list[Path], np.ndarray]
) -> None:
    bias = {"bias": np.array([np.nan] * len(model.classes), np.float32)}
    head = dict(model.variables["params"]["head"])
    logits = next(name for name in head if "bias" in head[name] and len(head[name]["bias"]) == 7)
    head[logits] = {**head[logits], **bias}
    variables = {**model.variables, "params": {**model.variables["params"], "head": head}}
    broken = dataclasses.replace(model, variables=variables)
    output = next(predict.stream_outputs(broken, table[0][:1]))
    assert output.logits_C is None
    assert "not finite" in output.error


def test_no_memory_says_which_batch_to_try(
    model: trained.TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(model, batch_size=16)

    def too_much(*arguments: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: allocating 9 GiB")

    monkeypatch.setattr(runner, "_forward", too_much)
    with pytest.raises(OutOfMemoryError, match="--batch_size=8"):
        next(runner.stream([np.zeros((16, 16, 3), np.uint8)]))


def test_patient_metadata_missing_or_not(
    model: trained.TrainedModel,
    table: tuple[list[Path], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"age": 30 + 2.0 * i, "sex": ("female", "male")[i % 2], "site": ""} for i in range(5)]
    config = model.config.copy_and_resolve_references()
    config.metadata.update(features=("age", "sex"), width=4)
    encoder = metadata.fit(config.metadata, rows)
    assert encoder is not None
    module = models.create(config.model, num_classes=7, axis_name=None, metadata_width=4)
    sample = (np.zeros((1, 16, 16, 3), np.float32), encoder.encode(rows[:1]))
    variables = jax.device_get(
        jax.jit(functools.partial(module.init, train=False))(jax.random.key(0), *sample)
    )
    with_metadata = dataclasses.replace(
        model, config=config, module=module, variables=variables, encoder=encoder
    )
    monkeypatch.setattr(trained, "load", lambda *_: with_metadata)
    predictor = predict.Predictor(model.workdir, calibrated=False)
    paths = table[0][:5]
    image_BHWC = np.stack([model.preprocess(images.decode(path)) for path in paths])
    logits_BC = jax.jit(with_metadata.forward())(variables, image_BHWC, encoder.encode(rows))[
        "logits_BC"
    ]
    found = predictor.predict(paths, rows)
    found_NC = [[*one.probabilities.values()] for one in found]
    np.testing.assert_allclose(found_NC, predict.softmax(np.asarray(logits_BC)), atol=1e-5)
    missing = [predictor.predict(paths[0], row) for row in (None, {}, {"age": None, "sex": ""})]
    assert missing[0] == missing[1] == missing[2] != found[0]
    assert predictor.predict(paths[0]) == missing[0]
    with pytest.raises(InputError, match="metadata has smoker; expected some of age, sex, site"):
        predictor.predict(paths[0], {"smoker": "no"})
    with pytest.raises(InputError, match="age 'old'; expected a number"):
        predictor.predict(paths[0], {"age": "old"})
    with pytest.raises(InputError, match="2 images and 1 rows"):
        predictor.predict(paths[:2], rows[:1])


def test_calibration_decision_and_abstention(
    run: Path, tmp_path: Path, table: tuple[list[Path], np.ndarray]
) -> None:
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    paths, raw_NC = table
    bare = predict.Predictor(tmp_path)
    step, classes = bare.model.step, bare.model.classes
    shutil.rmtree(fitted.path(tmp_path, step, "").parent)
    bare = predict.Predictor(tmp_path)
    assert (bare.calibration, bare.threshold, bare.unknown) == (None, None, None)
    one = bare.predict(paths[0])
    assert (one.decision, one.decision_score, one.abstained, one.unknown_score) == (None,) * 4
    # With a bias the most probable class is another.
    bias_C = tuple(float(name == "df") * 20 for name in classes)
    chosen = Calibration("vector", (0.5,) * len(classes), bias_C)
    save_calibration(tmp_path, step, chosen, classes, 9)
    predictor = predict.Predictor(tmp_path)
    expected_NC = chosen.apply(raw_NC)
    found = predictor.predict(paths)
    found_NC = [[*one.probabilities.values()] for one in found]
    np.testing.assert_allclose(found_NC, expected_NC, atol=1e-5)
    assert {one.label for one in found} == {"df"}
    assert found[0].description == "dermatofibroma"
    raw = predict.Predictor(tmp_path, calibrated=False).predict(paths)
    assert [one.label for one in raw] == [classes[label] for label in raw_NC.argmax(1)]
    # A threshold of the decision between the scores, and one of the unknown likewise.
    score_N = expected_NC[:, 2:4].sum(axis=1)
    middle = float(np.median(score_N))
    decide = threshold.Threshold(
        classes[2:4], middle, {"sensitivity": 0.9}, chosen.to_json(), POINT, None
    )
    threshold.save(tmp_path, step, decide, classes)
    save_unknown(tmp_path, predictor.model, middle_of=paths)
    predictor = predict.Predictor(tmp_path)
    found = predictor.predict([tmp_path / "none.jpg", *paths])
    assert found[0].error
    assert found[0].abstained is found[0].decision is None
    np.testing.assert_allclose([one.decision_score for one in found[1:]], score_N, atol=1e-5)
    positive = np.array([one.decision for one in found[1:]])
    clear_N = np.abs(score_N - middle) > 1e-5
    np.testing.assert_array_equal(positive[clear_N], (score_N >= middle)[clear_N])
    unlike_N = np.array([one.unknown_score for one in found[1:]])
    assert predictor.unknown is not None
    line = predictor.unknown.thresholds["energy"]
    np.testing.assert_array_equal([one.abstained for one in found[1:]], unlike_N > line)
    assert 0 < np.mean(unlike_N > line) < 1
    # A threshold of another calibration is no threshold of this one.
    save_calibration(tmp_path, step, Calibration("temperature", (0.5,) * 7, (0.0,) * 7), classes, 9)
    with pytest.raises(InputError, match="threshold again"):
        predict.Predictor(tmp_path)


def save_unknown(workdir: Path, model: trained.TrainedModel, middle_of: list[Path]) -> None:
    """A measure by energy that abstains on half of some images."""
    outputs = list(predict.stream_outputs(model, middle_of, with_features=True))
    energy_N = unknown.energy(np.array([one.logits_C for one in outputs]))
    size = len(outputs[0].features_D)  # type: ignore[arg-type]
    thresholds = {"energy": float(np.median(energy_N)), "mahalanobis": 1.0, "either": 1.0}
    scales = dict.fromkeys(("mahalanobis", "energy"), (0.0, 1.0))
    found = unknown.Unknown(
        "energy", thresholds, scales, np.zeros(size), np.eye(size), np.zeros((1, size))
    )
    unknown.save(workdir, model.step, found, model.classes, {})
