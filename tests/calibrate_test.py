"""The verbs `calibrate` and `threshold`: what they fit, keep, draw and print."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.special import softmax

from skinjax import calibrate, calibration, evaluated, fitted, logs, metrics
from skinjax import threshold as threshold_lib
from skinjax.errors import InputError
from skinjax.plots import calibration as calibration_plots
from skinjax.plots import threshold as threshold_plots
from skinjax.predictions import COLUMNS, write_predictions
from skinjax.threshold import operating_point
from skinjax.threshold import setting as set_threshold
from skinjax.verbs import calibrate as calibrate_verb
from skinjax.verbs import threshold as threshold_verb

CLASSES = ("bcc", "mel", "nv")


def run_verb(verb: Any, *argv: str) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    verb.add_flags(parser)
    verb.run(*parser.parse_known_args(argv))


def write_split(workdir: Path, split: str, count: int, *, test_count: int = 60) -> None:
    """An evaluated split of an overconfident model at step 5."""
    rng = np.random.default_rng(count)
    logits_NC = rng.normal(0, 1.5, (count, 3))
    label_N = np.argmax(logits_NC + rng.gumbel(size=(count, 3)), axis=1)
    rows = [
        {**dict.fromkeys(COLUMNS, ""), "age": None, "split": split, "label": CLASSES[label]}
        | {"image_id": f"{split}{index}", "lesion_id": f"{index // 2}"}
        for index, label in enumerate(label_N)
    ]
    directory = workdir / "evaluation" / split
    directory.mkdir(parents=True, exist_ok=True)
    table = directory / f"predictions_{split}.csv"
    write_predictions(table, rows, softmax(3 * logits_NC, axis=1), CLASSES)
    values = {
        "split": split,
        "checkpoint": "best: step 5, epoch 1",
        "split_counts": {"val": [30, 30, 30], "test": [test_count, 0, 0]},
        "num_examples": count,
    }
    logs.write_json(directory / "metrics.json", values)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose validation and test split were evaluated."""
    write_split(tmp_path, "val", 90)
    write_split(tmp_path, "test", 60)
    monkeypatch.setattr(evaluated, "describe", lambda *_: (5, CLASSES))
    for module in (calibrate, set_threshold):  # drawing is slow
        monkeypatch.setattr(module, "_png", lambda _: b"a plot")
    return tmp_path


