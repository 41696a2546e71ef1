"""The report on a trained model: page, model card and figures, from files alone."""

import argparse
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from skinjax import calibration, evaluation_files, logs, plots, report, threshold, unknown
from skinjax import config as config_lib
from skinjax.errors import InputError
from skinjax.predictions import COLUMNS
from skinjax.report import figures
from skinjax.verbs import report as verb

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
STEP = 7
_POINT = {
    **{"num_examples": 140, "num_positive": 60, "true_positives": 54, "false_negatives": 6},
    **{"true_negatives": 40, "false_positives": 40, "sensitivity": 0.9, "specificity": 0.5},
    **{"ppv": 0.57, "npv": None},
    "intervals": {"sensitivity": None, "specificity": [0.4, 0.6], "ppv": None, "npv": None},
}
_NASTY = "</td><script>alert(1)</script>|`*[x](y)"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Leaves out the seconds that figures take; gives back how they are drawn."""
    draw = figures.of_evaluation
    monkeypatch.setattr(report, "write_evaluation", lambda *arguments, **options: [])
    monkeypatch.setattr(figures, "png", lambda figure: b"png")
    monkeypatch.setattr(
        figures, "of_evaluation", lambda *_: dict.fromkeys(figures.TITLES, Figure())
    )
    return draw


def _table(seed, num_examples=140, site="back"):
    rng = np.random.default_rng(seed)
    label_N = np.arange(num_examples) % 7
    logits_NC = rng.normal(size=(num_examples, 7)) + 2 * np.eye(7)[label_N]
    probability_NC = np.exp(3 * logits_NC)
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"image_id": f"I{index}", "lesion_id": f"L{index // 2}", "age": 7.0 * (index % 12)}
        | {"sex": ("female", "male")[index // 2 % 2], "site": site, "label": CLASSES[label]}
        for index, label in enumerate(label_N)
    ]
    return rows, probability_NC / probability_NC.sum(axis=1, keepdims=True), label_N


def _write(folder, split, seed, fitted, *, step=STEP, num_resamples=0, extra=None, **options):
    """What `evaluate` leaves of a split."""
    rows, probability_NC, _ = _table(seed, **options)
    return evaluation_files.write(
        folder,
        split,
        rows,
        probability_NC,
        CLASSES,
        title="t",
        checkpoint=f"best: step {step}, epoch 2",
        split_counts={"train": [9] * 7, "val": [20] * 7, "test": [20] * 7},
        calibration=fitted,
        loss=0.5,
        num_resamples=num_resamples,
        extra=extra,
    )


def _workdir(workdir, num_resamples=0, **options):
    """A work directory as training, evaluating and a threshold leave it; metrics of test."""
    _, val_NC, val_N = _table(1)
    fitted = calibration.fit(val_NC, val_N)
    _write(workdir / "evaluation" / "val", "val", 1, fitted)
    options["num_resamples"] = num_resamples
    computed = _write(workdir / "evaluation" / "test", "test", 2, fitted, **options)
    calibration.save(workdir, STEP, fitted, CLASSES, len(val_N))
    config = config_lib.default_config()
    config.optimizer.learning_rate = 0.0125
    logs.write_text(workdir / "config.json", config_lib.to_json(config))
    (workdir / "history.csv").write_text("epoch,step,phase,train_loss\n1,4,0,2.5\n")
    start = {"started": "2026-01-02", "packages": {"jax": "9.9.9"}}
    logs.write_json(workdir / "versions.json", [start])
    return computed


class _Page(HTMLParser):
    """Tags, and the addresses that a browser would load."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.loaded = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "data")]
        self.loaded += [v for n, v in attrs if n == "href" and not v.startswith("#")]


