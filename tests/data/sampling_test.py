"""Coverage, frequencies and determinism of the orders, whatever the counts and the balance."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax.data import sampling
from skinjax.errors import InputError

GOLDEN = [[4, 6, 7, 2], [0, 3, 5, 10], [7, 1, 10, 3], [1, 0, 9, 3]]
COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any)


def labels_of(counts, seed=0):
    """Labels with so many of each class, in no order."""
    label_N = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(label_N)


def expected_frequencies(counts, balance):
    weights = np.array([count ** (1 - balance) if count else 0 for count in counts])
    return weights / weights.sum()


def epochs(label_N, batch_size, num_epochs, balance, seed=0):
    """int64 (num_epochs, N // batch_size * batch_size)."""
    per_epoch = len(label_N) // batch_size
    batches = [
        sampling.balanced_indices(
            number, label_N=label_N, batch_size=batch_size, seed=seed, balance=balance
        )
        for number in range(num_epochs * per_epoch)
    ]
    return np.concatenate(batches).reshape(num_epochs, -1)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**40), st.integers(0, 5))
def test_an_epoch_has_no_record_twice_and_drops_less_than_a_batch(size, batch_size, seed, epoch):
    batch_size = min(batch_size, size)
    per_epoch = size // batch_size
    numbers = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    seen = np.concatenate(
        [
            sampling.shuffled_indices(i, num_records=size, batch_size=batch_size, seed=seed)
            for i in numbers
        ]
    )
    assert len(set(seen.tolist())) == len(seen) == per_epoch * batch_size
    assert seen.min() >= 0
    assert seen.max() < size


def test_the_shuffled_order_is_the_one_of_earlier_versions():
    def batch(number, seed):
        return sampling.shuffled_indices(number, num_records=11, batch_size=4, seed=seed).tolist()

    assert [batch(0, 0), batch(1, 0), batch(2, 0), batch(7, 3)] == GOLDEN


@settings(deadline=None, max_examples=60)
@given(COUNTS, st.integers(1, 16), st.floats(0, 1), st.integers(0, 2**40), st.integers(1, 6))
def test_a_class_gets_its_expected_draws_in_every_epoch(counts, batch_size, balance, seed, number):
    label_N = labels_of(counts)
    drawn = epochs(label_N, min(batch_size, len(label_N)), number, balance, seed)
    assert drawn.dtype == np.int64
    assert drawn.shape == (
        number,
        len(label_N) // min(batch_size, len(label_N)) * min(batch_size, len(label_N)),
    )
    expected_C = expected_frequencies(counts, balance) * drawn.shape[1]
    for epoch_E in drawn:
        count_C = np.bincount(label_N[epoch_E], minlength=len(counts))
        assert (np.abs(count_C - expected_C) < 1 + 1e-6).all()


@settings(deadline=None, max_examples=40)
@given(COUNTS, st.integers(1, 16), st.floats(0, 1), st.integers(1, 12))
def test_no_image_is_ahead_of_another_of_its_class_by_more_than_a_draw(
    counts, batch_size, balance, number
):
    label_N = labels_of(counts)
    drawn = epochs(label_N, min(batch_size, len(label_N)), number, balance)
    times_N = np.bincount(drawn.ravel(), minlength=len(label_N))
    for label in set(label_N.tolist()):
        of_class = times_N[label_N == label]
        assert of_class.max() - of_class.min() <= 1


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_frequencies_converge_over_the_epochs(balance):
    counts = [700, 3, 0, 41, 1, 19]
    label_N = labels_of(counts)
    drawn = epochs(label_N, 64, 400, balance)
    found_C = np.bincount(label_N[drawn.ravel()], minlength=6) / 400
    expected_C = expected_frequencies(counts, balance) * drawn.shape[1]
    # A hundredth of an image an epoch, where rounding one way would be off by up to half a one.
    np.testing.assert_allclose(found_C, expected_C, atol=0.01)


def test_a_class_of_one_image_and_many_draws_stays_exact():
    label_N = np.array([0] * 5000 + [1])
    drawn = epochs(label_N, 100, 3, 1.0)
    np.testing.assert_array_equal((drawn == 5000).sum(axis=1), 2500)
    times_N = np.bincount(drawn.ravel())[:5000]
    assert {*times_N.tolist()} == {1, 2}


