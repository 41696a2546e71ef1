"""What is misclassified, by hand."""

import numpy as np

from skinjax import misclassified

CLASSES = ("a", "b", "c")
# Predicted: a, b, b, a (of a tie), c, c.
PROBABILITY = np.array(
    [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.6, 0.1], [0.4, 0.4, 0.2], [0, 0.2, 0.8], [0, 0, 1]]
)
LABEL = np.array([0, 0, 0, 0, 1, 2])


def test_pairs_are_counted_with_their_shares() -> None:
    assert misclassified.confusion_pairs(PROBABILITY, LABEL, CLASSES) == [
        misclassified.Pair("a", "b", 2, 0.5, 2 / 3),
        misclassified.Pair("b", "c", 1, 1.0, 1 / 3),
    ]
    assert misclassified.confusion_pairs(PROBABILITY[:1], LABEL[:1], CLASSES) == []


def test_extremes_are_in_order_and_ties_by_place() -> None:
    assert misclassified.confident_errors(PROBABILITY, LABEL, 2).tolist() == [1, 4]
    assert misclassified.confident_errors(PROBABILITY, LABEL, 9).tolist() == [1, 4, 2]
    assert misclassified.uncertain_hits(PROBABILITY, LABEL, 2).tolist() == [3, 0]
    assert misclassified.uncertain_hits(PROBABILITY, LABEL, 0).tolist() == []


def test_the_histogram_has_every_image_once() -> None:
    histogram = misclassified.confidence_histogram(PROBABILITY, LABEL, num_bins=5)
    np.testing.assert_allclose(histogram.edge_T, [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert histogram.hits.tolist() == [0, 0, 1, 0, 2]
    assert histogram.misses.tolist() == [0, 0, 0, 1, 2]
    over = misclassified.confidence_histogram(np.array([[1.0000001, 0]]), np.array([0]), num_bins=5)
    assert over.hits.tolist() == [0, 0, 0, 0, 1]
