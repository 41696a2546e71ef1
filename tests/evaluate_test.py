"""Tests of evaluation: every example once, whatever the batch size and the number of devices."""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import calibration, evaluate, fitted, parallel, trained
from skinjax.calibration import Calibration
from skinjax.data import builder, synthetic
from skinjax.errors import InputError
from skinjax.experiment import Experiment
from skinjax.predictions import read_predictions
from skinjax.verbs import evaluate as verb


class Images:
    """Random images in memory."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self._image = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        self._label = rng.integers(0, 3, count).astype(np.int32)

    def __len__(self) -> int:
        return len(self._label)

    def __getitem__(self, index: Any, /) -> dict[str, Any]:
        return {"image": self._image[index], "label": self._label[index]}

    def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


def predict(
    config: ConfigDict,
    classifier: Any,
    count: int,
    batch_size: int,
    devices: int,
    tta: str = "none",
) -> evaluate.SplitPredictions:
    config.evaluate.batch_size = batch_size
    experiment = Experiment(
        config,
        ("a", "b", "c"),
        np.array([1, 2, 3], np.float32),
        classifier(num_classes=3),
        parallel.Mapper("pmap", jax.devices()[:devices]),
    )
    variables = experiment.mapper.replicate(experiment.init_variables())
    return evaluate.predict_split(experiment, experiment.eval_step(tta), variables, Images(count))


@pytest.mark.parametrize(
    ("count", "batch_size", "devices", "tta"),
    [(21, 8, 1, "none"), (21, 8, 8, "none"), (3, 8, 8, "none"), (21, 8, 8, "flips")],
)
def test_batch_size_and_devices_do_not_matter(
    config: ConfigDict, tiny_classifier: Any, count: int, batch_size: int, devices: int, tta: str
) -> None:
    whole = predict(config, tiny_classifier, count, count, 1, tta)
    parts = predict(config, tiny_classifier, count, batch_size, devices, tta)
    np.testing.assert_array_equal(parts.label_N, Images(count)[slice(None)]["label"])
    np.testing.assert_allclose(parts.probability_NC, whole.probability_NC, atol=1e-6)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(parts.probability_NC.sum(1), 1, atol=1e-6)


def test_the_loss_is_the_weighted_mean_over_the_split(
    config: ConfigDict, tiny_classifier: Any
) -> None:
    config.loss.reduction = "weights"
    predicted = predict(config, tiny_classifier, 21, 8, 1)
    label_N = predicted.label_N
    weight_N = np.array([1, 2, 3])[label_N]
    loss_N = -np.log(predicted.probability_NC[np.arange(21), label_N])
    assert predicted.loss == pytest.approx((weight_N * loss_N).sum() / weight_N.sum(), rel=1e-5)


def test_the_loss_with_views_is_that_of_their_mean(
    config: ConfigDict, tiny_classifier: Any
) -> None:
    plain, flips = (predict(config, tiny_classifier, 21, 21, 1, tta) for tta in ("none", "flips"))
    assert np.abs(plain.probability_NC - flips.probability_NC).max() > 1e-4
    loss_N = -np.log(flips.probability_NC[np.arange(21), flips.label_N])
    weight_N = np.array([1, 2, 3])[flips.label_N]
    assert flips.loss == pytest.approx((weight_N * loss_N).mean(), rel=1e-5)


def unplotted(directory: Path, *, title: str, note: str = "") -> None:
    """In place of a report, whose plots take seconds."""
    (directory / "report.md").write_text(f"{title}: {note}")


@pytest.fixture
def run(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run, whose reports have no plots."""
    monkeypatch.setattr("skinjax.report.write_evaluation", unplotted)
    return trained_run


def table(run: Path, name: str) -> Any:
    return read_predictions(run / "evaluation" / name / f"predictions_{name}.csv")


def kept(run: Path) -> Calibration | None:
    model = trained.load(run)
    return calibration.load(run, model.step, model.classes)


