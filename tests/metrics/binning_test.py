"""Calibration bins against scikit-learn's calibration curve and a table written out."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from skinjax import metrics
from skinjax.metrics import binning


def _table(seed: int, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability_NC = rng.dirichlet((0.6, 0.6, 0.6), size=num_examples)
    return probability_NC, rng.integers(3, size=num_examples)


# With 15 bins and n - 1 a multiple of 3 or 5, a quantile would be an example, and rounding decide.
@pytest.mark.parametrize("num_examples", [15, 108, 402])
@pytest.mark.parametrize(("equal_mass", "strategy"), [(False, "uniform"), (True, "quantile")])
def test_bins_are_scikit_learns(num_examples, equal_mass, strategy):
    probability_NC, label_N = _table(num_examples, num_examples)
    bins = metrics.reliability(probability_NC, label_N, equal_mass=equal_mass)
    confidence_N = probability_NC.max(axis=1)
    right_N = probability_NC.argmax(axis=1) == label_N
    accuracy, confidence = calibration_curve(right_N, confidence_N, n_bins=15, strategy=strategy)
    filled = [one for one in bins if one["count"]]
    assert len(bins) == 15
    assert sum(one["count"] for one in bins) == num_examples
    np.testing.assert_allclose([one["accuracy"] for one in filled], accuracy, atol=1e-9)
    np.testing.assert_allclose([one["confidence"] for one in filled], confidence, atol=1e-9)
    for one in filled:
        inside_N = (confidence_N > one["low"]) & (confidence_N <= one["high"])
        inside_N |= (one is filled[0]) & (confidence_N == one["low"])
        assert one["count"] == inside_N.sum()
    name = "expected_calibration_error" + "_equal_mass" * equal_mass
    expected = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in filled)
    computed = metrics.compute(probability_NC, label_N, ("a", "b", "c"))
    assert computed[name] == pytest.approx(expected / num_examples, abs=1e-9)
    if not equal_mass:
        worst = max(abs(one["accuracy"] - one["confidence"]) for one in filled)
        assert computed["maximum_calibration_error"] == pytest.approx(worst, abs=1e-9)


def test_upper_edge_belongs_to_the_bin_and_empty_bins_say_so():
    bins = metrics.reliability(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([1, 0]), bins=5)
    assert bins[2] == {
        **{"confidence": 0.6, "accuracy": 0.0, "count": 1},
        **{"low": pytest.approx(0.4), "high": pytest.approx(0.6)},
    }
    assert bins[4]["count"] == 1
    assert bins[0] | {"low": 0, "high": 0} == {
        **{"confidence": None, "accuracy": None, "count": 0, "low": 0, "high": 0}
    }
    assert metrics.reliability(np.zeros((0, 2)), np.zeros(0, np.int64)) == []


def test_equal_confidences_share_a_bin_of_equal_mass():
    probability_NC = np.tile([0.9, 0.1], (40, 1))
    bins = metrics.reliability(probability_NC, np.zeros(40, np.int64), equal_mass=True)
    assert [one["count"] for one in bins if one["count"]] == [40]


def test_edges_of_weighted_values_are_numpys_quantiles():
    rng = np.random.default_rng(0)
    sorted_N = np.sort(rng.random(50).round(2))
    weight_RN = rng.integers(0, 4, size=(20, 50))
    edges_RK = binning.equal_mass_edges(sorted_N, weight_RN, 7)
    for weight_N, edges in zip(weight_RN, edges_RK, strict=True):
        expected = np.quantile(np.repeat(sorted_N, weight_N), np.arange(1, 7) / 7)
        np.testing.assert_allclose(edges, expected, atol=1e-12)