def test_a_trained_run(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_run
    run_verb(calibrate_verb, f"--workdir={run}", "--no_unknown")
    printed = capsys.readouterr().out
    assert "temperature: temperature " in printed
    assert "val: log loss (NLL) " in printed
    assert "test: " not in printed  # nobody has evaluated it
    assert min(imread(run / "evaluation/calibration/reliability.png").shape[:2]) > 500
    assert "not for diagnosis" in printed
    run_verb(threshold_verb, f"--workdir={run}", "--target_sensitivity=0.8")
    printed = capsys.readouterr().out
    assert "calibration: temperature " in printed
    assert "fitted now" not in printed
    assert "positive: akiec, bcc or mel, from a probability of " in printed
    assert "test: sensitivity " in printed
    assert "not for diagnosis" in printed
    step, classes = evaluated.describe(run, "best")
    kept = calibration.load(run, step, classes)
    chosen = threshold_lib.load(run, step, classes, kept)
    assert chosen is not None
    assert chosen.val["sensitivity"] >= 0.8
    copy = run / "evaluation/threshold/threshold.json"
    assert min(imread(copy.with_name("threshold.png")).shape[:2]) > 500
    assert copy.read_bytes() == fitted.path(run, step, fitted.THRESHOLD).read_bytes()


def test_calibrating_draws_and_lowers_the_log_loss(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = calibrate.calibrate(workdir)
    assert calibration.load(workdir, 5, CLASSES) == done.calibration
    assert done.calibration.temperature == pytest.approx(3, rel=0.35)
    for split in ("val", "test"):
        assert done.after[split]["log_loss"] < done.before[split]["log_loss"]
        assert done.after[split]["accuracy"] == done.before[split]["accuracy"]
    assert done.plot == workdir / "evaluation/calibration/reliability.png"
    assert done.plot.read_bytes() == b"a plot"
    run_verb(calibrate_verb, f"--workdir={workdir}", "--no_unknown", "--method=vector")
    printed = capsys.readouterr().out
    assert "vector: bcc scale " in printed
    assert "run skinjax evaluate again" in printed
    run_verb(calibrate_verb, f"--workdir={workdir}", "--no_unknown", "--method=vector")
    assert "run skinjax evaluate again" not in capsys.readouterr().out
    run_verb(calibrate_verb, f"--workdir={workdir}", "--no_unknown", "--method=none")
    assert "none: no calibration" in capsys.readouterr().out
    assert calibration.load(workdir, 5, CLASSES) == calibration.identity(3)


def test_panels_are_titled_by_what_they_show(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(calibration_plots, "reliability", lambda *given: drawn.append(given))
    done = calibrate.calibrate(workdir)
    (panels, _), *_ = drawn
    assert [title for title, _ in panels] == [
        *("val, before", "val, after", "test, before", "test, after"),
    ]
    for (_, bins), (split, computed) in zip(
        panels,
        [(k, v[k]) for k in ("val", "test") for v in (done.before, done.after)],
        strict=True,
    ):
        error = calibration_plots.expected_error(bins)
        assert error == pytest.approx(computed["expected_calibration_error"]), split


def test_a_threshold_lasts_as_long_as_its_calibration(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate.calibrate(workdir)
    done = set_threshold.set_threshold(
        workdir, positive="mel", target_sensitivity=0.9, num_resamples=50
    )
    plot = done.copy.with_name("threshold.png")
    assert not done.fitted_now
    assert not calibrate.calibrate(workdir).dropped
    assert (done.path.exists(), done.copy.exists(), plot.exists()) == (True,) * 3
    run_verb(calibrate_verb, f"--workdir={workdir}", "--no_unknown", "--method=vector")
    assert "is deleted: run skinjax threshold" in capsys.readouterr().out
    assert (done.path.exists(), done.copy.exists(), plot.exists()) == (False,) * 3


def test_a_copy_of_another_checkpoint_stays(workdir: Path) -> None:
    done = set_threshold.set_threshold(workdir, positive="mel", target_sensitivity=0.9)
    done.copy.write_text("another")
    done.path.write_text("{broken")
    assert calibrate.calibrate(workdir).dropped
    assert not done.path.exists()
    assert done.copy.exists()


def test_a_run_without_calibration_gets_a_temperature(workdir: Path) -> None:
    done = set_threshold.set_threshold(
        workdir, positive="mel", target_specificity=0.9, num_resamples=50
    )
    assert done.fitted_now
    assert done.calibration == calibration.load(workdir, 5, CLASSES)
    assert done.chosen == threshold_lib.load(workdir, 5, CLASSES, done.calibration)
    assert done.chosen.val["specificity"] >= 0.9
    assert done.chosen.test is not None
    found = evaluated.read(workdir, "test", 5)
    assert found is not None
    called_N = done.chosen.decide(done.calibration.apply(found.probability_NC), CLASSES)
    assert done.chosen.test["true_positives"] == np.sum(called_N & (found.label_N == 1))
    assert done.chosen.test["false_positives"] == np.sum(called_N & (found.label_N != 1))
    lesion_N = [row["lesion_id"] for row in found.rows]
    assert done.chosen.test == operating_point.measure(
        called_N, found.label_N == 1, found.label_N, lesion_N, num_resamples=50
    )


def test_a_run_without_a_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(tmp_path, "val", 90, test_count=0)
    monkeypatch.setattr(evaluated, "describe", lambda *_: (5, CLASSES))
    done = set_threshold.set_threshold(tmp_path, target_sensitivity=0.9, num_resamples=0)
    assert done.chosen.positive == ("bcc", "mel")
    assert done.chosen.test is None
    assert threshold_lib.load(tmp_path, 5, CLASSES, done.calibration) == done.chosen


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        (calibrate_verb, ["--method=isotonic"], "--method=isotonic is none of none, temperature"),
        (calibrate_verb, ["--metod=vector"], "does not know --metod=vector; did you mean --method"),
        (threshold_verb, [], "neither of them was given"),
        (threshold_verb, ["--target_sensitivity=90"], "--target_sensitivity=90.0 is not above 0"),
        (
            threshold_verb,
            ["--target_sensitivity=0.9", "--positive=melanoma"],
            "'melanoma' is none of the model's classes",
        ),
        (threshold_verb, ["--targetsensitivity=0.9"], "did you mean --target_sensitivity"),
    ],
)
def test_a_wrong_flag(workdir: Path, verb: Any, flags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_verb(verb, f"--workdir={workdir}", *flags)
    assert not (workdir / "checkpoints").exists()


def _texts(figure: Any) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]


def test_reliability_plot() -> None:
    probability_NC = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    bins = metrics.reliability(probability_NC, np.array([0, 1, 0]))
    mass = metrics.reliability(probability_NC, np.array([0, 1, 0]), equal_mass=True)
    panels = [("before", bins), ("equal mass", mass), ("nothing", [])]
    figure: Any = calibration_plots.reliability(panels, "a caption")
    texts = _texts(figure)
    assert "before\nECE 0.400, n=3" in texts
    assert "model, 95 % interval per image" in texts
    assert "nothing\nnot available" in texts
    assert "a caption" in texts
    points = figure.axes[0].containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(points, [[0.6, 1], [0.9, 0.5]])
    assert [patch.get_height() for patch in figure.axes[1].patches] == pytest.approx([1 / 3, 2 / 3])
    expected = metrics.compute(probability_NC, np.array([0, 1, 0]), ("a", "b"))
    assert calibration_plots.expected_error(bins) == expected["expected_calibration_error"]
    assert calibration_plots.expected_error([]) is None


def test_threshold_plot() -> None:
    point = {
        **{"num_examples": 4, "num_positive": 2, "sensitivity": 0.5, "specificity": None},
        "intervals": {"sensitivity": [0.25, 1.0], "specificity": None},
    }
    curve = (np.array([0.2, 0.6]), np.array([1.0, 0.5]), np.array([0.0, 0.5]))
    lines = threshold_plots.describe({"val": point})
    assert lines == [
        "val: sensitivity 0.500 [0.250, 1.000], specificity not available (n=4, 2 positive)"
    ]
    figure: Any = threshold_plots.operating_curves(
        {"val": curve, "test": curve},
        {"val": point, "test": point},
        0.6,
        score="the probability of mel",
        caption="a caption",
    )
    assert {"a caption", "threshold of the probability of mel", "threshold 0.6"} <= {
        *_texts(figure)
    }
    line = figure.axes[0].get_lines()[0]
    assert line.get_drawstyle() == "steps-pre"
    drawn = line.get_xydata()
    np.testing.assert_allclose(drawn, np.array([[0, 1], [0.2, 1], [0.6, 0.5], [1, 0]]))


def test_a_calibration_in_words() -> None:
    words = [
        calibrate.describe(calibration.Calibration(method, (scale,) * 3, (bias,) * 3), CLASSES)
        for method, scale, bias in (
            *(("temperature", 0.5, 0.0), ("temperature", 20.0, 0.0)),
            *(("none", 1.0, 0.0), ("vector", 0.5, -1.0)),
        )
    ]
    assert words == [
        *("temperature 2.000", "temperature 0.050 (as far as it may go)", "no calibration"),
        "bcc scale 0.50 bias -1.00; mel scale 0.50 bias -1.00; nv scale 0.50 bias -1.00",
    ]
