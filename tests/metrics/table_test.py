"""The metrics of a table, against hand computations and scikit-learn."""

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from skinjax import metrics
from skinjax.errors import InputError

PER_CLASS = ("precision", "recall", "f1", "specificity", "roc_auc", "pr_auc", "partial_roc_auc")
PER_CLASS += ("sensitivity_at_90_specificity", "specificity_at_90_sensitivity")
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def _table(seed: int, num_examples: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know something of the labels; every class has an example."""
    rng = np.random.default_rng(seed)
    label_N = np.concatenate(
        [np.arange(num_classes), rng.integers(num_classes, size=num_examples - num_classes)]
    )
    logits_NC = rng.normal(size=(num_examples, num_classes)) + np.eye(num_classes)[label_N]
    probability_NC = np.exp(logits_NC)
    return probability_NC / probability_NC.sum(1, keepdims=True), label_N


@st.composite
def _tied_tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Tables of few distinct values, so that scores tie; classes may be absent."""
    num_classes = draw(st.integers(2, 5))
    num_examples = draw(st.integers(1, 30))
    row = st.lists(st.integers(0, 4), min_size=num_classes, max_size=num_classes).filter(any)
    weight_NC = np.array(draw(st.lists(row, min_size=num_examples, max_size=num_examples)))
    labels = st.lists(st.integers(0, num_classes - 1), min_size=num_examples, max_size=num_examples)
    return weight_NC / weight_NC.sum(1, keepdims=True), np.array(draw(labels))


def test_hand_computed_table():
    probability_NC = np.array(
        [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]
    )
    result = metrics.compute(probability_NC, np.array([0, 0, 1, 1, 2]), ("a", "b", "c"))
    assert result["confusion_matrix"] == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert result["num_examples"] == 5
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["balanced_accuracy"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert result["top_2_accuracy"] == 1.0
    # Class a: scores .7 .4 (positive) against .1 .6 .1: 5 of 6 pairs in order.
    assert result["per_class"]["a"]["roc_auc"] == pytest.approx(5 / 6)
    # In order of score: hit (precision 1, recall 1/2), miss, hit (precision 2/3, recall 1).
    assert result["per_class"]["a"]["pr_auc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    expected = -np.mean(np.log([0.7, 0.4, 0.8, 0.3, 0.6]))
    assert result["log_loss"] == pytest.approx(expected)
    assert result["per_class"]["c"] == {
        **dict.fromkeys(PER_CLASS, 1.0),
        "partial_roc_auc": pytest.approx(0.2),
        "support": 1,
    }
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.6**2 + 0.5**2 + 0.1**2, 0.1**2 + 0.2**2 + 0.1**2]
    squares += [0.6**2 + 0.7**2 + 0.1**2, 0.1**2 + 0.3**2 + 0.4**2]
    assert result["brier_score"] == pytest.approx(np.mean(squares))
    # Confidences .5 .6 .6 .7 .8, right where no, no, yes, yes, yes; .6 is the upper end of a bin.
    gaps = [0.5, abs(1 - 1.2), 0.3, 0.2]
    assert result["expected_calibration_error"] == pytest.approx(sum(gaps) / 5)
    assert result["maximum_calibration_error"] == pytest.approx(0.5)
    # Agreement 3/5; by chance (2 * 2 + 2 * 2 + 1 * 1) / 25.
    assert result["cohen_kappa"] == pytest.approx((3 / 5 - 9 / 25) / (1 - 9 / 25))


def _check_agreement(result, label_N, predicted_N):
    """Kappa and Matthews, where they are defined."""
    if len(set(label_N)) == 1:
        assert result["matthews_correlation"] is None
    else:
        expected = reference.matthews_corrcoef(label_N, predicted_N)
        assert result["matthews_correlation"] == pytest.approx(expected, abs=1e-9)
    if len(set(label_N) | set(predicted_N)) == 1:
        assert result["cohen_kappa"] is None
    else:
        expected = reference.cohen_kappa_score(label_N, predicted_N)
        assert result["cohen_kappa"] == pytest.approx(expected, abs=1e-9)


def _of_curve(positive_N, score_N):
    """What is read off one ROC curve, by scikit-learn's; None where it has none."""
    if positive_N.all() or not positive_N.any():
        return dict.fromkeys(PER_CLASS[4:])
    false_T, true_T, _ = reference.roc_curve(positive_N, score_N, drop_intermediate=False)
    # As ISIC 2024's score: the area left of a false positive rate of 0.2 of the turned-round task.
    miss_T, reject_T, _ = reference.roc_curve(~positive_N, -score_N)
    inside_T = miss_T <= 0.2
    end = np.count_nonzero(inside_T)
    at = np.interp(0.2, miss_T[end - 1 : end + 1], reject_T[end - 1 : end + 1])
    area = reference.auc(np.append(miss_T[inside_T], 0.2), np.append(reject_T[inside_T], at))
    return {
        "roc_auc": reference.roc_auc_score(positive_N, score_N),
        "pr_auc": reference.average_precision_score(positive_N, score_N),
        "partial_roc_auc": area,
        "sensitivity_at_90_specificity": true_T[false_T <= 0.1 + 1e-12].max(),
        "specificity_at_90_sensitivity": 1 - false_T[true_T >= 0.9 - 1e-12].min(),
    }


@settings(deadline=None, max_examples=60)
@given(_tied_tables())
def test_agrees_with_scikit_learn_on_tables_with_ties(table):
    probability_NC, label_N = table
    num_classes = probability_NC.shape[1]
    result = metrics.compute(probability_NC, label_N, [str(i) for i in range(num_classes)])
    predicted_N = np.argmax(probability_NC, axis=1)
    present = np.unique(label_N)
    everything = range(num_classes)

    def close(found, expected):
        assert found == pytest.approx(expected, abs=1e-9, rel=0)

    close(result["accuracy"], reference.accuracy_score(label_N, predicted_N))
    close(result["log_loss"], reference.log_loss(label_N, probability_NC, labels=list(everything)))
    assert result["confusion_matrix"] == (
        reference.confusion_matrix(label_N, predicted_N, labels=list(everything)).tolist()
    )
    for average in ("macro", "weighted"):
        scores = reference.precision_recall_fscore_support(
            label_N, predicted_N, labels=present, average=average, zero_division=0
        )
        for name, expected in zip(("precision", "recall", "f1"), scores, strict=False):
            close(result[f"{average}_{name}"], expected)
    close(result["balanced_accuracy"], result["macro_recall"])
    _check_agreement(result, label_N, predicted_N)
    if num_classes > 2:
        # Reversed, because scikit-learn takes the last of equals and argmax the first.
        expected = reference.top_k_accuracy_score(
            num_classes - 1 - label_N, probability_NC[:, ::-1], k=2, labels=list(everything)
        )
        close(result["top_2_accuracy"], expected)
    else:
        assert result["top_2_accuracy"] is None
    areas = {"roc_auc": [], "pr_auc": [], "partial_roc_auc": []}
    for index in everything:
        found = result["per_class"][str(index)]
        positive_N, score_N = label_N == index, probability_NC[:, index]
        assert found["support"] == positive_N.sum()
        expected = _of_curve(positive_N, score_N)
        for name, value in expected.items():
            assert (found[name] is None) == (value is None)
            if value is not None:
                close(found[name], value)
        if expected["roc_auc"] is None:
            assert found["specificity"] is None
            continue
        negatives = reference.recall_score(~positive_N, predicted_N != index, zero_division=0)
        close(found["specificity"], negatives)
        for name, values in areas.items():
            values.append(expected[name])
    for name, values in areas.items():
        if values:
            close(result[f"macro_{name}"], np.mean(values))
        else:
            assert result[f"macro_{name}"] is None


@settings(deadline=None, max_examples=60)
@given(_tied_tables())
def test_top_2_is_never_below_the_accuracy(table):
    probability_NC, label_N = table
    result = metrics.compute(probability_NC, label_N, list("abcde")[: probability_NC.shape[1]])
    if result["top_2_accuracy"] is not None:
        assert result["top_2_accuracy"] >= result["accuracy"]


def test_macro_auc_is_scikit_learns_one_versus_rest():
    probability_NC, label_N = _table(0, 400, 7)
    result = metrics.compute(probability_NC, label_N, CLASSES)
    expected = reference.roc_auc_score(label_N, probability_NC, multi_class="ovr")
    assert result["macro_roc_auc"] == pytest.approx(expected, abs=1e-9)
    expected = reference.balanced_accuracy_score(label_N, probability_NC.argmax(1))
    assert result["balanced_accuracy"] == pytest.approx(expected, abs=1e-9)


def test_binary_agrees_with_scikit_learn():
    probability_NC, label_N = _table(1, 300, 2)
    result = metrics.compute(probability_NC, label_N, ("benign", "malignant"))
    expected = reference.roc_auc_score(label_N, probability_NC[:, 1])
    assert result["per_class"]["malignant"]["roc_auc"] == pytest.approx(expected, abs=1e-9)
    assert result["roc_auc"] == result["per_class"]["malignant"]["roc_auc"]
    expected = reference.average_precision_score(label_N, probability_NC[:, 1])
    assert result["per_class"]["malignant"]["pr_auc"] == pytest.approx(expected, abs=1e-9)
    assert result["pr_auc"] == result["per_class"]["malignant"]["pr_auc"]
    # The first class's is another number: which one is positive matters.
    assert result["pr_auc"] != pytest.approx(result["per_class"]["benign"]["pr_auc"], abs=1e-3)


def test_areas_of_the_positive_class_are_of_two_classes_only():
    more = metrics.compute(*_table(1, 30, 3), ("a", "b", "c"))
    assert more["pr_auc"] is None
    assert more["roc_auc"] is None
    only_benign = metrics.compute(np.full((3, 2), 0.5), np.zeros(3, np.int64), ("b", "m"))
    assert only_benign["pr_auc"] is None
    assert only_benign["roc_auc"] is None


def test_absent_class_is_none_and_left_out_of_the_means():
    probability_NC, label_N = _table(2, 60, 4)
    keep_N = label_N != 1
    result = metrics.compute(probability_NC[keep_N], label_N[keep_N], ("a", "b", "c", "d"))
    assert result["per_class"]["b"] == {**dict.fromkeys(PER_CLASS), "support": 0}
    for name in ("precision", "recall", "f1", "roc_auc", "pr_auc", "partial_roc_auc"):
        expected = np.mean([result["per_class"][c][name] for c in "acd"])
        assert result[f"macro_{name}"] == pytest.approx(expected)


def test_one_class_predicted_for_all_has_no_correlation():
    result = metrics.compute(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), ("a", "b"))
    assert result["matthews_correlation"] == 0.0
    assert result["cohen_kappa"] == 0.0


def test_areas_above_80_percent_sensitivity_by_hand():
    # Positives .9 .8 .6 .4 .2 and negatives .7 .5 .3 .1: sensitivity 0.8 to 1 passes one negative.
    score_N = np.array([0.9, 0.8, 0.6, 0.4, 0.2, 0.7, 0.5, 0.3, 0.1])
    label_N = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0])
    table = np.stack([1 - score_N, score_N], axis=1)
    result = metrics.compute(table, label_N, ("benign", "malignant"))
    assert result["partial_roc_auc"] == pytest.approx(0.2 * 1 / 4)
    assert result["sensitivity_at_90_specificity"] == pytest.approx(2 / 5)
    assert result["specificity_at_90_sensitivity"] == pytest.approx(1 / 4)
    assert result["partial_roc_auc"] == result["per_class"]["malignant"]["partial_roc_auc"]


