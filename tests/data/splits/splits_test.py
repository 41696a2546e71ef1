from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from skinjax.config import default_config
from skinjax.data import splits
from skinjax.data.records import Record
from skinjax.errors import InputError

CLASSES = ("bcc", "mel", "nv")


def make_records(num_records, split=lambda number: ""):
    """Two images a lesion, and classes in turns."""
    return [
        Record(
            image_id=f"i{number:04d}",
            path=Path(),
            label=number // 2 % 3,
            lesion_id=f"l{number // 2:04d}",
            age=None,
            sex="",
            site="",
            source="",
            split=split(number),
        )
        for number in range(num_records)
    ]


def make_data(**settings_):
    data = default_config().data
    data.update(settings_)
    return data


def split(records, **settings_):
    group_N = [record.lesion_id for record in records]
    return splits.from_config(records, group_N, make_data(**settings_), CLASSES)


def published(number):
    """Of 600 images, 400 for training, 100 for validation, 100 to test."""
    return "train" if number < 400 else "val" if number < 500 else "test"


def test_splits_by_fractions():
    records = make_records(600)
    split_N, left_out = split(records, split_seed=3)
    expected_N = splits.grouped_split(
        np.array([record.label for record in records]),
        [record.lesion_id for record in records],
        (0.7, 0.15, 0.15),
        3,
    )
    np.testing.assert_array_equal(split_N, expected_N)
    assert left_out == []


def test_keeps_the_published_split_unless_told_otherwise():
    records = make_records(600, published)
    split_N, left_out = split(records)
    assert list(split_N) == [record.split for record in records]
    assert left_out == []
    other_N, _ = split(records, published_split=False)
    np.testing.assert_array_equal(other_N, split(make_records(600))[0])


def test_cuts_val_out_of_the_published_train():
    records = make_records(600, lambda number: "train" if number < 480 else "test")
    split_N, _ = split(records, split=(0.6, 0.2, 0.2))
    assert set(split_N[480:]) == {"test"}
    assert np.sum(split_N == "test") == 120
    assert np.sum(split_N == "val") == 120  # a quarter of 480, class by class and lesion by lesion
    assert np.sum(split(records, split=(0.8, 0.0, 0.2))[0] == "val") == 0


def test_test_stays_empty_where_none_is_published_beside_val():
    split_N, _ = split(make_records(600, lambda number: "train" if number < 480 else "val"))
    assert (np.sum(split_N == "val"), np.sum(split_N == "test")) == (120, 0)


def test_one_published_split_is_none():
    split_N, _ = split(make_records(600, lambda number: "train"))
    np.testing.assert_array_equal(split_N, split(make_records(600))[0])


def check_folds(records, **settings_):
    """Val of each of 4 folds, which hold all but the test split once; returns the test split."""
    without_N, _ = split(records, **settings_)
    times_val_N = np.zeros(len(records), int)
    for fold in range(4):
        split_N, left_out = split(records, folds=4, fold=fold, **settings_)
        assert left_out == []
        np.testing.assert_array_equal(split_N == "test", without_N == "test")
        times_val_N += split_N == "val"
    np.testing.assert_array_equal(times_val_N, without_N != "test")
    return without_N == "test"


def test_folds_share_one_test_split_and_hold_every_other_image_once():
    test_N = check_folds(make_records(600))
    assert np.sum(test_N) == 90
    assert not check_folds(make_records(600), split=(0.8, 0.2, 0.0)).any()


def test_folds_leave_the_published_test_split_alone():
    test_N = check_folds(make_records(600, published))
    np.testing.assert_array_equal(np.flatnonzero(test_N), np.arange(500, 600))
    test_N = check_folds(make_records(600, lambda n: "train" if n < 500 else "test"))
    np.testing.assert_array_equal(np.flatnonzero(test_N), np.arange(500, 600))


@pytest.mark.parametrize(
    ("settings_", "match"),
    [
        ({"folds": 1}, "data.folds is 1: expected 2 or more, or 0"),
        ({"folds": -2}, "data.folds is -2: expected 2 or more, or 0"),
        (
            {"folds": 5, "fold": 5},
            "data.fold is 5, and data.folds is 5: expected a fold from 0 to 4",
        ),
        ({"folds": 5, "fold": -1}, "expected one fold, from 0 to 4"),
        ({"fold": 1}, "data.fold is 1, and data.folds is 0: expected a fold from 0 to 0"),
        ({"folds": 5, "split_file": "s.csv"}, "data.split_file is s.csv: expected one of the two"),
        ({"folds": 400, "fold": 0}, "more folds than groups"),
        ({"split": (0.5, 0.5, 0.5)}, "data.split is"),
    ],
)
def test_refuses_folds_that_cannot_be(settings_, match):
    with pytest.raises(InputError, match=match) as error:
        split(make_records(60), **settings_)
    assert "\n" not in str(error.value)


