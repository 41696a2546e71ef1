"""Tests of two models on the same examples."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from skinjax.metrics import paired

# Albumin, total protein, K-G score, benefit from surgery, of the 43 patients with ovarian cancer
# that DeLong et al. 1988 compared these three by, as the example "Comparing Receiver Operating
# Characteristic Curves" of SAS/STAT's manual of PROC LOGISTIC prints them.
_OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def test_delong_gives_the_published_example():
    albumin_N, protein_N, score_N, benefit_N = np.array(_OVARIAN.split(), float).reshape(-1, 4).T
    benefit_N = benefit_N == 1
    found = paired.delong(albumin_N, 10 - score_N, benefit_N)
    assert [round(value, 4) for value in (found.auc_a, found.auc_b)] == [0.7366, 0.7258]
    assert round(found.difference, 4) == 0.0108
    assert round(found.standard_error, 4) == 0.0953
    assert round(found.z**2, 4) == 0.0127
    assert round(found.p, 4) == 0.9102
    found = paired.delong(protein_N, 10 - score_N, benefit_N)
    assert round(found.auc_a, 4) == 0.6478
    assert round(found.difference, 4) == -0.0780
    assert round(found.standard_error, 4) == 0.1046
    assert round(found.z**2, 4) == 0.5554
    assert round(found.p, 4) == 0.4561


def _by_pairs(score_A_N, score_B_N, positive_N):
    """DeLong's variance of the difference from all pairs, as the paper defines it."""
    difference_PN = np.zeros((positive_N.sum(), (~positive_N).sum()))
    for score_N, sign in ((score_A_N, 1), (score_B_N, -1)):
        gap_PN = score_N[positive_N][:, None] - score_N[~positive_N]
        difference_PN += sign * ((gap_PN > 0) + 0.5 * (gap_PN == 0))
    by_positive, by_negative = difference_PN.mean(axis=1), difference_PN.mean(axis=0)
    variance = by_positive.var(ddof=1) / len(by_positive)
    return difference_PN.mean(), variance + by_negative.var(ddof=1) / len(by_negative)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12), st.integers(2, 6))
def test_delong_is_that_of_all_pairs_with_ties(seed, num_positives, num_negatives, levels):
    rng = np.random.default_rng(seed)
    positive_N = rng.permutation(np.arange(num_positives + num_negatives) < num_positives)
    score_2N = rng.integers(levels, size=(2, len(positive_N))).astype(float)
    found = paired.delong(*score_2N, positive_N)
    difference, variance = _by_pairs(*score_2N, positive_N)
    assert found.difference == pytest.approx(difference, abs=1e-9)
    assert found.standard_error == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert found.auc_a == pytest.approx(roc_auc_score(positive_N, score_2N[0]), abs=1e-9)
    # Every example three times, as images of one lesion: nothing more is known.
    threefold = [np.repeat(values, 3) for values in (*score_2N, positive_N)]
    clustered = paired.delong(*threefold, np.repeat(np.arange(len(positive_N)), 3))
    assert clustered == pytest.approx(found, abs=1e-9)


def test_delong_of_lesions_with_both_labels_is_their_bootstraps():
    # Half of the groups hold a positive and a negative whose scores go together.
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(150), 2)
    positive_N = np.tile([True, False], 150)
    shared_N = rng.normal(size=150)[group_N]
    score_A_N = shared_N + 0.8 * positive_N + 0.5 * rng.normal(size=300)
    score_B_N = 0.3 * shared_N + 0.8 * positive_N + rng.normal(size=300)
    found = paired.delong(score_A_N, score_B_N, positive_N, group_N)
    drawn = rng.integers(150, size=(250, 150))
    places = (2 * drawn[:, :, None] + [0, 1]).reshape(250, 300)
    label_N = np.tile([True, False], 150)
    differences = [
        roc_auc_score(label_N, score_A_N[place]) - roc_auc_score(label_N, score_B_N[place])
        for place in places
    ]
    assert found.standard_error == pytest.approx(np.std(differences), rel=0.15)
    alone = paired.delong(score_A_N, score_B_N, positive_N)
    assert abs(alone.standard_error - found.standard_error) > 0.1 * found.standard_error


def test_delong_without_spread_or_without_a_class():
    positive_N = np.array([True, True, False, False])
    found = paired.delong(np.arange(4.0), np.arange(4.0), positive_N)
    assert (found.difference, found.z, found.p) == (0.0, None, None)
    assert paired.delong(np.arange(4.0), np.arange(4.0), np.array([True, False] * 2), [1, 2, 2, 3])
    assert paired.delong(np.arange(4.0), np.arange(4.0), np.arange(4) == 0) is None
    assert paired.delong(np.arange(4.0), np.arange(4.0), positive_N, ["x", "x", "y", "z"]) is None


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (8, 3), (3, 8), (5, 5), (0, 9), (60, 31)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    correct_A_N = np.array([1] * only_a + [0] * only_b + [1, 0])
    correct_B_N = np.array([0] * only_a + [1] * only_b + [1, 0])
    found = paired.mcnemar(correct_A_N, correct_B_N)
    assert found[:2] == (only_a, only_b)
    pairs = only_a + only_b
    expected = binomtest(only_a, pairs, 0.5).pvalue if pairs else 1.0
    assert found.p == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="not the same examples"):
        paired.mcnemar(correct_A_N, correct_B_N[1:])


def _hits(right_N, label_N):
    """Probabilities of three classes whose greatest is the label where `right_N`."""
    return np.eye(3)[np.where(right_N, label_N, (label_N + 1) % 3)]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 0), (0, 4), (6, 2), (30, 14)])