def test_class_never_predicted_has_precision_0_and_counts():
    result = metrics.compute(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), ("a", "b"))
    assert result["per_class"]["b"]["precision"] == 0.0
    assert result["macro_precision"] == pytest.approx(0.25)


def test_no_examples_is_all_none():
    result = metrics.compute(np.zeros((0, 3)), np.zeros(0, np.int64), ("a", "b", "c"))
    assert result["num_examples"] == 0
    assert set(metrics.scalars(result).values()) == {None}
    assert "n/a" in metrics.summary_line(result)


def test_result_is_plain_json_and_float32_is_widened_once():
    probability_NC, label_N = _table(3, 50, 7)
    narrow_NC = probability_NC.astype(np.float32)
    result = metrics.compute(narrow_NC, label_N.astype(np.int32), CLASSES)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert metrics.compute(narrow_NC.astype(np.float64), label_N, CLASSES) == result


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5, 0.5], "row 1 .* not finite"),
        ([np.inf, 0.0, 0.0], "row 1 .* not finite"),
        ([2.0, 1.0, -0.5], "row 1 is no distribution.*logits"),
        ([1.2, -0.1, -0.1], "row 1 is no distribution"),
        ([0.5, 0.5, 0.01], "row 1 is no distribution"),
    ],
)
def test_rows_that_are_no_distribution_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        metrics.compute(np.array([[0.2, 0.3, 0.5], row]), np.array([0, 1]), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("label_N", "classes", "message"),
    [
        ([0, 2], ("a", "b"), "labels outside 0 to 1"),
        ([-1, 0], ("a", "b"), "labels outside"),
        ([0.0, 1.0], ("a", "b"), "expected integers"),
        ([0], ("a", "b"), "2 rows"),
        ([0, 1], ("a", "b", "c"), r"expected \(N, 3\)"),
        ([0, 1], ("a", "a"), "repeat"),
    ],
)
def test_wrong_arrays_are_refused(label_N, classes, message):
    with pytest.raises(ValueError, match=message):
        metrics.compute(np.full((2, 2), 0.5), np.array(label_N), classes)


