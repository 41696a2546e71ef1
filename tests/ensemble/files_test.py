"""Tests of ensembles of runs: whose predictions are combined, and what is written."""

import argparse
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinjax import calibration, ensemble, evaluate
from skinjax.ensemble import files as ensemble_files
from skinjax.ensemble import tables as ensemble_tables
from skinjax.errors import InputError
from skinjax.predictions import read_predictions, write_predictions
from skinjax.verbs import ensemble as verb


@pytest.fixture(scope="module")
def evaluated_once(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose validation and test split were evaluated, without a report."""
    run = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("ensemble") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skinjax.report.write_evaluation", lambda *_, **__: None)
        evaluate.evaluate(run, num_resamples=0)
    return run


@pytest.fixture
def runs(evaluated_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three runs: copies of one of an epoch, of which two are told other predictions."""
    monkeypatch.setattr("skinjax.report.write_evaluation", lambda *_, **__: None)
    workdirs = [tmp_path / name for name in ("a", "b", "c")]
    for seed, workdir in enumerate(workdirs):
        shutil.copytree(evaluated_once, workdir)
        for split in ("val", "test"):
            path = workdir / "evaluation" / split / f"predictions_{split}.csv"
            rows, _, label_N, classes = read_predictions(path)
            noise_NC = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), len(rows))
            noise_NC += np.eye(len(classes))[label_N] * (seed % 2)
            write_predictions(path, rows, noise_NC / noise_NC.sum(1, keepdims=True), classes)
    return workdirs


def table(workdir: Path, split: str = "test") -> Any:
    return read_predictions(workdir / "evaluation" / split / f"predictions_{split}.csv")


def change(
    workdir: Path, split: str, function: Callable[[list[str]], list[str]], head: bool = False
) -> None:
    """Changes the lines of a run's table of predictions."""
    path = workdir / "evaluation" / split / f"predictions_{split}.csv"
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([function(header) if head else header])
        csv.writer(file).writerows(lines if head else map(function, lines))


@pytest.mark.parametrize("method", ensemble.METHODS)
def test_files_that_are_there_are_combined(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    # In another order of the images.
    path = runs[2] / "evaluation" / "test" / "predictions_test.csv"
    rows, probability_NC, _, classes = read_predictions(path)
    write_predictions(path, rows[::-1], probability_NC[::-1], classes)
    out = tmp_path / "out"
    result = ensemble_files.write(runs, out, method=method, metric="log_loss", num_resamples=10)

    combined_K = []
    for split in ("val", "test"):
        tables = [table(run, split) for run in runs]
        order = slice(None, None, -1 if split == "test" else 1)
        probability_KNC = np.stack([tables[0][1], tables[1][1], tables[2][1][order]])
        label_N = tables[0][2]
        if split == "val":
            weight_K = np.ones(3)
            if method == "greedy":
                weight_K = ensemble.greedy(probability_KNC, label_N, "log_loss", classes)
                assert weight_K[1] > weight_K[0]  # the one that knows something
        combined_K.append(ensemble.combine(probability_KNC, method, weight_K))
        np.testing.assert_allclose(table(out, split)[1], combined_K[-1], atol=1e-12)
        assert table(out, split)[0] == tables[0][0]
        if split == "val":
            own = calibration.fit(combined_K[0], label_N)
    assert result["metrics"]["calibrated"]["temperature"] == pytest.approx(own.temperature)
    assert [one["weight"] for one in result["members"]] == (weight_K / weight_K.sum()).tolist()
    written = json.loads((out / "ensemble.json").read_text())
    assert written == {name: value for name, value in result.items() if name != "metrics"}
    assert result["metrics"]["ensemble"]["method"] == method
    page = (out / "ensemble.md").read_text()
    accuracy = result["members"][1]["metrics"]["accuracy"]
    assert f"{runs[1]} (best: step" in page
    assert f"{accuracy:.4f}" in page
    assert "not for diagnosis" in page
    assert result["metrics"]["intervals"]["accuracy"] is not None
    # The same folder again, as an earlier ensemble's.
    ensemble_files.write(runs[:2], out, num_resamples=0)


def test_what_is_missing_or_of_another_checkpoint_is_evaluated(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    original = evaluate.evaluate

    def counted(workdir: Path, **more: Any) -> dict[str, Any]:
        called.append((workdir.name, more["split"], more["tta"], more["which"]))
        return original(workdir, **more)

    monkeypatch.setattr(evaluate, "evaluate", counted)
    shutil.rmtree(runs[0] / "evaluation" / "val")
    path = runs[1] / "evaluation" / "test" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 1}))
    (runs[2] / "evaluation" / "test" / "metrics.json").write_text("[")
    ensemble_files.write(runs, tmp_path / "out", num_resamples=0)
    assert called == [
        ("b", "test", "none", "best"),
        ("c", "test", "none", "best"),
        ("a", "val", "none", "best"),
    ]
    called.clear()
    result = ensemble_files.write(runs[:2], tmp_path / "out", tta="flips", num_resamples=0)
    # Evaluating the test split predicts validation too, for a temperature.
    assert called == [("a", "test", "flips", "best"), ("b", "test", "flips", "best")]
    assert result["metrics"]["split"] == "test_flips"
    assert (tmp_path / "out" / "evaluation" / "val_flips").is_dir()