def test_swapping_models_of_single_images_is_the_exact_sign_test(only_a, only_b):
    right_A_N = np.array([1] * only_a + [0] * only_b + [1, 0] * 3, bool)
    right_B_N = np.array([0] * only_a + [1] * only_b + [1, 0] * 3, bool)
    label_N = np.zeros(len(right_A_N), np.int64)
    tables = _hits(right_A_N, label_N), _hits(right_B_N, label_N)
    found = paired.exchange(*tables, label_N, [""] * len(label_N))
    pairs = only_a + only_b
    expected = binomtest(only_a, pairs, 0.5).pvalue if pairs else 1.0
    assert found["accuracy"] == pytest.approx(expected, abs=0.005 if pairs > 14 else 1e-12)
    assert found["per_class.recall"].tolist() == [float(found["accuracy"]), 1, 1]
    # Two images of each lesion prove no more than one.
    twice = [np.repeat(values, 2, axis=0) for values in (*tables, label_N)]
    again = paired.exchange(*twice, np.arange(2 * len(label_N)) // 2)
    assert again["accuracy"] == found["accuracy"]


def test_swapping_models_weighs_the_classes_of_the_balanced_accuracy():
    # A has all four of class 1 where B has none, and B three more of the 60 of class 0.
    label_N = np.repeat([0, 1, 2], [60, 4, 10])
    right_A_N, right_B_N = np.ones(74, bool), np.ones(74, bool)
    right_A_N[:3] = right_B_N[60:64] = False
    tables = _hits(right_A_N, label_N), _hits(right_B_N, label_N)
    found = paired.exchange(*tables, label_N, [""] * 74)
    assert found["accuracy"] == 1.0
    # As far from 0, 1 less 0.05, are those of the 128 ways where class 1's four go the same way.
    assert found["balanced_accuracy"] == found["macro_recall"] == pytest.approx(16 / 128)
    assert found["per_class.recall"] == pytest.approx([0.25, 0.125, 1])


def test_few_lesions_that_one_model_alone_has_right_prove_little():
    label_N = np.repeat([0, 1, 2], 20)
    right_N = np.ones(60, bool)
    right_N[:3] = False
    tables = _hits(np.ones(60, bool), label_N), _hits(right_N, label_N)
    found = paired.bootstrap_difference(
        *tables, label_N, ("a", "b", "c"), [""] * 60, num_resamples=300
    )
    for name in ("accuracy", "weighted_recall", "balanced_accuracy", "macro_recall"):
        assert found[name]["p"] == 0.25
    assert found["macro_f1"]["p"] < 0.25
    assert found["maximum_calibration_error"] is None


def _two_models(better: float):
    rng = np.random.default_rng(0)
    label_N = np.arange(400) % 2
    noise_N = rng.normal(size=400)
    tables = []
    for shift in (1.0 + better, 1.0):
        score_N = 1 / (1 + np.exp(-(2 * shift * label_N - shift + noise_N)))
        tables.append(np.stack([1 - score_N, score_N], axis=1))
        noise_N = noise_N + 0.1 * rng.normal(size=400)
    return *tables, label_N


def test_bootstrap_of_a_difference():
    a_NC, b_NC, label_N = _two_models(better=0.5)
    only = ["accuracy", "roc_auc", "log_loss", "top_2_accuracy"]
    options = {"num_resamples": 400, "only": only}
    found = paired.bootstrap_difference(a_NC, b_NC, label_N, ("b", "m"), [""] * 400, **options)
    assert set(found) == set(only)
    assert found["top_2_accuracy"] is None
    assert found["roc_auc"]["difference"] > 0 > found["log_loss"]["difference"]
    for name in ("roc_auc", "log_loss"):
        low, high = found[name]["low"], found[name]["high"]
        assert low < found[name]["difference"] < high
        assert low * high > 0
        assert found[name]["p"] < 0.01
    # The other way about it is the same with the other sign.
    back = paired.bootstrap_difference(b_NC, a_NC, label_N, ("b", "m"), [""] * 400, **options)
    assert back["roc_auc"]["low"] == pytest.approx(-found["roc_auc"]["high"], abs=1e-3)
    assert back["roc_auc"]["p"] == pytest.approx(found["roc_auc"]["p"], rel=0.01)
    # Paired: much narrower than the difference of two independent intervals.
    delong = paired.delong(a_NC[:, 1], b_NC[:, 1], label_N == 1)
    width = found["roc_auc"]["high"] - found["roc_auc"]["low"]
    assert width == pytest.approx(2 * 1.96 * delong.standard_error, rel=0.2)


def test_no_difference_has_p_1_and_p_agrees_with_the_interval():
    a_NC, b_NC, label_N = _two_models(better=0.0)
    table = (label_N, ("b", "m"), [""] * 400)
    same = paired.bootstrap_difference(a_NC, a_NC, *table, num_resamples=50, only=["accuracy"])
    assert same["accuracy"] == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    for confidence, better in itertools.product((0.5, 0.9, 0.99), (0.0, 0.02, 0.05)):
        a_NC, b_NC, _ = _two_models(better)
        found = paired.bootstrap_difference(
            a_NC, b_NC, *table, num_resamples=200, only=["brier_score"], confidence=confidence
        )["brier_score"]
        outside = not found["low"] <= 0 <= found["high"]
        if abs(found["p"] - (1 - confidence)) > 0.02:
            assert outside == (found["p"] < 1 - confidence)