def test_a_file_says_the_split_of_each_image(tmp_path):
    records = make_records(60, published)
    path = tmp_path / "split.csv"
    rows = [f"{r.image_id},{('train', 'val', 'test')[n // 20]}" for n, r in enumerate(records)]
    path.write_text("image_id,split\n" + "\n".join(rows[:-2]))
    split_N, left_out = split(records, split_file=str(path))
    assert list(split_N) == ["train"] * 20 + ["val"] * 20 + ["test"] * 18 + ["", ""]
    assert [row.image_id for row in left_out] == ["i0058", "i0059"]


def test_a_file_that_parts_a_lesion_is_refused(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("image_id,split\ni0000,train\ni0001,test\ni0002,train\ni0004,train\n")
    with pytest.raises(
        InputError, match=r"l0000 in test and train \(e\.g\. image i0001 in test, image i0000 in"
    ):
        split(make_records(6), split_file=str(path))


def test_every_way_wants_every_class_in_train(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("image_id,split\ni0000,train\ni0002,train\ni0004,test\n")
    with pytest.raises(InputError, match="no image of class nv in the training split"):
        split(make_records(6), split_file=str(path))
    with pytest.raises(InputError, match="no image of class nv in the training split"):
        split(make_records(6, lambda number: "val" if number > 3 else "train"))
    with pytest.raises(InputError, match="in the training split"):
        split(make_records(6), folds=3, fold=0, split=(1.0, 0.0, 0.0))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(splits.SPLITS), min_size=90, max_size=90),
    st.integers(0, 5),
    st.sampled_from([0, 2, 4]),
    st.randoms(),
)
def test_order_of_the_records_does_not_matter_and_no_group_is_parted(names, seed, folds, random):
    # The 60 lesions of train are sure to leave every class in it.
    for records in (
        make_records(180),
        make_records(180, lambda n: "train" if n < 90 else names[n - 90]),
    ):
        settings_ = {"split_seed": seed, "folds": folds, "fold": max(folds - 1, 0)}
        split_N, left_out = split(records, **settings_)
        by_id = {r.image_id: s for r, s in zip(records, split_N, strict=True)}
        assert {row.image_id for row in left_out} == {i for i, s in by_id.items() if not s}
        splits.check_no_leak([record.lesion_id for record in records], split_N)
        shuffled = random.sample(records, len(records))
        shuffled_N, _ = split(shuffled, **settings_)
        assert [by_id[record.image_id] for record in shuffled] == list(shuffled_N)


def test_wanted_fractions_are_those_that_can_be():
    records = make_records(600)
    assert splits.wanted_fractions(records, make_data()) == (0.7, 0.15, 0.15)
    folds = splits.wanted_fractions(records, make_data(folds=5))
    np.testing.assert_allclose(folds, (0.68, 0.17, 0.15))
    assert splits.wanted_fractions(records, make_data(split_file="s.csv")) is None
    records = make_records(600, published)
    assert splits.wanted_fractions(records, make_data()) is None
    assert splits.wanted_fractions(records, make_data(published_split=False)) == (0.7, 0.15, 0.15)


def test_finds_a_leak():
    splits.check_no_leak(["a", "a", "b"], np.array(["train", "train", "test"]))
    with pytest.raises(InputError, match="HAM_2 in test and train"):
        splits.check_no_leak(["HAM_1", "HAM_2", "HAM_2"], np.array(["train", "train", "test"]))


def test_left_out_is_no_split():
    splits.check_no_leak(["a", "a"], np.array(["train", ""]))


def test_finds_a_class_without_a_training_image():
    split_N = np.array(["train", "test", "train"])
    splits.check_train_classes([0, 1, 1], split_N, ("mel", "nv"))
    with pytest.raises(InputError, match="no image of class nv in the training split"):
        splits.check_train_classes([0, 1, 0], split_N, ("mel", "nv"))


def test_counts_classes():
    np.testing.assert_array_equal(splits.class_counts(np.array([0, 2, 2]), 4), [1, 0, 2, 0])


def test_class_weights_are_scikit_learns_and_their_square_roots():
    label_N = np.repeat([0, 1, 2], [50, 30, 5])
    counts_C = splits.class_counts(label_N, 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=label_N)
    np.testing.assert_allclose(splits.class_weights(counts_C, 1.0), expected, rtol=1e-6)
    np.testing.assert_allclose(splits.class_weights(counts_C, 0.5), expected**0.5, rtol=1e-6)
    np.testing.assert_array_equal(splits.class_weights((3, 0), 0.0), [1, 1])
    assert splits.class_weights(counts_C, 1.0).dtype == np.float32
    with pytest.raises(InputError, match="class nv"):
        splits.class_weights((3, 0), 0.5, ("mel", "nv"))


@settings(max_examples=20)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_balanced_weights_give_every_class_the_same_total(counts):
    weights_C = splits.class_weights(counts, 1.0)
    np.testing.assert_allclose(weights_C * counts, sum(counts) / len(counts), rtol=1e-5)
