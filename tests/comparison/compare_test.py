"""Runs side by side: what is read, what is refused, and what is found."""

import argparse
import dataclasses
import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from skinjax import comparison, logs, metrics, predictions
from skinjax.comparison import runs as runs_lib
from skinjax.errors import InputError
from skinjax.metrics import paired
from skinjax.verbs import compare as verb

CLASSES = ("bkl", "mel", "nv")
NUM_IMAGES = 90


def _write_run(
    path: Path, seed: int, *, skill: float = 1.0, classes=CLASSES, order=None, **settings
) -> Path:
    """A work directory as `evaluate` leaves it."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(NUM_IMAGES) % 3
    logits_NC = rng.normal(size=(NUM_IMAGES, 3)) + skill * np.eye(3)[label_N]
    probability_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    rows = [
        {
            **{"image_id": f"i{index}", "lesion_id": f"l{index // 6}_{index % 3}", "age": None},
            **{"split": "test", "sex": "", "site": "", "source": "s", "label": CLASSES[label]},
        }
        for index, label in enumerate(label_N)
    ]
    order = np.arange(NUM_IMAGES) if order is None else order
    columns = [CLASSES.index(name) for name in classes]
    directory = path / "evaluation" / "test"
    directory.mkdir(parents=True)
    table_NC = probability_NC[order][:, columns]
    predictions.write_predictions(
        directory / "predictions_test.csv", [rows[index] for index in order], table_NC, classes
    )
    label_of = [classes.index(rows[index]["label"]) for index in order]
    computed = metrics.compute(table_NC, np.array(label_of), classes)
    logs.write_json(directory / "metrics.json", {"checkpoint": "best: step 9", **computed})
    config = {"seed": seed, "data": {"fold": 0, "raw_dir": f"/data/{seed}"}} | settings
    logs.write_json(path / "config.json", config)
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Four runs, of which the second and third differ only in the seed."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [_write_run(folder / "first", 0, skill=0.5, epochs=1)]
    paths += [_write_run(folder / f"good{seed}", seed, skill=3.0, epochs=9) for seed in (1, 2)]
    order = np.random.default_rng(0).permutation(NUM_IMAGES)
    paths += [_write_run(folder / "last", 0, skill=0.5, classes=CLASSES[::-1], order=order)]
    runs = runs_lib.read(paths, "test")
    return runs, comparison.compare(runs, num_resamples=200)


def test_metrics_and_intervals_are_those_of_each_table(compared):
    runs, result = compared
    lesion_N = [row["lesion_id"] for row in runs[0].rows]
    assert [run["name"] for run in result["runs"]] == ["first", "good1", "good2", "last"]
    assert (result["num_examples"], result["num_lesions"]) == (90, 45)
    for run, found in zip(runs, result["runs"], strict=True):
        table = (run.probability_NC, run.label_N, CLASSES)
        assert found["metrics"] == metrics.compute(*table)
        expected = metrics.bootstrap.intervals(*table, lesion_N, num_resamples=200)
        assert found["intervals"] == expected
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_other_order_of_images_and_classes_is_no_difference(compared):
    runs, result = compared
    assert runs[3].rows == runs[0].rows
    last = result["tests"][2]
    assert last["run"] == "last"
    assert last["mcnemar"] == {"only_run": 0, "only_first": 0, "p": 1.0}
    for name in ("accuracy", "macro_roc_auc", "log_loss"):
        assert last["differences"][name]["difference"] == pytest.approx(0, abs=1e-12)
    assert {found["p"] for found in last["delong"].values()} == {None}


def test_better_run_is_found_better_by_every_test(compared):
    _, result = compared
    test = result["tests"][0]
    assert (test["run"], test["against"]) == ("good1", "first")
    accuracy = test["differences"]["accuracy"]
    values = [run["metrics"]["accuracy"] for run in result["runs"]]
    assert accuracy["difference"] == pytest.approx(values[1] - values[0])
    assert 0 < accuracy["low"] < accuracy["difference"] < accuracy["high"]
    assert accuracy["p"] < 0.01
    assert test["mcnemar"]["only_run"] > test["mcnemar"]["only_first"]
    assert test["mcnemar"]["p"] < 0.01
    assert test["differences"]["log_loss"]["high"] < 0
    recalls = [run["metrics"]["per_class"]["mel"]["recall"] for run in result["runs"]]
    assert test["recall"]["mel"]["difference"] == pytest.approx(recalls[1] - recalls[0])
    areas = [run["metrics"]["per_class"]["mel"]["roc_auc"] for run in result["runs"]]
    found = test["delong"]["mel"]
    assert found["roc_auc"] == pytest.approx(areas[1])
    assert found["difference"] == pytest.approx(areas[1] - areas[0])
    assert found["p"] < 0.01


def test_areas_and_swapped_hits_are_tested_by_lesion(compared):
    runs, result = compared
    lesion_N = [row["lesion_id"] for row in runs[0].rows]
    score_2N = [run.probability_NC[:, 1] for run in (runs[1], runs[0])]
    found = result["tests"][0]["delong"]["mel"]
    by_lesion = paired.delong(*score_2N, runs[0].label_N == 1, lesion_N)
    assert found["standard_error"] == by_lesion.standard_error
    assert found["standard_error"] != paired.delong(*score_2N, runs[0].label_N == 1).standard_error
    tables = (runs[1].probability_NC, runs[0].probability_NC, runs[0].label_N)
    least, test = paired.exchange(*tables, lesion_N), result["tests"][0]
    assert test["recall"]["nv"]["p"] >= least["per_class.recall"][2]
    assert test["differences"]["accuracy"]["p"] >= least["accuracy"]
    assert test["differences"]["maximum_calibration_error"] is None


def test_three_lesions_of_two_images_each_are_three_cases(compared):
    first = compared[0][0]
    right_NC = np.eye(3)[first.label_N]
    wrong_NC = right_NC.copy()
    lesion_N = [row["lesion_id"] for row in first.rows]
    of_three_N = np.isin(lesion_N, ["l0_0", "l1_0", "l2_0"])
    assert of_three_N.sum() == 6
    wrong_NC[of_three_N] = np.roll(right_NC[of_three_N], 1, axis=1)
    runs = [
        dataclasses.replace(first, name=name, probability_NC=table_NC)
        for name, table_NC in (("right", right_NC), ("wrong", wrong_NC))
    ]
    (test,) = comparison.compare(runs, num_resamples=100)["tests"]
    assert test["differences"]["accuracy"]["p"] == 0.25
    assert test["differences"]["balanced_accuracy"]["p"] == 0.25
    assert test["recall"]["bkl"]["p"] == 0.25
    assert test["recall"]["mel"]["p"] == 1
    assert test["mcnemar"]["p"] == 2 / 64


def test_lossless_encodings_are_one_setting_and_jpeg_is_another(tmp_path):
    encodings = ("raw", "png", "jpeg")
    paths = [
        _write_run(tmp_path / name, seed, data={"encoding": name})
        for seed, name in enumerate(encodings)
    ]
    runs = runs_lib.read(paths, "test")
    assert runs_lib.seed_groups(runs) == [[0, 1]]
    assert runs_lib.differences(runs)["data.encoding"] == ["raw", "raw", "jpeg"]


def test_a_table_of_predictions_alone_will_do(tmp_path):
    paths = [_write_run(tmp_path / name, seed) for seed, name in enumerate(("a", "b"))]
    alone = tmp_path / "alone"
    alone.mkdir()
    (paths[1] / "evaluation/test/predictions_test.csv").rename(alone / "predictions_test.csv")
    runs = runs_lib.read([paths[0], alone], "test")
    assert [run.checkpoint for run in runs] == ["best: step 9", ""]
    assert runs[1].settings is None
    # A work directory's metrics.json tells which checkpoint it is, so it has to be there.
    (paths[0] / "evaluation/test/metrics.json").unlink()
    with pytest.raises(InputError, match=r"metrics\.json is missing"):
        runs_lib.read([paths[0], alone], "test")


@pytest.mark.parametrize(
    ("split", "flags"),
    [("test_flips", "--split=test --tta=flips"), ("external_flips", "--split=external_flips")],
)
def test_what_to_run_is_said_in_flags_that_there_are(tmp_path, split, flags):
    paths = [_write_run(tmp_path / name, seed) for seed, name in enumerate(("a", "b"))]
    with pytest.raises(InputError, match=f"evaluate --workdir={paths[0]} {flags}` first"):
        runs_lib.read(paths, split)


def test_runs_that_differ_only_in_the_seed_are_grouped(compared):
    _, result = compared
    (group,) = result["seed_groups"]
    assert (group["runs"], group["seeds"]) == (["good1", "good2"], [1, 2])
    values = [run["metrics"]["macro_f1"] for run in result["runs"][1:3]]
    assert group["metrics"]["macro_f1"] == {
        "mean": pytest.approx(statistics.fmean(values)),
        "standard_deviation": pytest.approx(statistics.stdev(values)),
        "lowest": min(values),
        "highest": max(values),
    }
    assert group["metrics"]["roc_auc"] is None
    # Where the data lie is no difference; the number of epochs is.
    assert result["settings"] == {"epochs": [1, 9, 9, None], "seed": [0, 1, 2, 0]}


def _card(result, folder):
    return comparison.write(result, "test", folder / "card")[1].read_text()


def test_page_is_whole_and_safe(compared, tmp_path):
    _, result = compared
    # Without the areas of the run that is the first's twin, and calibration's maximum.
    assert f"p-values of this page, {3 * (16 + 3 + 3 + 1) - 3}, are" in _card(result, tmp_path)
    result = {**result, "runs": [dict(run) for run in result["runs"]]}
    result["runs"][0]["checkpoint"] = "<script>alert(1)</script>"
    paths = comparison.write(result, "test", tmp_path / "new" / "folder")
    page, card, figures, plot = (path.read_bytes() for path in paths)
    assert b"<script>" not in page + card
    for text in (page.decode(), card.decode()):
        assert "For research and education, not for diagnosis." in text
        assert "Differences to first" in text
        assert "group 1" in text
        assert "All figures are of the probabilities before calibration" in text
        assert "a test that swaps the models lesion by lesion" in text
        assert "Brier score and log loss are better below 0" in text
        value = result["runs"][1]["metrics"]["balanced_accuracy"]
        assert f"{value:.3f} (" in text
    assert not re.search(rb'(src|href)="(?!data:|#)', page)
    assert plot.startswith(b"\x89PNG")
    assert json.loads(figures)["runs"][1] == result["runs"][1]


def test_verb_writes_the_page(compared, tmp_path, capsys):
    runs, _ = compared
    parser = argparse.ArgumentParser()
    verb.add_flags(parser)
    # The folder of an evaluation will do for a run; then its settings are not known.
    paths = [str(runs[0].directory), str(runs[1].directory.parent.parent)]
    flags = [f"--output={tmp_path / 'out'}", "--num_resamples=100"]
    verb.run(parser.parse_args([*paths, *flags]), [])
    out = capsys.readouterr().out
    assert "good1: balanced accuracy 0." in out
    assert "not for diagnosis" in out
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [run["seed"] for run in found["runs"]] == [None, 1]
    assert found["settings"] == {}
    with pytest.raises(InputError, match="num_resamples=3: expected 100"):
        verb.run(parser.parse_args([*paths, "--num_resamples=3"]), [])


def _break_csv(path):
    text = (path / "evaluation/test/predictions_test.csv").read_text()
    (path / "evaluation/test/predictions_test.csv").write_text(text.replace("i7,", "j7,", 1))


def _repeat_image(path):
    text = (path / "evaluation/test/predictions_test.csv").read_text()
    (path / "evaluation/test/predictions_test.csv").write_text(text.replace("i6,", "i3,", 1))


def _other_label(path):
    file = path / "evaluation/test/predictions_test.csv"
    rows, probability_NC, label_N, classes = predictions.read_predictions(file)
    rows[4]["label"], label_N[4] = "nv", 2
    predictions.write_predictions(file, rows, probability_NC, classes)
    logs.write_json(file.parent / "metrics.json", metrics.compute(probability_NC, label_N, classes))


def _other_metrics(path):
    file = path / "evaluation/test/metrics.json"
    logs.write_json(file, json.loads(file.read_text()) | {"confusion_matrix": [[1]]})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_break_csv, "90 images and first on 90, of which 89 are the same"),
        (_repeat_image, "predictions of one image twice"),
        (_other_label, "image i4 is nv in spoiled and mel in first"),
        (_other_metrics, "are not of the same evaluation"),
        (lambda path: (path / "config.json").write_text("[" * 10**6), "not readable as JSON"),
        (lambda path: (path / "config.json").write_text("[]"), "no JSON object"),
        (lambda path: (path / "evaluation/test/metrics.json").unlink(), "metrics.json is missing"),
        (
            lambda path: (path / "evaluation/test/predictions_test.csv").unlink(),
            "has no predictions_test.csv.*--split=test",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, spoil, message):
    paths = [_write_run(tmp_path / name, seed) for seed, name in enumerate(("first", "spoiled"))]
    spoil(paths[1])
    with pytest.raises(InputError, match=message):
        runs_lib.read(paths, "test")


def test_too_few_runs_or_other_classes_are_refused(tmp_path):
    first = _write_run(tmp_path / "a" / "run", 0)
    second = _write_run(tmp_path / "b" / "run", 1)
    assert [run.name for run in runs_lib.read([first, second], "test")] == ["a/run", "b/run"]
    with pytest.raises(InputError, match="two runs or more"):
        runs_lib.read([first], "test")
    with pytest.raises(InputError, match="named twice"):
        runs_lib.read([first, tmp_path / "a" / ".." / "a" / "run"], "test")
    with pytest.raises(InputError, match="is no folder"):
        runs_lib.read([first, tmp_path / "none"], "test")
    file = second / "evaluation/test/predictions_test.csv"
    rows, probability_NC, label_N, _ = predictions.read_predictions(file)
    rows = [row | {"label": row["label"].replace("nv", "nevus")} for row in rows]
    classes = ("bkl", "mel", "nevus")
    predictions.write_predictions(file, rows, probability_NC, classes)
    logs.write_json(file.parent / "metrics.json", metrics.compute(probability_NC, label_N, classes))
    with pytest.raises(InputError, match="classes bkl, mel, nevus, and a/run bkl, mel, nv"):
        runs_lib.read([first, second], "test")
