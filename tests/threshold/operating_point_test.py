"""Operating points: against scikit-learn and resamples written out as tables."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_curve

from skinjax.metrics import bootstrap
from skinjax.threshold import operating_point


def _table(num_examples=300):
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 3, num_examples)
    score_N = np.round(rng.normal(0.3 * label_N, 0.4), 1)
    return score_N, label_N == 2, label_N


def test_the_curve_is_that_of_scikit_learn():
    score_N, positive_N, _ = _table()
    threshold_T, sensitivity_T, specificity_T = operating_point.curve(score_N, positive_N)
    false_rate, true_rate, at = roc_curve(positive_N, score_N, drop_intermediate=False)
    np.testing.assert_array_equal(threshold_T, at[:0:-1])
    np.testing.assert_allclose(sensitivity_T, true_rate[:0:-1], rtol=1e-12)
    np.testing.assert_allclose(1 - specificity_T, false_rate[:0:-1], rtol=1e-12, atol=1e-15)


def test_a_curve_without_positive_images_has_no_sensitivity():
    threshold_T, sensitivity_T, specificity_T = operating_point.curve(
        np.array([0.2, 0.1, 0.2]), np.zeros(3, bool)
    )
    assert threshold_T.tolist() == [0.1, 0.2]
    assert np.isnan(sensitivity_T).all()
    np.testing.assert_allclose(specificity_T, [0, 1 / 3])


def test_the_point_is_that_of_scikit_learn():
    score_N, positive_N, label_N = _table()
    called_N = score_N >= 0.5
    point = operating_point.measure(called_N, positive_N, label_N, [""] * 300, num_resamples=0)
    expected = {
        "num_examples": 300,
        "num_positive": int(positive_N.sum()),
        "sensitivity": recall_score(positive_N, called_N),
        "specificity": recall_score(~positive_N, ~called_N),
        "ppv": precision_score(positive_N, called_N),
        "npv": precision_score(~positive_N, ~called_N),
    }
    assert {name: point[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert point["true_positives"] + point["false_negatives"] == point["num_positive"]
    assert point["true_positives"] == np.sum(called_N & positive_N)
    assert point["false_positives"] == np.sum(called_N & ~positive_N)
    assert set(point["intervals"].values()) == {None}


def test_the_interval_is_over_resampled_lesions():
    score_N, positive_N, label_N = _table()
    called_N = score_N >= 0.5
    lesion_N = [f"lesion {index // 3}" for index in range(300)]
    point = operating_point.measure(
        called_N, positive_N, label_N, lesion_N, num_resamples=200, seed=5
    )
    drawn = []
    for weight_RN in bootstrap.weights(lesion_N, label_N, num_resamples=200, seed=5):
        for weight_N in weight_RN:
            table = np.repeat(np.stack([positive_N, called_N]), weight_N, axis=1)
            drawn.append((recall_score(*table), precision_score(*table)))
    for name, values in zip(("sensitivity", "ppv"), zip(*drawn, strict=True), strict=True):
        low, high = np.quantile(values, [0.025, 0.975])
        assert point["intervals"][name] == pytest.approx([low, high], rel=1e-12)
        assert low < point[name] < high


def test_what_nothing_is_divided_by_is_none():
    positive_N = np.array([True, False, False])
    point = operating_point.measure(
        np.zeros(3, bool), positive_N, positive_N.astype(int), ["", "", ""], num_resamples=50
    )
    assert (point["ppv"], point["intervals"]["ppv"]) == (None, None)
    assert (point["sensitivity"], point["specificity"]) == (0, 1)


def test_the_interval_of_none_wrong_is_that_of_its_lesions():
    z = 1.959963984540054
    # 11 positive lesions and 40 negative ones, of two images each; all but two images are right.
    positive_N = np.repeat([True, False], [22, 80])
    called_N = positive_N.copy()
    called_N[[30, 50]] = True
    lesion_N = [f"l{index // 2}" for index in range(102)]
    table = (positive_N, positive_N.astype(int), lesion_N)
    found = operating_point.measure(called_N, *table, num_resamples=200)["intervals"]
    assert found["sensitivity"] == pytest.approx([11 / (11 + z**2), 1])
    assert found["npv"] == pytest.approx([40 / (40 + z**2), 1])
    for name in ("specificity", "ppv"):
        assert found[name][0] < found[name][1]
    found = operating_point.measure(~positive_N, *table, num_resamples=50)["intervals"]
    assert found["sensitivity"] == pytest.approx([0, z**2 / (11 + z**2)])
    assert found["ppv"] == pytest.approx([0, z**2 / (40 + z**2)])


def test_one_lesion_that_is_half_right_has_no_interval():
    positive_N = np.array([True, True, False, False])
    called_N = np.array([True, False, False, False])
    point = operating_point.measure(
        called_N, positive_N, positive_N.astype(int), ["a", "a", "b", "c"], num_resamples=50
    )
    assert (point["sensitivity"], point["intervals"]["sensitivity"]) == (0.5, None)