def test_the_test_split_has_a_temperature_fitted_to_validation_once(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate.evaluate(run, split="val", num_resamples=0)["calibrated"] is None
    assert kept(run) is None  # only the test split asks for one
    shutil.rmtree(run / "evaluation")

    computed = evaluate.evaluate(run, num_resamples=20)
    directory = run / "evaluation" / "test"
    assert computed == json.loads((directory / "metrics.json").read_text())
    assert computed["checkpoint"].startswith(f"best: step {computed['step']}, epoch 1")
    assert computed["bootstrap"]["num_resamples"] == 20
    _, probability_NC, label_N, _ = table(run, "val")
    expected = calibration.fit(probability_NC, label_N)
    assert kept(run) == expected
    assert computed["calibrated"]["temperature"] == expected.temperature
    assert json.loads((run / "evaluation" / "val" / "metrics.json").read_text())["loss"] > 0

    monkeypatch.setattr(calibration, "fit", lambda *_: pytest.fail("fitted again"))
    assert evaluate.evaluate(run, num_resamples=20) == computed
    other = Calibration("temperature", (2.0,) * 7, (0.0,) * 7)
    calibration.save(run, computed["step"], other, trained.load(run).classes, 10)
    assert evaluate.evaluate(run, num_resamples=0)["calibrated"]["temperature"] == 0.5


def test_views_have_folders_and_a_temperature_of_their_own(run: Path) -> None:
    plain = evaluate.evaluate(run, num_resamples=0)
    before = kept(run)
    computed = evaluate.evaluate(run, tta="flips", num_resamples=0)
    assert computed["split"] == "test_flips"
    assert computed["test_time_augmentation"] == "flips"
    assert computed["loss"] != plain["loss"]
    assert kept(run) == before
    _, probability_NC, label_N, _ = table(run, "val_flips")
    own = calibration.fit(probability_NC, label_N)
    assert own != before
    assert computed["calibrated"]["temperature"] == own.temperature
    rows, flips_NC, _, _ = table(run, "test_flips")
    same_rows, plain_NC, _, _ = table(run, "test")
    assert rows == same_rows
    assert np.abs(flips_NC - plain_NC).max() > 1e-4
    assert "8 views" in (run / "evaluation" / "test_flips" / "report.md").read_text()


def test_without_validation_images_there_is_no_calibration(run: Path) -> None:
    moved: dict[str, str | None] = {"raw_dir": None, "prepared_dir": None, "directory": None}
    opened = evaluate._open(run, "best", moved, 0, "none", 0)
    counts = {**opened.prepared.counts, "val": (0,) * 7}
    without = dataclasses.replace(opened.prepared, counts=counts)
    assert evaluate._calibration(dataclasses.replace(opened, prepared=without), fit=True) is None
    assert not (run / "evaluation").exists()


def test_another_process_with_one_device_and_other_batches_predicts_the_same(run: Path) -> None:
    evaluate.evaluate(run, num_resamples=0)
    assert len(jax.devices()) == 8
    _, here_NC, _, _ = table(run, "test")
    shutil.rmtree(run / "evaluation")
    code = (
        "import jax, skinjax.evaluate as e, skinjax.report as r;"
        "r.write_evaluation = lambda *_, **__: None;"
        "e.evaluate({!r}, num_resamples=0, batch_size=5); assert len(jax.devices()) == 1"
    )
    environment = {**os.environ, "XLA_FLAGS": ""}
    subprocess.run([sys.executable, "-c", code.format(str(run))], check=True, env=environment)
    _, there_NC, _, _ = table(run, "test")
    np.testing.assert_allclose(there_NC, here_NC, atol=1e-5)


def test_a_wrong_argument_is_refused(run: Path) -> None:
    for wrong, message in (
        ({"split": "x"}, "--split=x is none of train, val, test"),
        ({"tta": "flip"}, "--tta=flip is none of none, flips, crops"),
        ({"num_resamples": -1}, "--num_resamples=-1 is negative"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate.evaluate(run, **wrong)
    assert not (run / "evaluation").exists()


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_flags(parser)
    return parser.parse_args(argv)


def test_data_of_the_run_is_evaluated_and_any_other_is_an_external_test(
    run: Path,
    config: ConfigDict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = []

    def external(*args: Any, **more: Any) -> dict[str, Any]:
        calls.append((args, more))
        return {**computed, "split": "external_x"}

    own = builder.prepare(config).directory
    flags = (f"--workdir={run}", "--num_resamples=20")
    verb.run(arguments(*flags, f"--data={own}"), [])
    printed = capsys.readouterr().out
    assert "95 % intervals, lesions resampled: accuracy 0." in printed
    assert "calibrated on validation (temperature scaling by " in printed
    computed = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())

    synthetic.write(tmp_path / "other", num_lesions=100, image_size=32, seed=1)
    config.data.raw_dir = str(tmp_path / "other")
    config.data.prepared_dir = str(tmp_path / "other_prepared")
    builder.prepare(config)
    monkeypatch.setattr("skinjax.external.evaluate", external)
    for other in (tmp_path / "other", tmp_path / "other_prepared", tmp_path / "nowhere"):
        verb.run(arguments(*flags, f"--data={other}", "--tta=flips"), [])
        assert calls[-1][0] == (str(run), str(other))
        assert calls[-1][1]["tta"] == "flips"
    verb.run(arguments(*flags, f"--data={own}", "--name=x"), [])
    assert calls[-1][1]["name"] == "x"
    assert len(calls) == 4
    assert f"{run}/evaluation/external_x/external.md" in capsys.readouterr().out
    with pytest.raises(InputError, match="--name is of an external test: give --data=DIR"):
        verb.run(arguments(*flags, "--name=x"), [])
    with pytest.raises(InputError, match="--split is of the run's own data"):
        verb.run(arguments(*flags, f"--data={tmp_path / 'other'}", "--split=val"), [])


def test_a_broken_calibration_is_named(run: Path) -> None:
    step = trained.load(run).step
    fitted.path(run, step, fitted.CALIBRATION).parent.mkdir(parents=True)
    fitted.path(run, step, fitted.CALIBRATION).write_text("{")
    with pytest.raises(InputError, match=r"calibration\.json can't be read"):
        evaluate.evaluate(run, num_resamples=0)