def test_direction():
    assert metrics.direction("balanced_accuracy") == "max"
    assert metrics.direction("loss") == metrics.direction("log_loss") == "min"
    with pytest.raises(InputError, match=r"balanced_acc.*choose one of: accuracy, balanced_acc"):
        metrics.direction("balanced_acc")


@pytest.mark.parametrize(
    ("name", "num_classes", "message"),
    [
        ("pr_auc", 7, "pr_auc is of the positive one of two classes.* 7; choose macro_pr_auc"),
        ("roc_auc", 3, "choose macro_roc_auc"),
        ("specificity_at_90_sensitivity", 3, "choose macro_partial_roc_auc"),
        ("top_2_accuracy", 2, "top_2_accuracy says nothing of 2 classes"),
        ("auc", 2, "no metric is called 'auc'"),
    ],
)
def test_metrics_of_another_number_of_classes_are_refused(name, num_classes, message):
    with pytest.raises(InputError, match=message):
        metrics.check(name, num_classes)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_checked_metrics_are_those_that_are_numbers(num_classes):
    result = metrics.compute(*_table(6, 40, num_classes), CLASSES[:num_classes])
    for name, value in metrics.scalars(result).items():
        if value is None:
            with pytest.raises(InputError):
                metrics.check(name, num_classes)
        else:
            metrics.check(name, num_classes)


def test_every_metric_but_the_loss_has_a_direction_and_back():
    result = metrics.compute(*_table(4, 40, 7), CLASSES)
    structured = {"num_examples", "per_class", "confusion_matrix"}
    assert set(result) - structured == set(metrics.DIRECTIONS) - {"loss"}
    assert list(metrics.scalars(result | {"loss": 1.5})) == list(metrics.DIRECTIONS)


def test_summary_line():
    result = metrics.compute(np.eye(3), np.arange(3), ("a", "b", "c"))
    assert metrics.summary_line(result) == (
        "accuracy 1.0000, balanced accuracy 1.0000, macro F1 1.0000, macro AUC 1.0000, "
        "log loss 0.0000 (n=3)"
    )


def test_fast_enough_for_every_epoch():
    probability_NC, label_N = _table(5, 10_000, 8)
    classes = [str(i) for i in range(8)]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        metrics.compute(probability_NC, label_N, classes)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3
