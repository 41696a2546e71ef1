"""Tests of the predictions of all folds, made up here and not by models."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import metrics, out_of_fold, predictions, workdir
from skinjax.data import folds
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError


def predict(run: Path, fold: int, prepared: PreparedDataset) -> None:
    """What a fold's evaluation leaves: random predictions, the true class favoured."""
    table, classes = prepared.table("val"), prepared.classes
    label_M = np.array([classes.index(row["label"]) for row in table])
    logits_MC = np.random.default_rng(fold).normal(size=(len(table), len(classes)))
    logits_MC[np.arange(len(table)), label_M] += 1
    probability_MC = np.exp(logits_MC) / np.exp(logits_MC).sum(axis=1, keepdims=True)
    folder = workdir.evaluation_dir(out_of_fold.fold_dir(run, fold), "val")
    folder.mkdir(parents=True)
    predictions.write_predictions(folder / "predictions_val.csv", table, probability_MC, classes)
    computed = metrics.compute(probability_MC, label_M, classes)
    (folder / "metrics.json").write_text(json.dumps(computed))
    out_of_fold.mark_done(run, fold, {"step": 10 + fold, "epoch": 2.0}, computed)


@pytest.fixture
def prepared_K(config: ConfigDict, tmp_path: Path) -> list[PreparedDataset]:
    """Three folds that are done, in `run`."""
    config.data.folds = 3
    prepared_K = folds.prepare(config)
    for fold, prepared in enumerate(prepared_K):
        predict(tmp_path / "run", fold, prepared)
    return prepared_K


def test_all_predictions_and_the_metrics_of_each_fold_are_written(
    prepared_K: list[PreparedDataset], tmp_path: Path
) -> None:
    computed = out_of_fold.write(tmp_path / "run", prepared_K, "made up")
    folder = tmp_path / "run" / "out_of_fold"
    assert json.loads((folder / "metrics.json").read_text()) == computed
    rows, probability_NC, label_N, classes = predictions.read_predictions(
        folder / "predictions_out_of_fold.csv"
    )
    assert len({row["image_id"] for row in rows}) == len(rows) == computed["num_examples"]
    assert metrics.compute(probability_NC, label_N, classes)["macro_f1"] == computed["macro_f1"]
    with (folder / "folds.csv").open(newline="") as file:
        table = {row["fold"]: row for row in csv.DictReader(file)}
    assert list(table) == ["0", "1", "2", "mean", "standard_deviation"]
    assert table["2"]["step"] == "12"
    for name in ("accuracy", "macro_roc_auc"):
        values = [float(table[str(fold)][name]) for fold in range(3)]
        assert float(table["mean"][name]) == pytest.approx(np.mean(values))
        assert float(table["standard_deviation"][name]) == pytest.approx(np.std(values, ddof=1))
    for fold in range(3):
        own_N = np.array([row["split"] == f"fold_{fold}" for row in rows])
        accuracy = np.mean(probability_NC[own_N].argmax(axis=1) == label_N[own_N])
        assert float(table[str(fold)]["accuracy"]) == pytest.approx(accuracy)
    page = (folder / "report.md").read_text()
    assert "## Folds" in page
    assert "all these figures are optimistic" in page
    assert "macro figures are over the classes that it has" in page
    assert f"| {float(table['mean']['accuracy']):.4f} |" in page


def test_a_metric_that_a_fold_lacks_has_no_mean() -> None:
    done_K = [{"metrics": {"accuracy": 0.5, "log_loss": value}} for value in (1.0, None)]
    assert out_of_fold.summary(done_K) == {
        "mean": {"accuracy": 0.5},
        "standard_deviation": {"accuracy": 0.0},
    }


def test_predictions_of_other_images_are_refused(
    prepared_K: list[PreparedDataset], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    folder = workdir.evaluation_dir(out_of_fold.fold_dir(run, 1), "val")
    path = folder / "predictions_val.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match=r"is not of the .* images and the classes of fold 1"):
        out_of_fold.write(run, prepared_K, "made up")
    assert not (run / "out_of_fold").exists()


def test_a_fold_is_done_as_long_as_its_own_evaluation_is_there(
    prepared_K: list[PreparedDataset], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert [out_of_fold.is_done(run, fold) for fold in range(4)] == [True, True, True, False]
    path = workdir.evaluation_dir(out_of_fold.fold_dir(run, 1), "val") / "metrics.json"
    path.write_text("{}")
    assert not out_of_fold.is_done(run, 1)
    path.unlink()
    assert not out_of_fold.is_done(run, 1)
