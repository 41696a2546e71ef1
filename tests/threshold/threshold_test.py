"""Thresholds: chosen for a target, with ties, and read back strictly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax import calibration, fitted, threshold
from skinjax.data import labels
from skinjax.errors import InputError
from skinjax.threshold import Threshold, operating_point

CLASSES = ("bcc", "mel", "nv")
CALIBRATION = calibration.Calibration("temperature", (0.5,) * 3, (0.0,) * 3)
MESSAGE_LIMIT = 700


def _point():
    called_N = np.array([True, True, False, False])
    positive_N = np.array([True, False, False, True])
    return operating_point.measure(
        called_N, positive_N, positive_N.astype(int), ["", "", "", ""], num_resamples=20
    )


def _threshold(**changes):
    values = {
        "positive": ("bcc", "mel"),
        "threshold": 0.3,
        "target": {"sensitivity": 0.9},
        "calibration": CALIBRATION.to_json(),
        "val": _point(),
        "test": _point(),
    }
    return Threshold(**(values | changes))


def test_the_highest_threshold_that_reaches_the_sensitivity():
    score_N = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    positive_N = np.array([1, 1, 0, 0, 1, 0, 1, 0, 1, 0], bool)
    chosen = {
        target: threshold.choose(score_N, positive_N, target_sensitivity=target)
        for target in (0.01, 0.2, 0.21, 0.4, 0.6, 0.61, 0.8, 1.0)
    }
    assert chosen == {
        **{0.01: 0.9, 0.2: 0.9, 0.21: 0.8, 0.4: 0.8, 0.6: 0.6},
        **{0.61: 0.4, 0.8: 0.4, 1.0: 0.2},
    }


def test_the_lowest_threshold_that_reaches_the_specificity():
    score_N = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    positive_N = np.array([1, 1, 0, 0, 1, 0, 1, 0, 1, 0], bool)
    chosen = {
        target: threshold.choose(score_N, positive_N, target_specificity=target)
        for target in (0.1, 0.2, 0.4, 0.41, 0.8, 1.0)
    }
    assert chosen == {0.1: 0.2, 0.2: 0.2, 0.4: 0.4, 0.41: 0.6, 0.8: 0.8, 1.0: 0.9}


scores = st.lists(
    st.tuples(st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.75, 1.0)), st.booleans()),
    min_size=2,
    max_size=40,
).filter(lambda pairs: len({positive for _, positive in pairs}) == 2)


@settings(max_examples=150, deadline=None)
@given(scores, st.integers(1, 20).map(lambda k: k / 20), st.booleans())
def test_no_other_threshold_is_better(pairs, target, by_sensitivity):
    score_N, positive_N = (np.array(column) for column in zip(*pairs, strict=True))
    reached = []
    for candidate in sorted(set(score_N.tolist())):
        called_N = score_N >= candidate
        sensitivity = called_N[positive_N].sum() / positive_N.sum()
        specificity = (~called_N[~positive_N]).sum() / (~positive_N).sum()
        if (sensitivity if by_sensitivity else specificity) >= target:
            reached.append(candidate)
    name = "target_sensitivity" if by_sensitivity else "target_specificity"
    if not reached:
        with pytest.raises(InputError, match="nothing to be called positive"):
            threshold.choose(score_N, positive_N, **{name: target})
        return
    expected = max(reached) if by_sensitivity else min(reached)
    assert threshold.choose(score_N, positive_N, **{name: target}) == expected


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "neither of them was given"),
        ({"target_sensitivity": 0.9, "target_specificity": 0.9}, "both of them was given"),
        ({"target_sensitivity": 0.0}, "--target_sensitivity=0.0 is not above 0"),
        ({"target_sensitivity": 90.0}, "--target_sensitivity=90.0 is not above 0 and up to 1"),
        ({"target_specificity": float("nan")}, "--target_specificity=nan is not above 0"),
    ],
)
def test_a_wrong_target_is_refused(targets, message):
    with pytest.raises(InputError, match=message):
        threshold.choose(np.array([0.1, 0.2]), np.array([True, False]), **targets)


@pytest.mark.parametrize(("positive", "kind"), [(False, "positive"), (True, "negative")])
def test_one_kind_of_images_alone_is_refused(positive, kind):
    with pytest.raises(InputError, match=f"none of the 3 validation images is {kind}"):
        threshold.choose(np.ones(3), np.full(3, positive), target_sensitivity=0.5)


@pytest.mark.parametrize(
    ("text", "classes", "expected"),
    [
        ("", labels.HAM10000_CLASSES, ("akiec", "bcc", "mel")),
        ("malignant", labels.ISIC2019_CLASSES, ("bcc", "mel", "scc")),
        ("", labels.BINARY_CLASSES, ("malignant",)),
        ("", ("mel", "nv"), ("nv",)),
        ("malignant", ("mel", "nv"), ("mel",)),
        ("malignant", labels.BINARY_CLASSES, ("malignant",)),
        ("malignant", ("benign", "malignant", "unsure"), ("malignant",)),
        ("benign", labels.BINARY_CLASSES, ("benign",)),
        ("mel, bcc", labels.HAM10000_CLASSES, ("bcc", "mel")),
        ("nevus", labels.ISIC9_CLASSES, ("nevus",)),
    ],
)
def test_what_is_positive(text, classes, expected):
    assert threshold.positive_classes(text, classes) == expected


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("melanoma", CLASSES, "'melanoma' is none of the model's classes, bcc, mel, nv"),
        ("mel,,nv", CLASSES, "'' is none of the model's classes"),
        ("bcc,mel,nv", CLASSES, "is every class"),
        ("malignant", ("a", "b", "c"), "are malignant is not known: name the positive"),
        ("", ("a", "b", "c"), "are malignant is not known: name the positive"),
    ],
)
def test_what_can_not_be_positive(text, classes, message):
    with pytest.raises(InputError, match=message):
        threshold.positive_classes(text, classes)


def test_words():
    assert threshold.in_words(["mel"]) == "mel"
    assert threshold.in_words(("akiec", "bcc", "mel")) == "akiec, bcc or mel"


def test_the_score_is_the_probability_of_all_positive_classes():
    chosen = _threshold(positive=("bcc", "nv"), threshold=0.5)
    calibrated_NC = np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]])
    np.testing.assert_allclose(chosen.score(calibrated_NC, CLASSES), [0.5, 0.2])
    assert chosen.decide(calibrated_NC, CLASSES).tolist() == [True, False]


def test_saved_beside_its_checkpoint_and_read_back(tmp_path):
    assert threshold.load(tmp_path, 3, CLASSES, CALIBRATION) is None
    for chosen in (_threshold(), _threshold(test=None, target={"specificity": 1.0})):
        threshold.save(tmp_path, 3, chosen, CLASSES)
        assert threshold.load(tmp_path, 3, CLASSES, CALIBRATION) == chosen


def test_a_threshold_is_for_one_calibration(tmp_path):
    path = threshold.save(tmp_path, 3, _threshold(), CLASSES)
    other = calibration.Calibration("temperature", (0.6,) * 3, (0.0,) * 3)
    for found in (None, other, calibration.identity(3)):
        with pytest.raises(InputError, match="was chosen for another calibration") as caught:
            threshold.load(tmp_path, 3, CLASSES, found)
        assert str(path) in str(caught.value)
    threshold.save(tmp_path, 3, _threshold(calibration=None), CLASSES)
    for found in (None, calibration.identity(3)):
        assert threshold.load(tmp_path, 3, CLASSES, found) is not None
    with pytest.raises(InputError, match="another calibration"):
        threshold.load(tmp_path, 3, CLASSES, CALIBRATION)


def _with(path, value):
    """A change of one place of the file, given by its keys."""

    def change(values):
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(["classes"], ["mel", "bcc", "nv"]), "the checkpoint has bcc, mel, nv"),
        (_with(["positive"], ["mel", "bcc"]), "expected some of the classes"),
        (_with(["positive"], ["mel", "mel"]), "expected some of the classes"),
        (_with(["positive"], [["mel"]]), "expected some of the classes"),
        (_with(["positive"], "mel"), "expected some of the classes"),
        (_with(["positive"], []), "none or all of the classes"),
        (_with(["positive"], list(CLASSES)), "none or all of the classes"),
        (_with(["threshold"], -0.1), "expected a number from 0 to 1"),
        (_with(["threshold"], 1.1), "expected a number from 0 to 1"),
        (_with(["threshold"], True), "expected a number from 0 to 1"),
        (_with(["threshold"], "0.3"), "expected a number from 0 to 1"),
        (_with(["threshold"], "x" * 10000), "expected a number from 0 to 1"),
        (_with(["target"], {}), "expected one number above 0"),
        (_with(["target"], {"sensitivity": 0}), "expected one number above 0"),
        (_with(["target"], {"sensitivity": "0.9"}), "expected one number above 0"),
        (_with(["target"], {"recall": 0.9}), "expected a sensitivity or specificity"),
        (_with(["target"], 0.9), "expected a sensitivity or specificity"),
        (_with(["calibration"], 7), "has method, scale and bias"),
        (_with(["calibration", "scale"], [1]), "expected 3 numbers"),
        (_with(["val"], None), "val is None, expected an operating point"),
        (_with(["val", "extra"], 1), "val is .*, expected an operating point"),
        (_with(["test", "num_positive"], -1), "test: num_positive is -1, expected a count"),
        (_with(["test", "true_positives"], 1.5), "true_positives is 1.5, expected a count"),
        (_with(["test", "sensitivity"], 1.5), "sensitivity has 1.5, expected from 0 to 1"),
        (_with(["test", "ppv"], "<b>"), "ppv has <b>, expected from 0 to 1"),
        (_with(["test", "intervals"], []), "intervals is"),
        (_with(["test", "intervals", "npv"], [0.5]), "the interval of npv is"),
        (_with(["test", "intervals", "npv"], [0.5, "1"]), "npv has 1, expected from 0 to 1"),
        (_with(["more"], 1), "a threshold has calibration, classes"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, change, message):
    path = threshold.save(tmp_path, 3, _threshold(), CLASSES)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=message) as caught:
        threshold.load(tmp_path, 3, CLASSES, CALIBRATION)
    assert str(fitted.path(tmp_path, 3, fitted.THRESHOLD)) in str(caught.value)
    assert len(str(caught.value)) < MESSAGE_LIMIT
    assert "\n" not in str(caught.value)