def test_folds_of_a_cross_validation_share_the_test_split_alone(
    runs: list[Path], tmp_path: Path
) -> None:
    around = tmp_path / "cross"
    for fold, run in enumerate(runs):
        shutil.move(run, around / f"fold_{fold}")
    shutil.copytree(around / "fold_0", around / "fold_10")
    change(around / "fold_1", "val", lambda line: [f"{line[0]}x", *line[1:]])
    expanded = ensemble_tables.expand([around])
    assert [path.name for path in expanded] == ["fold_0", "fold_1", "fold_2", "fold_10"]
    with pytest.raises(InputError, match="greedy chooses on the validation split"):
        ensemble_files.write([around], tmp_path / "out", method="greedy", num_resamples=0)
    assert not (tmp_path / "out").exists()
    result = ensemble_files.write([around], tmp_path / "out", num_resamples=0)
    assert result["metrics"]["calibrated"] is None
    assert not (tmp_path / "out" / "evaluation" / "val").exists()
    mean_NC = np.mean([table(path)[1] for path in expanded], axis=0)
    np.testing.assert_allclose(table(tmp_path / "out")[1], mean_NC, atol=1e-12)


def test_runs_that_do_not_fit_together_are_refused(runs: list[Path], tmp_path: Path) -> None:
    def refused(message: str, *given: Path) -> None:
        with pytest.raises(InputError, match=message):
            ensemble_files.write(given, tmp_path / "out", num_resamples=0)
        assert not (tmp_path / "out").exists()

    refused("is a single run; give two or more", runs[0])
    refused("twice; give each run once", runs[0], runs[1], runs[0] / ".." / "a")
    refused("is not a work directory", runs[0], tmp_path / "nowhere")
    classes = table(runs[0])[3]
    change(runs[1], "test", lambda line: [*line[:7], classes[0], *line[8:]])
    refused(r"different labels for \d+ images \(as ", runs[0], runs[1])
    change(runs[1], "test", lambda line: [f"{line[0]}x", *line[1:]])
    count = len(table(runs[0])[0])
    refused(rf"has {count} images, .* {count}, and 0 are in both", runs[0], runs[1])
    names = [f"prob_{name}" for name in classes]
    change(runs[2], "test", lambda line: [*line[:8], *names[::-1]], head=True)
    refused("an ensemble needs the same, in the same order", runs[0], runs[2])


def test_a_folder_with_something_else_is_left_alone(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds files that are no ensemble"):
        ensemble_files.write(runs, runs[0], num_resamples=0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file"):
        ensemble_files.write(runs, tmp_path / "file", num_resamples=0)
    (tmp_path / "half" / "checkpoints").mkdir(parents=True)
    (tmp_path / "half" / "ensemble.json").write_text("{}")
    with pytest.raises(InputError, match="holds files that are no ensemble"):
        ensemble_files.write(runs, tmp_path / "half", num_resamples=0)
    with pytest.raises(InputError, match="--method=median is none of mean"):
        ensemble_files.write(runs, tmp_path / "out", method="median", num_resamples=0)


def test_nothing_of_an_earlier_ensemble_stays(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    ensemble_files.write(runs[:2], out, num_resamples=0)
    assert (out / "evaluation" / "val").is_dir()
    (out / "report").mkdir()
    (out / "report" / "model_card.md").touch()
    (out / "notes.txt").touch()
    change(runs[2], "val", lambda line: [f"{line[0]}x", *line[1:]])
    with pytest.raises(InputError, match="--num_resamples=-1 is negative; give 0 or more"):
        ensemble_files.write(runs[1:], out, num_resamples=-1)
    assert (out / "report" / "model_card.md").exists()
    # Validation splits are not the same now, so that there is no table of these two.
    result = ensemble_files.write(runs[1:], out, num_resamples=0)
    assert result["metrics"]["calibrated"] is None
    assert [path.name for path in (out / "evaluation").iterdir()] == ["test"]
    assert not (out / "report").exists()
    assert (out / "notes.txt").exists()
    shutil.rmtree(out / "evaluation")
    (out / "evaluation").symlink_to(runs[0] / "evaluation")
    ensemble_files.write(runs[1:], out, num_resamples=0)
    assert not (out / "evaluation").is_symlink()
    assert (runs[0] / "evaluation" / "val").is_dir()


def test_the_verb_says_what_each_member_does(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    verb.add_flags(parser)
    out = tmp_path / "out"
    argv = ["--runs", *map(str, runs), f"--output={out}", "--num_resamples=0"]
    verb.run(parser.parse_args(argv), [])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [f"{run} (weight 0.333)" for run in runs]
    assert lines[3].startswith("mean: accuracy 0.")
    assert lines[4] == f"report: {out}/ensemble.md. For research and education, not for diagnosis."
    with pytest.raises(InputError, match="ensemble does not know --methd=mean"):
        verb.run(parser.parse_args(argv), ["--methd=mean"])
