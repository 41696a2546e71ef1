"""The report's files and figures."""

import json

import numpy as np
import pytest
from sklearn.metrics import classification_report

from skinjax import assessment, calibration, logs, metrics, plots, report
from skinjax.errors import InputError
from skinjax.plots import subgroups as subgroup_plots
from skinjax.predictions import COLUMNS, write_predictions

CLASSES = ("akiec", "bcc", "pigmented benign keratosis")
LONG = (
    *("actinic keratosis", "basal cell carcinoma", "dermatofibroma", "melanoma", "nevus"),
    *("pigmented benign keratosis", "seborrheic keratosis", "squamous cell carcinoma"),
    "vascular lesion",
)
TITLE = "a title that is far too long to stand on one line of a figure " * 2


def _table(support_C):
    """Probabilities and labels with the given number of examples of each class."""
    rng = np.random.default_rng(0)
    label_N = np.repeat(np.arange(len(support_C)), support_C)
    probability_NC = np.exp(rng.normal(size=(len(label_N), len(support_C))))
    probability_NC[np.arange(len(label_N)), label_N] *= 3
    return probability_NC / probability_NC.sum(1, keepdims=True), label_N


def _evaluate(directory, support_C, classes=CLASSES, calibration=None, num_resamples=0, **extra):
    """Writes what `evaluate` writes, and returns the assessment."""
    probability_NC, label_N = _table(support_C)
    rows = [
        dict.fromkeys(COLUMNS, "x")
        | {"age": 7.0 * i, "sex": ("male", "")[i % 2], "site": "", "lesion_id": f"L{i}"}
        | {"image_id": f"I{i}"}
        | {"label": classes[label]}
        for i, label in enumerate(label_N)
    ]
    write_predictions(directory / "predictions_val.csv", rows, probability_NC, classes)
    result = assessment.assess(
        rows, probability_NC, label_N, classes, calibration=calibration, num_resamples=num_resamples
    )
    logs.write_json(directory / "metrics.json", result | {"split": "val"} | extra)
    return result


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves out the seconds that it takes to turn figures into pixels."""
    monkeypatch.setattr("skinjax.report.figures.png", lambda figure: b"")


def _texts(figure):
    """Every text of a figure that is not empty."""
    figure.draw_without_rendering()
    artists = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [artist.get_text() for artist in artists if artist.get_text()]


def test_write_evaluation_writes_every_file(tmp_path):
    result = _evaluate(
        tmp_path,
        (8, 5, 3),
        calibration=calibration.Calibration("temperature", (0.5,) * 3, (0.0,) * 3),
        num_resamples=50,
        checkpoint="best: step 120, epoch 4",
        split_counts={"train": [80, 50, 30], "val": [8, 5, 3]},
        loss=0.75,
    )
    written = report.write_evaluation(tmp_path, title="HAM10000, tiny", note="a note")
    assert sorted(p.name for p in written) == [
        *("class_distribution.png", "classification_report.txt", "confusion_matrix.png"),
        *("confusion_matrix_counts.png", "per_class.png", "pr_curves.png", "reliability.png"),
        *("report.md", "roc_curves.png", "subgroups.png"),
    ]
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.md").read_text()
    assert page.startswith("# HAM10000, tiny\n")
    low, high = result["intervals"]["balanced_accuracy"]
    after = result["calibrated"]
    before_low, before_high = result["intervals"]["log_loss"]
    after_low, after_high = after["intervals"]["log_loss"]
    male = result["subgroups"]["columns"]["sex"]["groups"]["male"]
    for line in (
        plots.DISCLAIMER,
        "- Split: val, n=16",
        "- Checkpoint: best: step 120, epoch 4",
        "- A note",
        f"| Balanced accuracy (mean recall) | {result['balanced_accuracy']:.4f} "
        f"| {low:.3f} to {high:.3f} |",
        "| Loss (training objective) | 0.7500 | not available |",
        f"| Log loss (nats) | {result['log_loss']:.3f} ({before_low:.3f}\N{EN DASH}"
        f"{before_high:.3f}) | {after['log_loss']:.3f} ({after_low:.3f}\N{EN DASH}"
        f"{after_high:.3f}) |",
        "Temperature scaling, fitted on validation images: temperature 2.0000 (above 1: the "
        "network was too sure of itself).",
        f"| male | 8 | 8 | {male['num_malignant']} | {male['accuracy']:.3f} "
        f"| {male['balanced_accuracy']:.3f} | {male['macro_roc_auc']:.3f} | not available | none |",
        "Body site: not available, the predictions have no site.",
    ):
        assert line in page.splitlines()
    scores, bounds = result["per_class"]["bcc"], result["intervals"]["per_class"]["bcc"]
    cells = [
        f"{scores[name]:.3f} ({bounds[name][0]:.3f}\N{EN DASH}{bounds[name][1]:.3f})"
        for name in ("recall", "specificity", "precision", "f1")
    ]
    assert f"| bcc | 5 | {' | '.join(cells)} |" in page
    links = {line.split("](")[1].rstrip(")") for line in page.splitlines() if line[:2] == "!["}
    assert links == {p.name for p in written if p.suffix == ".png"}


def test_an_older_metrics_json_gives_the_figures_without_intervals(tmp_path, undrawn):
    result = _evaluate(tmp_path, (8, 5, 3))
    older = metrics.compute(*_table((8, 5, 3)), CLASSES) | {"split": "val"}
    logs.write_json(tmp_path / "metrics.json", older)
    report.write_evaluation(tmp_path, title="t")
    page = (tmp_path / "report.md").read_text()
    assert f"| Accuracy | {result['accuracy']:.4f} | not available |" in page
    assert "Intervals were not computed." in page
    assert "Calibration: not available." in page


def test_figures_are_of_the_predictions_whatever_metrics_json_says(tmp_path, undrawn):
    result = _evaluate(tmp_path, (8, 5, 3), num_resamples=20)
    changed = result | {"accuracy": "<b>1</b>", "split": "val", "loss": "x", "checkpoint": 3}
    changed["intervals"] = result["intervals"] | {"accuracy": ["a", 1], "macro_f1": [0, 1e999]}
    changed["subgroups"] = {"columns": {"sex": [], "age": {"groups": 7}}}
    changed["split_counts"] = {"train": [1, 2]}
    (tmp_path / "metrics.json").write_text(json.dumps(changed))
    report.write_evaluation(tmp_path, title="t")
    page = (tmp_path / "report.md").read_text()
    assert f"| Accuracy | {result['accuracy']:.4f} | not available |" in page
    assert f"| Macro F1 | {result['macro_f1']:.4f} | not available |" in page
    assert "<b>" not in page
    assert "- Checkpoint: not stated" in page


def test_classification_report_is_scikit_learns(tmp_path, undrawn):
    _evaluate(tmp_path, (8, 5, 3))
    report.write_evaluation(tmp_path, title="t")
    probability_NC, label_N = _table((8, 5, 3))
    expected = classification_report(
        label_N, probability_NC.argmax(1), target_names=list(CLASSES), digits=4
    )
    text = (tmp_path / "classification_report.txt").read_text()
    assert expected.rstrip() in text
    assert "checkpoint: not stated" in text
    assert plots.DISCLAIMER in text


def test_absent_class_is_not_available(tmp_path, undrawn):
    _evaluate(tmp_path, (8, 0, 3))
    report.write_evaluation(tmp_path, title="t")
    assert f"| bcc | 0 |{' not available |' * 4}" in (tmp_path / "report.md").read_text()
    text = (tmp_path / "classification_report.txt").read_text()
    assert "No examples of: bcc." in text


@pytest.mark.parametrize("support_C", [(0, 4, 0), (1, 1, 1)])
def test_hardly_any_examples_do_no_harm(tmp_path, undrawn, support_C):
    _evaluate(tmp_path, support_C, num_resamples=20)
    assert len(report.write_evaluation(tmp_path, title="t")) == 10


def test_binary_report(tmp_path, undrawn):
    _evaluate(tmp_path, (9, 4), ("benign", "malignant"))
    report.write_evaluation(tmp_path, title="t")
    page = (tmp_path / "report.md").read_text()
    assert "| Top-2 accuracy | not available |" in page
    assert "| ROC-AUC (of the second class) | 0." in page


def test_missing_broken_and_mismatched_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json is missing: run `skinjax evaluate`"):
        report.write_evaluation(tmp_path, title="t")
    (tmp_path / "metrics.json").write_text('{"split"')
    with pytest.raises(InputError, match="is no JSON"):
        report.write_evaluation(tmp_path, title="t")
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(InputError, match="lacks split, per_class"):
        report.write_evaluation(tmp_path, title="t")
    (tmp_path / "metrics.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="is no JSON"):
        report.write_evaluation(tmp_path, title="t")
    _evaluate(tmp_path, (8, 5, 3), split="../val")
    with pytest.raises(InputError, match=r"split is '\.\./val', no name"):
        report.write_evaluation(tmp_path, title="t")
    broken = {"method": "temperature", "parameters": {"method": "os.system"}}
    _evaluate(tmp_path, (8, 5, 3), calibrated=broken)
    with pytest.raises(InputError, match=r"metrics\.json: a calibration has method, scale"):
        report.write_evaluation(tmp_path, title="t")
    result = _evaluate(tmp_path, (8, 5, 3))
    logs.write_json(tmp_path / "metrics.json", result | {"split": "test"})
    with pytest.raises(InputError, match=r"predictions_test\.csv is missing"):
        report.write_evaluation(tmp_path, title="t")
    result["confusion_matrix"][0][0] += 1
    logs.write_json(tmp_path / "metrics.json", result | {"split": "val"})
    with pytest.raises(InputError, match="not of the same evaluation"):
        report.write_evaluation(tmp_path, title="t")
    _evaluate(tmp_path, (0, 0, 0))
    with pytest.raises(InputError, match="no rows"):
        report.write_evaluation(tmp_path, title="t")
    assert not list(tmp_path.glob("*.png"))


def _every_figure(support_C, classes, caption):
    probability_NC, label_N = _table(support_C)
    result = metrics.compute(probability_NC, label_N, classes)
    confusion_CC = np.array(result["confusion_matrix"])
    table = (probability_NC, label_N, classes)
    column = {"epoch": np.arange(1.0, 4), "train_loss": np.arange(3.0)}
    group = {"accuracy": 0.5, "auc": None, "num_examples": 30, "intervals": {"accuracy": [0.4, 1]}}
    groups = {"Age": {"0-29": group}, "Site": {"x" * 99: group | {"intervals": None}}}
    forest = subgroup_plots.forest(
        groups,
        {"accuracy": 0.6, "auc": None},
        {"accuracy": "Accuracy", "auc": "AUC"},
        minimum=20,
        caption=caption,
    )
    return {
        "subgroups": forest,
        "shares": plots.confusion_matrix(confusion_CC, classes, caption=caption, normalise=True),
        "counts": plots.confusion_matrix(confusion_CC, classes, caption=caption, normalise=False),
        "roc": plots.roc_curves(*table, caption=caption),
        "pr": plots.pr_curves(*table, caption=caption),
        "bars": plots.per_class_bars(result["per_class"], caption=caption),
        "classes": plots.class_distribution({"test": support_C}, classes, caption=caption),
        "history": plots.history(column, ["all"] * 3, caption=caption),
    }


def test_every_figure_states_caption_and_disclaimer_and_nothing_covers_them():
    figures = _every_figure((5, 4, 3, 4, 6, 3, 2, 0, 2), LONG, f"{TITLE}\nsplit: test, n=29")
    for name, figure in figures.items():
        texts = _texts(figure)
        assert plots.DISCLAIMER in texts, name
        assert any("split: test, n=29" in text for text in texts), name
        title = figure.get_suptitle()
        caption = next(t for t in figure.texts if t.get_text() == title).get_window_extent()
        assert caption.x0 >= 0, name
        assert caption.x1 <= figure.bbox.width, name
        for axes in figure.axes:
            assert not caption.overlaps(axes.get_window_extent()), name
            if axes.get_legend():
                assert not caption.overlaps(axes.get_legend().get_window_extent()), name


def test_every_figure_names_the_absent_class_as_not_available():
    figures = _every_figure((5, 0, 3), CLASSES, "c")
    for name in ("shares", "counts", "bars", "subgroups"):
        assert "not available" in _texts(figures[name]), name
    for name in ("roc", "pr"):
        assert "bcc (n=0): not available" in _texts(figures[name]), name


def test_confusion_matrix_shows_shares_of_the_row_and_counts():
    confusion_CC = np.array([[3, 1], [0, 6]])
    options = {"classes": ("a", "b"), "caption": "c"}
    texts = _texts(plots.confusion_matrix(confusion_CC, **options, normalise=True))
    assert {"0.75\n(3)", "0.25\n(1)", "0.00\n(0)", "1.00\n(6)", "a (n=4)", "b (n=6)"} <= set(texts)
    texts = _texts(plots.confusion_matrix(confusion_CC, **options, normalise=False))
    assert {"3", "1", "0", "6"} <= set(texts)


def test_curves_enclose_the_areas_that_their_legends_state():
    probability_NC, label_N = _table((30, 20, 10))
    probability_NC = np.round(probability_NC, 1)  # ties
    for index in range(3):
        points = metrics.curve(probability_NC[:, index], label_N == index)
        assert points is not None
        line = plots.roc_curves(probability_NC, label_N, CLASSES, caption="c").axes[0].lines[index]
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(points.roc_auc())
        assert f"AUC {points.roc_auc():.3f}" in line.get_label()
        axes = plots.pr_curves(probability_NC, label_N, CLASSES, caption="c").axes[0]
        line, chance = axes.lines[2 * index : 2 * index + 2]
        area = np.sum(np.diff(line.get_xdata()) * line.get_ydata()[1:])
        assert area == pytest.approx(points.average_precision())
        assert line.get_drawstyle() == "steps-pre"
        assert f"AP {points.average_precision():.3f}" in line.get_label()
        assert chance.get_ydata()[0] == pytest.approx(np.mean(label_N == index))


def test_class_distribution_has_a_panel_per_split():
    counts = {"train": (40, 9, 1), "val": (4, 1, 0), "test": (5, 1, 1)}
    figure = plots.class_distribution(counts, CLASSES, caption="c")
    assert [axes.get_title() for axes in figure.axes] == [
        *("train (n=50)", "val (n=5)", "test (n=7)")
    ]
    for axes, count_C in zip(figure.axes, counts.values(), strict=True):
        assert [bar.get_width() for bar in axes.patches] == list(count_C)
    assert " 40 (80.0%)" in _texts(figure)


def _write_history(directory, rows):
    names = [f"{split}_{name}" for split in ("train", "val") for name in ("loss", "accuracy")]
    log = logs.CsvLog(directory / "history.csv", ["epoch", "step", "phase", *names])
    for row in rows:
        log.append(row)
    log.close()


def _captured(monkeypatch):
    """The figures that `write_history` draws, as they are drawn."""
    figures = []

    def draw(*arguments, **options):
        figures.append(original(*arguments, **options))
        return figures[-1]

    original = plots.history
    monkeypatch.setattr(plots, "history", draw)
    return figures


def test_history_draws_both_splits_and_the_phase_boundaries(tmp_path, monkeypatch):
    figures = _captured(monkeypatch)
    loss = [1.5, 1.0, 0.75, 0.5]
    rows = [
        {"epoch": i + 1, "step": 10 * i, "phase": ["head", "all"][i > 1], "train_loss": loss[i]}
        for i in range(4)
    ]
    rows[1]["val_loss"], rows[3]["val_loss"] = 2.0, 1.75
    _write_history(tmp_path, rows)
    assert report.write_history(tmp_path) == tmp_path / "history.png"
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    train, validation, boundary = figures[0].axes[0].lines
    assert train.get_xdata().tolist() == [1, 2, 3, 4]
    assert train.get_ydata().tolist() == loss
    drawn = np.array([validation.get_xdata(), validation.get_ydata()])
    np.testing.assert_array_equal(drawn[:, np.isfinite(drawn[1])], [[2, 4], [2.0, 1.75]])
    assert boundary.get_xdata() == [2.5, 2.5]
    caption = figures[0].get_suptitle()
    assert "training and validation, 4 epochs, phases: head, all" in caption


def test_history_of_one_epoch_is_points_and_no_panel_is_empty(tmp_path, monkeypatch):
    figures = _captured(monkeypatch)
    _write_history(tmp_path, [{"epoch": 1, "step": 5, "phase": "all", "train_loss": 2.0}])
    report.write_history(tmp_path)
    (line,) = figures[0].axes[0].lines
    assert line.get_marker() == "o"
    for axes in figures[0].axes:
        shown = [text.get_text() for text in axes.texts]
        assert bool(axes.lines) != (shown == ["not available"])
    assert "1 epoch" in figures[0].get_suptitle()
    assert "validation" not in figures[0].get_suptitle()


def test_history_validated_every_other_epoch_is_one_line(tmp_path, monkeypatch):
    figures = _captured(monkeypatch)
    rows = [{"epoch": i, "step": i, "train_loss": 1.0} for i in range(1, 42)]
    for row in rows[::2]:
        row["val_loss"] = 2.0
    _write_history(tmp_path, rows)
    report.write_history(tmp_path)
    assert np.isfinite(figures[0].axes[0].lines[1].get_ydata()).all()


def test_history_without_rows_draws_nothing(tmp_path):
    _write_history(tmp_path, [])
    assert report.write_history(tmp_path) is None
    assert not (tmp_path / "history.png").exists()


def test_bad_histories_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"history\.csv is missing"):
        report.write_history(tmp_path)
    (tmp_path / "history.csv").write_text("step,train_loss\n1,2\n")
    with pytest.raises(InputError, match="no column epoch"):
        report.write_history(tmp_path)
    (tmp_path / "history.csv").write_text("epoch,train_loss\n1,big\n")
    with pytest.raises(InputError, match="train_loss is 'big', expected a number"):
        report.write_history(tmp_path)
