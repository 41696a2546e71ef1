"""Counts over tables, against counts by hand."""

import numpy as np
import pytest

from skinjax.explore import counts


def columns(*rows):
    """Of rows of (split, label, lesion, sex); everything else is not known."""
    tables: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for number, (split, label, lesion_id, sex) in enumerate(rows):
        tables[split].append(
            {
                "image_id": f"i{number}", "lesion_id": lesion_id, "patient_id": "", "group": "",
                "sex": sex, "site": "", "source": "", "mode": "RGB", "label": label, "age": None,
                "height": 4, "width": 6,
            }
        )  # fmt: skip
    return counts.read_columns(tables.items(), ("a", "b"))


@pytest.fixture
def small():
    return columns(
        ("train", "a", "l1", "f"),
        ("train", "a", "l1", ""),
        ("train", "b", "l1", "f"),
        ("test", "b", "i3", "m"),
    )


def test_columns_are_in_the_order_of_the_tables(small):
    assert small.splits == ("train", "val", "test")
    np.testing.assert_array_equal(small.split_N, [0, 0, 0, 2])
    np.testing.assert_array_equal(small.label_N, [0, 0, 1, 1])
    np.testing.assert_array_equal(small.size_N2, [[4, 6]] * 4)
    assert np.isnan(small.age_N).all()
    assert small.text["lesion_id"] == ["l1", "l1", "l1", "i3"]


def test_images_and_lesions_by_split_and_class(small):
    np.testing.assert_array_equal(counts.by_split_and_class(small), [[2, 1], [0, 0], [0, 1]])
    lesion_SC = counts.by_split_and_class(small, small.text["lesion_id"])
    np.testing.assert_array_equal(lesion_SC, [[1, 1], [0, 0], [0, 1]])


def test_distinct_values_do_not_count_the_unknown(small):
    np.testing.assert_array_equal(
        counts.distinct_by_split(small, small.text["lesion_id"]), [1, 0, 1]
    )
    np.testing.assert_array_equal(counts.distinct_by_split(small, small.text["sex"]), [1, 0, 1])
    np.testing.assert_array_equal(
        counts.distinct_by_split(small, small.text["patient_id"]), [0, 0, 0]
    )


def test_values_by_class_ends_with_the_others_and_the_unknown(small):
    names, count_CV = counts.values_by_class(small, small.text["sex"], most=5)
    assert names == ["f", "m", counts.UNKNOWN]
    np.testing.assert_array_equal(count_CV, [[1, 0, 1], [1, 1, 0]])
    names, count_CV = counts.values_by_class(small, ["x", "y", "z", "x"], most=1)
    assert names == ["x", "2 others"]
    np.testing.assert_array_equal(count_CV, [[1, 1], [1, 1]])
    names, count_CV = counts.values_by_class(small, ["x", "y", "z", ""], most=1)
    assert names == ["x", "2 others", counts.UNKNOWN]
    np.testing.assert_array_equal(count_CV, [[1, 1, 0], [0, 1, 1]])


def test_a_lesion_under_the_image_id_is_not_known(small):
    names, count_CK = counts.missing_by_class(small)
    assert names == ["age", "sex", "body site", "lesion", "patient"]
    np.testing.assert_array_equal(count_CK, [[2, 1, 2, 0, 2], [2, 0, 2, 1, 2]])


def test_images_per_lesion_are_in_ranges_from_six_on():
    rows = [
        ("train", "a", f"l{n}", "")
        for n, size in enumerate((1, 1, 3, 7, 10, 12))
        for _ in range(size)
    ]
    assert counts.images_per_lesion(columns(*rows)) == [
        *(("1", 2), ("2", 0), ("3", 1), ("4", 0), ("5", 0), ("6 to 10", 2), ("11 to 20", 1))
    ]
    rows = [("train", "a", "l", "")] * 130
    assert counts.images_per_lesion(columns(*rows))[-1] == ("101 to 130", 1)


def test_sizes_come_with_the_most_frequent_first(small):
    small.size_N2[:] = [(4, 6), (2, 2), (2, 2), (1, 9)]
    assert counts.sizes(small) == [((2, 2), 2), ((1, 9), 1), ((4, 6), 1)]
