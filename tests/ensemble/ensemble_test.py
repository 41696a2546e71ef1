"""Tests of combining predictions: against hand computations, and what must hold of any table."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from skinjax import ensemble, metrics
from skinjax.errors import InputError

CLASSES = ("a", "b", "c")


def tables(seed: int, members: int = 3, count: int = 40, classes: int = 3) -> Any:
    """Random predictions, with ties, and labels that they have something to do with."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, classes, count)
    label_N[:classes] = np.arange(classes)
    logits_KNC = rng.normal(size=(members, count, classes)).round(1)
    logits_KNC[:, np.arange(count), label_N] += rng.uniform(0, 2, (members, 1)).round(1)
    probability_KNC = np.exp(logits_KNC)
    return probability_KNC / probability_KNC.sum(2, keepdims=True), label_N


def test_the_mean_is_weighted() -> None:
    probability_KNC = np.array([[[0.2, 0.8]], [[0.6, 0.4]]], np.float32)
    np.testing.assert_allclose(ensemble.combine(probability_KNC), [[0.4, 0.6]], atol=1e-7)
    weighted = ensemble.combine(probability_KNC, "greedy", np.array([3, 1]))
    np.testing.assert_allclose(weighted, [[0.3, 0.7]], atol=1e-7)
    assert weighted.dtype == np.float64


def test_ranks_by_hand() -> None:
    # Of the second class: ranks 1 2 3 and 3 1 2, so 2, 1.5 and 2.5; sorted on average .2 .4 .8.
    second_KN = np.array([[0.1, 0.3, 0.9], [0.7, 0.3, 0.5]])
    combined = ensemble.combine(np.stack([1 - second_KN, second_KN], 2), "rank_mean")
    np.testing.assert_allclose(combined[:, 1], [0.4, 0.3, 0.6], atol=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(["mean", "rank_mean"]))
def test_members_that_agree_are_left_as_they_are(seed: int, method: str) -> None:
    probability_NC = tables(seed, members=1)[0][0]
    for weight_K in (None, np.array([3, 0, 1])):
        same = ensemble.combine(np.stack([probability_NC] * 3), method, weight_K)
        np.testing.assert_allclose(same, probability_NC, atol=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_of_two_classes_the_order_is_that_of_the_mean_ranks(seed: int) -> None:
    probability_KNC, _ = tables(seed, classes=2)
    combined = ensemble.combine(probability_KNC, "rank_mean")
    mean_rank_N = rankdata(probability_KNC[..., 1], axis=1).mean(0)
    np.testing.assert_allclose(combined.sum(1), 1)
    order = np.argsort(mean_rank_N, kind="stable")
    assert np.all(np.diff(combined[order, 1]) >= -1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(["balanced_accuracy", "log_loss", "macro_roc_auc"]))
def test_greedy_is_never_worse_than_the_best_member(seed: int, metric: str) -> None:
    probability_KNC, label_N = tables(seed)
    weight_K = ensemble.greedy(probability_KNC, label_N, metric, CLASSES, rounds=4)
    sign = 1 if metrics.direction(metric) == "max" else -1

    def score(probability_NC: Any) -> float:
        return sign * metrics.compute(probability_NC, label_N, CLASSES)[metric]

    combined = ensemble.combine(probability_KNC, "greedy", weight_K)
    assert score(combined) >= max(map(score, probability_KNC)) - 1e-12
    assert 1 <= weight_K.sum() <= 4


def test_members_that_are_sure_and_disagree_have_the_mean() -> None:
    certain_NC = np.eye(3)[[0] * 6 + [1, 2]]
    other_NC = np.eye(3)[[0] * 6 + [2, 1]]
    combined = ensemble.combine(np.stack([certain_NC, other_NC]), "rank_mean")
    np.testing.assert_allclose(combined[:6], certain_NC[:6])
    np.testing.assert_allclose(combined[6:], [[0, 0.5, 0.5]] * 2)


def test_greedy_takes_what_helps_and_leaves_what_does_not() -> None:
    label_N = np.array([0, 0, 1, 1])
    second_KN = np.array(
        [
            [0.1, 0.6, 0.9, 0.9],  # wrong on the second
            [0.3, 0.1, 0.8, 0.4],  # wrong on the last
            [0.9, 0.9, 0.1, 0.1],  # always wrong
        ]
    )
    probability_KNC = np.stack([1 - second_KN, second_KN], 2)
    weight_K = ensemble.greedy(probability_KNC, label_N, "accuracy", ("a", "b"))
    np.testing.assert_array_equal(weight_K, [1, 1, 0])  # with all right, more adds nothing
    # 50 rounds of log loss come near the best share of the first two, which a search gives.
    weight_K = ensemble.greedy(probability_KNC, label_N, "log_loss", ("a", "b"))
    loss_of = {}
    for share in np.linspace(0, 1, 1001):
        mixed = share * probability_KNC[0] + (1 - share) * probability_KNC[1]
        loss_of[share] = -np.log(mixed[np.arange(4), label_N]).mean()
    assert weight_K[2] == 0
    best = min(loss_of, key=lambda share: loss_of[share])
    assert 0.1 < best < 0.9
    assert weight_K[0] / weight_K.sum() == pytest.approx(best, abs=0.03)


def test_what_greedy_can_not_choose_by() -> None:
    probability_KNC, label_N = tables(0)
    with pytest.raises(InputError, match="--metric=loss is of one model's training"):
        ensemble.greedy(probability_KNC, label_N, "loss", CLASSES)
    with pytest.raises(InputError, match="no metric is called 'x'"):
        ensemble.greedy(probability_KNC, label_N, "x", CLASSES)
    with pytest.raises(InputError, match="macro_roc_auc is undefined for these 40"):
        ensemble.greedy(probability_KNC, np.zeros(40, int), "macro_roc_auc", CLASSES)


def test_wrong_weights_and_methods() -> None:
    probability_KNC, _ = tables(0)
    for weight_K in ([0, 0, 0], [1, 1], [1, -1, 1], [np.nan, 1, 1]):
        with pytest.raises(ValueError, match="of 3 members"):
            ensemble.combine(probability_KNC, "mean", np.array(weight_K))
    with pytest.raises(InputError, match="--method=median is none of mean, rank_mean, greedy"):
        ensemble.combine(probability_KNC, "median")
