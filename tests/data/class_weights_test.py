"""Weights of classes: the paper's numbers, hand computations, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from skinjax.config import default_config
from skinjax.data.class_weights import SCALES, class_weights, from_config
from skinjax.errors import InputError

# Of all 10,015 images of HAM10000 (HAM10000_metadata.csv).
BENIGN, MALIGNANT = 8061, 1954
counts = st.lists(st.integers(1, 9000), min_size=2, max_size=9)


def test_positive_weight_of_ham10000_is_the_published_one():
    weights_C = class_weights((BENIGN, MALIGNANT), 1.0, scale="majority")
    np.testing.assert_allclose(weights_C, [1.0, 4.125], atol=5e-4)
    assert weights_C.dtype == np.float32


def test_exponent_1_is_scikit_learns_balanced():
    label_N = np.repeat([0, 1, 2], [50, 30, 5])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=label_N)
    np.testing.assert_allclose(class_weights((50, 30, 5), 1.0), expected, rtol=1e-6)


def test_effective_numbers_by_hand():
    # beta 0.5: (1 - 0.5**n) / 0.5 is 1, 1.5 and 1.75 for 1, 2 and 3 examples.
    number_C = np.array([1.0, 1.5, 1.75])
    expected = number_C.sum() / (3 * number_C)
    np.testing.assert_allclose(class_weights((1, 2, 3), 1.0, beta=0.5), expected, rtol=1e-6)
    # The paper's: proportional to one over the effective number, and with sum C.
    by_sum = (1 / number_C) * 3 / (1 / number_C).sum()
    np.testing.assert_allclose(
        class_weights((1, 2, 3), 1.0, beta=0.5, scale="sum"), by_sum, rtol=1e-6
    )


@settings(max_examples=30)
@given(counts=counts)
def test_beta_goes_from_equal_weights_to_balanced_ones(counts):
    """Cui et al.: beta to 0 counts every class once, beta to 1 every example."""
    almost_none = class_weights(counts, 1.0, beta=1e-9)
    np.testing.assert_allclose(almost_none, np.ones(len(counts)), rtol=1e-4)
    almost_all = class_weights(counts, 1.0, beta=1 - 1e-10)
    np.testing.assert_allclose(almost_all, class_weights(counts, 1.0), rtol=1e-3)


@settings(max_examples=30)
@given(counts=counts, exponent=st.floats(0.1, 1.5), beta=st.sampled_from([0.0, 0.9, 0.9999]))
def test_scales_differ_by_a_factor(counts, exponent, beta):
    mean_C, majority_C, sum_C = (
        class_weights(counts, exponent, beta=beta, scale=scale).astype(np.float64)
        for scale in SCALES
    )
    assert majority_C[np.argmax(counts)] == pytest.approx(1.0)
    assert sum_C.sum() == pytest.approx(len(counts), rel=1e-5)
    for other_C in (majority_C, sum_C):
        np.testing.assert_allclose(other_C / other_C[0], mean_C / mean_C[0], rtol=1e-5)
    rarer = np.argsort(counts, kind="stable")
    assert np.all(np.diff(mean_C[rarer]) <= 1e-6 * mean_C.max())


@pytest.mark.parametrize("scale", SCALES)
def test_exponent_0_is_no_weights(scale):
    np.testing.assert_array_equal(class_weights((3, 0), 0.0, scale=scale), [1, 1])


def test_class_without_examples_is_named():
    with pytest.raises(InputError, match="no training example of class nv"):
        class_weights((3, 0), 0.5, ("mel", "nv"), beta=0.9)


def test_from_config_makes_weights_of_the_counts():
    loss = default_config().loss
    np.testing.assert_array_equal(from_config((8, 2), loss, ("b", "m")), [1, 1])
    loss.update(class_weight_exponent=0.5, class_weight_scale="majority")
    np.testing.assert_allclose(from_config((8, 2), loss, ("b", "m")), [1, 2], rtol=1e-6)
    loss.update(class_weight_exponent=1.0, class_weight_beta=0.5)
    expected = class_weights((8, 2), 1.0, beta=0.5, scale="majority")
    np.testing.assert_array_equal(from_config((8, 2), loss, ("b", "m")), expected)


def test_fixed_weights_take_the_place_of_those_of_the_counts():
    loss = default_config().loss
    loss.update(class_weights=(1.0, 4.5), class_weight_exponent=1.0)
    weights_C = from_config((8, 0), loss, ("b", "m"))  # the empty class has a weight
    np.testing.assert_array_equal(weights_C, [1.0, 4.5])
    assert weights_C.dtype == np.float32
    with pytest.raises(InputError, match=r"loss.class_weights has 2 numbers.*3 classes a, b, c"):
        from_config((8, 2, 1), loss, ("a", "b", "c"))