def test_a_work_directory_gives_a_page_and_a_card(tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr(figures, "of_evaluation", undrawn)
    computed = _workdir(tmp_path, num_resamples=20)
    page, card, values = report.write_run(tmp_path, num_resamples=20)
    assert [path.name for path in (page, card, values)] == [
        *("report.html", "model_card.md", "report.json"),
    ]
    assert page.parent == tmp_path / "report"
    found = json.loads(values.read_text())["test"]
    assert found == {name: computed[name] for name in found}  # what evaluate had written
    text = card.read_text()
    low, high = computed["intervals"]["balanced_accuracy"]
    for line in (
        "# Model card: efficientnet_b0 on ham10000",
        f"{plots.DISCLAIMER} Not for clinical use.",
        f"- Balanced accuracy (mean recall): {computed['balanced_accuracy']:.3f} ({low:.3f}"
        f"\N{EN DASH}{high:.3f}), on 140 images of the split test",
        "| Checkpoint | best: step 7, epoch 2 |",
        "| Training started | 2026-01-02 |",
        "| Trained with | jax 9.9.9 |",
        "| mel | melanoma | yes |",
        "| optimizer.learning_rate | 0.0125 |",
        "| all | 63 | 140 | 140 |",
        f"Temperature scaling, fitted on validation images: temperature "
        f"{computed['calibrated']['temperature']:.4f} (above 1: the network was too sure of "
        "itself).",
        "Decision threshold: not available. The verb threshold chooses one.",
        "Abstaining: not available. The verb calibrate fits a score for unknown images.",
        "- No external test has been made.",
        "- Not assessed, for want of data: results by source.",
    ):
        assert line in text.splitlines(), line
    for words in (
        "of classes of about ten lesions have intervals that are too short",
        "A mean over classes of which one has a single lesion has no interval.",
        "A mean over classes of which one has fewer than 5 lesions in the group has no interval",
        "The maximum is that of a bin with few images: it has no interval.",
    ):
        assert words in text, words
    assert "CC BY-NC 4.0" in text
    assert "doi:10.1038/sdata.2018.161" in text
    assert "Split by lesion, stratified by class, 0.7 / 0.15 / 0.15 for train / val / test" in text
    parsed = _Page(page.read_text())
    assert "script" not in parsed.tags
    assert all(address.startswith("data:image/png;base64,") for address in parsed.loaded)
    assert len(parsed.loaded) == 9  # with the history


def test_predictions_alone_give_the_same_figures(tmp_path):
    computed = _workdir(tmp_path / "run", num_resamples=20)
    alone = tmp_path / "alone"
    alone.mkdir()
    for split in ("val", "test"):
        name = f"predictions_{split}.csv"
        table = (tmp_path / "run" / "evaluation" / split / name).read_bytes()
        (alone / name).write_bytes(table)
    page, card, values = report.write_predictions_report(alone, num_resamples=20)
    found = json.loads(values.read_text())["test"]
    assert found["calibrated"]["intervals"]
    assert found["subgroups"]["largest_gap"]["interval"]
    assert set(computed) - set(found) == {"split", "checkpoint", "split_counts", "loss"}
    assert found == {name: computed[name] for name in found}
    text = card.read_text()
    for line in (
        "# Model card: Predictions in alone",
        "| Checkpoint | not available |",
        "Data set, licence and authors: not available.",
        "Images of each split: not available.",
        "Training recipe: not available.",
        "- Whether there was an external test is not known here.",
        "Decision threshold: not available. The verb threshold chooses one.",
    ):
        assert line in text.splitlines(), line
    assert page.parent == alone / "report"


def test_without_validation_predictions_there_is_no_calibration(tmp_path):
    _write(tmp_path, "test", 2, None)
    _, card, values = report.write_predictions_report(tmp_path, num_resamples=0)
    assert json.loads(values.read_text())["test"]["calibrated"] is None
    assert "Calibration: not available." in card.read_text()
    _, _, values = report.write_predictions_report(tmp_path, num_resamples=0, output=tmp_path / "o")
    assert values == tmp_path / "o" / "report.json"


def test_after_vector_scaling_the_figures_are_said_to_be_of_the_raw_probabilities(tmp_path):
    _workdir(tmp_path / "run")
    _, val_NC, val_N = _table(1)
    fitted = calibration.fit(val_NC, val_N, "vector")
    calibration.save(tmp_path / "run", STEP, fitted, CLASSES, len(val_N))
    _, card, values = report.write_run(tmp_path / "run", num_resamples=20)
    found = json.loads(values.read_text())["test"]
    before, after = (
        f"{one['balanced_accuracy']:.3f} ({low:.3f}\N{EN DASH}{high:.3f})"
        for one in (found, found["calibrated"])
        for low, high in [one["intervals"]["balanced_accuracy"]]
    )
    said = (
        "These figures are of the uncalibrated probabilities, while predict, with vector scaling,"
        f" decides by the calibrated ones: balanced accuracy {before} uncalibrated, {after}"
        " calibrated"
    )
    assert before != after
    lines = card.read_text().splitlines()
    assert f"- {said}" in lines  # in the summary
    assert f"{said}." in lines  # under the metrics
    # Predictions alone give the same, with the validation table where evaluate puts it.
    folder = tmp_path / "run" / "evaluation" / "test"
    _run(
        *(f"--predictions={folder}", "--method=vector", f"--output={tmp_path / 'alone'}"),
        "--num_resamples=20",
    )
    alone = json.loads((tmp_path / "alone" / "report.json").read_text())["test"]
    assert alone == {name: found[name] for name in alone}
    assert set(found) - set(alone) == {"loss"}
    assert f"- {said}" in (tmp_path / "alone" / "model_card.md").read_text().splitlines()
    with pytest.raises(InputError, match="--method=vector is for --predictions"):
        _run(f"--workdir={tmp_path / 'run'}", "--method=vector")
    with pytest.raises(InputError, match="--method=isotonic is neither"):
        _run(f"--predictions={folder}", "--method=isotonic")


def test_temperature_scaling_leaves_the_decisions_and_so_nothing_is_said(tmp_path):
    _workdir(tmp_path)
    _, card, _ = report.write_run(tmp_path, num_resamples=0)
    assert "uncalibrated probabilities" not in card.read_text()


def test_augmented_predictions_have_their_own_calibration_and_no_threshold(tmp_path):
    _workdir(tmp_path)
    kept = calibration.load(tmp_path, STEP, CLASSES)
    chosen = threshold.Threshold(
        ("mel",), 0.25, {"sensitivity": 0.9}, kept.to_json(), _POINT, _POINT
    )
    threshold.save(tmp_path, STEP, chosen, CLASSES)
    own = calibration.Calibration("temperature", (0.5,) * 7, (0.0,) * 7)
    for split, seed in (("val_flips", 4), ("test_flips", 5)):
        folder = tmp_path / "evaluation" / split
        _write(folder, split, seed, own, extra={"test_time_augmentation": "flips"})
    page, card, values = report.write_run(tmp_path, split="test_flips", num_resamples=0)
    found = json.loads(values.read_text())
    assert list(found) == ["test_flips", "val_flips"]
    for one in found.values():
        assert one["calibrated"]["parameters"] == own.to_json()
    text = card.read_text()
    assert "with the same views (flips)" in text
    assert (
        "Decision threshold: not available. One that is kept with the checkpoint is for"
        " predictions of a single view." in text
    )
    assert "not of a test split" not in text
    assert "probability of mel is at least" not in page.read_text()
    _, card, _ = report.write_run(tmp_path, split="val", num_resamples=0)
    assert "not of a test split" in card.read_text()


def test_validation_predictions_of_another_checkpoint_are_not_used(tmp_path):
    _write(tmp_path / "evaluation" / "test", "test", 2, None)
    _write(tmp_path / "evaluation" / "val", "val", 1, None, step=STEP + 1)
    _, card, values = report.write_run(tmp_path, num_resamples=0)
    assert list(json.loads(values.read_text())) == ["test"]
    assert "There are no validation predictions of this checkpoint to fit one on." in (
        card.read_text()
    )
    _write(tmp_path / "evaluation" / "val", "val", 1, None)
    _, _, values = report.write_run(tmp_path, num_resamples=0)
    assert list(json.loads(values.read_text())) == ["test", "val"]


def test_what_was_fitted_and_other_tests_are_in_the_report(tmp_path, monkeypatch):
    _workdir(tmp_path)
    one = np.ones(1)
    known = unknown.Unknown("energy", {"energy": -2.5}, {}, one, one, one)
    monkeypatch.setattr(unknown, "load", lambda *arguments: known)
    fitted = calibration.load(tmp_path, STEP, CLASSES)
    chosen = threshold.Threshold(
        ("akiec", "bcc", "mel"), 0.25, {"sensitivity": 0.9}, fitted.to_json(), _POINT, None
    )
    threshold.save(tmp_path, STEP, chosen, CLASSES)
    external = _write(
        tmp_path / "evaluation" / "external_isic", "external_isic", 3, None, num_resamples=20
    )
    _write(tmp_path / "evaluation" / "val_flips", "val_flips", 1, None)
    page, card, _ = report.write_run(tmp_path, num_resamples=0)
    text = card.read_text()
    assert "val_flips" not in text
    assert "probability of akiec, bcc or mel is at least 0.2500." in text
    assert "score (method: energy) is above -2.5, as that of 5 % of the validation" in text
    assert "| At the threshold | validation, n=140, 60 positive |" in text
    assert "| Specificity | 0.500 (0.400\N{EN DASH}0.600) |" in text
    assert "| Negative predictive value | not available |" in text
    low, high = external["intervals"]["accuracy"]
    accuracy = f"{external['accuracy']:.3f} ({low:.3f}\N{EN DASH}{high:.3f})"
    assert f"| external_isic | 140 | {accuracy} |" in text
    assert "No external test has been made." not in text
    assert len(_Page(page.read_text()).loaded) == 10
    # One of another calibration is refused, not shown.
    calibration.save(tmp_path, STEP, calibration.identity(7), CLASSES, 140)
    with pytest.raises(InputError, match="another calibration"):
        report.write_run(tmp_path, num_resamples=0)


def test_texts_from_files_do_nothing_in_the_page_or_the_card(tmp_path):
    _workdir(tmp_path, site=_NASTY)
    config = config_lib.default_config()
    config.model.name = config.data.dataset = _NASTY
    logs.write_text(tmp_path / "config.json", config_lib.to_json(config))
    logs.write_json(tmp_path / "versions.json", [{"started": _NASTY, "packages": 3}])
    page, card, _ = report.write_run(tmp_path, num_resamples=0)
    assert "script" not in _Page(page.read_text()).tags
    text = card.read_text()
    assert not re.search(r"(?<!\\)<script", text)
    escaped = r"\</td\>\<script\>alert(1)\</script\>\|\`\*\[x\](y)"
    assert f"| {escaped} | 140 |" in text
    assert f"# Model card: {escaped} on {escaped}" in text


def test_what_does_not_belong_together_or_is_broken_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"predictions_test\.csv is missing"):
        report.write_predictions_report(tmp_path)
    with pytest.raises(InputError, match=r"metrics\.json is missing: run `skinjax evaluate`"):
        report.write_run(tmp_path)
    _write(tmp_path, "test", 2, None)
    head = (tmp_path / "predictions_test.csv").read_text()
    (tmp_path / "predictions_val.csv").write_text(head.replace("prob_mel", "prob_x", 1))
    with pytest.raises(InputError, match="predictions_val"):
        report.write_predictions_report(tmp_path)
    swapped = head.replace("prob_mel", "prob_x", 1).replace("prob_nv", "prob_mel", 1)
    (tmp_path / "predictions_val.csv").write_text(swapped.replace("prob_x", "prob_nv", 1))
    with pytest.raises(InputError, match="not of the same classes"):
        report.write_predictions_report(tmp_path)
    (tmp_path / "predictions_val.csv").write_text(head.splitlines()[0] + "\n")
    with pytest.raises(InputError, match="no predictions to fit"):
        report.write_predictions_report(tmp_path)
    _workdir(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json"):
        report.write_run(tmp_path)
    assert not (tmp_path / "report").exists()


def _run(*arguments):
    parser = argparse.ArgumentParser()
    verb.add_flags(parser)
    verb.run(*parser.parse_known_args(arguments))


def test_the_verb_writes_and_says_where(tmp_path, capsys):
    _write(tmp_path, "other", 2, None)
    _run(
        f"--predictions={tmp_path}", "--split=other", "--num_resamples=0", f"--output={tmp_path}/o"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"written: {tmp_path}/o/report.html"
    assert lines[-1] == plots.DISCLAIMER
    assert "Intervals were not computed." in (tmp_path / "o" / "report.html").read_text()
    with pytest.raises(InputError, match="--num_resamples=-1: expected 0"):
        _run(f"--predictions={tmp_path}", "--num_resamples=-1")
    with pytest.raises(InputError, match="report does not know --splt"):
        _run(f"--workdir={tmp_path}", "--splt=val")
    with pytest.raises(SystemExit):
        _run(f"--workdir={tmp_path}", f"--predictions={tmp_path}")