def test_within_an_epoch_classes_are_mixed():
    label_N = labels_of([200, 50])
    drawn = epochs(label_N, 50, 8, 1.0)
    share = (label_N[drawn.reshape(-1, 50)] == 1).mean(axis=1)
    assert 0.2 < share.min() < share.max() < 0.8
    # As many of either class in every epoch, but not at the same places.
    assert len({tuple(label_N[epoch].tolist()) for epoch in drawn}) == 8
    assert len({tuple(epoch) for epoch in drawn.tolist()}) == 8


def test_the_order_depends_on_seed_and_batch_number_alone():
    label_N = labels_of([30, 5, 9])
    arguments = {"batch_size": 8, "balance": 0.7}
    backwards = {}
    for number in reversed(range(40)):
        batch = sampling.balanced_indices(number, label_N=label_N.copy(), seed=3, **arguments)
        backwards[number] = batch.tolist()
    forwards = epochs(label_N, 8, 8, 0.7, seed=3).reshape(40, 8)
    assert [backwards[number] for number in range(40)] == forwards.tolist()
    assert forwards.tolist() != epochs(label_N, 8, 8, 0.7, seed=4).reshape(40, 8).tolist()
    assert (
        forwards.tolist()
        == epochs(label_N.astype(np.int32), 8, 8, 0.7, seed=3).reshape(40, 8).tolist()
    )


def test_labels_of_another_array_are_not_taken_for_the_cached_ones():
    for counts in ([6, 2], [2, 6], [4, 4]):
        drawn = epochs(np.repeat([0, 1], counts), 8, 1, 0.0)[0]
        assert collections.Counter(np.repeat([0, 1], counts)[drawn]) == dict(enumerate(counts))


def test_no_balance_draws_every_image_once_an_epoch():
    label_N = labels_of([30, 5, 9])
    for epoch_E in epochs(label_N, 4, 5, 0.0):
        assert sorted(epoch_E.tolist()) == list(range(44))


@pytest.mark.parametrize("balance", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_balance_outside_its_range_is_refused(balance):
    with pytest.raises(InputError, match=r"balance is .*; it must be from 0 .* to 1"):
        sampling.balanced_indices(
            0, label_N=labels_of([3, 4]), batch_size=2, seed=0, balance=balance
        )


def test_a_negative_label_is_refused():
    with pytest.raises(InputError, match="a label is -1"):
        sampling.balanced_indices(
            0, label_N=np.array([0, -1, 2]), batch_size=2, seed=0, balance=0.5
        )


def test_a_late_epoch_costs_no_walk_through_the_earlier_ones():
    label_N = labels_of([700, 3, 41])
    number = 200_000 * (len(label_N) // 64)
    batch = sampling.balanced_indices(number, label_N=label_N, batch_size=64, seed=0, balance=1.0)
    assert len(batch) == 64


@pytest.mark.parametrize("size", [50, 1500])
def test_every_cycle_of_a_class_has_its_own_order(size):
    cycle_KN = sampling._cycles(size, 0, 60 * size, seed=0, label=1).reshape(60, size)
    assert len({tuple(cycle) for cycle in cycle_KN.tolist()}) == 60
    np.testing.assert_array_equal(np.sort(cycle_KN, axis=1), [range(size)] * 60)
    middle = sampling._cycles(size, 7 * size + 3, 20 * size, seed=0, label=1)
    np.testing.assert_array_equal(middle, cycle_KN.ravel()[7 * size + 3 :][: 20 * size])
    assert (middle != sampling._cycles(size, 7 * size + 3, 20 * size, seed=0, label=2)).any()


def test_totals_before_an_epoch_are_the_sum_of_its_predecessors():
    count_C = np.array([70, 0, 3, 11, 1])
    quotas = [sampling._quotas(count_C, 80, 0.6, epoch) for epoch in range(50)]
    sums = itertools.accumulate((quota for _, quota in quotas), initial=np.zeros(5, np.int64))
    for (before_C, quota_C), sum_C in zip(quotas, sums, strict=False):
        np.testing.assert_array_equal(before_C, sum_C)
        assert quota_C.sum() == 80
        assert quota_C.min() >= 0
